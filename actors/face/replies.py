"""Where callers outside meet the actors: questions go in by number, each answer finds its asker.

Thespian's `ask` takes any message for its answer; so nobody asks that way. A caller leaves a callback
under a request number that is never used again and posts its command; this actor hands the answer over.
A dict operation is atomic, so callers on any thread need no lock.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

from msgspec import Struct
from thespian.actors import Actor, ActorAddress

from ...errors import GreenroomError
from ...types import Address, RequestId
from ..ledger.replies import RequestRefused
from ..supervisor.protocol import RuntimeFailed

Callback = Callable[[Any], None]


class PendingReplies(Struct):
    """The callers that wait for an answer. Shared by the callers and the gateway, and by nobody else."""

    waiting: dict[Any, Callback] = {}
    numbers: Any = None
    failure: GreenroomError | None = None  # nothing will be answered any more

    def expect(self, callback: Callback) -> int:
        """Have the answer to a new request number given to `callback`, on the loop's thread."""
        request: int = next(self.numbers)
        self.waiting[request] = callback
        return request

    def give_up(self, error: GreenroomError, *, but: RequestId | None = None) -> None:
        """Answer everybody, now and from now on, with `error`; the request `but` still gets its own."""
        self.failure = error
        kept = self.waiting.pop(but, None)
        while self.waiting:
            request, callback = self.waiting.popitem()
            callback(RequestRefused(request, error))
        if kept is not None:
            self.waiting[but] = kept


class Standing(Struct, frozen=True):
    """A callback that gets several answers to one request, until it is forgotten."""

    callback: Callback

    def __call__(self, answer: Any) -> None:
        self.callback(answer)


class ServeReplies(Struct, frozen=True):
    """To the gateway, once: whom it answers."""

    callers: PendingReplies


class Relay(Struct, frozen=True):
    """Send a message on in the gateway's name, so that what is answered to its sender comes here."""

    to: Address
    message: object


class Gateway(Actor):
    """Answers in, callbacks out. A page less than the other actors: it decides nothing."""

    callers: PendingReplies

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802, ARG002
        if type(message) is Relay:
            self.send(message.to, message.message)
        elif type(message) is ServeReplies:
            self.callers = message.callers
        elif type(message) is RuntimeFailed:
            self.callers.give_up(message.error, but=message.closing)
        else:
            request = getattr(message, "request", None)
            callback = self.callers.waiting.get(request)
            if callback is not None:
                if type(callback) is not Standing:
                    self.callers.waiting.pop(request, None)
                callback(message)


def new_pending_replies() -> PendingReplies:
    """Nobody waits yet."""
    return PendingReplies({}, count(1))
