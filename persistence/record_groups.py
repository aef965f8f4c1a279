"""Records in groups of one type, so that one statement writes many of them."""

from collections.abc import Iterable, Iterator
from typing import Any

from ..types import RunId
from .projections import apply_to_run
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
from .rows import RunRow
from .sql_writes import LastRunColumns

_ORDER: tuple[type[Record], ...] = (
    AddAgent,
    AddRun,
    BeginRun,
    DivideRun,
    InterruptRun,
    SetIncarnation,
    EndRun,
    PutSnapshot,
    AddMessage,
    DropMessages,
    AddEvent,
)
_BARRIERS = (SetAgent, EraseAgent, SetRun)
_PLACE = {kind: place for place, kind in enumerate((*_BARRIERS, *_ORDER))}


def grouped(records: Iterable[Record]) -> Iterator[tuple[type[Record | LastRunColumns], list[Any]]]:
    """`records` in groups of one type, with the same result as one by one.

    Between two barriers the types can change places: they touch other columns, or the ledger gives them in
    this order anyway. An agent comes before all about it, a run before its beginning before its end, a
    message before its dropping, and no number twice. A barrier frees a path, forgets, or takes a beginning
    back: what comes after it stays after it. The later records of a run that is added here become a part of
    its row. The end of a run says all that its beginning said, and an agent's snapshot all that those
    before it said.
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


def _emptied(
    buckets: dict[type[Record], list[Any]],
) -> Iterator[tuple[type[Record | LastRunColumns], list[Any]]]:
    ends = buckets.get(EndRun, ())
    last = [LastRunColumns(end.run_id, end.agent_id, end.ended_at) for end in ends]
    if BeginRun in buckets and ends:
        ended = {end.run_id for end in ends}
        buckets[BeginRun] = [begin for begin in buckets[BeginRun] if begin.run_id not in ended]
    if AddRun in buckets:
        _fold_runs(buckets)
    if PutSnapshot in buckets:  # of an agent's snapshots the last one stays, and they may be large
        buckets[PutSnapshot] = list({put.agent_id: put for put in buckets[PutSnapshot]}.values())
    for kind in sorted(buckets, key=_PLACE.__getitem__):
        if group := buckets[kind]:
            yield kind, group
        if kind is EndRun:
            yield LastRunColumns, last
    buckets.clear()


def _fold_runs(buckets: dict[type[Record], list[Any]]) -> None:
    """Let the rows of added runs say what became of them, so that each is written once."""
    rows: dict[RunId, RunRow] = {add.row.run_id: add.row for add in buckets[AddRun]}
    for kind in (BeginRun, DivideRun, InterruptRun, EndRun):
        others = []
        for record in buckets.get(kind, ()):
            row = rows.get(record.run_id)
            if row is None:
                others.append(record)
            else:
                rows[record.run_id] = apply_to_run(row, (record,)) or row
        if kind in buckets:
            buckets[kind] = others
    buckets[AddRun] = [AddRun(row) for row in rows.values()]
