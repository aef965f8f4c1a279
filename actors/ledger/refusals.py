"""Why a request cannot be accepted now, and how durable its acceptance is."""

from typing import TYPE_CHECKING

from ...errors import (
    AgentClosed,
    BacklogFull,
    GreenroomError,
    RuntimeClosing,
)
from ...types import (
    AgentId,
    Durability,
    Incarnation,
)
from .protocol import (
    AcceptMessage,
    AcceptRun,
    RecordSpawn,
)

if TYPE_CHECKING:
    from .ledger import Ledger


def why_refused(ledger: "Ledger", ask: RecordSpawn | AcceptRun | AcceptMessage) -> GreenroomError | None:
    """The error of a request that cannot be accepted now, if it cannot.

    A full backlog refuses requests from outside only: what a turn asks for belongs to an accepted run.
    """
    path = ask.row.path if isinstance(ask, RecordSpawn) else ask.path
    if ledger.sealed:
        return RuntimeClosing()
    of_a_turn = isinstance(ask.request, tuple)
    if not of_a_turn and (ledger.pieces() >= ledger.backlog or ledger.commit_log.debt.heavy):
        return BacklogFull(path, ledger.backlog)
    if of_a_turn and not _under_way(ledger, *ask.request[:2]):  # type: ignore[index]
        # Its turn was ended meanwhile, with the runtime or with its agent.
        return RuntimeClosing() if ledger.closing_reason is not None else AgentClosed(path)
    if of_a_turn or (ask.durability or ledger.commit_log.durability) == "memory":
        return None
    return ledger.health.refusal(path)


def _under_way(ledger: "Ledger", agent_id: AgentId, incarnation: Incarnation) -> bool:
    """Whether a turn of this session is under way."""
    desk = ledger.desks.get(agent_id)
    return desk is not None and desk.running is not None and desk.incarnation == incarnation


def level_of_answer(ledger: "Ledger", ask: RecordSpawn | AcceptRun) -> Durability | None:
    """How durable it is when it is answered. A turn waits for the disk while too much is unwritten."""
    return ledger.unless_crowded() if isinstance(ask.request, tuple) else ask.durability
