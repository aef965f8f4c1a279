"""An agent that is in memory or on its way there, and what the table asks its actor to do."""

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from ...persistence.rows import AgentImage
from ...types import Address, AgentId, Incarnation, RequestId, Timestamp
from ..effects import Effect
from .protocol import (
    AskFirst,
    NextEviction,
    RunsAvailable,
    RunsCancelled,
    SessionCommand,
    Stage,
)

WORK = RunsAvailable(), RunsAvailable(goes_on=True)
REST = RunsCancelled()
ASK_FIRST = AskFirst()
GO_ON, GO_ON_AND_ASK_AGAIN = NextEviction(), NextEviction(ask_again=True)


class StartSession(Struct, frozen=True, gc=False):
    """Create the agent's session and hand it its image; `work` and `ask_first` as in `OpenSession`."""

    agent_id: AgentId
    incarnation: Incarnation
    image: AgentImage
    work: RunsAvailable | None
    ask_first: bool


class ToSession(Struct, frozen=True, gc=False):
    """Send `message` to the agent's session, the one that was started last."""

    agent_id: AgentId
    message: SessionCommand


class PatienceEnded(Struct, frozen=True, gc=False):
    """The victims that there were when this was set were given their time to unload."""


Victim: TypeAlias = tuple[AgentId, Incarnation]
ResidencyEffect: TypeAlias = Effect | StartSession | ToSession
Effects: TypeAlias = Sequence[ResidencyEffect]


class ResidentEntry:
    """An agent that is in memory or on its way there."""

    __slots__ = (
        "agent_id",
        "away",
        "claimed",
        "coming",
        "evicted",
        "evictions",
        "goes_on",
        "has_work",
        "idle",
        "image",
        "incarnation",
        "next_in",
        "path",
        "placed",
        "request",
        "sent",
        "since",
        "slow",
        "stage",
        "told",
        "wants_work",
    )

    def __init__(self, agent_id: AgentId, path: str, now: Timestamp) -> None:
        self.agent_id = agent_id
        self.path = path
        self.wants_work = False  # why it is to be loaded, or, while it unloads, to be loaded again
        self.goes_on = False  # that work is a continuation, or has begun before
        # Whom to answer once it is out of memory.
        self.evictions: tuple[tuple[Address, RequestId], ...] = ()
        self.claimed = now  # when it began to wait for room
        self.wait(now)

    def wait(self, now: Timestamp) -> None:
        """Stand at the door, with no trace of an earlier session."""
        self.stage: Stage = "waiting"
        self.since = now
        self.placed = now  # when it got its place
        self.request: int | None = None  # the question for its image
        self.image: AgentImage | None = None  # given with the summons
        self.incarnation: Incarnation | None = None
        self.sent = 0  # how many Work its session was sent
        self.has_work = False  # The session has work that is neither done nor cancelled.
        self.idle = False  # its session has seen them all and has nothing to do
        self.away = False  # it is in memory without a place: its turn waits
        self.told: SessionCommand | None = None  # what it is told when it has one again
        # While it unloads:
        self.evicted = False  # it was chosen or asked to leave
        self.slow = False  # and has taken longer than patience lasts
        self.coming = False  # its place counts as one that somebody in the queue will get
        self.next_in = False  # its place is for itself: it was called back and nobody is before it
