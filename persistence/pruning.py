"""The SQL of retention: finds what may go next, in index order, and deletes it.

Looking reads the old ends of three queues and nothing else, however long they are. `retention` decides;
the store wraps the deletions in a transaction of its own.
"""

import sqlite3
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ..retention import Retention
from ..types import AgentId, RunId, Seconds, Timestamp
from .erasing import Eraser, Erasure
from .records import EndRun, EraseAgent, Record
from .retention import (
    NO_FENCE,
    AwaitedIds,
    Candidate,
    Entry,
    Fence,
    Horizon,
    Keeper,
    affordable,
    horizon,
    past_of,
    weight,
)
from .rows import RunRow

NEWEST_NUMBERS = """
    SELECT (SELECT next_seq - 1 FROM meta), (SELECT max(number) FROM superseded),
           (SELECT closed FROM meta)
"""
OLDEST_BEGUN = """
    SELECT serial, accepted_at, run_id FROM runs WHERE status = 'accepted' AND started_at IS NOT NULL
    AND serial < (SELECT first_origin FROM meta) ORDER BY serial LIMIT 1
"""
OLD_EVENTS = "SELECT seq, at, 0 FROM events ORDER BY seq LIMIT ?"
EVENT_SIZES = "SELECT length(data) FROM events ORDER BY seq LIMIT ?"
OLD_ENTRIES = "SELECT number, at, serial FROM superseded ORDER BY number LIMIT ?"
_SIZE = "coalesce(length(r.input), 0) + coalesce(length(r.result), 0)"
_STARTER = "s.serial, s.run_id, s.agent_id"  # as a `Keeper`; NULL if it is not open
_OPEN = """s.status = 'accepted'
    AND NOT EXISTS (SELECT 1 FROM erased AS e WHERE e.agent_id = s.agent_id)"""
OLD_RUNS = f"""
    SELECT q.number, q.serial, r.run_id, {_SIZE}, {_STARTER}
    FROM superseded AS q LEFT JOIN runs AS r ON r.serial = q.serial
    LEFT JOIN runs AS s ON s.serial = r.started_by AND {_OPEN}
    ORDER BY q.number LIMIT ?
"""
KEPT_RUNS = f"""
    SELECT 0, q.serial, r.run_id, {_SIZE}, {_STARTER}
    FROM kept AS q LEFT JOIN runs AS r ON r.serial = q.serial
    LEFT JOIN runs AS s ON s.serial = r.started_by AND {_OPEN}
    WHERE q.keeper = ? ORDER BY q.serial LIMIT ?
"""
NEXT_KEEPER = """
    SELECT min(keeper) FROM (SELECT min(keeper) AS keeper FROM kept WHERE keeper > ?1
                             UNION ALL SELECT min(keeper) FROM agents WHERE keeper > ?1)
"""
OPEN_RUN = f"SELECT {_STARTER} FROM runs AS s WHERE s.serial = ? AND {_OPEN}"
OLD_AGENTS = f"""
    SELECT a.agent_id, a.updated_at, a.last_run_id, {_STARTER}
    FROM agents AS a LEFT JOIN runs AS s ON s.serial = a.started_by AND {_OPEN}
    WHERE a.status = 'closed' AND a.keeper IS NULL ORDER BY a.updated_at, a.agent_id LIMIT ?
"""
KEPT_AGENTS = f"""
    SELECT a.agent_id, a.last_run_id, {_STARTER}
    FROM agents AS a LEFT JOIN runs AS s ON s.serial = a.started_by AND {_OPEN}
    WHERE a.keeper = ? LIMIT ?
"""
MANY_KEPT = "SELECT count(*) FROM agents WHERE keeper IS NOT NULL"
RUNS_OF = f"""
    SELECT r.serial, r.run_id, r.status, {_SIZE}, {_STARTER}
    FROM runs AS r LEFT JOIN runs AS s ON s.serial = r.started_by AND {_OPEN}
    WHERE r.agent_id = ? AND r.run_id IS NOT ? ORDER BY r.serial LIMIT ?
"""  # but its last one
LAST_RUN_OF = f"""
    SELECT r.serial, r.run_id, r.status, {_SIZE}, {_STARTER}
    FROM runs AS r LEFT JOIN runs AS s ON s.serial = r.started_by AND {_OPEN} WHERE r.run_id = ?
"""
NEWEST_RUN_OF = "SELECT max(serial) FROM runs WHERE agent_id = ?"
INBOX_OF = "SELECT serial, length(body) FROM inbox WHERE agent_id = ? ORDER BY serial LIMIT ?"
SNAPSHOT_SIZE = "SELECT length(data) FROM snapshots WHERE agent_id = ?"

DELETE_EVENTS = "DELETE FROM events WHERE seq <= ?"
PRUNED = "UPDATE meta SET pruned = max(pruned, ?)"
DELETE_RUNS = """
    DELETE FROM runs WHERE serial IN (SELECT value FROM json_each(?)) AND status <> 'accepted'
"""
DELETE_ENTRIES = "DELETE FROM superseded WHERE number IN (SELECT value FROM json_each(?))"
KEEP_RUN = "INSERT INTO kept (keeper, serial) VALUES (?, ?)"
KEEP_NO_MORE = "DELETE FROM kept WHERE keeper = ? AND serial IN (SELECT value FROM json_each(?))"
KEEP_AGENT = "UPDATE agents SET keeper = ? WHERE agent_id = ?"
DELETE_MESSAGES = "DELETE FROM inbox WHERE serial IN (SELECT value FROM json_each(?))"
DELETE_RUNS_OF = "DELETE FROM runs WHERE agent_id IN (SELECT value FROM json_each(?))"
DELETE_INBOX_OF = "DELETE FROM inbox WHERE agent_id IN (SELECT value FROM json_each(?))"
DELETE_AGENTS = """
    DELETE FROM agents WHERE agent_id IN (SELECT value FROM json_each(?)) AND status = 'closed'
"""


LOOK_AGAIN: Seconds = 60.0
"""After a few records; and when a turn under way holds what is past: nobody tells when it has ended."""


EXAMINED = 500
"""Runs of a closed agent, at least, that are looked at before any of them goes: one may be needed."""


class Step(Struct):
    """The rows that one transaction deletes. `wait`: seconds until something more may go, None for ever."""

    upto_seq: int = 0  # events
    entries: list[int] = []  # of `superseded`
    runs: list[int] = []
    messages: list[int] = []
    agents: list[AgentId] = []
    keep: list[tuple[Keeper, Candidate]] = []  # runs that are past, and kept for an open run's sake
    keep_agents: list[tuple[Keeper, AgentId]] = []
    over: int | None = None  # of what was kept for the sake of this run, which has ended…
    released: list[int] = []  # These serials are looked at.
    kept_before: int = 0  # So many agents go, or are kept for another one's sake.
    done: bool = False  # There are no more.
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


class Pruner:
    """Belongs to a store, and is told every record that the store committed."""

    def __init__(self, connection: sqlite3.Connection, unfinished: Iterable[RunRow]) -> None:
        self._connection = connection
        self.eraser = Eraser(connection)
        self._awaited = AwaitedIds(unfinished)
        self._keepers: dict[RunId, Keeper] = {}  # for whose sake something is kept
        self._of_agent: dict[AgentId, set[RunId]] = {}
        self._over: deque[int] = deque()  # serials of those that have ended
        self._many_kept: int = self._rows(MANY_KEPT)[0][0]  # agents
        self._find_keepers()

    def _find_keepers(self) -> None:
        serial = 0
        while (serial := self._rows(NEXT_KEEPER, serial)[0][0]) is not None:
            found = self._rows(OPEN_RUN, serial)
            if found:
                self._know(Keeper(*found[0]))
            else:
                self._over.append(serial)

    def _know(self, keeper: Keeper) -> None:
        self._keepers[keeper.run_id] = keeper
        self._of_agent.setdefault(keeper.agent_id, set()).add(keeper.run_id)

    def _forget(self, run_id: RunId) -> None:
        keeper = self._keepers.pop(run_id, None)
        if keeper is None:
            return
        self._over.append(keeper.serial)
        mine = self._of_agent[keeper.agent_id]
        mine.discard(run_id)
        if not mine:
            del self._of_agent[keeper.agent_id]

    def committed(self, records: Sequence[Record]) -> None:
        """These are in the store now."""
        self.eraser.committed(records)
        self._awaited.committed(records)
        if not self._keepers and not self._many_kept:
            return
        for record in records:
            kind = type(record)
            if kind is EndRun:
                self._forget(record.run_id)  # type: ignore[union-attr]
            elif kind is EraseAgent:
                for run_id in list(self._of_agent.get(record.agent_id, ())):  # type: ignore[union-attr]
                    self._forget(run_id)
                self._many_kept = self._rows(MANY_KEPT)[0][0] if self._many_kept else 0

    def look(self, retention: Retention, now: Timestamp, rows: int) -> Step:
        """The rows that go next, at most about `rows` of each queue. Changes nothing in the store."""
        last_seq, last_entry, closed = self._rows(NEWEST_NUMBERS)[0]
        found = self._rows(OLDEST_BEGUN)
        fence = Fence(*found[0]) if found else NO_FENCE
        step = Step(erasure=self.eraser.look(rows))
        if step.erasure is not None:
            step.rows += 1 + len(step.erasure.serials)
            step.more = True
        self._look_at_events(step, retention, now, rows, last_seq)
        if self._over:
            self._look_at_kept(step, rows)
        else:
            self._look_at_runs(step, retention, now, rows, fence, last_entry or 0)
            self._look_at_agents(step, retention, now, rows, fence, closed)
        return step

    def delete(self, step: Step) -> None:
        """Delete what `look` found; the caller's transaction goes round it."""
        if step.erasure is not None:
            self.eraser.delete(step.erasure)
        if step.upto_seq:
            self._connection.execute(DELETE_EVENTS, (step.upto_seq,))
            self._connection.execute(PRUNED, (step.upto_seq,))
        if step.released:
            self._connection.execute(KEEP_NO_MORE, (step.over, _json(step.released)))
        for statement, numbers in (
            (DELETE_RUNS, step.runs),
            (DELETE_ENTRIES, step.entries),
            (DELETE_MESSAGES, step.messages),
            (DELETE_RUNS_OF, step.agents),
            (DELETE_INBOX_OF, step.agents),
            (DELETE_AGENTS, step.agents),
        ):
            if numbers:
                self._connection.execute(statement, (_json(numbers),))
        keep = ((keeper.serial, run.serial) for keeper, run in step.keep)
        self._connection.executemany(KEEP_RUN, keep)
        agents = ((keeper.serial, agent_id) for keeper, agent_id in step.keep_agents)
        self._connection.executemany(KEEP_AGENT, agents)

    def deleted(self, step: Step) -> None:
        """It was committed."""
        step.erased = step.erasure is not None and self.eraser.deleted(step.erasure)
        for keeper, _ in (*step.keep, *step.keep_agents):
            self._know(keeper)
        self._many_kept += len(step.keep_agents) - step.kept_before
        if step.done:
            self._over.popleft()

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
        span = self._span(step, past, fence, self._rows(OLD_ENTRIES, 1), rows)
        count = past_of(self._rows(OLD_ENTRIES, span), past, fence) if span else 0
        if not count:
            return
        found = list(map(_candidate, self._rows(OLD_RUNS, count)))
        taken = found[: affordable((weight(run.size) for run in found), rows)]
        step.entries = [run.number for run in taken]
        self._take_runs(step, taken)
        step.rows += len(taken)
        step.more = True

    def _take_runs(self, step: Step, runs: Iterable[Candidate]) -> None:
        """Runs that have left their queue: each is kept for the sake of an open run, or goes."""
        for run in runs:
            keeper = run.starter or self._awaited.keeper(run.run_id)
            if keeper is not None:
                step.keep.append((keeper, run))
            elif run.run_id is not None:
                step.runs.append(run.serial)
        step.rows += len(step.runs) + len(step.keep)

    def _look_at_kept(self, step: Step, rows: int) -> None:
        """Rows that were kept for the sake of a run that has ended; another one may need it as well."""
        step.over = self._over[0]
        runs = list(map(_candidate, self._rows(KEPT_RUNS, step.over, rows)))
        taken = runs[: affordable((weight(run.size) for run in runs), rows)]
        step.released = [run.serial for run in taken]
        self._take_runs(step, taken)
        agents, left = self._rows(KEPT_AGENTS, step.over, rows), rows
        for agent_id, last, *starter in agents:
            if left > 0:
                left = self._take_agent(step, agent_id, last, _keeper(starter), left)
        step.kept_before = len(step.agents) + len(step.keep_agents)
        step.done = len(taken) == len(runs) < rows and step.kept_before == len(agents) < rows
        step.rows += len(step.released) + 1
        step.more = True

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

    def _look_at_agents(
        self, step: Step, retention: Retention, now: Timestamp, rows: int, fence: Fence, newest: int
    ) -> None:
        past = horizon(
            retention.closed_age, retention.closed, least=retention.least_age, newest=newest, now=now
        )
        found = self._rows(OLD_AGENTS, rows)
        place = self._many_kept
        left = rows
        for agent_id, at, last, *starter in found:
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
            left = self._take_agent(step, agent_id, last, _keeper(starter), left)
        step.more = step.more or len(found) == rows

    def _take_agent(
        self, step: Step, agent_id: AgentId, last: RunId | None, keeper: Keeper | None, left: int
    ) -> int:
        """Take a closed agent, or as much of it as a step can; how many rows are left then."""
        runs = self._rows(RUNS_OF, agent_id, last, max(left + 1, EXAMINED))
        for serial, run_id, status, _, *starter in (*self._rows(LAST_RUN_OF, last), *runs):
            if keeper is not None:
                break
            if status == "accepted":
                keeper = Keeper(serial, run_id, agent_id)
            else:
                keeper = _keeper(starter) or self._awaited.keeper(run_id)
        if keeper is not None:
            step.keep_agents.append((keeper, agent_id))
            step.rows += 1
            step.more = True
            return left - 1
        sizes = [row[3] for row in runs]
        count = affordable(map(weight, sizes), left)
        if count < len(runs):  # the oldest first; its last outcome goes with itself
            step.runs += [row[0] for row in runs[:count]]
            step.rows += count
            step.more = True
            return 0
        left -= sum(map(weight, sizes))
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


def _keeper(row: Sequence[Any]) -> Keeper | None:
    return None if row[0] is None else Keeper(*row)


def _candidate(row: Sequence[Any]) -> Candidate:
    number, serial, run_id, size, *starter = row
    return Candidate(number, serial, run_id, size, _keeper(starter))


def _json(numbers: Sequence[int]) -> str:
    return msgspec.json.encode(numbers).decode()
