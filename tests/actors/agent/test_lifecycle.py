"""The lifecycle table, every cell of it; whole lives are in test_session_model.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.agent.lifecycle import TABLE, IllegalTransition, after

EVENTS = sorted({event for row in TABLE.values() for event in row})
CELLS = [(state, event) for state in TABLE for event in EVENTS]


EXECUTES = {"running", "waiting", "returning", "regaining"}
"""A turn's code has begun and not returned."""


def meant(state: str, event: str) -> str | None:
    """Where an event leads, by what it means and not by the state: None if it cannot come there."""
    late = state in ("closing", "ended")  # it was on its way
    match event:
        case "work":  # there is something to do
            return "acquiring" if state == "idle" else state
        case "rest":  # there is nothing to do any more
            return "idle" if state in ("asking", "acquiring") else state
        case "unload":  # no code of the user's is left alone
            if state in EXECUTES or state in ("opening", "leaving"):
                return "leaving"
            return state if late else "closing"
        case "granted" if state != "opening":  # it counts for who has asked for it
            return {"acquiring": "taking", "regaining": "running"}.get(state, state)
        case "goes_on" if state != "opening":
            return "acquiring" if state == "asking" else state
        case "placed" if state in ("returning", "idle", "asking", "ending", "leaving") or late:
            return "regaining" if state == "returning" else state
        case "opened" | "failed" if state in ("opening", "leaving"):
            return "idle" if (state, event) == ("opening", "opened") else "closing"
        case "begun" | "nothing" if state == "taking":
            return "running" if event == "begun" else "idle"
        case "settled" if state == "ending":
            return "idle"
        case "begun" | "nothing" | "settled" if late:
            return state
        case "waits" if state in EXECUTES:
            return "waiting"
        case "resumes" if state == "waiting":
            return "returning"
        case "returned" if state in EXECUTES:
            return "ending"
        case "waits" | "resumes" | "returned" if state == "leaving":
            return "closing" if event == "returned" else "leaving"
        case "more" if state == "ending":
            return "acquiring"
        case "asks" if state in ("idle", "ending"):
            return "asking"
        case "closed" if state == "closing":
            return "ended"
    return None


@pytest.mark.parametrize(("state", "event"), CELLS)
def test_an_event_leads_where_it_means_or_raises(state: str, event: str) -> None:
    expected = meant(state, event)
    if expected is not None:
        assert after(state, event) == expected
        return
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
