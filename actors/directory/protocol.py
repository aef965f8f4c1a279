"""The directory's manual: which agent a path means, and what is asked of the agent there.

Every command names a path; the directory finds the agent, here or on disk, and hands the command on to
whoever decides it, with the agent's id. Commands about one path are handed on in the order they came.
Each is answered as its docstring says, or by `Refused`.
"""

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from ...types import Address, AgentId, Durability, Payload, RequestId, RunId


class ConfigureDirectory(Struct, frozen=True):
    """Sent once, before anything else."""

    next_agent_id: AgentId
    is_registered: Callable[[str], bool]  # whether a kind of this name is
    remember: int  # how many paths are kept at hand


class SpawnAgent(Struct, frozen=True):
    """Answered by `AgentSpawned`; `PathTaken` if an open agent has the path.

    A run whose turn `finds` gets the agent that it spawned there before, open or closed. With a `run_id`
    that names a run of this path already, that run's agent is meant.
    """

    request: RequestId
    reply_to: Address
    path: str
    kind: str
    version: int
    config: Payload
    input: Payload | None = None
    run_id: RunId | None = None
    started_by: int | None = None  # the serial of the run whose turn asks
    finds: bool = False
    durability: Durability | None = None


class SubmitRun(Struct, frozen=True):
    """Answered by `RunAccepted`."""

    request: RequestId
    reply_to: Address
    path: str
    input: Payload
    run_id: RunId | None = None
    fresh: bool = False  # the run id was just derived and names nothing yet
    durability: Durability | None = None
    started_by: int | None = None  # the serial of the run whose turn asks; the run id is derived then


class SubmitMessage(Struct, frozen=True):
    """Answered by `MessageAccepted`."""

    request: RequestId
    reply_to: Address
    path: str
    body: Payload
    sender: str | None
    durability: Durability | None = None


class LocateAgent(Struct, frozen=True):
    """Answered by `AgentLocated`; a closed agent is refused unless `closed` allows it."""

    request: RequestId
    reply_to: Address
    path: str
    closed: bool = False


class InterruptAgent(Struct, frozen=True):
    """Answered by `RunsInterrupted`."""

    request: RequestId
    reply_to: Address
    path: str
    run_id: RunId | None = None
    cascade: bool = False
    reason: str = "interrupted by its caller"


class CloseAgent(Struct, frozen=True):
    """End the agent and its descendants; `erase` also what is stored. Answered by `AgentsClosed`.

    A closed agent can still be erased; closing it again is refused as `AgentClosed`.
    """

    request: RequestId
    reply_to: Address
    path: str
    erase: bool = False


class CloseTree(Struct, frozen=True):
    """End all open agents at or below a path ("/": all), which need not be an agent itself.

    `erase`: also what is stored of them, and of those that were closed before. Answered by `AgentsClosed`.
    """

    request: RequestId
    reply_to: Address
    path: str
    erase: bool = False


class EvictPath(Struct, frozen=True):
    """Answered by `EvictionAnswered`."""

    request: RequestId
    reply_to: Address
    path: str


class PinPath(Struct, frozen=True):
    """Answered by `PinAnswered`."""

    request: RequestId
    reply_to: Address
    path: str
    pinned: bool


class StopAccepting(Struct, frozen=True, gc=False):
    """The runtime closes: refuse every command from now on."""

    reason: str


class AgentLocated(Struct, frozen=True, gc=False):
    request: RequestId
    agent_id: AgentId
    path: str
    kind: str


DirectoryCommand: TypeAlias = (
    SpawnAgent
    | SubmitRun
    | SubmitMessage
    | LocateAgent
    | InterruptAgent
    | CloseAgent
    | CloseTree
    | EvictPath
    | PinPath
)
