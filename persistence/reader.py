"""The reader: queries in, rows out, of what is committed.

Values are checked on their way out, before anybody could unpickle them. A reader belongs to the thread
that opened it.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from ..errors import SnapshotTampered, SnapshotUnreadable, StoreCorrupt, StoreError
from ..types import AgentId, Payload, RunId
from . import codec, schema, sqlite_errors
from .keys import ColumnPlace, SignedColumns, Signer, read_key
from .lease_rules import TakenOver
from .processes import OrphanRecord, row_of
from .queries import (
    EventPage,
    FindAgent,
    FindAgents,
    FindRuns,
    HasAgents,
    ListAgents,
    ListEvents,
    LoadAgent,
    Query,
)
from .rows import AgentImage, AgentRow, EventRow, MessageRow, RunRow, Snapshot, Unfinished

Row: TypeAlias = tuple[Any, ...]

_NOT_ERASED = """NOT EXISTS (SELECT 1 FROM erased AS g WHERE g.agent_id = inbox.sender_id)
    AND NOT EXISTS (SELECT 1 FROM temp.erasing AS g WHERE g.agent_id = inbox.sender_id)"""
_AGENT_COLUMNS = f"""
    SELECT a.agent_id, a.path, a.kind,
           coalesce((SELECT s.version FROM snapshots AS s WHERE s.agent_id = a.agent_id), a.version),
           a.config, a.created_at, a.updated_at, a.status,
           a.error, a.incarnation, a.origin, a.started_by,
           (SELECT group_concat(serial) FROM inbox WHERE inbox.agent_id = a.agent_id AND {_NOT_ERASED}),
           a.version, r.run_id, r.status, r.attempt, r.result, r.error, r.started_at, r.ended_at,
           r.error_type
"""
_AGENT_TABLES = """
    FROM agents AS a LEFT JOIN runs AS r ON r.run_id = a.last_run_id AND r.agent_id = a.agent_id
"""
_AGENT = f"{_AGENT_COLUMNS} {_AGENT_TABLES}"
_RUN = """
    SELECT r.run_id, r.serial, r.agent_id, a.path, r.input, r.accepted_at, r.status, r.attempt,
           r.awaits, r.result, r.error, r.started_at, r.ended_at, r.error_type, r.started_by,
           r.cuts, r.crashes, r.alone, r.ran, r.at_work, r.stem, r.divided_at, r.doubts
    FROM runs AS r CROSS JOIN agents AS a ON a.agent_id = r.agent_id
"""  # CROSS: in this order
# `status <> 'closed'` and `status = 'closed'` stand as in the schema: that is how SQLite finds the index
_IS_LEFT = "NOT EXISTS (SELECT 1 FROM temp.erasing AS g WHERE g.agent_id = a.agent_id)"
OPEN_AT = f"{_AGENT} WHERE a.status <> 'closed' AND a.path = ? AND {_IS_LEFT}"
CLOSED_AT = f"""{_AGENT} WHERE a.status = 'closed' AND a.path = ? AND {_IS_LEFT}
    ORDER BY a.agent_id DESC LIMIT 1"""
AGENTS_BY_ID = f"{_AGENT} WHERE a.agent_id IN (SELECT value FROM json_each(?))"
OPEN_BETWEEN = f"""{_AGENT} WHERE a.status <> 'closed' AND a.path > ? AND a.path < ?
    ORDER BY a.path, a.agent_id LIMIT ?"""
CLOSED_BETWEEN = f"""{_AGENT} WHERE a.status = 'closed' AND (a.path, a.agent_id) > (?, ?) AND a.path < ?
    ORDER BY a.path, a.agent_id LIMIT ?"""
CLOSED_HERE = f"""{_AGENT} WHERE a.status = 'closed' AND a.path = ? AND a.agent_id > ?
    ORDER BY a.agent_id LIMIT ?"""
OPEN_HERE = f"{OPEN_AT} LIMIT ?"
ANY_OF_TREE = """SELECT
    EXISTS (SELECT 1 FROM agents WHERE status <> 'closed' AND path = ?1)
    OR EXISTS (SELECT 1 FROM agents WHERE status <> 'closed' AND path > ?2 AND path < ?3)
    OR EXISTS (SELECT 1 FROM agents WHERE status = 'closed' AND path = ?1)
    OR EXISTS (SELECT 1 FROM agents WHERE status = 'closed' AND path > ?2 AND path < ?3)"""
RUN_BY_ID = f"{_RUN} WHERE r.run_id = ?"
UNFINISHED_RUNS = f"{_RUN} WHERE r.status = 'accepted' ORDER BY r.serial"
UNFINISHED_AGENTS = f"""{_AGENT} WHERE a.agent_id IN
    (SELECT agent_id FROM runs WHERE status = 'accepted') ORDER BY a.agent_id"""
IMAGE = f"""{_AGENT_COLUMNS}, n.codec, n.version, n.data {_AGENT_TABLES}
    LEFT JOIN snapshots AS n ON n.agent_id = a.agent_id WHERE a.agent_id = ?"""
COMPLETED = """
    SELECT 1 FROM agents WHERE agent_id = ?1 AND stateful = 1
    UNION ALL SELECT 1 FROM runs WHERE agent_id = ?1 AND status = 'completed' LIMIT 1
"""  # its completed runs may have been pruned
INBOX = f"""SELECT serial, body, sender, at, sender_id FROM inbox WHERE agent_id = ? AND {_NOT_ERASED}
    ORDER BY serial"""
LAST_SERIAL = (1 << 63) - 1
"""Greater than any agent's id."""

EVENTS = """
    SELECT seq, at, type, path, run_id, data FROM events
    WHERE seq > ? AND seq <= ? AND (path = ? OR path > ? AND path < ?) ORDER BY seq LIMIT ?
"""
EVENTS_LEFT = """
    SELECT seq, at, type, path, run_id, data FROM events AS e
    WHERE seq > ? AND seq <= ? AND (path = ? OR path > ? AND path < ?) AND (type = 'agent.deleted' OR NOT (
        EXISTS (SELECT 1 FROM erased AS g WHERE g.path = e.path AND e.seq >= g.low AND e.seq < g.high)
        OR EXISTS (
            SELECT 1 FROM temp.erasing AS g WHERE g.path = e.path AND e.seq >= g.low AND e.seq < g.high)))
    ORDER BY seq LIMIT ?
"""
ANY_ERASED = "SELECT EXISTS (SELECT 1 FROM erased) OR EXISTS (SELECT 1 FROM temp.erasing)"
_ERASING = (  # deleted, perhaps not yet on disk; of one question, as its transaction is rolled back
    """CREATE TEMP TABLE IF NOT EXISTS erasing (agent_id INTEGER PRIMARY KEY, path TEXT NOT NULL,
        low INTEGER NOT NULL, high INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS temp.erasing_at ON erasing(path)",
)
ERASE = "INSERT INTO temp.erasing SELECT agent_id, path, first_seq, ?2 FROM agents WHERE agent_id = ?1"
EVENT_NUMBERS = "SELECT coalesce((SELECT pruned FROM meta), 0), (SELECT max(seq) FROM events)"

EVENTS_IN_STEP = 50_000
"""Numbers of events that are looked at for one answer: who reads few among many holds up nobody."""


ORIGIN = 10
"""The column of an agent that says where it came from, before another one that does."""

UNREAD_COLUMN = 12
"""The column of an agent that names its mail; then comes the version that it was spawned with."""

STARTED_BY, STEM = 14, 20
"""The columns of a run: which one started it, and what the ids of what it starts are derived from."""

ALONE, AT_WORK, DOUBTS = 17, 19, 22
"""The columns of a run that are truth values."""

CODEC = -3
"""Of an image, the column where its snapshot begins; None if it has none."""


class Reader:
    """A file opened for reading: the committed truth, each question answered as of one moment."""

    def __init__(
        self,
        path: str,
        connection: sqlite3.Connection,
        sealer: Signer,
        *,
        places: type[SignedColumns] = SignedColumns,
    ) -> None:
        self.path = path
        self._connection, self._sealer, self._places = connection, sealer, places
        for statement in _ERASING:
            connection.execute(statement)

    @classmethod
    def open(cls, path: str) -> "Reader":
        """Open, in this thread, a file that a `Store` has opened already."""
        try:
            sealer = Signer(read_key(path))
        except FileNotFoundError as error:
            raise StoreError(path, "it has no key file: open it for writing first.") from error
        return cls(path, schema.open_for_reading(path), sealer)

    def read(self, query: Query, erasing: tuple[tuple[AgentId, int], ...] = ()) -> object:
        """The value that the query's docstring names, without what is left of deleted agents.

        Values whose seal is broken are `codec.refused`, so that the rows around them can be had; an
        agent's image is not to be had without all of it (`SnapshotTampered`).
        """
        try:
            # most agents have a snapshot and no mail: one statement is one moment
            if type(query) is LoadAgent and not erasing:
                rows = self._rows(IMAGE, query.agent_id)
                if not rows or (rows[0][CODEC] is not None and not rows[0][UNREAD_COLUMN]):
                    return self._image(rows)
            self._connection.execute("BEGIN")  # one moment for all that the answer is made of
            try:
                self._connection.executemany(ERASE, erasing)
                return self._answer(query)
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise sqlite_errors.explain(self.path, error) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise damaged(self.path, error) from error

    def close(self) -> None:
        self._connection.close()

    def unfinished(self, taken: TakenOver) -> Unfinished:
        """The questions that are left; `taken`: how the store came to who asks."""
        rows = self._rows(
            "SELECT epoch, next_agent_id, next_serial, next_seq, known, nonce FROM meta WHERE id = 1"
        )
        epoch, next_agent_id, next_serial, next_seq, known, nonce = rows[0]
        return Unfinished(
            epoch=epoch,
            next_agent_id=next_agent_id,
            next_serial=next_serial,
            next_seq=next_seq,
            runs=tuple(map(self._run, self._rows(UNFINISHED_RUNS))),
            agents=tuple(map(self._agent, self._rows(UNFINISHED_AGENTS))),
            known=known,
            nonce=nonce,
            left=self._left(),
            crashed=taken.crashed,
            died=taken.died,
        )

    def _left(self) -> tuple[OrphanRecord, ...]:
        cursor = self._connection.execute("SELECT * FROM processes ORDER BY number")
        names = [column[0] for column in cursor.description]
        return tuple(row_of(dict(zip(names, row, strict=True))) for row in cursor)

    def _answer(self, query: Query) -> object:
        match query:
            case FindAgent(path):
                rows = self._rows(OPEN_AT, path) or self._rows(CLOSED_AT, path)
                return self._agent(rows[0]) if rows else None
            case FindAgents(agent_ids):
                return self._agents(agent_ids)
            case LoadAgent(agent_id):
                return self._image(self._rows(IMAGE, agent_id))
            case FindRuns(run_ids):
                found = (self._rows(RUN_BY_ID, run_id) for run_id in run_ids)
                return tuple(self._run(rows[0]) if rows else None for rows in found)
            case HasAgents(tree):
                root = f"/{tree}"
                return bool(self._rows(ANY_OF_TREE, root, *_below(root))[0][0])
            case ListAgents():
                return self._page(query)
            case ListEvents():
                return self._events(query)

    def _events(self, query: ListEvents) -> EventPage:
        pruned, last = self._rows(EVENT_NUMBERS)[0]
        upto = max(query.since, pruned) + EVENTS_IN_STEP
        low, high = _below(query.under)
        events = EVENTS_LEFT if self._rows(ANY_ERASED)[0][0] else EVENTS
        rows = self._rows(events, query.since, upto, query.under, low, high, query.limit)
        return EventPage(
            tuple([EventRow(*row) for row in rows]), upto if upto < (last or 0) else None, pruned
        )

    def _agents(self, agent_ids: Sequence[AgentId]) -> tuple[AgentRow, ...]:
        rows = self._rows(AGENTS_BY_ID, msgspec.json.encode(agent_ids).decode())
        found = {row[0]: self._agent(row) for row in rows}
        return tuple(found[agent_id] for agent_id in agent_ids if agent_id in found)

    def _page(self, query: ListAgents) -> tuple[AgentRow, ...]:
        """Two searches, since `/a-b` comes between `/a` and `/a/b`."""
        low, high = _below(query.under)
        under, after, limit = query.under, query.after or "", query.limit
        rows: list[Row] = []
        if not query.closed:
            rows += self._rows(OPEN_HERE, under, limit) if after < under else []
            rows += self._rows(OPEN_BETWEEN, max(low, after), high, limit - len(rows))
            return tuple(map(self._agent, rows))
        after_id = LAST_SERIAL if query.after_id is None else query.after_id
        if after <= under:
            rows += self._rows(CLOSED_HERE, under, after_id if after == under else 0, limit)
        place = max((low, 0), (after, after_id))
        rows += self._rows(CLOSED_BETWEEN, *place, high, limit - len(rows))
        return tuple(map(self._agent, rows))

    def _image(self, rows: list[Row]) -> AgentImage | None:
        """The image that begins with a row of `IMAGE`; what that does not tell is read as well."""
        if not rows:
            return None
        codec_tag, version, sealed = rows[0][CODEC:]
        row = self._agent(rows[0][:CODEC])
        agent_id = row.agent_id
        codec.check_genuine(row.config)
        if codec_tag is None:
            if self._rows(COMPLETED, agent_id):
                # every completed turn left one: to begin anew would silently forget what it was
                raise SnapshotUnreadable(row.path, "its snapshot is missing from the store")
            snapshot = None
        else:
            place = self._places.state(agent_id, codec_tag, version)
            snapshot = Snapshot(codec_tag, version, self._sealer.open(sealed, place, row.path))
        mail = self._rows(INBOX, agent_id) if row.unread else ()
        inbox = tuple(
            MessageRow(
                serial,
                agent_id,
                self._sealer.open(body, self._places.body(serial, agent_id, sender, sender_id), row.path),
                sender,
                at,
                sender_id,
            )
            for serial, body, sender, at, sender_id in mail
        )
        return AgentImage(row, snapshot, inbox)

    def _agent(self, row: Row) -> AgentRow:
        fields, unread, version, last = (
            list(row[:UNREAD_COLUMN]),
            row[UNREAD_COLUMN],
            row[UNREAD_COLUMN + 1],
            row[UNREAD_COLUMN + 2 :],
        )
        agent_id, path, kind = fields[:3]
        place = self._places.config(agent_id, path, kind, version, fields[ORIGIN], fields[ORIGIN + 1])
        fields[4] = self._payload(fields[4], place, path)
        fields.append(None if last[0] is None else self._last(agent_id, path, last, fields[4]))
        fields.append(tuple(sorted(map(int, unread.split(",")))) if unread else ())
        return AgentRow(*fields)

    def _last(self, agent_id: AgentId, path: str, row: Row, config: Payload) -> RunRow:
        """The row that `projections` makes of the run's `EndRun`: an outcome, without its input.

        Whose it is, the agent's config tells: if that is refused, so is the result.
        """
        run_id, status, attempt, sealed, error, started_at, ended_at, error_type = row
        result = self._result(sealed, run_id, agent_id, status, path)
        if result is not None and codec.is_tampered_marker(config):
            result = config
        return RunRow(
            run_id=run_id,
            serial=0,
            agent_id=agent_id,
            path=path,
            input=b"",
            accepted_at=started_at or ended_at,
            status=status,
            attempt=attempt,
            result=result,
            error=error,
            started_at=started_at,
            ended_at=ended_at,
            error_type=error_type,
        )

    def _run(self, row: Row) -> RunRow:
        fields = list(row)
        run_id, serial, agent_id, path, sealed, accepted_at, status = fields[:7]
        awaits, result, ended_at, starter, stem = (
            fields[column] for column in (8, 9, 12, STARTED_BY, STEM)
        )
        place = self._places.input(run_id, serial, agent_id, path, accepted_at, awaits, starter, stem)
        try:
            fields[4] = self._sealer.open(sealed, place, path)
            if status == "accepted" and (result, ended_at) != (None, None):
                raise SnapshotTampered(path, f"run {run_id} has ended, and is to be executed again")
            fields[9] = self._result(result, run_id, agent_id, status, path)
            fields[8] = self._awaits(awaits, run_id) if awaits else ()
        except SnapshotTampered as error:  # nothing of a row that is not as it was written is believed
            fields[4] = codec.tampered_marker(error)
            fields[9] = codec.tampered_marker(error) if status == "completed" else None
            fields[8] = ()
        fields[ALONE], fields[AT_WORK] = bool(fields[ALONE]), bool(fields[AT_WORK])
        fields[DOUBTS] = _doubts(fields[DOUBTS])
        return RunRow(*fields)

    def _awaits(self, listed: str, run_id: RunId) -> tuple[RunId, ...]:
        try:
            return msgspec.json.decode(listed, type=tuple[RunId, ...])
        except (msgspec.DecodeError, TypeError) as error:
            problem = f"what run {run_id} waits for cannot be read ({error}). See `greenroom doctor`."
            raise StoreCorrupt(self.path, problem) from error

    def _result(
        self, sealed: object, run_id: RunId, agent_id: AgentId, status: str, path: str
    ) -> Payload | None:
        if sealed is None and status != "completed":  # what completed has a result, be it None
            return None
        return self._payload(sealed, self._places.result(run_id, agent_id, status), path)

    def _payload(self, sealed: object, place: ColumnPlace, path: str) -> Payload:
        try:
            return self._sealer.open(sealed, place, path)
        except SnapshotTampered as error:
            return codec.tampered_marker(error)

    def _rows(self, statement: str, *values: object) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()


def damaged(store: str, error: Exception) -> StoreCorrupt:
    """A row that cannot be read, in our words."""
    problem = f"it holds a value that cannot be there ({error}). `greenroom doctor` says where."
    return StoreCorrupt(store, problem)


def _doubts(listed: str | None) -> tuple[tuple[int, ...], ...]:
    """Of a run; none if they cannot be read: they are nothing but against it."""
    try:
        return msgspec.json.decode(listed, type=tuple[tuple[int, ...], ...]) if listed else ()
    except (msgspec.MsgspecError, TypeError, ValueError):
        return ()


def _below(under: str) -> tuple[str, str]:
    """The paths below `under` lie between these two: '0' comes right after '/'."""
    prefix = "" if under == "/" else under
    return f"{prefix}/", f"{prefix}0"
