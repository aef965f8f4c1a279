"""Places are shared: nobody can take them all, and nobody's connections cost those of others."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.server.shares import OWNER, Connections, Shares

HOLDERS = ["a", "b", "c", OWNER]


def test_one_that_takes_what_it_can_gets_half_and_the_next_half_of_the_rest() -> None:
    shares = Shares(100)
    assert sum(shares.take("a") for _ in range(100)) == 50
    assert sum(shares.take("b") for _ in range(100)) == 25
    assert sum(shares.take("c") for _ in range(100)) == 13
    assert sum(shares.take("d") for _ in range(100)) == 2
    assert not shares.take("e")
    assert sum(shares.take(OWNER) for _ in range(100)) == 10
    assert shares.taken == 100


@given(st.integers(1, 40), st.lists(st.tuples(st.booleans(), st.sampled_from(HOLDERS)), max_size=200))
def test_trees_leave_a_tenth_to_the_owner_and_what_is_given_back_is_free(
    most: int, steps: list[tuple[bool, str]]
) -> None:
    shares, held = Shares(most), Counter[str]()
    for takes, holder in steps:
        if takes:
            left = most - held.total()
            took = shares.take(holder)
            assert took == (left > (0 if holder == OWNER else max(most // 10, held[holder])))
            held[holder] += took
        elif held[holder]:
            shares.give_back(holder)
            held[holder] -= 1
        assert shares.taken == held.total() <= most
        if not held[OWNER]:
            assert held.total() <= most - most // 10


def test_a_stranger_too_many_costs_the_oldest_of_the_peer_that_has_most() -> None:
    doors = Connections[int](10, 4)
    assert [doors.opened(n, "crowd") for n in range(3)] == [None] * 3
    assert doors.opened(10, "other") is None
    assert doors.opened(11, "other") == 0
    assert doors.opened(3, "crowd") == 1
    doors.closed(2)
    assert doors.opened(12, "third") is None


def test_strangers_cost_nobody_a_connection_who_has_shown_a_token() -> None:
    doors = Connections[int](10, 4)
    for n in range(4):
        doors.opened(n, "peer")
        assert doors.let_in(n, OWNER)
    for n in range(100, 200):
        assert doors.opened(n, "peer") not in range(4)
    assert len(doors) == 8
    assert doors.let_in(199, OWNER)


def test_a_connection_belongs_to_the_token_that_it_showed_last() -> None:
    doors = Connections[int](4, 4)
    for n in range(2):
        doors.opened(n, "peer")
        assert doors.let_in(n, "a")
        assert doors.let_in(n, "a")
    doors.opened(2, "peer")
    assert not doors.let_in(2, "a")
    assert doors.let_in(1, "b")
    assert doors.let_in(2, "a")
    for n in range(3):
        doors.closed(n)
        doors.closed(n)
        assert doors.let_in(n, "a")  # its request was under way when it was closed
    assert len(doors) == 0
    assert sum(doors.opened(n, "peer") is None and doors.let_in(n, OWNER) for n in range(10, 14)) == 4


@pytest.mark.parametrize("peers", [1, 3])
@given(data=st.data())
def test_however_connections_come_and_go_the_bounds_hold(peers: int, data: st.DataObject) -> None:
    doors = Connections[int](6, 5)
    strangers: set[int] = set()
    known: dict[int, str] = {}
    for n in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(["open", "open", "let in", "close"])):
            case "open":
                gone = doors.opened(n, str(n % peers))
                strangers.add(n)
                assert (gone is not None) == (len(strangers) > 5)
                assert gone is None or gone in strangers
                strangers.discard(gone if gone is not None else -1)
            case "let in" if strangers or known:
                one = data.draw(st.sampled_from(sorted(strangers | known.keys())))
                holder = data.draw(st.sampled_from(HOLDERS))
                if doors.let_in(one, holder):
                    strangers.discard(one)
                    known[one] = holder
                else:
                    assert known.get(one) != holder
            case "close" if strangers or known:
                one = data.draw(st.sampled_from(sorted(strangers | known.keys())))
                doors.closed(one)
                strangers.discard(one)
                known.pop(one, None)
        assert len(doors) == len(strangers) + len(known)
        assert len(strangers) <= 5
        assert len(known) <= 6
