"""Scenarios 32 to 38: an agent is spawned, its session opens in the background, or does not.

Told through the public calls. `how` is how a kind's `open` takes being called off (see `waiting_at`): the
contract holds for code that listens, for code that swallows its cancellation and for code on a thread.
"""

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from greenroom import AgentInfo, Event, Run, RunFailed, Runtime, Turn, agent

from .conftest import DEADLINE, Gate, Later, Witness, asked_until, promptly, waiting_at

MakeRuntime = Callable[..., Runtime]
MakeWitness = Callable[..., Witness]

AT_ONCE = 60.0
"""Seconds for an answer that waits for nobody. It takes a millisecond; the rest is for busy machines."""

HOW = ["listens", "deaf", "thread"]


@agent(name="c-echo")
async def echo(turn: Turn) -> Any:
    turn.state["runs"] = turn.state.get("runs", 0) + 1
    return turn.input


# 32


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("with_input", [False, True])
def test_32_a_spawn_does_not_wait_for_open_and_shows_the_agent_as_starting(
    runtime: MakeRuntime, how: str, with_input: bool
) -> None:
    """Given an `open` that has not ended, the call returns, and the agent is `starting`."""
    opening = Gate("opening")

    @agent(name=f"s32-slow-{how}")
    class Slow:
        open = waiting_at(opening, how)

        async def run(self, turn: Turn) -> Any:
            return turn.input

    one = runtime()
    for number in range(5):
        if with_input:
            ref = promptly(one.spawn, Slow, f"/slow/a{number}", input=number, within=AT_ONCE)
        else:
            ref = promptly(one.spawn, Slow, f"/slow/a{number}", within=AT_ONCE)
    opening.await_arrivals(5)
    listed = promptly(one.list, "/slow", status="starting", within=AT_ONCE)
    assert [info.path for info in listed] == [f"/slow/a{n}" for n in range(5)]
    info = ref.info()
    assert (info.status, info.resident, info.error) == ("starting", True, None)
    why = ref.explain()
    assert (why.waits_for, why.status) == ("session", "starting")
    run = ref.run if with_input else promptly(ref.followup, 4, within=AT_ONCE)
    promptly(ref.send, "mail", within=AT_ONCE)
    assert not run.done()
    assert ref.info().queued_runs == 1
    assert ref.evict() is False  # an agent that is starting is never evicted
    assert one.spawn(echo, "/other", input="in").run.result(DEADLINE) == "in"

    opening.open()
    assert run.result(DEADLINE) == 4
    asked_until(ref.info, lambda info: info.status == "idle")
    assert opening.arrivals == 5


# 33


def _raises() -> None:
    raise RuntimeError("the reason")


def _exits() -> None:
    raise SystemExit("the reason")


def _cancels() -> None:
    raise asyncio.CancelledError("the reason")


@pytest.mark.parametrize("fails", [_raises, _exits, _cancels])
@pytest.mark.parametrize("where", ["on the loop", "on a thread"])
def test_33_an_open_that_fails_is_closed_once_and_its_reason_is_told(
    runtime: MakeRuntime, witness: MakeWitness, where: str, fails: Callable[[], None]
) -> None:
    """Given `open` fails, `close` is called once, tasks are stopped, and all who wait learn the reason."""
    opening, helping = Gate("opening"), Gate("helping")
    made: list[Any] = []
    closes: list[Any] = []
    works: list[bool] = []

    class Common:
        def __init__(self) -> None:
            made.append(self)
            self.helper: asyncio.Task[None] | None = None

        async def run(self, turn: Turn) -> Any:
            return turn.input

        async def close(self) -> None:
            closes.append(self)
            if self.helper is not None:
                self.helper.cancel()

    name = f"s33-{where[3:]}-{fails.__name__}"
    if where == "on the loop":

        @agent(name=name)
        class Failing(Common):
            async def open(self, info: AgentInfo) -> None:
                if works:
                    return
                self.helper = asyncio.create_task(helping.reach())
                await opening.reach()
                fails()
    else:

        @agent(name=name)
        class Failing(Common):
            def open(self, info: AgentInfo) -> None:
                if works:
                    return
                opening.reach_on_thread()
                fails()

    one = runtime()
    events = witness(one)
    ref = one.spawn(Failing, "/failing", input=1)
    opening.await_arrivals()
    second = ref.followup(2)
    opening.open()

    for run in (ref.run, second):
        outcome = run.outcome(DEADLINE)
        assert outcome.status == "failed"
        assert outcome.started_at is None
        if fails is not _cancels:
            assert "the reason" in outcome.error
        with pytest.raises(RunFailed):
            run.result(DEADLINE)
    events.await_event("agent.start_failed", "/failing")
    info = asked_until(ref.info, lambda info: not info.resident)
    assert info.status == "failed"
    assert info.error
    if fails is not _cancels:
        assert "the reason" in info.error
        assert "the reason" in ref.explain().text
    assert closes == made
    assert len(made) == 1
    if where == "on the loop":
        helping.await_ends()
        assert helping.cancelled == 1
    stats = one.stats()
    assert (stats.resident, stats.slots_taken, stats.queued) == (0, 0, 0)

    works.append(True)  # the next run tries again
    assert promptly(ref.followup, 3, within=AT_ONCE).result(DEADLINE) == 3
    asked_until(ref.info, lambda info: info.status == "idle" and info.error is None)
    assert len(closes) == 1
    assert one.spawn(echo, "/other", input="in").run.result(DEADLINE) == "in"


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_33_a_kind_that_cannot_even_be_made_fails_its_agent_alone(
    runtime: MakeRuntime, error: type[BaseException]
) -> None:
    """The same for the constructor and for a state that cannot be made; there is nothing to close."""

    @agent(name="s33-unmade")
    class Unmade:
        def __init__(self) -> None:
            raise error("not made")

        async def run(self, turn: Turn) -> None: ...

    def no_state() -> Any:
        raise error("no state")

    @agent(name="s33-stateless", state=no_state)
    async def stateless(turn: Turn) -> None: ...

    one = runtime()
    for kind, reason in ((Unmade, "not made"), (stateless, "no state")):
        ref = one.spawn(kind, f"/failing/{reason.replace(' ', '-')}", input=1)
        outcome = ref.run.outcome(DEADLINE)
        assert (outcome.status, reason in outcome.error) == ("failed", True)
        info = asked_until(ref.info, lambda info: not info.resident)
        assert info.status == "failed"
        assert reason in info.error
    other = promptly(one.spawn, echo, "/other", input="in", within=AT_ONCE)
    assert other.run.result(DEADLINE) == "in"


def test_33_a_close_that_fails_after_open_failed_is_not_called_again(runtime: MakeRuntime) -> None:
    """Given `open` and then `close` fail, the reason told is that of `open`, and close was called once."""
    closes: list[str] = []

    @agent(name="s33-twice")
    class Twice:
        async def open(self, info: AgentInfo) -> None:
            raise RuntimeError("first reason")

        async def run(self, turn: Turn) -> None: ...

        async def close(self) -> None:
            closes.append("closed")
            raise RuntimeError("second reason")

    one = runtime()
    ref = one.spawn(Twice, "/failing", input=1)

    assert "first reason" in ref.run.outcome(DEADLINE).error
    asked_until(ref.info, lambda info: info.status == "failed" and not info.resident)
    assert closes == ["closed"]


@pytest.mark.parametrize("count", [1, 3])
def test_33_a_run_that_comes_while_a_failed_open_is_closed_is_for_the_next_session(
    runtime: MakeRuntime, count: int
) -> None:
    """Given `open` failed and `close` still under way, a run that comes then opens it again, later."""
    closing = Gate("closing")
    made: list[Any] = []

    @agent(name="s33-late")
    class Late:
        def __init__(self) -> None:
            made.append(self)

        async def open(self, info: AgentInfo) -> None:
            if self is made[0]:
                raise RuntimeError("the reason")

        async def run(self, turn: Turn) -> Any:
            return turn.input

        async def close(self) -> None:
            await closing.reach()

    one = runtime()
    ref = one.spawn(Late, "/failing", input="first")
    closing.await_arrivals()
    assert ref.run.outcome(DEADLINE).status == "failed"

    runs = [promptly(ref.followup, n, within=AT_ONCE) for n in range(count)]
    asked_until(one.stats, lambda stats: stats.queued == count)
    closing.open()

    assert [run.result(DEADLINE) for run in runs] == list(range(count))
    assert len(made) == 2
    assert asked_until(ref.info, lambda info: info.status == "idle").error is None


# 34


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("ends", ["well", "badly"])
@pytest.mark.parametrize("told", ["close", "delete"])
def test_34_the_end_of_an_old_start_leaves_the_new_agent_alone(
    runtime: MakeRuntime, witness: MakeWitness, caplog: Any, how: str, ends: str, told: str
) -> None:
    """Given an old start pending, its agent closed and a new one at its path, its end changes nothing."""
    old, over = Gate("old"), Gate("over")
    made: list[Any] = []
    closes: list[Any] = []
    wait_at_old = waiting_at(old, how)

    class Common:
        def __init__(self) -> None:
            made.append(self)

        async def run(self, turn: Turn) -> Any:
            turn.state["runs"] = turn.state.get("runs", 0) + 1
            return turn.input

        async def close(self) -> None:
            closes.append(self)

    if how == "thread":

        @agent(name=f"s34-{how}")
        class Opening(Common):
            def open(self, info: AgentInfo) -> None:
                if self is not made[0]:
                    return
                try:
                    wait_at_old(self)
                    if ends == "badly":
                        raise RuntimeError("too late")
                finally:
                    over.open()
    else:

        @agent(name=f"s34-{how}")
        class Opening(Common):
            async def open(self, info: AgentInfo) -> None:
                if self is not made[0]:
                    return
                try:
                    await wait_at_old(self)
                    if ends == "badly":
                        raise RuntimeError("too late")
                finally:
                    over.open()

    one = runtime()
    events = witness(one)
    first = one.spawn(Opening, "/reborn", input="old")
    old.await_arrivals()
    promptly(getattr(first, told), within=AT_ONCE)
    second = promptly(one.spawn, Opening, "/reborn", config={"new": True}, input="new", within=AT_ONCE)
    assert second.run.result(DEADLINE) == "new"
    before = second.info()

    old.open()
    old.await_ends()
    asked_until(lambda: (one.stats(), len(closes))[1], lambda count: count == 1)

    assert closes == [made[0]]
    assert len(made) == 2
    after = second.info()
    assert (after.status, after.resident, after.error) == ("idle", True, None)
    assert (after.incarnation, after.config) == (before.incarnation, {"new": True})
    assert second.state() == {"runs": 1}
    assert second.followup("again").result(DEADLINE) == "again"
    gc.collect()
    # What the watchdog says of a busy machine is not about this agent.
    logged = [text for record in caplog.records if "open()" in (text := record.getMessage())]
    late = f"/reborn (s34-{how}): open() failed after it was given up: RuntimeError: too late"
    fails_late = ends == "badly" and how != "listens"
    assert [line.partition("; ")[0] for line in logged] == ([late] if fails_late else [])
    assert second.state() == {"runs": 2}
    if told == "close":
        assert first.run.outcome(DEADLINE).status == "interrupted"
    stats = asked_until(one.stats, lambda stats: stats.resident == 1)
    assert (stats.agents, stats.slots_taken, stats.queued) == (1, 0, 0)
    events.await_event("run.completed", "/reborn", count=2)
    assert len(events.seen("agent.spawned", "/reborn")) == 2
    assert len(events.seen("agent.started", "/reborn")) == 1
    assert not events.seen("agent.start_failed", "/reborn")


# 35


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("residents", [1, 2])
@pytest.mark.parametrize("told", ["close", "delete"])
def test_35_closing_an_agent_that_opens_is_prompt_and_final(
    runtime: MakeRuntime, witness: MakeWitness, how: str, told: str, residents: int
) -> None:
    """Given an `open` under way, when that agent is closed and others are used, all of it is prompt."""
    opening = Gate("opening")
    executed: list[Any] = []
    closes: list[Any] = []

    @agent(name=f"s35-{how}")
    class Opening:
        open = waiting_at(opening, how)

        async def run(self, turn: Turn) -> None:
            executed.append(turn.input)

        async def close(self) -> None:
            closes.append(self)

    one = runtime(slots=2, residents=residents)
    events = witness(one)
    ref = one.spawn(Opening, "/parent/opening", input="never")
    opening.await_arrivals()
    waiter = Later(ref.run.outcome, DEADLINE)

    promptly(getattr(ref, told), within=AT_ONCE)
    others = [promptly(one.spawn, echo, f"/other{n}", input=n, within=AT_ONCE) for n in range(4)]
    assert [other.run.result(DEADLINE) for other in others] == [0, 1, 2, 3]
    if told == "close":
        assert waiter.get().status == "interrupted"
        assert [info.path for info in one.list(status="closed")] == ["/parent/opening"]
    assert promptly(one.list, "/parent", within=AT_ONCE) == []

    opening.open()
    asked_until(lambda: (one.stats(), len(closes))[1], lambda count: count == 1)
    ended = "agent.closed" if told == "close" else "agent.deleted"
    last = events.await_event(ended, "/parent/opening")

    assert one.list("/parent") == []
    assert executed == []
    assert len(closes) == 1
    assert opening.arrivals == 1
    later = one.spawn(echo, "/parent/later", input="in")  # the tree itself is well
    assert later.run.result(DEADLINE) == "in"
    events.await_event("run.completed", "/parent/later")
    assert not [e for e in events.seen(path="/parent/opening") if e.seq > last.seq]
    assert not events.seen("agent.started", "/parent/opening")
    stats = asked_until(one.stats, lambda stats: stats.resident <= residents)
    assert (stats.agents, stats.slots_taken) == (5, 0)


@pytest.mark.parametrize("how", HOW)
def test_35_a_runtime_closes_although_an_open_is_under_way(
    runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The same for the runtime itself, whose bounds for sessions (12 s) are half a second here."""
    monkeypatch.setitem(_course_bounds(), "unloading", 0.5)
    opening = Gate("opening")

    @agent(name=f"s35-shut-{how}")
    class Opening:
        open = waiting_at(opening, how)

        async def run(self, turn: Turn) -> Any:
            return turn.input

    one = runtime()
    ref = one.spawn(Opening, "/opening", input="kept")
    opening.await_arrivals()

    promptly(one.close, 0.1, within=5.0)
    opening.open()

    two = runtime()
    assert two.run(ref.run.run_id).result(DEADLINE) == "kept"  # accepted is accepted


def _course_bounds() -> dict[Any, float]:
    from greenroom.actors.supervisor.shutdown import BOUNDS

    return BOUNDS


# 36


@pytest.mark.parametrize("went", ["evicted", "restarted"])
def test_36_two_first_runs_at_once_open_one_session(runtime: MakeRuntime, went: str) -> None:
    """Given an agent on disk, two runs at once open one session, and none is orphaned."""
    opened: list[Any] = []
    closed: list[Any] = []

    @agent(name="s36-counted")
    class Counted:
        async def open(self, info: AgentInfo) -> None:
            opened.append(self)
            await asyncio.sleep(0)

        async def run(self, turn: Turn) -> Any:
            turn.state["runs"] = turn.state.get("runs", 0) + 1
            return turn.input

        async def close(self) -> None:
            closed.append(self)

    one = runtime()
    one.spawn(Counted, "/disk/a", input="first").run.result(DEADLINE)
    rounds = 25 if went == "evicted" else 4
    for number in range(1, rounds + 1):
        if went == "evicted":
            asked_until(one.agent("/disk/a").evict, bool)
        else:
            one.close()
            one = runtime()
        ref = one.agent("/disk/a")
        assert ref.info().resident is False
        assert (len(opened), len(closed)) == (number, number)
        barrier = threading.Barrier(2, timeout=DEADLINE)

        def follow(input: str, ref: Any = ref, barrier: threading.Barrier = barrier) -> Run:
            barrier.wait()
            return ref.followup(input)

        both = [Later(follow, text) for text in ("one", "two")]
        runs = [later.get() for later in both]

        assert [run.result(DEADLINE) for run in runs] == ["one", "two"]
        assert len(opened) == number + 1
        assert ref.info().incarnation == number + 1
        assert one.stats().resident == 1
    assert ref.state() == {"runs": 1 + 2 * rounds}
    one.close()
    assert len(closed) == len(opened)
    assert set(closed) == set(opened)


# 37


@pytest.mark.parametrize("how", HOW)
def test_37_an_open_that_hangs_is_failed_at_its_deadline_and_tried_again_by_the_next_run(
    runtime: MakeRuntime, witness: MakeWitness, how: str
) -> None:
    """Given an `open` that hangs, it is `failed` when its deadline passes, and the next run tries again."""
    never = Gate("never")
    hang = waiting_at(never, how)
    well: list[bool] = []

    if how == "thread":

        @agent(name=f"s37-{how}", open_timeout=0.2)
        class Hanging:
            def open(self, info: AgentInfo) -> None:
                if not well:
                    hang(self)

            async def run(self, turn: Turn) -> Any:
                return turn.input
    else:

        @agent(name=f"s37-{how}", open_timeout=0.2)
        class Hanging:
            async def open(self, info: AgentInfo) -> None:
                if not well:
                    await hang(self)

            async def run(self, turn: Turn) -> Any:
                return turn.input

    one = runtime()
    events = witness(one)
    ref = one.spawn(Hanging, "/hanging", input=1)

    first = ref.run.outcome(DEADLINE)
    assert first.status == "failed"
    assert "0.2 s" in first.error
    failed = asked_until(ref.info, lambda info: not info.resident)
    assert failed.status == "failed"
    assert "0.2 s" in failed.error
    assert one.list(status="starting") == []
    assert [info.path for info in one.list(status="failed")] == ["/hanging"]

    second = ref.followup(2).outcome(DEADLINE)  # hangs again: failed again, not for ever
    assert second.status == "failed"
    events.await_event("agent.start_failed", "/hanging", count=2)
    asked_until(ref.info, lambda info: info.status == "failed" and not info.resident)
    assert never.arrivals == 2

    well.append(True)
    assert ref.followup(3).result(DEADLINE) == 3
    info = asked_until(ref.info, lambda info: info.status == "idle")
    assert (info.error, info.incarnation) == (None, 3)
    assert one.list(status="failed") == []
    stats = one.stats()
    assert (stats.resident, stats.slots_taken, stats.queued) == (1, 0, 0)


def test_37_a_spawn_without_a_run_is_failed_at_its_deadline_too(
    runtime: MakeRuntime, witness: MakeWitness
) -> None:
    """The same when nobody waits: the agent does not stay `starting`."""
    never = Gate("never")

    @agent(name="s37-alone", open_timeout=0.2)
    class Hanging:
        open = waiting_at(never, "listens")

        async def run(self, turn: Turn) -> None: ...

    one = runtime()
    events = witness(one)
    ref = one.spawn(Hanging, "/hanging")

    event = events.await_event("agent.start_failed", "/hanging")
    assert "0.2 s" in event.data["error"]
    assert ref.info().status == "failed"


# 38


@pytest.mark.parametrize("under", ["/", "/watched", "/watched/a"])
def test_38_a_subscriber_sees_an_agent_from_its_first_event_on(
    runtime: MakeRuntime, witness: MakeWitness, under: str
) -> None:
    """Given a subscriber from before the start, it misses nothing of an agent, in order."""
    opening = Gate("opening")

    @agent(name="s38-watched")
    class Watched:
        open = waiting_at(opening, "listens")

        async def run(self, turn: Turn) -> Any:
            turn.emit("step", {"n": 1})
            return turn.input

    one = runtime()
    events = witness(one, under, since=None)
    ref = one.spawn(Watched, "/watched/a", input=1)
    opening.await_arrivals()
    events.await_event("run.accepted", "/watched/a")
    assert not events.seen("agent.started")  # seen before the start has ended
    opening.open()
    assert ref.run.result(DEADLINE) == 1
    events.await_event("run.completed", "/watched/a")

    seen = events.seen(path="/watched/a")
    assert [event.type for event in seen] == [
        "agent.spawned",
        "run.accepted",
        "agent.started",
        "run.started",
        "run.progress",
        "run.completed",
    ]
    assert [event.seq for event in seen] == sorted({event.seq for event in seen})
    assert {event.run_id for event in seen if event.type.startswith("run.")} == {ref.run.run_id}
    replayed = list(one.events(under, since=0, follow=False))  # who comes later reads the same
    assert [event for event in replayed if event.path == "/watched/a"] == seen


def test_38_no_subscriber_ever_misses_the_beginning(runtime: MakeRuntime) -> None:
    """A subscription counts from the call on: 100 streams made just before a spawn, while others spawn."""
    one = runtime()
    stop = threading.Event()

    def others() -> None:
        number = 0
        while not stop.is_set():
            one.spawn(echo, f"/noise/a{number}", input=None)
            number += 1

    noise = Later(others)
    try:
        for number in range(100):
            path = f"/tree/a{number}"
            stream = one.events(path)
            one.spawn(echo, path, input=number)
            events: list[Event] = promptly(_until_completed, stream)
            assert events[0].type == "agent.spawned"
            assert [event.type for event in events].count("agent.started") == 1
            stream.close()
    finally:
        stop.set()
    noise.get()


def _until_completed(stream: Any) -> list[Event]:
    seen = []
    for event in stream:
        seen.append(event)
        if event.type == "run.completed":
            break
    return seen
