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
"""By which a suspect is alone for longer than it ran before: its code begins a little after its turn."""

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
    """The suspects that are ready to be at work, and the one that is."""

    __slots__ = ("_ready", "number", "solo")

    def __init__(self) -> None:
        self.solo: RunId | None = None
        self.number = 0  # of the last solo
        self._ready: dict[RunId, int] = {}  # and their order

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.solo is not None or bool(self._ready)

    def before(self, run_id: RunId) -> RunId | None:
        """The solo suspect that this one waits for, if it does."""
        return self.solo if run_id in self._ready else None

    def wants(self, run_id: RunId, serial: int) -> None:
        """This suspect could begin, or go on. Repeating it is harmless."""
        if run_id != self.solo:
            self._ready[run_id] = serial

    def next(self) -> RunId | None:
        """The suspect that is to begin or go on now, if there is one and none is at it."""
        if self.solo is not None or not self._ready:
            return None
        run_id = self.solo = min(self._ready, key=self._ready.__getitem__)
        del self._ready[run_id]
        self.number += 1
        return run_id

    def over(self, run_id: RunId) -> bool:
        """It has ended, waits, was cut off or took long enough; whether it was the solo one."""
        self._ready.pop(run_id, None)
        if run_id != self.solo:
            return False
        self.solo = None
        return True
