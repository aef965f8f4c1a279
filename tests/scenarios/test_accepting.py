"""Scenarios 44 to 48: accepting work."""

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    AsyncRuntime,
    GreenroomError,
    RunFailed,
    RunInterrupted,
    Runtime,
    RuntimeClosing,
    Turn,
    agent,
)

from .conftest import Gate, Later, Witness, asked_until

MakeRuntime = Callable[..., Runtime]
MakeWitness = Callable[..., Witness]

TERMINAL = ("run.completed", "run.failed", "run.interrupted")


@agent(name="s-accepting-echo")
async def echo(turn: Turn) -> Any:
    turn.state["inputs"] = [*turn.state.get("inputs", []), turn.input]
    return turn.input


def ends_of(runtime: Runtime, run_id: str) -> list[str]:
    events = runtime.events(follow=False)
    return [event.type for event in events if event.run_id == run_id and event.type in TERMINAL]


# 44


@pytest.mark.parametrize("at_work", [True, False])
def test_44_an_interrupt_ends_what_was_accepted_before_it_and_nothing_later(
    runtime: MakeRuntime, at_work: bool
) -> None:
    """Given A, B accepted. When interrupted without a name, then C. Then A and B end, once; C executes."""
    gate = Gate()

    @agent(name=f"s44-stands-{at_work}")
    async def stands(turn: Turn) -> Any:
        await gate.reach()
        return turn.input

    one = runtime(slots=1)
    holder = one.spawn(stands, "/s44/holder", input="holder")
    gate.await_arrivals()
    ref = holder if at_work else one.spawn(echo, "/s44/ref")
    a, b = ref.followup("A"), ref.followup("B")
    assert {a.status, b.status} <= {"accepted", "queued"}
    assert ref.interrupt() is True
    c = ref.followup("C")
    for run in (a, b):
        with pytest.raises(RunInterrupted):
            run.result(timeout=60)
        assert run.outcome().started_at is None
    assert ref.interrupt(a.run_id) is False
    gate.open()
    assert c.result(timeout=60) == "C"
    assert [ends_of(one, run.run_id) for run in (a, b, c)] == [
        ["run.interrupted"],
        ["run.interrupted"],
        ["run.completed"],
    ]
    if at_work:
        assert holder.run.outcome(timeout=60).status == "interrupted"
    else:
        assert holder.run.result(timeout=60) == "holder"
        assert ref.state() == {"inputs": ["C"]}


def test_44_an_interrupt_that_comes_again_does_nothing_to_later_runs(runtime: MakeRuntime) -> None:
    gate = Gate()

    @agent(name="s44-again")
    async def stands(turn: Turn) -> Any:
        await gate.reach()
        return turn.input

    one = runtime(slots=1)
    ref = one.spawn(stands, "/s44/a", input="A")
    gate.await_arrivals()
    a = ref.run
    assert ref.interrupt(a.run_id) is True
    b = ref.followup("B")
    ref.interrupt(a.run_id)
    a.interrupt()
    gate.await_arrivals(2)
    assert ref.interrupt(a.run_id) is False
    gate.open()
    assert b.result(timeout=60) == "B"
    assert a.outcome().status == "interrupted"
    assert ends_of(one, a.run_id) == ["run.interrupted"]


# 45


def test_45_a_run_that_fails_before_its_turn_has_one_end_and_disturbs_nobody(
    runtime: MakeRuntime, witness: MakeWitness
) -> None:
    """Given a run that fails before its turn began. Then one terminal event, others not disturbed."""
    opening, gate = Gate("opening"), Gate("work")

    @agent(name="s45-never-opens")
    class NeverOpens:
        async def open(self, info: Any) -> None:
            await opening.reach()
            raise LookupError("no such model")

        async def run(self, turn: Turn) -> Any:
            raise AssertionError("its turn never begins")

    @agent(name="s45-works")
    async def works(turn: Turn) -> Any:
        await gate.reach()
        return turn.input

    one = runtime()
    watching = witness(one)
    other = one.spawn(works, "/s45/other", input="other")
    gate.await_arrivals()
    ref = one.spawn(NeverOpens, "/s45/ref", input=1)
    second = ref.followup(2)
    opening.await_arrivals()
    of_other, of_first, of_second = Later(other.run.result), Later(ref.run.result), Later(second.result)
    opening.let()
    for later in (of_first, of_second):
        with pytest.raises(RunFailed, match="no such model"):
            later.get()
    assert not of_other.done()
    for run in (ref.run, second):
        failed = [e for e in watching.seen("run.failed") if e.run_id == run.run_id]
        assert len(failed) <= 1
        assert ends_of(one, run.run_id) == ["run.failed"]
        outcome = run.outcome()
        assert (outcome.started_at, outcome.path) == (None, "/s45/ref")
        assert "no such model" in outcome.error
    assert [e for e in one.events("/s45/ref", follow=False) if e.type == "run.started"] == []
    assert ref.info().queued_runs == 0
    gate.open()
    assert of_other.get() == "other"


# 46


def test_46_a_callers_thread_that_ends_leaves_its_run_going(runtime: MakeRuntime) -> None:
    """Given a caller that goes away: its thread ends. Then the run goes on."""
    gate = Gate()

    @agent(name="s46-thread")
    async def stands(turn: Turn) -> Any:
        await gate.reach()
        return turn.input

    one = runtime()
    ref = one.spawn(stands, "/s46/a")
    given: list[str] = []

    def give_and_leave() -> None:
        given.append(ref.followup("kept").run_id)

    caller = threading.Thread(target=give_and_leave)
    caller.start()
    caller.join(60)
    assert not caller.is_alive()
    gate.await_arrivals()
    gate.open()
    assert one.run(given[0]).result(timeout=60) == "kept"


def test_46_a_callers_task_that_is_cancelled_leaves_its_run_going(tmp_path: Path) -> None:
    """Its task is cancelled while it waits. Then the run goes on."""

    async def story() -> None:
        arrived, opened = asyncio.Event(), asyncio.Event()

        @agent(name="s46-task")
        async def stands(turn: Turn) -> Any:
            arrived.set()
            await opened.wait()
            return turn.input

        async with asyncio.timeout(20), AsyncRuntime(tmp_path / "agents.db") as one:
            ref = await one.spawn(stands, "/s46/a")

            async def caller() -> None:
                await (await ref.followup("kept", run_id="s46-run"))

            task = asyncio.create_task(caller())
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            run = await one.run("s46-run")
            assert await run.status == "running"
            opened.set()
            assert await run == "kept"

    asyncio.run(story())


def test_46_a_caller_that_stops_waiting_leaves_its_run_going(runtime: MakeRuntime) -> None:
    """It loses patience: its wait ends, its event stream too. Then the run goes on."""
    gate = Gate()

    @agent(name="s46-patience")
    async def stands(turn: Turn) -> Any:
        turn.emit("begun")
        await gate.reach()
        return turn.input

    one = runtime()
    stream = one.events("/s46")
    ref = one.spawn(stands, "/s46/a", input="kept")
    gate.await_arrivals()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            ref.run.result(timeout=0)
        assert one.wait([ref.run], timeout=0) == []
    assert next(stream).type == "agent.spawned"
    stream.close()
    gate.open()
    assert one.run(ref.run.run_id).result(timeout=60) == "kept"


def test_46_a_callers_process_that_is_killed_leaves_its_run_to_the_next(
    runtime: MakeRuntime, tmp_path: Path
) -> None:
    """Its process is killed as soon as it has its answer. Then the run goes on in the next."""
    code = """
        import os, signal, sys
        from greenroom import Runtime, agent
        @agent(name="s-accepting-echo")
        async def echo(turn):
            turn.state["inputs"] = [*turn.state.get("inputs", []), turn.input]
            return turn.input
        runtime = Runtime(sys.argv[1]).start()
        ref = runtime.spawn(echo, "/s46/a")
        ref.followup("kept", run_id="s46-run")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    store = str(tmp_path / "agents.db")
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code), store], timeout=600, check=False)
    assert killed.returncode == -9
    one = runtime()
    assert one.run("s46-run").result(timeout=60) == "kept"
    assert one.agent("/s46/a").state() == {"inputs": ["kept"]}
    assert ends_of(one, "s46-run") == ["run.completed"]


# 47


def test_47_a_runtime_that_is_closing_takes_no_work_and_records_nothing_of_it(runtime: MakeRuntime) -> None:
    """Given a runtime that is closing. When work comes. Then `RuntimeClosing`, and nothing is recorded."""
    gate = Gate()

    @agent(name="s47-stands")
    async def stands(turn: Turn) -> Any:
        await gate.reach()
        return turn.input

    one = runtime(drain=20.0)
    ref = one.spawn(stands, "/s47/a", input="in time")
    queued = ref.followup("queued", run_id="s47-queued")
    gate.await_arrivals()
    closing = Later(one.close)
    asked = [
        lambda: one.spawn(echo, "/s47/b"),
        lambda: one.spawn(echo, "/s47/c", input=1),
        lambda: ref.followup("late", run_id="s47-late"),
        lambda: ref.send("late"),
        lambda: ref.close(),
    ]
    asked_until(lambda: refused(ref.evict), lambda is_refused: is_refused)
    for ask in asked:
        with pytest.raises(RuntimeClosing):
            ask()
    assert not closing.done()
    gate.open()
    closing.get()
    for ask in asked:
        with pytest.raises(RuntimeClosing):
            ask()

    again = runtime()
    assert [info.path for info in again.list()] == ["/s47/a"]
    with pytest.raises(GreenroomError):
        again.run("s47-late")
    assert again.run(ref.run.run_id).result(timeout=60) == "in time"
    assert again.run(queued.run_id).result(timeout=60) == "queued", "what was accepted before is executed"
    assert again.agent("/s47/a").info().inbox == 0


def refused(call: Callable[[], Any]) -> bool:
    try:
        call()
    except RuntimeClosing:
        return True
    return False


def test_47_work_of_turns_under_way_is_refused_or_kept_and_never_half(runtime: MakeRuntime) -> None:
    """Turns that drain start work: it is refused, or accepted and executed by the next runtime."""
    gate = Gate()

    @agent(name="s47-starts-work")
    async def starts_work(turn: Turn) -> Any:
        if turn.input != "begin":
            return turn.input
        await gate.reach()
        try:
            return (await turn.followup("/s47/child", "from the last turn")).run_id
        except RuntimeClosing:
            return "refused"

    one = runtime(drain=20.0)
    one.spawn(starts_work, "/s47/child")
    ref = one.spawn(starts_work, "/s47/a", input="begin")
    gate.await_arrivals()
    closing = Later(one.close)
    asked_until(lambda: refused(ref.evict), lambda is_refused: is_refused)
    gate.open()
    closing.get()
    again = runtime()
    said = again.run(ref.run.run_id).result(timeout=60)
    if said != "refused":
        assert again.run(said).result(timeout=60) == "from the last turn"


def test_47_callers_race_with_the_end_and_each_has_an_answer(runtime: MakeRuntime) -> None:
    """Everyone who was answered is found in the store, everyone else was refused."""
    one = runtime()
    ref = one.spawn(echo, "/s47/a")
    ready, kept, refusals = threading.Barrier(5), [], []

    def caller(name: int) -> None:
        ready.wait(600)
        for number in range(100_000):
            run_id = f"s47-{name}-{number}"
            try:
                ref.followup(run_id, run_id=run_id)
            except RuntimeClosing:
                refusals.append(run_id)
                return
            kept.append(run_id)

    callers = [threading.Thread(target=caller, args=(name,), daemon=True) for name in range(4)]
    for one_caller in callers:
        one_caller.start()
    ready.wait(600)
    asked_until(lambda: len(kept), lambda count: count > 50)
    one.close(drain=0.5)
    for one_caller in callers:
        one_caller.join(60)
        assert not one_caller.is_alive(), "no caller is left without an answer"
    again = runtime()
    statuses = {again.run(run_id).outcome(timeout=60).status for run_id in kept}
    assert statuses <= {"completed", "interrupted"}
    assert len(refusals) == 4
    for run_id in refusals:
        with pytest.raises(GreenroomError):
            again.run(run_id)


# 48


@pytest.mark.parametrize(
    "ask",
    [
        lambda one, ref: one.spawn(None, "/s48/b"),
        lambda one, ref: one.spawn("", "/s48/b"),
        lambda one, ref: one.spawn(echo, ""),
        lambda one, ref: one.spawn(echo, None),
        lambda one, ref: one.spawn(echo, "/s48/b", input=lambda: threading.Lock() and iter(()), run_id=""),
        lambda one, ref: one.spawn(echo, "/s48/b", input=threading.Lock()),
        lambda one, ref: one.spawn(echo, "/s48/b", config=threading.Lock(), input=1),
        lambda one, ref: one.spawn(echo, "/s48/b", input=1, run_id=7),
        lambda one, ref: one.spawn(echo, "/s48/b", input=1, durability="maybe"),
        lambda one, ref: ref.followup(threading.Lock()),
        lambda one, ref: ref.followup(1, run_id=""),
        lambda one, ref: ref.followup(1, run_id=7),
        lambda one, ref: ref.followup(1, durability=""),
        lambda one, ref: ref.followup(),
        lambda one, ref: ref.send(threading.Lock()),
        lambda one, ref: ref.send(),
        lambda one, ref: ref.interrupt(7),
        lambda one, ref: one.run(""),
        lambda one, ref: one.run(None),
        lambda one, ref: one.agent(""),
        lambda one, ref: one.wait([None]),
        lambda one, ref: one.wait(None),
    ],
)
def test_48_an_empty_or_malformed_request_is_an_error_at_the_call_and_leaves_nothing(
    runtime: MakeRuntime, ask: Callable[[Runtime, Any], Any]
) -> None:
    """Given an empty or malformed request. Then an error at the call, and nothing recorded."""
    one = runtime()
    ref = one.spawn(echo, "/s48/a", input="first")
    ref.run.result(timeout=60)
    before = list(one.events(follow=False)), one.list()
    with pytest.raises((GreenroomError, TypeError, ValueError)):
        ask(one, ref)
    assert (list(one.events(follow=False)), one.list()) == before
    assert ref.followup("second").result(timeout=60) == "second"
    one.close()
    again = runtime()
    assert [info.path for info in again.list()] == ["/s48/a"]
    assert again.agent("/s48/a").state() == {"inputs": ["first", "second"]}
    assert again.agent("/s48/a").info().inbox == 0
