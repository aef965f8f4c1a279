"""The actor above all others: it makes the control actors, opens and closes the store, and says so when
one of them fails or the store is lost.

A control actor that fails is not restarted: it holds the order of what was accepted, and a successor
with an empty memory would break promises that are already given. The runtime stops, every caller is
told, and the next one recovers from the store what is on it (docs/decisions). A session that fails is
the residency's concern: it alone goes, and its run is begun again.
"""

import logging
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from ...errors import GreenroomError, InternalError, StoreError, StoreLost
from ...types import Address, AgentId, Role
from ..directory.actor import Directory
from ..directory.protocol import ConfigureDirectory, StopAccepting
from ..effects import Effect, Send, StartTimer
from ..events.actor import EventBus
from ..events.protocol import ConfigureEvents
from ..ledger.actor import LedgerActor
from ..ledger.log.commit_log import first_seq
from ..ledger.protocol import CloseLedger, ConfigureLedger, InterruptTurns, StopBeginning
from ..ledger.replies import LedgerClosed, LedgerReady, StoreFailing, TurnsEnded
from ..processes.protocol import (
    AllProcessesEnded,
    ConfigureProcesses,
    DescribePermits,
    EndAllProcesses,
    EndErased,
    EndProcess,
    EndSession,
    PermitsReport,
    SetProcessIdle,
    StartProcess,
)
from ..residency.actor import ResidencyLRU
from ..residency.protocol import AllUnloaded, ConfigureResidency, UnloadAll
from ..shell import ActorFailed, ActorShell, Meet, Ready, SayReady
from ..slots.actor import SlotAllocator
from ..slots.protocol import ConfigureSlots
from ..storage.protocol import (
    CloseStore,
    OpenReader,
    OpenStore,
    ReaderOpened,
    StoreClosed,
    StoreMisplaced,
    StoreOpened,
    StoreRefused,
    StoreTaken,
)
from ..storage.reader import ReaderActor
from ..storage.writer import PersistenceActor
from ..systems.local import THREAD
from .protocol import (
    CloseRuntime,
    RuntimeClosed,
    RuntimeFailed,
    RuntimeRefused,
    RuntimeStarted,
    StartRuntime,
)
from .shutdown import BOUNDS, WHAT_IS_LEFT, ShutdownSequence, Step

log = logging.getLogger("greenroom")

CONTROL: dict[Role, type[ActorShell]] = {
    "ledger": LedgerActor,
    "directory": Directory,
    "residency": ResidencyLRU,
    "slots": SlotAllocator,
    "events": EventBus,
}
ON_THREADS: dict[Role, type[ActorShell]] = {"writer": PersistenceActor, "reader": ReaderActor}

PATHS_AT_HAND = 10_000
"""Paths that the directory knows beside those of agents in memory: of whom else was asked for lately."""

OUTAGE_GRACE_SECONDS = BOUNDS["writing"] - 10.0
"""Seconds, at most, that a store which cannot be written is tried again while closing."""

LEFT_BEHIND = (
    "Nobody was told that these were durable. Whatever was is in the store: open it again to go on."
)


class _ShutdownDeadline(Struct, frozen=True):
    step: Step


class Supervisor(ActorShell):
    """Told once to start, once to close."""

    role = "supervisor"
    start: StartRuntime
    opened: StoreOpened
    closing: CloseRuntime | None = None
    configured = 0
    broken = False
    failure: GreenroomError | None = None
    unwritten: str | None = None  # at the end, and why

    def __init__(self) -> None:
        super().__init__()
        self.course = ShutdownSequence()

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:  # noqa: ARG002
        match message:
            case StartRuntime():
                return self.create(message)
            case StoreOpened():
                self.opened = message
                return [Send("reader", OpenReader(message.file, self.start.reader_opener))]
            case ReaderOpened():
                return self.configure()
            case Ready() | LedgerReady():
                return self.ready()
            case StoreRefused():
                refused = RuntimeRefused(self.start.request, message.error)
                return [Send(self.start.reply_to, refused)]
            case CloseRuntime():
                return self.close(message)
            case TurnsEnded():
                return self.begin(self.course.done("draining"))
            case AllUnloaded():
                if "processes" in self.roles:
                    return [Send("processes", EndAllProcesses())]
                return self.begin(self.course.done("unloading"))
            case AllProcessesEnded():
                return self.begin(self.course.done("unloading"))
            case StartProcess() | SetProcessIdle() | EndProcess() | EndSession():
                return [*self.process_room(), Send("processes", message)]
            case EndErased():
                return [Send("processes", message)] if "processes" in self.roles else []
            case DescribePermits():
                if "processes" in self.roles:
                    return [Send("processes", message)]
                return [Send(message.reply_to, PermitsReport(message.request))]
            case LedgerClosed():
                self.unwritten = f"{message.problem} {LEFT_BEHIND}" if message.lost else message.problem
                return self.begin(self.course.done("writing"))
            case _ShutdownDeadline():
                left = message.step == "unloading" == self.course.step and "processes" in self.roles
                ends: list[Effect] = [Send("processes", EndAllProcesses())] if left else []
                return [*ends, *self.begin(self.course.time_is_up(message.step))]
            case StoreFailing():
                if message.fatal:
                    return self.lost(message.error or StoreLost(self.start.store, message.problem))
            case StoreTaken():
                return self.lost(message.error)
            case ActorFailed():
                if message.role in self.roles:
                    last_line = message.reason.strip().rpartition("\n")[2]
                    broken = f" ({message.broken})" if message.broken else ""
                    return self.broke(InternalError(f"{message.role}: {last_line}{broken}"))
            case StoreMisplaced():
                return [Send("ledger", message)]
            case StoreClosed():
                pass  # of a store that was lost
            case _:
                raise TypeError(f"the supervisor does not know {message!r}")
        return ()

    # Up

    def create(self, message: StartRuntime) -> list[Effect]:
        self.start, self.clock, self.uptime = message, message.clock, message.uptime
        self.roles = {"supervisor": self.myAddress}
        for role, actor in ON_THREADS.items():
            self.roles[role] = self.createActor(actor, {THREAD: True})
        for role, actor in CONTROL.items():
            self.roles[role] = self.createActor(actor)
        meet = Meet(dict(self.roles), self.clock, self.uptime)
        everybody: list[Effect] = [Send(role, meet) for role in self.roles if role != "supervisor"]
        options = message.store_options
        return [*everybody, Send("writer", OpenStore(message.store, message.durability, **options))]

    def configure(self) -> list[Effect]:
        start, unfinished = self.start, self.opened.unfinished
        next_agent_id = AgentId(unfinished.next_agent_id)
        remember = start.residents + PATHS_AT_HAND
        return [
            Send("slots", ConfigureSlots(start.slots)),
            Send("residency", ConfigureResidency(start.residents)),
            Send("events", ConfigureEvents(first_seq(unfinished) - 1)),
            Send("directory", ConfigureDirectory(next_agent_id, start.is_registered, remember)),
            *(Send(role, SayReady()) for role in CONTROL if role != "ledger"),
        ]

    def ready(self) -> list[Effect]:
        """A control actor is ready. The ledger is configured last, as it begins runs of the store at once.

        Callers are let in after that. Order is promised between two actors only: a caller's message could
        otherwise arrive before a configuration.
        """
        start, unfinished = self.start, self.opened.unfinished
        self.configured += 1
        if self.configured == len(CONTROL) - 1:
            ledger = ConfigureLedger(
                unfinished, start.durability, start.backlog, start.attempts_of, start.store
            )
            self.opened = replace(self.opened, unfinished=replace(unfinished, runs=(), agents=()))
            return [Send("ledger", ledger)]
        if self.configured == len(CONTROL):
            room = self.process_room() if unfinished.left else []
            return [*room, Send(start.reply_to, RuntimeStarted(start.request, dict(self.roles)))]
        return []

    def process_room(self) -> list[Effect]:
        """Have the room of processes, which most runtimes never need."""
        if "processes" in self.roles:
            return []
        from ..processes.actor import ProcessManager

        self.roles["processes"] = self.createActor(ProcessManager)
        unfinished = self.opened.unfinished
        configure = ConfigureProcesses(unfinished.epoch, self.opened.file, unfinished.left)
        meet = Meet(dict(self.roles), self.clock, self.uptime)
        return [Send("processes", meet), Send("processes", configure)]

    # Down

    def close(self, message: CloseRuntime) -> list[Effect]:
        self.closing = message
        if self.broken:  # nobody is left to drain or to write; the writer lets the store go as it ends
            return [Send(message.reply_to, RuntimeClosed(message.request, ("all of it",)))]
        if self.course.step == "closed":
            return self.closed()
        return self.begin(self.course.close())

    def begin(self, step: Step | None) -> list[Effect]:
        """Do what a step is for, and bound its time."""
        if step is None:
            return []
        drain, end = (self.closing.drain, self.closing.interrupt) if self.closing else (0.0, False)
        bound = drain if step == "draining" else BOUNDS.get(step, 0.0)
        timer = StartTimer(bound, _ShutdownDeadline(step))
        match step:
            case "draining":
                return [Send("ledger", StopBeginning("the runtime is closing")), timer]
            case "interrupting":
                return [Send("ledger", InterruptTurns(end)), timer]
            case "unloading":
                stop = Send("directory", StopAccepting("the runtime is closing"))
                return [stop, Send("residency", UnloadAll()), timer]
            case "writing":
                # only now: the end of a turn counts that comes while sessions close
                last = Send("ledger", InterruptTurns(end, final=True))
                return [last, Send("ledger", CloseLedger(min(drain, OUTAGE_GRACE_SECONDS))), timer]
            case _:
                return self.closed()

    def closed(self) -> list[Effect]:
        if self.closing is None:  # the store was lost: whoever closes the runtime will ask
            return []
        unfinished, problem = tuple(self.course.unfinished), self.unwritten
        left = WHAT_IS_LEFT["writing"] in unfinished
        if left:
            late = f"the disk did not take what was left within {BOUNDS['writing']:g} s."
            problem = problem or f"{late} {LEFT_BEHIND}"
        error: GreenroomError | None = None
        if self.course.lost:
            error = self.failure if left else None  # else it was told when it happened
        elif problem:
            error = StoreError(self.start.store, problem)
        return [Send(self.closing.reply_to, RuntimeClosed(self.closing.request, unfinished, error))]

    # Failing

    def lost(self, error: GreenroomError) -> list[Effect]:
        """The store is no longer ours: everybody is told, and what is under way ends unwritten."""
        effects = self.failed(error)
        step = self.course.lose()
        if step is None:
            return effects
        stop: list[Effect] = [Send("ledger", StopBeginning("the store was lost"))]
        disks: list[Effect] = [Send("reader", CloseStore()), Send("writer", CloseStore())]
        return [*effects, *stop, *self.begin(step), *disks]

    def broke(self, error: GreenroomError) -> list[Effect]:
        """A control actor is gone: nothing can be ended in order any more."""
        self.broken = True
        return self.failed(error)

    def failed(self, error: GreenroomError) -> list[Effect]:
        """Tell everybody, once: what fails after the first failure follows from it."""
        if self.failure is not None:
            return []
        log.critical("%s", error)
        self.failure = error
        closing = self.closing.request if self.closing and not self.broken else None
        return [Send(self.start.reply_to, RuntimeFailed(error, closing))]

    def child_exited(self, address: Address) -> Iterable[Effect]:
        """A control actor that ended says why before; this is for one that could not."""
        for role, known in self.roles.items():
            if known == address and self.course.step != "closed" and self.closing is None:
                return self.broke(InternalError(f"{role} ended unexpectedly"))
        return ()
