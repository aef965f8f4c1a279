"""`AsyncRuntime`: the story of `Runtime`, as coroutines on the caller's loop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    AgentClosed,
    AgentNotFound,
    AsyncRuntime,
    GreenroomError,
    PathTaken,
    RunFailed,
    RunInterrupted,
    RunNotFound,
    Runtime,
    RuntimeClosing,
    SyncTurn,
    Turn,
    UnknownKind,
    agent,
)


@agent(name="c-async-works")
async def works(turn: Turn) -> Any:
    turn.state["inputs"] = [*turn.state.get("inputs", []), turn.input]
    if turn.input == "fail":
        raise ValueError("on purpose")
    return turn.input


def told(story: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., None]:
    """A test of a coroutine, with a loop and a deadline of its own."""

    async def with_deadline(*args: Any) -> None:
        async with asyncio.timeout(20):
            await story(*args)

    def test(tmp_path: Path) -> None:
        asyncio.run(with_deadline(tmp_path / "agents.db"))

    test.__name__, test.__doc__ = story.__name__, story.__doc__
    return test


class Gate:
    """A gate on the test's own loop."""

    def __init__(self) -> None:
        self.arrived, self.opened = asyncio.Semaphore(0), asyncio.Event()

    async def enter(self) -> None:
        self.arrived.release()
        await self.opened.wait()


@told
async def test_the_same_story_as_with_a_runtime(store: Path) -> None:
    async with AsyncRuntime(store, slots=2, residents=4) as runtime:
        ref = await runtime.spawn(works, "/story/a", config={"k": 1}, input="first", run_id="story-first")
        assert ref.path == "/story/a"
        assert await ref.run == "first"
        assert await ref.run == "first", "awaiting twice is allowed"
        run = await ref.followup("second")
        assert await run.result(timeout=60) == "second"
        outcome = await run.outcome()
        assert (outcome.status, outcome.result, outcome.attempt) == ("completed", "second", 1)
        assert await run.status == "completed"
        assert await run.done()
        assert await run.interrupt() is False
        with pytest.raises(RunFailed) as failed:
            await (await ref.followup("fail"))
        assert "on purpose" in str(failed.value)
        await ref.send("mail")
        info = await ref.info()
        assert (info.status, info.inbox, info.config, info.resident) == ("idle", 1, {"k": 1}, True)
        assert await ref.state() == {"inputs": ["first", "second"]}
        assert (await ref.explain()).waits_for is None
        await ref.pin()
        assert await ref.evict() is False
        await ref.unpin()
        assert await ref.evict() is True
        assert await (await (await runtime.agent("/story/a")).followup("third")) == "third"
        assert await (await runtime.run("story-first")).result() == "first"
        assert [info.path for info in await runtime.list()] == ["/story/a"]
        stats = await runtime.stats()
        assert (stats.agents, stats.slots, stats.residents, stats.reloads) == (1, 2, 4, 1)
        events = [event async for event in runtime.events(follow=False)]
        assert [event.type for event in events][:2] == ["agent.spawned", "run.accepted"]
        assert await ref.interrupt() is False
        await ref.close()
        assert await runtime.list() == []
        assert len(await runtime.list(status="closed")) == 1
        with pytest.raises(AgentClosed):
            await ref.followup(1)
        await ref.delete()
        with pytest.raises(AgentNotFound):
            await runtime.agent("/story/a")
        with pytest.raises(RunNotFound):
            await runtime.run("story-first")


@told
async def test_it_runs_on_the_callers_loop_and_thread(store: Path) -> None:
    @agent(name="c-async-where")
    async def where(turn: Turn) -> Any:
        homes.append((asyncio.get_running_loop(), threading.get_ident()))

    @agent(name="c-async-where-sync")
    def where_sync(turn: SyncTurn) -> Any:
        return threading.get_ident()

    homes: list[Any] = []
    async with AsyncRuntime(store) as runtime:
        await (await runtime.spawn(where, "/where/a", input=1)).run
        assert homes == [(asyncio.get_running_loop(), threading.get_ident())]
        assert await (await runtime.spawn(where_sync, "/where/b", input=1)).run != threading.get_ident()


@told
async def test_many_spawn_at_once(store: Path) -> None:
    async with AsyncRuntime(store, slots=4, residents=16) as runtime:
        spawns = (runtime.spawn(works, f"/many/{n:03}", input=n) for n in range(300))
        refs = await asyncio.gather(*spawns)
        assert await asyncio.gather(*(ref.run for ref in refs)) == list(range(300))
        assert len(await runtime.list()) == 300
        racing = (runtime.spawn(works, "/many/one") for _ in range(20))
        results = await asyncio.gather(*racing, return_exceptions=True)
        assert sum(isinstance(result, PathTaken) for result in results) == 19
        assert (await runtime.stats()).resident <= 16


@told
async def test_a_cancelled_caller_leaves_the_run_going(store: Path) -> None:
    gate = Gate()

    @agent(name="c-async-left")
    async def stands(turn: Turn) -> str:
        await gate.enter()
        return "went on"

    async with AsyncRuntime(store) as runtime:
        ref = await runtime.spawn(stands, "/left/a", input=1)
        awaiting = [
            asyncio.ensure_future(ref.run.result()),
            asyncio.ensure_future(runtime.wait([ref.run])),
            asyncio.create_task(awaits(ref.run)),
        ]
        await gate.arrived.acquire()
        for task in awaiting:
            task.cancel()
        ended = await asyncio.gather(*awaiting, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ref.run
        with pytest.raises(TimeoutError):
            await ref.run.result(timeout=0.01)
        assert await ref.run.status == "running"
        gate.opened.set()
        assert await ref.run == "went on"


async def awaits(run: Any) -> Any:
    return await run


@told
async def test_a_call_cancelled_at_once_has_happened_or_not_and_nothing_hangs(store: Path) -> None:
    async with AsyncRuntime(store) as runtime:
        ref = await runtime.spawn(works, "/cancel/a")
        for n in range(20):
            task = asyncio.create_task(ref.followup(n))
            for _ in range(n % 4):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await (await ref.followup("last")) == "last"
        inputs = (await ref.state())["inputs"]
        assert inputs == [*sorted(set(inputs) - {"last"}), "last"]


@told
async def test_events_are_read_with_async_for(store: Path) -> None:
    seen: list[str] = []

    async def read(stream: Any) -> None:
        async for event in stream:
            seen.append(f"{event.type} {event.path}")

    async with AsyncRuntime(store) as runtime:
        reading = asyncio.create_task(read(runtime.events("/events")))
        abandoned = asyncio.create_task(read(runtime.events("/nothing")))
        await asyncio.sleep(0)
        await (await runtime.spawn(works, "/events/a", input=1)).run
        await (await runtime.spawn(works, "/elsewhere/a", input=1)).run
        abandoned.cancel()
        await asyncio.gather(abandoned, return_exceptions=True)
        await (await runtime.agent("/events/a")).close()
    await reading
    assert seen[0] == "agent.spawned /events/a"
    assert seen[-1] == "agent.closed /events/a"
    assert {line.split()[1] for line in seen} == {"/events/a"}


@told
async def test_waiting_for_all_or_any(store: Path) -> None:
    gate = Gate()

    @agent(name="c-async-any")
    async def maybe_stands(turn: Turn) -> Any:
        if turn.input == "stand":
            await gate.enter()
        return turn.input

    async with AsyncRuntime(store) as runtime:
        slow = (await runtime.spawn(maybe_stands, "/any/slow", input="stand")).run
        fast = (await runtime.spawn(maybe_stands, "/any/fast", input="go")).run
        assert await runtime.wait([slow, fast], until="any") == [fast]
        assert await runtime.wait([slow, fast], timeout=0.01) == [fast]
        assert await runtime.wait([slow], timeout=0) == []
        assert await runtime.wait([]) == []
        assert await runtime.wait([], until="any") == []
        gate.opened.set()
        assert await runtime.wait([slow, fast, slow]) == [slow, fast, slow]
        with pytest.raises(ValueError, match="until"):
            await runtime.wait([slow], until="some")
        with pytest.raises(TypeError):
            await runtime.wait(["run"])
        with pytest.raises(TypeError):
            await slow.outcome(timeout="soon")


@told
async def test_closing_drains_then_interrupts_and_wakes_who_waits(store: Path) -> None:
    gate = Gate()

    @agent(name="c-async-closing")
    async def stands(turn: Turn) -> str:
        await gate.enter()
        return "in time"

    runtime = AsyncRuntime(store)
    await runtime.start()
    ref = await runtime.spawn(stands, "/closing/a", input=1)
    waiting = asyncio.create_task(awaits(ref.run))
    await gate.arrived.acquire()
    closing = asyncio.create_task(runtime.close(drain=10))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeClosing):
        await runtime.spawn(works, "/closing/b")
    gate.opened.set()
    await closing
    assert await waiting == "in time"

    gate = Gate()
    runtime = AsyncRuntime(store)
    await runtime.start()
    run = await (await runtime.agent("/closing/a")).followup(2)
    waiting = asyncio.create_task(awaits(run))
    await gate.arrived.acquire()
    await runtime.close(drain=0)
    with pytest.raises((RunInterrupted, RuntimeClosing)):
        await waiting
    await runtime.close()
    with pytest.raises(RuntimeClosing):
        await runtime.start()


@told
async def test_wrong_input_raises_at_the_call(store: Path) -> None:
    with pytest.raises(RuntimeClosing):
        await AsyncRuntime(store).spawn(works, "/early")
    for options in ({"slots": 0}, {"durability": "disk"}, {"drain": -1}, {"kinds": 3}):
        with pytest.raises((TypeError, ValueError)):
            AsyncRuntime(store, **options)
    with pytest.raises(GreenroomError):
        await AsyncRuntime(store.parent).start()
    async with AsyncRuntime(store) as runtime:
        ref = await runtime.spawn(works, "/wrong/a")
        for call in (
            lambda: runtime.spawn(works, "wrong"),
            lambda: runtime.spawn(3, "/wrong/b"),
            lambda: runtime.spawn(works, "/wrong/b", config=threading.Lock()),
            lambda: runtime.list(limit=0),
            lambda: runtime.run(3),
            lambda: ref.followup(threading.Lock()),
            lambda: ref.followup(1, durability="disk"),
            lambda: ref.interrupt(3),
        ):
            with pytest.raises((GreenroomError, TypeError, ValueError)):
                await call()
        with pytest.raises(UnknownKind):
            await runtime.spawn("c-async-nobody", "/wrong/b")
        with pytest.raises(ValueError, match="since"):
            runtime.events(since=-1)
        assert [info.path for info in await runtime.list()] == ["/wrong/a"]
        assert [e.type async for e in runtime.events(follow=False) if e.type.startswith("run")] == []


@told
async def test_it_is_called_on_its_own_loop_or_not_at_all(store: Path) -> None:
    async with AsyncRuntime(store) as runtime:
        ref = await runtime.spawn(works, "/loop/a")

        async def first_event() -> Any:
            return await anext(runtime.events())

        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: runtime.spawn(works, "/loop/b"),
            lambda: ref.followup(1),
            runtime.stats,
            first_event,
            runtime.close,
        ]
        for call in calls:
            with pytest.raises(GreenroomError, match="another loop"):
                await asyncio.to_thread(lambda call=call: asyncio.run(call()))  # type: ignore[misc]
        assert [info.path for info in await runtime.list()] == ["/loop/a"]
        loop = asyncio.get_running_loop()
        there = asyncio.run_coroutine_threadsafe(ref.followup(2), loop)
        assert await (await asyncio.wrap_future(there)) == 2


@told
async def test_a_tree_waits_for_itself_with_one_slot(store: Path) -> None:
    @agent(name="c-async-deep")
    async def deep(turn: Turn) -> int:
        if turn.input == 0:
            return 1
        return await (await (await turn.spawn("c-async-deep", "n")).followup(turn.input - 1)) + 1

    async with AsyncRuntime(store, slots=1, residents=2) as runtime:
        assert await (await runtime.spawn(deep, "/deep", input=9)).run == 10


@told
async def test_two_runtimes_share_one_loop(store: Path) -> None:
    async with (
        AsyncRuntime(store) as one,
        AsyncRuntime(store.with_name("two.db")) as two,
        AsyncRuntime() as three,
    ):
        for runtime in (one, two, three):
            assert await (await runtime.spawn(works, "/shared/a", input=1)).run == 1
        assert [len(await runtime.list()) for runtime in (one, two, three)] == [1, 1, 1]
        with pytest.raises(GreenroomError):
            await AsyncRuntime(store).start()


def test_what_one_kind_of_runtime_stored_the_other_goes_on_with(tmp_path: Path) -> None:
    store = tmp_path / "agents.db"
    with Runtime(store) as runtime:
        runtime.spawn(works, "/both/a", input=1, run_id="both-run").run.result(timeout=60)

    async def story() -> None:
        async with asyncio.timeout(20), AsyncRuntime(store) as runtime:
            assert await (await runtime.run("both-run")) == 1
            assert await (await (await runtime.agent("/both/a")).followup(2)) == 2

    asyncio.run(story())
    with Runtime(store) as runtime:
        assert runtime.agent("/both/a").state() == {"inputs": [1, 2]}


def test_a_runtimes_run_can_be_awaited_on_any_loop(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(works, "/await/a", input="awaited")

    async def story() -> Any:
        async with asyncio.timeout(10):
            return await ref.run

    assert asyncio.run(story()) == "awaited"


@told
async def test_nothing_is_left_on_the_callers_loop(store: Path) -> None:
    before = asyncio.all_tasks()
    threads = set(threading.enumerate())
    async with AsyncRuntime(store) as runtime:
        refs = await asyncio.gather(*(runtime.spawn(works, f"/left/{n}", input=n) for n in range(20)))
        await runtime.wait([ref.run for ref in refs])
    assert asyncio.all_tasks() == before
    for thread in set(threading.enumerate()) - threads:
        thread.join(60)
    assert set(threading.enumerate()) <= threads
