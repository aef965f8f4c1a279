"""`SimulatedSystemBase`: the actors of `LocalSystemBase` on a loop that chooses what comes next.

Each two actors have a channel of their own on the loop's agenda. Which message is handled next is a choice,
and the order between the two is kept. An actor that asks for a thread handles its messages on the same
loop, one at a time, and each takes a chosen time: before what it does has happened, and after it, until its
answers go out.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from thespian.actors import ActorAddress, ActorExitRequest, InvalidActorAddress, WakeupMessage
from thespian.system import isInternalActorSystemMessage
from thespian.system.timing import timePeriodSeconds

from .cell import Cell, ExternalCell, LocalAddress
from .local import SHUTDOWN, LocalSystemBase
from .virtual import NothingCanHappen, VirtualLoop

DISK_PAUSES = (0.0, 0.001, 0.005, 0.02, 0.1)
"""Seconds that a thread's actor may take before and after it handles a message: a disk, most of all."""

HORIZON = 1e9
"""Seconds that somebody outside waits who named no time-out."""

Send: TypeAlias = tuple[ActorAddress, Any]


class SimulatedCell(Cell):
    """One actor on the loop."""

    __slots__ = ()

    base: "SimulatedSystemBase"

    def send(self, to: ActorAddress, message: Any) -> None:
        self.base.put(to, message, self.address)

    def wakeupAfter(self, period: Any, payload: Any) -> None:
        def ring() -> None:
            if self.timers:  # else the actor is gone
                self.timers.pop(timer, None)
            self.base.put(self.address, WakeupMessage(period, payload), self.address)

        timer = self.base.loop.call_later(max(0.0, timePeriodSeconds(period)), ring)
        self.with_timer(timer, None)  # type: ignore[arg-type]  # no clock is looked at


class SimulatedThreadCell(Cell):
    """One actor that has a thread in production: busy with one message at a time."""

    __slots__ = ("_busy", "_held", "_waiting")

    direct = False

    base: "SimulatedSystemBase"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._waiting: deque[tuple[Any, ActorAddress]] = deque()
        self._held: list[Send] | None = None  # what it sends, while it is at work
        self._busy = False

    def deliver(self, message: Any, sender: ActorAddress) -> None:
        self._waiting.append((message, sender))
        self._next()

    def _next(self) -> None:
        if not self._busy and self._waiting:
            self._busy = True
            self._later(self._handle)

    def _later(self, do: Callable[[], None]) -> None:
        loop = self.base.loop
        loop.after(loop.span(self.base.pauses), self.address, do)

    def _handle(self) -> None:
        message, sender = self._waiting.popleft()
        self._held = []
        self.base.trace_delivery(self.address, message, sender, "%s handles %s")
        super().deliver(message, sender)
        self._later(self._answer)

    def _answer(self) -> None:
        held, self._held = self._held or [], None
        for to, message in held:
            self.base.put(to, message, self.address)
        self._busy = False
        if self.address.cell is self:
            self._next()
            return
        for message, sender in self._waiting:  # came after its end
            self.base.to_dead_letters(self.address, message, sender)
        self._waiting.clear()

    def send(self, to: ActorAddress, message: Any) -> None:
        if self._held is not None:
            self._held.append((to, message))
        else:
            self.base.put(to, message, self.address)

    def wakeupAfter(self, period: Any, payload: Any) -> None:
        """It rings before what has come meanwhile."""

        def ring() -> None:
            if self.address.cell is self:
                self._waiting.appendleft((WakeupMessage(period, payload), self.address))
                self._next()

        self.base.loop.call_later(max(0.0, timePeriodSeconds(period)), ring)


class SimulatedSystemBase(LocalSystemBase):
    """The base for `ActorSystem(systemBase=SimulatedSystemBase(loop), transientUnique=True)`.

    A call from outside drives the loop until there is an answer. `pauses` are the times,
    in seconds, of which those of a thread's actor are chosen.
    """

    loop: VirtualLoop
    cell_type = SimulatedCell
    thread_cell_type = SimulatedThreadCell

    def __init__(
        self,
        loop: VirtualLoop,
        *,
        pauses: tuple[float, ...] = DISK_PAUSES,
        capabilities: dict[str, Any] | None = None,
    ) -> None:
        self.pauses = pauses
        super().__init__(loop, capabilities=capabilities)

    def put(self, to: ActorAddress, message: Any, sender: ActorAddress) -> None:
        """Queue a message behind all that its sender has sent to the same receiver."""
        if not isinstance(to, ActorAddress):
            raise InvalidActorAddress(to, "not a valid ActorAddress for sending messages to")

        def hand_out() -> None:
            cell = getattr(to, "cell", None)
            if cell is None:
                self.trace_delivery(to, message, sender, "nobody at %s: %s")
                self.to_dead_letters(to, message, sender)
                return
            if not isinstance(cell, SimulatedThreadCell):
                self.trace_delivery(to, message, sender, "%s < %s")
            cell.deliver(message, sender)

        self.loop.agenda.add((to, sender), lambda: self.context.run(hand_out))

    def trace_delivery(self, to: ActorAddress, message: Any, sender: ActorAddress, text: str) -> None:
        """Note who gets what from whom."""
        self.loop.trace.add(self.loop.time(), f"{text} from %s", name_of(to), message, name_of(sender))

    def listen_as(self, outsider: ExternalCell, timeout: Any) -> Any:
        """The next message that comes out of the system; None after `timeout` of virtual time."""
        loop, received = self.loop, outsider.received
        if loop.is_running():
            self._refuse_to_wait_on_loop("listen")
        seconds = HORIZON if timeout is None else max(0.0, timePeriodSeconds(timeout))
        until = loop.time() + seconds
        while loop.drive(lambda: not received.empty(), until=until):
            message = received.get()
            if not isInternalActorSystemMessage(message):
                return message
        if timeout is None:
            raise NothingCanHappen("nothing can happen any more, and no message came")
        loop.pass_to(until)
        return None

    def ask_as(self, outsider: ExternalCell, to: ActorAddress, message: Any, timeout: Any) -> Any:
        self.put(to, message, outsider.address)
        return self.listen_as(outsider, timeout)

    # The end

    def request_shutdown(self) -> None:
        """An actor wants the system to end."""
        self.loop.call_soon(self._stop_all)

    def shutdown(self) -> None:
        """End all actors; the loop stays, with what else is on it."""
        if self._closed:
            return
        for cell in list(self.cells.values()):
            if cell.parent is self.system_address:
                self.put(cell.address, ActorExitRequest(), self.system_address)
        self.loop.drive(lambda: not self.cells, until=self.loop.time() + SHUTDOWN)
        self._end([])

    def abandon(self) -> None:
        """The process has died: there is nobody to end."""
        self._closed = True

    async def aclose(self) -> None:
        """The same, on the loop."""
        raise NotImplementedError("a simulation is ended from outside its loop, by shutdown()")


def name_of(address: Any) -> str:
    """An actor by what it is, and one that is gone by its number."""
    instance = getattr(getattr(address, "cell", None), "instance", None)
    role = getattr(instance, "role", None) or type(instance).__name__
    if instance is not None:
        return str(role)
    if isinstance(address, LocalAddress):
        return str(address.addressDetails).replace("System:ExternalRequester", "outside")
    return "?"
