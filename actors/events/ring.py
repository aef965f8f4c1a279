"""The newest events, and who waits for newer ones.

Owns a bounded ring of events and the pulls that found nothing new. Older events are the store's; it says
so by `None` and its actor asks the ledger. Announcements stand between the events in the order in which
they were told; they are nowhere else.
"""

from collections import deque

import msgspec
from msgspec.structs import replace

from ...persistence.protocol import EventRow
from ..effects import Effect, Send
from ..vocabulary import RequestId, is_under
from .protocol import Announce, Cursor, EventsPulled, PullEvents

MOST_BYTES = 16 << 20
"""Of what the events in the ring tell, whatever their number."""


class EventRing:
    """Events in, answers out."""

    def __init__(self, *, last: int, keep: int) -> None:
        self.last: Cursor = (last, 0)
        self._kept: deque[tuple[Cursor, EventRow]] = deque(maxlen=keep)
        self._before: Cursor = self.last  # of the newest event that is not in the ring
        self._bytes = 0  # of what the events tell
        self._waiting: dict[RequestId, PullEvents] = {}

    def publish(self, events: tuple[EventRow, ...]) -> list[Effect]:
        """These happened: keep them, and answer who waited for one of them."""
        for event in events:
            self._keep((event.seq, 0), event)
        effects = self._tell(events)
        deleted = [event.seq for event in events if event.type == "agent.deleted"]
        if deleted:
            self._forget_before(deleted[-1])
        return effects

    def announce(self, news: Announce) -> list[Effect]:
        """Keep this and tell it like an event that comes after all so far."""
        seq, count = self.last
        data = msgspec.json.encode({"problem": news.problem})
        event = EventRow(seq, news.at, news.type, "/", None, data)
        self._keep((seq, count + 1), event)
        return self._tell((event,))

    def _keep(self, place: Cursor, event: EventRow) -> None:
        kept = self._kept
        if len(kept) == kept.maxlen:
            self._forget_oldest()
        kept.append((place, event))
        self._bytes += len(event.data)
        while self._bytes > MOST_BYTES and len(kept) > 1:
            self._forget_oldest()
        self.last = place

    def _forget_oldest(self) -> None:
        self._before, event = self._kept.popleft()
        self._bytes -= len(event.data)

    def _forget_before(self, seq: int) -> None:
        """An agent was deleted: the store tells what is left of what happened before."""
        while self._kept and self._kept[0][0] < (seq, 0):
            self._forget_oldest()

    def _tell(self, events: tuple[EventRow, ...]) -> list[Effect]:
        if not self._waiting:
            return []
        effects: list[Effect] = []
        for pull in list(self._waiting.values()):
            if any(is_under(event.path, pull.under) for event in events):
                del self._waiting[pull.request]
                effects.append(self._answer(pull))
        return effects

    def pull(self, pull: PullEvents) -> list[Effect] | None:
        """Answer, or have it wait; None if what it asks for is in the store only."""
        if pull.since is None:
            return [Send(pull.reply_to, EventsPulled(pull.request, (), self.last))]
        if cursor_of(pull.since) < self._before:
            return None
        answer = self._answer(pull)
        if answer.message.events or not pull.wait:  # type: ignore[attr-defined]
            return [answer]
        self._waiting[pull.request] = replace(pull, since=self.last)
        return []

    def read(self, pull: PullEvents, found: tuple[EventRow, ...]) -> list[Effect]:
        """The store held these for `pull`; what the ring has as well is taken from there.

        What was committed but not published yet is not told before its time.
        """
        whole = len(found) < pull.limit  # it has no more
        older = tuple(event for event in found if event.seq <= self._before[0])
        since = max(self._before, cursor_of(pull.since))
        if older:
            upto = since if whole or len(older) < len(found) else (older[-1].seq, 0)
            return [Send(pull.reply_to, EventsPulled(pull.request, older, upto))]
        return self.pull(replace(pull, since=since)) or []

    def forget(self, request: RequestId) -> None:
        """Nobody waits for this answer any more."""
        self._waiting.pop(request, None)

    def _answer(self, pull: PullEvents) -> Send:
        """A full page ends at its own last event; else everything up to `last` was looked at."""
        newer: list[tuple[Cursor, EventRow]] = []
        since = cursor_of(pull.since)
        for place, event in reversed(self._kept):
            if place <= since:
                break
            newer.append((place, event))
        newer.reverse()
        found = [(place, event) for place, event in newer if is_under(event.path, pull.under)][: pull.limit]
        upto = found[-1][0] if len(found) == pull.limit else max(self.last, since)
        return Send(pull.reply_to, EventsPulled(pull.request, tuple(event for _, event in found), upto))


def cursor_of(since: int | Cursor | None) -> Cursor:
    """Where to go on reading; the number of an event stands for the place right after it."""
    return since if isinstance(since, tuple) else (since or 0, 0)
