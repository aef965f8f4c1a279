"""Rows: what a reader of the store gets.

A user's values travel as `Payload` bytes. The store signs them on their way to the disk and checks
them on their way back.
"""

from msgspec import Struct

from ..types import AgentId, Incarnation, Payload, RunId, Timestamp
from .processes import OrphanRecord


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
    stem: str | None = None  # of the ids of what it starts, if another store accepted it
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
    """The work of a store that is not done, and where its numbers go on."""

    epoch: int  # how often the store has been opened for writing
    next_agent_id: int
    next_serial: int
    next_seq: int
    runs: tuple[RunRow, ...] = ()  # by serial
    agents: tuple[AgentRow, ...] = ()  # those of `runs`
    known: int = 0  # how many agents are open
    nonce: str = ""  # a random part of every id that the runtime makes in this store
    left: tuple[OrphanRecord, ...] = ()  # records of processes that agents started outside, by number
    crashed: bool = True  # the process that had it open before did not close it, and is gone
    died: Timestamp | None = None  # The latest moment of its end, if that is known.
