"""Messages from the ledger: answers, and news that nobody asked for. `protocol` has its commands."""

from msgspec import Struct

from ...errors import GreenroomError
from ...persistence.rows import MessageRow, RunRow
from ...types import AgentId, RequestId, RunId


class RequestRefused(Struct, frozen=True):
    """The question could not be granted and nothing of it was recorded."""

    request: RequestId
    error: GreenroomError


class AgentSpawned(Struct, frozen=True, gc=False):
    """`found`: a turn asked again for an agent that its run had spawned."""

    request: RequestId
    agent_id: AgentId
    path: str
    run_id: RunId | None
    known: RunRow | None = None  # the first run, if its id was given before
    found: bool = False


class SpawnSettled(Struct, frozen=True, gc=False):
    """To the directory: the spawn was recorded, or not."""

    agent_id: AgentId
    path: str
    recorded: bool


class SpawnWithdrawn(Struct, frozen=True, gc=False):
    """To the directory: a spawn that it was told of as recorded was refused by the store."""

    agent_id: AgentId
    path: str


class CloseRecorded(Struct, frozen=True, gc=False):
    """To the directory: the agents of a `RecordClose` are gone, here and in the commit log."""

    closing: str


class AgentsClosed(Struct, frozen=True, gc=False):
    """`count` agents, in all."""

    request: RequestId
    count: int


class RunAccepted(Struct, frozen=True, gc=False):
    request: RequestId
    run_id: RunId
    path: str
    known: RunRow | None = None  # the run, if its id was given before


class MessageAccepted(Struct, frozen=True, gc=False):
    request: RequestId


class RunsInterrupted(Struct, frozen=True, gc=False):
    """`count` open runs were told to end."""

    request: RequestId
    count: int


class RunPending(Struct, frozen=True, gc=False):
    request: RequestId


class RunsSought(Struct, frozen=True, gc=False):
    """`unread`: so many runs are being looked up on the disk."""

    request: RequestId
    unread: int


class RunOutcome(Struct, frozen=True, gc=False):
    request: RequestId
    run: RunRow


class RunBegun(Struct, frozen=True, gc=False):
    """`inbox` are messages accepted since the session was loaded; `results` a continuation's outcomes.

    The run has its stem in any case.
    A turn of a `suspect` says when it waits, and asks before it goes on.
    """

    agent_id: AgentId
    run: RunRow
    again: bool  # a turn of this run has begun before
    inbox: tuple[MessageRow, ...]
    results: tuple[RunRow, ...]
    suspect: bool = False
    erased: tuple[AgentId, ...] = ()  # deleted since: what they sent is not to be read


class NothingToRun(Struct, frozen=True, gc=False):
    agent_id: AgentId


class InterruptTurn(Struct, frozen=True, gc=False):
    """To a session: end the turn of this run, if it is still under way; `suspend`: it begins again."""

    run_id: RunId
    reason: str
    suspend: bool = False


class TurnMayResume(Struct, frozen=True, gc=False):
    """To a session: the turn of this suspect may go on after its wait of this number."""

    run_id: RunId
    number: int


class CheckpointRecorded(Struct, frozen=True, gc=False):
    request: RequestId


class TurnSettled(Struct, frozen=True, gc=False):
    """The outcome was taken down. `more`: another run waits, ask for it with a new slot.

    The next run `goes_on` if it is a continuation, or has begun before.
    """

    agent_id: AgentId
    more: bool
    goes_on: bool = False


class TurnsEnded(Struct, frozen=True, gc=False):
    pass


class LedgerReady(Struct, frozen=True):
    """To the supervisor: all open runs of the store are taken over, and callers may be let in."""


class LedgerClosed(Struct, frozen=True, gc=False):
    """`problem`: what was not written, or will not be found, and why; `lost` commits were not written."""

    problem: str | None = None
    lost: int = 0


class StoreFailing(Struct, frozen=True):
    """To the supervisor: a batch could not be written. `fatal`: it never will be, by `error`."""

    problem: str
    fatal: bool
    error: GreenroomError | None = None
