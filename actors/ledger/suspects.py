"""Which runs may have ended the process, and which of them may be at work now.

A crash cuts off every turn that is at work, and one of them may have caused it. So a crash is held against
nobody at first. Runs that were at work at two crashes are *suspects*: they begin one at a time, in order of
acceptance, beside all other work. A crash beside such a solo suspect is held against that one alone.

Owns the row of suspects. Knows no actors and no store: `cut_off` and `lost` say how a run stands after a
crash, `verdict` whether it may begin again. What is left of a crash is on disk: see `persistence.SetRun`.
"""

from msgspec import Struct
from msgspec.structs import replace

from ...persistence.protocol import RunRow
from ..vocabulary import RunId, Seconds, Timestamp

SUSPECT_FROM = 2
"""Crashes beside which a run was at work, from which on it begins as a suspect."""

MARGIN: Seconds = 0.5
"""By which a suspect is alone for longer than it ran before: no two turns take the same time."""

UNKNOWN: Seconds = 60.0
"""For which a suspect is alone at most that was never cut off itself: another run of its agent was."""

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


def cut_off(row: RunRow, *, crashed: bool, died: Timestamp | None, now: Timestamp) -> RunRow:
    """How a run stands after the process that had the store open is gone; `crashed`: not by closing it.

    The process died at `died` at the latest. `ran` counts up to then, so it is too much rather than too
    little: a suspect that takes as long as before is still alone when it ends the process once more.
    """
    if not row.at_work:
        return row
    if not crashed:
        return replace(row, at_work=False, alone=False)
    end = now if died is None else min(died, now)
    ran = max(0.0, end - (end if row.started_at is None else row.started_at), row.ran or 0.0)
    return replace(
        row, at_work=False, alone=False, cuts=row.cuts + 1, crashes=row.crashes + row.alone, ran=ran
    )


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
    if row.crashes < attempts:
        return None
    return Failure(
        CRASHED,
        f"its turn ended its process or its session {row.crashes} times, which is all its attempts "
        f"(attempts={attempts}); its code has begun {row.attempt} times",
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

    def queues(self, run_id: RunId, serial: int) -> bool:
        """This suspect could begin; whether it is its turn. Repeating it is harmless."""
        self._queued[run_id] = serial
        return self.solo is None and self.first == run_id

    def begins(self, run_id: RunId, serial: int) -> bool:
        """The same, and if it is its turn it is alone from now on."""
        if not self.queues(run_id, serial):
            return False
        del self._queued[run_id]
        self._alone(run_id)
        return True

    def resumes(self, run_id: RunId, serial: int) -> None:
        """The turn of this suspect could go on: `goes_on` says when."""
        self._resuming[run_id] = serial

    def goes_on(self) -> RunId | None:
        """The suspect whose turn goes on now, alone, if one can."""
        if self.solo is not None or not self._resuming:
            return None
        run_id = min(self._resuming, key=self._resuming.__getitem__)
        del self._resuming[run_id]
        self._alone(run_id)
        return run_id

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
