"""Records: what a writer is given. They are the only ways in which the store changes."""

from typing import TypeAlias

from msgspec import Struct

from ..types import AgentId, Incarnation, Payload, RunId, Timestamp
from .rows import AgentRow, EventRow, MessageRow, RunRow, Snapshot


class AddAgent(Struct, frozen=True, gc=False):
    row: AgentRow
    first_seq: int = 0  # of the events about it; the commit log knows


class SetAgent(Struct, frozen=True, gc=False):
    """Change what an agent is at rest. `path`: where it stands, as far as its closing knows that."""

    agent_id: AgentId
    status: str
    error: str | None
    at: Timestamp
    path: str = ""


class SetIncarnation(Struct, frozen=True, gc=False):
    agent_id: AgentId
    incarnation: Incarnation


class EraseAgent(Struct, frozen=True, gc=False):
    """Remove an agent with its snapshot, inbox and runs, the events about it, and what it sent.

    Nobody sees any of that from then on; what is much goes in small steps.
    """

    agent_id: AgentId
    path: str = ""
    upto: int = 0  # events about it have smaller numbers; the commit log knows. 0: all there are by then


class PutSnapshot(Struct, frozen=True, gc=False):
    agent_id: AgentId
    snapshot: Snapshot


class AddMessage(Struct, frozen=True, gc=False):
    row: MessageRow


class DropMessages(Struct, frozen=True, gc=False):
    """Forget the agent's messages up to and with `upto`: a committed turn has read them."""

    agent_id: AgentId
    upto: int


class AddRun(Struct, frozen=True, gc=False):
    row: RunRow


class BeginRun(Struct, frozen=True, gc=False):
    """A turn of the run begins; `alone`: as the only suspect of a crash."""

    run_id: RunId
    agent_id: AgentId
    attempt: int
    at: Timestamp
    alone: bool = False


class SetRun(Struct, frozen=True, gc=False):
    """Change how a run stands: its session opens, its turn was cut off, waits, or goes on."""

    run_id: RunId
    agent_id: AgentId
    attempt: int
    started_at: Timestamp | None
    at_work: bool
    alone: bool
    cuts: int
    crashes: int
    ran: float | None
    doubts: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, row: RunRow) -> "SetRun":
        """The record that makes a run stand as `row` says."""
        return cls(
            row.run_id,
            row.agent_id,
            row.attempt,
            row.started_at,
            row.at_work,
            row.alone,
            row.cuts,
            row.crashes,
            row.ran,
            row.doubts,
        )


class DivideRun(Struct, frozen=True, gc=False):
    """Its turn has made a checkpoint: what it started so far has serials below `at`."""

    run_id: RunId
    agent_id: AgentId
    at: int


class InterruptRun(Struct, frozen=True, gc=False):
    """A run that has begun was told to end; if its code does not live to do so, this is how it ended."""

    run_id: RunId
    agent_id: AgentId
    reason: str


class EndRun(Struct, frozen=True, gc=False):
    """The outcome; it becomes the agent's last one, and the agent's `updated_at`."""

    run_id: RunId
    agent_id: AgentId
    status: str
    result: Payload | None
    error: str | None
    attempt: int
    started_at: Timestamp | None
    ended_at: Timestamp
    error_type: str | None = None


class AddEvent(Struct, frozen=True, gc=False):
    row: EventRow


Record: TypeAlias = (
    AddAgent
    | SetAgent
    | SetIncarnation
    | EraseAgent
    | PutSnapshot
    | AddMessage
    | DropMessages
    | AddRun
    | BeginRun
    | SetRun
    | DivideRun
    | InterruptRun
    | EndRun
    | AddEvent
)
