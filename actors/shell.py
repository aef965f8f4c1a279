"""The one class that touches Thespian: receive, decide, adopt, perform.

A concrete actor names its core, its configuration message and its translation of system messages. No
exception leaves `receiveMessage`: Thespian would run the handler again on half-changed state. A core
raises for bugs only. Where the bug concerns one request or one agent and the core's tables still agree with
each other, `contain` ends that alone; else the actor says why to its supervisor and goes.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct
from thespian.actors import (
    Actor,
    ActorAddress,
    ActorExitRequest,
    ChildActorExited,
    PoisonMessage,
    WakeupMessage,
)

from ..borders import let_out, shown, traceback_of
from ..types import Address, Role, Seconds, Timestamp
from .effects import Effect, Send, StartTimer

log = logging.getLogger("greenroom")


class Meet(Struct, frozen=True):
    """From the supervisor: the addresses of the control actors, and the clocks to go by."""

    roles: dict[Role, Address]
    clock: Callable[[], Timestamp] = time.time
    uptime: Callable[[], Seconds] = time.monotonic


class SayReady(Struct, frozen=True):
    """Answered by `Ready`, behind whatever its sender said before: order is promised to pairs alone."""


class Ready(Struct, frozen=True):
    role: str


class ActorFailed(Struct, frozen=True):
    """To the supervisor: an actor met a bug and goes.

    `reason` is a traceback, `broken` the invariant that does not hold any more, if it is known.
    """

    role: str
    reason: str
    broken: str | None = None


class Contained(Struct, frozen=True):
    """A bug ends what `effects` says and nothing else; or it cannot, as `broken` does not hold any more."""

    effects: tuple[Any, ...] = ()
    broken: str | None = None


_NOT_FOR_CORES = frozenset(
    (Meet, SayReady, WakeupMessage, ChildActorExited, PoisonMessage, ActorExitRequest)
)
"""Looked up by type, and not by `isinstance`: this is asked of every message there is."""


class ActorShell(Actor):
    """An actor around a core; subclasses implement `decide`."""

    role = "an actor"

    def __init__(self) -> None:
        super().__init__()
        self.roles: dict[Role, Address] = {}
        self.clock: Callable[[], Timestamp] = time.time
        self.uptime: Callable[[], Seconds] = time.monotonic  # for what no setting of a clock may change

    def decide(self, message: object, sender: Address) -> Iterable[Any]:
        """Hand `message` to the core and return what it asks for."""
        raise NotImplementedError

    def child_exited(self, address: Address) -> Iterable[Effect]:  # noqa: ARG002
        """Translate the end of a child into the core's words."""
        return ()

    def receiveMessage(self, message: object, sender: ActorAddress) -> None:  # noqa: N802
        met: BaseException | None = None
        try:
            if type(message) in _NOT_FOR_CORES:
                effects = self.translate(message, sender)
            else:
                effects = self.decide(message, sender)
        except BaseException as error:
            met, effects = error, self.met_bug(message, sender, error)
        try:
            for effect in effects:
                if type(effect) is Send:  # nearly all are; a call less for each
                    to = effect.to
                    self.send(self.roles[to] if type(to) is str else to, effect.message)  # type: ignore[index, arg-type]
                else:
                    self.perform(effect)
        except BaseException as error:
            met = error
            self.fail(message, error)
        if met is not None:
            let_out(met)

    def met_bug(self, message: object, sender: Address, error: BaseException) -> Iterable[Any]:
        """End what a message that could not be handled is about, and go on if that is sound."""
        contained = self.contain(message, sender, error)
        if contained.broken is not None:
            self.fail(message, error, contained.broken)
            return ()
        log.error(
            "%s could not handle %s, which is refused. Please report this.\n%s",
            self.role,
            shown(message),
            traceback_of(error),
        )
        return contained.effects

    def contain(self, message: object, sender: Address, error: BaseException) -> Contained:  # noqa: ARG002
        """The effects of a bug in handling `message`. By default its damage is not known."""
        return Contained(broken=f"{type(message).__name__} was handled in part")

    def translate(self, message: object, sender: Address) -> Iterable[Effect]:
        """Messages to actors as such: only timers and the end of a child concern a core."""
        match message:
            case WakeupMessage():
                return self.decide(message.payload, self.myAddress)
            case Meet():
                self.roles, self.clock, self.uptime = message.roles, message.clock, message.uptime
            case SayReady():
                return (Send(sender, Ready(self.role)),)
            case ChildActorExited():
                return self.child_exited(message.childAddress)
            case PoisonMessage():
                log.error("%s: a message could not be handled: %s", self.role, message)
            case ActorExitRequest():
                self.ended()
            case _:
                pass
        return ()

    def ended(self) -> None:
        """The actor is about to go: let go of what it holds outside."""

    def perform(self, effect: Effect) -> None:
        """Do what the core asked for."""
        match effect:
            case Send():
                to = effect.to
                self.send(self.roles[to] if isinstance(to, str) else to, effect.message)  # type: ignore[index]
            case StartTimer():
                self.wakeupAfter(effect.after, effect.message)

    def fail(self, message: object, error: BaseException, broken: str | None = None) -> None:
        """Report a bug, then go."""
        reason = traceback_of(error)
        log.critical("%s failed on %s\n%s", self.role, shown(message), reason)
        if "supervisor" in self.roles:
            self.send(self.roles["supervisor"], ActorFailed(self.role, reason, broken))
        self.send(self.myAddress, ActorExitRequest())
