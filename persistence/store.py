"""The store: records in, rows out. The one place where greenroom's words become SQL.

`Store` is the only writer of a file and `Reader` reads what is committed; each belongs to the thread
that opened it. What is a user's value is sealed on its way in and checked on its way out, before
anybody could unpickle it.

The epoch fences: every transaction touches the row that counts how often the file was opened for
writing, and is given up if somebody else opened it since.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import msgspec

from ..actors.errors import SnapshotTampered, SnapshotUnreadable, StoreError, StoreLost
from ..actors.vocabulary import AgentId, Durability, Payload, RunId
from . import codec, schema
from .keys import Place, Sealer, make_key, read_key
from .protocol import (
    AddAgent,
    AddEvent,
    AddMessage,
    AddRun,
    AgentImage,
    AgentRow,
    BeginRun,
    DropMessages,
    EndRun,
    EraseAgent,
    EventRow,
    FindAgent,
    FindAgents,
    FindRuns,
    ListAgents,
    ListEvents,
    LoadAgent,
    MessageRow,
    PutSnapshot,
    Query,
    Record,
    RunRow,
    SetAgent,
    SetIncarnation,
    Snapshot,
    Unfinished,
)

Row: TypeAlias = tuple[Any, ...]

CHECKPOINT_AFTER = 2_000
"""Rows written (and 4 KiB pieces of their values) before the log is copied into the file."""

FULL = 2  # of `PRAGMA synchronous`: an fsync in every commit

_RETRYABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_PROTOCOL,
}


class WriteFailed(StoreError):
    """A transaction was given up; nothing of it is in the store. `fatal`: no later try can succeed."""

    def __init__(self, store: str, problem: str, fatal: bool) -> None:
        super().__init__(store, problem)
        self.args = (store, problem, fatal)
        self.fatal = fatal


# Writing

Encode: TypeAlias = Callable[["Store", Any], Row]


def _insert(table: str, *columns: str) -> str:
    marks = ",".join("?" * len(columns))
    return f"INSERT INTO {table} ({','.join(columns)}) VALUES ({marks})"


def _agent(store: "Store", record: AddAgent) -> Row:
    row = record.row
    config = store.seal(row.config, ("config", row.agent_id))
    return (
        row.agent_id, row.path, row.kind, row.version, config, row.created_at, row.updated_at,
        row.status, _text(row.error), row.incarnation, row.origin, store.epoch,
    )  # fmt: skip


def _run(store: "Store", record: AddRun) -> Row:
    row = record.row
    awaits = msgspec.json.encode(row.awaits).decode() if row.awaits else None
    value = store.seal(row.input, ("input", row.run_id))
    return (
        row.serial, row.run_id, row.agent_id, value, row.accepted_at, row.status, row.attempt,
        awaits, store.epoch,
    )  # fmt: skip


def _outcome(store: "Store", end: EndRun) -> Row:
    result = None if end.result is None else store.seal(end.result, ("result", end.run_id))
    return (
        end.status, result, _text(end.error), end.attempt, end.started_at, end.ended_at, end.run_id,
    )  # fmt: skip


def _snapshot(store: "Store", record: PutSnapshot) -> Row:
    agent_id, (codec_tag, version, data) = record.agent_id, msgspec.structs.astuple(record.snapshot)
    place = ("state", agent_id, codec_tag, version)
    return agent_id, codec_tag, version, store.epoch, store.seal(data, place)


def _message(store: "Store", record: AddMessage) -> Row:
    row = record.row
    body = store.seal(row.body, ("body", row.serial, row.agent_id))
    return row.serial, row.agent_id, row.sender, row.at, body


def _text(text: str | None) -> str | None:
    """An error's text may hold halves of characters (file names do), which SQLite refuses."""
    return None if text is None else text.encode(errors="backslashreplace").decode()


_WRITES: dict[type[Record], tuple[tuple[str, Encode], ...]] = {
    AddAgent: (
        (
            _insert(
                "agents", "agent_id", "path", "kind", "version", "config", "created_at", "updated_at",
                "status", "error", "incarnation", "origin", "epoch",
            ),
            _agent,
        ),
    ),
    SetAgent: (
        (
            "UPDATE agents SET status = ?, error = ?, updated_at = ? WHERE agent_id = ?",
            lambda _, r: (r.status, _text(r.error), r.at, r.agent_id),
        ),
    ),
    SetIncarnation: (
        (
            "UPDATE agents SET incarnation = ? WHERE agent_id = ?",
            lambda _, r: (r.incarnation, r.agent_id),
        ),
    ),
    EraseAgent: (
        ("DELETE FROM agents WHERE agent_id = ?", lambda _, r: (r.agent_id,)),  # triggers do the rest
    ),
    PutSnapshot: (
        (
            # half the cost of INSERT OR REPLACE, which takes the old row out first
            _insert("snapshots", "agent_id", "codec", "version", "epoch", "data")
            + " ON CONFLICT (agent_id) DO UPDATE SET codec = excluded.codec,"
            " version = excluded.version, epoch = excluded.epoch, data = excluded.data",
            _snapshot,
        ),
    ),
    AddMessage: ((_insert("inbox", "serial", "agent_id", "sender", "at", "body"), _message),),
    DropMessages: (
        (
            "DELETE FROM inbox WHERE agent_id = ? AND serial <= ?",
            lambda _, r: (r.agent_id, r.upto),
        ),
    ),
    AddRun: (
        (
            _insert(
                "runs", "serial", "run_id", "agent_id", "input", "accepted_at", "status", "attempt",
                "awaits", "epoch",
            ),
            _run,
        ),
    ),
    BeginRun: (
        (
            "UPDATE runs SET attempt = ?, started_at = ? WHERE run_id = ?",
            lambda _, r: (r.attempt, r.at, r.run_id),
        ),
    ),
    EndRun: (
        (
            "UPDATE runs SET status = ?, result = ?, error = ?, attempt = ?, started_at = ?,"
            " ended_at = ? WHERE run_id = ?",
            _outcome,
        ),
        (
            "UPDATE agents SET last_run_id = ?, updated_at = ? WHERE agent_id = ?",
            lambda _, r: (r.run_id, r.ended_at, r.agent_id),
        ),
    ),
    AddEvent: (
        (
            _insert("events", "seq", "at", "type", "path", "run_id", "data"),
            lambda _, r: msgspec.structs.astuple(r.row),
        ),
    ),
}  # fmt: skip

_ORDER: tuple[type[Record], ...] = (
    AddAgent,
    AddRun,
    BeginRun,
    SetIncarnation,
    EndRun,
    PutSnapshot,
    AddMessage,
    DropMessages,
    AddEvent,
)
_BARRIERS = (SetAgent, EraseAgent)


def grouped(records: Iterable[Record]) -> Iterator[tuple[type[Record], list[Any]]]:
    """`records` in groups of one type, with the same result as one by one, for `executemany`.

    Between two barriers the types can change places: they touch other columns, or the ledger gives them
    in this order anyway (an agent before all about it, a run before its beginning before its end, a
    message before the dropping of it, and no number twice). A barrier frees a path, or forgets: what
    comes after it stays after it. The end of a run says all that its beginning said.
    """
    buckets: dict[type[Record], list[Any]] = {}
    barred = False  # a barrier waits in the buckets, alone
    for record in records:
        kind = type(record)
        if kind in buckets:
            buckets[kind].append(record)
            continue
        if barred or kind in _BARRIERS:
            yield from _emptied(buckets)
            barred = kind in _BARRIERS
        buckets[kind] = [record]
    yield from _emptied(buckets)


def _emptied(buckets: dict[type[Record], list[Any]]) -> Iterator[tuple[type[Record], list[Any]]]:
    if BeginRun in buckets and EndRun in buckets:
        ended = {end.run_id for end in buckets[EndRun]}
        buckets[BeginRun] = [begin for begin in buckets[BeginRun] if begin.run_id not in ended]
    for kind in (*_BARRIERS, *_ORDER):
        if group := buckets.pop(kind, None):
            yield kind, group


class Store:
    """A file opened for writing. `path` is the file, also for a store `:memory:`."""

    def __init__(
        self,
        path: str,
        connection: sqlite3.Connection,
        sealer: Sealer,
        *,
        epoch: int,
        folder: TemporaryDirectory[str] | None = None,
    ) -> None:
        self.path, self.epoch = path, epoch
        self._connection, self._sealer, self._folder = connection, sealer, folder
        self._synchronous = self._level = connection.execute("PRAGMA synchronous").fetchone()[0]
        self._unchecked = 0  # rows, about, since the last checkpoint

    @classmethod
    def open(cls, path: str, durability: Durability) -> "tuple[Store, Unfinished]":
        """Open the file in this thread, take the next epoch, and say what is unfinished in it.

        Costs as much as is unfinished, however many agents are known. `:memory:` is an ordinary file in
        a directory of its own, gone when the store is closed, so that a second connection can read it.
        """
        # the object, and not mkdtemp: gone with the interpreter, too, if nobody closes the store
        folder = TemporaryDirectory(prefix="greenroom-") if path == ":memory:" else None
        file = path if folder is None else os.path.join(folder.name, "store.db")
        try:
            schema.inspect(file)  # before a key is made for what is refused
            sealer = Sealer(make_key(file))
            connection = schema.open_for_writing(file, durability, private=folder is not None)
            try:
                epoch = _next_epoch(file, connection)
                unfinished = Reader(file, connection, sealer).unfinished()
                store = cls(file, connection, sealer, epoch=epoch, folder=folder)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            if folder is not None:
                folder.cleanup()
            raise
        return store, unfinished

    def write(self, records: Sequence[Record], *, sync: bool = False) -> None:
        """Write all of `records` in this order, or nothing and raise `WriteFailed`.

        `sync` has the log on the disk itself, with all before it, when this returns.
        """
        try:
            self._set_level(sync)
            self.begin()
            self.apply(records)
            self.commit()
        except Exception as error:
            failure = self._failure(error)
            if self._connection.in_transaction:  # SQLite itself may have rolled it back
                self._connection.execute("ROLLBACK")
            raise failure from error

    # The steps of a transaction, each a method so that a test can fail or stall it

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def apply(self, records: Sequence[Record]) -> None:
        groups = list(grouped(records))
        self._count(groups)
        for kind, group in groups:
            for statement, encode in _WRITES[kind]:
                self._connection.executemany(statement, [encode(self, record) for record in group])
        self._unchecked += len(records)

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def seal(self, data: bytes, place: Place) -> bytes:
        self._unchecked += len(data) >> 12
        return self._sealer.seal(data, place)

    @property
    def untidy(self) -> bool:
        """Whether `tidy` has something to do."""
        return self._unchecked >= CHECKPOINT_AFTER

    def tidy(self) -> None:
        """Copy the log into the file and give some free pages back: milliseconds, between commits."""
        self._unchecked = 0
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if self._connection.execute("PRAGMA freelist_count").fetchone()[0] > 4096:
                self._connection.execute("PRAGMA incremental_vacuum(512)").fetchall()
        except sqlite3.Error as error:
            raise schema.explain(self.path, error) from error

    def close(self) -> None:
        """Copy the log into the file and let go of it; close readers first.

        The log of a file that could not be copied stays beside it, for the next opening.
        """
        try:
            self.tidy()
        finally:
            self._connection.close()  # the last connection removes the log
            if self._folder is not None:
                self._folder.cleanup()

    def _set_level(self, sync: bool) -> None:
        level = max(self._synchronous, FULL if sync else 0)
        if level != self._level:  # between transactions only
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._level = level

    def _count(self, groups: Iterable[tuple[type[Record], list[Any]]]) -> None:
        """Note the numbers that are used up; fails if this epoch is over."""
        agent_id = serial = seq = 0
        for kind, group in groups:
            if kind is AddEvent:
                seq = max(seq, *(record.row.seq for record in group))
            elif kind is AddRun or kind is AddMessage:
                serial = max(serial, *(record.row.serial for record in group))
            elif kind is AddAgent:
                agent_id = max(agent_id, *(record.row.agent_id for record in group))
        cursor = self._connection.execute(
            "UPDATE meta SET next_agent_id = max(next_agent_id, ?), next_serial = max(next_serial, ?),"
            " next_seq = max(next_seq, ?) WHERE epoch = ?",
            (agent_id + 1, serial + 1, seq + 1, self.epoch),
        )
        if cursor.rowcount != 1:
            raise StoreLost(self.path, "another runtime has opened it for writing since")

    def _failure(self, error: Exception) -> WriteFailed:
        if isinstance(error, StoreError):
            return WriteFailed(self.path, error.problem, True)
        if isinstance(error, sqlite3.Error):
            code = getattr(error, "sqlite_errorcode", None)
            fatal = code is None or code & 0xFF not in _RETRYABLE
            return WriteFailed(self.path, schema.explain(self.path, error).problem, fatal)
        return WriteFailed(self.path, f"a record cannot be written: {error!r}", True)


def _next_epoch(path: str, connection: sqlite3.Connection) -> int:
    try:
        rows = connection.execute("UPDATE meta SET epoch = epoch + 1 RETURNING epoch").fetchall()
    except sqlite3.Error as error:
        raise schema.explain(path, error) from error
    epoch: int = rows[0][0]
    return epoch


# Reading

_AGENT = """
    SELECT a.agent_id, a.path, a.kind,
           coalesce((SELECT s.version FROM snapshots AS s WHERE s.agent_id = a.agent_id), a.version),
           a.config, a.created_at, a.updated_at, a.status,
           a.error, a.incarnation, a.origin,
           (SELECT group_concat(serial) FROM inbox WHERE inbox.agent_id = a.agent_id),
           r.run_id, r.status, r.attempt, r.result, r.error, r.started_at, r.ended_at
    FROM agents AS a LEFT JOIN runs AS r ON r.run_id = a.last_run_id
"""
_RUN = """
    SELECT r.run_id, r.serial, r.agent_id, a.path, r.input, r.accepted_at, r.status, r.attempt,
           r.awaits, r.result, r.error, r.started_at, r.ended_at
    FROM runs AS r CROSS JOIN agents AS a ON a.agent_id = r.agent_id
"""  # CROSS: in this order
# `status <> 'closed'` and `status = 'closed'` stand as in the schema: that is how SQLite finds the index
OPEN_AT = f"{_AGENT} WHERE a.status <> 'closed' AND a.path = ?"
CLOSED_AT = f"{_AGENT} WHERE a.status = 'closed' AND a.path = ? ORDER BY a.agent_id DESC LIMIT 1"
AGENTS_BY_ID = f"{_AGENT} WHERE a.agent_id IN (SELECT value FROM json_each(?))"
OPEN_BETWEEN = f"""{_AGENT} WHERE a.status <> 'closed' AND a.path > ? AND a.path < ?
    ORDER BY a.path, a.agent_id LIMIT ?"""
CLOSED_BETWEEN = f"""{_AGENT} WHERE a.status = 'closed' AND a.path > ? AND a.path < ?
    ORDER BY a.path, a.agent_id LIMIT ?"""
CLOSED_HERE = f"{_AGENT} WHERE a.status = 'closed' AND a.path = ? ORDER BY a.agent_id LIMIT ?"
OPEN_HERE = f"{OPEN_AT} LIMIT ?"
RUN_BY_ID = f"{_RUN} WHERE r.run_id = ?"
UNFINISHED_RUNS = f"{_RUN} WHERE r.status = 'accepted' ORDER BY r.serial"
UNFINISHED_AGENTS = f"""{_AGENT} WHERE a.agent_id IN
    (SELECT agent_id FROM runs WHERE status = 'accepted') ORDER BY a.agent_id"""
SNAPSHOT = "SELECT codec, version, data FROM snapshots WHERE agent_id = ?"
COMPLETED = "SELECT 1 FROM runs WHERE agent_id = ? AND status = 'completed' LIMIT 1"
INBOX = "SELECT serial, body, sender, at FROM inbox WHERE agent_id = ? ORDER BY serial"
EVENTS = """
    SELECT seq, at, type, path, run_id, data FROM events
    WHERE seq > ? AND (path = ? OR path > ? AND path < ?) ORDER BY seq LIMIT ?
"""


class Reader:
    """A file opened for reading: the committed truth, each question answered as of one moment."""

    def __init__(self, path: str, connection: sqlite3.Connection, sealer: Sealer) -> None:
        self.path = path
        self._connection, self._sealer = connection, sealer

    @classmethod
    def open(cls, path: str) -> "Reader":
        """Open, in this thread, a file that a `Store` has opened already."""
        try:
            sealer = Sealer(read_key(path))
        except FileNotFoundError as error:
            raise StoreError(path, "it has no key file: open it for writing first.") from error
        return cls(path, schema.open_for_reading(path), sealer)

    def read(self, query: Query) -> object:
        """The value that the query's docstring names.

        Values whose seal is broken are `codec.refused`, so that the rows around them can be had; an
        agent's image is not to be had without all of it (`SnapshotTampered`).
        """
        try:
            self._connection.execute("BEGIN")  # one moment for all that the answer is made of
            try:
                return self._answer(query)
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise schema.explain(self.path, error) from error

    def close(self) -> None:
        self._connection.close()

    def unfinished(self) -> Unfinished:
        rows = self._rows(
            "SELECT epoch, next_agent_id, next_serial, next_seq, known FROM meta WHERE id = 1"
        )
        epoch, next_agent_id, next_serial, next_seq, known = rows[0]
        return Unfinished(
            epoch=epoch,
            next_agent_id=next_agent_id,
            next_serial=next_serial,
            next_seq=next_seq,
            runs=tuple(map(self._run, self._rows(UNFINISHED_RUNS))),
            agents=tuple(map(self._agent, self._rows(UNFINISHED_AGENTS))),
            known=known,
        )

    def _answer(self, query: Query) -> object:
        match query:
            case FindAgent(path):
                rows = self._rows(OPEN_AT, path) or self._rows(CLOSED_AT, path)
                return self._agent(rows[0]) if rows else None
            case FindAgents(agent_ids):
                return self._agents(agent_ids)
            case LoadAgent(agent_id):
                return self._image(agent_id)
            case FindRuns(run_ids):
                found = (self._rows(RUN_BY_ID, run_id) for run_id in run_ids)
                return tuple(self._run(rows[0]) if rows else None for rows in found)
            case ListAgents():
                return self._page(query)
            case ListEvents(under, since, limit):
                low, high = _below(under)
                return tuple(EventRow(*row) for row in self._rows(EVENTS, since, under, low, high, limit))

    def _agents(self, agent_ids: Sequence[AgentId]) -> tuple[AgentRow, ...]:
        rows = self._rows(AGENTS_BY_ID, msgspec.json.encode(agent_ids).decode())
        found = {row[0]: self._agent(row) for row in rows}
        return tuple(found[agent_id] for agent_id in agent_ids if agent_id in found)

    def _page(self, query: ListAgents) -> tuple[AgentRow, ...]:
        """Two searches, since `/a-b` comes between `/a` and `/a/b`."""
        low, high = _below(query.under)
        after, limit = query.after or "", query.limit
        here, between = (CLOSED_HERE, CLOSED_BETWEEN) if query.closed else (OPEN_HERE, OPEN_BETWEEN)
        rows = self._rows(here, query.under, limit) if after < query.under else []
        rows += self._rows(between, max(low, after), high, limit - len(rows))
        return tuple(map(self._agent, rows))

    def _image(self, agent_id: AgentId) -> AgentImage | None:
        rows = self._agents((agent_id,))
        if not rows:
            return None
        row = rows[0]
        codec.check_genuine(row.config)
        snapshot = None
        for codec_tag, version, sealed in self._rows(SNAPSHOT, agent_id):
            place = ("state", agent_id, codec_tag, version)
            snapshot = Snapshot(codec_tag, version, self._sealer.open(sealed, place, row.path))
        if snapshot is None and self._rows(COMPLETED, agent_id):
            # every completed turn left one: to begin anew would silently forget what it was
            raise SnapshotUnreadable(row.path, "its snapshot is missing from the store")
        inbox = tuple(
            MessageRow(
                serial,
                agent_id,
                self._sealer.open(body, ("body", serial, agent_id), row.path),
                sender,
                at,
            )
            for serial, body, sender, at in self._rows(INBOX, agent_id)
        )
        return AgentImage(row, snapshot, inbox)

    def _agent(self, row: Row) -> AgentRow:
        fields, unread, last = list(row[:11]), row[11], row[12:]
        agent_id, path = fields[0], fields[1]
        fields[4] = self._payload(fields[4], ("config", agent_id), path)
        fields.append(None if last[0] is None else self._last(agent_id, path, last))
        fields.append(tuple(sorted(map(int, unread.split(",")))) if unread else ())
        return AgentRow(*fields)

    def _last(self, agent_id: AgentId, path: str, row: Row) -> RunRow:
        """What `fold.fold_row` makes of the run's `EndRun`: an outcome, without its input."""
        run_id, status, attempt, result, error, started_at, ended_at = row
        return RunRow(
            run_id=run_id,
            serial=0,
            agent_id=agent_id,
            path=path,
            input=b"",
            accepted_at=started_at or ended_at,
            status=status,
            attempt=attempt,
            result=self._result(result, run_id, path),
            error=error,
            started_at=started_at,
            ended_at=ended_at,
        )

    def _run(self, row: Row) -> RunRow:
        fields = list(row)
        run_id, path = fields[0], fields[3]
        fields[4] = self._payload(fields[4], ("input", run_id), path)
        fields[8] = msgspec.json.decode(fields[8], type=tuple[RunId, ...]) if fields[8] else ()
        fields[9] = self._result(fields[9], run_id, path)
        return RunRow(*fields)

    def _result(self, sealed: object, run_id: RunId, path: str) -> Payload | None:
        return None if sealed is None else self._payload(sealed, ("result", run_id), path)

    def _payload(self, sealed: object, place: Place, path: str) -> Payload:
        try:
            return self._sealer.open(sealed, place, path)
        except SnapshotTampered as error:
            return codec.refused(error)

    def _rows(self, statement: str, *values: object) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()


def _below(under: str) -> tuple[str, str]:
    """The paths below `under` lie between these two: '0' comes right after '/'."""
    prefix = "" if under == "/" else under
    return f"{prefix}/", f"{prefix}0"
