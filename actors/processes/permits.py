"""Places: how many processes of a kind there may be, who waits for one, and who could give one up.

First come, first served within a kind; kinds do not hold each other up. A place is held from before its
process is forked until nothing of it is left.
"""

from collections import OrderedDict, deque


class Permits:
    """The places of one kind, by the numbers of processes."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.holders: set[int] = set()
        self.waiting: deque[int] = deque()
        self._idle: OrderedDict[int, None] = OrderedDict()  # holders with nothing to do, longest first
        self._asked: set[int] = set()  # Those of them that were asked to go.

    @property
    def free(self) -> bool:
        """Whether somebody who comes now gets a place at once."""
        return not self.waiting and self._room

    @property
    def _room(self) -> bool:
        return self.limit is None or len(self.holders) < self.limit

    def take(self, number: int) -> None:
        """Have a place that is free."""
        assert self.free
        self.holders.add(number)

    def wait(self, number: int) -> None:
        """Stand in line."""
        self.waiting.append(number)

    def leave(self, number: int) -> None:
        """Leave the line, or give a place back; nothing if neither."""
        if number in self.waiting:
            self.waiting.remove(number)
        self.holders.discard(number)
        self._asked.discard(number)
        self._idle.pop(number, None)

    def admit(self) -> list[int]:
        """Those whose turn it is now; they hold a place from here on."""
        admitted = []
        while self.waiting and self._room:
            admitted.append(self.waiting.popleft())
            self.holders.add(admitted[-1])
        return admitted

    def rests(self, number: int, *, idle: bool) -> None:
        """A holder has nothing to do, or has again: then it does not go, though it may have been asked."""
        self._asked.discard(number)
        self._idle.pop(number, None)
        if idle and number in self.holders:
            self._idle[number] = None

    def ends(self, number: int) -> None:
        """A holder is on its way out: its place will be free without being asked for."""
        if number in self.holders:
            self._idle.pop(number, None)
            self._asked.add(number)

    def wanted(self) -> list[int]:
        """Idle holders to ask now, so that as many go as wait; each is told once."""
        lacking = len(self.waiting) - len(self._asked)
        asked = list(self._idle)[: max(0, lacking)]
        for number in asked:
            del self._idle[number]
        self._asked.update(asked)
        return asked

    @property
    def unused(self) -> bool:
        return not self.holders and not self.waiting
