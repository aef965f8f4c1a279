"""Questions to the store's reader that are not answered yet."""

from collections.abc import Callable, Iterable

from msgspec import Struct

from ....errors import StoreError
from ....persistence.queries import Query
from ....persistence.rows import AgentRow
from ....types import Address, RequestId
from ...effects import Effect, Send, StartTimer
from ...storage.protocol import Answer, Read
from .memtable import Memtable

READ_AGAIN = (0.05, 0.2, 0.8)
"""Seconds until a question is asked again that the disk did not answer; then its error is the answer."""


class ReadAgain(Struct, frozen=True):
    """To the commit log's actor, from a timer: the time to ask the reader once more has come."""

    ticket: int


class OpenQuestion(Struct):
    """A question, and who gets its answer."""

    request: RequestId
    reply_to: Address | Callable[[Answer], Iterable[Effect]]
    query: Query
    floor: int  # the last entry that was on disk when it was asked
    also: tuple[AgentRow, ...] = ()  # rows for the answer that the reader may not find
    tries: int = 0
    asked: object = None  # the request that the answer is for, where that is more than a question


class OpenQuestions:
    """By ticket, in the order in which they were asked."""

    def __init__(self, memtable: Memtable) -> None:
        self._memtable = memtable
        self.open: dict[int, OpenQuestion] = {}
        self._last = 0

    def read(self, question: OpenQuestion) -> list[Effect]:
        """Ask the reader."""
        self._last += 1
        self.open[self._last] = question
        return [Send("reader", Read(self._last, question.query, self._memtable.erasing))]

    def over(self, answer: Answer) -> OpenQuestion | None:
        """Take out the question of this answer; None if the reader is to be asked again."""
        ticket: int = answer.request  # type: ignore[assignment]
        question = self.open[ticket]
        if type(answer.error) is StoreError and question.tries < len(READ_AGAIN):
            return None
        return self.open.pop(ticket)

    def again_later(self, answer: Answer) -> list[Effect]:
        """Set the timer for the next try."""
        ticket: int = answer.request  # type: ignore[assignment]
        question = self.open[ticket]
        question.tries += 1
        return [StartTimer(READ_AGAIN[question.tries - 1], ReadAgain(ticket))]

    def read_again(self, message: ReadAgain) -> list[Effect]:
        """The time for the next try has come."""
        query = self.open[message.ticket].query
        return [Send("reader", Read(message.ticket, query, self._memtable.erasing))]

    def floor(self, written: int) -> int:
        """The entry up to which all was on disk when the oldest open question was asked."""
        return min(written, next(iter(self.open.values())).floor) if self.open else written


def answer_to(reply_to: Address | Callable[[Answer], Iterable[Effect]], answer: Answer) -> list[Effect]:
    """Pass an answer on: to an address, or to the function that goes on with it."""
    if callable(reply_to):
        return list(reply_to(answer))
    return [Send(reply_to, answer)]
