"""Calls on threads: how many at once, in which order, and what becomes of those given up."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from greenroom.actors.agent.threads import ThreadLimiter, thread_limiter


async def until(fact: Any) -> None:
    async with asyncio.timeout(10):
        while not fact():
            await asyncio.sleep(0)


class Doors:
    """Calls that say that they have begun, and wait to be let go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.open: dict[int, threading.Event] = {}

    def call(self, number: int) -> Any:
        door = self.open[number] = threading.Event()

        def wait() -> int:
            self.begun.append(number)
            assert door.wait(600)
            return number

        return wait


def test_no_more_than_its_size_work_at_once_and_the_others_in_order() -> None:
    async def story() -> None:
        doors, two = Doors(), ThreadLimiter(2)
        tasks = [asyncio.create_task(two.run(doors.call(n), str(n))) for n in range(5)]
        await until(lambda: len(doors.begun) == 2)
        assert sorted(doors.begun) == [0, 1]
        for number in (1, 0, 2, 3, 4):
            doors.open[number].set()
            assert await tasks[number] == number
            await until(lambda done=number: len(doors.begun) >= min(5, 2 + [1, 0, 2, 3, 4].index(done) + 1))
        assert doors.begun[2:] == [2, 3, 4]
        assert two._free == 2

    asyncio.run(story())


def test_a_place_is_passed_on_however_its_call_ends() -> None:
    async def story() -> None:
        doors, one = Doors(), ThreadLimiter(1)

        def fails() -> None:
            raise LookupError("no")

        with pytest.raises(LookupError):
            await one.run(fails, "fails")
        first, second, third, fourth = (
            asyncio.create_task(one.run(doors.call(n), str(n))) for n in range(4)
        )
        await until(lambda: doors.begun == [0])
        first.cancel()  # its thread goes on, and keeps the place
        second.cancel()  # it has not begun, and never will
        await asyncio.wait({first, second})
        assert first.cancelled()
        assert second.cancelled()
        assert doors.begun == [0]
        doors.open[0].set()
        await until(lambda: doors.begun == [0, 2])
        doors.open[2].set()
        assert await third == 2
        await until(lambda: doors.begun == [0, 2, 3])
        doors.open[3].set()
        assert await fourth == 3
        assert one._free == 1

    asyncio.run(story())


def test_what_a_call_raises_that_was_given_up_is_told_to_nobody() -> None:
    async def story() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        loop, go, one = asyncio.get_running_loop(), threading.Event(), ThreadLimiter(1)
        loop.set_exception_handler(lambda _, context: told.append(context))

        def fails() -> None:
            go.wait(600)
            raise LookupError("no")

        call = asyncio.create_task(one.run(fails, "fails"))
        await until(lambda: one._free == 0)
        call.cancel()
        await asyncio.wait({call})
        go.set()
        await until(lambda: one._free == 1)
        del call
        gc.collect()
        return told

    assert asyncio.run(story()) == []


def test_a_place_that_comes_as_its_call_is_given_up_goes_to_the_next() -> None:
    async def story() -> None:
        doors, one = Doors(), ThreadLimiter(1)
        tasks = [asyncio.create_task(one.run(doors.call(n), str(n))) for n in range(3)]
        await until(lambda: doors.begun == [0])
        one._pass_on()  # the place is the second's, which has not seen it yet
        tasks[1].cancel()
        await until(lambda: doors.begun == [0, 2])
        for number in (0, 2):
            doors.open[number].set()
            await tasks[number]

    asyncio.run(story())


def test_each_loop_has_a_crew_of_its_own() -> None:
    async def whose() -> tuple[ThreadLimiter, ThreadLimiter]:
        return thread_limiter(), thread_limiter()

    one, two = asyncio.run(whose()), asyncio.run(whose())
    assert one[0] is one[1]
    assert one[0] is not two[0]
