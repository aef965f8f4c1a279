"""Code that behaves badly harms no other agent."""

import asyncio
import contextlib
import gc
import logging
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from greenroom import GreenroomError, RunFailed, RuntimeClosing, SnapshotUnreadable, SyncTurn, Turn, agent
from greenroom.actors.models import UnreadableValue


@agent(name="c-bad-good")
async def good(turn: Turn) -> Any:
    turn.state["count"] = turn.state.get("count", 0) + 1
    return turn.state["count"]


class Poison:
    """Pickles, and raises when it is read."""

    def __init__(self, what: str = "an error") -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return (explode, (self.what,))


def explode(what: str) -> None:
    raise RAISES[what]() if what in RAISES else LookupError("poison")


POISON = {
    "an exit": "SystemExit: 3",
    "a base exception": "BaseException: base",
    "an exception without a text": "Mute: its text could not be made",
}
"""What is said of it."""


class Mute(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("mute")

    __repr__ = __str__


class Unpicklable(Exception):
    """Holds a lock."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())


def recursive() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


RAISES: dict[str, Any] = {
    "an exception": lambda: ValueError("on purpose"),
    "an exception without a text": lambda: Mute(),
    "an exception that does not pickle": lambda: Unpicklable(),
    "an exit": lambda: SystemExit(3),
    "a keyboard interrupt": lambda: KeyboardInterrupt(),
    "a generator's exit": lambda: GeneratorExit(),
    "a stop": lambda: StopIteration("x"),
    "a cancellation that nobody asked for": lambda: asyncio.CancelledError(),
    "a base exception": lambda: BaseException("base"),
    "an exception group": lambda: BaseExceptionGroup("group", [ValueError("in"), KeyboardInterrupt()]),
    "an error of greenroom's": lambda: RunFailed("x", "y", "z"),
    "a timeout": lambda: TimeoutError("too late"),
    "an assertion": lambda: AssertionError(),
    "an error with a huge text": lambda: ValueError("x" * 10_000_000),
}


def well(open_: Any, ref: Any, events_of: Any, *, cancels_itself: bool = False) -> None:
    """`ref` had one failed run and goes on, and so do others."""
    outcome = ref.run.outcome(timeout=60)
    # code that cancels itself may be said to have been interrupted, if it says by whom
    assert outcome.status in ("failed", "interrupted" if cancels_itself else "failed")
    assert outcome.error
    assert outcome.result is None
    terminal = events_of(open_, ref.path, "run.completed", "run.failed", "run.interrupted")
    assert [event.type for event in terminal] == [f"run.{outcome.status}"]
    assert ref.info().status == "idle"
    assert ref.followup("well").result(timeout=60) == "well"
    assert open_.spawn(good, "/other/b", input=1).run.result(timeout=60) == 1
    assert open_.agent("/other/a").followup(1).result(timeout=60) == 2
    assert open_.stats().running == 0


@pytest.mark.parametrize("what", RAISES)
@pytest.mark.parametrize("where", ["async", "thread"])
def test_what_raises_fails_its_run_alone(runtime: Any, what: str, where: str, events_of: Any) -> None:
    @agent(name=f"c-bad-raises {where}")
    async def raises(turn: Turn) -> Any:
        if turn.input in RAISES:
            turn.state["spoilt"] = True
            raise RAISES[turn.input]()
        return turn.input

    @agent(name=f"c-bad-sync-raises {where}")
    def sync_raises(turn: SyncTurn) -> Any:
        if turn.input in RAISES:
            turn.state["spoilt"] = True
            raise RAISES[turn.input]()
        return turn.input

    open_ = runtime(slots=1)
    open_.spawn(good, "/other/a", input=1).run.result(timeout=60)
    ref = open_.spawn(raises if where == "async" else sync_raises, "/bad/a", input=what)
    well(open_, ref, events_of, cancels_itself=what == "a cancellation that nobody asked for")
    assert ref.state() == {}
    becomes = "RuntimeError" if (what, where) == ("a stop", "async") else type(RAISES[what]()).__qualname__
    assert ref.run.outcome().error_type == becomes


def test_a_group_of_errors_is_told_by_what_is_in_it(runtime: Any) -> None:
    async def asked(key: str) -> None:
        raise KeyError(key)

    @agent(name="c-bad-group")
    async def asks(turn: Turn) -> None:
        async with asyncio.TaskGroup() as outer:
            for number in range(turn.input):
                outer.create_task(asked(f"number {number}"))

    ref = runtime().spawn(asks, "/bad/group", input=1)
    line = asked.__code__.co_firstlineno + 1
    assert f"KeyError: 'number 0'; at asked ({__file__}:{line})" in ref.run.outcome(timeout=60).error
    many = ref.followup(50).outcome(timeout=60).error
    assert all(f"'number {number}'" in many for number in range(3))
    assert "'number 3'" not in many
    assert many.endswith(" + 47 more")


def test_a_group_within_a_thousand_groups_is_told(runtime: Any) -> None:
    @agent(name="c-bad-deep-group")
    def nests(turn: SyncTurn) -> None:
        error = BaseExceptionGroup("inmost", [ValueError("deep"), KeyError("down")])
        for _ in range(1000):
            error = BaseExceptionGroup("around", [error])
        raise error

    run = runtime().spawn(nests, "/bad/deep", input=1).run
    assert "ValueError: deep + KeyError: 'down'" in run.outcome(timeout=60).error


@pytest.mark.parametrize("what", ["an exit", "a base exception", "an exception without a text"])
def test_a_result_that_raises_when_it_is_read_blinds_nobody(runtime: Any, what: str) -> None:
    """As one does whose module ends the process when it is imported."""

    @agent(name="c-bad-poison")
    async def returns(turn: Turn) -> Any:
        return Poison(what)

    open_ = runtime()
    run = open_.spawn(returns, "/bad/poison", input=1).run
    assert run.outcome(timeout=60).result == UnreadableValue(POISON[what])
    said = f"the stored result of run {run.run_id} of /bad/poison cannot be read: {POISON[what]}"
    with pytest.raises(SnapshotUnreadable, match=said):
        run.result()
    assert [info.path for info in open_.list()] == ["/bad/poison"]


RESULTS: dict[str, Any] = {
    "a lock": threading.Lock,
    "a generator": lambda: (n for n in "ab"),
    "a coroutine": lambda: asyncio.sleep(0),
    "a socket": lambda: socket.socketpair()[0],
    "a module's thread": threading.current_thread,
    "something far too deep": recursive,
    "a frame": sys._getframe,
}


@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited")
@pytest.mark.parametrize("what", RESULTS)
@pytest.mark.parametrize("where", ["result", "state"])
def test_what_cannot_be_stored_fails_its_run_alone(
    runtime: Any, what: str, where: str, events_of: Any
) -> None:
    @agent(name=f"c-bad-returns {where}")
    async def returns(turn: Turn) -> Any:
        if turn.input == "well":
            return "well"
        turn.state["spoilt"] = RESULTS[turn.input]() if where == "state" else True
        return RESULTS[turn.input]() if where == "result" else None

    open_ = runtime(slots=1)
    open_.spawn(good, "/other/a", input=1).run.result(timeout=60)
    ref = open_.spawn(returns, "/bad/a", input=what)
    well(open_, ref, events_of)
    assert ref.state() == {}


def test_a_result_that_cannot_be_read_back_harms_nobody_else(runtime: Any) -> None:
    @agent(name="c-bad-poison-result")
    async def poison(turn: Turn) -> Any:
        return Poison()

    open_ = runtime(slots=1)
    ref = open_.spawn(poison, "/bad/a", input=1)
    other = open_.spawn(good, "/other/a", input=1)
    assert other.run.result(timeout=60) == 1
    with pytest.raises(GreenroomError) as raised:
        ref.run.result(timeout=60)
    assert "poison" in str(raised.value)
    assert [info.path for info in open_.list()] == ["/bad/a", "/other/a"]
    assert other.info().status == "idle"
    assert ref.info().status == "idle"


def test_an_input_or_config_that_cannot_be_read_back_harms_nobody_else(runtime: Any) -> None:
    open_ = runtime(slots=1)
    other = open_.spawn(good, "/other/a", input=1)
    run = open_.spawn(good, "/bad/a", input=Poison(), run_id="spoilt").run
    outcome = run.outcome(timeout=60)
    assert outcome.status == "failed"
    assert "the stored input of run spoilt of /bad/a cannot be read: LookupError: poison" in outcome.error
    outcome = open_.spawn(good, "/bad/b", config=Poison(), input=1).run.outcome(timeout=60)
    assert outcome.status == "failed"
    assert "the stored config of /bad/b cannot be read: LookupError: poison" in outcome.error
    other.send(Poison())
    assert other.run.result(timeout=60) == 1
    assert "/other/a" in [info.path for info in open_.list()]
    assert open_.stats().running == 0
    assert open_.spawn(good, "/other/b", input=1).run.result(timeout=60) == 1


def test_a_message_that_cannot_be_read_does_not_brick_who_gets_it(runtime: Any) -> None:
    @agent(name="c-bad-poisoner")
    async def poisoner(turn: Turn) -> None:
        await turn.send("/post/victim", Poison())

    open_ = runtime(slots=1)
    victim = open_.spawn(good, "/post/victim", input=1)
    assert victim.run.result(timeout=60) == 1
    open_.spawn(poisoner, "/post/poisoner", input=1).run.outcome(timeout=60)
    victim.followup(2).outcome(timeout=60)
    assert victim.followup(3).outcome(timeout=60).status == "completed", "it can work again"


def test_a_result_of_a_class_that_is_gone_harms_nobody_else(runtime: Any, tmp_path: Path) -> None:
    """As after a module was renamed: the result of one agent, of old, must not blind the whole runtime."""
    (tmp_path / "c_bad_module.py").write_text("class Answer:\n    pass\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import c_bad_module  # type: ignore[import-not-found]

        @agent(name="c-bad-answers")
        class Answers:
            async def run(self, turn: Turn) -> Any:
                return c_bad_module.Answer() if turn.input == "module" else turn.input

            async def open(self, info: Any) -> None:
                self.path = info.path

        first = runtime()
        first.spawn(Answers, "/answers/a", input="module").run.result(timeout=60)
        first.spawn(good, "/other/a", input=1).run.result(timeout=60)
        first.close()
        (tmp_path / "c_bad_module.py").unlink()
        del sys.modules["c_bad_module"]
        second = runtime()
        assert [info.path for info in second.list()] == ["/answers/a", "/other/a"]
        assert second.agent("/answers/a").info().status == "idle"
        assert second.agent("/answers/a").followup("plain").result(timeout=60) == "plain"
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("c_bad_module", None)


def test_who_blocks_the_loop_is_named(runtime: Any, caplog: Any) -> None:
    @agent(name="c-bad-blocks")
    async def blocks(turn: Turn) -> str:
        time.sleep(1.6)  # what this test is about
        return "awake"

    open_ = runtime()
    with caplog.at_level(logging.WARNING, logger="greenroom"):
        ref = open_.spawn(blocks, "/blocks/a", input=1)
        other = open_.spawn(good, "/other/a", input=1)
        assert ref.run.result(timeout=60) == "awake"
        assert other.run.result(timeout=60) == 1
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "/blocks/a" in warnings[0]
    assert "c-bad-blocks" in warnings[0]


def test_a_thread_that_works_long_blocks_nobody_and_is_not_named(
    runtime: Any, door: Any, caplog: Any
) -> None:
    gate = door()

    @agent(name="c-bad-long-thread")
    def long(turn: SyncTurn) -> str:
        gate.enter_on_thread()
        return "done"

    open_ = runtime(slots=2)
    ref = open_.spawn(long, "/long/a", input=1)
    gate.arrived()
    for n in range(20):
        assert open_.spawn(good, f"/other/{n}", input=1).run.result(timeout=60) == 1
    gate.open()
    assert ref.run.result(timeout=60) == "done"
    assert "/long/a" not in caplog.text
    assert "c-bad-long-thread" not in caplog.text


def test_code_that_never_ends_can_be_interrupted(runtime: Any, door: Any) -> None:
    begun = door()

    @agent(name="c-bad-for-ever")
    async def for_ever(turn: Turn) -> None:
        begun._arrivals.put(turn.path)
        while True:
            await asyncio.sleep(0)

    open_ = runtime(slots=2)
    ref = open_.spawn(for_ever, "/ever/a", input=1)
    begun.arrived()
    assert open_.spawn(good, "/other/a", input=1).run.result(timeout=60) == 1
    assert ref.interrupt()
    assert ref.run.outcome(timeout=60).status == "interrupted"
    assert open_.stats().running == 0


def test_code_that_swallows_its_cancellation_still_ends_interrupted(
    runtime: Any, door: Any, events_of: Any
) -> None:
    gate = door()

    @agent(name="c-bad-swallows")
    async def swallows(turn: Turn) -> str:
        turn.state["count"] = turn.state.get("count", 0) + 1
        with contextlib.suppress(asyncio.CancelledError):
            await gate.enter()
        return "went on regardless"

    open_ = runtime(slots=1)
    ref = open_.spawn(swallows, "/swallows/a", input=1)
    gate.arrived()
    assert ref.interrupt()
    outcome = ref.run.outcome(timeout=60)
    assert outcome.status == "interrupted"
    assert outcome.result is None
    terminal = events_of(open_, "/swallows/a", "run.completed", "run.failed", "run.interrupted")
    assert len(terminal) == 1
    assert ref.state() == {}
    gate.open()
    assert ref.followup(2).result(timeout=60) == "went on regardless"


def test_code_that_clings_to_life_does_not_hold_up_the_runtimes_end(runtime: Any, door: Any) -> None:
    begun = door()

    @agent(name="c-bad-clings")
    async def clings(turn: Turn) -> None:
        begun._arrivals.put(turn.path)
        while turn.attempt == 1:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    open_ = runtime(drain=0.1)
    ref = open_.spawn(clings, "/clings/a", input=1)
    begun.arrived()
    open_.close()
    outcome = runtime().run(ref.run.run_id).outcome(timeout=60)
    assert (outcome.status, outcome.attempt) == ("completed", 2), "cut off, and begun again"


@pytest.mark.filterwarnings("error")
def test_a_thread_that_outlives_its_runtime_does_not_hold_it_up_and_is_told(
    runtime: Any, door: Any, caplog: Any
) -> None:
    gate = door()
    told: list[BaseException] = []

    @agent(name="c-bad-thread-outlives")
    def outlives(turn: SyncTurn) -> None:
        gate.enter_on_thread()
        for call in (lambda: turn.spawn(good, "child"), lambda: turn.paused().__enter__(), turn.checkpoint):
            try:
                call()
            except BaseException as error:
                told.append(error)

    open_ = runtime(drain=0.1)
    ref = open_.spawn(outlives, "/outlives/a", input=1)
    gate.arrived()
    thread = next(each for each in threading.enumerate() if each.name == "greenroom turn /outlives/a")
    open_.close()
    assert "turn /outlives/a (c-bad-thread-outlives)" in caplog.text, "which one was left"
    caplog.clear()
    gate.open()
    thread.join(60)
    gc.collect()
    assert "outlives" not in caplog.text, "nothing more is said of what was left"
    assert [type(error) for error in told] == [RuntimeClosing] * 3
    assert "closed before this turn ended" in str(told[0])
    outcome = runtime().run(ref.run.run_id).outcome(timeout=60)
    assert (outcome.status, outcome.attempt) == ("completed", 2), "it begins again with the next runtime"


def test_tasks_that_a_turn_leaves_behind_fail_for_themselves(runtime: Any, door: Any) -> None:
    left: list[Any] = []

    @agent(name="c-bad-leaves")
    async def leaves(turn: Turn) -> str:
        async def later() -> None:
            await asyncio.sleep(0)
            raise ValueError("nobody listens")

        left.append(asyncio.create_task(later()))
        return "left"

    open_ = runtime()
    assert open_.spawn(leaves, "/leaves/a", input=1).run.result(timeout=60) == "left"
    assert open_.spawn(good, "/other/a", input=1).run.result(timeout=60) == 1


def test_a_turn_used_after_its_end_is_refused_or_does_nothing(runtime: Any, events_of: Any) -> None:
    kept: list[Turn] = []

    @agent(name="c-bad-keeps-turn")
    async def keeps(turn: Turn) -> str:
        if kept:
            old = kept[0]
            for call in (
                lambda: old.checkpoint(),
                lambda: old.send("/kept/b", "late"),
                lambda: old.after(input="late"),
                lambda: old.wait(),
            ):
                with contextlib.suppress(GreenroomError, RuntimeError):
                    await call()
            old.state["late"] = True
            with contextlib.suppress(GreenroomError, RuntimeError):
                old.emit("late")
        kept.append(turn)
        turn.state["turns"] = turn.state.get("turns", 0) + 1
        return "kept"

    open_ = runtime(slots=1)
    b = open_.spawn(good, "/kept/b")
    ref = open_.spawn(keeps, "/kept/a", input=1)
    assert ref.run.result(timeout=60) == "kept"
    assert ref.followup(2).result(timeout=60) == "kept"
    assert ref.info().queued_runs == 0
    assert b.info().inbox == 0
    assert ref.followup(3).result(timeout=60) == "kept"
    assert ref.state()["turns"] == 3
    of_first = [e.type for e in events_of(open_, "/kept/a") if e.run_id == ref.run.run_id]
    assert of_first == ["run.accepted", "run.started", "run.completed"], "nothing follows its end"


def test_a_thousand_failures_leave_nothing_behind(runtime: Any, until: Any) -> None:
    @agent(name="c-bad-thousand")
    async def fails(turn: Turn) -> None:
        raise ValueError(turn.input)

    open_ = runtime(slots=2, residents=8)
    refs = [open_.spawn(fails, f"/thousand/{n}") for n in range(20)]
    runs = [ref.followup(n) for n in range(50) for ref in refs]
    ended = open_.wait(runs, timeout=60)
    assert len(ended) == 1000
    assert {run.status for run in ended} == {"failed"}
    stats = open_.stats()
    assert (stats.running, stats.queued) == (0, 0)
    assert stats.resident <= 8
