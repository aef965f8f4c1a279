"""The two disk actors: one writes, one reads, each on a thread of its own.

They open their connections in the thread that handles their messages. An answer always goes to the
sender, and a batch is answered when its transaction is committed, never before.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from msgspec import Struct

from ..actors.effects import Effect, Send
from ..actors.errors import GreenroomError, RuntimeClosing, StoreError
from ..actors.shell import ActorShell, log
from ..actors.vocabulary import Address, Durability
from .ownership import Claim
from .protocol import (
    Answer,
    BatchFailed,
    BatchWritten,
    CloseStore,
    OpenReader,
    OpenStore,
    Read,
    ReaderOpened,
    StoreClosed,
    StoreOpened,
    StoreRefused,
    Unfinished,
    WriteBatch,
)
from .reader import Reader
from .schema import inspect
from .store import Store, WriteFailed

Opener: TypeAlias = Callable[[str, Durability], tuple[Store, Unfinished]]
ReaderOpener: TypeAlias = Callable[[str], Reader]


class _Tidy(Struct, frozen=True):
    """To itself, behind the answer to a batch: a checkpoint is in nobody's commit."""


class PersistenceActor(ActorShell):
    """The only writer of the store."""

    role = "writer"

    def __init__(self) -> None:
        super().__init__()
        self.store: Store | None = None
        self.claim: Claim | None = None

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:
        match message:
            case OpenStore():
                return (Send(sender, self.open(message)),)
            case WriteBatch():
                answer = Send(sender, self.write(message))
                if self.store is not None and self.store.untidy:
                    return answer, Send(self.myAddress, _Tidy())
                return (answer,)
            case _Tidy():
                self.tidy()
                return ()
            case CloseStore():
                self.close()
                return (Send(sender, StoreClosed()),)
            case _:
                raise TypeError(f"the writer knows no {type(message).__name__}")

    def open(self, message: OpenStore) -> StoreOpened | StoreRefused:
        opener: Opener = message.opener or Store.open
        self.close()
        try:
            if message.store != ":memory:":
                inspect(message.store)  # what is refused gets no lock file either
                self.claim = Claim(message.store)
            self.store, unfinished = opener(message.store, message.durability)
        except GreenroomError as error:
            self.release()
            return StoreRefused(error)
        return StoreOpened(unfinished, self.store.path)

    def write(self, batch: WriteBatch) -> BatchWritten | BatchFailed:
        if self.store is None:
            return BatchFailed(batch.number, "the store is not open", True)
        begun = self.clock()
        try:
            self.store.write(batch.records, sync=batch.sync)
        except WriteFailed as error:
            return BatchFailed(batch.number, error.problem, error.fatal)
        return BatchWritten(batch.number, self.clock() - begun)

    def tidy(self) -> None:
        if self.store is None or not self.store.untidy:
            return  # closed meanwhile, or done for a batch before
        try:
            self.store.tidy()
        except StoreError as error:  # nothing is lost: the log goes on, and the next one tries again
            log.warning("the log was not copied into its file: %s", error)

    def close(self) -> None:
        store, self.store = self.store, None
        try:
            if store is not None:
                store.close()
        except StoreError as error:  # committed all the same: the next opening takes the log up
            log.error("the log was not copied into its file: %s", error)
        finally:
            self.release()

    def release(self) -> None:
        held, self.claim = self.claim, None
        if held is not None:
            held.release()

    def ended(self) -> None:
        self.close()


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
            return Answer(message.request, self.reader.read(message.query))
        except GreenroomError as error:
            return Answer(message.request, None, error)

    def close(self) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()

    def ended(self) -> None:
        self.close()
