"""The actor above all others: it makes the control actors, opens and closes the store, and says so when
one of them fails.

A control actor that fails is not restarted: it holds the order of what was accepted, and a successor
with an empty memory would break promises that are already given. The runtime stops, every caller is
told, and the next one recovers from the store what is on it (docs/decisions). A session that fails is
the residency's concern: it alone goes, and its run is begun again.
"""

import logging
from collections.abc import Iterable

from msgspec import Struct

from ...persistence.actor import PersistenceActor, ReaderActor
from ...persistence.protocol import OpenReader, OpenStore, ReaderOpened, StoreOpened, StoreRefused
from ..directory.actor import Directory
from ..directory.protocol import ConfigureDirectory, StopAccepting
from ..effects import Effect, Send, StartTimer
from ..errors import GreenroomError, InternalError, StoreLost
from ..events.actor import EventBus
from ..events.protocol import ConfigureEvents
from ..ledger.actor import LedgerActor
from ..ledger.protocol import (
    CloseLedger,
    ConfigureLedger,
    InterruptTurns,
    LedgerClosed,
    StopBeginning,
    StoreFailing,
    TurnsEnded,
)
from ..residency.actor import ResidencyLRU
from ..residency.protocol import AllUnloaded, ConfigureResidency, UnloadAll
from ..shell import ActorFailed, ActorShell, Meet
from ..slots.actor import SlotAllocator
from ..slots.protocol import ConfigureSlots
from ..systems.local import THREAD
from ..vocabulary import Address, AgentId, Role
from .course import BOUNDS, Course, Step
from .protocol import (
    CloseRuntime,
    RuntimeClosed,
    RuntimeFailed,
    RuntimeRefused,
    RuntimeStarted,
    StartRuntime,
)

log = logging.getLogger("greenroom")

CONTROL: dict[Role, type[ActorShell]] = {
    "ledger": LedgerActor,
    "directory": Directory,
    "residency": ResidencyLRU,
    "slots": SlotAllocator,
    "events": EventBus,
}
ON_THREADS: dict[Role, type[ActorShell]] = {"writer": PersistenceActor, "reader": ReaderActor}


class _TimeIsUp(Struct, frozen=True):
    step: Step


class Supervisor(ActorShell):
    """Told once to start, once to close."""

    role = "supervisor"
    start: StartRuntime
    opened: StoreOpened
    closing: CloseRuntime | None = None
    broken = False

    def __init__(self) -> None:
        super().__init__()
        self.course = Course()

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:  # noqa: ARG002
        match message:
            case StartRuntime():
                return self.create(message)
            case StoreOpened():
                self.opened = message
                return [Send("reader", OpenReader(message.file))]
            case ReaderOpened():
                return self.configure()
            case StoreRefused():
                refused = RuntimeRefused(self.start.request, message.error)
                return [Send(self.start.reply_to, refused)]
            case CloseRuntime():
                self.closing = message
                if (
                    self.broken
                ):  # nobody is left to drain or to write; the writer lets the store go as it ends
                    return [Send(message.reply_to, RuntimeClosed(message.request, ("all of it",)))]
                return self.begin(self.course.close())
            case TurnsEnded():
                return self.begin(self.course.done("draining"))
            case AllUnloaded():
                return self.begin(self.course.done("unloading"))
            case LedgerClosed():
                return self.begin(self.course.done("writing"))
            case _TimeIsUp():
                return self.begin(self.course.time_is_up(message.step))
            case StoreFailing():
                log.error("the store cannot be written: %s", message.problem)
                if message.fatal:
                    return self.failed(StoreLost(self.start.store, message.problem))
            case ActorFailed():
                if message.role in self.roles:
                    last_line = message.reason.strip().rpartition("\n")[2]
                    return self.failed(InternalError(f"{message.role}: {last_line}"))
            case _:
                raise TypeError(f"the supervisor does not know {message!r}")
        return ()

    # Up

    def create(self, message: StartRuntime) -> list[Effect]:
        self.start, self.clock = message, message.clock
        self.roles = {"supervisor": self.myAddress}
        for role, actor in ON_THREADS.items():
            self.roles[role] = self.createActor(actor, {THREAD: True})
        for role, actor in CONTROL.items():
            self.roles[role] = self.createActor(actor)
        meet = Meet(dict(self.roles), self.clock)
        everybody: list[Effect] = [Send(role, meet) for role in self.roles if role != "supervisor"]
        options = message.store_options
        return [*everybody, Send("writer", OpenStore(message.store, message.durability, **options))]

    def configure(self) -> list[Effect]:
        start, unfinished = self.start, self.opened.unfinished
        next_agent_id = AgentId(unfinished.next_agent_id)
        ledger = ConfigureLedger(unfinished, start.durability, start.backlog, start.attempts_of)
        return [
            Send("slots", ConfigureSlots(start.slots)),
            Send("residency", ConfigureResidency(start.residents)),
            Send("events", ConfigureEvents(unfinished.next_seq - 1)),
            Send("directory", ConfigureDirectory(next_agent_id, start.is_registered)),
            Send("ledger", ledger),
            Send(start.reply_to, RuntimeStarted(start.request, dict(self.roles))),
        ]

    # Down

    def begin(self, step: Step | None) -> list[Effect]:
        """Do what a step is for, and bound its time."""
        if step is None or self.closing is None:
            return []
        bound = self.closing.drain if step == "draining" else BOUNDS.get(step, 0.0)
        timer = StartTimer(bound, _TimeIsUp(step))
        match step:
            case "draining":
                return [Send("ledger", StopBeginning("the runtime is closing")), timer]
            case "interrupting":
                return [Send("ledger", InterruptTurns(self.closing.suspend)), timer]
            case "unloading":
                stop = Send("directory", StopAccepting("the runtime is closing"))
                last = Send("ledger", InterruptTurns(self.closing.suspend, final=True))
                return [stop, last, Send("residency", UnloadAll()), timer]
            case "writing":
                return [Send("ledger", CloseLedger()), timer]
            case _:
                unfinished = tuple(self.course.unfinished)
                return [Send(self.closing.reply_to, RuntimeClosed(self.closing.request, unfinished))]

    # Failing

    def failed(self, error: GreenroomError) -> list[Effect]:
        log.critical("%s", error)
        self.broken = True
        return [Send(self.start.reply_to, RuntimeFailed(error))]

    def child_exited(self, address: Address) -> Iterable[Effect]:
        """A control actor that ended says why before; this is for one that could not."""
        for role, known in self.roles.items():
            if known == address and self.course.step != "closed" and self.closing is None:
                return self.failed(InternalError(f"{role} ended unexpectedly"))
        return ()
