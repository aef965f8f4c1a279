"""The whole runtime, naively: what was accepted, what may become of it, and what must never be seen.

`Model` makes public calls on a simulation and keeps a few dictionaries of what they mean. It knows nothing
of rooms, journals or sessions. `check_now` holds at every moment, `check_at_rest` when nothing is left to
happen. Each check names the guarantee that it is about.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from greenroom import (
    AgentClosed,
    AgentInfo,
    AgentNotFound,
    Event,
    OutOfTree,
    PathTaken,
    RunNotFound,
    StoreError,
    SyncTurn,
    Turn,
    agent,
)
from greenroom.testing import Crashed, Faults, Simulation

ATTEMPTS = 3
TERMINAL = ("run.completed", "run.failed", "run.interrupted")


class Script(Struct, frozen=True):
    """What one run does. It completes unless `fails` or `hangs`."""

    sleeps: float = 0.0
    steps: int = 0  # awaits of nothing in particular
    sends: str | None = None  # a message to this path
    children: int = 0  # runs of agents below, which it waits for
    after: bool = False  # … or has a continuation for
    checkpoint: bool = False
    reaches: str | None = None  # a path of another tree
    aside: bool = False  # does its work on a thread
    pauses: bool = False
    fails: bool = False
    hangs: bool = False
    continues: int = 0  # a continuation, after so many runs


class Executing:
    """The turns that execute at this moment, by their own account; empty after each crash."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.now: Counter[str] = Counter()
        self.most = 0
        self.letters = 0
        self.openings = 0
        self.sessions: Counter[tuple[str, float]] = Counter()  # of houses
        self.erased = False  # something was deleted, and its outcomes with it
        self.wrong: list[str] = []  # what a turn saw; raised there it would only fail the run

    def letter(self, run_id: str) -> str:
        """A message unlike all others: a turn that is begun again from its checkpoint sends another."""
        self.letters += 1
        return f"{run_id}, letter {self.letters}"

    def enter(self, path: str) -> None:
        self.now[path] += 1
        self.most = max(self.most, self.now.total())
        if self.now[path] != 1:
            self.wrong.append(f"G1: {self.now[path]} turns of {path} at a time")

    def leave(self, path: str) -> None:
        self.now[path] -= 1

    def waits(self, turn: Turn) -> Callable[[Awaitable[Any]], Awaitable[Any]]:
        """Await without a slot. Interrupted meanwhile, a turn tidies up without one, too."""

        async def wait(what: Awaitable[Any]) -> Any:
            self.leave(turn.path)
            try:
                return await what
            finally:
                if turn.interrupted:
                    self.now[turn.path] += 1  # for it to leave once more
                else:
                    self.enter(turn.path)

        return wait


EXECUTING = Executing()


@agent(name="model.worker", state=lambda: {"done": [], "mail": []}, attempts=ATTEMPTS)
async def worker(turn: Turn) -> str:
    """Does what its script says, and remembers which runs it completed and which messages it read."""
    EXECUTING.enter(turn.path)
    try:
        return await _work(turn)
    finally:
        EXECUTING.leave(turn.path)


async def _work(turn: Turn) -> str:
    script: Script = turn.input
    waits = EXECUTING.waits(turn)
    if script.continues:
        ended = [outcome for outcome in turn.results if f"run.{outcome.status}" in TERMINAL]
        if len(ended) != script.continues and not EXECUTING.erased:
            EXECUTING.wrong.append(f"{turn.run_id} goes on after {len(ended)} of {script.continues} runs")
        return _done(turn)
    for _ in range(script.steps):
        await asyncio.sleep(0)
    if script.sleeps:
        await asyncio.sleep(script.sleeps)
    if script.aside:
        await asyncio.to_thread(str, script)
    if script.reaches is not None:
        try:
            await turn.send(script.reaches, "not mine")
        except (OutOfTree, AgentNotFound, AgentClosed) as error:
            if not isinstance(error, OutOfTree):
                EXECUTING.wrong.append(f"G8: {turn.path} looked for {script.reaches}")
        else:
            EXECUTING.wrong.append(f"G8: {turn.path} reached {script.reaches}")
    if script.sends is not None:
        with suppress(AgentNotFound, AgentClosed):
            await turn.send(script.sends, EXECUTING.letter(turn.run_id))
    if script.checkpoint:
        await turn.checkpoint()
    runs = []
    for number in range(script.children):
        name = f"child{number}"
        with suppress(PathTaken):  # an earlier run's
            await turn.spawn(worker, name)
        runs.append(await turn.followup(name, Script(steps=1)))
    if script.after:
        await turn.after(*runs, input=Script(continues=len(runs)))
    elif runs:
        await waits(turn.wait(*runs))
    if script.pauses:
        await waits(_pause(turn))
    if script.hangs:
        await asyncio.Event().wait()
    result = _done(turn)
    if script.fails:  # after it changed its state: that must not be seen
        raise ValueError("as the script says")
    return result


async def _pause(turn: Turn) -> None:
    async with turn.paused():
        await asyncio.sleep(1)


def _done(turn: Turn | SyncTurn) -> str:
    turn.state["done"].append(turn.run_id)
    turn.state["mail"] += [message.body for message in turn.inbox]
    return turn.run_id


@agent(name="model.plain", state=lambda: {"done": [], "mail": []}, attempts=ATTEMPTS)
def plain(turn: SyncTurn) -> str:
    """The same on a thread, as far as a thread goes."""
    EXECUTING.enter(turn.path)
    try:
        script: Script = turn.input
        if script.sends is not None:
            with suppress(AgentNotFound, AgentClosed):
                turn.send(script.sends, EXECUTING.letter(turn.run_id))
        if script.checkpoint:
            turn.checkpoint()
        result = _done(turn)
        if script.fails:
            raise ValueError("as the script says")
        return result
    finally:
        EXECUTING.leave(turn.path)


@agent(name="model.house", state=lambda: {"done": [], "mail": []}, attempts=ATTEMPTS, open_timeout=1.0)
class House:
    """A worker with something to open and to close, which fails now and then, or never ends."""

    async def open(self, info: AgentInfo) -> None:
        EXECUTING.openings += 1
        self.turn = EXECUTING.openings % 7
        self.key = (info.path, info.created_at)
        EXECUTING.sessions[self.key] += 1
        if EXECUTING.sessions[self.key] != 1:
            EXECUTING.wrong.append(f"G6: {info.path} is open twice")
        await asyncio.sleep(0.05)
        if self.turn == 4:
            raise ValueError("it does not open")
        if self.turn == 6:
            await asyncio.Event().wait()

    async def run(self, turn: Turn) -> str:
        EXECUTING.enter(turn.path)
        try:
            return await _work(turn)
        finally:
            EXECUTING.leave(turn.path)

    async def close(self) -> None:
        try:
            await asyncio.sleep(20.0 if self.turn == 5 else 0.01)  # the former is given up
        finally:
            EXECUTING.sessions[self.key] -= 1


KINDS = (worker, plain, House)


class Accepted(Struct):
    """A run that somebody was told of."""

    run_id: str
    path: str
    life: int
    script: Script
    kind: Any = None
    may_be_interrupted: bool = False
    outcome: tuple[str, Any] | None = None  # the one that was seen


class Life(Struct):
    """An agent from its spawn to its closing."""

    number: int
    path: str
    kind: Any
    runs: list[str] = []
    sent: int = 0  # messages from outside
    incarnation: int = 0
    maybe_closed: bool = False


class Model:
    """What must be true of a simulation that only this made calls to."""

    def __init__(self, simulation: Simulation, *, slots: int, residents: int) -> None:
        EXECUTING.begin()
        self.simulation = simulation
        self.slots, self.residents = slots, residents
        self.open: dict[str, Life] = {}
        self.runs: dict[str, Accepted] = {}
        self.crashes = 0
        self.closings = 0
        self.lives = 0
        self.code_fails = False  # turns raised, or were cancelled, for no reason of their own
        self.made = 0
        self.asked: set[str] = set()
        self.seen: dict[int, Event] = {}
        self.erased: set[str] = set()  # paths of which something was deleted: their runs may be gone
        self.limbo: list[Callable[[], None]] = []  # questions about calls that a crash cut off

    # Calls

    def attempt(self, call: Callable[[], Any], unknown: Callable[[], None] = lambda: None) -> Any:
        """Make a call. If it was cut off by a crash, `unknown` finds out later what came of it."""
        try:
            return call()
        except Crashed:
            self.crashed()
            self.limbo.append(unknown)
            return None
        except StoreError:  # the disk fails, and this call wanted it
            self.limbo.append(unknown)
            return None

    def crashed(self) -> None:
        self.crashes += 1
        EXECUTING.now.clear()
        EXECUTING.sessions.clear()

    def spawn(self, path: str, kind: Any = worker) -> None:
        def settle() -> None:
            if any(info.path == path for info in self.simulation.list(path)):
                self._born(path, kind)

        if path in self.open and not self.open[path].maybe_closed:
            try:
                self.attempt(lambda: self.simulation.spawn(kind, path))
            except PathTaken:
                return
            assert not self.simulation.is_up or self.limbo, f"G7: {path} was spawned twice"
            self.limbo.pop()
            return
        if path not in self.open and self.attempt(lambda: self.simulation.spawn(kind, path), settle):
            self._born(path, kind)

    def _born(self, path: str, kind: Any) -> None:
        self.lives += 1
        self.open[path] = Life(self.lives, path, kind)

    def followups(self, wanted: list[tuple[str, Script]], evicting: str | None = None) -> None:
        """Runs of one agent or several, by callers that are all under way at once.

        Another caller asks for the eviction of the agent at `evicting` meanwhile, again and again.
        """
        asked: list[tuple[Accepted, Life]] = []
        for path, script in wanted:
            life = self.open.get(path)
            if life is None:
                continue
            if life.kind is plain:
                script = replace(script, hangs=False)
            self.made += 1
            self.asked.add(f"r{self.made}")
            asked.append((Accepted(f"r{self.made}", path, life.number, script, life.kind), life))

        async def one(run: Accepted, life: Life) -> None:
            try:
                ref = await self.simulation.aio.agent(run.path)
                await ref.followup(run.script, run_id=run.run_id)
            except (AgentClosed, AgentNotFound):
                assert life.maybe_closed, f"{run.path} is open and refused a run"
            else:
                self._accept(run, life)

        async def evict() -> None:
            if evicting is not None:
                with suppress(AgentClosed, AgentNotFound):
                    ref = await self.simulation.aio.agent(evicting)
                    for _ in range(5):
                        await ref.evict()

        async def all_of_them() -> None:
            callers = [one(run, life) for run, life in asked]
            for error in await asyncio.gather(*callers, evict(), return_exceptions=True):
                if isinstance(error, BaseException):
                    raise error

        def settle() -> None:
            for run, life in asked:
                try:
                    self.simulation.run(run.run_id)
                except RunNotFound:
                    continue
                self._accept(run, life)

        if asked:
            self.attempt(lambda: self.simulation.run(all_of_them()), settle)

    def _accept(self, run: Accepted, life: Life) -> None:
        if run.run_id not in self.runs:
            self.runs[run.run_id] = run
            life.runs.append(run.run_id)

    def again(self, run_id: str) -> None:
        """The same run id twice is the same run."""
        run = self.runs.get(run_id)
        life = self.open.get(run.path) if run else None
        if run is None or life is None or life.number != run.life or life.maybe_closed:
            return
        ref = self.attempt(lambda: self.simulation.agent(run.path))
        if ref is not None:
            self.attempt(lambda: ref.followup(run.script, run_id=run_id))

    def send(self, path: str) -> None:
        life = self.open.get(path)
        if life is None or life.maybe_closed:
            return
        ref = self.attempt(lambda: self.simulation.agent(path))
        if ref is None:
            return
        before = life.sent

        def unknown() -> None:
            life.sent = -1  # nobody can tell any more

        life.sent = before + 1 if before >= 0 else -1
        self.attempt(lambda: ref.send(f"outside {before}"), unknown)

    def interrupt(self, path: str, *, cascade: bool = False) -> None:
        for run in self.runs.values():
            if run.outcome is None and (run.path == path or (cascade and run.path.startswith(path + "/"))):
                run.may_be_interrupted = True
        if path in self.open and not self.open[path].maybe_closed:
            ref = self.attempt(lambda: self.simulation.agent(path))
            if ref is not None:
                self.attempt(lambda: ref.interrupt(cascade=cascade))

    def close_agent(self, path: str, *, erase: bool = False) -> None:
        if path not in self.open or self.open[path].maybe_closed:
            return
        ref = self.attempt(lambda: self.simulation.agent(path))
        if ref is None:
            return
        below = [life for at, life in self.open.items() if at == path or at.startswith(path + "/")]
        for run in self.runs.values():
            if run.outcome is None and (run.path == path or run.path.startswith(path + "/")):
                run.may_be_interrupted = True
        for life in below:
            life.maybe_closed = True
            if erase:
                self.erased.add(life.path)
                EXECUTING.erased = True

        def settle() -> None:
            still = {info.path for info in self.simulation.list(path)}
            for life in below:
                life.maybe_closed = False
                if life.path not in still and self.open.get(life.path) is life:
                    del self.open[life.path]

        self.attempt(ref.delete if erase else ref.close, settle)
        if settle not in self.limbo and self.simulation.is_up:
            faults = self.simulation.faults()
            settle()
            self.simulation.faults(faults)
            assert not any(life.path in self.open for life in below), f"G7: {path} was closed and is open"

    def evict(self, path: str) -> None:
        """G5: nothing that can be seen changes with it, but where it is."""
        if path not in self.open or self.open[path].maybe_closed:
            return
        ref = self.attempt(lambda: self.simulation.agent(path))
        if ref is None:
            return

        def visible() -> Any:
            info = ref.info()
            return info.kind, info.config, info.status, info.inbox, info.last_outcome, ref.state()

        self.simulation.faults()
        self.simulation.run_until_idle()
        before = visible()
        evicted = ref.evict()
        assert visible() == before, "G5: an eviction was seen"
        self.simulation.run_until_idle()
        assert not evicted or not ref.info().resident, f"{path} was evicted and is there"
        assert visible() == before, "G5: an eviction was seen"

    def crash(self, *, power: bool = False) -> None:
        if self.simulation.is_up:
            self.simulation.crash(power=power)
            self.crashed()

    def reopen(self) -> None:
        while not self.simulation.is_up:
            try:
                self.simulation.reopen()
            except Crashed:
                self.crashed()
        self.settle()

    def close(self, drain: float, *, suspend: bool = False) -> None:
        """G11: it takes a bounded time."""
        if not self.simulation.is_up:
            return
        begun = self.simulation.now
        if not suspend:
            for run in self.runs.values():
                run.may_be_interrupted = True
        self.closings += 1
        try:
            self.attempt(lambda: (self.simulation.suspend if suspend else self.simulation.close)(drain))
        finally:
            took = self.simulation.now - begun
            assert took <= drain + 5 + 12 + 60 + 1, f"G11: closing took {took:g} s"
        EXECUTING.now.clear()
        EXECUTING.sessions.clear()

    def settle(self) -> None:
        """Find out what became of calls that were cut off."""
        while self.limbo and self.simulation.is_up:
            question = self.limbo.pop(0)
            try:
                question()
            except (Crashed, StoreError):
                if not self.simulation.is_up:
                    self.crashed()
                self.limbo.append(question)
                return

    # What must be true

    def trouble(self, faults: Faults) -> None:
        """Have this go wrong from now on."""
        self.simulation.faults(faults)
        self.code_fails = self.code_fails or bool(faults.turn_raises or faults.turn_cancels)

    def check_now(self) -> None:
        """At every moment."""
        assert not EXECUTING.wrong, "; ".join(EXECUTING.wrong)
        assert EXECUTING.most <= self.slots, f"G1: {EXECUTING.most} turns at a time, slots={self.slots}"
        if not self.simulation.is_up:
            return
        faults = self.simulation.faults()
        self._check_all()
        self.simulation.faults(faults)

    def _check_all(self) -> None:
        stats = self.simulation.stats()
        assert stats.slots_taken <= self.slots, "G1"
        assert stats.resident <= self.residents + stats.given_way, "G4: more residents than places"
        self.check_events()
        paths = [info.path for info in self.simulation.list()]
        assert len(paths) == len(set(paths)), "G7: two open agents at one path"
        for path, life in self.open.items():
            if not life.maybe_closed:
                assert path in paths, f"G3: {path} was accepted and is gone"

    def check_events(self) -> None:
        # that the store cannot be written is told between the events, and is none
        told = self.simulation.events(since=0, follow=False)
        events = [event for event in told if not event.type.startswith("store.")]
        numbers = [event.seq for event in events]
        assert numbers == sorted(set(numbers)), f"events are not in one order: {numbers}"
        ended: Counter[str] = Counter()
        for event in events:
            known = self.seen.setdefault(event.seq, event)
            assert known == event, f"G3: event {event.seq} was {known}, and is {event}"
            if event.type == "run.accepted" and "after" not in event.data:
                asked = str(event.run_id)
                known_run = asked.startswith("run-") or asked in self.asked
                assert known_run, f"G2: {asked} was accepted, and nobody asked for it"
            if event.type in TERMINAL and event.run_id is not None:
                ended[event.run_id] += 1
                run = self.runs.get(event.run_id)
                if run is not None:
                    self._ended(run, event.type.partition(".")[2], event.data.get("error"))
        for run_id, count in ended.items():
            assert count == 1, f"G2: {run_id} ended {count} times"

    def _ended(self, run: Accepted, status: str, error: str | None) -> None:
        if run.outcome is not None:
            assert run.outcome[0] == status, f"G2: {run.run_id} was {run.outcome}, and is {status}"
            return
        run.outcome = (status, None)
        script = run.script
        match status:
            case "completed":
                assert not script.fails, f"{run} completed"
                assert not script.hangs, f"{run} completed"
            case "failed":
                allowed = script.fails or self.crashes or self.closings or self.code_fails
                assert allowed or run.kind is House, f"{run} failed: {error}"
            case "interrupted":
                assert run.may_be_interrupted or self.code_fails, f"G2: nobody interrupted {run}"

    def check_at_rest(self) -> None:
        """When nothing is left to happen: all is done, once, and written down so."""
        simulation = self.simulation
        simulation.faults()
        self.reopen()
        simulation.run_until_idle()
        self.settle()
        for path, life in list(self.open.items()):
            if not life.maybe_closed:
                simulation.agent(path).interrupt(cascade=True)
        for run in self.runs.values():
            run.may_be_interrupted = run.may_be_interrupted or run.outcome is None
        simulation.run_until_idle()
        self.check_now()
        stats = simulation.stats()
        assert stats.slots_taken == 0, f"G1: {stats.slots_taken} slots never came back"
        assert stats.running == 0
        assert stats.queued == 0, f"G2: {stats.queued} runs never began"
        assert stats.unwritten == 0
        assert stats.given_way == 0
        assert stats.resident <= self.residents, "G4"
        self._check_runs()
        self._check_states()

    def _check_runs(self) -> None:
        accepted = {event.run_id for event in self.seen.values() if event.type == "run.accepted"}
        ended = {event.run_id for event in self.seen.values() if event.type in TERMINAL}
        gone = {run.run_id for run in self.runs.values() if run.path in self.erased}
        assert accepted - ended - gone == set(), f"G2: without an outcome: {accepted - ended - gone}"
        for run in self.runs.values():
            if run.path in self.erased:
                continue
            assert run.outcome is not None, f"G3: {run} was accepted and forgotten"
            outcome = self.simulation.run(run.run_id).outcome()
            assert outcome.status == run.outcome[0], f"G2: {run} and {outcome}"
            if outcome.status == "completed":
                assert outcome.result == run.run_id

    def _check_states(self) -> None:
        completed: dict[str, list[str]] = defaultdict(list)
        since: dict[str, int] = {}
        mail: Counter[str] = Counter()
        for event in self.seen.values():
            if event.type == "agent.spawned":
                since[event.path] = event.seq
                completed[event.path] = []
                mail[event.path] = 0
            elif event.type == "run.completed":
                completed[event.path].append(str(event.run_id))
            elif event.type == "message.accepted":
                mail[event.path] += 1
        for info in self.simulation.list():
            state = self.simulation.agent(info.path).state()
            assert state["done"] == completed[info.path], f"G3: {info.path} has done {state['done']}"
            read = state["mail"]
            assert len(read) == len(set(read)), f"G3: {info.path} read a message twice: {read}"
            assert len(read) + info.inbox == mail[info.path], (
                f"G3: {info.path} has {mail[info.path]} messages and read {read}, {info.inbox} are unread"
            )
            life = self.open.get(info.path)
            if life is not None:
                assert info.incarnation >= life.incarnation, "G6: an incarnation came back"
                life.incarnation = info.incarnation
        for info in self.simulation.list():
            assert info.status in ("idle", "failed"), f"{info} at rest"
