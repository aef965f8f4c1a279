"""The newest events, and who waits for newer ones.

Owns a bounded ring of events and the pulls that found nothing new. Older events are the store's; it says
so by `None` and its actor asks the ledger.
"""

from collections import deque

from ...persistence.protocol import EventRow
from ..effects import Effect, Send
from ..vocabulary import RequestId, is_under
from .protocol import EventsPulled, PullEvents


class EventRing:
    """Events in, answers out."""

    def __init__(self, *, last: int, keep: int) -> None:
        self.last = last
        self._kept: deque[EventRow] = deque(maxlen=keep)
        self._before = last  # the number of the newest event that is not in the ring
        self._waiting: dict[RequestId, PullEvents] = {}

    def publish(self, events: tuple[EventRow, ...]) -> list[Effect]:
        """These happened: keep them, and answer who waited for one of them."""
        room = self._kept.maxlen or 0
        overflow = len(self._kept) + len(events) - room
        if overflow > 0:
            gone = [*self._kept, *events][overflow - 1]
            self._before = gone.seq
        self._kept.extend(events)
        self.last = events[-1].seq
        if not self._waiting:
            return []
        effects: list[Effect] = []
        for pull in list(self._waiting.values()):
            found = tuple(event for event in events if is_under(event.path, pull.under))
            if found:
                del self._waiting[pull.request]
                effects.append(_answer(pull, found[: pull.limit], self.last))
        return effects

    def pull(self, pull: PullEvents) -> list[Effect] | None:
        """Answer, or have it wait; None if what it asks for is in the store only."""
        if pull.since is None:
            return [Send(pull.reply_to, EventsPulled(pull.request, (), self.last))]
        if pull.since < self._before:
            return None
        newer = self._newer(pull.since)
        found = tuple(event for event in newer if is_under(event.path, pull.under))[: pull.limit]
        if found or not pull.wait:
            return [_answer(pull, found, self.last)]
        self._waiting[pull.request] = pull
        return []

    def read(self, pull: PullEvents, found: tuple[EventRow, ...]) -> list[Effect]:
        """The store held these for `pull`; none means that what is newer is in the ring.

        What was committed but not published yet is not told before its time.
        """
        found = tuple(event for event in found if event.seq <= self.last)
        if found:
            return [Send(pull.reply_to, EventsPulled(pull.request, found, found[-1].seq))]
        return self.pull(_from(pull, max(self._before, pull.since or 0))) or []

    def forget(self, request: RequestId) -> None:
        """Nobody waits for this answer any more."""
        self._waiting.pop(request, None)

    def _newer(self, since: int) -> list[EventRow]:
        newer: list[EventRow] = []
        for event in reversed(self._kept):
            if event.seq <= since:
                break
            newer.append(event)
        newer.reverse()
        return newer


def _answer(pull: PullEvents, found: tuple[EventRow, ...], last: int) -> Send:
    """A full page ends at its own last event; else everything up to `last` was looked at."""
    upto = found[-1].seq if len(found) == pull.limit else last
    return Send(pull.reply_to, EventsPulled(pull.request, found, upto))


def _from(pull: PullEvents, since: int) -> PullEvents:
    return PullEvents(pull.request, pull.reply_to, pull.under, since, pull.limit, pull.wait)
