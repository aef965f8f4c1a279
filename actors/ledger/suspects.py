"""Which runs may have ended the process, and which of them may be at work now.

A crash cuts off every turn that is at work, and every session that is being opened for a run; one of them
may have caused it. So a crash is held against nobody at first. Runs that were at work at two crashes are
*suspects*: they begin one at a time, in order of acceptance, beside all other work.

A crash is held against the solo suspect alone, and only once it is clear that none of those beside it was
the cause: each of them has been at work again since, and has ended. Until then it is a *doubt*. A crash
beside one that is found guilty is held against nobody else. A suspect that would fail if its doubts counted
begins after all others. It does not begin while one that it is in doubt about executes: they show first
what they do.

Owns the row of suspects. Knows no actors and no store: `cut_off` and `lost` say how a run stands after a
crash, `verdict` whether it may begin again. The store tells of a crash: see `persistence.SetRun`.
"""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from ...persistence.rows import RunRow
from ...types import RunId, Seconds, Timestamp

SUSPECT_FROM = 2
"""Crashes beside which a run was at work, from which on it begins as a suspect."""

MARGIN: Seconds = 0.5
"""By which a suspect is alone for longer than it ran before: no two turns take the same time."""

UNKNOWN: Seconds = 60.0
"""For which a suspect is alone at most that was never cut off itself: another run of its agent was."""

MOST_DOUBTS = 8
"""Solo crashes beyond a kind's attempts that are never cleared up, with which a run fails all the same."""

NOT_KNOWN_HERE = 1 << 30
"""The attempts of a kind that is not registered in this process."""

NEVER_KNOWN = 0
"""Stands in a doubt for a run that has ended, and of which nobody will know whether it was the cause."""

_LAST = 1 << 62

CRASHED = "Crashed"
CUT_OFF = "CutOff"
"""The `error_type` of a run that crashes were held against, and of one that may not begin again."""


class Failure(Struct, frozen=True):
    """Why a run does not begin again."""

    error_type: str
    text: str


class Outran(Struct, frozen=True):
    """To the ledger, from a timer: the solo of this number is over, as it took long enough."""

    solo: int


def cut_off(
    row: RunRow,
    *,
    crashed: bool,
    died: Timestamp | None,
    now: Timestamp,
    beside: Iterable[int] = (),
    attempts: int = NOT_KNOWN_HERE,
) -> RunRow:
    """How a run stands after the process that had the store open is gone; `crashed`: not by closing it.

    `beside` are the serials of all that were at work, `attempts` the most crashes that are held against it.

    The process died at `died` at the latest. `ran` counts up to then, so it is too much rather than too
    little: a suspect that takes as long as before is still alone when it ends the process once more.
    """
    if not row.at_work:
        return row
    if not crashed:
        return replace(row, at_work=False, alone=False)
    end = now if died is None else min(died, now)
    ran = max(0.0, end - (end if row.started_at is None else row.started_at), row.ran or 0.0)
    others = tuple(serial for serial in beside if serial != row.serial)
    doubts = (*row.doubts, others) if row.alone and others else row.doubts
    proven = row.alone and not others and row.crashes < attempts
    return replace(
        row,
        at_work=False,
        alone=False,
        cuts=row.cuts + 1,
        crashes=row.crashes + proven,
        ran=ran,
        doubts=doubts,
    )


def cleared(row: RunRow, other: int, attempts: int) -> RunRow:
    """How a suspect stands after one that was beside it has been at work again, and ended."""
    left = [tuple(serial for serial in doubt if serial != other) for doubt in row.doubts]
    doubts = tuple(doubt for doubt in left if doubt)
    more = min(len(left) - len(doubts), max(0, attempts - row.crashes))  # it needs no more to fail
    return replace(row, doubts=doubts, crashes=row.crashes + more)


def guilty(row: RunRow, other: int) -> RunRow:
    """The same, after that one has failed because of its own crashes."""
    return replace(row, doubts=tuple(doubt for doubt in row.doubts if other not in doubt))


def never_known(row: RunRow, other: int) -> RunRow:
    """The same, after that one has ended and was not at work again before."""
    doubts = [tuple(NEVER_KNOWN if each == other else each for each in doubt) for doubt in row.doubts]
    return replace(row, doubts=tuple(doubts))


def doubted(row: RunRow, attempts: int | None) -> bool:
    """Whether a suspect would fail if its doubts counted."""
    return bool(row.doubts) and attempts is not None and row.crashes + len(row.doubts) >= attempts


def place(row: RunRow, attempts: int | None) -> int:
    """Where a suspect stands in the row of suspects."""
    return row.serial | (_LAST if doubted(row, attempts) else 0)


def lost(row: RunRow) -> RunRow:
    """How a run stands whose session crashed: that is its own doing."""
    return replace(row, at_work=False, alone=False, crashes=row.crashes + 1)


def verdict(row: RunRow, attempts: int) -> Failure | None:
    """Why a run that has no turn now may not begin again, if it may not."""
    if attempts == 1 and row.attempt:
        return Failure(
            CUT_OFF,
            "its turn was cut off, and may have done its work: a run of a kind with attempts=1 does not "
            "begin again. See what it has done, and give the work again if that is right",
        )
    if row.crashes < attempts and row.crashes + len(row.doubts) < attempts + MOST_DOUBTS:
        return None
    doubts = ""
    if row.doubts:
        doubts = (
            f", and it was the only suspect of {len(row.doubts)} more crashes that nothing else explains"
        )
    if not row.attempt:
        return Failure(
            CRASHED,
            f"opening its agent's session ended the process {row.crashes} times, which is all its attempts "
            f"(attempts={attempts}){doubts}; its code has not begun. See what runs before a turn: "
            "the kind's open(), migrate= and state=, and the reading of the state",
        )
    return Failure(
        CRASHED,
        f"its turn ended its process or its session {row.crashes} times, which is all its attempts "
        f"(attempts={attempts}){doubts}; its code has begun {row.attempt} times",
    )


class Suspects:
    """The suspects that are ready to be at work, and the one that is.

    Nobody is alone while it waits for room or a slot that others hold, who may wait to be alone: a run
    begins to be so when its session holds a slot and takes it. A turn that goes on is in memory already,
    and comes before what has not begun.
    """

    __slots__ = ("_queued", "_resuming", "number", "solo")

    def __init__(self) -> None:
        self.solo: RunId | None = None
        self.number = 0  # of the last solo
        self._resuming: dict[RunId, int] = {}  # turns that could go on, and their order
        self._queued: dict[RunId, int] = {}  # runs that could begin

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.solo is not None or bool(self._queued) or bool(self._resuming)

    def queues(self, run_id: RunId, place: int) -> bool:
        """This suspect could begin; whether it is its turn. Repeating it is harmless."""
        self._queued[run_id] = place
        return self.solo is None and self.first == run_id

    def begins(self, run_id: RunId, place: int) -> bool:
        """The same, and if it is its turn it is alone from now on."""
        if not self.queues(run_id, place):
            return False
        del self._queued[run_id]
        self._alone(run_id)
        return True

    def moves(self, run_id: RunId, place: int) -> None:
        """Its place is another one, if it is ready to begin."""
        if run_id in self._queued:
            self._queued[run_id] = place

    def resumes(self, run_id: RunId, place: int) -> None:
        """The turn of this suspect could go on: `goes_on` says when."""
        self._resuming[run_id] = place

    def goes_on(self) -> RunId | None:
        """The suspect whose turn goes on now, alone, if one can."""
        run_id = self.first_to_go_on
        if self.solo is not None or run_id is None:
            return None
        del self._resuming[run_id]
        self._alone(run_id)
        return run_id

    @property
    def first_to_go_on(self) -> RunId | None:
        """The suspect whose turn goes on next."""
        return min(self._resuming, key=self._resuming.__getitem__, default=None)

    @property
    def first(self) -> RunId | None:
        """The suspect that begins next."""
        return min(self._queued, key=self._queued.__getitem__, default=None)

    def before(self, run_id: RunId) -> RunId | None:
        """The suspect that this one waits for, if it does."""
        if run_id not in self._queued and run_id not in self._resuming:
            return None
        first = self.solo or self.first
        return None if first == run_id else first

    def over(self, run_id: RunId) -> bool:
        """It has ended, waits, was cut off or took long enough; whether it was the solo one."""
        self._queued.pop(run_id, None)
        self._resuming.pop(run_id, None)
        if run_id != self.solo:
            return False
        self.solo = None
        return True

    def _alone(self, run_id: RunId) -> None:
        self.solo = run_id
        self.number += 1


def longest_solo(row: RunRow) -> Seconds:
    """How long others wait for this suspect: as long as its longest turn that was cut off took."""
    return (UNKNOWN if row.ran is None else row.ran) + MARGIN
