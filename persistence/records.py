"""Records as SQL: what each one writes, and how many become one `executemany`.

What is a user's value is sealed on its way in.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import msgspec

from .keys import Place
from .protocol import (
    AddAgent,
    AddEvent,
    AddMessage,
    AddRun,
    BeginRun,
    DropMessages,
    EndRun,
    EraseAgent,
    InterruptRun,
    PutSnapshot,
    Record,
    SetAgent,
    SetIncarnation,
)

Row: TypeAlias = tuple[Any, ...]


class Seals(Protocol):
    """Whoever writes: seals values, and names its epoch."""

    epoch: int

    def seal(self, data: bytes, place: Place) -> bytes: ...


Encode: TypeAlias = Callable[[Seals, Any], Row]


def _insert(table: str, *columns: str) -> str:
    marks = ",".join("?" * len(columns))
    return f"INSERT INTO {table} ({','.join(columns)}) VALUES ({marks})"


def _agent(store: Seals, record: AddAgent) -> Row:
    row = record.row
    config = store.seal(row.config, ("config", row.agent_id))
    return (
        row.agent_id, row.path, row.kind, row.version, config, row.created_at, row.updated_at,
        row.status, _text(row.error), row.incarnation, row.origin, store.epoch,
    )  # fmt: skip


def _run(store: Seals, record: AddRun) -> Row:
    row = record.row
    awaits = msgspec.json.encode(row.awaits).decode() if row.awaits else None
    value = store.seal(row.input, ("input", row.run_id))
    return (
        row.serial, row.run_id, row.agent_id, value, row.accepted_at, row.status, row.attempt,
        awaits, store.epoch,
    )  # fmt: skip


def _outcome(store: Seals, end: EndRun) -> Row:
    result = None if end.result is None else store.seal(end.result, ("result", end.run_id))
    return (
        end.status, result, _text(end.error), end.attempt, end.started_at, end.ended_at, end.run_id,
    )  # fmt: skip


def _snapshot(store: Seals, record: PutSnapshot) -> Row:
    agent_id, (codec_tag, version, data) = record.agent_id, msgspec.structs.astuple(record.snapshot)
    place = ("state", agent_id, codec_tag, version)
    return agent_id, codec_tag, version, store.epoch, store.seal(data, place)


def _message(store: Seals, record: AddMessage) -> Row:
    row = record.row
    body = store.seal(row.body, ("body", row.serial, row.agent_id))
    return row.serial, row.agent_id, row.sender, row.at, body


def _text(text: str | None) -> str | None:
    """An error's text may hold halves of characters (file names do), which SQLite refuses."""
    return None if text is None else text.encode(errors="backslashreplace").decode()


WRITES: dict[type[Record], tuple[tuple[str, Encode], ...]] = {
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
    AddMessage: (
        (
            # an agent that a turn had found may be deleted before the turn is committed
            "INSERT INTO inbox (serial, agent_id, sender, at, body)"
            " SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM agents WHERE agent_id = ?2)",
            _message,
        ),
    ),
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
    InterruptRun: (
        (
            "UPDATE runs SET error = ? WHERE run_id = ?",
            lambda _, r: (_text(r.reason), r.run_id),
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
    InterruptRun,
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
    An agent's snapshot says all that those before it said.
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
    if PutSnapshot in buckets:  # of an agent's snapshots the last one stays, and they may be large
        buckets[PutSnapshot] = list({put.agent_id: put for put in buckets[PutSnapshot]}.values())
    for kind in (*_BARRIERS, *_ORDER):
        if group := buckets.pop(kind, None):
            yield kind, group
