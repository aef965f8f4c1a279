"""Places against a list: never more than there are, first come first served, and idle ones make room."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from greenroom.actors.processes.permits import Permits


class PlacesAgainstLists(RuleBasedStateMachine):
    @initialize(limit=st.integers(1, 3))
    def begin(self, limit: int) -> None:
        self.places = Permits()
        self.places.limit = self.limit = limit
        self.holders: list[int] = []
        self.line: list[int] = []
        self.idle: list[int] = []
        self.asked: list[int] = []
        self.numbers = 0

    @rule()
    def somebody_comes(self) -> None:
        self.numbers += 1
        if self.places.free:
            assert not self.line
            self.places.take(self.numbers)
            self.holders.append(self.numbers)
        else:
            self.places.wait(self.numbers)
            self.line.append(self.numbers)
        self.ask()

    @rule(data=st.data(), idle=st.booleans())
    def a_holder_rests_or_works(self, data: st.DataObject, idle: bool) -> None:
        if not self.holders:
            return
        number = data.draw(st.sampled_from(self.holders))
        self.places.rests(number, idle=idle)
        for known in (self.idle, self.asked):
            if number in known:
                known.remove(number)
        if idle:
            self.idle.append(number)
        self.ask()

    @rule(data=st.data())
    def a_holder_begins_to_end(self, data: st.DataObject) -> None:
        if not self.holders:
            return
        number = data.draw(st.sampled_from(self.holders))
        self.places.ends(number)
        if number in self.idle:
            self.idle.remove(number)
        if number not in self.asked:
            self.asked.append(number)

    @rule(data=st.data())
    def somebody_leaves(self, data: st.DataObject) -> None:
        everybody = self.holders + self.line
        if not everybody:
            return
        number = data.draw(st.sampled_from(everybody))
        self.places.leave(number)
        for known in (self.holders, self.line, self.idle, self.asked):
            if number in known:
                known.remove(number)
        admitted = self.places.admit()
        expected = self.line[: self.limit - len(self.holders)]
        assert admitted == expected
        self.holders += expected
        del self.line[: len(expected)]

    def ask(self) -> None:
        """The longest idle are asked, as many as wait and are not asked yet, each once."""
        expected = self.idle[: max(0, len(self.line) - len(self.asked))]
        assert self.places.wanted() == expected
        del self.idle[: len(expected)]
        self.asked += expected
        assert self.places.wanted() == []

    @invariant()
    def there_are_never_more_than_places(self) -> None:
        if hasattr(self, "places"):
            assert self.places.holders == set(self.holders)
            assert len(self.holders) <= self.limit
            assert list(self.places.waiting) == self.line
            assert not self.line or len(self.holders) == self.limit
            assert self.places.unused == (not self.holders and not self.line)


TestPlacesAgainstLists = PlacesAgainstLists.TestCase
TestPlacesAgainstLists.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_without_a_limit_there_is_always_room() -> None:
    places = Permits()
    for number in range(1000):
        assert places.free
        places.take(number)
