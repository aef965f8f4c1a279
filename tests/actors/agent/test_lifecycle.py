"""The lifecycle table, every cell of it; whole lives are in test_session_model.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.agent.lifecycle import TABLE, IllegalTransition, after

EVENTS = sorted({event for row in TABLE.values() for event in row})
CELLS = [(state, event) for state in TABLE for event in EVENTS]


@pytest.mark.parametrize(("state", "event"), CELLS)
def test_an_event_leads_where_the_table_says_or_raises(state: str, event: str) -> None:
    if event in TABLE[state]:
        assert after(state, event) == TABLE[state][event]
    else:
        with pytest.raises(IllegalTransition) as raised:
            after(state, event)
        assert state in str(raised.value)
        assert event in str(raised.value)


def test_every_state_can_be_reached_and_left_for_the_end() -> None:
    reached, border = {"opening"}, ["opening"]
    while border:
        for following in TABLE[border.pop()].values():
            if following not in reached:
                reached.add(following)
                border.append(following)
    assert reached == set(TABLE)
    leads_to_the_end = {"ended"}
    for _ in TABLE:
        leads_to_the_end |= {s for s, row in TABLE.items() if leads_to_the_end & set(row.values())}
    assert leads_to_the_end == set(TABLE)


def test_an_end_is_for_good() -> None:
    assert set(TABLE["ended"].values()) == {"ended"}
    assert set(TABLE["closing"].values()) == {"closing", "ended"}


def test_work_and_unload_can_come_at_any_time() -> None:
    assert all({"work", "unload", "rest"} <= set(row) for row in TABLE.values())


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_whatever_comes_a_session_is_in_one_state_of_the_table(events: list[str]) -> None:
    state = "opening"
    for event in events:
        try:
            state = after(state, event)
        except IllegalTransition:
            continue  # it changed nothing
        assert state in TABLE
