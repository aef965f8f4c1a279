"""The Residency's manual: who is in memory, who waits to be, and who has to leave.

The ResidencyLRU alone decides that an agent is loaded or unloaded. So nothing can reach an agent between
its choice as a victim and its end. An agent's session is one AgentActor, a child of the ResidencyLRU, known
by agent id and incarnation.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct

from ...errors import GreenroomError
from ...persistence.rows import AgentImage
from ...types import Address, AgentId, Incarnation, RequestId, Role, Seconds, Timestamp

# Commands


class ConfigureResidency(Struct, frozen=True, gc=False):
    """Sent once, before anything else."""

    residents: int
    patience: Seconds = 1.0  # a victim that takes longer to unload is joined by another one
    share: Seconds = (
        0.5  # how long an agent may keep its place for run after run while others wait for room
    )


class ActivateAgent(Struct, frozen=True, gc=False):
    """Make the agent resident if it is not; with `work`, send its session `RunsAvailable`.

    From the ledger: with work when the agent has a run to begin, without when it was spawned. With work
    it is kept until a session has seen its `RunsAvailable`, or crashed. After an `AgentPassivated` that
    was not orderly, activate again. Without work, it opens the agent only while there is free room, else
    `OpeningDeferred` is sent. Repeating it is harmless. `goes_on`: the run is a continuation, or has begun
    before. `image` comes with the first activation of a new agent, and saves the question for it. The
    ledger keeps the messages that come after it.
    """

    agent_id: AgentId
    path: str
    work: bool = True
    image: AgentImage | None = None
    goes_on: bool = False


class CancelActivation(Struct, frozen=True, gc=False):
    """The agent has no work any more: forget an activation for work that waits for room.

    A load that has begun goes on, and a session is sent `RunsCancelled`. `gone`: the agent was closed, and
    its session, if any, ends whatever it does.
    """

    agent_id: AgentId
    gone: bool = False


class EvictAgent(Struct, frozen=True):
    """Unload an idle agent. Answered by `EvictionAnswered`: true when it is out of memory.

    False at once if it is not in memory, starting, busy or pinned. One that unloads already is
    waited for.
    """

    request: RequestId
    reply_to: Address
    agent_id: AgentId


class PinAgent(Struct, frozen=True):
    """Never choose the agent as a victim (or again do so). Answered by `PinAnswered`."""

    request: RequestId
    reply_to: Address
    agent_id: AgentId
    pinned: bool


class UnloadAll(Struct, frozen=True, gc=False):
    """The runtime closes: end every session, admit nobody. Answered by `AllUnloaded`."""


class UnloadMore(Struct, frozen=True, gc=False):
    """To the residency, from itself: do the next portion of `UnloadAll`."""


class DescribeResidency(Struct, frozen=True, gc=False):
    """Answered by `ResidencyReport`, with what is known of `agent_ids`."""

    request: RequestId
    agent_ids: tuple[AgentId, ...] = ()


# Facts, from the sessions


class SessionOpened(Struct, frozen=True, gc=False):
    """The session is open and has work; one that has none says `SessionIdle`, which means that as well.

    One that could not be opened says `SessionEnded` instead.
    """

    agent_id: AgentId
    incarnation: Incarnation


class SessionIdle(Struct, frozen=True, gc=False):
    """The session has nothing to do, having seen the first `seen` `RunsAvailable` that it was sent.

    Said once it has opened, and again whenever all that it was sent is done, be that nothing: a
    resident is busy until it said so of every `RunsAvailable`.
    """

    agent_id: AgentId
    incarnation: Incarnation
    seen: int


class SessionWaits(Struct, frozen=True, gc=False):
    """The session's turn waits, without a slot: its place is for others until it `SessionReturns`.

    Said again by a turn that waits again before it has got its place.
    """

    agent_id: AgentId
    incarnation: Incarnation


class SessionReturns(Struct, frozen=True, gc=False):
    """The wait is over. Answered by `Room` with the same number when the session has a place.

    Never, if the session says since that it waits, asks, is idle or has ended.
    """

    agent_id: AgentId
    incarnation: Incarnation
    number: int


class SessionAsks(Struct, frozen=True, gc=False):
    """The session has ended a turn and has more work: may it go on? Answered by `NextEviction` or `Unload`.

    Said by one that was told to `AskFirst`, or whose turn ended while it had no place. `goes_on` as in
    `ActivateAgent`.
    """

    agent_id: AgentId
    incarnation: Incarnation
    goes_on: bool = False


class SessionEnded(Struct, frozen=True, gc=False):
    """The session is closed, or could not be opened; it holds no slot and its actor is about to go.

    `seen` counts `RunsAvailable` as in `SessionIdle`: what came when the session had given up is for the
    next one.
    """

    agent_id: AgentId
    incarnation: Incarnation
    seen: int


# Events and replies


class RunsAvailable(Struct, frozen=True, gc=False):
    """To a session: ask the ledger for a run when you can. `goes_on` as in `ActivateAgent`."""

    goes_on: bool = False


class Room(Struct, frozen=True, gc=False):
    """To a session whose turn waited: there is a place for you again."""

    number: int


class AskFirst(Struct, frozen=True, gc=False):
    """To a session: others wait for room, so ask (`SessionAsks`) before you begin another turn."""


class NextEviction(Struct, frozen=True, gc=False):
    """To a session: you may begin your next turn. `ask_again`: and ask again after it."""

    ask_again: bool = False


class RunsCancelled(Struct, frozen=True, gc=False):
    """To a session: the runs that `RunsAvailable` announced are gone; give up a wait for a slot."""


class Unload(Struct, frozen=True, gc=False):
    """To a session: close what you opened, say `SessionEnded`, go.

    `gone` says that the agent was closed and that a turn under way must not be waited for.
    """

    gone: bool = False


class AgentActivated(Struct, frozen=True, gc=False):
    """To the ledger: the agent gets a session, which now opens."""

    agent_id: AgentId
    incarnation: Incarnation


class AgentPassivated(Struct, frozen=True, gc=False):
    """To the ledger: the session is over. Unless `orderly`, its actor crashed."""

    agent_id: AgentId
    incarnation: Incarnation
    orderly: bool
    evicted: bool  # chosen as a victim or asked to leave, and not closed or shut down


class OpeningDeferred(Struct, frozen=True, gc=False):
    """To the ledger: there is no free room to open the agent in; its first run will open it."""

    agent_id: AgentId


class LoadFailed(Struct, frozen=True):
    """To the ledger: the agent cannot be loaded, so its waiting runs fail with the reason."""

    agent_id: AgentId
    error: GreenroomError


class EvictionAnswered(Struct, frozen=True, gc=False):
    request: RequestId
    evicted: bool


class PinAnswered(Struct, frozen=True, gc=False):
    request: RequestId


class AllUnloaded(Struct, frozen=True, gc=False):
    """To the sender of `UnloadAll`: no session is left."""


Stage: TypeAlias = Literal["absent", "waiting", "loading", "opening", "open", "unloading"]
"""Where an agent stands on its way in and out of memory; `waiting` is for room to be loaded."""


class Residence(Struct, frozen=True, gc=False):
    """The residence of one agent."""

    agent_id: AgentId
    stage: Stage
    incarnation: Incarnation | None = None
    idle: bool = False
    pinned: bool = False
    waits: bool = False  # its turn waits, so it has no place
    place: int | None = None  # while it waits for room: how many get some before it
    since: Timestamp | None = None  # when it entered this stage, or began to wait for room
    kept_by: tuple[str, ...] = ()  # while it waits for room: paths of residents that cannot leave


class ResidencyReport(Struct, frozen=True, gc=False):
    request: RequestId
    residents: int  # the limit
    resident: int  # loading, opening, open or unloading now, and not waiting inside a turn
    in_wait: int  # in memory, and waiting inside a turn
    waiting: int  # for room
    evictions: int
    reloads: int
    agents: tuple[Residence, ...] = ()


class OpenSession(Struct, frozen=True):
    """To a new AgentActor, first of all: who you are, whom you work with, and whether a run is available.

    `ask_first` is `AskFirst`, said at once.
    """

    image: AgentImage
    incarnation: Incarnation
    work: RunsAvailable | None
    ask_first: bool
    roles: dict[Role, Address]
    clock: Callable[[], Timestamp]


ResidencyCommand: TypeAlias = (
    ConfigureResidency
    | ActivateAgent
    | CancelActivation
    | EvictAgent
    | PinAgent
    | UnloadAll
    | UnloadMore
    | DescribeResidency
)
SessionFact: TypeAlias = (
    SessionOpened | SessionIdle | SessionWaits | SessionReturns | SessionAsks | SessionEnded
)
SessionCommand: TypeAlias = RunsAvailable | RunsCancelled | Room | AskFirst | NextEviction | Unload
ResidencyEvent: TypeAlias = (
    AgentActivated
    | AgentPassivated
    | OpeningDeferred
    | LoadFailed
    | EvictionAnswered
    | PinAnswered
    | AllUnloaded
    | ResidencyReport
)
