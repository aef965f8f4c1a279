"""The actor around the event ring: what left memory, it has the ledger read from the store."""

from collections.abc import Iterable

from ...types import Address
from ..containing import refused
from ..effects import Effect, Send
from ..ledger.log.commit_log import Publish
from ..ledger.replies import RequestRefused
from ..shell import ActorShell, Contained
from ..storage.protocol import Answer, Ask
from .buffer import EventBuffer, Key
from .protocol import Announce, ConfigureEvents, ForgetPull, NextDelivery, PullEvents


class EventBus(ActorShell):
    """Told once where the store's events end; then news in, answers to pulls out."""

    role = "events"
    ring: EventBuffer

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:  # noqa: ARG002
        if type(message) is ConfigureEvents:
            self.ring = EventBuffer(last=message.last, keep=message.keep)
            return ()
        self.ring.now = self.clock()
        effects = self.handled(message)
        asks = [Send("ledger", Ask(key, query)) for key, query in self.ring.questions()]
        return [*effects, *asks] if asks else effects

    def handled(self, message: object) -> Iterable[Effect]:
        match message:
            case Publish():
                return self.ring.publish(message.events)
            case Announce():
                return self.ring.announce(message)
            case PullEvents():
                return self.ring.pull(message) or ()
            case NextDelivery():
                return self.ring.go_on()
            case Answer():
                return self.answered(message)
            case ForgetPull():
                self.ring.forget(message.request)
                return ()
            case _:
                raise TypeError(f"the event bus does not know {message!r}")

    def contain(self, message: object, sender: Address, error: BaseException) -> Contained:
        """Refuse a question; whoever asked it has no place here any more."""
        if not isinstance(message, PullEvents):
            return super().contain(message, sender, error)
        self.ring.forget(message.request)
        return Contained((refused(message, sender, self.role, error),))

    def answered(self, answer: Answer) -> list[Effect]:
        key: Key = answer.request  # type: ignore[assignment]
        if answer.error is not None:
            return [
                Send(pull.reply_to, RequestRefused(pull.request, answer.error))
                for pull in self.ring.refused(key)
            ]
        return self.ring.found(key, answer.value)  # type: ignore[arg-type]
