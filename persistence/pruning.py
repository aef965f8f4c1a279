"""The SQL of retention: finds what may go next, in index order, and deletes it.

Looking reads the old ends of three queues and nothing else, however long they are. `retention` decides;
the store wraps the deletions in a transaction of its own.
"""

import math
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..actors.retention import Retention
from ..actors.vocabulary import AgentId, RunId, Seconds, Timestamp
from .erasing import Eraser, Erasure
from .protocol import EndRun, EraseAgent, Record, RunRow, SetAgent
from .retention import (
    NO_FENCE,
    Awaited,
    Entry,
    Fence,
    Horizon,
    SupersededRun,
    affordable,
    horizon,
    past_of,
    weight,
)

NEWEST = """
    SELECT (SELECT next_seq - 1 FROM meta), (SELECT max(number) FROM superseded),
           (SELECT closed FROM meta)
"""
OLDEST_BEGUN = """
    SELECT serial, accepted_at, run_id FROM runs WHERE status = 'accepted' AND started_at IS NOT NULL
    ORDER BY serial LIMIT 1
"""
OLD_EVENTS = "SELECT seq, at, 0 FROM events ORDER BY seq LIMIT ?"
EVENT_SIZES = "SELECT length(data) FROM events ORDER BY seq LIMIT ?"
OLD_ENTRIES = "SELECT number, at, serial FROM superseded WHERE number > ? ORDER BY number LIMIT ?"
OLD_RUNS = """
    SELECT s.number, s.at, s.serial, r.run_id,
           coalesce(length(r.input), 0) + coalesce(length(r.result), 0)
    FROM superseded AS s LEFT JOIN runs AS r ON r.serial = s.serial
    WHERE s.number > ? ORDER BY s.number LIMIT ?
"""
OLD_AGENTS = """
    SELECT agent_id, updated_at, last_run_id FROM agents
    WHERE status = 'closed' AND (updated_at, agent_id) > (?, ?) ORDER BY updated_at, agent_id LIMIT ?
"""
RUNS_OF = """
    SELECT serial, run_id, status, length(input) + coalesce(length(result), 0) FROM runs
    WHERE agent_id = ? AND run_id IS NOT ? ORDER BY serial LIMIT ?
"""  # but its last one
NEWEST_RUN_OF = "SELECT max(serial) FROM runs WHERE agent_id = ?"
INBOX_OF = "SELECT serial, length(body) FROM inbox WHERE agent_id = ? ORDER BY serial LIMIT ?"
SNAPSHOT_SIZE = "SELECT length(data) FROM snapshots WHERE agent_id = ?"

DELETE_EVENTS = "DELETE FROM events WHERE seq <= ?"
DELETE_RUNS = """
    DELETE FROM runs WHERE serial IN (SELECT value FROM json_each(?)) AND status <> 'accepted'
"""
DELETE_ENTRIES = "DELETE FROM superseded WHERE number IN (SELECT value FROM json_each(?))"
DELETE_MESSAGES = "DELETE FROM inbox WHERE serial IN (SELECT value FROM json_each(?))"
DELETE_RUNS_OF = "DELETE FROM runs WHERE agent_id IN (SELECT value FROM json_each(?))"
DELETE_INBOX_OF = "DELETE FROM inbox WHERE agent_id IN (SELECT value FROM json_each(?))"
DELETE_AGENTS = """
    DELETE FROM agents WHERE agent_id IN (SELECT value FROM json_each(?)) AND status = 'closed'
"""


LOOK_AGAIN: Seconds = 60.0
"""After a few records; and when a turn under way holds what is past: nobody tells when it has ended."""


class Step(Struct):
    """What one transaction deletes; `wait` are the seconds until something more may go, None for ever."""

    upto_seq: int = 0  # events
    entries: list[int] = []  # of `superseded`
    runs: list[int] = []
    messages: list[int] = []
    agents: list[AgentId] = []
    runs_kept: dict[RunId, SupersededRun] = {}  # past, but awaited: passed over
    agents_kept: dict[AgentId, Timestamp] = {}
    rows: int = 0  # all in all
    erased: bool = False  # with it, nothing is left of agents that were deleted before
    more: bool = False  # there may be more that can go at once
    wait: Seconds | None = None
    erasure: Erasure | None = None
    held: Fence | None = None  # a turn under way keeps something that is past

    def until(self, wait: Seconds | None) -> None:
        """Something may go after `wait`."""
        if wait is not None:
            self.wait = wait if self.wait is None else min(self.wait, wait)

    def hold(self, fence: Fence) -> None:
        """Something is past, but may be needed by the turn at the fence."""
        self.held = fence
        self.until(LOOK_AGAIN)


CLOSINGS = (SetAgent, EndRun, EraseAgent)
"""Records that can change which agents are closed, since when, and whether with all their runs ended."""


class Pruner:
    """Belongs to a store, and is told every record that the store committed."""

    def __init__(self, connection: sqlite3.Connection, unfinished: Iterable[RunRow]) -> None:
        self._connection = connection
        self.eraser = Eraser(connection)
        self._awaited = Awaited(unfinished)
        # passed over because they are awaited; the queues are read on behind them
        self._runs_kept: dict[RunId, SupersededRun] = {}
        self._runs_released: dict[RunId, SupersededRun] = {}  # … and are not awaited any more
        self._runs_behind = 0  # the number of the newest of both
        self._agents_kept: dict[AgentId, Timestamp] = {}

    def committed(self, records: Sequence[Record]) -> None:
        """These are in the store now."""
        self.eraser.committed(records)
        for run_id in self._awaited.committed(records):
            entry = self._runs_kept.pop(run_id, None)
            if entry is not None:
                self._runs_released[run_id] = replace(entry, at=math.inf)  # `look` knows the time
            self._agents_kept = {}
        if self._agents_kept and any(isinstance(record, CLOSINGS) for record in records):
            self._agents_kept = {}

    def look(self, retention: Retention, now: Timestamp, rows: int) -> Step:
        """What goes next, at most about `rows` of each queue. Changes nothing in the store."""
        last_seq, last_entry, closed = self._rows(NEWEST)[0]
        found = self._rows(OLDEST_BEGUN)
        fence = Fence(*found[0]) if found else NO_FENCE
        step = Step(erasure=self.eraser.look(rows))
        if step.erasure is not None:
            step.rows += 1 + len(step.erasure.serials)
            step.more = True
        self._look_at_events(step, retention, now, rows, last_seq)
        self._look_at_runs(step, retention, now, rows, fence, last_entry or 0)
        self._look_at_agents(step, retention, now, rows, fence, closed)
        return step

    def delete(self, step: Step) -> None:
        """Delete what `look` found; the caller's transaction goes round it."""
        if step.erasure is not None:
            self.eraser.delete(step.erasure)
        if step.upto_seq:
            self._connection.execute(DELETE_EVENTS, (step.upto_seq,))
        for statement, numbers in (
            (DELETE_RUNS, step.runs),
            (DELETE_ENTRIES, step.entries),
            (DELETE_MESSAGES, step.messages),
            (DELETE_RUNS_OF, step.agents),
            (DELETE_INBOX_OF, step.agents),
            (DELETE_AGENTS, step.agents),
        ):
            if numbers:
                self._connection.execute(statement, (msgspec.json.encode(numbers).decode(),))

    def deleted(self, step: Step) -> None:
        """It was committed: read on behind what was passed over, and deleted what came before that."""
        step.erased = step.erasure is not None and self.eraser.deleted(step.erasure)
        self._agents_kept |= step.agents_kept
        self._runs_kept |= step.runs_kept
        self._runs_behind = max((run.number for run in step.runs_kept.values()), default=self._runs_behind)
        gone = set(step.entries)
        released = [run_id for run_id, entry in self._runs_released.items() if entry.number in gone]
        for run_id in released:
            del self._runs_released[run_id]
        if released:  # numbers that are free at the end are given again
            passed = (*self._runs_kept.values(), *self._runs_released.values())
            self._runs_behind = max((entry.number for entry in passed), default=0)

    # The three queues

    def _look_at_events(
        self, step: Step, retention: Retention, now: Timestamp, rows: int, newest: int
    ) -> None:
        past = horizon(
            retention.event_age, retention.events, least=retention.least_age, newest=newest, now=now
        )
        span = self._span(step, past, NO_FENCE, self._rows(OLD_EVENTS, 1), rows)
        found = self._rows(OLD_EVENTS, span) if span else []
        count = past_of(found, past, NO_FENCE)
        if count:
            count = affordable((weight(size) for (size,) in self._rows(EVENT_SIZES, count)), rows)
            step.upto_seq = found[count - 1][0]
            step.rows += count
            step.more = True

    def _look_at_runs(
        self, step: Step, retention: Retention, now: Timestamp, rows: int, fence: Fence, newest: int
    ) -> None:
        past = horizon(retention.run_age, retention.runs, least=retention.least_age, newest=newest, now=now)
        gone = self._released(fence, now)
        if len(gone) < len(self._runs_released):
            step.hold(fence)
        if gone:
            gone = gone[: affordable((weight(entry.size) for entry in gone), rows)]
            step.more = True
        else:
            behind = self._runs_behind
            span = self._span(step, past, fence, self._rows(OLD_ENTRIES, behind, 1), rows)
            count = past_of(self._rows(OLD_ENTRIES, behind, span), past, fence) if span else 0
            found = [SupersededRun(*row) for row in self._rows(OLD_RUNS, behind, count)] if count else []
            found = found[: affordable((weight(run.size) for run in found), rows)]
            kept = {run.run_id: run for run in found if run.run_id and run.run_id in self._awaited}
            gone = [run for run in found if run.run_id not in kept]
            step.runs_kept = kept
            step.more = step.more or count > 0
        step.entries = [run.number for run in gone]
        step.runs = [run.serial for run in gone if run.run_id is not None]
        step.rows += len(step.entries) + len(step.runs)

    def _span(self, step: Step, past: Horizon, fence: Fence, oldest: list[Entry], rows: int) -> int:
        """How much of a queue to read; its oldest entry alone tells when none can go."""
        for number, at, serial in oldest:
            span = past.span(number, at, rows)
            if not span:
                step.until(past.wait(number, at))
            elif fence.holds(serial, at):
                step.hold(fence)
            else:
                return span
        return 0

    def _released(self, fence: Fence, now: Timestamp) -> list[SupersededRun]:
        """Runs that were past but awaited, and are not awaited any more, nor held.

        They count as past from when that is seen: a turn under way by then may have found them.
        """
        gone = []
        for run_id, entry in list(self._runs_released.items()):
            if run_id in self._awaited:  # again
                self._runs_kept[run_id] = self._runs_released.pop(run_id)
                continue
            if entry.at == math.inf:
                entry = self._runs_released[run_id] = replace(entry, at=now)
            if not fence.holds(entry.serial, entry.at):
                gone.append(entry)
        return gone

    def _look_at_agents(
        self, step: Step, retention: Retention, now: Timestamp, rows: int, fence: Fence, newest: int
    ) -> None:
        past = horizon(
            retention.closed_age, retention.closed, least=retention.least_age, newest=newest, now=now
        )
        kept = ((at, agent_id) for agent_id, at in self._agents_kept.items())
        found = self._rows(OLD_AGENTS, *max(kept, default=(-math.inf, 0)), rows)
        place = len(self._agents_kept)
        left = rows
        for agent_id, at, last in found:
            place += 1
            if not past.behind(place, at):
                step.until(past.wait(place, at))
                return
            if fence.holds(self._rows(NEWEST_RUN_OF, agent_id)[0][0] or 0, at):
                step.hold(fence)
                return
            if left <= 0:
                step.more = True
                return
            left = self._take_agent(step, agent_id, at, last, left)
        step.more = step.more or len(found) == rows

    def _take_agent(
        self, step: Step, agent_id: AgentId, at: Timestamp, last: RunId | None, left: int
    ) -> int:
        """Take a closed agent, or as much of it as a step can; how many rows are left then."""
        runs = self._rows(RUNS_OF, agent_id, last, left + 1)
        if last in self._awaited or any(
            status == "accepted" or run_id in self._awaited for _, run_id, status, _ in runs
        ):
            step.agents_kept[agent_id] = at
            return left
        count = affordable((weight(size) for _, _, _, size in runs), left)
        if count < len(runs):  # the oldest first; its last outcome goes with itself
            step.runs += [serial for serial, _, _, _ in runs[:count]]
            step.rows += count
            step.more = True
            return 0
        left -= sum(weight(size) for _, _, _, size in runs)
        inbox = self._rows(INBOX_OF, agent_id, max(left, 1) + 1)
        count = affordable((weight(size) for _, size in inbox), max(left, 1))
        if count < len(inbox):
            step.messages += [serial for serial, _ in inbox[:count]]
            step.rows += count
            step.more = True
            return 0
        sizes = self._rows(SNAPSHOT_SIZE, agent_id)
        step.agents.append(agent_id)
        step.rows += 1 + len(runs) + len(inbox)
        return left - len(inbox) - weight(sum(size for (size,) in sizes))

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()
