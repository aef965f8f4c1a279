"""The ledger's manual: what has been accepted, how it ended, who is told.

The ledger alone accepts, begins and ends runs. It puts everything that must not be lost in one order.
Sessions *pull*: an agent that holds a slot asks for its run. Until then a run can end without a message
that has to follow it.

A question names itself by `request` and says where the answer goes by `reply_to`. Every question that
can be refused is answered by `RequestRefused` instead, and then nothing of it was recorded.
"""

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from ...persistence.rows import AgentRow, Snapshot, Unfinished
from ...types import (
    Address,
    AgentId,
    Durability,
    Incarnation,
    OutcomeStatus,
    Payload,
    RequestId,
    RunId,
    Seconds,
    Timestamp,
)
from ..storage.protocol import Ask
from .descriptions import DescribeAgent, DescribeAgents, DescribeLedger, DescribeRun, DescribeState

EVENT_BYTES = 100
"""Bytes that an event takes in memory beside its data."""

MOST_TOLD_BYTES = 128 << 20
"""Of what one turn has told and is not recorded."""


class ConfigureLedger(Struct, frozen=True):
    """Sent once, before anything else: what the store holds, and the limits."""

    unfinished: Unfinished
    durability: Durability
    backlog: int
    attempts_of: Callable[[str], int | None]  # of a kind by name; None if it is not registered
    store: str = ""  # for what is told of it


# Commands about agents, from the directory


class RecordSpawn(Struct, frozen=True):
    """Record a new agent, with its first run if it has `input`. Answered by `AgentSpawned`.

    The directory hears `SpawnSettled` at once. A `run_id` that names a run of this path already is answered
    as that run. With `taken`, the kind of the open agent at the path, only such a run can be meant; then
    the directory hears nothing.
    """

    request: RequestId
    reply_to: Address
    row: AgentRow
    input: Payload | None
    run_id: RunId | None
    durability: Durability | None = None
    taken: str | None = None


class RecordClose(Struct, frozen=True):
    """End agents for good: none of their runs begins from now on, and all are interrupted, in portions.

    The directory hears `CloseRecorded` when it is done. Answered by `AgentsClosed`, as durable as the
    runtime's level, if there is a `reply_to`.
    """

    request: RequestId
    reply_to: Address | None
    agents: tuple[tuple[AgentId, str], ...]
    erase: bool  # also forget what is stored
    over: bool = False  # they were closed before, and are only to be erased
    closing: str = ""  # the subtree that they are a page of
    count: int = 0  # of the agents of all pages
    written: bool = False  # `CloseRecorded` is to wait until it is on disk, with all before it


# Commands about runs and messages


class AcceptRun(Struct, frozen=True):
    """Accept a run. Answered by `RunAccepted`, as durable as asked.

    A `run_id` that names a run of this agent already is answered as that run; `fresh` says that it
    cannot (an id just derived), which saves the look into the store.
    """

    request: RequestId
    reply_to: Address
    agent_id: AgentId
    path: str
    kind: str
    input: Payload
    run_id: RunId | None = None
    fresh: bool = False
    durability: Durability | None = None
    closed: bool = False  # so is the agent: only a run that there is already can be meant
    started_by: int | None = None  # the serial of the run whose turn asks; the run id is derived then


class AcceptMessage(Struct, frozen=True):
    """Put a message in an inbox. Answered by `MessageAccepted`."""

    request: RequestId
    reply_to: Address
    agent_id: AgentId
    path: str
    body: Payload
    sender: str | None
    durability: Durability | None = None
    closed: bool = False  # so is the agent


class InterruptRuns(Struct, frozen=True):
    """End one open run of the agent, or all accepted so far; `cascade`: its descendants' too.

    Answered by `RunsInterrupted`. A run that has begun ends when its code does.
    """

    request: RequestId
    reply_to: Address
    agent_id: AgentId
    path: str
    run_id: RunId | None
    cascade: bool
    reason: str


class InterruptTree(Struct, frozen=True):
    """End the open runs that all agents at or below `under` have accepted so far ("/": of all agents).

    Answered by `RunsInterrupted`.
    """

    request: RequestId
    reply_to: Address
    under: str
    reason: str = "interrupted by its caller"


class AwaitRun(Struct, frozen=True):
    """Answered by `RunOutcome` when the run has an outcome, at once if it has; `RunNotFound` refused.

    With `tell_pending`, a run that is still open is told at once by `RunPending`, before `RunOutcome`.
    """

    request: RequestId
    reply_to: Address
    run_id: RunId
    tell_pending: bool = False


class AwaitRuns(Struct, frozen=True):
    """Answered by a `RunOutcome` for each of the runs when it has an outcome, at once if it has.

    One that there is not is `RunNotFound` refused. With `tell_sought`, `RunsSought` says that all was told
    that needs no disk. With `look` that as well, but runs that are open are not told of later; a second
    `RunsSought` then says that the disk has answered, if it was asked.
    """

    request: RequestId
    reply_to: Address
    run_ids: tuple[RunId, ...]
    tell_sought: bool = False
    look: bool = False


class ForgetRuns(Struct, frozen=True, gc=False):
    """Nobody waits for more answers to this `AwaitRuns`; `run_ids` are open still. Not answered."""

    request: RequestId
    run_ids: tuple[RunId, ...]


class ForgetRequest(Struct, frozen=True, gc=False):
    """Nobody waits for the answer to this `AwaitRun` any more. Not answered."""

    request: RequestId
    run_id: RunId


# From the sessions


class SessionStarted(Struct, frozen=True, gc=False):
    """The session is open and can work; `healed`: the one before could not be opened."""

    agent_id: AgentId
    incarnation: Incarnation
    healed: bool = False


class SessionFailed(Struct, frozen=True, gc=False):
    """The session could not be opened: the runs that wait fail with `error`."""

    agent_id: AgentId
    incarnation: Incarnation
    error: str
    error_type: str | None = None


class SessionCancelled(Struct, frozen=True, gc=False):
    """The session's opening was cancelled from outside of greenroom: its runs wait for another one."""

    agent_id: AgentId
    incarnation: Incarnation


class TakeRun(Struct, frozen=True, gc=False):
    """The session holds a slot. Answered by `RunBegun` or `NothingToRun`."""

    agent_id: AgentId
    incarnation: Incarnation


class TurnWaits(Struct, frozen=True, gc=False):
    """The session's turn waits from now on, or (not `waits`) executes again. Not answered.

    A crash while a suspect's turn waits is not held against it.
    """

    agent_id: AgentId
    incarnation: Incarnation
    waits: bool


class OutgoingMessage(Struct, frozen=True, gc=False):
    agent_id: AgentId
    path: str
    body: Payload


class Continuation(Struct, frozen=True, gc=False):
    """The run that starts when all of `awaits` have ended."""

    run_id: RunId
    awaits: tuple[RunId, ...]
    input: Payload


class Checkpoint(Struct, frozen=True, gc=False):
    """Record the state, the messages read and those sent so far, as one.

    Answered by `CheckpointRecorded` when it is durable.
    """

    request: RequestId
    agent_id: AgentId
    incarnation: Incarnation
    run_id: RunId
    snapshot: Snapshot | None
    read_upto: int | None  # the serial of the last message that the turn has read
    outbox: tuple[OutgoingMessage, ...]
    divides: bool = False  # what the run started so far by count is told apart from what follows


class ReportDivergence(Struct, frozen=True, gc=False):
    """A turn begun again asks for something else than what its run has started. Not answered."""

    agent_id: AgentId
    incarnation: Incarnation
    run_id: RunId
    data: bytes


class ReportProgress(Struct, frozen=True, gc=False):
    """The reports of a turn under way, in order; `dropped` more there was no room for. Not answered."""

    agent_id: AgentId
    incarnation: Incarnation
    run_id: RunId
    told: tuple[bytes, ...]
    size: int  # of `told`: its bytes, and `EVENT_BYTES` for each
    dropped: int = 0


class GoOnTelling(Struct, frozen=True, gc=False):
    """To itself, by timer: others had their turn, and the next portion of progress can be recorded."""


class TurnResumes(Struct, frozen=True, gc=False):
    """A suspect's turn could go on. Answered by `TurnMayResume`, with the same `number`, in its time."""

    agent_id: AgentId
    incarnation: Incarnation
    run_id: RunId
    number: int


class EndTurn(Struct, frozen=True, gc=False):
    """The turn is over, with everything that it changes, or nothing if it did not complete.

    Answered by `TurnSettled`. `status` is `suspended` for a turn that the runtime's own end cut off, and
    `cancelled` for one that was cancelled from outside of greenroom: their runs begin again. `begun`:
    code of the kind was executed in it.
    """

    agent_id: AgentId
    incarnation: Incarnation
    run_id: RunId
    status: OutcomeStatus | str
    result: Payload | None
    error: str | None
    started_at: Timestamp
    ended_at: Timestamp
    snapshot: Snapshot | None = None
    read_upto: int | None = None
    outbox: tuple[OutgoingMessage, ...] = ()
    after: Continuation | None = None
    error_type: str | None = None
    begun: bool = True


# From outside


class KindRegistered(Struct, frozen=True, gc=False):
    """A kind of this name can be executed from now on. Not answered."""

    name: str


# From the supervisor


class StopBeginning(Struct, frozen=True, gc=False):
    """The runtime closes: begin nothing. Answered by `TurnsEnded` when no turn is under way."""

    reason: str


class InterruptTurns(Struct, frozen=True, gc=False):
    """The time to drain is over: cut off the turns under way, to begin again, or (`end`) interrupt them.

    Turns of kinds with `attempts=1` are interrupted in any case. `final`: do not wait for their code any
    longer; what it reports after this counts for nothing.
    """

    end: bool = False
    final: bool = False


class CloseLedger(Struct, frozen=True, gc=False):
    """Write what is left. Answered by `LedgerClosed` when all of it is on disk and the file closed.

    A store that cannot be written is tried for `patience`, and once in any case.
    """

    patience: Seconds = 10.0


class OpeningRecorded(Struct, frozen=True):
    """To the ledger itself: it is on disk for which run the session opens, so the image may be read."""

    ask: Ask
    residency: Address


LedgerCommand: TypeAlias = (
    ConfigureLedger
    | RecordSpawn
    | RecordClose
    | AcceptRun
    | AcceptMessage
    | InterruptRuns
    | InterruptTree
    | AwaitRun
    | AwaitRuns
    | ForgetRequest
    | ForgetRuns
    | DescribeAgent
    | DescribeAgents
    | DescribeState
    | DescribeRun
    | DescribeLedger
    | SessionStarted
    | SessionFailed
    | SessionCancelled
    | TakeRun
    | TurnWaits
    | TurnResumes
    | Checkpoint
    | ReportDivergence
    | ReportProgress
    | GoOnTelling
    | EndTurn
    | KindRegistered
    | StopBeginning
    | InterruptTurns
    | CloseLedger
)
