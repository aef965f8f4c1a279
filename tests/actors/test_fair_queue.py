"""The fair queue: by example, then against a list that is searched from its beginning each time."""

from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom.actors import fair_queue
from greenroom.actors.fair_queue import FairQueue


def queue(*claims: str) -> FairQueue[str, str]:
    """Claims by name; the first letter is the tree, and a `+` says that it goes on."""
    made: FairQueue[str, str] = FairQueue()
    for claim in claims:
        push(made, claim)
    return made


def push(made: FairQueue[str, str], claim: str) -> None:
    made.push(claim, claim, claim[0], goes_on=claim.endswith("+"))


def served(made: FairQueue[str, str]) -> Iterator[str]:
    while made:
        assert made.first == next(made.order())
        yield made.take()


def test_trees_take_turns_and_each_keeps_its_order() -> None:
    assert [*served(queue("a1", "a2", "a3", "b1", "c1", "c2"))] == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_what_goes_on_comes_before_what_is_new_in_its_tree() -> None:
    assert [*served(queue("a1", "a2", "a3+", "a4+"))] == ["a3+", "a4+", "a1", "a2"]


@pytest.mark.parametrize("trees", [1, 2, 50])
@pytest.mark.parametrize("served", [0, 1, 2, 75])
def test_what_goes_on_is_behind_one_new_claim_of_strangers_at_most(trees: int, served: int) -> None:
    made = queue(*(f"{chr(200 + n % trees)}{n}" for n in range(100)))
    for _ in range(served):
        made.take()
    push(made, "a1+")
    assert made.place("a1+") == 0
    made.take()
    push(made, "a2+")
    assert made.place("a2+") <= 1


@pytest.mark.parametrize("served", [0, 1, 2, 75])
def test_a_tree_that_begins_to_wait_is_behind_one_that_has_waited(served: int) -> None:
    made = queue(*(f"{chr(200 + n % 50)}{n}" for n in range(1_000)))
    for _ in range(150 + served):
        made.take()
    push(made, "a1")
    push(made, "a2")
    assert made.place("a1") <= 1
    assert made.place("a2") > 50, "but that holds for its first claim alone"


def test_endless_continuations_do_not_starve_what_is_new() -> None:
    made = queue("a+", "b+", "c1", "c2", "c3")
    order = []
    for _ in range(20):
        order.append(made.take())
        if order[-1].endswith("+"):
            push(made, order[-1])
    assert [order.index(f"c{n}") < 6 * n for n in (1, 2, 3)] == [True] * 3


def test_endless_new_trees_do_not_starve_those_that_have_waited() -> None:
    made = queue("a1", "a2", "a3")
    order = [made.take()]
    for n in range(20):
        push(made, chr(200 + n))
        order.append(made.take())
    assert order.index("a3") <= 6


def test_a_claim_that_is_withdrawn_is_not_served() -> None:
    made = queue("a1+", "a2", "b1")
    assert made.remove("a1+")
    assert not made.remove("a1+")
    assert "a1+" not in made
    assert [*served(made)] == ["a2", "b1"]


def test_places_far_back_are_counted_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_queue, "MOST_POSITIONS", 10)
    made = queue(*(f"a{n}" for n in range(30)))
    assert [made.place(f"a{n}") for n in (0, 9, 10, 29)] == [0, 9, 10, 10]


def test_a_long_queue_is_served_without_searching_it() -> None:
    """Quadratic cost would make it last for minutes."""
    made = queue(*(f"{chr(200 + n % 1_000)}{n}" for n in range(50_000)))
    for n in range(25_000):
        made.remove(f"{chr(200 + n % 1_000)}{n}")
    assert sum(1 for _ in _all(made)) == 25_000


def _all(made: FairQueue[str, str]) -> Iterator[str]:
    while made:
        yield made.take()


class QueueAgainstAList(RuleBasedStateMachine):
    """The model: all claims in one list, and when each tree was served last or began to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int, int] = FairQueue()
        self.claims: list[tuple[int, str, bool]] = []  # number, tree, goes on
        self.since: dict[str, int] = {}  # when a waiting tree was served, or began to wait
        self.going_on_since: dict[str, int] = {}
        self.never_served: set[str] = set()
        self.rings_served = ["all", "all"]
        self.time = 0

    def tick(self) -> int:
        self.time += 1
        return self.time

    def forget_who_is_gone(self) -> None:
        waiting = {tree for _, tree, _ in self.claims}
        going_on = {tree for _, tree, goes_on in self.claims if goes_on}
        self.since = {tree: at for tree, at in self.since.items() if tree in waiting}
        self.going_on_since = {tree: at for tree, at in self.going_on_since.items() if tree in going_on}
        self.never_served &= waiting

    def longest(self, since: dict[str, int]) -> str:
        return min(since, key=lambda tree: since[tree])

    def next_is(self) -> tuple[str, int]:
        """From which ring the next claim is, and which one."""
        ring, tree = "all", self.longest(self.since)
        if self.going_on_since and self.rings_served[-1] != "going on":
            ring, tree = "going on", self.longest(self.going_on_since)
        elif self.never_served and next(r for r in self.rings_served[::-1] if r != "going on") != "begun":
            ring, tree = "begun", self.longest({tree: self.since[tree] for tree in self.never_served})
        mine = sorted((not goes_on, number) for number, of, goes_on in self.claims if of == tree)
        return ring, mine[0][1]

    @rule(tree=st.sampled_from("abcd"), goes_on=st.booleans())
    def one_comes(self, tree: str, goes_on: bool) -> None:
        now = self.tick()
        if tree not in self.since:
            self.since[tree] = now
            self.never_served.add(tree)
        if goes_on:
            self.going_on_since.setdefault(tree, now)
        self.claims.append((now, tree, goes_on))
        self.queue.push(now, now, tree, goes_on=goes_on)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def one_gives_up(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        self.claims.remove(claim)
        self.forget_who_is_gone()
        assert self.queue.remove(claim[0])

    @precondition(lambda self: self.claims)
    @rule()
    def one_is_served(self) -> None:
        ring, number = self.next_is()
        (tree,) = {of for each, of, _ in self.claims if each == number}
        assert self.queue.first == number
        assert self.queue.take() == number
        self.rings_served.append(ring)
        self.claims = [claim for claim in self.claims if claim[0] != number]
        self.since[tree] = now = self.tick()
        if tree in self.going_on_since:
            self.going_on_since[tree] = now
        self.never_served.discard(tree)
        self.forget_who_is_gone()

    @invariant()
    def the_order_told_leaves_nobody_out(self) -> None:
        told = list(self.queue.order())
        assert sorted(told) == sorted(number for number, _, _ in self.claims)
        assert len(self.queue) == len(self.claims)
        assert [self.queue.place(number) for number in told] == list(range(len(told)))

    def teardown(self) -> None:
        foretold = list(self.queue.order())
        assert [self.queue.take() for _ in foretold] == foretold
        assert not self.queue._lines
        rings = self.queue._rings
        assert [*rings.all, *rings.begun, *rings.going_on] == []


TestQueueAgainstAList = QueueAgainstAList.TestCase
