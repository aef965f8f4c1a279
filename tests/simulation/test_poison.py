"""G15 against a naive model: poison of every kind, which arrives at any time, and innocents beside it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from greenroom import Turn, agent
from greenroom.actors.ledger import recovery, solo, suspects
from greenroom.actors.ledger.ledger import Ledger
from greenroom.testing import Simulation

from .work import Work, do

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of coroutines that a crash cut off

ATTEMPTS = 2
MORE = 4
"""Crashes beside what makes a suspect and its attempts: while it is in doubt who caused one."""

dying: list[str] = []


async def die(who: str) -> None:
    dying.append(who)
    await asyncio.Event().wait()


@agent(name="poison.innocent", attempts=ATTEMPTS)
async def innocent(turn: Turn) -> int:
    await do(turn)
    return turn.attempt


@agent(name="poison.kills", attempts=ATTEMPTS)
async def kills(turn: Turn) -> None:
    await do(turn)
    await die(turn.run_id)


@agent(name="poison.once", attempts=1)
async def once(turn: Turn) -> None:
    assert turn.attempt == 1
    await do(turn)
    await die(turn.run_id)


@agent(name="poison.opens", attempts=ATTEMPTS)
class Opens:
    async def open(self, info: Any) -> None:
        await asyncio.sleep(0.2)
        await die(info.path)

    async def run(self, turn: Turn) -> None:
        raise AssertionError("its session cannot be opened")


KINDS = {"innocent": innocent, "kills": kills, "once": once, "opens": Opens}


@pytest.fixture(autouse=True)
def nobody_dies() -> Iterator[None]:
    dying.clear()
    yield
    dying.clear()


class Arrival(Struct, frozen=True):
    """In which process somebody gives this work to a new agent, and when."""

    life: int
    after: float
    kind: str
    work: Work


class World:
    """The processes, one after the other, and what was given to them."""

    def __init__(self, simulation: Simulation, arrivals: list[Arrival]) -> None:
        self.simulation = simulation
        self.coming = list(enumerate(arrivals))
        self.given: dict[str, Arrival] = {}
        self.deaths = 0

    def live(self, most: int) -> None:
        """Begin processes until all has ended."""
        while self.live_once():
            self.deaths += 1
            assert self.deaths <= most, f"G15: it has died {self.deaths} times, and goes on dying"
            self.simulation.crash()
            dying.clear()
            self.simulation.reopen()

    def live_once(self) -> bool:
        """Whether the process dies."""
        for step in range(4_000):
            self.give(step * 0.05)
            if dying:
                return True
            if not self.coming and all(self.simulation.run(run_id).done() for run_id in self.given):
                return False
            self.simulation.advance(0.05)
        raise AssertionError("G15: something is held up for ever")

    def give(self, now: float) -> None:
        """What is due; and what was for a later process, if this one does not die."""
        for number, arrival in list(self.coming):
            if (arrival.life <= self.deaths and arrival.after <= now) or now > 60.0:
                self.coming.remove((number, arrival))
                run_id = f"{arrival.kind}{number}"
                self.simulation.spawn(KINDS[arrival.kind], f"/{run_id}", input=arrival.work, run_id=run_id)
                self.given[run_id] = arrival

    def check(self) -> None:
        for run_id, arrival in self.given.items():
            outcome = self.simulation.run(run_id).outcome()
            if arrival.kind == "innocent":
                assert outcome.ok, f"G15: {outcome}"
            elif arrival.kind == "once":
                assert (outcome.error_type, outcome.attempt) == ("CutOff", 1)
            else:
                assert outcome.error_type == "Crashed", outcome
                assert self.simulation.run(run_id).info().crashes <= ATTEMPTS
                assert arrival.kind == "kills" or outcome.attempt == 0
                assert ("opening its agent's session" in str(outcome.error)) == (outcome.attempt == 0)


works = st.builds(Work, st.sampled_from([0.0, 0.0, 0.3, 3.0]), st.sampled_from([0.0, 0.1, 1.0, 4.0]))
arrivals = st.builds(
    Arrival,
    st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5]),
    st.sampled_from([0.0, 0.0, 0.2, 1.0]),
    st.sampled_from(["innocent", "innocent", "kills", "kills", "once", "opens"]),
    works,
)


def allowed(arrivals: list[Arrival]) -> int:
    """How often all of these may end the process."""
    each = {"innocent": 0, "once": 1}
    return sum(each.get(arrival.kind, 2 + ATTEMPTS + MORE) for arrival in arrivals)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    given_=st.lists(arrivals, min_size=2, max_size=9),
    slots=st.integers(1, 6),
    residents=st.integers(1, 8),
    seed=st.integers(0, 1_000),
)
def test_g15_no_innocent_fails_and_all_poison_does_whatever_comes_when(
    given_: list[Arrival], slots: int, residents: int, seed: int
) -> None:
    dying.clear()
    with Simulation(seed=seed, slots=slots, residents=residents, kinds=KINDS.values()) as simulation:
        world = World(simulation, given_)
        world.live(allowed(given_))
        world.check()


INNOCENT = Arrival(0, 0.0, "innocent", Work(0.0, 4.0))
STORIES = {
    # the innocent one is the only suspect each time, and never reaches its end before they kill
    **{
        fresh: [INNOCENT, *(Arrival(life, 0.0, fresh, Work(0.0, 0.1)) for life in range(8))]
        for fresh in ("kills", "once", "opens")
    },
    "older than the innocent": [Arrival(0, 0.0, "kills", Work(0.0, 0.1)), INNOCENT, INNOCENT],
    "younger than the innocent": [INNOCENT, INNOCENT, Arrival(0, 0.0, "kills", Work(0.0, 0.0))],
    "beside new ones in each process": [
        Arrival(0, 0.0, "kills", Work(0.0, 0.1)),
        *(Arrival(life, 0.0, "innocent", Work(0.0, 0.4)) for life in range(20)),
    ],
    "while somebody new is always at work": [
        Arrival(0, 0.0, "kills", Work(0.0, 0.1)),
        *(
            Arrival(life, 0.4 * number, "innocent", Work(0.0, 0.5))
            for life in range(12)
            for number in range(5)
        ),
    ],
    "beside one that waits for long": [
        Arrival(0, 0.0, "innocent", Work(30.0, 1.0)),
        Arrival(0, 0.0, "kills", Work(0.0, 0.1)),
    ],
    "after a wait": [INNOCENT, Arrival(0, 0.0, "kills", Work(0.3, 0.1)), INNOCENT],
}


def tell(story: str, seed: int = 0) -> World:
    dying.clear()
    given_ = STORIES[story]
    with Simulation(seed=seed, slots=8, residents=16, kinds=KINDS.values()) as simulation:
        world = World(simulation, given_)
        world.live(allowed(given_))
        world.check()
    return world


@pytest.mark.parametrize("story", STORIES)
def test_no_innocent_fails_and_poison_does(story: str) -> None:
    tell(story)


def test_a_class_whose_open_ends_the_process_fails_its_own_runs_alone() -> None:
    given_ = [Arrival(0, 0.0, "innocent", Work(0.0, 1.0)) for _ in range(3)]
    given_.append(Arrival(0, 0.0, "opens", Work(0.0, 0.0)))
    with Simulation(slots=8, residents=16, kinds=KINDS.values()) as simulation:
        world = World(simulation, given_)
        world.live(allowed(given_))
        world.check()
        assert world.deaths <= 3 + ATTEMPTS
        assert simulation.agent("/opens3").info().status != "running"


# Each rule is needed: without it, one of the stories goes wrong.

MISTAKES = {
    "a crash is held against the solo suspect whoever is beside it": (
        "cut_off",
        lambda row, **how: suspects.cut_off(row, **{**how, "beside": ()}),
    ),
    "one that was found guilty explains nothing": (
        "guilty",
        lambda row, other: suspects.cleared(row, other, ATTEMPTS),
    ),
    "one that may not begin again is taken for cleared": (
        "never_known",
        lambda row, other: suspects.cleared(row, other, ATTEMPTS),
    ),
    "doubts are never cleared up": ("cleared", lambda row, _, __: row),
    "who is in doubt does not let others go first": ("place_of", lambda row, _: row.serial),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_rule_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, wrong = MISTAKES[mistake]
    monkeypatch.setattr(recovery if name == "cut_off" else solo, name, wrong)
    assert_found(mistake)


@pytest.mark.parametrize(
    "mistake", ["openings are not recorded", "waits are not recorded", "nobody is held back"]
)
def test_a_rule_that_is_left_out_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mistake == "nobody is held back":
        monkeypatch.setattr(solo, "held_back", lambda *_: None)
    elif mistake == "openings are not recorded":
        monkeypatch.setattr(Ledger, "cautious", False)
    else:
        monkeypatch.setattr(solo, "turn_waits", lambda *_: [])
    assert_found(mistake)


SEEDS = 8
"""Orders of messages that each story is tried in."""


def assert_found(mistake: str) -> None:
    for seed in range(SEEDS):
        for story in STORIES:
            try:
                tell(story, seed)
            except AssertionError:
                return
    raise AssertionError(f"no story goes wrong although {mistake}")
