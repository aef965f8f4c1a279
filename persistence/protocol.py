"""What is stored, what is asked of the store, and how the ledger and the two disk actors talk.

Read top to bottom: rows (what a reader gets), records (what a writer is given: the only ways in which
the store changes), queries, then the messages. A user's values travel as `Payload` bytes; the store
signs them on their way to the disk and checks them on their way back.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import Struct

from ..actors.effects import Send
from ..actors.errors import GreenroomError, StoreError, StoreLost
from ..actors.retention import DEFAULT, Retention
from ..actors.vocabulary import (
    AgentId,
    Durability,
    Incarnation,
    Payload,
    RequestId,
    RunId,
    Timestamp,
)
from .processes import LeftRow, ProcessRow

# Rows


class RunRow(Struct, frozen=True, gc=False):
    """One run. `status` is `accepted` until it is one of the three outcomes."""

    run_id: RunId
    serial: int  # the order of acceptance in this store
    agent_id: AgentId
    path: str
    input: Payload
    accepted_at: Timestamp
    status: str = "accepted"
    attempt: int = 0  # how often its code has begun
    awaits: tuple[RunId, ...] = ()  # a continuation starts when all of these have ended
    result: Payload | None = None
    error: str | None = None
    started_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    error_type: str | None = None  # the class of what its code raised, or the runtime's word for it
    started_by: int | None = None  # the serial of the run whose turn started it
    cuts: int = 0  # crashes of the process beside which it was at work
    crashes: int = 0  # those of them that are held against it
    alone: bool = False  # its turn is at work as the only suspect of a crash
    ran: float | None = None  # seconds that its longest turn had run when it was cut off
    at_work: bool = False  # a turn of it has begun, and neither ended nor been cut off
    stem: str | None = None  # of the ids of what it starts, if another store accepted it; see `actors.ids`
    divided_at: int | None = None  # at the last checkpoint of its turn: the serial of the next run
    doubts: tuple[tuple[int, ...], ...] = ()  # of each solo crash, who else may be its cause


class AgentRow(Struct, frozen=True, gc=False):
    """One agent at rest. `status` is `idle`, `failed` (its session could not be opened) or `closed`."""

    agent_id: AgentId
    path: str
    kind: str
    version: int
    config: Payload
    created_at: Timestamp
    updated_at: Timestamp
    status: str = "idle"
    error: str | None = None
    incarnation: Incarnation = Incarnation(0)
    origin: RunId | None = None  # in stores of version 0.1.0, which turn spawned it
    started_by: int | None = None  # the serial of the run whose turn spawned it
    last: RunRow | None = None  # its run that ended last
    unread: tuple[int, ...] = ()  # the serials of its inbox, ascending


class Snapshot(Struct, frozen=True, gc=False):
    """An agent's state as bytes, as of the end of a turn."""

    codec: str
    version: int  # the kind's version that wrote it
    data: bytes


class MessageRow(Struct, frozen=True, gc=False):
    """One unread message of an inbox; `serial` is its order of acceptance in this store."""

    serial: int
    agent_id: AgentId
    body: Payload
    sender: str | None  # the path of the agent that sent it; None from outside
    at: Timestamp
    sender_id: AgentId | None = None


class AgentImage(Struct, frozen=True, gc=False):
    """All that a session is opened from."""

    row: AgentRow
    snapshot: Snapshot | None = None
    inbox: tuple[MessageRow, ...] = ()


class EventRow(Struct, frozen=True, gc=False):
    """A numbered fact; `data` is JSON."""

    seq: int
    at: Timestamp
    type: str
    path: str
    run_id: RunId | None = None
    data: bytes = b"{}"


class Unfinished(Struct, frozen=True):
    """What a store holds of work that is not done, and where its numbers go on."""

    epoch: int  # how often the store has been opened for writing
    next_agent_id: int
    next_serial: int
    next_seq: int
    runs: tuple[RunRow, ...] = ()  # by serial
    agents: tuple[AgentRow, ...] = ()  # those of `runs`
    known: int = 0  # how many agents are open
    nonce: str = ""  # a random part of every id that the runtime makes in this store
    left: tuple[LeftRow, ...] = ()  # records of processes that agents started outside, by number
    crashed: bool = True  # the process that had it open before did not close it, and is gone
    died: Timestamp | None = None  # … at this moment at the latest, if that is known


# Records


class AddAgent(Struct, frozen=True, gc=False):
    row: AgentRow
    first_seq: int = 0  # of the events about it; the journal knows


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
    upto: int = 0  # events about it have smaller numbers; the journal knows. 0: all there are by then


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

# Queries


class FindAgent(Struct, frozen=True, gc=False):
    """The open agent at a path, else the one closed there last. Value: `AgentRow | None`."""

    path: str


class FindAgents(Struct, frozen=True, gc=False):
    """Value: `tuple[AgentRow, ...]`, those that exist, in the order asked."""

    agent_ids: tuple[AgentId, ...]


class LoadAgent(Struct, frozen=True, gc=False):
    """Value: `AgentImage | None`."""

    agent_id: AgentId


class FindRuns(Struct, frozen=True, gc=False):
    """Value: `tuple[RunRow | None, ...]`, one for each id."""

    run_ids: tuple[RunId, ...]


class HasAgents(Struct, frozen=True, gc=False):
    """Whether the store has agents of a tree, open or closed; of commits not on disk yet it may not know.

    Value: `bool`.
    """

    tree: str


class ListAgents(Struct, frozen=True, gc=False):
    """A page of agents at or below `under`, by path (then by id), with paths greater than `after`.

    With `after_id` also those at the path `after` whose id is greater than it. Open ones, or with `closed`
    the closed ones. Value: `tuple[AgentRow, ...]`.
    """

    under: str
    after: str | None
    limit: int
    closed: bool = False
    after_id: AgentId | None = None


class EventPage(Struct, frozen=True, gc=False):
    """Events in order: all that there are, up to some number.

    A full page ends at its last event. One that is not has been looked for up to number `upto`, and with
    None up to the end. Retention has removed all events up to number `pruned`, and none after it.
    """

    events: tuple[EventRow, ...]
    upto: int | None = None
    pruned: int = 0


class ListEvents(Struct, frozen=True, gc=False):
    """Events at or below `under` with numbers greater than `since`. Value: `EventPage`."""

    under: str
    since: int
    limit: int


Query: TypeAlias = FindAgent | FindAgents | LoadAgent | FindRuns | HasAgents | ListAgents | ListEvents

# What the ledger's journal is given, and how it answers


class Fact(Struct, frozen=True, gc=False):
    """An event that has no number yet."""

    at: Timestamp
    type: str
    path: str
    run_id: RunId | None = None
    data: bytes = b"{}"


class Commit(Struct, frozen=True):
    """Record all of this or nothing, after everything committed before.

    `then` is sent once the records are as durable as `durability` says: at once for `memory`. A lazy
    commit waits for the next one that is not, so that news which nobody waits for costs no write.
    """

    records: tuple[Record, ...] = ()
    facts: tuple[Fact, ...] = ()
    durability: Durability = "process"
    then: tuple[Send, ...] = ()
    lazy: bool = False


class Publish(Struct, frozen=True, gc=False):
    """To the event bus: these happened, in this order."""

    events: tuple[EventRow, ...]


class Ask(Struct, frozen=True, gc=False):
    """To the ledger: answer `query` as if everything committed so far were on disk.

    Answered once, by `Answer` to the sender.
    """

    request: RequestId
    query: Query


class Answer(Struct, frozen=True):
    """The value that the query's docstring names, or why it could not be read."""

    request: RequestId
    value: object
    error: GreenroomError | None = None


# The PersistenceActor and the ReaderActor, each on a thread of its own


class OpenStore(Struct, frozen=True):
    """Open for writing, making or migrating the schema. Answered by `StoreOpened` or `StoreRefused`.

    The owner's lease is renewed from then on; if the store is lost all the same, `StoreTaken` follows.
    """

    store: str
    durability: Durability
    opener: Callable[..., Any] | None = None  # instead of `Store.open`, to inject faults
    retention: Retention = DEFAULT


class OpenReader(Struct, frozen=True):
    """Open for reading. Answered by `ReaderOpened` or `StoreRefused`."""

    store: str
    opener: Callable[..., Any] | None = None  # instead of `Reader.open`


class WriteBatch(Struct, frozen=True, gc=False):
    """Write in one transaction, in this order. Answered by `BatchWritten` or `BatchFailed`.

    `sync` asks for an fsync before the answer, whatever the store's own level.
    """

    number: int
    records: tuple[Record, ...]
    sync: bool = False


class KeepProcesses(Struct, frozen=True):
    """Record processes and forget others, in one transaction. Answered by `ProcessesKept`.

    They belong to no run's commit, so they do not go through the journal.
    """

    number: int
    add: tuple[ProcessRow, ...] = ()
    drop: tuple[int, ...] = ()


class CloseStore(Struct, frozen=True, gc=False):
    """Answered by `StoreClosed`."""


class Read(Struct, frozen=True, gc=False):
    """Answered by `Answer`, in the order asked.

    `erasing`: agents that are deleted, and on disk perhaps not yet, each with its `EraseAgent.upto`.
    """

    request: RequestId
    query: Query
    erasing: tuple[tuple[AgentId, int], ...] = ()


class StoreOpened(Struct, frozen=True):
    unfinished: Unfinished
    file: str = ""  # what the reader opens: the store, or where `:memory:` lies


class ReaderOpened(Struct, frozen=True, gc=False):
    pass


class StoreRefused(Struct, frozen=True):
    error: GreenroomError


class BatchWritten(Struct, frozen=True, gc=False):
    number: int
    seconds: float


class BatchFailed(Struct, frozen=True):
    """Nothing of the batch was written. `fatal` says that no later try can succeed, by `error`.

    `of_record`: that holds for one of its records, and others can be written. `misplaced`: somebody has to
    put the store's files back.
    """

    number: int
    problem: str
    fatal: bool
    error: StoreError | None = None
    of_record: bool = False
    misplaced: bool = False


class ProcessesKept(Struct, frozen=True):
    """Done, as durable as `process`; or not, by `error`. `fatal`: no later try can succeed."""

    number: int
    error: StoreError | None = None
    fatal: bool = False


class StoreTaken(Struct, frozen=True):
    """To who opened the store, at most once, unasked: another process has taken it over.

    Whatever is written from here on is refused, as `fatal`.
    """

    error: StoreLost


class StoreMisplaced(Struct, frozen=True):
    """To who opened the store, unasked, for as long as it is so: its files are not at its path any more.

    Batches fail meanwhile; one that is written says that it is over.
    """

    problem: str


class StoreClosed(Struct, frozen=True, gc=False):
    """`problem`: why what is in the store will not be found where it was."""

    problem: str | None = None
