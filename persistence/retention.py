"""Retention: the rows that are kept, and those that may go next.

Three queues grow for ever if nobody shortens them: events, runs that are no longer their agent's last
outcome (`superseded`), closed agents. Each is in the order of its moments, and goes from its old end, as
far as `Horizon` says; `greenroom.retention` has what a user chose. Owns the rule and which runs are
awaited; reads and deletes nothing.

The runs that an open run started or waits for are kept for its sake (decision 0040): a turn that is begun
again finds it. Of runs from before version 3 of the schema it is not known what they started. As long as
one of those has begun and not ended, nothing goes that came since: `Fence`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from msgspec import Struct

from ..types import AgentId, RunId, Seconds, Timestamp
from .records import AddEvent, AddRun, EndRun, EraseAgent, Record
from .rows import RunRow

# How far each queue goes


class Horizon(Struct, frozen=True):
    """How much of a queue is past: by its place in it, or by its moment."""

    number: float  # places up to this one are over the limit…
    young: Timestamp  # They go if their moment is not after this one.
    old: Timestamp  # moments up to this one are past, whatever the place

    def behind(self, number: int, at: Timestamp) -> bool:
        """Whether the entry at place `number`, of the moment `at`, is past."""
        return at <= self.old or (number <= self.number and at <= self.young)

    def span(self, number: int, at: Timestamp, rows: int) -> int:
        """How many entries from the oldest one on are worth reading, at most `rows`."""
        if at <= self.old:
            return rows
        return min(rows, int(self.number) - number + 1) if self.behind(number, at) else 0

    def wait(self, number: int, at: Timestamp) -> Seconds | None:
        """For how long the oldest entry will not be past, if nothing is added; None: for ever."""
        waits = [] if self.old == -math.inf else [at - self.old]
        if number <= self.number:
            waits.append(at - self.young)
        return max(0.0, min(waits)) if waits else None


def horizon(
    age: Seconds | None, count: int | None, *, least: Seconds, newest: int, now: Timestamp
) -> Horizon:
    """The horizon of a queue whose newest entry stands at the place `newest`."""
    return Horizon(
        number=-math.inf if count is None else newest - count,
        young=now - least,
        old=-math.inf if age is None else now - age,
    )


class Fence(Struct, frozen=True):
    """The oldest run that has begun and not ended, of those whose runs do not say what started them.

    Without one, nothing is held: `NO_FENCE`.
    """

    serial: float
    at: Timestamp  # when it was accepted
    run_id: RunId | None = None

    def holds(self, serial: int, at: Timestamp) -> bool:
        """Whether its turn may need the run `serial`, which came to be past its use at `at`."""
        return serial >= self.serial or at >= self.at


NO_FENCE = Fence(math.inf, math.inf)


# The decisions

Entry: TypeAlias = tuple[int, Timestamp, int]
"""A place in a queue, its moment, and the serial of the run that stands there."""


class Keeper(Struct, frozen=True):
    """An open run for whose sake something is kept."""

    serial: int
    run_id: RunId
    agent_id: AgentId

    @classmethod
    def of(cls, run: RunRow) -> "Keeper":
        return cls(run.serial, run.run_id, run.agent_id)


class Candidate(Struct, frozen=True):
    """A run that is past; `run_id` is None if it was erased with its agent."""

    number: int  # its place in the queue, if it comes from there
    serial: int
    run_id: RunId | None
    size: int  # bytes of its values
    starter: Keeper | None = None  # the run that started it, if that is open


class AwaitedIds:
    """The runs that open continuations wait for. It is told every record that was committed."""

    def __init__(self, runs: Iterable[RunRow] = ()) -> None:
        self._waiting: dict[RunId, RunRow] = {}
        self._of_agent: dict[AgentId, set[RunId]] = {}
        self._by: dict[RunId, dict[RunId, None]] = {}  # the continuations that wait for a run
        for run in runs:
            self._add(run)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._by

    def keeper(self, run_id: RunId | None) -> Keeper | None:
        """One of those that wait for this run."""
        waiting = self._by.get(run_id) if run_id is not None else None
        return Keeper.of(self._waiting[next(iter(waiting))]) if waiting else None

    def committed(self, records: Iterable[Record]) -> None:
        """Take note of `records`."""
        for record in records:
            kind = type(record)
            if kind is AddEvent:  # nearly half of them all
                continue
            if kind is AddRun:
                self._add(record.row)  # type: ignore[union-attr,arg-type]
            elif kind is EndRun and self._waiting:
                self._drop(record.run_id)  # type: ignore[union-attr]
            elif kind is EraseAgent and self._waiting:
                for run_id in list(self._of_agent.get(record.agent_id, ())):  # type: ignore[union-attr]
                    self._drop(run_id)

    def _add(self, run: RunRow) -> None:
        if not run.awaits:
            return
        self._waiting[run.run_id] = run
        self._of_agent.setdefault(run.agent_id, set()).add(run.run_id)
        for run_id in run.awaits:
            self._by.setdefault(run_id, {})[run.run_id] = None

    def _drop(self, run_id: RunId) -> None:
        run = self._waiting.pop(run_id, None)
        if run is None:
            return
        mine = self._of_agent[run.agent_id]
        mine.discard(run_id)
        if not mine:
            del self._of_agent[run.agent_id]
        for awaited in dict.fromkeys(run.awaits):
            waiting = self._by[awaited]
            del waiting[run_id]
            if not waiting:
                del self._by[awaited]


def past_of(entries: Sequence[Entry], past: Horizon, fence: Fence) -> int:
    """How many of the oldest `entries` of a queue may go: all before the first that may not."""
    for count, (number, at, serial) in enumerate(entries):
        if not past.behind(number, at) or fence.holds(serial, at):
            return count
    return len(entries)


# How much at a time

STEP = 250
"""Rows of each queue that one step takes when there is no hurry: 2 to 4 ms, measured on a busy machine."""

PRUNE_AFTER = 500
"""Records written before the queues are looked at again."""

SPARE_PAGES = 2_048
"""Free pages that a file keeps in any case, to grow into: 8 MiB."""

VACUUM_STEP = 128
"""Free pages that one step gives back: half a MiB, some 4 ms, measured."""


def weight(size: int) -> int:
    """Rows that one with `size` bytes of values counts for: every page of a large one is freed singly."""
    return 1 + (size >> 15)


def affordable(weights: Iterable[int], rows: int) -> int:
    """How many of the first entries a step of `rows` can take; always one."""
    count = 0
    for each in weights:
        rows -= each
        if count and rows < 0:
            break
        count += 1
    return count


def rows_of_a_step(written: int) -> int:
    """Rows of each queue for one step, after `written` records since the step before.

    As many as were written: under a load that leaves time for one step between two batches, the queues
    are still shortened as fast as they grow.
    """
    return max(STEP, written)


def pages_to_give_back(free: int, pages: int) -> int:
    """How many free pages the file gives back to the system in one step.

    It keeps an eighth of its size: under steady load a page that is freed now is written a moment later,
    and giving it back would cost twice.
    """
    spare = max(SPARE_PAGES, pages // 8)
    return VACUUM_STEP if free >= spare + VACUUM_STEP else 0
