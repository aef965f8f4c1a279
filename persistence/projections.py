"""The meaning of each record: rows before it in, rows after it out.

The memtable of the commit log is read through these functions, and the store's tests hold the SQL against
them. Each is total: a record about something else changes nothing.
"""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from .records import (
    AddAgent,
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
from .rows import AgentImage, AgentRow, RunRow


def apply_to_agent(row: AgentRow | None, records: Iterable[Record]) -> AgentRow | None:
    """The agent at rest after `records`; None if there is none. O(records), of which there may be many."""
    changes: dict[str, Any] = {}
    unread: set[int] | None = None
    ended: EndRun | None = None
    for record in records:
        if type(record) is AddAgent:
            row, changes, unread, ended = record.row, {}, None, None
        elif row is None:
            continue
        elif type(record) is SetAgent:
            changes.update(status=record.status, error=record.error, updated_at=record.at)
        elif type(record) is PutSnapshot:
            changes["version"] = record.snapshot.version
        elif type(record) is SetIncarnation:
            before = changes.get("incarnation", row.incarnation)
            changes["incarnation"] = max(before, record.incarnation)
        elif type(record) is EndRun:
            ended, changes["updated_at"] = record, record.ended_at
        elif type(record) is AddMessage:
            unread = set(row.unread) if unread is None else unread
            unread.add(record.row.serial)
        elif type(record) is DropMessages:
            unread = {n for n in (row.unread if unread is None else unread) if n > record.upto}
        elif type(record) is EraseAgent:
            row = None
    if row is None:
        return None
    if unread is not None:
        changes["unread"] = tuple(sorted(unread))
    if ended is not None:
        changes["last"] = _ended(row.path, ended)
    return replace(row, **changes) if changes else row


def apply_to_image(image: AgentImage | None, records: Iterable[Record]) -> AgentImage | None:
    """All that the agent's next session is opened from, after `records`."""
    records = tuple(records)
    row = apply_to_agent(image.row if image else None, records)
    if row is None:
        return None
    snapshot = image.snapshot if image else None
    inbox = {message.serial: message for message in image.inbox} if image else {}
    for record in records:
        if type(record) is AddAgent:
            snapshot, inbox = None, {}
        elif type(record) is PutSnapshot:
            snapshot = record.snapshot
        elif type(record) is AddMessage:
            inbox[record.row.serial] = record.row
        elif type(record) is DropMessages:
            inbox = {n: message for n, message in inbox.items() if n > record.upto}
    return AgentImage(row, snapshot, tuple(inbox[serial] for serial in sorted(inbox)))


def apply_to_run(run: RunRow | None, records: Iterable[Record]) -> RunRow | None:
    """The run after `records`; None if there is none."""
    for record in records:
        if type(record) is AddRun:
            run = record.row
        elif run is None:
            continue
        elif type(record) is BeginRun:
            run = replace(
                run, attempt=record.attempt, started_at=record.at, at_work=True, alone=record.alone
            )
        elif type(record) is SetRun:
            run = replace(
                run,
                attempt=record.attempt,
                started_at=record.started_at,
                at_work=record.at_work,
                alone=record.alone,
                cuts=record.cuts,
                crashes=record.crashes,
                ran=record.ran,
                doubts=record.doubts,
            )
        elif type(record) is DivideRun:
            run = replace(run, divided_at=record.at)
        elif type(record) is InterruptRun:
            run = replace(run, error=record.reason)
        elif type(record) is EndRun:
            run = replace(
                run,
                status=record.status,
                result=record.result,
                error=record.error,
                attempt=record.attempt,
                started_at=record.started_at,
                ended_at=record.ended_at,
                error_type=record.error_type,
                at_work=False,
                alone=False,
            )
    return run


def _ended(path: str, record: EndRun) -> RunRow:
    return RunRow(
        run_id=record.run_id,
        serial=0,
        agent_id=record.agent_id,
        path=path,
        input=b"",
        accepted_at=record.started_at or record.ended_at,
        status=record.status,
        attempt=record.attempt,
        result=record.result,
        error=record.error,
        started_at=record.started_at,
        ended_at=record.ended_at,
        error_type=record.error_type,
    )
