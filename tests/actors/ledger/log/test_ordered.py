"""A sorted set in pieces, against Python's own."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from greenroom.actors.ledger.log import ordered
from greenroom.actors.ledger.log.ordered import SortedSet

VALUES = st.text("ab/", max_size=4)


class AgainstASet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(ordered, "PART_SIZE", 4)
        self.ordered: SortedSet[str] = SortedSet()
        self.set: set[str] = set()

    @rule(value=VALUES)
    def add(self, value: str) -> None:
        self.ordered.add(value)
        self.set.add(value)

    @rule(value=VALUES)
    def discard(self, value: str) -> None:
        self.ordered.discard(value)
        self.set.discard(value)

    @rule(value=VALUES)
    def look(self, value: str) -> None:
        assert list(self.ordered.after(value)) == sorted(each for each in self.set if each > value)

    @invariant()
    def its_pieces_are_small(self) -> None:
        assert all(0 < len(part) <= 4 for part in self.ordered._parts)
        assert self.ordered._lasts == [part[-1] for part in self.ordered._parts]

    def teardown(self) -> None:
        self.patch.undo()


AgainstASet.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
test_it_keeps_to_a_set = AgainstASet.TestCase
