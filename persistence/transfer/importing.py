"""A document put into a store: all of it in one transaction, or nothing.

The store is owned meanwhile, and made if there is none. Agents, runs and messages get new numbers and keep
their order. Paths and the run ids that callers chose stay, so they must be free. An id that greenroom made
itself, and that another run of the store has, is made anew wherever it stands (see decision 0039). Nothing
is unpickled: what the document's seals say is genuine is signed anew with the store's own key. The store's
events tell of what came.
"""

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import msgspec
from msgspec import Struct

from ...errors import InvalidPath, PathTaken, RunIdTaken
from ...paths import check_path
from ...types import AgentId, RunId, Timestamp
from .. import schema, sqlite_errors
from ..keys import ColumnPlace, Signer, make_key
from ..lease import StoreLease, admit
from ..record_groups import grouped
from ..records import AddAgent, AddEvent, AddMessage, AddRun, EndRun, InterruptRun, PutSnapshot, Record
from ..rows import AgentRow, EventRow, MessageRow, RunRow, Snapshot
from ..sql_writes import WRITES, statements
from .document import (
    AgentRecord,
    DocumentRefused,
    End,
    Header,
    MessageRecord,
    RunRecord,
    StateValue,
    StoredValue,
    fingerprint,
    header_of,
    lines_of,
)

IMPORT_LEASE_SECONDS = 600.0
"""Seconds. Within the transaction nobody can take the store anyway; this is for those who look."""

ROWS_IN_SLICE = 500
"""Lines that are written at a time."""

SLICE_BYTES = 16 << 20
"""Bytes of values in base64 after which no more lines are held to be written together."""

OWN = "run-"
"""The prefix of the ids that greenroom makes itself."""

END_STATUSES = ("completed", "failed", "interrupted")


OPEN_BEFORE = "SELECT 1 FROM agents WHERE status <> 'closed' AND path = ? AND agent_id <= ?"
RUN_BEFORE = "SELECT path FROM runs AS r JOIN agents USING (agent_id) WHERE run_id = ? AND serial <= ?"
TEMPORARY = """
    CREATE TEMP TABLE imported (agent_id INTEGER PRIMARY KEY, path TEXT, updated_at REAL, stateful INTEGER)
"""
ARRIVING = "CREATE TEMP TABLE arriving (run_id TEXT PRIMARY KEY, accepted_at REAL)"
RENAMED = "CREATE TEMP TABLE renamed (run_id TEXT PRIMARY KEY, new TEXT)"
OF_ANOTHER_RUN = """
    INSERT INTO temp.renamed SELECT a.run_id, a.run_id || '-' || token()
    FROM temp.arriving AS a JOIN main.runs AS r USING (run_id)
    WHERE a.accepted_at <> r.accepted_at OR (a.accepted_at IS NULL AND ?)
"""
"""Without a time, a run is only waited for, and not in the document."""


class Imported(Struct, frozen=True):
    """How much was imported. `waiting` are runs without an outcome, which the store now holds.

    `renamed` are runs that have another id now, as greenroom had made the same id in this store.
    """

    agents: int
    runs: int
    messages: int
    waiting: int
    renamed: int = 0


def import_agents(
    store: str,
    file: BinaryIO,
    key: bytes,
    document: str,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Imported:
    """Put the document in `file` (which can be read twice), sealed with `key`, into `store`.

    It is read to its end before the store is touched. Raises `DocumentRefused`, `PathTaken`, `RunIdTaken`,
    `StoreInUse`, a `StoreError`.
    """
    begin = file.tell()
    header = header_of(file, document)
    file.seek(begin)
    for number, _ in enumerate(lines_of(file, key, document)):
        if number % ROWS_IN_SLICE == 0:
            progress(f"checking: {number:,}")
    file.seek(begin)
    with _owned(store) as (connection, claim):
        importer = _Importer(connection, Signer(make_key(store)), claim.epoch, document)
        connection.execute("BEGIN IMMEDIATE")
        try:
            claim.check()
            if importer.may_meet():
                ours = header.key == fingerprint(make_key(store))
                importer.make_way(lines_of(file, key, document), from_here=ours)
                file.seek(begin)
            for part in _slices(lines_of(file, key, document)):
                importer.take(part)
                progress(f"importing: {importer.lines:,}")
            done = importer.finish(header)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return done


@contextmanager
def _owned(store: str) -> Iterator[tuple[sqlite3.Connection, StoreLease]]:
    connection = schema.open_for_writing(store, "power", admit=lambda known: admit(store, known))
    try:
        make_key(store)
        with sqlite_errors.explained(store):
            claim = StoreLease.take(store, connection, IMPORT_LEASE_SECONDS)
            try:
                yield connection, claim
            finally:
                claim.release()
    finally:
        connection.close()  # the last one copies the log into the file


class _Importer:
    """One document on its way into one store, within a transaction."""

    def __init__(self, connection: sqlite3.Connection, sealer: Signer, epoch: int, document: str) -> None:
        self.epoch, self.lines = epoch, 0
        self._connection, self._sealer, self._document = connection, sealer, document
        numbers = "SELECT next_agent_id, next_serial, next_seq FROM meta"
        agent_id, serial, self._seq = connection.execute(numbers).fetchone()
        self._agents_from: int = agent_id - 1
        self._serials_from: int = serial - 1
        self._agent_id: int = agent_id  # the next numbers, when all is done
        self._serial: int = serial
        self._now: Timestamp = time.time()
        self._counted = {AgentRecord: 0, RunRecord: 0, MessageRecord: 0}
        self._closed = self._waiting = self._renamed = 0
        connection.execute(TEMPORARY)

    def seal(self, data: bytes, place: ColumnPlace) -> bytes:
        """For `records`, which seals values on their way in."""
        return self._sealer.seal(data, place)

    def may_meet(self) -> bool:
        """Whether the store has runs, whose ids others may have."""
        return self._connection.execute("SELECT 1 FROM main.runs LIMIT 1").fetchone() is not None

    def make_way(self, lines: Iterable[object], *, from_here: bool) -> None:
        """Choose other ids for runs whose own ones greenroom has given to other runs of this store.

        A run that came before, and is here, keeps its id: it is refused. `from_here`: the document is from
        this store, so runs that are waited for and not in the document are those that are here.
        """
        execute = self._connection.execute
        execute(ARRIVING)
        execute(RENAMED)
        for line in lines:
            if isinstance(line, RunRecord):
                self._connection.executemany(
                    "INSERT OR IGNORE INTO temp.arriving (run_id) VALUES (?)",
                    [(run_id,) for run_id in line.awaits if run_id.startswith(OWN)],
                )
                if line.run_id.startswith(OWN):
                    execute("REPLACE INTO temp.arriving VALUES (?, ?)", (line.run_id, line.accepted_at))
        self._connection.create_function("token", 0, lambda: secrets.token_hex(4))
        self._renamed = execute(OF_ANOTHER_RUN, (not from_here,)).rowcount
        execute("DROP TABLE temp.arriving")

    def _id(self, run_id: RunId) -> RunId:
        """The id that a run of the document has here."""
        if not self._renamed or not run_id.startswith(OWN):
            return run_id
        found = self._connection.execute(
            "SELECT new FROM temp.renamed WHERE run_id = ?", (run_id,)
        ).fetchone()
        return RunId(found[0]) if found else run_id

    def take(self, part: list[AgentRecord | RunRecord | MessageRecord]) -> None:
        """Write some lines."""
        try:
            records = self._records(part)
            for kind, group in grouped(records):
                for write in WRITES[kind]:
                    rows = [write.encode(self, record) for record in group]
                    for statement, values in statements(write, rows):
                        self._connection.execute(statement, values)
        except sqlite3.IntegrityError as error:
            raise self._taken(part, error) from error
        except (ValueError, OverflowError) as error:  # no base64, or a number that no column holds
            raise DocumentRefused(self._document, f"a value of it cannot be stored: {error}") from error
        self.lines += len(part)

    def _records(self, part: list[AgentRecord | RunRecord | MessageRecord]) -> list[Record]:
        records: list[Record] = []
        for line in part:
            self._counted[type(line)] += 1
            match line:
                case AgentRecord():
                    records += self._agent(line)
                case RunRecord():
                    records += self._run(line)
                case MessageRecord():
                    records += self._message(line)
        return records

    def finish(self, header: Header) -> Imported:
        """The steps that need the whole document: the numbers, and agents as they were last changed."""
        for statement in (
            "UPDATE agents SET updated_at = i.updated_at, stateful = i.stateful"
            " FROM temp.imported AS i WHERE i.agent_id = agents.agent_id",
            "DROP TABLE temp.imported",
            "DROP TABLE IF EXISTS temp.renamed",
        ):
            self._connection.execute(statement)
        # stores of version 0.1.0 began their run ids with the epoch: none of those must be made again
        self._connection.execute(
            "UPDATE meta SET next_agent_id = ?, next_serial = ?, next_seq = ?, closed = closed + ?,"
            " epoch = max(epoch, ?)",
            (self._agent_id, self._serial, self._seq, self._closed, header.epoch),
        )
        agents, runs, messages = self._counted.values()
        return Imported(agents, runs, messages, self._waiting, self._renamed)

    # Lines as records

    def _agent(self, line: AgentRecord) -> Iterator[Record]:
        try:
            check_path(line.path)
        except InvalidPath as error:
            raise DocumentRefused(self._document, str(error)) from error
        agent_id = AgentId(self._agents_from + line.agent_id)
        self._agent_id = max(self._agent_id, agent_id + 1)
        self._connection.execute(
            "INSERT INTO temp.imported VALUES (?, ?, ?, ?)",
            (agent_id, line.path, line.updated_at, line.stateful),
        )
        yield AddAgent(
            AgentRow(
                agent_id,
                line.path,
                line.kind,
                line.version,
                line.config.payload,
                line.created_at,
                line.updated_at,
                line.status,
                line.error,
                line.incarnation,
                line.origin,
                self._serial_here(line.started_by),
            )
        )
        if line.state is not None:
            state = line.state
            yield PutSnapshot(agent_id, Snapshot(state.codec, state.version, state.payload))
        yield self._fact("agent.spawned", line.path, None, kind=line.kind, imported=True)
        if line.status == "closed":
            self._closed += 1
            yield self._fact("agent.closed", line.path, None, imported=True)

    def _run(self, line: RunRecord) -> Iterator[Record]:
        agent_id, path = self._of(line.agent_id)
        run_id = self._id(line.run_id)
        awaits = tuple(map(self._id, line.awaits))
        was = {} if run_id == line.run_id else {"was": line.run_id}
        ended = line.status in END_STATUSES
        if not ended and line.status != "accepted":
            raise DocumentRefused(self._document, f"run {line.run_id} has the status {line.status!r}")
        yield AddRun(
            RunRow(
                run_id,
                self._new_serial(line.serial),
                agent_id,
                path,
                line.input.payload,
                line.accepted_at,
                attempt=line.attempt,
                awaits=awaits,
                started_at=line.started_at,
                cuts=line.cuts,
                crashes=line.crashes,
                ran=line.ran,
                started_by=self._serial_here(line.started_by),
                stem=line.stem,
                divided_at=self._serial_here(line.divided_at),
            )
        )
        if ended:
            yield EndRun(
                run_id,
                agent_id,
                line.status,
                None if line.result is None else line.result.payload,
                line.error,
                line.attempt,
                line.started_at,
                line.accepted_at if line.ended_at is None else line.ended_at,
                line.error_type,
            )
            told = {"error": line.error} if line.error else {}
            yield self._fact(f"run.{line.status}", path, run_id, imported=True, **was, **told)
            return
        self._waiting += 1
        yield self._fact("run.accepted", path, run_id, imported=True, **was)
        if line.error is not None:
            yield InterruptRun(run_id, agent_id, line.error)

    def _message(self, line: MessageRecord) -> Iterator[Record]:
        agent_id, _ = self._of(line.agent_id)
        serial = self._new_serial(line.serial)
        yield AddMessage(MessageRow(serial, agent_id, line.body.payload, line.sender, line.at))

    def _of(self, exported: AgentId) -> tuple[AgentId, str]:
        """The number and path that an agent of the document has here."""
        agent_id = AgentId(self._agents_from + exported)
        statement = "SELECT path FROM temp.imported WHERE agent_id = ?"
        row = self._connection.execute(statement, (agent_id,)).fetchone()
        if row is None:
            raise DocumentRefused(
                self._document, f"it has no agent {exported}, and something of that agent"
            )
        return agent_id, row[0]

    def _serial_here(self, exported: int | None) -> int | None:
        """The serial that a run of the document has here, or would have if the document had it."""
        return None if exported is None else self._serials_from + exported

    def _new_serial(self, exported: int) -> int:
        serial = self._serials_from + exported
        self._serial = max(self._serial, serial + 1)
        return serial

    def _fact(self, type: str, path: str, run_id: RunId | None, **data: object) -> AddEvent:
        event = EventRow(self._seq, self._now, type, path, run_id, msgspec.json.encode(data))
        self._seq += 1
        return AddEvent(event)

    def _taken(self, part: Iterable[object], error: sqlite3.IntegrityError) -> Exception:
        """Which of these lines is in the way of what is there."""
        for line in part:
            if isinstance(line, AgentRecord) and line.status != "closed":
                here = "SELECT 1 FROM main.agents WHERE status <> 'closed' AND path = ?"
                if self._connection.execute(here, (line.path,)).fetchone():
                    return PathTaken(line.path)
            if isinstance(line, RunRecord):
                here = (
                    "SELECT a.path FROM main.runs JOIN main.agents AS a USING (agent_id) WHERE run_id = ?"
                )
                run_id = self._id(line.run_id)
                if row := self._connection.execute(here, (run_id,)).fetchone():
                    return RunIdTaken(run_id, row[0])
        return DocumentRefused(self._document, f"it contradicts itself or the store: {error}")


def _slices(lines: Iterable[object]) -> Iterator[list[AgentRecord | RunRecord | MessageRecord]]:
    """Lines of content, some at a time; runs never together with agents that they are of."""
    part: list[AgentRecord | RunRecord | MessageRecord] = []
    size = 0
    for line in lines:
        if isinstance(line, Header | End):
            continue
        assert isinstance(line, AgentRecord | RunRecord | MessageRecord)
        if part and (len(part) == ROWS_IN_SLICE or size > SLICE_BYTES or type(line) is not type(part[0])):
            yield part
            part, size = [], 0
        part.append(line)
        size += sum(len(value.data) for value in _values(line) if value is not None)
    if part:
        yield part


def _values(line: AgentRecord | RunRecord | MessageRecord) -> tuple[StoredValue | StateValue | None, ...]:
    match line:
        case AgentRecord():
            return line.config, line.state
        case RunRecord():
            return line.input, line.result
        case MessageRecord():
            return (line.body,)
