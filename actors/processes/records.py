"""Records of processes that are to be written or removed: one transaction at a time, tried until it is
done.

Records that come while a batch is written go with the next, so a burst of starts is a few commits.
"""

from msgspec import Struct

from ...errors import GreenroomError
from ...persistence.processes import ProcessRow
from ...types import Seconds
from ..effects import Effect, Send, StartTimer
from ..storage.protocol import KeepProcesses, ProcessesKept

LONGEST_PAUSE_SECONDS: Seconds = 2.0
"""Between two tries to write."""


class WriteAgain(Struct, frozen=True):
    """By timer, after a write that failed."""


class Records:
    """By the numbers of processes."""

    def __init__(self) -> None:
        self.lost: GreenroomError | None = None  # nothing can be written any more
        self._add: dict[int, ProcessRow] = {}
        self._drop: list[int] = []
        self._under_way: tuple[dict[int, ProcessRow], list[int]] | None = None
        self._writes = self._failures = 0

    @property
    def settled(self) -> bool:
        """Whether there is nothing to write, nor under way."""
        return self._under_way is None and not self._add and not self._drop

    def add(self, row: ProcessRow) -> None:
        self._add[row.number] = row

    def drop(self, number: int) -> bool:
        """Forget a process; whether that is all: it was not recorded yet, or nothing can be written."""
        if self._add.pop(number, None) is not None or self.lost is not None:
            return True
        self._drop.append(number)
        return False

    def write(self) -> list[Effect]:
        """Begin a transaction, if there is something to write and none is under way."""
        if self._under_way is not None or not (self._add or self._drop) or self.lost is not None:
            return []
        self._under_way = (self._add, self._drop)
        self._add, self._drop = {}, []
        self._writes += 1
        added, dropped = self._under_way
        return [Send("writer", KeepProcesses(self._writes, tuple(added.values()), tuple(dropped)))]

    def kept(self, news: ProcessesKept) -> tuple[list[int], list[int]]:
        """The numbers that are recorded now, and those that are forgotten; `lost` if it cannot be."""
        if self._under_way is None or news.number != self._writes:
            return [], []
        added, dropped = self._under_way
        if news.error is not None and not news.fatal:
            self._failures += 1
            return [], []
        self._under_way, self._failures = None, 0
        if news.error is None:
            return list(added), dropped
        # whoever has the store now, or opens it next, finds the records and ends what is left
        self.lost = news.error
        never, gone = [*added, *self._add], [*dropped, *self._drop]
        self._add, self._drop = {}, []
        return never, gone

    def patience(self) -> list[Effect]:
        """After a failure: when to write again."""
        return (
            [StartTimer(min(0.1 * 2**self._failures, LONGEST_PAUSE_SECONDS), WriteAgain())]
            if self._failures
            else []
        )

    def write_again(self) -> list[Effect]:
        """Try the transaction that failed, with what came since."""
        if self._under_way is None or not self._failures:
            return []
        added, dropped = self._under_way
        self._under_way = None
        self._add, self._drop = {**added, **self._add}, [*dropped, *self._drop]
        return self.write()
