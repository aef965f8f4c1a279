"""Scenarios 1 to 15: who may execute, who is in memory, who has to leave, and that nothing is left over.

Told through the public calls. What cannot be forced from outside is told to the cores themselves, or tried
very often with calls that race; the docstring says which.
"""

import asyncio
import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from thespian.actors import ActorExitRequest

from greenroom import (
    AgentNotFound,
    AgentRef,
    BacklogFull,
    CannotStore,
    GreenroomError,
    RunInterrupted,
    RunNotFound,
    Runtime,
    SyncTurn,
    Turn,
    agent,
)
from greenroom.actors.agent.session import DoInterrupt, DoTurn, Session
from greenroom.actors.effects import Send
from greenroom.actors.ledger.protocol import EndTurn, TakeRun
from greenroom.actors.ledger.replies import InterruptTurn, RunBegun, TurnSettled
from greenroom.actors.residency.protocol import RunsAvailable
from greenroom.actors.slots.protocol import AcquireSlot, DescribeSlots, ReleaseSlot, SlotGranted
from greenroom.actors.slots.table import SlotTable
from greenroom.persistence.rows import RunRow

from .conftest import DEADLINE, Gate, Later, Witness, asked_until, promptly, waiting_at

MakeRuntime = Callable[..., Runtime]
MakeWitness = Callable[..., Witness]

AT_ONCE = 60.0
"""Seconds for an answer that waits for nobody. It takes a millisecond; the rest is for busy machines."""


@agent(name="s-echo")
async def echo(turn: Turn) -> Any:
    turn.state["runs"] = turn.state.get("runs", 0) + 1
    return turn.input


@agent(name="s-reader")
async def reader(turn: Turn) -> list[Any]:
    return [message.body for message in turn.inbox]


def residents_of(runtime: Runtime) -> list[str]:
    return [info.path for info in runtime.list() if info.resident]


def at_rest(runtime: Runtime) -> Any:
    """The stats once nothing is queued, nothing runs and no slot is held."""
    return asked_until(
        runtime.stats, lambda stats: not (stats.running or stats.queued or stats.slots_taken)
    )


# 1


@pytest.mark.parametrize("chosen", ["for a newcomer", "by evict()"])
def test_01_a_run_for_an_agent_that_is_unloading_executes_once(runtime: MakeRuntime, chosen: str) -> None:
    """Given the only resident's unloading paused half-way, when a run for it arrives, it executes once."""
    half_way = Gate("half-way out")
    executed: list[int] = []

    @agent(name="s01-leaver")
    class Leaver:
        close = waiting_at(half_way, "listens")

        async def run(self, turn: Turn) -> int:
            executed.append(turn.input)
            turn.state["runs"] = turn.state.get("runs", 0) + 1
            return turn.input

    one = runtime(residents=1)
    leaver = one.spawn(Leaver, "/one/leaver", input=1)
    assert leaver.run.result(DEADLINE) == 1
    if chosen == "by evict()":
        eviction = Later(lambda: asked_until(leaver.evict, bool))
    else:
        newcomer = one.spawn(echo, "/one/newcomer", input="in")
    half_way.await_arrivals()

    again = leaver.followup(2)
    assert not again.done()
    half_way.open()

    assert again.result(DEADLINE) == 2
    if chosen == "by evict()":
        assert eviction.get() is True
    else:
        assert newcomer.run.result(DEADLINE) == "in"
    assert executed == [1, 2]
    assert leaver.state() == {"runs": 2}
    last = promptly(one.spawn, echo, "/one/last", input="last", within=AT_ONCE)
    assert last.run.result(DEADLINE) == "last"
    assert one.stats().resident == 1
    assert residents_of(one) == ["/one/last"]
    assert executed == [1, 2]


# 2


def test_02_an_idle_agent_with_an_unread_message_can_be_unloaded_and_keeps_it(
    runtime: MakeRuntime,
) -> None:
    """Given A idle with mail and all others running, when C is spawned, A goes, and comes back with it."""
    busy = Gate("busy")

    @agent(name="s02-busy")
    async def works(turn: Turn) -> None:
        await busy.reach()

    one = runtime(residents=3, slots=4)
    idle = one.spawn(reader, "/two/idle", input=None)
    assert idle.run.result(DEADLINE) == []
    idle.send("unread")
    for name in ("b", "c"):
        one.spawn(works, f"/two/{name}", input=None)
    busy.await_arrivals(2)

    newcomer = promptly(one.spawn, echo, "/two/newcomer", input="in", within=AT_ONCE)

    assert newcomer.run.result(DEADLINE) == "in"
    info = idle.info()
    assert (info.resident, info.inbox, info.status) == (False, 1, "idle")
    assert idle.followup(None).result(DEADLINE) == ["unread"]
    assert idle.info().inbox == 0


# 3


def test_03_a_message_after_the_last_look_at_the_inbox_is_kept_and_pins_nobody(
    runtime: MakeRuntime,
) -> None:
    """Given A running, when mail comes after it read its inbox and it ends, the mail stays and A can go."""
    looked = Gate("looked")

    @agent(name="s03-looker")
    async def looker(turn: Turn) -> list[Any]:
        seen = [message.body for message in turn.inbox]
        await looked.reach()
        return seen

    one = runtime(residents=1)
    ref = one.spawn(looker, "/three/looker")
    ref.send("early")
    first = ref.followup(None)
    looked.await_arrivals()
    ref.send("late")
    looked.open()
    assert first.result(DEADLINE) == ["early"]
    assert ref.info().inbox == 1

    other = one.spawn(echo, "/three/other", input="in")  # needs the only place

    assert other.run.result(DEADLINE) == "in"
    assert ref.info().resident is False
    assert ref.info().inbox == 1
    assert ref.followup(None).result(DEADLINE) == ["late"]
    assert ref.info().inbox == 0


def test_03_mail_that_races_with_the_ends_of_turns_and_evictions_is_read_once_each(
    runtime: MakeRuntime,
) -> None:
    """The window between a turn's last look and its commit, tried often: 300 messages, each read once."""
    one = runtime(residents=1)
    ref = one.spawn(reader, "/three/reader", input=None)
    ref.run.result(DEADLINE)

    def send() -> None:
        for number in range(300):
            ref.send(number)

    sending = Later(send)
    read: list[int] = []
    while not sending.done():
        read += ref.followup(None).result(DEADLINE)
        ref.evict()
    sending.get()
    read += ref.followup(None).result(DEADLINE)

    assert read == list(range(300))
    assert ref.info().inbox == 0


# 4


def test_04_finished_agents_never_use_up_a_limit(runtime: MakeRuntime) -> None:
    """Given agents evicted after many follow-ups, every further spawn succeeds at the first call.

    "Minutes later" needs the simulated base; here nothing depends on how much time passes.
    """
    one = runtime(residents=2, slots=1)
    refs: list[AgentRef] = []
    for number in range(40):
        ref = promptly(one.spawn, echo, f"/four/a{number}", input=0, within=AT_ONCE)
        runs = [ref.run, *(ref.followup(turn) for turn in range(1, 8))]
        assert [run.result(DEADLINE) for run in runs] == list(range(8))
        refs.append(ref)

    stats = at_rest(one)
    assert stats.agents == 40
    assert stats.resident <= 2
    assert stats.given_way == 0
    assert stats.evictions >= 38
    assert refs[0].info().resident is False
    assert refs[0].state() == {"runs": 8}


# 5


@pytest.mark.parametrize("how", ["listens", "deaf", "thread"])
def test_05_who_is_stuck_in_opening_is_given_up_and_never_who_was_just_accepted(
    runtime: MakeRuntime, witness: MakeWitness, how: str
) -> None:
    """Given one stuck in opening past its deadline and one just accepted, the first alone makes room."""
    never, soon = Gate("never"), Gate("soon")

    @agent(name=f"s05-stuck-{how}", open_timeout=0.3)
    class Stuck:
        open = waiting_at(never, how)

        async def run(self, turn: Turn) -> None: ...

    @agent(name="s05-fresh")
    class Fresh:
        open = waiting_at(soon, "listens")

        async def run(self, turn: Turn) -> Any:
            return turn.input

    one = runtime(residents=2)
    events = witness(one)
    stuck = one.spawn(Stuck, "/five/stuck", input=None)
    never.await_arrivals()
    fresh = one.spawn(Fresh, "/five/fresh", input="fresh")
    soon.await_arrivals()

    newcomer = promptly(one.spawn, echo, "/five/newcomer", input="in", within=AT_ONCE)

    assert newcomer.run.result(DEADLINE) == "in"
    events.await_event("agent.start_failed", "/five/stuck")
    assert stuck.run.outcome(DEADLINE).status == "failed"
    assert stuck.info().status == "failed"
    assert fresh.info().status == "starting"
    assert fresh.info().incarnation == 1
    soon.open()
    assert fresh.run.result(DEADLINE) == "fresh"
    assert soon.arrivals == 1
    assert soon.cancelled == 0


# 6


def test_06_residents_that_are_idle_after_an_interrupt_can_be_evicted_the_oldest_first(
    runtime: MakeRuntime,
) -> None:
    """Given every resident idle after an interrupt, when an agent is spawned, the oldest goes."""
    busy = Gate("busy")

    @agent(name="s06-busy")
    async def works(turn: Turn) -> None:
        await busy.reach()

    one = runtime(residents=3)
    refs = [one.spawn(works, f"/six/{name}", input=None) for name in ("a", "b", "c")]
    busy.await_arrivals(3)
    for ref in refs:
        assert ref.interrupt() is True
        assert ref.run.outcome(DEADLINE).status == "interrupted"
    at_rest(one)

    newcomer = promptly(one.spawn, echo, "/six/newcomer", input="in", within=AT_ONCE)

    assert newcomer.run.result(DEADLINE) == "in"
    assert residents_of(one) == ["/six/b", "/six/c", "/six/newcomer"]


def test_06_an_agent_interrupted_while_it_waits_for_a_slot_can_be_evicted(
    runtime: MakeRuntime, witness: MakeWitness
) -> None:
    """Given a resident whose only run was interrupted before it had a slot, it does not hold its place."""
    busy = Gate("busy")

    @agent(name="s06-holder")
    async def holds(turn: Turn) -> None:
        await busy.reach()

    one = runtime(residents=2, slots=1)
    events = witness(one)
    one.spawn(holds, "/six/holder", input=None)
    busy.await_arrivals()
    waiting = one.spawn(echo, "/six/waiting", input=None)
    asked_until(waiting.explain, lambda why: why.waits_for == "slot")
    assert waiting.interrupt() is True
    assert waiting.run.outcome(DEADLINE).status == "interrupted"

    one.spawn(echo, "/six/newcomer", input=None)

    events.await_event("agent.started", "/six/newcomer", within=5.0)
    assert waiting.info().resident is False


@pytest.mark.parametrize("told", ["interrupt", "close", "delete"])
def test_06_the_end_of_others_does_not_wake_who_was_interrupted_while_it_waited_for_them(
    runtime: MakeRuntime, told: str
) -> None:
    """Given an agent told to end while its `after` waits, it makes room, and the end it waited for is none.

    (The end of a run used to look for the continuation, and took the runtime along.)
    """
    busy = Gate("busy")

    @agent(name="s06-child")
    async def child(turn: Turn) -> None:
        await busy.reach()

    @agent(name="s06-parent")
    async def parent(turn: Turn) -> str:
        if turn.input == "ask":
            run = await turn.followup("/six/child", None)
            return (await turn.after(run, input="go on")).run_id
        return turn.input

    one = runtime(residents=2)
    one.spawn(child, "/six/child")
    ref = one.spawn(parent, "/six/parent", input="ask")
    continuation = one.run(ref.run.result(DEADLINE))
    busy.await_arrivals()
    assert not continuation.done()

    getattr(ref, told)()
    if told != "delete":
        assert continuation.outcome(DEADLINE).status == "interrupted"
    newcomer = promptly(one.spawn, echo, "/six/newcomer", input="in", within=AT_ONCE)
    assert newcomer.run.result(DEADLINE) == "in"

    busy.open()
    asked_until(one.agent("/six/child").info, lambda info: info.status == "idle")
    assert at_rest(one).agents == (3 if told == "interrupt" else 2)
    if told == "interrupt":
        assert ref.followup("well").result(DEADLINE) == "well"


# 7


@pytest.mark.parametrize("how", ["listens", "deaf", "thread"])
def test_07_a_victim_that_never_closes_is_joined_by_another_one(runtime: MakeRuntime, how: str) -> None:
    """Given a victim whose close() never returns and another idle one, the other makes room."""
    never = Gate("never")

    @agent(name=f"s07-stubborn-{how}")
    class Stubborn:
        close = waiting_at(never, how)

        async def run(self, turn: Turn) -> Any:
            return turn.input

    one = runtime(residents=2)
    stubborn = one.spawn(Stubborn, "/seven/stubborn", input=1)
    assert stubborn.run.result(DEADLINE) == 1
    other = one.spawn(echo, "/seven/other", input=2)
    assert other.run.result(DEADLINE) == 2

    newcomer = promptly(one.spawn, echo, "/seven/newcomer", input="in", within=AT_ONCE)

    never.await_arrivals()  # the oldest was chosen, and does not go
    assert newcomer.run.result(60.0) == "in"
    assert other.info().resident is False
    assert one.stats().resident <= 2


@pytest.mark.parametrize("how", ["listens", "deaf", "thread"])
def test_07_a_victim_that_never_closes_does_not_hang_a_spawn(
    runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Given the only resident's close() never returns, the newcomer gets its place within close's bound.

    The bound of `close` is ten seconds; here it is half of one.
    """
    monkeypatch.setattr("greenroom.actors.agent.behaviour.CLOSE_TIMEOUT", 0.5)
    never = Gate("never")

    @agent(name=f"s07-hopeless-{how}")
    class Hopeless:
        close = waiting_at(never, how)

        async def run(self, turn: Turn) -> Any:
            turn.state["runs"] = turn.state.get("runs", 0) + 1
            return turn.input

    one = runtime(residents=1)
    hopeless = one.spawn(Hopeless, "/seven/hopeless", input=1)
    assert hopeless.run.result(DEADLINE) == 1

    newcomer = promptly(one.spawn, echo, "/seven/newcomer", input="in", within=AT_ONCE)

    assert newcomer.run.result(DEADLINE) == "in"
    assert one.stats().resident == 1
    assert hopeless.followup(2).result(DEADLINE) == 2  # it can be used again
    assert hopeless.state() == {"runs": 2}


@pytest.mark.parametrize("how", ["async", "thread"])
@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_07_a_victim_whose_close_raises_makes_room(
    runtime: MakeRuntime, how: str, error: type[BaseException]
) -> None:
    """The same for a close() that returns badly: the newcomer gets its place at once."""
    if how == "async":

        @agent(name="s07-raising-async")
        class Raising:
            async def run(self, turn: Turn) -> None: ...

            async def close(self) -> None:
                raise error("on purpose")
    else:

        @agent(name="s07-raising-thread")
        class Raising:
            async def run(self, turn: Turn) -> None: ...

            def close(self) -> None:
                raise error("on purpose")

    one = runtime(residents=1)
    raising = one.spawn(Raising, "/seven/raising", input=None)
    raising.run.result(DEADLINE)

    newcomer = promptly(one.spawn, echo, "/seven/newcomer", input="in", within=AT_ONCE)

    assert newcomer.run.result(60.0) == "in"
    assert promptly(raising.info, within=AT_ONCE).resident is False


# 8


@pytest.mark.parametrize("gives_up", ["closes it", "deletes it", "interrupts its run"])
def test_08_who_gives_up_the_room_it_needed_releases_the_reservation(
    runtime: MakeRuntime, gives_up: str
) -> None:
    """Given an eviction half-way, when its cause is gone, the victim goes wholly and the place is free."""
    half_way = Gate("half-way out")

    @agent(name="s08-victim")
    class Victim:
        close = waiting_at(half_way, "listens")

        async def run(self, turn: Turn) -> Any:
            turn.state["runs"] = turn.state.get("runs", 0) + 1
            return turn.state["runs"]

    one = runtime(residents=1)
    if gives_up == "interrupts its run":  # its agent is on disk by the time the victim is there
        newcomer = one.spawn(echo, "/eight/newcomer", input=None)
        newcomer.run.result(DEADLINE)
    victim = one.spawn(Victim, "/eight/victim", input=None)
    assert victim.run.result(DEADLINE) == 1
    if gives_up == "interrupts its run":
        run = newcomer.followup("never")
    else:
        newcomer = one.spawn(echo, "/eight/newcomer", input="never")
        run = newcomer.run
    half_way.await_arrivals()

    if gives_up == "closes it":
        promptly(newcomer.close, within=AT_ONCE)
    elif gives_up == "deletes it":
        promptly(newcomer.delete, within=AT_ONCE)
    else:
        assert promptly(run.interrupt, within=AT_ONCE) is True
    if gives_up == "deletes it":
        with pytest.raises((RunNotFound, RunInterrupted)):  # what is stored of it was erased as well
            run.result(DEADLINE)
    else:
        assert run.outcome(DEADLINE).status == "interrupted"
    half_way.open()

    asked_until(one.stats, lambda stats: stats.resident == 0)
    assert victim.info().resident is False
    assert victim.state() == {"runs": 1}
    next_one = promptly(one.spawn, echo, "/eight/next", input="in", within=AT_ONCE)
    assert next_one.run.result(DEADLINE) == "in"
    assert victim.followup(None).result(DEADLINE) == 2
    assert one.stats().resident == 1


def test_08_giving_up_at_any_moment_of_an_eviction_loses_no_place(runtime: MakeRuntime) -> None:
    """The moments of an eviction that no gate reaches, tried often: callers that give up at once."""
    one = runtime(residents=2)
    victims = [one.spawn(echo, f"/eight/v{n}", input=None) for n in range(2)]
    for victim in victims:
        victim.run.result(DEADLINE)
    expected = 1
    for number in range(100):
        newcomer = one.spawn(echo, f"/eight/n{number}", input=None)
        if number % 2:
            newcomer.interrupt()
        newcomer.close()
        assert newcomer.run.outcome(DEADLINE).status in ("completed", "interrupted")
        if number % 10 == 9:
            runs = [victim.followup(None) for victim in victims]
            for run in runs:
                run.result(DEADLINE)
            expected += 1

    stats = at_rest(one)
    assert stats.agents == 2
    assert stats.resident <= 2
    assert stats.given_way == 0
    assert [victim.state() for victim in victims] == [{"runs": expected}] * 2
    assert set(residents_of(one)) <= {"/eight/v0", "/eight/v1"}


# 9


def test_09_a_turn_interrupted_between_its_slot_and_its_beginning_gives_the_slot_back() -> None:
    """Told to the cores: slot granted, run not here yet, interrupt comes first, then the run."""
    slots = SlotTable(1)
    session = Session(7, "/nine/a", 1)
    session.opened(healed=False)

    (acquire,) = [send.message for send in session.work(RunsAvailable()) if isinstance(send, Send)]
    assert isinstance(acquire, AcquireSlot)
    (granted,) = slots.acquire(acquire.lease, acquire.path, "here", now=0.0)
    assert isinstance(granted.message, SlotGranted)
    (take,) = session.granted(granted.message)
    assert isinstance(take.message, TakeRun)
    row = RunRow("run-1", 1, 7, "/nine/a", b"", 0.0)

    assert session.interrupt(InterruptTurn("run-1", "enough")) == []
    actions = session.begun(RunBegun(7, row, False, (), ()))

    assert [type(action) for action in actions] == [DoTurn, DoInterrupt]
    end = EndTurn(7, 1, "run-1", "interrupted", None, "enough", 0.0, 0.0)
    (release,) = [
        action.message
        for action in session.returned(end)
        if isinstance(action, Send) and isinstance(action.message, ReleaseSlot)
    ]
    slots.release(release.lease)
    (report,) = slots.describe(1, "here")
    assert (report.message.granted, report.message.waiting) == (0, 0)
    session.settled(TurnSettled(7, more=False))
    assert session.state == "idle"


def test_09_a_slot_granted_for_a_run_that_was_interrupted_meanwhile_is_given_back() -> None:
    """Told to the cores: slot granted, the only run ended before the session could take it."""
    slots = SlotTable(1)
    session = Session(7, "/nine/a", 1)
    session.opened(healed=False)
    (acquire,) = [send.message for send in session.work(RunsAvailable()) if isinstance(send, Send)]
    (granted,) = slots.acquire(acquire.lease, acquire.path, "here", now=0.0)
    session.granted(granted.message)

    for action in session.nothing():
        if isinstance(action, Send) and isinstance(action.message, ReleaseSlot):
            slots.release(action.message.lease)

    assert session.state == "idle"
    (report,) = slots.describe(DescribeSlots(1).request, "here")
    assert report.message.granted == 0


@pytest.mark.parametrize("how", ["async", "thread"])
def test_09_interrupting_at_any_moment_of_a_beginning_brings_running_back_to_zero(
    runtime: MakeRuntime, witness: MakeWitness, how: str
) -> None:
    """All moments from acceptance to the first line of the code, tried often from two threads."""
    if how == "async":

        @agent(name="s09-async")
        async def works(turn: Turn) -> None:
            await asyncio.sleep(0)
    else:

        @agent(name="s09-thread")
        def works(turn: SyncTurn) -> None: ...

    one = runtime(slots=1)
    events = witness(one)
    ref = one.spawn(works, "/nine/a")
    runs = []
    for _ in range(200):
        run = ref.followup(None)
        runs.append(run)
        interrupting = Later(run.interrupt)
        assert run.outcome(DEADLINE).status in ("completed", "interrupted")
        interrupting.get()

    stats = at_rest(one)
    assert (stats.running, stats.slots_taken, stats.queued) == (0, 0, 0)
    assert ref.followup(None).outcome(DEADLINE).status == "completed"
    events.await_event("run.accepted", count=201)
    last = runs[-1].run_id
    asked_until(
        one.stats, lambda _: any(e.run_id == last and e.type in ENDS for e in events.seen(None, ref.path))
    )
    ends = Counter(event.run_id for event in events.seen() if event.type in ENDS)
    assert [ends[run.run_id] for run in runs] == [1] * 200


@pytest.mark.parametrize("how", ["deaf", "thread"])
def test_09_a_turn_interrupted_while_paused_does_not_go_on_without_a_slot(
    runtime: MakeRuntime, how: str
) -> None:
    """Given code that cannot be cancelled, paused and interrupted, it goes on in a slot or not at all."""
    paused, busy, at_work = Gate("paused"), Gate("busy"), Tally()

    if how == "deaf":

        @agent(name="s09-paused-deaf")
        async def pauses(turn: Turn) -> None:
            async with turn.paused():
                await paused.reach_deaf()
            with at_work:
                await asyncio.sleep(0)
    else:

        @agent(name="s09-paused-thread")
        def pauses(turn: SyncTurn) -> None:
            with turn.paused():
                paused.reach_on_thread()
            with at_work:
                pass

    @agent(name="s09-busy")
    async def works(turn: Turn) -> None:
        with at_work:
            await busy.reach()

    one = runtime(slots=1)
    ref = one.spawn(pauses, "/nine/paused", input=None)
    paused.await_arrivals()
    other = one.spawn(works, "/nine/busy", input=None)  # takes the only slot
    busy.await_arrivals()
    assert ref.interrupt() is True
    ended = Later(ref.run.outcome, DEADLINE)

    paused.open()
    asked_until(ref.explain, lambda why: ended.done() or why.waits_for == "slot")
    busy.open()

    assert ended.get().status == "interrupted"
    assert other.run.outcome(DEADLINE).status == "completed"
    assert at_work.most == 1
    assert at_rest(one).slots_taken == 0


ENDS = ("run.completed", "run.failed", "run.interrupted")


# 10


@pytest.mark.parametrize(
    "way", ["completes", "raises", "is interrupted", "is closed", "pauses", "waits for a run"]
)
def test_10_a_free_slot_starts_the_run_that_waits_with_no_further_call(
    runtime: MakeRuntime, way: str
) -> None:
    """Given all slots busy and a run waiting at an idle agent, whatever frees a slot starts it."""
    busy, paused, started = Gate("busy"), Gate("paused"), Gate("started")

    @agent(name="s10-holder")
    async def holds(turn: Turn) -> None:
        await busy.reach()
        if way == "raises":
            raise RuntimeError("on purpose")
        if way == "pauses":
            async with turn.paused():
                await paused.reach()
        if way == "waits for a run":
            await turn.wait("held-up")

    @agent(name="s10-waiter")
    async def waits(turn: Turn) -> str:
        await started.reach()
        return "done"

    one = runtime(slots=1)
    waiter = one.spawn(waits, "/ten/waiter")
    asked_until(waiter.info, lambda info: info.status == "idle" and info.resident)
    holder = one.spawn(holds, "/ten/holder", input=None)
    busy.await_arrivals()
    run = waiter.followup(None, run_id="held-up")
    asked_until(waiter.explain, lambda why: why.waits_for == "slot")
    assert started.arrivals == 0

    if way == "is interrupted":
        holder.interrupt()
    elif way == "is closed":
        holder.close()
    else:
        busy.open()

    started.await_arrivals()
    assert one.stats().slots_taken == 1
    started.open()
    assert run.result(DEADLINE) == "done"
    paused.open()
    assert holder.run.outcome(DEADLINE).status in ENDED_BY[way]


ENDED_BY = {
    "completes": ("completed",),
    "raises": ("failed",),
    "is interrupted": ("interrupted",),
    "is closed": ("interrupted",),
    "pauses": ("completed",),
    "waits for a run": ("completed",),
}


# 11


@pytest.mark.parametrize("residents", [1, 2, 64])
def test_11_a_tree_of_any_depth_completes_with_one_slot(runtime: MakeRuntime, residents: int) -> None:
    """Given parents and children under the same limits, a parent's wait gives its slot back."""
    at_work = Tally()

    @agent(name="s11-parent")
    async def parent(turn: Turn) -> int:
        with at_work:
            depth = turn.input
        if depth == 0:
            return 1
        child = await turn.spawn("s11-parent", "child")
        run = await child.followup(depth - 1)
        (outcome,) = await turn.wait(run)
        with at_work:
            await asyncio.sleep(0)
            return 1 + outcome.result

    one = runtime(slots=1, residents=residents)
    root = one.spawn(parent, "/eleven", input=8)

    assert root.run.result(DEADLINE) == 9
    assert at_work.most == 1
    stats = at_rest(one)
    assert stats.agents == 9
    asked_until(one.stats, lambda stats: stats.resident <= residents and stats.given_way == 0)


@pytest.mark.parametrize("residents", [1, 3, 64])
@pytest.mark.parametrize("how", ["async", "thread"])
def test_11_a_parent_waits_for_ten_children_with_one_slot(
    runtime: MakeRuntime, how: str, residents: int
) -> None:
    """The same for a family that is wide, by `await` and on a thread."""
    at_work = Tally()

    @agent(name=f"s11-child-{how}")
    async def child(turn: Turn) -> int:
        with at_work:
            await asyncio.sleep(0)
            return turn.input * 2

    if how == "async":

        @agent(name="s11-wide-async")
        async def wide(turn: Turn) -> int:
            children = [await turn.spawn(child, f"c{n}") for n in range(10)]
            runs = [await one.followup(n) for n, one in enumerate(children)]
            outcomes = await turn.wait(*runs)
            with at_work:
                return sum(outcome.result for outcome in outcomes) + await runs[9]
    else:

        @agent(name="s11-wide-thread")
        def wide(turn: SyncTurn) -> int:
            children = [turn.spawn(child, f"c{n}") for n in range(10)]
            runs = [one.followup(n) for n, one in enumerate(children)]
            outcomes = turn.wait(*runs)
            with at_work:
                return sum(outcome.result for outcome in outcomes) + runs[9].result()

    one = runtime(slots=1, residents=residents)
    ref = one.spawn(wide, "/eleven", input=None)

    assert ref.run.result(DEADLINE) == 90 + 18
    assert at_work.most == 1
    stats = at_rest(one)
    assert stats.agents == 11
    asked_until(one.stats, lambda stats: stats.resident <= residents and stats.given_way == 0)


class Tally:
    """How many are inside at a time, at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._now -= 1


# 12


def _too_much(one: Runtime, path: str) -> AgentRef:
    return one.spawn(echo, path, input="first")


def _cannot_be_stored(one: Runtime, path: str) -> AgentRef:
    return one.spawn(echo, path, input=(n for n in range(3)))


def _id_is_taken(one: Runtime, path: str) -> AgentRef:
    return one.spawn(echo, path, input="first", run_id="taken")


@pytest.mark.parametrize(
    ("refused", "error"),
    [(_too_much, BacklogFull), (_cannot_be_stored, CannotStore), (_id_is_taken, GreenroomError)],
)
def test_12_a_spawn_whose_first_run_is_refused_leaves_nothing_behind(
    runtime: MakeRuntime,
    witness: MakeWitness,
    refused: Callable[[Runtime, str], AgentRef],
    error: type[Exception],
) -> None:
    """Given a first run that is refused, the path is free and the same spawn can be tried again."""
    busy = Gate("busy")

    @agent(name="s12-holder")
    async def holds(turn: Turn) -> None:
        await busy.reach()

    one = runtime(slots=1, residents=2, backlog=1 if refused is _too_much else 100)
    events = witness(one)
    holder = one.spawn(holds, "/twelve/holder", input=None, run_id="taken")
    busy.await_arrivals()

    for _ in range(3):  # and the refusals do not add up
        with pytest.raises(error):
            promptly(refused, one, "/twelve/deep/down/again", within=AT_ONCE)
    with pytest.raises(AgentNotFound):
        one.agent("/twelve/deep/down/again")
    assert [info.path for info in one.list()] == ["/twelve/holder"]
    assert one.stats().agents == 1
    assert one.stats().queued == 0

    busy.open()
    assert holder.run.outcome(DEADLINE).status == "completed"
    at_rest(one)
    again = promptly(one.spawn, echo, "/twelve/deep/down/again", input="second", within=AT_ONCE)
    assert again.run.result(DEADLINE) == "second"
    assert again.info().incarnation == 1
    assert one.stats().agents == 2
    at_rest(one)
    events.await_event("run.completed", again.path)
    assert len(events.seen("agent.spawned", again.path)) == 1
    assert len(events.seen("run.accepted", again.path)) == 1


# 13


@pytest.mark.parametrize("told", ["interrupt", "close", "delete"])
@pytest.mark.parametrize("was", ["running", "idle"])
def test_13_an_agent_whose_session_vanished_can_be_interrupted_and_closed(
    runtime: MakeRuntime, was: str, told: str
) -> None:
    """Given a session whose actor is gone, interrupt and close succeed and its slot is free.

    No public call kills a session; its actor is told to exit behind the runtime's back.
    """
    busy = Gate("busy")
    addresses: list[Any] = []

    @agent(name="s13-victim", attempts=3)
    async def works(turn: Turn) -> None:
        addresses.append(turn._host.address)
        if turn.input == "long":
            await busy.reach()

    one = runtime(slots=1)
    ref = one.spawn(works, "/thirteen/a", input="long" if was == "running" else "short")
    if was == "running":
        busy.await_arrivals()
    else:
        ref.run.result(DEADLINE)
        at_rest(one)
    one._engine._base.post(addresses[0], ActorExitRequest())

    answer = promptly(getattr(ref, told), within=AT_ONCE)

    if told == "interrupt":
        assert answer is (was == "running")
    if told != "delete":  # which erases what is stored, this run as well
        outcome = ref.run.outcome(DEADLINE)
        assert outcome.status == ("interrupted" if was == "running" else "completed")
    at_rest(one)
    if told == "interrupt":
        asked_until(ref.info, lambda info: info.status == "idle")
        assert ref.followup("short").outcome(DEADLINE).status == "completed"
    else:
        ref = one.spawn(works, "/thirteen/a", input="short")
        assert ref.run.outcome(DEADLINE).status == "completed"
    assert one.spawn(echo, "/thirteen/b", input="in").run.result(DEADLINE) == "in"
    assert at_rest(one).slots_taken == 0


def test_13_a_run_that_lost_its_session_is_begun_again_and_then_can_be_interrupted(
    runtime: MakeRuntime, witness: MakeWitness
) -> None:
    """Given a turn whose session vanished, it is begun again within its attempts, in one slot."""
    busy = Gate("busy")
    addresses: list[Any] = []

    @agent(name="s13-again", attempts=2)
    async def works(turn: Turn) -> int:
        addresses.append(turn._host.address)
        await busy.reach()
        return turn.attempt

    one = runtime(slots=1)
    events = witness(one)
    ref = one.spawn(works, "/thirteen/again", input=None)
    busy.await_arrivals()
    one._engine._base.post(addresses[0], ActorExitRequest())

    busy.await_arrivals(2)
    events.await_event("run.started", ref.path, count=2)
    assert one.stats().slots_taken == 1
    assert ref.info().incarnation == 2
    one._engine._base.post(addresses[1], ActorExitRequest())

    assert ref.run.outcome(DEADLINE).status == "failed"  # that were all its attempts
    assert at_rest(one).slots_taken == 0
    busy.open()
    assert ref.followup(None).result(DEADLINE) == 1


def test_13_interrupts_that_race_with_the_loss_of_the_session_are_kept(runtime: MakeRuntime) -> None:
    """An interrupt that was answered True is not undone by a session that vanishes meanwhile.

    Tried often in both orders. If the session goes first, the run may have been begun again before the
    interrupt comes; whichever turn it meets, the run ends.
    """
    gates: dict[str, Gate] = {}
    addresses: dict[str, Any] = {}

    @agent(name="s13-racer")
    async def works(turn: Turn) -> None:
        addresses[turn.path] = turn._host.address
        await gates[turn.path].reach()

    one = runtime(slots=1)
    for number in range(60):
        path = f"/thirteen/r{number}"
        busy = gates[path] = Gate(path)
        ref = one.spawn(works, path, input=None)
        busy.await_arrivals()
        if number % 2:
            told = ref.interrupt()
            one._engine._base.post(addresses[path], ActorExitRequest())
        else:
            one._engine._base.post(addresses[path], ActorExitRequest())
            told = ref.interrupt()
        assert told is True
        outcome = ref.run.outcome(DEADLINE)
        assert outcome.status == "interrupted"
        assert at_rest(one).slots_taken == 0
        assert busy.arrivals <= outcome.attempt
        assert outcome.attempt == 1 or number % 2 == 0


def test_13_code_that_exits_in_a_task_of_its_own_fails_its_run_alone(runtime: MakeRuntime) -> None:
    """`sys.exit()` in a task takes an asyncio loop along; here it is one run's own affair."""

    async def exits() -> None:
        raise SystemExit(3)

    @agent(name="s13-exits")
    async def works(turn: Turn) -> None:
        await asyncio.create_task(exits())

    one = runtime(slots=1)
    ref = one.spawn(works, "/thirteen/exits", input=None)

    assert ref.run.outcome(60.0).status in ("failed", "interrupted")
    other = promptly(one.spawn, echo, "/thirteen/other", input="in", within=AT_ONCE)
    assert other.run.result(60.0) == "in"
    assert promptly(at_rest, one).slots_taken == 0


# 14


def test_14_a_run_that_waits_for_a_slot_says_so(runtime: MakeRuntime) -> None:
    """Given no slot, a run waits, and explain() tells for what, since when, where, and who holds it."""
    busy = Gate("busy")

    @agent(name="s14-holder")
    async def holds(turn: Turn) -> None:
        await busy.reach()

    one = runtime(slots=2)
    holders = [one.spawn(holds, f"/fourteen/h{n}", input=None) for n in range(2)]
    busy.await_arrivals(2)
    before = time.time()
    first = one.spawn(echo, "/fourteen/first", input=1)
    why = asked_until(first.explain, lambda why: why.waits_for == "slot")
    second = one.spawn(echo, "/fourteen/second", input=2)
    then = asked_until(second.explain, lambda why: why.waits_for == "slot")

    assert why.path == "/fourteen/first"
    assert why.status == "queued"
    assert why.place == 0
    assert set(why.held_by) == {holder.path for holder in holders}
    assert before <= why.since <= time.time()
    assert then.place == 1
    assert then.since >= why.since
    assert "slot" in str(why)
    assert first.explain().since == why.since  # it does not begin anew with every question

    busy.open()
    assert first.run.result(DEADLINE) == 1
    assert second.run.result(DEADLINE) == 2
    after = asked_until(first.explain, lambda why: why.status == "idle")
    assert (after.waits_for, after.place, after.held_by) == (None, None, ())


@pytest.mark.parametrize("was", ["new", "on disk"])
def test_14_a_run_that_waits_for_room_says_so(runtime: MakeRuntime, was: str) -> None:
    """Given no room, a run waits, and explain() tells for what, since when, where, and who holds it."""
    busy = Gate("busy")

    @agent(name="s14-keeper")
    async def keeps(turn: Turn) -> None:
        await busy.reach()

    one = runtime(slots=4, residents=2)
    if was == "on disk":
        for name in ("first", "second"):
            one.spawn(echo, f"/fourteen/{name}", input=0).run.result(DEADLINE)
    keepers = [one.spawn(keeps, f"/fourteen/k{n}", input=None) for n in range(2)]
    busy.await_arrivals(2)
    before = time.time()
    if was == "on disk":
        first = one.agent("/fourteen/first")
        run = first.followup(1)
    else:
        first = one.spawn(echo, "/fourteen/first", input=1)
        run = first.run
    why = asked_until(first.explain, lambda why: why.waits_for == "room")
    if was == "on disk":
        second = one.agent("/fourteen/second")
        last = second.followup(2)
    else:
        second = one.spawn(echo, "/fourteen/second", input=2)
        last = second.run
    then = asked_until(second.explain, lambda why: why.waits_for == "room")

    assert why.status == ("queued" if was == "on disk" else "starting")
    assert why.place == 0
    assert set(why.held_by) == {keeper.path for keeper in keepers}
    assert before <= why.since <= time.time()
    assert then.place == 1
    assert then.since >= why.since
    assert first.explain().since == why.since
    assert one.stats().resident == 2
    assert one.stats().slots_taken == 2  # two slots are free: they are not what is missing

    busy.open()
    assert run.result(DEADLINE) == 1
    assert last.result(DEADLINE) == 2
    after = asked_until(second.explain, lambda why: why.status == "idle")
    assert (after.waits_for, after.place, after.held_by) == (None, None, ())


def test_14_pins_that_take_all_the_room_are_named(runtime: MakeRuntime) -> None:
    """Given only pinned residents, a newcomer waits for room and learns whose pins those are."""
    one = runtime(residents=1)
    pinned = one.spawn(echo, "/fourteen/pinned", input=None)
    pinned.run.result(DEADLINE)
    pinned.pin()
    newcomer = one.spawn(echo, "/fourteen/newcomer", input="in")

    why = asked_until(newcomer.explain, lambda why: why.waits_for == "room")
    assert why.held_by == ("/fourteen/pinned",)
    pinned.unpin()
    assert newcomer.run.result(DEADLINE) == "in"


# 15


def test_15_a_thousand_agents_leave_nothing_behind(runtime: MakeRuntime) -> None:
    """Given 1,000 agents completed, processes, threads, descriptors and tasks are as before.

    A third of them are `async` functions, a third plain ones on threads, a third objects that open and
    close; every tenth is closed, the others stay, on disk all but eight.
    """
    elsewhere = sessions()
    loops: list[asyncio.AbstractEventLoop] = []
    opened: list[str] = []
    closed: list[str] = []

    @agent(name="s15-async")
    async def plain(turn: Turn) -> int:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return turn.input

    @agent(name="s15-thread")
    def threaded(turn: SyncTurn) -> int:
        turn.state["seen"] = turn.input
        return turn.input

    @agent(name="s15-object")
    class Object:
        async def open(self, info: Any) -> None:
            opened.append(info.path)
            self.path = info.path

        async def run(self, turn: Turn) -> int:
            return turn.input

        async def close(self) -> None:
            closed.append(self.path)

    kinds = (plain, threaded, Object)
    one = runtime(residents=8, slots=4)

    def batch(name: str, count: int) -> None:
        refs = [one.spawn(kinds[n % 3], f"/{name}/a{n}", input=n) for n in range(count)]
        assert [ref.run.result(60.0) for ref in refs] == list(range(count))
        for ref in refs[::10]:
            ref.close()

    batch("before", 12)
    loop = loops[0]
    baseline = quiet_census(one, loop)

    batch("fifteen", 1000)

    census = asked_until(lambda: quiet_census(one, loop), lambda now: now <= baseline)
    assert census.processes == baseline.processes
    stats = one.stats()
    assert stats.agents == 1012 - 100 - 2
    assert stats.resident <= 8
    # closed as often as opened, but for those that are in memory still
    assert Counter(opened) - Counter(closed) == Counter(
        info.path for info in one.list(limit=2000) if info.resident and info.kind == "s15-object"
    )
    assert not Counter(closed) - Counter(opened)
    # one that has just ended is let go of when its actor's exit has been handled
    left = asked_until(lambda: gc.collect() * 0 + len(sessions() - elsewhere), lambda count: count <= 8)
    assert left <= 8
    assert all(count == 1 for count in Counter(opened).values())


def sessions() -> set[int]:
    """The session actors that this process holds anywhere, those of closed runtimes too."""
    return {id(thing) for thing in gc.get_objects() if type(thing).__name__ == "AgentActor"}


class Census:
    """What a process has that can be left over."""

    def __init__(self, tasks: int) -> None:
        own = Path("/proc/self")
        self.processes = sum(
            len((task / "children").read_text().split()) for task in (own / "task").iterdir()
        )
        self.threads = len(os.listdir(own / "task"))
        self.descriptors = len(os.listdir(own / "fd"))
        self.tasks = tasks

    def __le__(self, other: "Census") -> bool:
        return all(value <= vars(other)[name] for name, value in vars(self).items())

    def __repr__(self) -> str:
        return repr(vars(self))


def quiet_census(one: Runtime, loop: asyncio.AbstractEventLoop) -> Census:
    """A census once all work is over; the tasks are counted on their own loop."""
    at_rest(one)
    counted = threading.Event()
    tasks: list[int] = []

    def count() -> None:
        tasks.append(len(asyncio.all_tasks(loop)))
        counted.set()

    loop.call_soon_threadsafe(count)
    assert counted.wait(DEADLINE)
    return Census(tasks[0])
