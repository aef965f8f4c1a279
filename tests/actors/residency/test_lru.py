"""The LRU: by example, then against a list."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from greenroom.actors.residency.lru import LRU
from greenroom.types import AgentId

A, B, C = AgentId(1), AgentId(2), AgentId(3)


def lru(*idle: AgentId) -> LRU:
    made = LRU()
    for agent_id in idle:
        made.idle(agent_id)
    return made


def test_the_victim_is_the_one_idle_for_longest() -> None:
    assert lru(A, B, C).victim() == A


def test_with_nobody_idle_there_is_no_victim() -> None:
    assert lru().victim() is None


def test_to_answer_is_not_to_evict() -> None:
    told = lru(A, B)
    assert [told.victim(), told.victim()] == [A, A]


def test_one_in_use_is_no_victim() -> None:
    told = lru(A, B)
    told.busy(A)
    assert told.victim() == B
    assert A not in told


def test_one_that_was_in_use_goes_last() -> None:
    told = lru(A, B)
    told.busy(A)
    told.idle(A)
    assert told.victim() == B


def test_one_touched_at_rest_goes_last() -> None:
    told = lru(A, B)
    told.idle(A)
    assert told.victim() == B


def test_one_that_is_pinned_is_no_victim_also_when_pinned_before() -> None:
    told = LRU()
    told.pin(A)
    told.idle(A)
    assert told.victim() is None


def test_one_pinned_at_rest_is_no_victim_until_unpinned() -> None:
    told = lru(A, B)
    told.pin(A)
    assert told.victim() == B
    told.unpin(A)
    told.busy(B)
    assert told.victim() == A


def test_a_pin_outlives_the_residence() -> None:
    told = lru(A)
    told.pin(A)
    told.busy(A)
    assert told.pinned(A)
    told.unpin(A)
    assert told.victim() is None


class LRUAgainstAList(RuleBasedStateMachine):
    """The model: a list of those at rest by last use, and a set of pins."""

    agents = st.integers(1, 5).map(AgentId)

    def __init__(self) -> None:
        super().__init__()
        self.lru = LRU()
        self.idle: list[AgentId] = []
        self.pins: set[AgentId] = set()

    def forget(self, agent_id: AgentId) -> None:
        if agent_id in self.idle:
            self.idle.remove(agent_id)

    @rule(agent_id=agents)
    def rests(self, agent_id: AgentId) -> None:
        self.lru.idle(agent_id)
        self.forget(agent_id)
        self.idle.append(agent_id)

    @rule(agent_id=agents)
    def is_used(self, agent_id: AgentId) -> None:
        self.lru.busy(agent_id)
        self.forget(agent_id)

    @rule(agent_id=agents)
    def is_pinned(self, agent_id: AgentId) -> None:
        self.lru.pin(agent_id)
        self.pins.add(agent_id)

    @rule(agent_id=agents)
    def is_unpinned(self, agent_id: AgentId) -> None:
        self.lru.unpin(agent_id)
        if agent_id in self.pins and agent_id in self.idle:
            self.idle.remove(agent_id)
            self.idle.append(agent_id)
        self.pins.discard(agent_id)

    @invariant()
    def the_victim_is_the_first_of_the_list_that_has_no_pin(self) -> None:
        free = [agent_id for agent_id in self.idle if agent_id not in self.pins]
        assert self.lru.victim() == (free[0] if free else None)
        assert all((AgentId(n) in self.lru) == (n in free) for n in range(1, 6))

    @invariant()
    def the_pinned_at_rest_are_known(self) -> None:
        assert self.lru._kept == self.pins.intersection(self.idle)


TestLRUAgainstAList = LRUAgainstAList.TestCase
