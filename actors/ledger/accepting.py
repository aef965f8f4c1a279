"""Accepting runs and messages, and refusing what cannot be accepted now."""

from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...errors import (
    AgentClosed,
    GreenroomError,
    RunIdTaken,
)
from ...persistence.records import (
    AddMessage,
    AddRun,
    Record,
)
from ...persistence.rows import MessageRow, RunRow
from ...types import (
    AgentId,
)
from ..effects import Effect, Send
from . import refusals
from .event_data import event_data
from .log.commits import NewEvent
from .lookups import look_up, tell_accepted
from .protocol import (
    AcceptMessage,
    AcceptRun,
    OutgoingMessage,
)
from .replies import (
    MessageAccepted,
    RequestRefused,
    RunAccepted,
)

if TYPE_CHECKING:
    from .ledger import Ledger


def accept_run(ledger: "Ledger", ask: AcceptRun) -> list[Effect]:
    if ask.run_id is not None and ask.run_id in ledger.runs:
        return _same_run(ledger, ask, ledger.runs[ask.run_id].row)
    refusal = refusals.why_refused(ledger, ask)
    if refusal:
        return [Send(ask.reply_to, RequestRefused(ask.request, refusal))]
    if ask.run_id is not None and not ask.fresh:
        return look_up(ledger, ask.run_id, ask, partial(_known_or_new, ledger))
    if ask.closed:
        return [Send(ask.reply_to, RequestRefused(ask.request, AgentClosed(ask.path)))]
    return _accept(ledger, ask)


def _known_or_new(
    ledger: "Ledger", ask: AcceptRun, row: RunRow | None, error: GreenroomError | None
) -> list[Effect]:
    """The store has said whether it knows the run."""
    if error is not None:
        return [Send(ask.reply_to, RequestRefused(ask.request, error))]
    return _same_run(ledger, ask, row) if row else accept_run(ledger, replace(ask, fresh=True))


def _accept(ledger: "Ledger", ask: AcceptRun) -> list[Effect]:
    desk = ledger.agent_runs(ask.agent_id, ask.path, ask.kind)
    run = ledger.new_run(desk, ask.input, ask.run_id, ask.durability, ask.started_by)
    run_id = run.row.run_id
    facts = (NewEvent(ledger.now, "run.accepted", ask.path, run_id),)
    reply = RunAccepted(ask.request, run_id, ask.path)
    return [
        *ledger.commit(
            (AddRun(run.row),), facts, refusals.level_of_answer(ledger, ask), Send(ask.reply_to, reply)
        ),
        *ledger.activate(desk),
    ]


def _same_run(ledger: "Ledger", ask: AcceptRun, row: RunRow) -> list[Effect]:
    """The run id is known. A turn that begins again finds its run, whichever agent has the path now."""
    if ask.started_by is None and row.agent_id != ask.agent_id:
        return [Send(ask.reply_to, RequestRefused(ask.request, RunIdTaken(row.run_id, row.path)))]
    reply = RunAccepted(ask.request, row.run_id, row.path, row)
    return tell_accepted(ledger, row, ask.durability, Send(ask.reply_to, reply))


def accept_message(ledger: "Ledger", ask: AcceptMessage) -> list[Effect]:
    refusal = refusals.why_refused(ledger, ask) or (AgentClosed(ask.path) if ask.closed else None)
    if refusal:
        return [Send(ask.reply_to, RequestRefused(ask.request, refusal))]
    reply = Send(ask.reply_to, MessageAccepted(ask.request))
    message = OutgoingMessage(ask.agent_id, ask.path, ask.body)
    records, facts = post(ledger, (message,), ask.sender)
    return ledger.commit(records, facts, ask.durability, reply)


def post(
    ledger: "Ledger",
    messages: tuple[OutgoingMessage, ...],
    sender: str | None,
    sender_id: AgentId | None = None,
) -> tuple[tuple[Record, ...], tuple[NewEvent, ...]]:
    """Put messages into inboxes: in the store, and at hand for the session of an agent in memory."""
    records: list[Record] = []
    facts: list[NewEvent] = []
    for message in messages:
        serial = ledger.next_serial()
        row = MessageRow(serial, message.agent_id, message.body, sender, ledger.now, sender_id)
        records.append(AddMessage(row))
        facts.append(
            NewEvent(ledger.now, "message.accepted", message.path, None, event_data(sender=sender))
        )
        desk = ledger.desks.get(message.agent_id)
        if desk is not None and (desk.present or desk.offered):
            desk.post(row)
    return tuple(records), tuple(facts)
