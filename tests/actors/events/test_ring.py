"""Events in, answers out; announcements between them, in the order in which they were told."""

from typing import Any

from greenroom.actors.events.protocol import Announce, PullEvents
from greenroom.actors.events.ring import EventRing
from greenroom.persistence.protocol import EventRow


def event(seq: int, path: str = "/t/a") -> EventRow:
    return EventRow(seq, float(seq), "run.progress", path)


def pull(since: Any, under: str = "/", *, limit: int = 1_000, wait: bool = True) -> PullEvents:
    return PullEvents(1, "reader", under, since, limit, wait)


def told(effects: Any) -> list[tuple[int, str]]:
    (send,) = effects
    return [(row.seq, row.type) for row in send.message.events]


FAILING = Announce("store.failing", 9.0, "the disk is full")


def test_an_announcement_reaches_who_waits_at_once_and_who_comes_later_once() -> None:
    ring = EventRing(last=10, keep=100)
    assert ring.pull(pull(10)) == []
    (send,) = ring.announce(FAILING)
    assert [(row.seq, row.path, row.data) for row in send.message.events] == [
        (10, "/", b'{"problem":"the disk is full"}')
    ]
    assert ring.pull(pull(send.message.last)) == [], "it is told once"
    assert told(ring.pull(pull(10))) == [(10, "store.failing")], "to whoever had read up to there"
    assert told(ring.publish((event(11),))) == [(11, "run.progress")]
    assert told(ring.pull(pull(10))) == [(10, "store.failing"), (11, "run.progress")]
    assert told(ring.pull(pull(11, wait=False))) == []


def test_announcements_and_events_come_in_pages_without_a_gap() -> None:
    ring = EventRing(last=0, keep=100)
    ring.publish((event(1), event(2)))
    ring.announce(FAILING)
    ring.announce(FAILING)
    ring.publish((event(3),))
    seen, since = [], (0, 0)
    for _ in range(5):
        (send,) = ring.pull(pull(since, limit=1)) or ()
        seen += [(row.seq, row.type) for row in send.message.events]
        since = send.message.last
    progress, failing = "run.progress", "store.failing"
    assert seen == [(1, progress), (2, progress), (2, failing), (2, failing), (3, progress)]
    assert ring.pull(pull(since)) == []


def test_a_reader_below_the_root_hears_no_announcement() -> None:
    ring = EventRing(last=0, keep=100)
    assert ring.pull(pull(0, "/t")) == []
    assert ring.announce(FAILING) == []
    assert told(ring.publish((event(1),))) == [(1, "run.progress")]


def test_what_left_the_ring_is_read_from_the_store_and_then_the_ring_goes_on() -> None:
    ring = EventRing(last=0, keep=3)
    ring.publish(tuple(event(n) for n in range(1, 5)))
    ring.announce(FAILING)
    assert ring.pull(pull(0)) is None, "1 and 2 are in the store alone"
    (send,) = ring.read(pull(0), tuple(event(n) for n in range(1, 5)))
    assert [row.seq for row in send.message.events] == [1, 2], "what the ring has is taken from there"
    assert told(ring.pull(pull(send.message.last))) == [
        (3, "run.progress"),
        (4, "run.progress"),
        (4, "store.failing"),
    ]
    assert told(ring.read(pull(0, "/other", wait=False), ())) == []


def test_a_full_page_from_the_store_goes_on_where_it_ended() -> None:
    ring = EventRing(last=100, keep=3)
    (send,) = ring.read(pull(0, limit=2), (event(1), event(2)))
    assert (send.message.last, len(send.message.events)) == ((2, 0), 2)
