"""Cells: what the base holds of one actor, and the addresses that lead to them.

An address holds its cell, so a message finds its actor without any table. A cell that let go of its address
leaves nothing behind. The cell is also what Thespian's `Actor` calls its `_myRef`: the methods with
Thespian's names are what `self.send`, `self.createActor` and so on come down to.
"""

import asyncio
import threading
import time
import traceback
from contextlib import suppress
from heapq import heappop, heappush
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from thespian.actors import (
    Actor,
    ActorAddress,
    ActorExitRequest,
    ActorSystemMessage,
    ChildActorExited,
    DeadEnvelope,
    InvalidActorAddress,
    PoisonMessage,
    Thespian_StatusReq,
    ValidatedSource,
    WakeupMessage,
)
from thespian.system.timing import ExpirationTimer, timePeriodSeconds

if TYPE_CHECKING:
    from .local import LocalSystemBase

NONE: Any = MappingProxyType({})
"""The children and the timers of an actor that never had one, as most have not."""

TRIES = 2
"""How often a handler is called with a message before it goes back as poison: one retry."""


class LocalAddress(ActorAddress):
    """The address of an actor in this process; hashable, and the same object for the actor's life."""

    cell: "Cell | None" = None

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other or (
            not isinstance(other, LocalAddress) and bool(ActorAddress.__eq__(self, other))
        )

    def __copy__(self) -> "LocalAddress":
        return self

    def __deepcopy__(self, memo: object) -> "LocalAddress":
        return self


class Cell:
    """One actor on the loop."""

    __slots__ = (
        "_children_made",
        "address",
        "base",
        "children",
        "globalName",
        "instance",
        "parent",
        "source",
        "timers",
    )

    direct = True
    """Whether `deliver` hands a message to the actor at once."""

    def __init__(
        self,
        base: "LocalSystemBase",
        address: LocalAddress,
        parent: LocalAddress,
        instance: Actor,
        source: str | None,
    ) -> None:
        self.base = base
        self.address = address
        self.parent = parent
        self.instance = instance
        self.source = source
        self.globalName: str | None = None
        self.children: dict[LocalAddress, None] = NONE
        self.timers: dict[asyncio.TimerHandle, ExpirationTimer] = NONE
        self._children_made = 0
        instance._myRef = self
        if type(instance).send is Actor.send:
            instance.send = self.send  # type: ignore[method-assign,assignment]
        address.cell = self

    # Messages in

    def deliver(self, message: Any, sender: ActorAddress) -> None:
        """Have the actor handle a message."""
        if isinstance(message, ActorSystemMessage):
            self._deliver_system_message(message, sender)
            return
        try:
            self.instance.receiveMessage(message, sender)
        except Exception:
            self.deliver_again(message, sender)

    def deliver_again(self, message: Any, sender: ActorAddress) -> None:
        """The handler raised: call it once more, at once, so that nothing overtakes the message."""
        problem = traceback.format_exc()
        self.base.failed(self, message, problem)
        for _ in range(TRIES - 1):
            try:
                self.instance.receiveMessage(message, sender)
            except Exception:
                problem = traceback.format_exc()
                self.base.failed(self, message, problem)
            else:
                return
        if not isinstance(message, PoisonMessage | ChildActorExited):
            self.base.put(sender, PoisonMessage(message, problem), self.address)

    def _deliver_system_message(self, message: ActorSystemMessage, sender: ActorAddress) -> None:
        if isinstance(message, Thespian_StatusReq):
            self.base.put(sender, self.base.status_of(self), self.address)
            return
        if isinstance(message, ChildActorExited):
            self.without_child(message.childAddress)
        try:
            self.instance.receiveMessage(message, sender)
        except Exception:
            self.deliver_again(message, sender)
        if isinstance(message, ActorExitRequest):
            self.exit(recursive=message.isRecursive)

    def exit(self, *, recursive: bool = True) -> None:
        """Forget the actor completely, and tell its parent; its children are asked to go as well."""
        if self.address.cell is not self:
            return
        self.address.cell = None
        for timer in self.timers:
            timer.cancel()
        self.timers = NONE
        if recursive:
            for child in self.children:
                self.base.put(child, ActorExitRequest(), self.address)
        self.base.forget(self)
        self.base.put(self.parent, ChildActorExited(self.address), self.base.system_address)

    # The calls of an actor

    def send(self, to: ActorAddress, message: Any) -> None:
        """`Actor.send` without the layers in between."""
        if not isinstance(to, ActorAddress):
            raise InvalidActorAddress(to, "not a valid ActorAddress for sending messages to")
        base = self.base  # what its `put` does, a call less for each message
        base.queue.append((to, message, self.address))
        if not base.scheduled:
            base.schedule()

    def actor_send(self, to: ActorAddress, message: Any) -> None:
        """The way in between, for a class that has a `send` of its own."""
        self.send(to, message)

    def createActor(
        self,
        actor_class: Any,
        requirements: dict[str, Any] | None,
        global_name: str | None,
        source: str | None = None,
    ) -> ActorAddress:
        return self.base.create_child(self, actor_class, requirements, global_name, source)

    def with_child(self, address: LocalAddress) -> None:
        """The actor has made another one."""
        if self.children is NONE:
            self.children = {}
        self.children[address] = None

    def without_child(self, address: LocalAddress) -> None:
        """… which is gone, if it was one of its own."""
        if self.children:
            self.children.pop(address, None)

    def with_timer(self, timer: asyncio.TimerHandle, rings: ExpirationTimer) -> None:
        """A wake-up is on its way."""
        if self.timers is NONE:
            self.timers = {}
        self.timers[timer] = rings

    def next_child_name(self) -> str:
        """A name under the actor's own, never used before."""
        self._children_made += 1
        return f"{self.address.addressDetails}~{self._children_made}"

    def wakeupAfter(self, period: Any, payload: Any) -> None:
        self.base.on_loop(self._arm, period, payload)

    def _arm(self, period: Any, payload: Any) -> None:
        if self.address.cell is not self:
            return

        def ring() -> None:
            self.timers.pop(timer, None)
            self.base.put(self.address, WakeupMessage(period, payload), self.address)

        base = self.base
        timer = base.loop.call_later(max(0.0, timePeriodSeconds(period)), ring, context=base.context)
        self.with_timer(timer, ExpirationTimer(period))

    def handleDeadLetters(self, address: ActorAddress, enable: bool) -> None:
        self.base._handleDeadLetters(address, enable)

    def registerSourceAuthority(self, address: ActorAddress) -> None:
        self.base.registerSourceAuthority(address)

    def notifyOnSourceAvailability(self, address: ActorAddress, enable: bool) -> None:
        self.base.registerSourceNotifications(address, enable)

    def notifyOnSystemRegistrationChanges(self, address: ActorAddress, enable: bool) -> None:
        """There is one system only: nothing ever registers."""

    def updateCapability(self, name: str, value: Any) -> None:
        self.base.updateCapability(name, value)

    def loadActorSource(self, source: Any) -> str:
        return self.base.loadActorSource(source)

    def unloadActorSource(self, source: str) -> None:
        self.base.unloadActorSource(source)

    def preRegisterRemoteSystem(self, address: Any, capabilities: Any) -> None:
        """There is one system only."""

    def deRegisterRemoteSystem(self, address: Any) -> None:
        """There is one system only."""

    def actorSystemShutdown(self) -> None:
        self.base.request_shutdown()


class ThreadCell(Cell):
    """One actor on a thread of its own: its messages go through a queue to where they are handled."""

    __slots__ = ("_due", "_queue", "_wakeups", "thread")

    direct = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._queue: SimpleQueue[tuple[Any, ActorAddress]] = SimpleQueue()
        self._wakeups = 0
        self._due: list[tuple[float, int, WakeupMessage]] = []  # a heap
        name = f"greenroom {type(self.instance).__name__}"
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def deliver(self, message: Any, sender: ActorAddress) -> None:
        self._queue.put((message, sender))

    def _work(self) -> None:
        while self.address.cell is self:
            message, sender = self._next()
            super().deliver(message, sender)
        while not self._queue.empty():  # came after its end
            message, sender = self._queue.get()
            self.base.to_dead_letters(self.address, message, sender)

    def _next(self) -> tuple[Any, ActorAddress]:
        """A wake-up that is due, else the oldest message."""
        while self._due:
            left = self._due[0][0] - time.monotonic()
            if left <= 0:
                return heappop(self._due)[2], self.address
            with suppress(Empty):
                return self._queue.get(timeout=left)
        return self._queue.get()

    def wakeupAfter(self, period: Any, payload: Any) -> None:
        """On this thread alone, so that it rings although somebody's code blocks the loop."""
        due = time.monotonic() + max(0.0, timePeriodSeconds(period))
        self._wakeups += 1
        heappush(self._due, (due, self._wakeups, WakeupMessage(period, payload)))


class ExternalCell:
    """Somebody outside the system, on a thread of theirs: what is sent to them waits in a queue."""

    __slots__ = ("address", "received")

    direct = False

    def __init__(self, address: LocalAddress) -> None:
        self.address = address
        self.received: SimpleQueue[Any] = SimpleQueue()
        address.cell = self  # type: ignore[assignment]

    def deliver(self, message: Any, sender: ActorAddress) -> None:  # noqa: ARG002
        """Keep it until they listen."""
        self.received.put(message)


class Echo:
    """Sent to the system, it comes back when all before it, and what that sent at once, was handled."""

    __slots__ = ("rounds",)

    def __init__(self) -> None:
        self.rounds = 2


class SystemCell:
    """The system itself as an address: what is sent to it that it does not know is dropped."""

    __slots__ = ("base",)

    direct = False

    def __init__(self, base: "LocalSystemBase", address: LocalAddress) -> None:
        self.base = base
        address.cell = self  # type: ignore[assignment]

    def deliver(self, message: Any, sender: ActorAddress) -> None:
        """Sources are validated by a message to the system; its status can be asked for."""
        if isinstance(message, ValidatedSource):
            self.base.validated(message)
        elif isinstance(message, Thespian_StatusReq):
            self.base.put(sender, self.base.system_status(), self.base.system_address)
        elif isinstance(message, Echo):
            message.rounds -= 1
            self.base.put(self.base.system_address if message.rounds else sender, message, sender)


__all__ = ["Cell", "DeadEnvelope", "Echo", "ExternalCell", "LocalAddress", "SystemCell", "ThreadCell"]
