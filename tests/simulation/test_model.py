"""The whole runtime against its naive model, in every order, with crashes and failing disks.

`make test` explores 2,000 schedules; `GREENROOM_SCHEDULES=100000` in the environment as many as that, from
a seed of the day's on if `GREENROOM_FIRST_SEED` names one. A seed that failed is told again by
`driver.tell(seed)`.
"""

import os
import time
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from greenroom.testing import Faults, Simulation, faults, schedules

from .driver import PATHS, tell
from .model import KINDS, Model, Script

SCHEDULES = int(os.environ.get("GREENROOM_SCHEDULES", "2000"))
FIRST = int(os.environ.get("GREENROOM_FIRST_SEED", "0"))

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of coroutines that a crash cut off


def test_a_few_random_schedules() -> None:
    for seed in range(100_000, 100_060):
        tell(seed)


@pytest.mark.long
@pytest.mark.timeout(0)
def test_thousands_of_random_schedules() -> None:
    begun = time.process_time()
    steps = 0
    for seed in range(FIRST, FIRST + SCHEDULES):
        steps += tell(seed).loop.steps
    took = time.process_time() - begun
    print(f"\n{SCHEDULES:,} schedules, {steps:,} steps, {SCHEDULES / took:.0f} schedules a CPU second")
    assert steps > 100 * SCHEDULES


paths = st.sampled_from(PATHS)
scripts = st.builds(
    Script,
    sleeps=st.sampled_from([0.0, 0.001, 5.0]),
    steps=st.integers(0, 2),
    sends=st.none() | paths,
    children=st.integers(0, 2),
    after=st.booleans(),
    checkpoint=st.booleans(),
    reaches=st.none() | st.just("/nobody/else"),
    aside=st.booleans(),
    pauses=st.booleans(),
    fails=st.booleans(),
    hangs=st.booleans(),
)


def _within_its_tree(path: str, script: Script) -> bool:
    other = script.reaches or "/nobody"
    return path[:2] != other[:2] and (script.sends is None or path[:2] == script.sends[:2])


class TheRuntime(RuleBasedStateMachine):
    """The public calls, time, faults, crashes and reopenings, in an order that Hypothesis draws."""

    model: Model
    simulation: Simulation

    @initialize(
        schedule=schedules(length=2000, departures=100),
        slots=st.integers(1, 3),
        residents=st.integers(1, 4),
        durability=st.sampled_from(["process", "power"]),
    )
    def begin(self, schedule: dict[int, int], slots: int, residents: int, durability: Any) -> None:
        self.power = durability == "power"
        self.simulation = Simulation(
            schedule=schedule, slots=slots, residents=residents, durability=durability, kinds=KINDS
        )
        self.simulation.__enter__()
        self.model = Model(self.simulation, slots=slots, residents=residents)

    @rule(path=paths, kind=st.sampled_from(KINDS))
    def spawn(self, path: str, kind: Any) -> None:
        self.up().spawn(path, kind)

    @rule(calls=st.lists(st.tuples(paths, scripts), min_size=1, max_size=4))
    def followups(self, calls: list[tuple[str, Script]]) -> None:
        self.up().followups([(path, script) for path, script in calls if _within_its_tree(path, script)])

    @rule(path=paths)
    def send(self, path: str) -> None:
        self.up().send(path)

    @rule(number=st.integers(1, 20))
    def followup_again(self, number: int) -> None:
        self.up().again(f"r{number}")

    @rule(path=paths, cascade=st.booleans())
    def interrupt(self, path: str, cascade: bool) -> None:
        self.up().interrupt(path, cascade=cascade)

    @rule(path=paths, erase=st.booleans())
    def close_agent(self, path: str, erase: bool) -> None:
        self.up().close_agent(path, erase=erase)

    @rule(path=paths)
    def evict(self, path: str) -> None:
        self.up().evict(path)

    @rule(seconds=st.sampled_from([0.001, 0.1, 10.0]))
    def let_time_pass(self, seconds: float) -> None:
        model = self.up()
        model.attempt(lambda: self.simulation.advance(seconds))

    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        self.model.crash(power=power and self.power)

    @rule(drain=st.sampled_from([0.0, 1.0, 50.0]), suspend=st.booleans())
    def close(self, drain: float, suspend: bool) -> None:
        self.up().close(drain, suspend=suspend)

    @rule(faults=faults("commit_fails", "read_fails", "crash", "turn_raises", "turn_cancels", "turn_hangs"))
    def trouble(self, faults: Faults) -> None:
        self.model.trouble(faults)

    @rule()
    def no_trouble(self) -> None:
        self.simulation.faults()
        self.model.settle()

    def up(self) -> Model:
        self.model.reopen()
        return self.model

    @invariant()
    def the_guarantees_hold(self) -> None:
        if hasattr(self, "model"):
            self.model.check_now()

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.model.check_at_rest()
            except BaseException as error:
                self.simulation.__exit__(type(error), error, None)
                raise
            self.simulation.__exit__(None, None, None)


def test_the_runtime_against_its_model() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        TheRuntime,
        settings=settings(
            max_examples=60,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.long
@pytest.mark.timeout(0)
def test_the_runtime_against_its_model_at_length() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        TheRuntime,
        settings=settings(
            max_examples=SCHEDULES // 4,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
