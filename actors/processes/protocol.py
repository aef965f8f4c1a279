"""The manual of the processes' room: how a session has a program started, hears of it, and has it ended.

The room is made when it is first needed, by the supervisor; commands go to that one, which hands them on.
A session names each of its processes by a key of its own, and every answer names the key.
"""

from typing import Any, TypeAlias

from msgspec import Struct

from ...errors import GreenroomError
from ...persistence.processes import OrphanRecord
from ...types import Address, AgentId, Incarnation, RequestId, Timestamp

Key: TypeAlias = tuple[AgentId, Incarnation, int]
"""The owner of a process: the session, and which of its own it is."""


class ProgramToStart:
    """The program to execute. It may hold secrets, so it never tells anybody what it holds."""

    __slots__ = ("argv", "cwd", "env", "limits")

    def __init__(
        self, argv: tuple[str, ...], env: dict[str, str], cwd: str | None, limits: dict[str, int]
    ) -> None:
        self.argv, self.env, self.cwd, self.limits = argv, env, cwd, limits

    def __repr__(self) -> str:
        return "<a program>"


# Commands


class ConfigureProcesses(Struct, frozen=True):
    """Sent once, before anything else: which opening of which file this is, and what it found."""

    epoch: int
    store: str
    left: tuple[OrphanRecord, ...] = ()


class StartProcess(Struct, frozen=True):
    """Start a program once there is a place for it among those of its kind, and it is recorded.

    Answered by `ProcessStarted` or `ProcessRefused`. `places` bounds the processes of this kind, None for
    no bound; unless `wait`, it is refused at once if there is none. The room closes `streams`.
    """

    request: Key
    reply_to: Address
    path: str
    kind: str
    program: ProgramToStart
    streams: tuple[int, int, int]  # descriptors: its standard input, output and error
    places: int | None = None
    wait: bool = True


class SetProcessIdle(Struct, frozen=True):
    """The process has nothing to do from now on (or has again): it may be asked for its place."""

    request: Key
    idle: bool


class EndProcess(Struct, frozen=True):
    """End the process and all that it started. Answered by `ProcessGone`, also if it was never started."""

    request: Key
    reply_to: Address


class EndSession(Struct, frozen=True):
    """The session is over: end what it has left. Not answered."""

    agent_id: AgentId
    incarnation: Incarnation


class EndErased(Struct, frozen=True):
    """These agents were deleted: end whatever is recorded of them, whoever owns it. Not answered."""

    agent_ids: tuple[AgentId, ...]


class DescribePermits(Struct, frozen=True):
    """Answered by `PermitsReport`: what a process of this agent waits for, if one waits."""

    request: RequestId
    reply_to: Address
    agent_id: AgentId


class EndAllProcesses(Struct, frozen=True):
    """The runtime closes: start nothing more, end everything. Answered by `AllProcessesEnded`."""


# Events


class ProcessStarted(Struct, frozen=True):
    """It is recorded, and its program is being executed."""

    request: Key
    pid: int


class ProcessRefused(Struct, frozen=True):
    """It was not started, or could not be. `full`: for want of a place, and waiting was not wanted."""

    request: Key
    error: GreenroomError
    full: bool = False


class PermitWanted(Struct, frozen=True):
    """Another of its kind waits for a place: end this one if it has nothing to do."""

    request: Key


class ProcessExited(Struct, frozen=True):
    """Its leader has ended. `code` as in `subprocess`: of the signal if negative, None if not known."""

    request: Key
    code: int | None


class ProcessGone(Struct, frozen=True):
    """Nothing of it is left."""

    request: Key


class AllProcessesEnded(Struct, frozen=True):
    """`left`: how many could not be ended, or are recorded still."""

    left: int = 0


class PermitsReport(Struct, frozen=True):
    """`holders` are the paths that hold places of the kind, longest first; at most the first 100 are named.

    Without `places` nothing of the agent waits for one. It may still wait for the end of what a dead owner
    left of it, which is `haunted`.
    """

    request: RequestId
    places: int | None = None
    place: int | None = None  # how many come before it
    since: Timestamp | None = None  # when it began to wait
    holders: tuple[str, ...] = ()
    haunted: bool = False


SessionCommand: TypeAlias = StartProcess | SetProcessIdle | EndProcess | EndSession
ProcessCommand: TypeAlias = (
    SessionCommand | ConfigureProcesses | EndErased | DescribePermits | EndAllProcesses
)
ProcessNews: TypeAlias = ProcessStarted | ProcessRefused | PermitWanted | ProcessExited | ProcessGone

# News of the reaper, by number


class Forked(Struct, frozen=True):
    """It waits at its gate."""

    number: int
    pid: int
    started: int


class Failed(Struct, frozen=True):
    """It could not be forked, or its program not be executed."""

    number: int
    problem: str


class Running(Struct, frozen=True):
    number: int


class Exited(Struct, frozen=True):
    number: int
    code: int


class Gone(Struct, frozen=True):
    number: int


class NotSignalled(Struct, frozen=True):
    """It could not be signalled."""

    number: int
    problem: str


class ReaperLost(Struct, frozen=True):
    """Its socket has ended, and all its children with it as far as the system sees to that.

    `numbers`: those that it was asked for and that were not gone. There may be another reaper by now.
    """

    numbers: tuple[int, ...]


ReaperNews: TypeAlias = Forked | Failed | Running | Exited | Gone | NotSignalled | ReaperLost


class OrphansEnded(Struct, frozen=True):
    """Of processes that no reaper of ours has: by number a verdict, or why it is there still."""

    verdicts: dict[int, str]
    problems: dict[int, str]


# Effects of the core, beside messages


class ForkProcess(Struct, frozen=True):
    number: int
    mark: str
    program: Any  # a `ProgramToStart`
    streams: tuple[int, int, int]


class CloseStreams(Struct, frozen=True):
    """Of a program that will not be forked."""

    streams: tuple[int, int, int]


class LiftStartBarrier(Struct, frozen=True):
    number: int


class SignalProcess(Struct, frozen=True):
    number: int
    signal: int


class EndOrphans(Struct, frozen=True):
    """Look what became of these, end what nobody owns, and say so by `OrphansEnded`. On a thread.

    `owned`: it is certain that nobody else owns them, whatever the records say.
    """

    rows: tuple[OrphanRecord, ...]
    owned: bool = False


class DismissReaper(Struct, frozen=True):
    """Nothing will be started any more: tell `to` when the reaper has gone."""

    to: Address
    message: AllProcessesEnded


Deed: TypeAlias = ForkProcess | CloseStreams | LiftStartBarrier | SignalProcess | EndOrphans | DismissReaper
