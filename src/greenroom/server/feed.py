"""The newest events as they go over the wire, kept once for all who read them.

Plain values: no loop, no clock. A reader has a *place* of its own and nothing else is kept for it. So one
that never reads costs what it is being sent just now. If the feed has forgotten the place of a slow reader
(`read` says None), it goes on from the store. If even the store has not kept the events, the runtime's own
events say so (`events.missed`).

An event costs those who listen to its part of the tree, and nobody else: for each path that somebody
listens to, the feed keeps the places of the events at or below it.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NewType, TypeAlias

import msgspec
from msgspec import Struct

from .. import Event
from ..paths import is_under, upwards

Place = NewType("Place", int)
"""Before which entry of the feed a reader stands. Events' numbers have gaps and repeat, places do not."""

ENTRIES_KEPT = 4_096
FEED_BYTES = 8 << 20
"""Of all events in the feed together, as they are sent."""
CHUNK_BYTES = 64 << 10
"""Bytes after which a reader's portion ends; one event may be larger."""
ENTRIES_EXAMINED = 2_000
"""Entries that are looked at for one portion, most of which may not be wanted."""

_encode = msgspec.json.encode


class Wanted(Struct, frozen=True):
    """Which events somebody reads: at or below a path, of some types (`run.*` is all of runs), of a run."""

    under: str = "/"
    types: Sequence[str] = ()
    run_id: str | None = None
    below: bool = True  # else of the path itself alone

    def has(self, event: "Event | Entry") -> bool:
        """Whether an event is one of these."""
        if self.run_id is not None and event.run_id != self.run_id:
            return False
        if self.types and not any(_is_of(event.type, wanted) for wanted in self.types):
            return False
        return is_under(event.path, self.under) and (self.below or event.path == self.under)


def _is_of(type: str, wanted: str) -> bool:
    return type.startswith(wanted[:-1]) if wanted.endswith(".*") else type == wanted


class Entry(Struct, frozen=True):
    """An event and its bytes on the wire."""

    seq: int
    type: str
    path: str
    run_id: str | None
    data: bytes


Portion: TypeAlias = tuple[list[bytes], Place]
"""The events to send now, and where the reader stands then."""


class _Index:
    """The places of the events at or below one path, for the readers that listen to it."""

    __slots__ = ("dropped", "forgotten", "places", "readers")

    def __init__(self, places: list[int], forgotten: int) -> None:
        self.places, self.forgotten = places, forgotten  # `forgotten`: the newest place that may be missing
        self.readers = self.dropped = 0  # `dropped`: places at the beginning that do not count any more

    def drop(self, places: int) -> None:
        """The feed keeps the first of these events no more."""
        if places:
            self.dropped += places
            self.forgotten = self.places[self.dropped - 1]
        if 2 * self.dropped > len(self.places):
            del self.places[: self.dropped]
            self.dropped = 0


class Feed:
    """Events in, portions out."""

    def __init__(self, last: int, *, keep: int = ENTRIES_KEPT, most_bytes: int = FEED_BYTES) -> None:
        self.last = last  # the number of the newest event that was told
        self.counts: dict[str, int] = {}  # of each type, since the feed began
        self._forgotten = last  # the number of the newest event that is not kept any more
        self._keep, self._most = keep, most_bytes
        self._entries: dict[int, Entry] = {}
        self._first = self._next = 0
        self._bytes = 0
        self._indexes: dict[str, _Index] = {}  # of the paths that somebody listens to

    @contextmanager
    def listening(self, under: str) -> Iterator[None]:
        """Somebody reads what is wanted at or below this path: what is elsewhere costs it nothing."""
        index = self._indexes.get(under)
        if index is None:
            entries = self._entries.items()
            places = [place for place, entry in entries if is_under(entry.path, under)]
            index = self._indexes[under] = _Index(places, self._first - 1)
        index.readers += 1
        try:
            yield
        finally:
            index.readers -= 1
            if not index.readers:
                del self._indexes[under]

    def add(self, event: Event) -> None:
        """This happened after all that was added before."""
        if event.type == "agent.deleted":  # the store tells what is left of what happened before
            for index in self._indexes.values():
                index.drop(len(index.places) - index.dropped)
            self._entries.clear()
            self._first, self._bytes, self._forgotten = self._next, 0, self.last
        entry = Entry(event.seq, event.type, event.path, event.run_id, on_wire(event))
        self._entries[self._next] = entry
        for index in self._listened(event.path):
            index.places.append(self._next)
        self._next += 1
        self._bytes += len(entry.data)
        self.last = max(self.last, event.seq)
        self.counts[event.type] = self.counts.get(event.type, 0) + 1
        while len(self._entries) > self._keep or (self._bytes > self._most and len(self._entries) > 1):
            oldest = self._entries.pop(self._first)
            self._first += 1
            self._bytes -= len(oldest.data)
            self._forgotten = oldest.seq
            for index in self._listened(oldest.path):
                index.drop(1)

    def _listened(self, path: str) -> Iterator[_Index]:
        """The indexes that an event at this path belongs to."""
        for at in upwards(path) if self._indexes else ():
            index = self._indexes.get(at)
            if index is not None:
                yield index

    @property
    def end(self) -> Place:
        """After the newest event."""
        return Place(self._next)

    def after(self, seq: int) -> Place | None:
        """Before the first event with a greater number; None if the feed may not have all of them."""
        if seq < self._forgotten:
            return None
        low, high = self._first, self._next
        while low < high:
            middle = (low + high) // 2
            if self._entries[middle].seq > seq:
                high = middle
            else:
                low = middle + 1
        return Place(low)

    def seq_before(self, place: Place) -> int:
        """The number of the last event before `place`, which `read` has just reached."""
        entry = self._entries.get(place - 1)
        return self._forgotten if entry is None else entry.seq

    def read(self, place: Place, wanted: Wanted) -> Portion | None:
        """The next portion for a reader at `place`, empty if there is nothing; None if it is forgotten."""
        index = self._indexes.get(wanted.under)
        if place < self._first if index is None else place <= index.forgotten:
            return None
        found: list[bytes] = []
        size = 0
        for count, looked in enumerate(self._places(index, place), 1):
            entry = self._entries[looked]
            if wanted.has(entry):
                found.append(entry.data)
                size += len(entry.data)
            if count == ENTRIES_EXAMINED or size >= CHUNK_BYTES:
                return found, Place(looked + 1)
        return found, Place(self._next)

    def _places(self, index: _Index | None, place: Place) -> Iterator[int]:
        """Where the events are that a reader at `place` has to look at."""
        if index is None:
            yield from range(place, self._next)
            return
        places = index.places
        for number in range(bisect_left(places, place, index.dropped), len(places)):
            yield places[number]


def on_wire(event: Event) -> bytes:
    """An event as a server-sent event. JSON has no line ends in it, so `data` is one line.

    An event that is in no store has no id of its own: a client that resumes asks for what comes after the
    last event that has.
    """
    head = "" if event.type == "store.failing" else f"id: {event.seq}\n"
    return f"{head}event: {event.type}\ndata: ".encode() + _encode(event) + b"\n\n"
