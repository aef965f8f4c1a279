"""`LocalSystemBase`: all actors of a process on one asyncio loop.

Messages wait in one queue and are handed out in batches from a callback of the loop. So the loop's I/O,
timers and tasks get their share. Nothing is looked up, logged or reflected per message: an address holds
its cell. Other threads append to the same queue, which is a deque, so appending is atomic; one
`call_soon_threadsafe` wakes the loop for all that comes before it runs.

The semantics are those of Thespian's own bases: order between each two actors (also after a failure),
`ActorExitRequest`, `ChildActorExited`, `PoisonMessage` after one retry, dead letters, wake-ups, global
names, `private()` contexts, loaded sources. Unlike on `simpleSystemBase`, time-outs are real, and actors
work without anybody driving them.
"""

import asyncio
import contextvars
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

from thespian.actors import (
    Actor,
    ActorAddress,
    ActorExitRequest,
    ActorSystemException,
    ActorSystemFailure,
    ActorSystemMessage,
    ChildActorExited,
    DeadEnvelope,
    InvalidActorAddress,
    Thespian_ActorStatus,
    Thespian_SystemStatus,
    ThespianGeneration,
)
from thespian.system import isInternalActorSystemMessage
from thespian.system.timing import timePeriodSeconds

from .cell import Cell, Echo, ExternalCell, LocalAddress, SystemCell, ThreadCell
from .creation import class_of, instantiate, suits
from .own_loop import _new_loop
from .private_context import PrivateContext
from .sources import Sources
from .status import status_of, system_status

log = logging.getLogger("Thespian")

THREAD = "thread"
"""The requirement by which an actor asks for a thread of its own: `createActor(cls, {THREAD: True})`, or
for all actors of a class `actorSystemRequirements = {THREAD: True}` in the class."""

STRETCHES, STRETCH = range(32), range(8)
"""Messages handed out before the loop gets its turn: at most 256. After each eight the clock is asked."""

HOLD = 0.003
"""Seconds after which the loop gets its turn all the same."""

SHUTDOWN = 10.0
"""Seconds that actors have to go when the system is shut down."""


_VERSION = str(int(time.time() * 1000))
"""As Thespian's bases have it: from their start on, it tells one process from another."""


class BadActor(Actor):
    """Stands for an actor that could not be made; drops what it is sent."""

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:
        """Nothing."""


class LocalSystemBase(Sources):
    """The base for `ActorSystem(systemBase=LocalSystemBase(), transientUnique=True)`.

    Args:
        loop: the loop to run on, from now on until `aclose`; it must be running, and this its thread.
            None: a loop of its own on a thread of its own, uvloop's if that is installed.
        capabilities: what actors may require of the system.
    """

    clock = staticmethod(time.perf_counter)
    cell_type: type[Cell] = Cell
    thread_cell_type: type[Cell] = ThreadCell

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        capabilities: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.capabilities: dict[str, Any] = {
            "Thespian Generation": ThespianGeneration,
            "Thespian ActorSystem Name": "LocalSystemBase",
            "Thespian ActorSystem Version": 1,
            "Thespian Version": _VERSION,
            "Thespian Watch Supported": False,
            "AllowRemoteActorSources": "No",
            "Python Version": tuple(sys.version_info),
            **(capabilities or {}),
        }
        # The sender of a message may be any code, and its context variables are its own.
        self.context = contextvars.copy_context()  # of who makes the base; all handlers run in it
        self.queue: deque[tuple[Any, Any, Any]] = deque()
        self.scheduled = False  # a drain is on its way, or under way
        self.cells: dict[LocalAddress, Cell] = {}
        self.global_names: dict[str, LocalAddress] = {}
        self.dead_letters: ActorAddress | None = None
        self._made = 0
        self._outsiders = 0
        self._closed = False
        self._over = False  # nobody is left, and the loop of our own may end
        self._shutdowns = count()  # how often it was asked for; counting is atomic
        self.system_address = LocalAddress("/ActorSys")
        self._system = SystemCell(self, self.system_address)
        self._outside = self._outsider("System:ExternalRequester")
        self._own_thread: threading.Thread | None = None
        if loop is None:
            self.loop, self._own_thread = _new_loop(lambda: self._over)
            self.thread_id = self._own_thread.ident
        else:
            self.loop = loop
            self.thread_id = threading.get_ident()
        self._bad_actor = self._create(BadActor, self.system_address, "System:BadActor", None, None).address

    # The run queue

    def put(self, to: ActorAddress, message: Any, sender: ActorAddress) -> None:
        """Queue a message; on any thread."""
        self.queue.append((to, message, sender))
        if not self.scheduled:
            self.schedule()

    def schedule(self) -> None:
        # Set before the drain is asked for: who appends after this needs not ask again, and the drain
        # looks into the queue once more after it has reset the flag.
        self.scheduled = True
        if threading.get_ident() == self.thread_id:
            self.loop.call_soon(self._drain, context=self.context)
        else:
            try:
                self.loop.call_soon_threadsafe(self._drain, context=self.context)
            except RuntimeError:
                self.queue.clear()  # the loop is closed: there is nobody to hand anything to

    def _drain(self) -> None:
        """Hand out a batch of messages."""
        queue = self.queue
        take = queue.popleft
        try:
            until = self.clock() + HOLD
            for _ in STRETCHES:
                for _ in STRETCH:
                    if not queue:
                        return
                    to, message, sender = take()
                    try:
                        cell = to.cell
                    except AttributeError:  # an address of another system
                        cell = None
                    if cell is None:
                        self.to_dead_letters(to, message, sender)
                    elif cell.direct and not isinstance(message, ActorSystemMessage):
                        try:  # what `deliver` does, a call less for each message
                            cell.instance.receiveMessage(message, sender)
                        except Exception:
                            cell.deliver_again(message, sender)
                    else:
                        cell.deliver(message, sender)
                if self.clock() > until:
                    return
        finally:
            self.scheduled = False
            if queue:
                self.schedule()

    def on_loop(self, call: Callable[..., Any], *args: Any) -> None:
        """Do `call` on the loop's thread: now if this is it."""
        if threading.get_ident() == self.thread_id:
            call(*args)
        elif not self._closed:
            self.loop.call_soon_threadsafe(call, *args, context=self.context)

    def to_dead_letters(self, to: ActorAddress, message: Any, sender: ActorAddress) -> None:
        """A message for an actor that is gone: a dead letter, if somebody collects them."""
        letters = self.dead_letters
        if letters is None or letters is to or isinstance(message, DeadEnvelope | ChildActorExited):
            return
        if isinstance(message, ActorExitRequest):
            return
        self.put(letters, DeadEnvelope(to, message), sender)

    def failed(self, cell: Cell, message: Any, problem: str) -> None:
        """A handler raised."""
        log.warning("Actor %s failed on %s\n%s", cell.address, type(message).__name__, problem)

    # Actors

    def newPrimaryActor(
        self,
        actor_class: Any,
        requirements: dict[str, Any] | None,
        global_name: str | None,
        source: str | None,
    ) -> ActorAddress:
        """`ActorSystem.createActor`. Raises what the class raises."""
        if global_name and global_name in self.global_names:
            return self.global_names[global_name]
        self._made += 1
        name = f"/A{self._made}"
        found = class_of(actor_class, source, self.sources)
        if not suits(found, self.capabilities, requirements or {}):
            log.warning("Could not create primary Actor %s: capabilities do not suit", actor_class)
            return self._bad_actor
        cell = self._create(found, self.system_address, name, requirements, source)
        return self._named(cell, global_name)

    def create_child(
        self,
        parent: Cell,
        actor_class: Any,
        requirements: dict[str, Any] | None,
        global_name: str | None,
        source: str | None,
    ) -> ActorAddress:
        """`Actor.createActor`: an actor that cannot be made has exited at once."""
        if global_name and global_name in self.global_names:
            return self.global_names[global_name]
        name = parent.next_child_name()
        source = source or parent.source
        try:
            found = class_of(actor_class, source, self.sources)
            if suits(found, self.capabilities, requirements or {}):
                cell = self._create(found, parent.address, name, requirements, source)
                parent.with_child(cell.address)
                return self._named(cell, global_name)
            log.warning("Actor %s not created: capabilities do not suit", actor_class)
        except ImportError:
            raise
        except (ActorSystemException, Exception):
            log.warning("Actor %s not created", actor_class, exc_info=True)
        stillborn = LocalAddress(name)
        self.put(parent.address, ChildActorExited(stillborn), self.system_address)
        return stillborn

    def _create(
        self,
        actor_class: type[Actor],
        parent: LocalAddress,
        name: str,
        requirements: dict[str, Any] | None,
        source: str | None,
    ) -> Cell:
        instance = instantiate(actor_class, self.capabilities, requirements)
        wanted = requirements or getattr(actor_class, "actorSystemRequirements", None)
        cell_type = self.thread_cell_type if wanted and wanted.get(THREAD) else self.cell_type
        address = LocalAddress(name)
        cell = cell_type(self, address, parent, instance, source)
        self.cells[address] = cell
        return cell

    def _named(self, cell: Cell, global_name: str | None) -> ActorAddress:
        if global_name:
            cell.globalName = global_name
            # setdefault is atomic: of two that race for a name one gets it
            if self.global_names.setdefault(global_name, cell.address) is not cell.address:
                cell.exit()
                return self.global_names[global_name]
        return cell.address

    def forget(self, cell: Cell) -> None:
        """The actor has exited: nothing of it stays."""
        self.cells.pop(cell.address, None)
        if cell.globalName and self.global_names.get(cell.globalName) is cell.address:
            del self.global_names[cell.globalName]
        if self.dead_letters is cell.address:
            self.dead_letters = None
        self.forget_source_listener(cell.address)
        parent = getattr(cell.parent, "cell", None)
        if isinstance(parent, Cell):
            parent.without_child(cell.address)

    # From outside

    def _outsider(self, name: str) -> ExternalCell:
        return ExternalCell(LocalAddress(name))

    def post(self, to: ActorAddress, message: Any) -> None:
        """Send from outside; nothing is waited for."""
        self.put(to, message, self._outside.address)

    tell = post

    def ask(self, to: ActorAddress, message: Any, timeout: Any) -> Any:
        """Send, and return the next message that comes out of the system to this caller."""
        return self.ask_as(self._outside, to, message, timeout)

    def listen(self, timeout: Any) -> Any:
        """The next message that comes out of the system; None after `timeout`."""
        return self.listen_as(self._outside, timeout)

    def ask_as(self, outsider: ExternalCell, to: ActorAddress, message: Any, timeout: Any) -> Any:
        """`ask` in the name of one of several outside."""
        self._refuse_to_wait_on_loop("ask")
        self.put(to, message, outsider.address)
        return self.listen_as(outsider, timeout)

    def listen_as(self, outsider: ExternalCell, timeout: Any) -> Any:
        """`listen` in the name of one of several outside."""
        self._refuse_to_wait_on_loop("listen")
        seconds = None if timeout is None else max(0.0, timePeriodSeconds(timeout))
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                message = outsider.received.get(timeout=left)
            except Empty:
                return None
            if not isInternalActorSystemMessage(message):
                return message

    def _refuse_to_wait_on_loop(self, call: str) -> None:
        if threading.get_ident() == self.thread_id:
            raise ActorSystemFailure(f"{call}() on the loop's own thread would wait for itself; use tell()")

    def external_clone(self) -> "PrivateContext":
        """`ActorSystem.private`: somebody outside who gets their own answers."""
        self._outsiders += 1
        return PrivateContext(self, self._outsider(f"System:ExternalRequester:{self._outsiders}"))

    # System affairs

    def loadActorSource(self, source: Any) -> str:
        """Called from outside, it returns when an authority that decides at once has decided."""
        if threading.get_ident() == self.thread_id:
            return super().loadActorSource(source)
        self._settle()  # it may have been told to register by the message before
        digest = super().loadActorSource(source)
        self._settle()
        return digest

    def _settle(self) -> None:
        """Wait, outside, until what was sent so far is handled, and what that sent at once."""
        if not self._closed:
            self.ask_as(self._outsider("System:Settling"), self.system_address, Echo(), SHUTDOWN)

    def _handleDeadLetters(self, address: ActorAddress, enable: bool) -> None:
        if enable:
            self.dead_letters = address
        elif self.dead_letters == address:
            self.dead_letters = None

    def updateCapability(self, name: str, value: Any = None) -> None:
        """Set a capability, or remove it with None."""
        if value is None:
            self.capabilities.pop(name, None)
        else:
            self.capabilities[name] = value

    def status_of(self, cell: Cell) -> Thespian_ActorStatus:
        """The status of an actor, in Thespian's own type."""
        return status_of(self, cell)

    def system_status(self) -> Thespian_SystemStatus:
        """The status of the system, in Thespian's own type."""
        return system_status(self)

    # The end

    def request_shutdown(self) -> None:
        """An actor wants the system to end."""
        threading.Thread(target=self.shutdown, name="greenroom shutdown", daemon=True).start()

    def _stop_all(self) -> list[threading.Thread]:
        threads = [cell.thread for cell in self.cells.values() if isinstance(cell, ThreadCell)]
        for cell in list(self.cells.values()):
            if cell.parent is self.system_address:
                self.put(cell.address, ActorExitRequest(), self.system_address)
        return threads

    def shutdown(self) -> None:
        """End all actors, and the loop if it is the base's own. On another thread than the loop's."""
        if threading.get_ident() == self.thread_id:
            raise ActorSystemFailure(
                "shutdown() on the loop's own thread would wait for itself; use aclose()"
            )
        if next(self._shutdowns) > 0:
            if self._own_thread is not None:
                self._own_thread.join(SHUTDOWN)
            return
        gone: SimpleQueue[list[threading.Thread]] = SimpleQueue()

        def when_gone(threads: list[threading.Thread], deadline: float) -> None:
            if self.cells and time.monotonic() < deadline:
                self.loop.call_later(0.001, when_gone, threads, deadline)
            else:
                gone.put(threads)

        def begin() -> None:
            when_gone(self._stop_all(), time.monotonic() + SHUTDOWN)

        self.loop.call_soon_threadsafe(begin)
        self._end(gone.get(timeout=SHUTDOWN + 5.0))
        if self._own_thread is not None:
            self._over = True
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._own_thread.join(SHUTDOWN)

    async def aclose(self) -> None:
        """End all actors, on the loop; the loop itself goes on."""
        if next(self._shutdowns) > 0:
            return
        threads = self._stop_all()
        deadline = time.monotonic() + SHUTDOWN
        while (self.cells or any(map(_is_alive, threads))) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        self._end([])  # whose loop this is does not wait for a thread that a disk holds up

    def _end(self, threads: list[threading.Thread]) -> None:
        self._closed = True
        self.unload_all_sources()
        for thread in threads:
            thread.join(0.0 if thread is threading.current_thread() else SHUTDOWN)
        for cell in self.cells.values():
            log.warning("Actor %s did not exit", cell.address)
            cell.address.cell = None
        self.cells.clear()


def _is_alive(thread: threading.Thread) -> bool:
    return thread.is_alive()


__all__ = ["THREAD", "InvalidActorAddress", "LocalSystemBase"]
