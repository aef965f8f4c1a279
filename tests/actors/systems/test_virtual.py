"""The virtual loop: asyncio as it is known, in an order and at times that are chosen."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from greenroom.actors.systems.choices import Choices, Seeded
from greenroom.actors.systems.trace import Trace
from greenroom.actors.systems.virtual import NothingCanHappen, VirtualLoop


@contextmanager
def virtual(choices: Choices | None = None) -> Iterator[VirtualLoop]:
    loop = VirtualLoop(choices or Choices(), Trace())
    try:
        yield loop
    finally:
        loop.to_dead_letters()


def run(coroutine: Coroutine[Any, Any, Any], choices: Choices | None = None) -> tuple[Any, float]:
    """What a coroutine returns, and how long it took."""
    with virtual(choices) as loop:
        return loop.run_until_complete(coroutine), loop.time()


def test_time_jumps_to_the_next_timer() -> None:
    async def sleep() -> str:
        await asyncio.sleep(86_400)
        return "awake"

    assert run(sleep()) == ("awake", 86_400.0)


def test_a_timeout_comes_before_what_takes_longer() -> None:
    async def wait() -> str:
        try:
            await asyncio.wait_for(asyncio.sleep(3600), 60)
        except TimeoutError:
            return "too late"
        return "in time"

    for seed in range(20):
        assert run(wait(), Seeded(seed)) == ("too late", 60.0)


def order_of_three(choices: Choices) -> str:
    told: list[str] = []

    async def say(word: str) -> None:
        for _ in range(2):
            told.append(word)
            await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*map(say, "abc"))

    run(all_of_them(), choices)
    return "".join(told)


def test_the_natural_order_is_asyncios_own() -> None:
    assert order_of_three(Choices()) == "abcabc"


def test_tasks_go_on_in_every_order() -> None:
    orders = {order_of_three(Seeded(seed)) for seed in range(400)}
    # 6!/(2!2!2!) = 90 ways to interleave three tasks of two steps
    assert len(orders) > 60
    assert all(sorted(order) == sorted("aabbcc") for order in orders)


def test_plain_callbacks_keep_their_order() -> None:
    async def call() -> list[int]:
        told: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(20):
            loop.call_soon(told.append, number)
        await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        return told

    for seed in range(20):
        assert run(call(), Seeded(seed))[0] == list(range(20))


def test_timers_ring_in_the_order_of_their_times() -> None:
    async def call() -> list[int]:
        told: list[int] = []
        loop = asyncio.get_running_loop()
        for number in (3, 1, 2, 5, 4):
            loop.call_later(number / 1000, told.append, number)
        cancelled = loop.call_later(0.0025, told.append, 0)
        cancelled.cancel()
        await asyncio.sleep(1)
        return told

    for seed in range(20):
        assert run(call(), Seeded(seed))[0] == [1, 2, 3, 4, 5]


def test_a_timer_may_ring_before_what_is_ready_if_it_is_due_very_soon() -> None:
    def first(delay: float, seed: int) -> str:
        async def race() -> str:
            told: list[str] = []

            async def ready() -> None:
                for _ in range(3):
                    await asyncio.sleep(0)
                told.append("ready")

            asyncio.get_running_loop().call_later(delay, told.append, "timer")
            await asyncio.gather(ready(), asyncio.sleep(1))
            return told[0]

        return str(run(race(), Seeded(seed))[0])

    assert {first(0.005, seed) for seed in range(100)} == {"ready", "timer"}
    assert {first(0.5, seed) for seed in range(100)} == {"ready"}


def test_a_call_on_a_thread_is_one_step_at_a_chosen_time_on_this_very_thread() -> None:
    async def call() -> tuple[int, bool]:
        def work() -> tuple[int, bool]:
            return threading.get_ident(), asyncio._get_running_loop() is None

        return await asyncio.to_thread(work)

    outcomes = [run(call(), Seeded(seed)) for seed in range(50)]
    assert {result for result, _ in outcomes} == {(threading.get_ident(), True)}
    assert len({took for _, took in outcomes}) > 2


def test_what_a_call_on_a_thread_raises_is_raised_where_it_is_awaited() -> None:
    async def call() -> str:
        def work(error: BaseException) -> None:
            raise error

        told = []
        for error in (ValueError("no"), SystemExit(3)):
            try:
                await asyncio.to_thread(work, error)
            except (ValueError, RuntimeError) as raised:
                told.append(repr(raised))
        return " ".join(told)

    assert run(call())[0] == "ValueError('no') RuntimeError('SystemExit(3)')"


def test_what_can_never_happen_is_said_at_once() -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    begun = time.process_time()
    with virtual() as loop, pytest.raises(NothingCanHappen, match="nothing can happen"):
        loop.run_until_complete(wait())
    assert time.process_time() - begun < 30


def test_what_goes_round_in_circles_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.actors.systems.virtual.MOST_STEPS", 500)

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with virtual() as loop:
        loop.create_task(spin())
        with pytest.raises(NothingCanHappen, match="circles"):
            loop.drive(lambda: False, until=10.0)


def test_there_is_no_network_and_nobody_comes_in_from_a_real_thread() -> None:
    async def connect() -> None:
        await asyncio.open_connection("localhost", 1)

    with virtual() as loop:
        with pytest.raises(OSError, match="no network"):
            loop.run_until_complete(connect())
        raised: list[BaseException] = []

        def intrude() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except RuntimeError as error:
                raised.append(error)

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
    assert "real thread" in str(raised[0])


def test_sets_of_tasks_and_futures_have_the_same_order_everywhere() -> None:
    async def order() -> list[str]:
        tasks = {asyncio.create_task(asyncio.sleep(0), name=f"t{n}") for n in range(20)}
        padding = [object() for _ in range(7)]  # other places in memory
        await asyncio.wait(tasks)
        del padding
        return [task.get_name() for task in tasks]

    assert run(order())[0] == run(order())[0]


def test_a_thread_of_ours_and_the_loop_pass_the_baton() -> None:
    told: list[str] = []

    with virtual(Seeded(4)) as loop:

        async def answer(word: str) -> str:
            await asyncio.sleep(10)
            told.append(f"loop {word}")
            return word.upper()

        def work() -> None:
            for word in "ab":
                future = asyncio.run_coroutine_threadsafe(answer(word), loop)
                loop.wait_on_thread(future)
                told.append(f"thread {future.result()}")

        loop.start_thread(work, "worker", waits=True)
        loop.drive(lambda: len(told) == 4, until=100.0)
        assert loop.time() >= 20.0
    assert told == ["loop a", "thread A", "loop b", "thread B"]


def test_a_thread_that_waits_unwinds_when_its_loop_is_buried() -> None:
    told: list[str] = []

    with virtual() as loop:

        async def never() -> None:
            await loop.create_future()

        def work() -> None:
            future = asyncio.run_coroutine_threadsafe(never(), loop)
            try:
                loop.wait_on_thread(future)
            finally:
                told.append("unwound")

        loop.start_thread(work, "worker", waits=True)
        loop.drive(lambda: False, until=1.0)
        assert told == []
    assert told == ["unwound"]
