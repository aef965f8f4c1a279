"""The slot table: by example, then against a set and a list."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom.actors.effects import Effect, Send
from greenroom.actors.slots.protocol import Lease, SlotGranted, SlotReport
from greenroom.actors.slots.table import MAX_ENDED, MAX_HOLDERS, SlotTable
from greenroom.paths import tree_of
from greenroom.types import AgentId, Incarnation


def lease(agent_id: int, number: int = 1, incarnation: int = 1) -> Lease:
    return Lease(AgentId(agent_id), Incarnation(incarnation), number)


def acquire(
    table: SlotTable, wanted: Lease, path: str = "/t/a", now: float = 0.0, *, goes_on: bool = False
) -> list[Lease]:
    return granted(table.acquire(wanted, path, f"actor of {wanted}", goes_on=goes_on, now=now))


def granted(effects: Iterable[Effect]) -> list[Lease]:
    """Who was granted a slot; each is told where it asked from."""
    leases = []
    for effect in effects:
        assert isinstance(effect, Send)
        assert isinstance(effect.message, SlotGranted)
        assert effect.to == f"actor of {effect.message.lease}"
        leases.append(effect.message.lease)
    return leases


def report(table: SlotTable, agent_id: int | None = None) -> SlotReport:
    (effect,) = table.describe(7, "asker", None if agent_id is None else AgentId(agent_id))
    assert isinstance(effect, Send)
    assert isinstance(effect.message, SlotReport)
    assert (effect.to, effect.message.request) == ("asker", 7)
    return effect.message


def end(table: SlotTable, agent_id: int, incarnation: int = 1) -> list[Lease]:
    return granted(table.end_holder(AgentId(agent_id), Incarnation(incarnation)))


def test_a_free_slot_is_granted_at_once() -> None:
    table = SlotTable(2)
    assert acquire(table, lease(1)) == [lease(1)]
    assert acquire(table, lease(2)) == [lease(2)]


def test_without_a_free_slot_a_lease_waits() -> None:
    table = SlotTable(1)
    acquire(table, lease(1))
    assert acquire(table, lease(2)) == []
    assert report(table).waiting == 1


def test_a_returned_slot_goes_to_whoever_waits_longest() -> None:
    table = SlotTable(1)
    for agent_id in (1, 2, 3):
        acquire(table, lease(agent_id))
    assert granted(table.release(lease(1))) == [lease(2)]
    assert granted(table.release(lease(2))) == [lease(3)]
    assert granted(table.release(lease(3))) == []
    assert report(table).granted == 0


def test_asking_again_changes_nothing() -> None:
    table = SlotTable(1)
    acquire(table, lease(1))
    acquire(table, lease(2))
    assert acquire(table, lease(1)) == []
    assert acquire(table, lease(2)) == []
    assert (report(table).granted, report(table).waiting) == (1, 1)
    assert granted(table.release(lease(1))) == [lease(2)]
    assert granted(table.release(lease(2))) == []


def test_releasing_again_changes_nothing() -> None:
    table = SlotTable(1)
    for agent_id in (1, 2, 3):
        acquire(table, lease(agent_id))
    table.release(lease(1))
    assert granted(table.release(lease(1))) == []
    assert granted(table.release(lease(99))) == []
    assert (report(table).granted, report(table).waiting) == (1, 1)


def test_a_lease_released_while_it_waits_is_never_granted() -> None:
    table = SlotTable(1)
    for agent_id in (1, 2, 3):
        acquire(table, lease(agent_id))
    assert granted(table.release(lease(2))) == []
    assert granted(table.release(lease(1))) == [lease(3)]


def test_trees_that_wait_take_turns() -> None:
    table = SlotTable(1)
    acquire(table, lease(0))
    for agent_id in (1, 2, 3):
        acquire(table, lease(agent_id), "/one/a")
    acquire(table, lease(4), "/two/a")
    acquire(table, lease(5), "/three/a")
    order, holder = [], lease(0)
    while next_ones := granted(table.release(holder)):
        (holder,) = next_ones
        order.append(holder.agent_id)
    assert order == [1, 4, 5, 2, 3]


def test_a_thousand_runs_of_one_tree_do_not_starve_the_one_run_of_another() -> None:
    table = SlotTable(1)
    for agent_id in range(1000):
        acquire(table, lease(agent_id), "/many/a")
    acquire(table, lease(5000), "/few/a")
    assert report(table, 5000).place == 1
    assert granted(table.release(lease(0))) == [lease(1)]
    assert granted(table.release(lease(1))) == [lease(5000)]


def test_a_turn_that_goes_on_comes_before_what_is_new() -> None:
    table = SlotTable(1)
    for agent_id in range(100):
        acquire(table, lease(agent_id), f"/{agent_id % 3}/a")
    acquire(table, lease(500), "/0/a", goes_on=True)
    assert report(table, 500).place == 0
    acquire(table, lease(501), "/many/a", goes_on=True)
    assert report(table, 501).place == 2, "what is new has a turn between the two"
    assert granted(table.release(lease(0))) == [lease(500)]


def test_a_dead_holder_gives_its_slot_back() -> None:
    table = SlotTable(1)
    acquire(table, lease(1))
    acquire(table, lease(2))
    assert end(table, 1) == [lease(2)]
    assert end(table, 1) == []


def test_a_dead_holder_is_not_granted_its_own_slot() -> None:
    table = SlotTable(1)
    acquire(table, lease(1, number=1))
    acquire(table, lease(1, number=2))
    acquire(table, lease(2))
    assert end(table, 1) == [lease(2)]
    assert report(table).waiting == 0


def test_the_end_of_a_session_leaves_a_newer_one_its_slot() -> None:
    table = SlotTable(1)
    acquire(table, lease(1, incarnation=2))
    assert end(table, 1, incarnation=1) == []
    assert report(table).granted == 1


def test_a_dead_session_is_granted_nothing_that_it_asked_for() -> None:
    table = SlotTable(1)
    end(table, 1, incarnation=3)
    assert acquire(table, lease(1, incarnation=3)) == []
    assert acquire(table, lease(1, incarnation=2)) == []
    assert report(table).waiting == 0
    assert acquire(table, lease(1, incarnation=4)) == [lease(1, incarnation=4)]


def test_an_older_end_does_not_let_a_dead_session_in() -> None:
    table = SlotTable(1)
    end(table, 1, incarnation=3)
    end(table, 1, incarnation=2)
    assert acquire(table, lease(1, incarnation=3)) == []


def test_only_so_many_dead_sessions_are_remembered() -> None:
    table = SlotTable(1)
    for agent_id in range(MAX_ENDED + 10):
        end(table, agent_id)
    assert len(table._ended) == MAX_ENDED
    assert acquire(table, lease(MAX_ENDED + 9)) == []


def test_before_it_is_configured_everybody_waits() -> None:
    table = SlotTable()
    for agent_id in (1, 2, 3):
        assert acquire(table, lease(agent_id)) == []
    assert granted(table.resize(2)) == [lease(1), lease(2)]


def test_with_fewer_slots_holders_keep_theirs_and_nobody_else_gets_one() -> None:
    table = SlotTable(2)
    for agent_id in (1, 2, 3):
        acquire(table, lease(agent_id))
    assert granted(table.resize(1)) == []
    assert granted(table.release(lease(1))) == []
    assert granted(table.release(lease(2))) == [lease(3)]


def test_a_report_names_holders_and_the_place_of_who_waits() -> None:
    table = SlotTable(1)
    acquire(table, lease(1), "/t/holder", now=1.0)
    acquire(table, lease(2), "/t/second", now=2.0)
    acquire(table, lease(3), "/t/third", now=3.0)
    assert report(table, 3) == SlotReport(
        7, slots=1, granted=1, waiting=2, holders=("/t/holder",), place=1, since=3.0
    )
    assert report(table, 1).place is None
    assert report(table, 99).since is None


def test_a_report_names_at_most_so_many_holders_longest_first() -> None:
    table = SlotTable(1000)
    for agent_id in range(1000):
        acquire(table, lease(agent_id), f"/t/a{agent_id}")
    table.release(lease(0))
    assert report(table).holders == tuple(f"/t/a{n}" for n in range(1, MAX_HOLDERS + 1))


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30))
def test_the_place_is_the_number_of_grants_before(trees: list[str]) -> None:
    table = SlotTable(1)
    acquire(table, lease(-1))
    for agent_id, tree in enumerate(trees):
        acquire(table, lease(agent_id), f"/{tree}/x")
    places = {agent_id: report(table, agent_id).place for agent_id in range(len(trees))}
    order: dict[int, int] = {}
    holder = lease(-1)
    while following := granted(table.release(holder)):
        (holder,) = following
        order[holder.agent_id] = len(order)
    assert places == order


@pytest.mark.parametrize("waiting", [1_000, 30_000])
def test_a_long_line_is_served_without_searching_it(waiting: int) -> None:
    """Quadratic cost would make the longer one last for minutes."""
    table = SlotTable(1)
    for agent_id in range(waiting):
        acquire(table, lease(agent_id))
    for agent_id in reversed(range(waiting // 2, waiting)):
        table.release(lease(agent_id))
    for agent_id in range(waiting // 2):
        table.release(lease(agent_id))
    assert report(table).granted == 0


class SlotsAgainstASet(RuleBasedStateMachine):
    """The model: a set of holders, a list of those who wait, and the sessions that died."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable()
        self.slots = 0
        self.held: set[Lease] = set()
        self.waiting: list[tuple[Lease, str]] = []
        self.goes_on: set[Lease] = set()
        self.ended: dict[AgentId, int] = {}
        self.patience: dict[str, int] = {}  # how many others may be served before a waiting tree
        self.number = 0

    def serve(self, leases: list[Lease]) -> None:
        for each in leases:
            path = dict(self.waiting)[each]
            tree = tree_of(path)
            line = [other for other, where in self.waiting if tree_of(where) == tree]
            before = [other for other in line if other in self.goes_on] or line
            assert before[0] == each, (
                "first come, first served within a tree, what goes on before what is new"
            )
            self.waiting.remove((each, path))
            self.held.add(each)
            self.patience.pop(tree, None)
            self.left()
            for other in self.patience.keys() - {tree}:
                self.patience[other] -= 1
                assert self.patience[other] >= 0, "no tree is passed over without end"

    def left(self) -> None:
        """A tree of which nobody waits has no claim to a turn; one that has begun to wait has one."""
        trees = {tree_of(path) for _, path in self.waiting}
        self.patience = {tree: left for tree, left in self.patience.items() if tree in trees}
        for tree in trees - self.patience.keys():
            self.patience[tree] = 4 * len(trees)

    @rule(
        agent_id=st.integers(1, 6),
        tree=st.sampled_from("abc"),
        incarnation=st.integers(1, 3),
        goes_on=st.booleans(),
    )
    def somebody_asks(self, agent_id: int, tree: str, incarnation: int, goes_on: bool) -> None:
        self.number += 1
        wanted = lease(agent_id, self.number, incarnation)
        leases = acquire(self.table, wanted, f"/{tree}/{agent_id}", goes_on=goes_on)
        if incarnation <= self.ended.get(wanted.agent_id, 0):
            assert leases == [], "a dead session is granted nothing"
            return
        self.waiting.append((wanted, f"/{tree}/{agent_id}"))
        if goes_on:
            self.goes_on.add(wanted)
        self.left()
        self.serve(leases)
        self.left()

    @precondition(lambda self: self.held or self.waiting)
    @rule(data=st.data())
    def somebody_asks_again(self, data: st.DataObject) -> None:
        known = sorted(self.held, key=str) + [each for each, _ in self.waiting]
        assert acquire(self.table, data.draw(st.sampled_from(known))) == []

    @precondition(lambda self: self.held)
    @rule(data=st.data(), again=st.booleans())
    def a_holder_releases(self, data: st.DataObject, again: bool) -> None:
        holder = data.draw(st.sampled_from(sorted(self.held, key=str)))
        self.held.remove(holder)
        self.serve(granted(self.table.release(holder)))
        self.left()
        if again:
            assert granted(self.table.release(holder)) == []

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def one_who_waits_gives_up(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(each)
        self.left()
        assert granted(self.table.release(each[0])) == []

    @rule(agent_id=st.integers(1, 6), incarnation=st.integers(1, 3))
    def a_session_dies(self, agent_id: int, incarnation: int) -> None:
        dead = AgentId(agent_id)
        self.ended[dead] = max(incarnation, self.ended.get(dead, 0))

        def lives(each: Lease) -> bool:
            return each.agent_id != dead or each.incarnation > incarnation

        self.held = {each for each in self.held if lives(each)}
        self.waiting = [(each, path) for each, path in self.waiting if lives(each)]
        self.left()
        self.serve(end(self.table, agent_id, incarnation))
        self.left()

    @precondition(lambda self: self.slots < 4)
    @rule()
    def a_slot_is_added(self) -> None:
        self.slots += 1
        self.serve(granted(self.table.resize(self.slots)))
        self.left()

    @invariant()
    def granted_slots_never_exceed_the_slots(self) -> None:
        assert report(self.table).granted == len(self.held) <= self.slots

    @invariant()
    def nobody_waits_while_a_slot_is_free(self) -> None:
        assert report(self.table).waiting == len(self.waiting)
        assert not self.waiting or len(self.held) == self.slots

    @invariant()
    def nothing_is_kept_of_leases_that_are_over(self) -> None:
        known = {each for claims in self.table._agents.values() for each in claims}
        assert known == self.held | {each for each, _ in self.waiting}
        assert all(self.table._agents.values())
        assert len(self.table._waiting) == len(self.waiting)


TestSlotsAgainstASet = SlotsAgainstASet.TestCase
