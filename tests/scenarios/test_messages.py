"""Scenarios 24 to 31: messages, completion, waiting."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from greenroom import Event, RunFailed, RunInterrupted, Runtime, Turn, agent

from .conftest import Gate, Later, Witness, asked_until, promptly

MakeRuntime = Callable[..., Runtime]
MakeWitness = Callable[..., Witness]

TERMINAL = ("run.completed", "run.failed", "run.interrupted")


@agent(name="s-messages-echo")
async def echo(turn: Turn) -> Any:
    if turn.input == "fail":
        raise ValueError("on purpose")
    return turn.input


def ends_of(runtime: Runtime, run_id: str) -> list[Event]:
    """The terminal events of a run; exactly one is right."""
    return [
        event for event in runtime.events(follow=False) if event.run_id == run_id and event.type in TERMINAL
    ]


def accepted_of(runtime: Runtime, path: str) -> list[Event]:
    return [e for e in runtime.events(path, follow=False) if e.path == path and e.type == "run.accepted"]


# 24


@pytest.mark.parametrize("slots", [1, 4])
def test_24_the_root_hears_of_the_grandchild_it_asked(runtime: MakeRuntime, slots: int) -> None:
    """Given a grandchild given work by the root. When it completes. Then the root hears of it."""

    @agent(name=f"s24-child-{slots}")
    async def child(turn: Turn) -> None:
        await turn.spawn(echo, "grand")

    @agent(name=f"s24-root-{slots}")
    async def root(turn: Turn) -> Any:
        if turn.results:
            return [outcome.result for outcome in turn.results]
        await (await (await turn.spawn(child, "child")).followup(None))
        answer = await (await turn.followup("child/grand", "asked by the root"))
        again = await turn.followup("/s24/root/child/grand", "asked again")
        (outcome,) = await turn.wait(again)
        last = await turn.followup("child/grand", "asked for later")
        return answer, outcome.result, outcome.path, (await turn.after(last)).run_id

    one = runtime(slots=slots, residents=2)
    answer, again, path, later = one.spawn(root, "/s24/root", input="begin").run.result(timeout=60)
    assert (answer, again, path) == ("asked by the root", "asked again", "/s24/root/child/grand")
    assert one.run(later).result(timeout=60) == ["asked for later"]
    assert accepted_of(one, "/s24/root/child") == accepted_of(one, "/s24/root/child")[:1], (
        "the parent is left alone"
    )


# 25


def test_25_waiting_for_a_result_that_is_there_returns_at_once(runtime: MakeRuntime) -> None:
    """Given a result already there. When it is waited for, in a turn or outside. Then at once."""

    @agent(name="s25-waits")
    async def waits(turn: Turn) -> Any:
        outcomes = await turn.wait(*turn.input, timeout=0)
        again = await turn.wait(*turn.input)
        return [outcome.result for outcome in outcomes + again]

    one = runtime(slots=1, residents=1)
    ref = one.spawn(echo, "/s25/a")
    runs = [ref.followup(number) for number in range(3)]
    assert promptly(one.wait, runs) == runs
    for _ in range(3):
        assert one.wait(runs, timeout=0) == runs
        assert one.wait(runs, timeout=0, until="any") == runs
        assert [run.result(timeout=0) for run in runs] == [0, 1, 2]
    found = [one.run(run.run_id) for run in runs]
    assert promptly(one.wait, found) == found
    assert [run.outcome(timeout=60).result for run in found] == [0, 1, 2]
    waiting = one.spawn(waits, "/s25/b", input=[run.run_id for run in runs]).run
    assert waiting.result(timeout=60) == [0, 1, 2] * 2


def test_25_a_handle_that_never_looked_finds_the_result_after_a_restart(runtime: MakeRuntime) -> None:
    first = runtime()
    run = first.spawn(echo, "/s25/a", input="kept", run_id="s25-run").run
    run.result(timeout=60)
    first.close()
    second = runtime()
    assert second.run("s25-run").result(timeout=60) == "kept"
    assert second.list()[0].resident is False, "nothing was loaded to tell it"


def test_25_waiting_when_nothing_runs_returns_at_once(runtime: MakeRuntime) -> None:
    @agent(name="s25-waits-for-nothing")
    async def waits(turn: Turn) -> Any:
        return await turn.wait(), await turn.wait(timeout=0)

    one = runtime()
    assert promptly(one.wait, []) == []
    assert promptly(one.wait, [], until="any") == []
    assert promptly(one.wait, [], timeout=0) == []
    assert one.spawn(waits, "/s25/a", input=None).run.result(timeout=60) == ([], [])


# 26


@pytest.mark.parametrize("evicted", [False, True])
def test_26_after_ten_runs_exactly_one_continuation(runtime: MakeRuntime, evicted: bool) -> None:
    """Given an idle parent with `after` on ten runs. When the last ends. Then exactly one continuation run,
    however the ends race."""
    rounds = 15
    gates = [Gate(f"children of round {number}") for number in range(rounds)]
    begun: list[int] = []

    @agent(name=f"s26-child-{evicted}")
    async def child(turn: Turn) -> Any:
        round_, number = turn.input
        await gates[round_].reach()
        for _ in range((number * 7) % 5):
            await asyncio.sleep(0)
        if number == 3:
            raise ValueError("three")
        return number

    @agent(name=f"s26-parent-{evicted}")
    async def parent(turn: Turn) -> Any:
        if isinstance(turn.input, str):
            begun.append(int(turn.input))
            return [(outcome.status, outcome.result) for outcome in turn.results]
        runs = [await turn.followup(f"/s26/child{number}", (turn.input, number)) for number in range(10)]
        return (await turn.after(*runs, input=str(turn.input))).run_id

    one = runtime(slots=16, residents=12)
    ref = one.spawn(parent, "/s26/parent")
    children = [one.spawn(child, f"/s26/child{number}") for number in range(10)]
    expected = [("failed", None) if number == 3 else ("completed", number) for number in range(10)]
    for round_ in range(rounds):
        later = one.run(ref.followup(round_).result(timeout=60))
        assert later.status == "accepted", "it waits until the last has ended"
        gates[round_].await_arrivals(10)
        if evicted:
            assert ref.evict(), "an agent that waits for `after` can be evicted"
        if round_ % 3 == 2:
            children[5].interrupt()
        gates[round_].open()
        outcomes = later.result(timeout=60)
        if round_ % 3 == 2:
            assert outcomes.pop(5) == ("interrupted", None)
            assert outcomes == expected[:5] + expected[6:]
        else:
            assert outcomes == expected
    assert begun == list(range(rounds))
    assert len(accepted_of(one, "/s26/parent")) == 2 * rounds
    assert ref.info().queued_runs == 0


def test_26_the_ends_race_on_threads_and_the_parent_is_busy(runtime: MakeRuntime) -> None:
    together = threading.Barrier(10)
    begun: list[list[Any]] = []

    @agent(name="s26-thread-child")
    def child(turn: Any) -> Any:
        together.wait(600)
        return turn.input

    @agent(name="s26-thread-parent")
    async def parent(turn: Turn) -> Any:
        if turn.results:
            begun.append([outcome.result for outcome in turn.results])
            return None
        if turn.input == "busy":
            await asyncio.sleep(0)
            return None
        runs = [await turn.followup(f"/s26/child{number}", number) for number in range(10)]
        return (await turn.after(*runs)).run_id

    one = runtime(slots=12, residents=16)
    for number in range(10):
        one.spawn(child, f"/s26/child{number}")
    ref = one.spawn(parent, "/s26/parent")
    for round_ in range(1, 6):
        begin = ref.followup("begin")
        busy = [ref.followup("busy") for _ in range(5)]
        one.run(begin.result(timeout=60)).result(timeout=60)
        assert promptly(one.wait, busy) == busy
        assert begun == [list(range(10))] * round_


def test_26_a_continuation_that_was_interrupted_stays_over(runtime: MakeRuntime) -> None:
    """Given a continuation that waits, interrupted. When its runs end. Then nothing more happens."""
    gate = Gate()

    @agent(name="s26-slow-child")
    async def child(turn: Turn) -> Any:
        await gate.reach()
        return turn.input

    @agent(name="s26-given-up")
    async def parent(turn: Turn) -> Any:
        if turn.results:
            return "continued"
        run = await turn.followup("/s26/child", 1)
        return (await turn.after(run)).run_id, run.run_id

    one = runtime()
    one.spawn(child, "/s26/child")
    ref = one.spawn(parent, "/s26/parent", input=None)
    later, of_child = (one.run(run_id) for run_id in ref.run.result(timeout=60))
    gate.await_arrivals()
    assert ref.interrupt() is True
    assert later.outcome(timeout=60).status == "interrupted"
    gate.open()
    assert of_child.result(timeout=60) == 1
    assert later.outcome(timeout=60).status == "interrupted"
    assert len(ends_of(one, later.run_id)) == 1
    assert ref.info().queued_runs == 0
    assert one.spawn(echo, "/s26/other", input="well").run.result(timeout=60) == "well"


def test_26_a_parent_closed_while_it_waits_stays_closed(runtime: MakeRuntime) -> None:
    gate = Gate()

    @agent(name="s26-child-of-closed")
    async def child(turn: Turn) -> Any:
        await gate.reach()
        return turn.input

    @agent(name="s26-closed")
    async def parent(turn: Turn) -> Any:
        run = await turn.followup("/s26/child", 1)
        return (await turn.after(run)).run_id, run.run_id

    one = runtime()
    one.spawn(child, "/s26/child")
    ref = one.spawn(parent, "/s26/parent", input=None)
    later, of_child = (one.run(run_id) for run_id in ref.run.result(timeout=60))
    gate.await_arrivals()
    ref.close()
    assert later.outcome(timeout=60).status == "interrupted"
    gate.open()
    assert of_child.result(timeout=60) == 1
    assert one.spawn(echo, "/s26/other", input="well").run.result(timeout=60) == "well"
    assert [info.path for info in one.list(status="closed")] == ["/s26/parent"]


# 27


def test_27_a_child_that_completed_is_not_interrupted_any_more(runtime: MakeRuntime) -> None:
    """Given a child that completes while the parent waits, which then interrupts it. Then one outcome."""

    @agent(name="s27-parent")
    async def parent(turn: Turn) -> Any:
        child = await turn.spawn(echo, "child")
        run = await child.followup("answer")
        (outcome,) = await turn.wait(run)
        interrupted = await child.interrupt()
        (again,) = await turn.wait(run)
        return run.run_id, outcome.status, again.status, again.result, interrupted

    one = runtime(slots=1)
    run_id, *told = one.spawn(parent, "/s27/parent", input=None).run.result(timeout=60)
    assert told == ["completed", "completed", "answer", False]
    assert [event.type for event in ends_of(one, run_id)] == ["run.completed"]


def test_27_completion_and_interrupt_race_to_one_outcome(runtime: MakeRuntime) -> None:
    """The same, with the interrupt on its way while the child completes, a hundred times."""

    @agent(name="s27-racing-child")
    async def child(turn: Turn) -> Any:
        for _ in range(turn.input % 12):
            await asyncio.sleep(0)
        return "answer"

    @agent(name="s27-racing-parent")
    async def parent(turn: Turn) -> Any:
        run = await turn.followup("/s27/child", turn.input)
        waiting = asyncio.create_task(turn.wait(run))
        for _ in range(turn.input // 12):
            await asyncio.sleep(0)
        interrupted = await turn.interrupt("/s27/child")
        (outcome,) = await waiting
        return run.run_id, outcome.status, interrupted

    one = runtime(slots=1)
    one.spawn(child, "/s27/child")
    ref = one.spawn(parent, "/s27/parent")
    seen = set()
    for number in range(120):
        run_id, status, interrupted = ref.followup(number).result(timeout=60)
        assert [event.type for event in ends_of(one, run_id)] == [f"run.{status}"]
        assert one.run(run_id).outcome(timeout=60).status == status
        assert interrupted == (status == "interrupted")
        seen.add(status)
    assert seen <= {"completed", "interrupted"}
    assert one.spawn(echo, "/s27/other", input="well").run.result(timeout=60) == "well"
    assert one.stats().running == 0


# 28


def test_28_who_waits_for_a_run_of_an_agent_that_is_closed_hears_interrupted(
    runtime: MakeRuntime, witness: MakeWitness
) -> None:
    """Given an agent closed without an answer. When somebody waits. Then `interrupted` with the reason."""
    gate = Gate()

    @agent(name="s28-stands")
    async def stands(turn: Turn) -> None:
        await gate.reach()

    @agent(name="s28-waits")
    async def waits(turn: Turn) -> Any:
        outcomes = await turn.wait(*turn.input)
        return [(outcome.status, outcome.error) for outcome in outcomes]

    one = runtime(slots=2)
    ref = one.spawn(stands, "/s28/a", input=1)
    queued = ref.followup(2)
    gate.await_arrivals()
    outside = [Later(ref.run.result), Later(queued.result)]
    inside = one.spawn(waits, "/s28/b", input=[ref.run.run_id, queued.run_id])
    asked_until(inside.explain, lambda why: why.status == "waiting")
    every = Later(one.wait, [ref.run, queued])
    ref.close()
    for later in outside:
        with pytest.raises(RunInterrupted, match="closed") as interrupted:
            later.get()
        assert interrupted.value.path == "/s28/a"
    assert every.get() == [ref.run, queued]
    told = inside.run.result(timeout=60)
    assert [status for status, _ in told] == ["interrupted"] * 2
    assert all("closed" in reason for _, reason in told)
    for run in (ref.run, queued):
        assert len(ends_of(one, run.run_id)) == 1
        late = one.run(run.run_id).outcome(timeout=60)
        assert late.status == "interrupted"
        assert "closed" in late.error


def test_28_who_waits_for_a_run_of_an_agent_that_is_deleted_is_not_left_waiting(
    runtime: MakeRuntime,
) -> None:
    gate = Gate()

    @agent(name="s28-deleted")
    async def stands(turn: Turn) -> None:
        await gate.reach()

    one = runtime()
    ref = one.spawn(stands, "/s28/a", input=1)
    gate.await_arrivals()
    waiting = Later(ref.run.outcome)
    asked_until(lambda: ref.run.status, lambda status: status == "running")
    ref.delete()
    assert waiting.get().status == "interrupted"


# 29


def test_29_outcomes_that_come_while_the_parent_is_busy_are_all_there_next_time(
    runtime: MakeRuntime,
) -> None:
    """Given ten children that complete while the parent is busy. Then all ten are there next time, once."""
    busy = Gate("the parent's work")

    @agent(name="s29-child")
    async def child(turn: Turn) -> Any:
        await turn.send("/s29/parent", f"message {turn.input}")
        return turn.input

    @agent(name="s29-parent")
    async def parent(turn: Turn) -> Any:
        if turn.input == "begin":
            runs = [await turn.followup(f"/s29/child{number}", number) for number in range(10)]
            later = await turn.after(*runs, input="later")
            await busy.reach()
            return later.run_id, len(turn.inbox)
        return [o.result for o in turn.results], sorted(message.body for message in turn.inbox)

    one = runtime(slots=2, residents=4)
    children = [one.spawn(child, f"/s29/child{number}") for number in range(10)]
    ref = one.spawn(parent, "/s29/parent", input="begin")
    busy.await_arrivals()
    for number, one_child in enumerate(children):
        asked_until(one_child.info, lambda info, number=number: _completed(info.last_outcome, number))
    assert ref.run.status == "running"
    assert ref.info().inbox == 10
    busy.open()
    later, in_the_first = ref.run.result(timeout=60)
    assert in_the_first == 0
    results, messages = one.run(later).result(timeout=60)
    assert results == list(range(10))
    assert messages == sorted(f"message {number}" for number in range(10))
    assert ref.followup("again").result(timeout=60) == ([], [])
    assert len(accepted_of(one, "/s29/parent")) == 3


def _completed(outcome: Any, result: Any) -> bool:
    return outcome is not None and outcome.status == "completed" and outcome.result == result


# 30


def family(one: Runtime, gate: Gate, name: str) -> tuple[Any, list[Any]]:
    """A parent at work with two children at work, one of them below the other; all stand at the gate."""

    @agent(name=f"s30-stands-{name}")
    async def stands(turn: Turn) -> Any:
        await gate.reach()
        return turn.input

    parent = one.spawn(stands, "/s30/parent", input="parent")
    children = [
        one.spawn(stands, "/s30/parent/child", input="child"),
        one.spawn(stands, "/s30/parent/child/grand", input="grand"),
    ]
    gate.await_arrivals(3)
    return parent, children


def test_30_a_cascading_interrupt_stops_the_children_and_their_slots_are_free(runtime: MakeRuntime) -> None:
    """Given a parent with two running children. When interrupted with `cascade`. Then both stop."""
    one, gate = runtime(slots=3), Gate()
    parent, children = family(one, gate, "cascade")
    queued = children[0].followup("queued")
    assert parent.interrupt(cascade=True) is True
    for run in (parent.run, queued, *(child.run for child in children)):
        assert run.outcome(timeout=60).status == "interrupted"
        assert len(ends_of(one, run.run_id)) == 1
    gate.await_ends(3)
    asked_until(one.stats, lambda stats: stats.running == 0)
    runs = [one.spawn(echo, f"/s30/new{number}", input=number).run for number in range(3)]
    assert [run.result(timeout=60) for run in runs] == [0, 1, 2]
    gate.open()
    assert children[0].followup("again").result(timeout=60) == "again"
    assert parent.interrupt(cascade=True) is False


def test_30_an_interrupt_without_cascade_lets_the_children_go_on(runtime: MakeRuntime) -> None:
    """Given the same. When interrupted without. Then they go on."""
    one, gate = runtime(slots=3), Gate()
    parent, children = family(one, gate, "alone")
    assert parent.interrupt() is True
    assert parent.run.outcome(timeout=60).status == "interrupted"
    assert [child.run.status for child in children] == ["running", "running"]
    gate.open()
    assert [child.run.result(timeout=60) for child in children] == ["child", "grand"]


def test_30_a_cascade_spares_namesakes_and_later_runs(runtime: MakeRuntime) -> None:
    one, gate = runtime(slots=4), Gate()
    parent, children = family(one, gate, "namesakes")
    beside = one.spawn("s30-stands-namesakes", "/s30/parents", input="beside")
    gate.await_arrivals(4)
    assert parent.interrupt(cascade=True) is True
    later = children[1].followup("later")
    assert beside.run.status == "running"
    gate.open()
    assert later.result(timeout=60) == "later"
    assert beside.run.result(timeout=60) == "beside"


def test_30_a_cascade_reaches_descendants_of_an_idle_agent_and_of_a_mere_path(runtime: MakeRuntime) -> None:
    one, gate = runtime(slots=4), Gate()

    @agent(name="s30-idle-parent")
    async def stands(turn: Turn) -> Any:
        await gate.reach()

    parent = one.spawn(echo, "/s30/idle")
    below = one.spawn(stands, "/s30/idle/no/agent/between", input=1)
    gate.await_arrivals()
    assert parent.interrupt() is False
    assert parent.interrupt(cascade=True) is True
    assert below.run.outcome(timeout=60).status == "interrupted"


# 31


def test_31_a_starting_agent_is_interrupted_without_waiting_for_its_start(
    runtime: MakeRuntime, witness: MakeWitness
) -> None:
    """Given an agent that is starting. When interrupted. Then its runs end, waiters wake."""
    opening = Gate("opening")

    @agent(name="s31-slow-open")
    class Slow:
        async def open(self, info: Any) -> None:
            await opening.reach()

        async def run(self, turn: Turn) -> Any:
            return turn.input

    one = runtime()
    ref = one.spawn(Slow, "/s31/a", input=1)
    second = ref.followup(2)
    opening.await_arrivals()
    waiting = [Later(ref.run.result), Later(second.result)]
    assert ref.interrupt() is True
    for later in waiting:
        with pytest.raises(RunInterrupted):
            later.get()
    assert ref.info().status == "starting"
    assert ref.info().queued_runs == 0
    stats = one.stats()
    assert (stats.running, stats.queued) == (0, 0)
    third = ref.followup(3)
    opening.open()
    assert third.result(timeout=60) == 3
    for run in (ref.run, second):
        assert len(ends_of(one, run.run_id)) == 1
    assert opening.arrivals == 1, "it was opened once, and not for the interrupt"


def test_31_an_agent_on_disk_is_interrupted_and_not_loaded_for_that(
    runtime: MakeRuntime, witness: MakeWitness
) -> None:
    """Given an agent on disk with runs that wait for room. When interrupted. Then they end, unloaded."""
    gate = Gate()

    @agent(name="s31-holds-room")
    async def stands(turn: Turn) -> Any:
        await gate.reach()

    one = runtime(residents=1)
    watching = witness(one)
    ref = one.spawn(echo, "/s31/disk", input=0)
    ref.run.result(timeout=60)
    holder = one.spawn(stands, "/s31/holder", input=1)
    gate.await_arrivals()
    runs = [ref.followup(number) for number in range(3)]
    asked_until(ref.explain, lambda why: why.waits_for == "room")
    assert ref.info().resident is False
    waiting = [Later(run.result) for run in runs]
    assert ref.interrupt() is True
    for later in waiting:
        with pytest.raises(RunInterrupted):
            later.get()
    assert ref.interrupt() is False
    info = ref.info()
    assert (info.resident, info.status, info.queued_runs) == (False, "idle", 0)
    assert one.stats().queued == 0
    gate.open()
    holder.run.result(timeout=60)
    assert holder.followup(2).result(timeout=60) is None
    assert watching.seen("agent.reloaded", "/s31/disk") == []
    assert ref.info().resident is False
    assert ref.followup("later").result(timeout=60) == "later"


def test_31_an_idle_agent_on_disk_has_nothing_to_interrupt(
    runtime: MakeRuntime, witness: MakeWitness
) -> None:
    one = runtime()
    ref = one.spawn(echo, "/s31/idle", input=0)
    ref.run.result(timeout=60)
    assert ref.evict()
    assert ref.interrupt() is False
    assert ref.interrupt(ref.run.run_id) is False
    assert ref.info().resident is False
    assert ref.info().incarnation == 1


def test_a_failed_run_raises_where_it_is_awaited(runtime: MakeRuntime) -> None:
    """24 to 29 for a run that fails: the one who waits hears of it, in a turn and outside."""

    @agent(name="s-messages-hears")
    async def hears(turn: Turn) -> Any:
        run: Any = await turn.followup("/hears/b", "fail")
        try:
            await run
        except RunFailed as error:
            return error.run_id == run.run_id, error.path, "on purpose" in str(error)
        return None

    one = runtime(slots=1)
    one.spawn(echo, "/hears/b")
    assert one.spawn(hears, "/hears/a", input=1).run.result(timeout=60) == (True, "/hears/b", True)
