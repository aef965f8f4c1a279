"""The ReaderActor: serves cold lookups on a second connection, on a thread of its own."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from ...errors import GreenroomError, RuntimeClosing, StoreError
from ...persistence.reader import Reader
from ...types import Address
from ..effects import Effect, Send
from ..shell import ActorShell, log
from .protocol import Answer, CloseStore, OpenReader, Read, ReaderOpened, StoreClosed, StoreRefused

ReaderOpener: TypeAlias = Callable[[str], Reader]


class ReaderActor(ActorShell):
    """Answers from what is committed, on a connection of its own: it never waits for the writer."""

    role = "reader"

    def __init__(self) -> None:
        super().__init__()
        self.reader: Reader | None = None

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:
        match message:
            case OpenReader():
                return (Send(sender, self.open(message)),)
            case Read():
                return (Send(sender, self.read(message)),)
            case CloseStore():
                self.close()
                return (Send(sender, StoreClosed()),)
            case _:
                raise TypeError(f"the reader knows no {type(message).__name__}")

    def open(self, message: OpenReader) -> ReaderOpened | StoreRefused:
        opener: ReaderOpener = message.opener or Reader.open
        self.close()
        try:
            self.reader = opener(message.store)
        except GreenroomError as error:
            return StoreRefused(error)
        return ReaderOpened()

    def read(self, message: Read) -> Answer:
        if self.reader is None:
            return Answer(message.request, None, RuntimeClosing())
        try:
            return Answer(message.request, self.reader.read(message.query, message.erasing))
        except GreenroomError as error:
            return Answer(message.request, None, error)
        except Exception as error:  # one question that cannot be answered is no reason to answer none
            log.exception("a question could not be answered: %r", message.query)
            problem = f"{type(message.query).__name__} could not be answered: {error!r}. Please report this"
            return Answer(message.request, None, StoreError(self.reader.path, problem))

    def close(self) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()

    def ended(self) -> None:
        self.close()
