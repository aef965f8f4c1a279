"""G15: an agent that kills the process fails no run of another agent, and its own after their attempts."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from greenroom import AgentInfo, Turn, agent
from greenroom.testing import Simulation

from .work import Work, do

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of coroutines that a crash cut off

ATTEMPTS = 3
DOUBTED = 3
"""Crashes more, which are held against nobody while it is not clear who caused them."""
dying: list[str] = []


@agent(name="suspects.innocent", attempts=ATTEMPTS)
async def innocent(turn: Turn) -> int:
    await do(turn)
    return turn.attempt


@agent(name="suspects.poison", attempts=ATTEMPTS)
async def poison(turn: Turn) -> None:
    await do(turn)
    dying.append(turn.run_id)
    await asyncio.Event().wait()


@agent(name="suspects.once", attempts=1)
async def once(turn: Turn) -> int:
    await do(turn)
    return turn.attempt


def live(simulation: Simulation, run_ids: list[str], most: int) -> int:
    """Begin processes until all of these runs have ended; how many have died."""
    for deaths in range(most + 1):
        for _ in range(4_000):
            if dying or all(simulation.run(run_id).done() for run_id in run_ids):
                break
            simulation.advance(0.05)
        if not dying:
            return deaths
        simulation.crash()
        dying.clear()
        simulation.reopen()
    raise AssertionError(f"G15: it has died {most} times, and goes on dying")


works = st.builds(Work, st.sampled_from([0.0, 0.0, 0.3, 3.0]), st.sampled_from([0.0, 0.1, 1.0, 4.0]))


@settings(max_examples=30, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(
    order=st.permutations(range(6)),
    innocents=st.lists(works, min_size=4, max_size=4),
    poisons=st.lists(works, min_size=1, max_size=3),
    slots=st.integers(1, 6),
    seed=st.integers(0, 1_000),
)
def test_g15_an_agent_that_kills_the_process_fails_no_other_agents_run(
    order: list[int], innocents: list[Work], poisons: list[Work], slots: int, seed: int
) -> None:
    kinds = (innocent, poison, once)
    dying.clear()
    with Simulation(seed=seed, slots=slots, residents=8, kinds=kinds) as simulation:
        for number in order:
            if number < len(innocents):
                simulation.spawn(innocent, f"/i{number}", input=innocents[number], run_id=f"i{number}")
            elif number == len(innocents):
                ref = simulation.spawn(poison, "/p")
                for place, work in enumerate(poisons):
                    ref.followup(work, run_id=f"p{place}")
        run_ids = [f"i{number}" for number in range(len(innocents))]
        run_ids += [f"p{place}" for place in range(len(poisons))]
        least = 2 + ATTEMPTS * len(poisons)
        assert least <= live(simulation, run_ids, least + DOUBTED) <= least + DOUBTED
        for number in range(len(innocents)):
            outcome = simulation.run(f"i{number}").outcome()
            assert outcome.ok, f"G15: {outcome}"
        for place in range(len(poisons)):
            run = simulation.run(f"p{place}")
            outcome = run.outcome()
            assert (outcome.status, outcome.error_type) == ("failed", "Crashed")
            assert run.info().crashes == ATTEMPTS
            assert ATTEMPTS <= outcome.attempt <= ATTEMPTS + 2 + DOUBTED
            assert str(outcome.error).startswith("its turn ended its process or its session 3 times")


def test_a_run_that_may_begin_once_fails_when_it_is_cut_off_and_its_agent_goes_on() -> None:
    dying.clear()
    with Simulation(kinds=(innocent, poison, once)) as simulation:
        ref = simulation.spawn(once, "/o", input=Work(0.0, 5.0), run_id="o")
        later = ref.followup(Work(0.0, 0.0))
        simulation.spawn(poison, "/p", input=Work(0.0, 1.0), run_id="p")
        live(simulation, ["o", "p"], 5)
        outcome = simulation.run("o").outcome()
        assert (outcome.status, outcome.error_type, outcome.attempt) == ("failed", "CutOff", 1)
        assert simulation.run("o").info().crashes == 0
        assert simulation.run(later.run_id).result() == 1


def test_suspects_begin_one_at_a_time_in_order_and_others_beside_them() -> None:
    with Simulation(slots=8, residents=16, kinds=(innocent, poison, once)) as simulation:
        for number in range(4):
            simulation.spawn(innocent, f"/i{number}", input=Work(0.0, 10.0), run_id=f"i{number}")
        for _ in range(2):
            simulation.advance(2.0)
            simulation.crash()
            simulation.reopen()
        simulation.advance(1.0)
        assert [info.path for info in simulation.list(status="running")] == ["/i0"]
        waits = simulation.agent("/i2").explain()
        assert (waits.waits_for, waits.held_by) == ("run", ("/i0",))
        fresh = simulation.spawn(innocent, "/fresh", input=Work(0.0, 0.1)).run
        assert fresh is not None
        assert fresh.result(timeout=1.0) == 1
        simulation.advance(2.0)  # the first has run longer by now than when it was cut off
        assert [info.path for info in simulation.list(status="running")] == ["/i0", "/i1"]
        simulation.crash()
        simulation.reopen()
        runs = [simulation.run(f"i{n}") for n in range(4)]
        assert [run.info().crashes for run in runs] == [0, 0, 0, 0], "the first was at work as well"
        assert runs[0].result() == 4
        assert [run.info().crashes for run in runs] == [0, 1, 0, 0], "it was not the first"
        assert [run.result() for run in simulation.wait([simulation.run(f"i{n}") for n in range(4)])]


def test_time_spent_waiting_counts_for_no_crash() -> None:
    with Simulation(kinds=(innocent, poison, once)) as simulation:
        simulation.spawn(innocent, "/i", input=Work(1_000.0, 0.1), run_id="i")
        for _ in range(7):
            simulation.advance(2.0)
            simulation.crash()
            simulation.reopen()
        assert simulation.run("i").info().crashes == 0
        assert simulation.run("i").result() == 8


def test_a_suspect_that_waits_lets_the_next_one_begin_and_takes_its_turn_again() -> None:
    with Simulation(slots=4, kinds=(innocent, poison, once)) as simulation:
        simulation.spawn(innocent, "/i0", input=Work(3.0, 5.0), run_id="i0")
        simulation.spawn(innocent, "/i1", input=Work(0.0, 30.0), run_id="i1")
        for _ in range(2):
            simulation.advance(6.0)
            simulation.crash()
            simulation.reopen()
        simulation.advance(1.0)
        assert simulation.stats().slots_taken == 1, "the first waits, and the second executes"
        simulation.advance(3.0)
        assert simulation.stats().slots_taken == 1, "the first could go on, and waits for the second"
        simulation.crash()
        simulation.reopen()
        assert [simulation.run(f"i{n}").info().crashes for n in range(2)] == [0, 1]


@pytest.mark.parametrize("how", ["close", "crash while nothing is at work"])
def test_what_was_closed_in_order_is_no_crash(how: str) -> None:
    with Simulation(kinds=(innocent, poison, once)) as simulation:
        simulation.spawn(innocent, "/i", input=Work(0.0, 9.0), run_id="i")
        for _ in range(5):
            simulation.advance(1.0)
            simulation.close(drain=0.0)
            simulation.reopen()
            if how != "close":  # before the run begins again
                simulation.crash()
                simulation.reopen()
        run: Any = simulation.run("i")
        assert run.result() == 6
        assert run.info().crashes == 0


@agent(name="suspects.gate", attempts=ATTEMPTS)
class Gate:
    """A kind whose opening kills the process."""

    async def open(self, info: AgentInfo) -> None:
        dying.append(info.path)
        await asyncio.Event().wait()

    async def run(self, turn: Turn) -> None:
        """It never comes to this."""


def test_g15_an_opening_that_kills_the_process_fails_no_other_agents_run() -> None:
    dying.clear()
    with Simulation(slots=4, kinds=(innocent, poison, once, Gate)) as simulation:
        innocents = simulation.spawn(innocent, "/i", input=Work(0.0, 60.0), run_id="i")
        simulation.advance(1.0)
        killer = simulation.spawn(Gate, "/g", input=None, run_id="g")
        deaths = 0
        for _ in range(60):
            simulation.advance(5.0)
            if dying:
                deaths += 1
                simulation.crash()
                dying.clear()
                simulation.reopen()
        assert innocents.run is not None
        assert killer.run is not None
        assert innocents.run.info().crashes == 0
        assert innocents.run.outcome(timeout=60.0).status == "completed"
        assert killer.run.outcome(timeout=60.0).error_type == "Crashed"
        assert deaths == 2 + ATTEMPTS + 1  # at the first one nothing was recorded of the opening
