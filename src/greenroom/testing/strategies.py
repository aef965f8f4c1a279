"""Hypothesis strategies for simulations. A failing one shrinks towards the natural order and no faults."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .injected_faults import Faults
from .simulation import Simulation

PROBABILITIES = (0.0, 0.01, 0.05, 0.2)


def schedules(*, length: int = 600, departures: int = 60) -> SearchStrategy[dict[int, int]]:
    """Schedules for `Simulation(schedule=…)`: at most `departures` from the natural order.

    They fall among the first `length` choices; what comes after those goes its natural way.
    """
    choice = st.integers(min_value=0, max_value=length - 1)
    return st.dictionaries(choice, st.integers(min_value=1, max_value=7), max_size=departures)


def faults(*kinds: str) -> SearchStrategy[Faults]:
    """Faults of these kinds (names of fields of `Faults`), or of all but crashes, each seldom or never.

    A crash ends the call under way with `Crashed`, which a test has to expect: so it is named.
    """
    probability = st.sampled_from(PROBABILITIES)
    wanted = kinds or ("commit_fails", "read_fails", "turn_raises", "turn_cancels", "turn_hangs")
    return st.builds(Faults, **dict.fromkeys(wanted, probability))


def simulations(**settings: Any) -> SearchStrategy[Simulation]:
    """Simulations, not started, each with a schedule of its own; `settings` are those of `Simulation`."""
    return schedules().map(lambda schedule: Simulation(schedule=schedule, **settings))
