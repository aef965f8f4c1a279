"""A simulated runtime and its deaths: how calls are made, and what is found by the process that comes next.

A call that a crash cut off, or that the disk refused, is a question: what came of it is found out later,
and either answer is right.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from greenroom import AgentInfo, BacklogFull, RunNotFound, StoreError
from greenroom.testing import Crashed, Faults, Simulation

from .clocks import ROUNDING
from .observing import File, Observed, Witness, true_time
from .readers import slow_readers
from .scripts import EXECUTING
from .specification import Accepted, Specification, outlives, stronger

Question = Callable[[], None]


class Process:
    """A runtime that only this makes calls to, one process after the other."""

    def __init__(self, simulation: Simulation, *, slots: int, residents: int, level: str) -> None:
        EXECUTING.begin()
        self.simulation = simulation
        self.slots, self.residents = slots, residents
        self.spec = Specification(level)
        self.witness = Witness()
        self.pinned: dict[str, bool] = {}  # paths; whether it was seen in memory since
        self.deaths = 0  # by crashes
        self.loss: str | None = None  # by the deaths since it was open the last time
        self.lives = 0
        self.made = 0
        self.limbo: list[Question] = []
        self.unsure: dict[str, Accepted] = {}  # runs that there may be by ids that were given before
        self.death = "process"  # what a death by chance may take away
        self.closing_took: tuple[float, float] = (0.0, 0.0)  # the drain time, and how long it took
        self.killer: str | None = None  # of the process that has just died
        self.store_is_away = self.looking = False
        self.away_since = 0.0
        self._let_code_kill()
        self.readers = slow_readers(simulation)

    def _let_code_kill(self) -> None:
        """A process dies before its next step when code says so, but while somebody looks."""
        simulation, before_step = self.simulation, self.simulation._before_step

        def step() -> None:
            who = EXECUTING.dying
            if who is not None and not self.looking:
                self.killer = who
                simulation._die(power=False)
                raise Crashed(f"{who} has killed the process")
            before_step()

        simulation._before_step = simulation.loop.before_step = step  # type: ignore[method-assign]

    @property
    def now(self) -> float:
        """The true time, whatever the clock shows."""
        return true_time(self.simulation)

    # How calls are made

    def attempt(self, call: Callable[[], Any], unknown: Question = lambda: None) -> Any:
        """Make a call. If it was cut off, `unknown` finds out later what came of it."""
        self.spec.calls += 1
        try:
            return call()
        except Crashed:
            self.crashed(self.death)
            self.limbo.append(unknown)
        except StoreError:  # the disk fails, and this call wanted it
            self.limbo.append(unknown)
        except BacklogFull:
            pass
        return None

    def quietly(self, call: Callable[[], Any]) -> Any:
        """Ask while nothing goes wrong."""
        faults, looking, self.looking = self.simulation.faults(), self.looking, True
        try:
            return call()
        finally:
            self.looking = looking
            self.simulation.faults(faults)

    def ref(self, path: str) -> Any:
        """The agent at a path where one is known to be open."""
        life = self.spec.at(path)
        if life is None or not life.is_open or not self.simulation.is_up:
            return None
        return self.attempt(lambda: self.simulation.agent(path))

    def look(self) -> Observed | None:
        """What can be seen from outside now; None while nothing is up."""
        if not self.simulation.is_up:
            return None
        return self.quietly(lambda: self.witness.look(self.simulation, self.spec))  # type: ignore[no-any-return]

    # The end of a process, and the next one

    def trouble(self, faults: Faults) -> None:
        """Have this go wrong from now on."""
        self.simulation.faults(faults)
        self.death = "power" if faults.power else "process"
        spec = self.spec
        spec.raises = spec.raises or bool(faults.turn_raises)
        spec.cancels = spec.cancels or bool(faults.turn_cancels)
        spec.hangs = spec.hangs or bool(faults.turn_hangs)
        spec.reads_fail = spec.reads_fail or bool(faults.read_fails)

    def clock_jumps(self, off: float) -> None:
        """The wall clock shows so many seconds more than is right, or less, until it is set again."""
        self.look()
        self.spec.clock.jumps(self.now, off)
        self.simulation.set_clock_off(off)

    def take_store_away(self) -> None:
        """Its file is moved away and another one is in its place: what is committed now is lost with
        this process, and so must be called durable by nobody."""
        if self.simulation.is_up and not self.store_is_away:
            self.simulation.take_store_away()
            self.store_is_away = True
            self.away_since = self.now

    def put_store_back(self) -> None:
        if self.store_is_away:
            spec = self.spec
            away = self.now - self.away_since
            spec.ends_may_be_old |= spec.least_age is not None and away >= spec.least_age
            self.simulation.put_store_back()
            self.store_is_away = False
            self.settle()

    def crashed(self, loss: str) -> None:
        killer, self.killer = self.killer, None
        if killer is not None:
            loss = "process"
        self.store_is_away = False
        self.loss = stronger(self.loss or "memory", loss)
        self.pinned.clear()
        self.deaths += 1
        begun = File.read(self.simulation.image()).started.get(killer or "")
        ran = None if begun is None else self.now - self.spec.clock.earliest(begun)
        self.spec.process_ended(crashed=True, killer=killer, ran=ran)
        runs = self.spec.runs
        EXECUTING.forget(
            run_id
            for run_id in EXECUTING.executed
            if not outlives(runs[run_id].begun_at if run_id in runs else self.spec.level, loss)
        )
        EXECUTING.died()

    def crash(self, *, power: bool = False) -> None:
        if self.simulation.is_up:
            self.simulation.crash(power=power)
            self.crashed("power" if power else "process")

    def close(self, drain: float, *, interrupt: bool = False) -> None:
        """End the runtime in order."""
        if not self.simulation.is_up:
            return
        self.spec.closes(interrupt=interrupt)
        begun = self.now
        crashed, away = False, self.store_is_away
        try:
            self.simulation.close(drain, interrupt=interrupt)
        except Crashed:
            self.crashed(self.death)
            crashed = True
        except StoreError:  # it says how much was not written
            self.crashed("process")
            crashed = True
        assert crashed or not away, "G3: the store is not where it was, and closing says nothing"
        self.closing_took = (drain, self.now - begun)
        self.pinned.clear()
        if not crashed:
            self.spec.process_ended(crashed=False)
        EXECUTING.died()

    def reopen(self) -> None:
        """Begin the next process, as often as it takes, and find out what was left to it: one is up."""
        self.settle()
        while not self.simulation.is_up:
            self.spec.clock.believed()
            try:
                self.simulation.reopen()
            except Crashed:
                self.crashed(self.death)
            else:
                self.readers = slow_readers(self.simulation)
                self.quietly(self._find)
                self.settle()

    def _find(self) -> None:
        loss, self.loss = self.loss, None
        agents = self.simulation.list()
        lives = {number for info in agents if (number := number_of(info)) is not None}
        runs: dict[str, str] = {}
        for run_id in list(self.spec.runs):
            with suppress(RunNotFound):
                info = self.simulation.run(run_id).info()
                self._is_there(run_id, info.accepted_at, loss)
                runs[run_id] = info.status
        self.spec.found(lives, runs, loss, self.now)
        self.witness.found(self.simulation, self.spec, loss)

    def _is_there(self, run_id: str, accepted_at: float, loss: str | None) -> None:
        """Which of the runs that had this id is there, by when it was accepted."""
        new, run = self.unsure.pop(run_id, None), self.spec.runs[run_id]
        at = self.spec.clock.earliest(accepted_at) + ROUNDING
        if new is not None and at >= new.asked_at:
            self.accepted_anew(new)
        elif at < run.asked_at:
            self.spec.accepted_before(run, loss)

    def accepted_anew(self, run: Accepted) -> None:
        """An id that was given before is this run now."""
        self.spec.accepted_anew(run)
        self.witness.file_ends.pop(run.run_id, None)

    def level_found(self, deaths: int) -> str:
        """The level of what is there and was promised to nobody: on disk, if another process finds it."""
        return "process" if self.deaths > deaths else "memory"

    def settle(self) -> None:
        """Find out what became of calls that were cut off; of those that a store which is away could
        not record, nothing is certain before it is back or the process is gone."""
        while self.limbo and self.simulation.is_up and not self.store_is_away:
            question = self.limbo.pop(0)
            try:
                question()
            except (Crashed, StoreError) as error:
                if isinstance(error, Crashed):
                    self.crashed(self.death)
                self.limbo.append(question)
                return


def number_of(info: AgentInfo) -> int | None:
    """Which life it is, by its config; None for one that an agent spawned."""
    return info.config["life"] if info.config else None
