"""Events in, answers out; announcements between them, in the order in which they were told."""

from itertools import count
from typing import Any

from greenroom.actors.effects import StartTimer
from greenroom.actors.events.buffer import EventBuffer
from greenroom.actors.events.protocol import Announce, NextDelivery, PullEvents
from greenroom.persistence.queries import EventPage, ListEvents
from greenroom.persistence.rows import EventRow


def event(seq: int, path: str = "/t/a") -> EventRow:
    return EventRow(seq, float(seq), "run.progress", path)


requests = count(1)


def pull(since: Any, under: str = "/", *, limit: int = 1_000, wait: bool = True) -> PullEvents:
    return PullEvents(next(requests), "reader", under, since, limit, wait)


def told(effects: Any) -> list[tuple[int, str]]:
    (send,) = effects
    return [(row.seq, row.type) for row in send.message.events]


FAILING = Announce("store.failing", 9.0, "the disk is full")


def test_an_announcement_reaches_who_waits_at_once_and_who_comes_later_once() -> None:
    ring = EventBuffer(last=10, keep=100)
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
    ring = EventBuffer(last=0, keep=100)
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
    ring = EventBuffer(last=0, keep=100)
    assert ring.pull(pull(0, "/t")) == []
    assert ring.announce(FAILING) == []
    assert told(ring.publish((event(1),))) == [(1, "run.progress")]


def test_what_left_the_ring_is_read_from_the_store_and_then_the_ring_goes_on() -> None:
    ring = EventBuffer(last=0, keep=3)
    ring.publish(tuple(event(n) for n in range(1, 5)))
    ring.announce(FAILING)
    first = pull(0)
    assert ring.pull(first) is None, "1 and 2 are in the store alone"
    (send,) = ring.read(first, tuple(event(n) for n in range(1, 5)))
    assert [row.seq for row in send.message.events] == [1, 2], "what the ring has is taken from there"
    assert told(ring.pull(pull(send.message.last))) == [
        (3, "run.progress"),
        (4, "run.progress"),
        (4, "store.failing"),
    ]
    other = pull(0, "/other", wait=False)
    assert ring.pull(other) is None
    assert told(ring.read(other, ())) == []


def test_a_full_page_from_the_store_goes_on_where_it_ended() -> None:
    ring = EventBuffer(last=100, keep=3)
    first = pull(0, limit=2)
    assert ring.pull(first) is None
    (send,) = ring.read(first, (event(1), event(2)))
    assert (send.message.last, len(send.message.events)) == ((2, 0), 2)


def test_nothing_is_lost_when_the_ring_moves_on_while_the_store_is_read() -> None:
    ring = EventBuffer(last=0, keep=4)
    ring.publish(tuple(event(n) for n in range(1, 7)))
    first = pull(0)
    assert ring.pull(first) is None
    ring.publish(tuple(event(n) for n in range(7, 21)))  # 17 to 20 are in the ring
    (send,) = ring.read(first, tuple(event(n) for n in range(1, 7)))
    assert ([row.seq for row in send.message.events], send.message.last) == ([1, 2, 3, 4, 5, 6], (6, 0))
    assert ring.pull(pull(send.message.last)) is None, "7 to 16 are to be had from the store"


def test_nothing_is_lost_of_a_batch_that_is_larger_than_the_ring() -> None:
    ring = EventBuffer(last=0, keep=4)
    assert ring.pull(pull(0, limit=3)) == []
    (send,) = ring.publish(tuple(event(n) for n in range(1, 11)))
    assert [row.seq for row in send.message.events] == [1, 2, 3]
    assert ring.pull(pull(send.message.last, limit=3)) is None


def test_all_who_need_the_same_of_the_store_are_answered_from_one_look() -> None:
    ring = EventBuffer(last=100, keep=4)
    pulls = [pull(7) for _ in range(3)]
    for one in pulls:
        assert ring.pull(one) is None
    (asked,) = ring.questions()
    assert asked == (("/", 7, 1_000), ListEvents("/", 7, 1_000))
    assert ring.questions() == []
    ring.forget(pulls[1].request)
    effects = ring.found(asked[0], EventPage((event(8),)))
    assert [send.message.request for send in effects] == [pulls[0].request, pulls[2].request]


def test_the_store_is_asked_two_questions_at_a_time() -> None:
    ring = EventBuffer(last=100, keep=4)
    pulls = [pull(n) for n in (1, 2, 3, 4)]
    for one in pulls:
        assert ring.pull(one) is None
    ring.forget(pulls[2].request)
    (first, _), (second, _) = ring.questions()
    assert (first[1], second[1]) == (1, 2)
    assert ring.questions() == []
    ring.found(second, EventPage((event(8),)))
    assert [key[1] for key, _ in ring.questions()] == [4], "of the third nobody wants the answer"


def test_who_reads_too_late_is_told_which_numbers_are_gone_and_gets_those_after_them() -> None:
    ring = EventBuffer(last=100, keep=4)
    ring.now = 5.0
    first = pull(7, "/t")
    assert ring.pull(first) is None
    (send,) = ring.found(("/t", 7, 1_000), EventPage((event(31), event(90)), pruned=30))
    gap, *others = send.message.events
    assert gap == EventRow(30, 5.0, "events.missed", "/t", None, b'{"since":7,"upto":30}')
    assert [row.seq for row in others] == [31, 90]
    assert send.message.last == (100, 0)


def test_who_asks_for_all_that_is_kept_misses_nothing_but_later() -> None:
    ring = EventBuffer(last=100, keep=4)
    assert ring.pull(pull(0)) is None
    (send,) = ring.found(("/", 0, 1_000), EventPage((event(31),), upto=40, pruned=30))
    assert told([send]) == [(31, "run.progress")]
    assert ring.pull(pull(send.message.last)) is None
    (send,) = ring.found(("/", 40, 1_000), EventPage((event(62),), pruned=60))
    assert told([send]) == [(60, "events.missed"), (62, "run.progress")]


def test_what_retention_removed_and_the_ring_still_has_is_told() -> None:
    ring = EventBuffer(last=0, keep=4)
    ring.publish(tuple(event(n) for n in range(1, 11)))
    assert ring.pull(pull(2)) is None
    (send,) = ring.found(("/", 2, 1_000), EventPage((), pruned=10))
    assert told([send]) == [(6, "events.missed")]
    assert [seq for seq, _ in told(ring.pull(pull(send.message.last)))] == [7, 8, 9, 10]


def test_who_follows_from_a_number_that_there_never_was_is_told() -> None:
    ring = EventBuffer(last=10, keep=4)
    (send,) = ring.pull(pull(10_000)) or ()
    (gap,) = send.message.events
    assert (gap.seq, gap.type, gap.data) == (10, "events.missed", b'{"since":10000,"upto":null}')
    assert ring.pull(pull(send.message.last)) == []
    assert told(ring.pull(pull(10_000, wait=False))) == [], "there is nothing, and nothing is waited for"


def test_an_event_is_looked_at_for_those_alone_who_listen_at_or_above_its_path() -> None:
    ring = EventBuffer(last=0, keep=100)
    heard = {under: pull(0, under) for under in ("/", "/t", "/t/a", "/t/a/b", "/ta", "/u")}
    for one in heard.values():
        assert ring.pull(one) == []
    effects = ring.publish((event(1, "/t/a"), event(2, "/t/a"), event(3, "/t")))
    found = {send.message.request: [row.seq for row in send.message.events] for send in effects}
    assert found == {
        heard["/"].request: [1, 2, 3],
        heard["/t"].request: [1, 2, 3],
        heard["/t/a"].request: [1, 2],
    }


def test_answers_go_out_in_portions_and_who_is_answered_later_finds_more() -> None:
    ring = EventBuffer(last=0, keep=5_000)
    pulls = [pull(0) for _ in range(5)]
    for one in pulls:
        ring.pull(one)
    *first, timer = ring.publish(tuple(event(n) for n in range(1, 701)))
    assert timer == StartTimer(0.0, NextDelivery())
    assert [len(send.message.events) for send in first] == [700, 700]
    assert ring.publish((event(701),)) == []
    *second, timer = ring.go_on()
    assert [len(send.message.events) for send in second] == [701, 701]
    (last,) = ring.go_on()
    assert len(last.message.events) == 701
    assert [send.message.request for send in (*first, *second, last)] == [one.request for one in pulls]


def test_an_index_is_given_up_when_nobody_listens_there_any_more() -> None:
    ring = EventBuffer(last=0, keep=4)
    for number in range(10):
        one = pull(0, f"/t/{number}")
        ring.pull(one)
        ring.forget(one.request)
    kept = pull(0, "/t/a")
    ring.pull(kept)
    ring.publish(tuple(event(n, "/u") for n in range(1, 20)))
    assert list(ring._listened) == ["/t/a"]
    assert [seq for seq, _ in told(ring.publish((event(20),)))] == [20]
