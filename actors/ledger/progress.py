"""The reports of turns under way, until they are in the commit log.

Owns it from when a turn's session reports it until it is recorded. `emit` cannot be waited for, so a turn
may tell as much as it likes; here that is bounded and fair: each turn in its turn, a portion before others
have theirs, and no more at a time than the disk keeps up with. The reports of a turn are recorded in their
order and before its end, which waits here. Beyond a bound it is dropped, counted and told.
"""

from collections import OrderedDict, deque
from typing import TypeAlias

from msgspec import Struct

from ...types import Address, RunId, Timestamp
from .agent_runs import OpenRun
from .log.commits import NewEvent
from .protocol import EVENT_BYTES, MOST_TOLD_BYTES, EndTurn, ReportProgress

EVENTS_IN_PORTION = 1_000
"""Events that are recorded before others have their turn on the loop."""

SHARE = 100
"""Of these, as many of one turn before the next turn's."""

END = 20
"""The cost of a turn's end, counted in events."""

MOST_UNWRITTEN = 2_000
"""Events that are recorded and not on disk: what is recorded behind them waits for so many at most."""

MOST_PROGRESS_BYTES = 2 * MOST_TOLD_BYTES
"""Of what waits here, all turns together."""

Told: TypeAlias = tuple[bytes, ...]


class _Report(Struct, eq=False):
    """One report, and how much of it is recorded."""

    at: Timestamp
    told: Told
    recorded: int = 0


class Line(Struct, eq=False):
    """The reports of one turn that are not recorded, oldest first, and the turn's end behind them."""

    run: OpenRun
    reports: deque[_Report]  # none of them is recorded wholly
    count: int = 0  # events
    bytes: int = 0
    end: tuple[EndTurn, Address] | None = None


class Progress:
    """Reports in, facts out, in portions."""

    def __init__(self) -> None:
        self.dropped = 0  # events, so far
        self.unwritten = 0  # events that are recorded and not on disk
        self.pausing = False  # others have their turn
        self._lines: OrderedDict[RunId, Line] = OrderedDict()  # none is empty; the next one first
        self._commits: deque[tuple[int, int]] = deque()  # that are not on disk, and their events
        self._bytes = 0
        self._left = EVENTS_IN_PORTION  # of the portion under way

    @property
    def waiting(self) -> bool:
        """Whether something is not recorded."""
        return bool(self._lines)

    def add(self, run: OpenRun, report: ReportProgress, now: Timestamp) -> None:
        """A turn tells this."""
        told, size, dropped = report.told, report.size, report.dropped
        line = self._lines.get(report.run_id) or Line(run, deque())
        room = min(MOST_TOLD_BYTES - line.bytes, MOST_PROGRESS_BYTES - self._bytes)
        if size > room:
            told, size = _fitting(told, room)
            dropped += len(report.told) - len(told)
        if told:
            self._lines[report.run_id] = line
            line.reports.append(_Report(now, told))
            line.count += len(told)
            line.bytes += size
            self._bytes += size
        self._drop(run, dropped)

    def hold(self, end: EndTurn, session: Address) -> bool:
        """Have a turn's end wait for what the turn has told; whether it has to."""
        line = self._lines.get(end.run_id)
        if line is None:
            return False
        line.end = (end, session)
        return True

    @property
    def next(self) -> Line | None:
        """The turn whose turn it is, if the portion has room for one."""
        if self._left <= 0 or not self._lines:
            return None
        return next(iter(self._lines.values()))

    def room(self, *, waits: bool) -> int:
        """How many events can be recorded now; `waits`: no more than the disk keeps up with."""
        return MOST_UNWRITTEN - self.unwritten if waits else EVENTS_IN_PORTION

    def take(self, line: Line, most: int) -> tuple[NewEvent, ...]:
        """Some of what the next turn has told; the one after it is next then."""
        row, report = line.run.row, line.reports[0]
        told = report.told[report.recorded : report.recorded + min(most, SHARE)]
        report.recorded += len(told)
        if report.recorded == len(report.told):
            line.reports.popleft()
        size = size_of(told)
        line.count -= len(told)
        line.bytes -= size
        self._bytes -= size
        self._left -= len(told)
        if line.reports:
            self._lines.move_to_end(row.run_id)
        else:
            self._close(line)
        return tuple([NewEvent(report.at, "run.progress", row.path, row.run_id, data) for data in told])

    def drop(self, line: Line) -> None:
        """The reports of this turn are dropped."""
        self._left -= min(line.count, SHARE)
        self._drop(line.run, line.count)
        line.reports.clear()
        self._bytes -= line.bytes
        self._close(line)

    def over(self, run_id: RunId) -> Line | None:
        """The run is over without its end having waited: what it has told and is not recorded."""
        line = self._lines.get(run_id)
        if line is not None:
            self.drop(line)
        return line

    def end_of(self, run_id: RunId) -> tuple[EndTurn, Address] | None:
        """The turn's end, if it waits: it waits no longer."""
        line = self._lines.get(run_id)
        if line is None or line.end is None:
            return None
        self.drop(line)
        return line.end

    def _close(self, line: Line) -> None:
        del self._lines[line.run.row.run_id]
        if line.end is not None:
            self._left -= END

    def _drop(self, run: OpenRun, count: int) -> None:
        self.dropped += count
        run.untold += count

    # The disk, and others' turns

    def recorded(self, commit: int, count: int) -> None:
        """So many are in the commit of this number."""
        self._commits.append((commit, count))
        self.unwritten += count

    def written(self, commit: int) -> None:
        """All commits up to this number are on disk."""
        while self._commits and self._commits[0][0] <= commit:
            self.unwritten -= self._commits.popleft()[1]

    def pause(self) -> bool:
        """Whether it is others' turn now, which was not said before."""
        if self._left > 0 or self.pausing:
            return False
        self.pausing = True
        return True

    def go_on(self) -> None:
        """Others have had their turn."""
        self.pausing, self._left = False, EVENTS_IN_PORTION


def size_of(told: Told) -> int:
    """The bytes that it takes in memory."""
    return EVENT_BYTES * len(told) + sum(map(len, told))


def _fitting(told: Told, room: int) -> tuple[Told, int]:
    """As much of it as there is room for, and its size."""
    size = 0
    for number, data in enumerate(told):
        if size + EVENT_BYTES + len(data) > room:
            return told[:number], size
        size += EVENT_BYTES + len(data)
    return told, size
