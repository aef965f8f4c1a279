"""The ring beside a list of all events: no reader loses one, whatever happens while its store is read."""

from itertools import count
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import Struct

from greenroom.actors.effects import Send, StartTimer
from greenroom.actors.events.buffer import EventBuffer, Key
from greenroom.actors.events.protocol import Announce, NextDelivery, PullEvents
from greenroom.paths import is_under
from greenroom.persistence.queries import EventPage, ListEvents
from greenroom.persistence.rows import EventRow

PATHS = ("/t", "/t/a", "/t/a/b", "/t/ab", "/u")
UNDERS = ("/", "/t", "/t/a", "/u")
KEEP = 2

some_readers = st.tuples(
    st.sampled_from(UNDERS),
    st.sampled_from([None, 0, 1, 2, 4, 30]),
    st.sampled_from([1, 2, 3, 50]),
    st.sampled_from([True, True, False]),
)
some_paths = st.lists(st.sampled_from(PATHS), min_size=1, max_size=7)


class Reader(Struct, eq=False):
    """Somebody who reads at their own pace; `got` is what they were given, in order."""

    under: str
    since: Any
    limit: int
    follows: bool
    after: int  # the number that they began after
    all_kept: bool  # they began with all that is kept, and not after a number
    asks: int | None = None
    got: list[EventRow] = []
    over: bool = False


class RingAgainstAList(RuleBasedStateMachine):
    """The store is a list of committed events, from which retention takes the oldest."""

    @initialize(
        older=st.lists(st.tuples(st.integers(1, 3), st.sampled_from(PATHS)), max_size=6),
        readers=st.lists(some_readers, min_size=1, max_size=4),
    )
    def begin(self, older: list[tuple[int, str]], readers: list[Any]) -> None:
        self.events: list[EventRow] = []  # committed, in order, those that retention took included
        seq = 0
        for gap, path in older:
            seq += gap
            self.events.append(EventRow(seq, 0.0, "run.progress", path))
        self.next = seq + 1
        self.published = seq
        self.pruned = 0
        self.ring = EventBuffer(last=seq, keep=KEEP)
        self.readers: list[Reader] = []
        for reader in readers:
            self.somebody_begins_to_read(reader)
        self.asked: dict[Key, tuple[ListEvents, int]] = {}  # and how much was committed then
        self.pausing = False
        self.requests = count(1)

    # What happens

    @rule(paths=some_paths)
    def some_are_committed(self, paths: list[str]) -> None:
        for path in paths:
            self.events.append(EventRow(self.next, 0.0, "run.progress", path))
            self.next += 1

    @rule(most=st.integers(1, 9))
    def some_are_published(self, most: int) -> None:
        news = tuple(event for event in self.events if event.seq > self.published)[:most]
        if news:
            self.published = news[-1].seq
            self.perform(self.ring.publish(news))

    @rule(paths=some_paths)
    def some_happen(self, paths: list[str]) -> None:
        self.some_are_committed(paths)
        self.some_are_published(1_000)

    @rule()
    def the_store_fails(self) -> None:
        self.perform(self.ring.announce(Announce("store.failing", 0.0, "full")))

    @rule(upto=st.integers(0, 40))
    def retention_takes_the_oldest(self, upto: int) -> None:
        gone = [event.seq for event in self.events if event.seq <= min(upto, self.published)]
        self.pruned = max([self.pruned, *gone])

    # What readers do

    @rule(reader=some_readers)
    def somebody_begins_to_read(self, reader: Any) -> None:
        under, since, limit, follows = reader
        self.readers.append(Reader(under, since, limit, follows, since or 0, since == 0))

    @rule(but=st.sets(st.integers(0, 5), max_size=3))
    def all_pull(self, but: set[int]) -> None:
        for number, reader in enumerate(self.readers):
            if number not in but:
                self.pull(reader)

    @rule(which=st.integers(0, 5))
    def somebody_gives_up_and_asks_again(self, which: int) -> None:
        if which < len(self.readers) and self.readers[which].asks is not None:
            self.ring.forget(self.readers[which].asks)
            self.readers[which].asks = None

    def pull(self, reader: Reader) -> None:
        if reader.asks is None and not reader.over:
            reader.asks = next(self.requests)
            pull = PullEvents(
                reader.asks, "reader", reader.under, reader.since, reader.limit, reader.follows
            )
            self.perform(self.ring.pull(pull) or [])

    # What the store and the timer do

    @precondition(lambda self: self.asked)
    @rule(
        which=st.integers(0, 5),
        as_of=st.sampled_from([0.0, 0.0, 0.5, 1.0]),
        look=st.sampled_from([1, 3, 99]),
    )
    def the_store_answers(self, which: int, as_of: float, look: int) -> None:
        key = list(self.asked)[which % len(self.asked)]
        query, before = self.asked.pop(key)
        known = self.events[: before + round(as_of * (len(self.events) - before))]
        left = [event for event in known if event.seq > max(query.since, self.pruned)]
        looked_at = left[:look]
        upto = looked_at[-1].seq if len(looked_at) < len(left) else None
        found = [event for event in looked_at if is_under(event.path, query.under)][: query.limit]
        self.perform(self.ring.found(key, EventPage(tuple(found), upto, self.pruned)))

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 5))
    def the_store_cannot_be_read(self, which: int) -> None:
        key = list(self.asked)[which % len(self.asked)]
        del self.asked[key]
        refused = {pull.request for pull in self.ring.refused(key)}
        for reader in self.readers:
            if reader.asks in refused:
                reader.asks = None
        self.perform([])

    @precondition(lambda self: self.pausing)
    @rule()
    def others_had_their_turn(self) -> None:
        self.pausing = False
        self.perform(self.ring.go_on())

    # What is right

    def perform(self, effects: list[Any]) -> None:
        for key, query in self.ring.questions():
            assert len(self.asked) < 2, "others have their turn at the store"
            assert key not in self.asked, "it is asked already"
            self.asked[key] = (query, len(self.events))
        for effect in effects:
            if isinstance(effect, StartTimer):
                assert effect.message == NextDelivery()
                assert not self.pausing
                self.pausing = True
            else:
                self.answered(effect)

    def answered(self, effect: Send) -> None:
        answer: Any = effect.message
        reader = next(reader for reader in self.readers if reader.asks == answer.request)
        begins = reader.since is None
        reader.asks, reader.since = None, answer.last
        if begins:
            reader.after = answer.last[0]
        elif not answer.events and not reader.follows:
            reader.over = True
            assert self.right(reader, upto=self.published)
        assert begins or answer.events or not reader.follows, "nobody is woken for nothing"
        reader.got += answer.events
        assert self.right(reader, upto=None)

    def right(self, reader: Reader, *, upto: int | None) -> bool:
        """Whether it was given each event once, in order, but for those that it was told are gone."""
        after = reader.after
        for event in reader.got:
            if event.type == "store.failing":
                continue
            if event.type == "events.missed":
                told = msgspec.json.decode(event.data)
                if told["upto"] is None:  # its number is none of this store: it goes on from now
                    assert after == told["since"] > event.seq
                else:
                    assert after <= told["since"] < told["upto"] == event.seq <= self.pruned
                    assert not self.owed(reader, after, told["since"] + 1)
            else:
                assert event.seq > after
                assert not self.owed(reader, after, event.seq)
            after = event.seq
        assert upto is None or not self.owed(reader, after, upto + 1)
        return True

    def owed(self, reader: Reader, after: int, before: int) -> list[EventRow]:
        """The events between the two numbers that it should have been given."""
        gone = self.pruned if reader.all_kept and after == 0 else 0
        numbers = range(max(after, gone) + 1, before)
        return [
            event for event in self.events if event.seq in numbers and is_under(event.path, reader.under)
        ]

    @invariant()
    def each_index_has_the_events_of_its_path_and_nothing_else(self) -> None:
        if not hasattr(self, "ring"):
            return
        kept = [(place, event) for place, event, _ in self.ring._kept]
        assert len(kept) <= KEEP
        for under, here in self.ring._listened.items():
            own = [(place, event) for place, event in kept if is_under(event.path, under)]
            assert list(here.events) == [entry for entry in own if entry in here.events]
            assert [entry for entry in own if entry[0] > here.since] == [
                entry for entry in here.events if entry[0] > here.since
            ]

    def teardown(self) -> None:
        """In the end everybody who follows has everything, and who does not follow comes to an end."""
        if not hasattr(self, "ring"):
            return
        self.some_are_published(1_000)
        for _ in range(1_000):
            for reader in self.readers:
                self.pull(reader)
            if self.asked:
                self.the_store_answers(0, 1.0, 99)
            elif self.pausing:
                self.others_had_their_turn()
            elif all(reader.over or reader.asks is not None for reader in self.readers):
                break
        for reader in self.readers:
            assert reader.over or reader.follows
            assert reader.over or self.right(reader, upto=self.published)


TestRingAgainstAList = RingAgainstAList.TestCase
TestRingAgainstAList.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
