"""What users of the first version stumbled over."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    AsyncRuntime,
    InvalidPath,
    PathTaken,
    RunInterrupted,
    SyncTurn,
    Turn,
    UnknownKind,
    agent,
)

DEADLINE = 10.0


@agent(name="c-rep-plain")
async def plain(turn: Turn) -> Any:
    return turn.input


@agent(name="c-rep-waits")
async def waits(turn: Turn) -> None:
    await asyncio.Event().wait()


def test_awaiting_a_run_can_be_given_up(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(waits, "/rep/a", input=1)

    async def story() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ref.run, 0.05)

    before = threading.active_count()
    asyncio.run(story())  # which waits for all threads of its own
    assert threading.active_count() == before
    ref.interrupt()

    async def then() -> Any:
        return await open_.spawn(plain, "/rep/b", input=2).run

    assert asyncio.run(then()) == 2
    with pytest.raises(RunInterrupted):
        asyncio.run(_result(ref.run))


async def _result(run: Any) -> Any:
    return await run


def test_a_stream_that_is_closed_wakes_who_reads_it(tmp_path: Path) -> None:
    async def story() -> list[Any]:
        async with AsyncRuntime(tmp_path / "agents.db") as open_:
            stream = open_.events()
            begun = asyncio.Event()

            async def read() -> list[Any]:
                begun.set()
                return [event async for event in stream]

            reading = asyncio.create_task(read())
            await begun.wait()
            for _ in range(5):
                await asyncio.sleep(0)
            await stream.aclose()
            return await asyncio.wait_for(reading, DEADLINE)

    assert asyncio.run(story()) == []


def test_who_is_many_is_listed_by_status_in_pages(runtime: Any) -> None:
    open_ = runtime(slots=1, residents=2)
    blocker = open_.spawn(waits, "/rep/aa", input=0)
    runs = [open_.spawn(plain, f"/rep/b{number:03}", input=number).run for number in range(150)]
    waiting: list[str] = []
    after = None
    while page := open_.list("/rep", status="queued", limit=20, after=after):
        assert len(page) <= 20
        waiting += [info.path for info in page]
        after = page[-1].path
    starting = [info.path for info in open_.list("/rep", status="starting")]
    assert sorted(waiting + starting) == [run.path for run in runs]
    assert [info.path for info in open_.list("/rep", status="running", limit=1)] == ["/rep/aa"]
    blocker.interrupt()
    open_.wait(runs)
    assert len(open_.list("/rep", status="idle", limit=7)) == 7
    assert open_.list("/rep", status="failed", limit=1) == []


def test_a_failure_names_the_line_of_the_users_own_code(runtime: Any) -> None:
    @agent(name="c-rep-fails")
    async def fails(turn: Turn) -> None:
        raise ValueError("no luck")

    @agent(name="c-rep-fails-in-a-call")
    def fails_in_a_call(turn: SyncTurn) -> None:
        turn.spawn(plain, "taken")
        turn.spawn(plain, "taken")

    @agent(name="c-rep-fails-in-a-library")
    async def fails_in_a_library(turn: Turn) -> None:
        import json

        json.loads("{")

    open_ = runtime()
    for number, (kind, error) in enumerate(
        [(fails, "ValueError"), (fails_in_a_call, "PathTaken"), (fails_in_a_library, "JSONDecodeError")]
    ):
        told = str(open_.spawn(kind, f"/rep/f{number}", input=1).run.outcome(DEADLINE).error)
        assert error in told
        assert f"{kind.__name__} ({__file__}:" in told
        assert "behaviour.py" not in told
        assert "turn.py" not in told
        assert "concurrent" not in told


def test_explain_says_that_an_agent_is_pinned(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(plain, "/rep/a", input=1)
    ref.run.result(DEADLINE)
    ref.pin()
    assert not ref.evict()
    assert "pinned" in str(ref.explain())


def test_an_unknown_kind_is_told_with_the_path(runtime: Any) -> None:
    open_ = runtime()
    with pytest.raises(UnknownKind) as unknown:
        open_.spawn("c-rep-nobody", "/rep/a")
    assert (unknown.value.kind, unknown.value.path) == ("c-rep-nobody", "/rep/a")
    with pytest.raises(InvalidPath):
        open_.spawn("c-rep-nobody", "rep")


def test_a_wait_of_a_thread_that_was_interrupted_before_is_not_begun(runtime: Any) -> None:
    interrupted, told = threading.Event(), []

    @agent(name="c-rep-stubborn")
    def stubborn(turn: SyncTurn) -> None:
        child = turn.spawn(waits, "child")
        run = child.followup(1)
        interrupted.wait(DEADLINE)
        try:
            turn.wait(run)
        except RunInterrupted as error:
            told.append(error)

    open_ = runtime()
    stream = open_.events("/rep/a/child")
    ref = open_.spawn(stubborn, "/rep/a", input=1)
    while next(stream).type != "run.started":
        pass
    assert ref.interrupt()
    interrupted.set()
    assert ref.run.outcome(DEADLINE).status == "interrupted"
    assert len(told) == 1
    open_.agent("/rep/a/child").interrupt()


def test_errors_are_named_as_they_are_imported() -> None:
    assert f"{PathTaken.__module__}.{PathTaken.__name__}" == "greenroom.PathTaken"
    assert str(PathTaken("/rep/a")).startswith("/rep/a") or "/rep/a" in str(PathTaken("/rep/a"))
