"""The newest events as they go over the wire."""

import json
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom import Event
from greenroom.server.feed import Feed, Place, Wanted, on_wire


def event(seq: int, path: str = "/a", type: str = "run.completed", **data: Any) -> Event:
    return Event(seq, 1.5, type, path, "r", data)


def numbers(portions: list[bytes]) -> list[int]:
    return [json.loads(one.partition(b"data: ")[2])["seq"] for one in portions]


def test_an_event_on_the_wire_is_three_lines() -> None:
    wire = on_wire(event(7, text="two\nlines"))
    number, name, data, *rest = wire.decode().split("\n")
    assert (number, name, rest) == ("id: 7", "event: run.completed", ["", ""])
    assert json.loads(data.removeprefix("data: "))["data"] == {"text": "two\nlines"}


def test_what_is_in_no_store_has_no_id() -> None:
    assert b"id:" not in on_wire(event(7, type="store.failing"))


def test_a_reader_gets_what_it_wants_and_stands_after_what_it_looked_at() -> None:
    feed = Feed(0)
    for seq, path in enumerate(["/a", "/b", "/a/c", "/ab"], 1):
        feed.add(event(seq, path))
    found = feed.read(Place(0), Wanted("/a"))
    assert found is not None
    assert numbers(found[0]) == [1, 3]
    assert found[1] == feed.end
    assert feed.read(feed.end, Wanted()) == ([], feed.end)


def test_types_and_runs_can_be_wanted() -> None:
    told = Event(1, 0.0, "run.started", "/a", "r1", {})
    assert Wanted(types=("run.*",)).has(told)
    assert Wanted(types=("agent.*", "run.started")).has(told)
    assert not Wanted(types=("run.start", "run.completed")).has(told)
    assert Wanted(run_id="r1").has(told)
    assert not Wanted(run_id="r2").has(told)


def test_a_portion_is_bounded_by_its_bytes() -> None:
    feed = Feed(0)
    for seq in range(1, 11):
        feed.add(event(seq, text="." * 30_000))
    found = feed.read(Place(0), Wanted())
    assert found is not None
    assert len(found[0]) == 3


def test_bytes_are_bounded_and_who_stood_there_is_told() -> None:
    feed = Feed(0, most_bytes=100_000)
    for seq in range(1, 11):
        feed.add(event(seq, text="." * 30_000))
    assert feed.read(Place(0), Wanted()) is None
    assert feed.after(0) is None
    assert feed.after(9) is not None


def test_an_event_costs_those_who_listen_where_it_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    has = Wanted.has
    monkeypatch.setattr(Wanted, "has", lambda wanted, of: looks.append(wanted.under) or has(wanted, of))
    feed = Feed(0)
    with ExitStack() as listening:
        for number in range(100):
            listening.enter_context(feed.listening(f"/quiet/a{number}"))
        listening.enter_context(feed.listening("/busy"))
        readers = [Wanted(f"/quiet/a{number}") for number in range(100)] + [Wanted("/busy")]
        for seq in range(1, 10_001):
            feed.add(event(seq, "/busy/a"))
        for wanted in readers[:-1]:
            assert feed.read(Place(0), wanted) == ([], feed.end)
        assert looks == []
        assert feed.read(Place(0), readers[-1]) is None  # it was too slow: the feed keeps fewer
        found = feed.read(Place(feed.end - 10), readers[-1])
        assert found is not None
        assert len(found[0]) == len(looks) == 10


class FeedAgainstAList(RuleBasedStateMachine):
    """A feed, beside a list of all events; readers at their own pace."""

    def __init__(self) -> None:
        super().__init__()
        self.feed = Feed(0, keep=5)
        self.all: list[Event] = []
        self.place: Place | None = Place(0)
        self.read: list[int] = []
        self.listening = ExitStack()  # of a reader that has read all there was when it came
        self.heard_from: int | None = None  # the index in `all` of the next event that it is to get
        self.stands = Place(0)

    @rule(gap=st.integers(1, 3), path=st.sampled_from(["/a", "/b"]))
    def happens(self, gap: int, path: str) -> None:
        last = self.all[-1].seq if self.all else 0
        self.all.append(event(last + gap, path))
        self.feed.add(self.all[-1])

    @rule()
    def reads(self) -> None:
        if self.place is None:
            return
        found = self.feed.read(self.place, Wanted("/a"))
        if found is None:
            assert len(self.all) - self.place > 5
            self.place = None
            return
        self.read += numbers(found[0])
        self.place = found[1]
        assert self.read == [one.seq for one in self.all if one.path == "/a"]

    @precondition(lambda self: self.heard_from is None)
    @rule()
    def begins_to_listen(self) -> None:
        self.listening.enter_context(self.feed.listening("/a"))
        self.heard_from, self.stands = len(self.all), self.feed.end

    @precondition(lambda self: self.heard_from is not None)
    @rule()
    def listens(self) -> None:
        assert self.heard_from is not None
        new = [one.seq for one in self.all[self.heard_from :] if one.path == "/a"]
        kept = {one.seq for one in self.all[-5:]}
        found = self.feed.read(self.stands, Wanted("/a"))
        if found is None:
            assert not kept.issuperset(new), "it is told from the store only of what is not kept here"
            self.stops_listening()
            return
        assert numbers(found[0]) == new
        self.heard_from, self.stands = len(self.all), found[1]

    @precondition(lambda self: self.heard_from is not None)
    @rule()
    def stops_listening(self) -> None:
        self.listening.close()
        self.heard_from = None

    @rule(seq=st.integers(0, 40))
    def resumes(self, seq: int) -> None:
        place = self.feed.after(seq)
        kept = self.all[-5:]
        before = self.all[-6].seq if len(self.all) > 5 else 0
        if seq < before:
            assert place is None
        else:
            assert place is not None
            found = self.feed.read(place, Wanted())
            assert found is not None
            assert numbers(found[0]) == [one.seq for one in kept if one.seq > seq]

    @invariant()
    def last_is_the_newest(self) -> None:
        assert self.feed.last == (self.all[-1].seq if self.all else 0)


TestFeedAgainstAList = FeedAgainstAList.TestCase
TestFeedAgainstAList.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
