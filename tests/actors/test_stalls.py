"""Who holds the loop up: by its thread's CPU time, and by what a thread that uses none has not done."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.stalls import STALL_SECONDS, CodeLine, Stall, StallDetector, ThreadSample, responsible

BETWEEN = 0.25


def looks(*changes: dict[str, Any]) -> list[Stall | None]:
    """What is told of looks, each of which differs from the one before by so much."""
    stalls, found = StallDetector(), []
    look: dict[str, Any] = {
        "at": 0.0,
        "cpu": 0.0,
        "beat": 1,
        "step": 7,
        "position": (7, 1),
        "switches": 1,
        "runnable": False,
    }
    for change in changes:
        look["at"] += BETWEEN
        changed = {name: look[name] + value if name == "cpu" else value for name, value in change.items()}
        look |= changed
        found.append(stalls.look(ThreadSample(**look)))
    return found


COMPUTES = {"cpu": BETWEEN}


def test_one_step_that_computes_is_told_once() -> None:
    found = looks(*(COMPUTES | {"position": (7, number)} for number in range(8)))
    assert found == [None, None, None, Stall("computes", 0.75), None, None, None, None]


def test_it_is_told_again_when_the_loop_came_round_meanwhile() -> None:
    found = looks(*[COMPUTES] * 5, *[COMPUTES | {"beat": 2}] * 4)
    assert [stall for stall in found if stall] == [Stall("computes", 0.75)] * 2


def test_a_thread_that_is_not_given_the_machine_holds_nobody_up() -> None:
    starved = {"cpu": 0.005, "runnable": True}
    assert looks(*[starved] * 40) == [None] * 40


def test_a_thread_that_waits_for_the_interpreter_holds_nobody_up() -> None:
    assert looks(*({"cpu": 0.001, "switches": number * 50} for number in range(40))) == [None] * 40


def test_a_thread_that_sleeps_in_a_call_is_told() -> None:
    found = looks(*[{"cpu": 0.0001}] * 6)
    assert found == [None, None, None, Stall("waits", 0.75), None, None]


def test_one_that_has_computed_before_it_sleeps_is_told_when_it_has_slept_long_enough() -> None:
    found = looks(COMPUTES, COMPUTES, *[{"position": (7, 9)}] * 6)
    assert found[:5] == [None] * 5
    assert found[5] == Stall("waits", 0.75)


def test_who_moves_on_is_not_held_up_by_a_call() -> None:
    assert looks(*({"cpu": 0.001, "position": (7, number)} for number in range(40))) == [None] * 40


def test_many_short_steps_blame_none_of_them() -> None:
    found = looks(*(COMPUTES | {"step": number} for number in range(1, 6)))
    assert [stall for stall in found if stall] == [Stall("many", 0.75)]


def test_a_loop_that_waits_for_work_is_not_held_up() -> None:
    assert looks(*[{"step": 0}] * 20) == [None] * 20


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "cpu": st.floats(0, BETWEEN),
                "beat": st.integers(1, 3),
                "step": st.integers(0, 2),
                "position": st.tuples(st.just(7), st.integers(0, 1)),
                "switches": st.integers(0, 1),
                "runnable": st.booleans(),
            }
        )
    )
)
def test_nothing_is_told_without_time_or_sleep_enough(changes: list[dict[str, Any]]) -> None:
    used, since, beat = 0.0, 0, None
    for number, (change, stall) in enumerate(zip(changes, looks(*changes), strict=True)):
        if change["beat"] != beat:
            beat, used, since = change["beat"], 0.0, number
        else:
            used += change["cpu"]
        if stall is not None:
            assert used >= STALL_SECONDS - 1e-9 or (number - since) * BETWEEN >= STALL_SECONDS
            assert change["step"]


def place(whose: Any, line: int) -> CodeLine:
    return CodeLine(f"{whose}.py", line, "f", whose)


def test_the_users_line_is_named_rather_than_one_that_it_calls() -> None:
    ours, user, library, python = (
        place(w, n) for n, w in enumerate(["greenroom", "user", "library", "python"])
    )
    assert responsible([ours, user, library, python]) == user
    assert responsible([ours, user, ours]) == user, "it asked greenroom for it"
    assert responsible([ours, library, python]) == library
    assert responsible([ours, python]) is None
