"""The whole runtime, naively: what was accepted, and what may become of it.

Plain values, and no simulation. It is told what callers were told, and later what was seen to become of it;
it raises `AssertionError`, with the name of the guarantee, at what may not be. It knows nothing of rooms,
journals or sessions: who was promised what, and what a death of the process or the machine takes away.
"""

from collections import Counter

from msgspec import Struct

from .clocks import WallClock
from .scripts import AS_THE_SCRIPT_SAYS, ATTEMPTS, DOES_NOT_OPEN, NO_TEXT, Script

SUSPECT_FROM = 2
"""Crashes after which it is known who may have caused them all."""

SOLO_MARGIN = 0.49
"""Seconds: a suspect is alone for a little more, and as long as it ran before."""

MOST_DOUBTS = 8
"""Crashes of a suspect that are in doubt for ever, as others were at work beside it (decision 0044)."""

LEVELS = ("memory", "process", "power")
"""What was promised, and, but for the first, what may be lost with: the process, or the power."""


def outlives(level: str, loss: str | None) -> bool:
    """Whether what was promised at this level is there after such a loss."""
    return loss is None or LEVELS.index(level) >= LEVELS.index(loss)


def stronger(one: str, other: str) -> str:
    """The greater of two promises."""
    return max(one, other, key=LEVELS.index)


def is_under(path: str, top: str) -> bool:
    """Whether `path` is `top` or below it."""
    return path == top or path.startswith(top + "/")


class Life(Struct):
    """An agent from its spawn to its closing."""

    number: int
    path: str
    kind: str
    level: str
    call: int  # the number of the call that was answered with it
    state: str = "open"  # "open", "closing" (nobody knows yet whether), "closed", "lost"
    mail: dict[str, str] = {}  # messages from outside and their levels

    @property
    def is_open(self) -> bool:
        return self.state == "open"


class Accepted(Struct):
    """A run that somebody was told of."""

    run_id: str
    path: str
    life: int
    kind: str
    script: Script
    level: str  # of its acceptance
    told_at: str  # the level at which its end is told
    call: int
    may_be_interrupted: bool = False
    crashes: int = 0  # how often the process crashed meanwhile
    ran: float = 0.0  # for how long, before its code killed the process
    deaths: int = 0  # how often its code has killed the process, and that is known to it
    begun_at: str = ""  # the level at which its beginnings are recorded
    must_end: bool = False  # an interrupt of it was answered: it has ended when all is at rest
    outcome: str | None = None
    ended_at: float = 0.0
    outcome_level: str = "memory"  # the greatest at which somebody was told
    asked_at: float = 0.0  # it was not accepted before
    before: "Accepted | None" = None  # a run that had its id, and was forgotten


class Specification:
    """What was promised by a runtime of one level, over all its deaths."""

    def __init__(self, level: str) -> None:
        self.level = level
        self.lives: dict[int, Life] = {}
        self.runs: dict[str, Accepted] = {}
        self.asked: set[str] = set()  # run ids, accepted or not
        self.perhaps: dict[str, Accepted] = {}  # accepted and not recorded, for all that anybody knows
        self.given_again: Counter[str] = Counter()  # run ids, to other runs
        self.erased: set[str] = set()  # paths of which something was deleted: their runs may be gone
        self.raises = self.cancels = self.hangs = False  # turns, for no reason of their own
        self.reads_fail = False
        self.ends_may_be_old = False  # the store was away for longer than an end has to be kept
        self.clock = WallClock()
        self.deaths = 0  # of the process
        self.least_age: float | None = None  # if little is kept: what nobody may prune is younger
        self.interrupted_by_turns: set[str] = set()
        self.calls = 0

    @property
    def prunes(self) -> bool:
        return self.least_age is not None

    @property
    def somebody_dies(self) -> bool:
        """Whether the process may die of somebody's code."""
        return any(run.script.dies and run.outcome is None for run in self.runs.values())

    # What callers were told

    def effective(self, level: str | None) -> str:
        """The level of a call: its own, or the runtime's; a disk that always flushes flushes this, too."""
        level = level or self.level
        return "power" if self.level == "power" and level == "process" else level

    def born(self, path: str, kind: str, level: str, number: int) -> Life:
        life = self.lives[number] = Life(number, path, kind, level, self.calls)
        return life

    def at(self, path: str) -> Life | None:
        """The agent that is open there, for all that is known."""
        return next((life for life in self.open() if life.path == path), None)

    def open(self) -> list[Life]:
        return [life for life in self.lives.values() if life.state in ("open", "closing")]

    def accepted(self, run: Accepted) -> None:
        """Once more is the same run, and a promise may become a greater one."""
        self.perhaps.pop(run.run_id, None)
        known = self.runs.setdefault(run.run_id, run)
        known.begun_at = known.begun_at or known.level
        known.level = stronger(known.level, run.level)

    def accepted_anew(self, run: Accepted) -> None:
        """An id that was given before is another run now: the one before was forgotten."""
        self.given_again[run.run_id] += 1
        run.begun_at = run.level
        self.runs[run.run_id] = run

    def accepted_before(self, run: Accepted, loss: str | None) -> None:
        """A run was lost, and with it that one was forgotten which had its id before."""
        assert not outlives(run.level, loss), f"G3: {run} was forgotten, and {run.before} is back"
        assert run.before is not None
        self.runs[run.run_id] = run.before

    def may_interrupt(
        self, path: str, *, cascade: bool = False, run_id: str | None = None
    ) -> list[Accepted]:
        """Somebody asked for it: whatever has not ended by now may be interrupted, and nothing later."""
        covered = [
            run
            for run in (*self.runs.values(), *self.perhaps.values())
            if (run.path == path and run_id in (None, run.run_id))
            or (cascade and run.path != path and is_under(run.path, path))
            if run.outcome is None
        ]
        for run in covered:
            run.may_be_interrupted = True
        return covered

    def closing(self, path: str, *, erase: bool) -> list[Life]:
        self.may_interrupt(path, cascade=True)
        below = [life for life in self.open() if is_under(life.path, path)]
        for life in below:
            life.state = "closing"
        if erase:
            self.erased |= {life.path for life in below}
        return below

    # What was seen to become of it

    def ended(self, run_id: str, status: str, error: str | None, level: str, at: float) -> None:
        """G2: somebody was told of the end of a run. It is one that was possible, and the only one."""
        run = self.runs.get(run_id)
        if run is None:
            return  # an agent's own
        if run.outcome is None:
            assert self.possible(run, status, error), f"G2: {run} is {status}: {error}"
        else:
            assert run.outcome == status, f"G2: {run} is {status}: {error}"
        run.outcome, run.ended_at = status, at
        run.outcome_level = stronger(run.outcome_level, level)

    def possible(self, run: Accepted, status: str, error: str | None) -> bool:
        script = run.script
        if status == "completed":
            return not script.fails and not script.dies and not (script.hangs and run.kind != "model.plain")
        if status == "interrupted":
            return run.may_be_interrupted or run.path in self.interrupted_by_turns
        told = error or ""
        return (
            (script.fails and (NO_TEXT if script.unspeakable else AS_THE_SCRIPT_SAYS) in told)
            or (
                run.kind != "model.once" and run.crashes >= ATTEMPTS and "which is all its attempts" in told
            )
            or (run.kind == "model.once" and run.crashes > 0 and "does not begin again" in told)
            or (self.cancels and "CancelledError" in told)
            or (run.kind == "model.house" and "could not start" in told)
            or (run.kind == "model.house" and DOES_NOT_OPEN in told)
            or (run.kind == "model.house" and told == "its turn took longer than 4 s")
            or (self.raises and "InjectedFault" in told)
            or (self.reads_fail and ("disk" in told or "InjectedFault" in told))
        )

    def closes(self, *, interrupt: bool) -> None:
        """Closing ends no run, unless it is asked to, or the run may begin but once."""
        for run in (*self.runs.values(), *self.perhaps.values()):
            if interrupt or run.kind == "model.once":
                run.may_be_interrupted = True

    def process_ended(self, *, crashed: bool, killer: str | None = None, ran: float | None = None) -> None:
        """`killer`: the run whose code has killed it, after `ran` seconds. It is found out by its third
        death, unless it took longer than before; from then on nobody else may suffer from it (G15)."""
        self.deaths += crashed
        guilty = self.runs.get(killer or "")
        known = guilty is not None and ran is not None and self._dies_again(guilty, ran)
        for run in self.runs.values():
            suffers = not known or run is guilty or run.kind == "model.once"  # which begins once
            run.crashes += crashed and suffers and run.outcome is None
            run.must_end = False  # whether it was written down, nobody knows

    def _dies_again(self, run: Accepted, ran: float) -> bool:
        """Whether the runtime must know by now who it is that dies."""
        if not outlives(stronger(run.begun_at or "memory", "memory"), "process"):
            return False  # that it has begun is forgotten each time
        late, run.ran = run.deaths >= SUSPECT_FROM and ran > run.ran + SOLO_MARGIN, max(run.ran, ran)
        if late:
            return False
        run.deaths += 1
        others = self.deaths - run.deaths
        assert run.deaths <= SUSPECT_FROM + ATTEMPTS + MOST_DOUBTS + others, (
            f"G15: {run} has killed the process {run.deaths} times, and begins again"
        )
        return run.deaths > SUSPECT_FROM

    # What is left

    def found(self, lives: set[int], runs: dict[str, str], loss: str | None, now: float) -> None:
        """G3: after a loss, which agents are open and how the runs stand that are known. Nothing that
        outlives it is gone; and what is left is all up to some moment: of two promises, made one after
        the other, the later one is not kept alone."""
        lost: list[int] = []
        kept: list[int] = []
        for life in self.lives.values():
            self._found_life(life, life.number in lives, loss, lost, kept)
        for run in list(self.runs.values()):
            status = runs.get(run.run_id)
            if status is not None:
                self._found_run(run, status, loss)
                kept.append(run.call)
            elif run.path not in self.erased and not self.may_be_pruned(run, now):
                assert not outlives(run.level, loss), f"G3: {run} was forgotten"
                del self.runs[run.run_id]
                lost.append(run.call)
        assert max(kept, default=0) <= min(lost, default=self.calls), f"G3: kept {kept}, and lost {lost}"

    def _found_life(
        self, life: Life, there: bool, loss: str | None, lost: list[int], kept: list[int]
    ) -> None:
        match life.state, there:
            case "open", False:
                assert not outlives(life.level, loss), f"G3: {life} is gone"
                life.state = "lost"
                lost.append(life.call)
            case "closed", True:
                assert not outlives(self.level, loss), f"G3: {life} is open again"
                life.state = "open"
            case "closing", False:
                life.state = "closed"
            case "closing", True:
                life.state = "open"
            case "lost", True:
                raise AssertionError(f"G3: {life} is back")
        if there:
            kept.append(life.call)
            life.level = stronger(life.level, "process")  # it is in the file now
        life.mail = {text: level for text, level in life.mail.items() if outlives(level, loss)}

    def _found_run(self, run: Accepted, status: str, loss: str | None) -> None:
        if loss is not None and not outlives(run.begun_at, loss):
            run.deaths = 0
        run.told_at = stronger("process", self.level)
        run.level = stronger(run.level, "process")
        run.begun_at = run.told_at
        if run.outcome not in (None, status):
            assert not outlives(run.outcome_level, loss), f"G3: {run} was told, and is {status}"
            run.outcome, run.outcome_level = None, "memory"
            run.crashes += 1  # as far as anybody can know now, its turn was cut off

    def may_be_erased(self, path: str) -> bool:
        """Whether an agent at this path was deleted, and what it told with it."""
        return any(is_under(path, top) for top in self.erased)

    def may_be_pruned(self, run: Accepted, now: float) -> bool:
        """Whether a run that ended may be forgotten by now."""
        return run.outcome is not None and self.is_old(run.ended_at, now)

    def is_old(self, shown: float, now: float) -> bool:
        """Whether what was stamped with this time may be forgotten by now, which is a true time."""
        return self.least_age is not None and self.clock.may_be_past(shown, self.least_age, now)
