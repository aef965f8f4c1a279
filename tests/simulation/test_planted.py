"""The model finds mistakes: each is planted, and some schedule among a few hundred shows it.

A mistake that is not found means that the model is too weak, and its checks could not fail.
"""

import pytest

from .driver import tell
from .old_faults import PLANTED

FIRST, MOST_SCHEDULES = 500_000, 2000

RARE = {
    "an_agent_is_evicted_though_work_is_on_its_way",
    "a_slot_asked_for_and_no_longer_wanted_is_kept",
    "an_interrupt_does_not_reach_the_descendants",
    "what_is_promised_for_a_power_cut_is_not_flushed",
}
"""These take hundreds of schedules, and a quarter of a minute each or more."""


def schedules_until_found() -> tuple[int, BaseException | None]:
    """How many schedules it takes until one shows that something is wrong, and what it says."""
    for count in range(1, MOST_SCHEDULES + 1):
        try:
            tell(FIRST + count)
        except (Exception, SystemExit) as error:
            return count, error
    return MOST_SCHEDULES, None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in RARE else []) for name in PLANTED]
)
def test_a_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[name](monkeypatch)
    count, found = schedules_until_found()
    print(f"\n{name}: {count} schedules; {str(found).partition(chr(10))[0][:120]}")
    assert found is not None, f"{MOST_SCHEDULES} schedules do not show it: the model is too weak"
    monkeypatch.undo()
    tell(FIRST + count)  # the same story is a good one without the mistake


def test_without_a_mistake_nothing_is_found() -> None:
    for seed in range(600_000, 600_020):
        tell(seed)


def test_there_are_enough_of_them() -> None:
    assert len(PLANTED) >= 15
