"""The actor around the event ring: what left memory, it has the ledger read from the store."""

from collections.abc import Iterable

from ...persistence.journal import Publish
from ...persistence.protocol import Answer, Ask, ListEvents
from ..containing import refused
from ..effects import Effect, Send
from ..ledger.protocol import Refused
from ..shell import ActorShell, Contained
from ..vocabulary import Address, RequestId
from .protocol import Announce, ConfigureEvents, ForgetPull, PullEvents
from .ring import EventRing, cursor_of


class EventBus(ActorShell):
    """Told once where the store's events end; then news in, answers to pulls out."""

    role = "events"
    ring: EventRing

    def __init__(self) -> None:
        super().__init__()
        self.reading: dict[RequestId, PullEvents] = {}

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:  # noqa: ARG002
        match message:
            case Publish():
                return self.ring.publish(message.events)
            case Announce():
                return self.ring.announce(message)
            case PullEvents():
                found = self.ring.pull(message)
                return self.read(message) if found is None else found
            case Answer():
                return self.answered(message)
            case ForgetPull():
                self.ring.forget(message.request)
            case ConfigureEvents():
                self.ring = EventRing(last=message.last, keep=message.keep)
            case _:
                raise TypeError(f"the event bus does not know {message!r}")
        return ()

    def contain(self, message: object, sender: Address, error: Exception) -> Contained:
        """Refuse a question; whoever asked it has no place here any more."""
        if not isinstance(message, PullEvents):
            return super().contain(message, sender, error)
        self.reading.pop(message.request, None)
        self.ring.forget(message.request)
        return Contained((refused(message, sender, self.role, error),))

    def read(self, pull: PullEvents) -> list[Effect]:
        self.reading[pull.request] = pull
        query = ListEvents(pull.under, cursor_of(pull.since)[0], pull.limit)
        return [Send("ledger", Ask(pull.request, query))]

    def answered(self, answer: Answer) -> list[Effect]:
        pull = self.reading.pop(answer.request)
        if answer.error is not None:
            return [Send(pull.reply_to, Refused(pull.request, answer.error))]
        return self.ring.read(pull, answer.value)  # type: ignore[arg-type]
