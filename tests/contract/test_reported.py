"""What users of the first version stumbled over."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    AsyncRuntime,
    InternalError,
    InvalidPath,
    PathTaken,
    RunInterrupted,
    Runtime,
    SyncTurn,
    Turn,
    UnknownKind,
    agent,
)
from greenroom.actors.face.replies import PendingReplies

DEADLINE = 600.0


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


HALF = "\ud83d"
"""Half of a character, as a model's JSON holds it that was cut off."""


class Unopenable:
    def open(self, info: Any) -> None:
        raise ValueError("the model said " + HALF)

    def run(self, turn: SyncTurn) -> None:
        pass


def test_whatever_an_error_says_it_is_told_and_stops_nobody(runtime: Any) -> None:
    @agent(name="c-rep-half")
    async def half(turn: Turn) -> None:
        raise ValueError("the model said " + HALF)

    @agent(name="c-rep-long")
    def long(turn: SyncTurn) -> None:
        raise ValueError("y" * 10_000_000)

    unopenable = agent(name="c-rep-unopenable")(Unopenable)
    open_ = runtime()
    for number, kind in enumerate((half, long, unopenable)):
        outcome = open_.spawn(kind, f"/rep/f{number}", input=1).run.outcome(DEADLINE)
        assert outcome.status == "failed"
        assert len(outcome.error) < 100_000
    assert r"said \ud83d" in str(open_.agent("/rep/f0").info().last_outcome.error)
    assert open_.spawn(plain, "/rep/a", input=1).run.result(DEADLINE) == 1


def test_odd_values_are_refused_where_they_are_given(runtime: Any) -> None:
    @agent(name="c-rep-emits")
    async def emits(turn: Turn) -> Any:
        told = []
        for odd in (lambda: turn.emit("p", "y" * 2_000_000), lambda: turn.wait("\ud800")):
            try:
                if (waiting := odd()) is not None:
                    await waiting
            except Exception as error:
                told.append(type(error).__name__)
        return told

    open_ = runtime()
    assert open_.spawn(emits, "/rep/a", input=1).run.result(DEADLINE) == ["CannotStore", "ValueError"]
    assert [info.path for info in open_.list(limit=2**70)] == ["/rep/a"]
    with pytest.raises(ValueError, match="version="):
        agent(version=2**63)(emits)
    with pytest.raises(ValueError, match="since="):
        open_.events(since=2**70)
    assert open_.spawn(plain, "/rep/b", input=1).run.result(DEADLINE) == 1


def test_a_migration_that_forgets_to_return_fails_by_name_and_keeps_the_state(runtime: Any) -> None:
    def changes_in_place(state: Any, from_version: int) -> None:
        state["n"] = from_version

    async def keeps(turn: Turn) -> Any:
        turn.state["n"] = turn.state.get("n", 0) + 1
        return turn.state["n"]

    open_ = runtime()
    ref = open_.spawn(agent(name="c-rep-migrates")(keeps), "/rep/a", input=1)
    assert ref.run.result(DEADLINE) == 1
    assert ref.evict()
    agent(name="c-rep-migrates", version=2, migrate=changes_in_place)(keeps)
    assert "returned None" in str(ref.followup(2).outcome(DEADLINE).error)
    agent(name="c-rep-migrates", version=3, migrate=lambda state, _: state)(keeps)
    assert ref.followup(3).result(DEADLINE) == 2


def test_a_failure_right_after_the_opening_is_not_forgotten(tmp_path: Path) -> None:
    failing = Runtime(tmp_path / "agents.db")
    engine = failing._engine
    known = engine.started

    def started() -> None:
        """The runtime fails before its caller knows that it is up."""
        engine.callers.give_up(InternalError("it failed at once"))
        known()

    engine.started = started  # type: ignore[method-assign]
    failing.start()
    with pytest.raises(InternalError, match="at once"):
        failing.list()
    failing.close()


def test_a_call_that_meets_a_failure_half_way_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime fails between the look whether it has and the asking."""
    expect = PendingReplies.expect

    def fails_first(callers: PendingReplies, callback: Any) -> int:
        callers.give_up(InternalError("it failed just now"))
        return expect(callers, callback)

    failing = Runtime(tmp_path / "agents.db").start()
    with monkeypatch.context() as patch:
        patch.setattr(PendingReplies, "expect", fails_first)
        with pytest.raises(InternalError, match="just now"):
            failing.list()
    failing.close()


FORKED = """
import os, sys
from greenroom import Runtime, RuntimeClosing, agent

@agent(name="c-rep-forked")
async def plain(turn):
    return turn.input

runtime = Runtime(sys.argv[1]).start()
ref = runtime.spawn(plain, "/rep/a", input=1)
assert ref.run.result(600) == 1
child = os.fork()
if child == 0:
    try:
        ref.followup(2)
    except RuntimeClosing as error:
        told = "forked" in str(error)
    runtime.close()
    os._exit(0 if told else 1)
assert os.waitpid(child, 0)[1] == 0
assert ref.followup(3).result(600) == 3
runtime.close()
"""


def test_a_forked_child_is_told_that_the_runtime_is_not_its_own(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKED, str(tmp_path / "agents.db")], check=True, timeout=600)
