"""Records as SQL: what each one writes, and how many become one statement.

Values of users are sealed on their way in.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from ..types import AgentId, RunId, Timestamp
from .keys import ColumnPlace, SignedColumns
from .records import (
    AddAgent,
    AddEvent,
    AddMessage,
    AddRun,
    BeginRun,
    DivideRun,
    DropMessages,
    EndRun,
    EraseAgent,
    InterruptRun,
    PutSnapshot,
    Record,
    SetAgent,
    SetIncarnation,
    SetRun,
)

Row: TypeAlias = tuple[Any, ...]


class Seals(Protocol):
    """The writer: it seals values, and names its epoch."""

    epoch: int

    def seal(self, data: bytes, place: ColumnPlace) -> bytes: ...


Encode: TypeAlias = Callable[[Seals, Any], Row]

ROWS_IN_STATEMENT = (256, 64, 16, 4, 1)
"""How many rows one statement may have: few lengths, so that SQLite has all of them prepared."""

STATEMENT_BYTES = 1 << 20
"""Of values in one statement that has more than one row: each is copied when it is bound."""


class Write(Struct, frozen=True):
    """One statement for one or many rows, of which no two may have the same `key` (a column)."""

    head: str
    width: int
    tail: str
    encode: Encode
    key: int | None = None
    value: int | None = None  # the column that may be large


@lru_cache(256)
def statement(head: str, width: int, tail: str, rows: int) -> str:
    """A statement for this many rows."""
    row = f"({','.join('?' * width)})"
    return head + ",".join([row] * rows) + tail


def statements(write: Write, rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """The rows in their order, as few statements as may be, each with its parameters.

    SQLite executes a statement outside of the interpreter and takes each one back in: a thread that
    executes one per row waits for its turn as often, and is slowest when the others are busiest.
    """
    if len(rows) == 1:
        yield statement(write.head, write.width, write.tail, 1), rows[0]
        return
    for part in _apart(rows, write.key):
        begin, rest = 0, len(part)
        for count in ROWS_IN_STATEMENT:
            while rest >= count:
                taken = part[begin : begin + count]
                if count > 1 and write.value is not None and _weight(taken, write.value) > STATEMENT_BYTES:
                    break  # in smaller portions
                yield (
                    statement(write.head, write.width, write.tail, count),
                    tuple(chain.from_iterable(taken)),
                )
                begin, rest = begin + count, rest - count


def _apart(rows: Sequence[Row], key: int | None) -> Iterator[Sequence[Row]]:
    """Rows with equal keys in different parts, in their order: one statement changes a row once."""
    if key is None or len(set(map(itemgetter(key), rows))) == len(rows):
        yield rows
        return
    begin = 0
    seen: set[Any] = set()
    for place, row in enumerate(rows):
        if row[key] in seen:
            yield rows[begin:place]
            begin = place
            seen.clear()
        seen.add(row[key])
    yield rows[begin:]


def _weight(rows: Sequence[Row], column: int) -> int:
    return sum(map(len, filter(None, map(itemgetter(column), rows))))


def _insert(table: str, columns: str, encode: Encode, *, value: str, then: str = "") -> Write:
    names = columns.split(", ")
    head = f"INSERT INTO {table} ({columns}) VALUES "
    return Write(head, len(names), then, encode, value=names.index(value))


def _update(
    table: str, columns: str, key: str, encode: Encode, *, value: str | None = None, also: str = ""
) -> Write:
    """Set columns where `key`, the last value of a row, is given; `also` is the same for all rows."""
    names = columns.split(", ")
    sets = ", ".join(f"{name} = given.column{n}" for n, name in enumerate(names, 1))
    last = len(names) + 1
    tail = f") AS given WHERE {table}.{key} = given.column{last}"
    return Write(
        f"UPDATE {table} SET {sets}{also} FROM (VALUES ", last, tail, encode, len(names),
        names.index(value) if value else None,
    )  # fmt: skip


def _agent(store: Seals, record: AddAgent) -> Row:
    row = record.row
    place = SignedColumns.config(row.agent_id, row.path, row.kind, row.version, row.origin, row.started_by)
    config = store.seal(row.config, place)
    return (
        row.agent_id, row.path, row.kind, row.version, config, row.created_at, row.updated_at,
        row.status, _text(row.error), row.incarnation, row.origin, row.started_by, record.first_seq,
        store.epoch,
    )  # fmt: skip


def _run(store: Seals, record: AddRun) -> Row:
    row = record.row
    awaits = msgspec.json.encode(row.awaits).decode() if row.awaits else None
    place = SignedColumns.input(
        row.run_id, row.serial, row.agent_id, row.path, row.accepted_at, awaits, row.started_by, row.stem
    )
    value = store.seal(row.input, place)
    result = _result(store, row.result, row.run_id, row.agent_id, row.status)
    return (
        row.serial, row.run_id, row.agent_id, value, row.accepted_at, row.status, row.attempt,
        awaits, result, _text(row.error), row.started_at, row.ended_at, _text(row.error_type),
        row.started_by, row.cuts, row.crashes, int(row.alone), row.ran, int(row.at_work), row.stem,
        row.divided_at, _doubts(row.doubts), store.epoch,
    )  # fmt: skip


def _doubts(doubts: tuple[tuple[int, ...], ...]) -> str | None:
    return msgspec.json.encode(doubts).decode() if doubts else None


def _outcome(store: Seals, end: EndRun) -> Row:
    result = _result(store, end.result, end.run_id, end.agent_id, end.status)
    return (
        end.status, result, _text(end.error), end.attempt, end.started_at, end.ended_at,
        _text(end.error_type), end.run_id,
    )  # fmt: skip


def _result(
    store: Seals, result: bytes | None, run_id: RunId, agent_id: AgentId, status: str
) -> bytes | None:
    return None if result is None else store.seal(result, SignedColumns.result(run_id, agent_id, status))


def _snapshot(store: Seals, record: PutSnapshot) -> Row:
    agent_id, (codec_tag, version, data) = record.agent_id, msgspec.structs.astuple(record.snapshot)
    place = SignedColumns.state(agent_id, codec_tag, version)
    return agent_id, codec_tag, version, store.epoch, store.seal(data, place)


def _message(store: Seals, record: AddMessage) -> Row:
    row = record.row
    body = store.seal(row.body, SignedColumns.body(row.serial, row.agent_id, row.sender, row.sender_id))
    return row.serial, row.agent_id, row.sender, row.at, body, row.sender_id


def _text(text: str | None) -> str | None:
    """An error's text may hold halves of characters (file names do), which SQLite refuses."""
    return None if text is None else text.encode(errors="backslashreplace").decode()


class LastRunColumns(Struct, frozen=True):
    """The columns of an agent that the end of a run sets."""

    run_id: RunId
    agent_id: AgentId
    at: Timestamp


WRITES: dict[type[Record | LastRunColumns], tuple[Write, ...]] = {
    AddAgent: (
        _insert(
            "agents",
            "agent_id, path, kind, version, config, created_at, updated_at, status, error, incarnation,"
            " origin, started_by, first_seq, epoch",
            _agent,
            value="config",
        ),
    ),
    SetAgent: (
        _update(
            "agents",
            "status, error, updated_at",
            "agent_id",
            lambda _, r: (r.status, _text(r.error), r.at, r.agent_id),
        ),
    ),
    SetIncarnation: (
        Write(  # news of an older session may come late
            "UPDATE agents SET incarnation = max(incarnation, given.column1) FROM (VALUES ",
            2,
            ") AS given WHERE agents.agent_id = given.column2",
            lambda _, r: (r.incarnation, r.agent_id),
            key=1,
        ),
    ),
    EraseAgent: (  # `erasing` does the rest
        Write(
            "INSERT INTO erased (agent_id, path, low, high) SELECT a.agent_id, a.path, a.first_seq,"
            " iif(given.column2 > 0, given.column2, (SELECT next_seq FROM meta)) FROM (VALUES ",
            2,
            ") AS given CROSS JOIN agents AS a ON a.agent_id = given.column1",
            lambda _, r: (r.agent_id, r.upto),
        ),
        Write("DELETE FROM agents WHERE agent_id IN (VALUES ", 1, ")", lambda _, r: (r.agent_id,)),
    ),
    PutSnapshot: (
        # half the cost of INSERT OR REPLACE, which takes the old row out first
        _insert(
            "snapshots",
            "agent_id, codec, version, epoch, data",
            _snapshot,
            value="data",
            then=" ON CONFLICT (agent_id) DO UPDATE SET codec = excluded.codec,"
            " version = excluded.version, epoch = excluded.epoch, data = excluded.data",
        ),
    ),
    AddMessage: (
        # an agent that a turn had found may be deleted before the turn is committed
        Write(
            "INSERT INTO inbox (serial, agent_id, sender, at, body, sender_id) SELECT * FROM (VALUES ",
            6,
            ") AS given WHERE EXISTS (SELECT 1 FROM agents WHERE agent_id = given.column2)",
            _message,
            value=4,
        ),
    ),
    DropMessages: (
        Write(
            # CROSS: these rows first, and the index for each
            "DELETE FROM inbox WHERE serial IN (SELECT serial FROM (VALUES ",
            2,
            ") AS given CROSS JOIN inbox ON agent_id = given.column1 AND serial <= given.column2)",
            lambda _, r: (r.agent_id, r.upto),
        ),
    ),
    AddRun: (
        _insert(
            "runs",
            "serial, run_id, agent_id, input, accepted_at, status, attempt, awaits, result, error,"
            " started_at, ended_at, error_type, started_by, cuts, crashes, alone, ran, at_work, stem,"
            " divided_at, doubts, epoch",
            _run,
            value="input",
        ),
    ),
    BeginRun: (
        _update(
            "runs",
            "attempt, started_at, alone",
            "run_id",
            lambda _, r: (r.attempt, r.at, int(r.alone), r.run_id),
            also=", at_work = 1",
        ),
    ),
    SetRun: (
        _update(
            "runs",
            "attempt, started_at, at_work, alone, cuts, crashes, ran, doubts",
            "run_id",
            lambda _, r: (
                r.attempt,
                r.started_at,
                int(r.at_work),
                int(r.alone),
                r.cuts,
                r.crashes,
                r.ran,
                _doubts(r.doubts),
                r.run_id,
            ),
        ),
    ),
    DivideRun: (_update("runs", "divided_at", "run_id", lambda _, r: (r.at, r.run_id)),),
    InterruptRun: (_update("runs", "error", "run_id", lambda _, r: (_text(r.reason), r.run_id)),),
    EndRun: (
        _update(
            "runs",
            "status, result, error, attempt, started_at, ended_at, error_type",
            "run_id",
            _outcome,
            value="result",
            also=", at_work = 0, alone = 0",
        ),
    ),
    LastRunColumns: (
        _update("agents", "last_run_id, updated_at", "agent_id", lambda _, r: (r.run_id, r.at, r.agent_id)),
    ),
    AddEvent: (
        _insert(
            "events",
            "seq, at, type, path, run_id, data",
            lambda _, r: msgspec.structs.astuple(r.row),
            value="data",
        ),
    ),
}
