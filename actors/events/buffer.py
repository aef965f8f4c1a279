"""The newest events, and who waits for newer ones.

Owns a bounded ring of events, an index of them for each path at which somebody listens, and the pulls that
are not answered yet. Older events are the store's: which question to ask of it is said by `questions`, and
the answer comes back through `found`. Announcements stand between the events in the order in which they
were told; they are nowhere else.

Whether the ring has all that a pull asks for is asked when the pull is answered, never before: the ring
moves on while the store is read, and while others are answered.

An event costs its own path and those who listen at or above it. Answers go out in portions, with others'
turns between them; who is answered later finds more.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ...paths import is_under
from ...persistence.queries import EventPage, ListEvents
from ...persistence.rows import EventRow
from ...types import RequestId, Timestamp
from ..effects import Effect, Send, StartTimer
from .protocol import MISSED, Announce, Cursor, EventsPulled, NextDelivery, PullEvents

BUFFER_BYTES = 16 << 20
"""Of what the events in the ring tell, whatever their number."""

READERS_IN_PORTION = 1_000
"""Events that are handed over before others have their turn; reading one takes some microseconds."""

ANSWER = 8
"""The cost of an answer by itself, counted in events."""

QUESTIONS = 2
"""To the store at a time, so that others who need it have their turn, and are held up by few."""

READY = 16
"""Answers from the store that wait to be handed out, beyond which it is not asked: each holds a page."""

COMPACT = 1_000
"""Entries that are removed, after which a log gives back their room."""

_place = itemgetter(0)


class _Log:
    """Entries in the order of their places: added at the end, removed from the beginning."""

    __slots__ = ("_entries", "_first")

    def __init__(self) -> None:
        self._entries: list[Any] = []
        self._first = 0  # those before it are removed

    def __len__(self) -> int:
        return len(self._entries) - self._first

    def __iter__(self) -> Iterator[Any]:
        return islice(self._entries, self._first, None)

    @property
    def first(self) -> Any:
        """The oldest one."""
        return self._entries[self._first]

    def add(self, entry: tuple[Any, ...]) -> None:
        """One more, whose place is behind all others."""
        self._entries.append(entry)

    def remove_first(self) -> Any:
        """Take out the oldest one."""
        first, self._first = self._first, self._first + 1
        entry, self._entries[first] = self._entries[first], None
        if self._first >= COMPACT and 2 * self._first > len(self._entries):
            del self._entries[: self._first]
            self._first = 0
        return entry

    def after(self, place: Cursor, limit: int | None = None) -> list[Any]:
        """Those behind a place, at most so many."""
        at = bisect_right(self._entries, place, lo=self._first, key=_place)
        return self._entries[at : None if limit is None else at + limit]


class _Listened(Struct, eq=False):
    """The events of the ring at or below one path, and the pulls that wait for one there."""

    since: Cursor  # the index has all events after this
    used: int  # how many events had happened when somebody listened here last
    events: _Log  # of places and events
    waiting: dict[RequestId, PullEvents]


class _OpenPull(Struct, eq=False):
    """Asked of the store once, for all who need the same."""

    asked: Cursor  # the last event when it was asked: the answer has all up to it
    pulls: list[PullEvents]


Key: TypeAlias = tuple[str, int, int]
"""Names a question to the store: under what, after which number, how many."""


class EventBuffer:
    """Events in, answers out. `now` is told before each command."""

    def __init__(self, *, last: int, keep: int) -> None:
        self.last: Cursor = (last, 0)
        self.now: Timestamp = 0.0
        self._keep = keep
        self._kept = _Log()  # of places, events, and where they are listened to
        self._before: Cursor = self.last  # of the newest event that is not in the ring
        self._bytes = 0  # of what the events tell
        self._count = 0  # events and announcements so far
        self._listened: dict[str, _Listened] = {}
        self._pulls: dict[RequestId, PullEvents] = {}  # all that were not answered
        self._due: deque[tuple[PullEvents, EventsPulled | None]] = deque()  # to be answered now
        self._questions: dict[Key, _OpenPull] = {}
        self._unasked: deque[Key] = deque()
        self._ready = 0  # of those due, the answers that came from the store
        self._left = READERS_IN_PORTION  # of the portion under way
        self._pausing = False  # others have their turn: `NextDelivery` is on its way

    # Events

    def publish(self, events: tuple[EventRow, ...]) -> list[Effect]:
        """These happened: keep them, and answer who waited for one of them."""
        path = ""
        listened: tuple[_Listened, ...] = ()
        for event in events:
            if event.path != path:
                path = event.path
                listened = self._listened_at(path)
            self._add((event.seq, 0), event, listened)
        return self._told(len(events), max((e.seq for e in events if e.type == "agent.deleted"), default=0))

    def announce(self, news: Announce) -> list[Effect]:
        """Keep this and tell it like an event that comes after all so far."""
        seq, count = self.last
        data = msgspec.json.encode({"problem": news.problem})
        event = EventRow(seq, news.at, news.type, "/", None, data)
        self._add((seq, count + 1), event, self._listened_at("/"))
        return self._told(1)

    def _listened_at(self, path: str) -> tuple[_Listened, ...]:
        """Where an event at this path is heard: there and above."""
        listened = self._listened
        if not listened:
            return ()
        found = [listened["/"]] if "/" in listened else []
        end = len(path)
        while end > 1:
            here = listened.get(path[:end])
            if here is not None:
                found.append(here)
            end = path.rfind("/", 0, end)
        return tuple(found)

    def _add(self, place: Cursor, event: EventRow, listened: tuple[_Listened, ...]) -> None:
        entry = (place, event)
        for here in listened:
            here.events.add(entry)
            if here.waiting:
                self._due.extend((pull, None) for pull in here.waiting.values())
                here.waiting.clear()
        self._kept.add((place, event, listened))
        self._bytes += len(event.data)
        self.last = place

    def _told(self, count: int, deleted: int = 0) -> list[Effect]:
        """Answer who waited, before anything leaves the ring for what has come.

        What happened before event `deleted`, an agent's deletion, the store tells: it knows what is left.
        """
        effects = self._hand_out()
        kept = self._kept
        while kept and (
            len(kept) > self._keep
            or (self._bytes > BUFFER_BYTES and len(kept) > 1)
            or kept.first[0] < (deleted, 0)
        ):
            self._before, event, listened = kept.remove_first()
            self._bytes -= len(event.data)
            for here in listened:
                here.events.remove_first()  # in each index it is the oldest
                here.since = self._before
        before, self._count = self._count, self._count + count
        if before // self._keep != self._count // self._keep:
            self._forget_paths()
        return effects

    def _forget_paths(self) -> None:
        """Give up the indexes of paths at which nobody has listened while the ring was filled once."""
        least = self._count - self._keep
        for path, here in list(self._listened.items()):
            if not here.waiting and here.used < least:
                del self._listened[path]

    # Pulls

    def pull(self, pull: PullEvents) -> list[Effect] | None:
        """Answer, or have it wait; None if what it asks for is in the store only: see `questions`."""
        if pull.since is None:
            return [Send(pull.reply_to, EventsPulled(pull.request, (), self.last))]
        self._pulls[pull.request] = pull
        if self._is_behind(pull):
            self._ask(pull)
            return None
        if pull.wait and cursor_of(pull.since) == self.last:
            self._wait(pull)  # most do
            return []
        self._due.append((pull, None))
        return self._hand_out()

    def forget(self, request: RequestId) -> None:
        """Nobody waits for this answer any more."""
        pull = self._pulls.pop(request, None)
        if pull is not None and pull.under in self._listened:
            self._listened[pull.under].waiting.pop(request, None)

    def go_on(self) -> list[Effect]:
        """Others have had their turn: hand out the next portion."""
        self._pausing = False
        self._left = READERS_IN_PORTION
        return self._hand_out()

    def _hand_out(self) -> list[Effect]:
        """Answer as many as a portion has room for, and at least one."""
        effects: list[Effect] = []
        while self._due and self._left > 0:
            pull, answer = self._due.popleft()
            self._ready -= answer is not None
            if pull.request not in self._pulls:
                continue
            answer = answer or self._answer(pull)
            self._left -= ANSWER
            if answer is not None:
                del self._pulls[pull.request]
                self._left -= len(answer.events)
                effects.append(Send(pull.reply_to, answer))
        if self._left <= 0 and not self._pausing:
            self._pausing = True
            effects.append(StartTimer(0.0, NextDelivery()))
        return effects

    def _answer(self, pull: PullEvents) -> EventsPulled | None:
        """The answers to send now; None if it waits, or if the store has to be asked."""
        since = cursor_of(pull.since)
        if pull.wait and since > self.last:
            # its number is another store's, or of an end that was lost
            return EventsPulled(pull.request, (self._missed(pull, None),), self.last)
        if self._is_behind(pull):
            self._ask(pull)
            return None
        found = self._newer(pull.under, since, pull.limit)
        if not found and pull.wait:
            self._wait(pull)
            return None
        # a full page ends at its own last event; else everything up to `last` was looked at
        upto = found[-1][0] if len(found) == pull.limit else max(self.last, since)
        return EventsPulled(pull.request, tuple([event for _, event in found]), upto)

    def _is_behind(self, pull: PullEvents) -> bool:
        """Whether something that it asks for may have left the ring."""
        since = cursor_of(pull.since)
        if since >= self._before:
            return False
        here = self._listened.get(pull.under)
        return here is None or since < here.since

    def _newer(self, under: str, since: Cursor, limit: int) -> list[tuple[Cursor, EventRow]]:
        """The events of the ring after `since`, at or below `under`, at most so many."""
        here = self._listened.get(under)
        if here is not None and since >= here.since:
            here.used = self._count
            return here.events.after(since, limit)
        newer = self._kept.after(since)
        return list(islice(((at, event) for at, event, _ in newer if is_under(event.path, under)), limit))

    def _wait(self, pull: PullEvents) -> None:
        """There is nothing for it up to the last event."""
        here = self._listened.get(pull.under)
        if here is None:
            here = self._listened[pull.under] = _Listened(self.last, 0, _Log(), {})
        here.used = self._count
        here.waiting[pull.request] = self._going_on(pull, self.last)

    def _going_on(self, pull: PullEvents, since: Cursor) -> PullEvents:
        """The same pull, with less to look at."""
        pull = self._pulls[pull.request] = replace(pull, since=since)
        return pull

    # The store

    def questions(self) -> list[tuple[Key, ListEvents]]:
        """The questions to the store, each once; the answers go to `found`, or to `refused`."""
        asking: list[tuple[Key, ListEvents]] = []
        while (
            self._unasked and len(self._questions) - len(self._unasked) < QUESTIONS and self._ready < READY
        ):
            key = self._unasked.popleft()
            question = self._questions[key]
            question.pulls = [pull for pull in question.pulls if pull.request in self._pulls]
            if question.pulls:
                question.asked = self.last
                asking.append((key, ListEvents(*key)))
            else:
                del self._questions[key]
        return asking

    def found(self, key: Key, page: EventPage) -> list[Effect]:
        """The store has answered."""
        question = self._questions.pop(key)
        older: dict[Cursor, tuple[EventRow, ...]] = {}
        for pull in question.pulls:
            if pull.request in self._pulls:
                self._read(pull, page, question.asked, older)
        return self._hand_out()

    def read(self, pull: PullEvents, found: tuple[EventRow, ...]) -> list[Effect]:
        """The store held these when `pull` came."""
        key = _key(pull)
        if key in self._unasked:
            self._unasked.remove(key)
        return self.found(key, EventPage(found))

    def refused(self, key: Key) -> list[PullEvents]:
        """The store could not answer: these wait no more."""
        pulls = self._questions.pop(key).pulls
        return [pull for pull in pulls if self._pulls.pop(pull.request, None) is not None]

    def _ask(self, pull: PullEvents) -> None:
        key = _key(pull)
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = _OpenPull(self.last, [])
            self._unasked.append(key)
        question.pulls.append(pull)

    def _read(
        self,
        pull: PullEvents,
        page: EventPage,
        asked: Cursor,
        older: dict[Cursor, tuple[EventRow, ...]],
    ) -> None:
        """Have a pull answered from a page of the store, or look further if there is nothing for it.

        The page has all up to some number. Of what came after that nothing is known, neither whether
        there is more nor whether it was published: that is where it goes on. What the ring has as well is
        taken from there, as it has the announcements in between.
        """
        found, since = page.events, cursor_of(pull.since)
        if len(found) >= pull.limit:
            complete = found[-1].seq
        elif page.upto is not None:
            complete = page.upto
        else:
            complete = max(asked[0], found[-1].seq if found else 0)
        gone = min(page.pruned, self._before[0])
        missed: tuple[EventRow, ...] = ()
        if gone > since[0] and pull.since != 0:
            missed, complete = (self._missed(pull, gone),), max(complete, gone)
        go_on = max(since, self._before if complete >= self._before[0] else (complete, 0))
        if go_on not in older:  # nearly all who asked the same go on at the same place
            older[go_on] = tuple([event for event in found if event.seq <= go_on[0]])
        if older[go_on] or missed:
            self._due.append((pull, EventsPulled(pull.request, missed + older[go_on], go_on)))
            self._ready += 1
        else:
            self._due.append((self._going_on(pull, go_on), None))

    def _missed(self, pull: PullEvents, upto: int | None) -> EventRow:
        seq = self.last[0] if upto is None else upto
        return missed(seq, cursor_of(pull.since)[0], upto, under=pull.under, now=self.now)


def missed(seq: int, since: int, upto: int | None, *, under: str, now: Timestamp) -> EventRow:
    """Stands, under number `seq`, for the events after `since` and up to `upto`: see `MISSED`."""
    data = msgspec.json.encode({"since": since, "upto": upto})
    return EventRow(seq, now, MISSED, under, None, data)


def cursor_of(since: int | Cursor | None) -> Cursor:
    """Where to go on reading; the number of an event stands for the place right after it."""
    return since if isinstance(since, tuple) else (since or 0, 0)


def _key(pull: PullEvents) -> Key:
    return pull.under, cursor_of(pull.since)[0], pull.limit
