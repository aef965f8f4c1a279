"""Values in their order, so that a page of them is found without looking at all the others.

A list of sorted lists: adding, removing and finding cost a search in the outer list, one in an inner list,
and a move of at most `PART_SIZE` pointers.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

from ....types import AgentId

SortKey = tuple[str, AgentId]
"""Where an agent stands in a listing: by path, then by id."""

T = TypeVar("T", str, SortKey)

PART_SIZE = 1_024
"""Values in one inner list; a longer one is cut in two."""


class SortedSet(Generic[T]):
    """A sorted set."""

    def __init__(self) -> None:
        self._parts: list[list[T]] = []  # none is empty
        self._lasts: list[T] = []  # of each part

    def add(self, value: T) -> None:
        """Put it in, unless it is there."""
        if not self._parts:
            self._parts, self._lasts = [[value]], [value]
            return
        at = min(bisect_left(self._lasts, value), len(self._parts) - 1)
        part = self._parts[at]
        place = bisect_left(part, value)
        if place < len(part) and part[place] == value:
            return
        part.insert(place, value)
        self._lasts[at] = part[-1]
        if len(part) > PART_SIZE:
            half = part[PART_SIZE // 2 :]
            del part[PART_SIZE // 2 :]
            self._parts.insert(at + 1, half)
            self._lasts[at] = part[-1]
            self._lasts.insert(at + 1, half[-1])

    def discard(self, value: T) -> None:
        """Take it out, if it is there."""
        at = bisect_left(self._lasts, value)
        if at == len(self._parts):
            return
        part = self._parts[at]
        place = bisect_left(part, value)
        if place == len(part) or part[place] != value:
            return
        del part[place]
        if part:
            self._lasts[at] = part[-1]
        else:
            del self._parts[at], self._lasts[at]

    def after(self, value: T) -> Iterator[T]:
        """The greater ones, in order. Nothing may be put in or taken out meanwhile."""
        at = bisect_right(self._lasts, value)
        if at == len(self._parts):
            return
        part = self._parts[at]
        yield from part[bisect_right(part, value) :]
        for part in self._parts[at + 1 :]:
            yield from part
