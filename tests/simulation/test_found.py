"""What simulations have found, each as a story of its own."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from greenroom import Event, SyncTurn, Turn, agent
from greenroom.actors.agent.kind import listeners
from greenroom.persistence.doctor import examine
from greenroom.testing import Faults, Simulation

from .stories import counter


@pytest.mark.parametrize("seed", range(30))
def test_nobody_reaches_an_actor_before_its_configuration(seed: int) -> None:
    """Order is promised between pairs alone: callers are another pair than the supervisor."""

    async def at_once(simulation: Simulation) -> list[Any]:
        runtime = simulation.aio
        return await asyncio.gather(
            runtime.list(), runtime.stats(), runtime.spawn(counter, f"/new-{simulation.choices.made}")
        )

    with Simulation(seed=seed) as simulation:
        for _ in range(3):
            simulation.run(at_once(simulation))
            simulation.spawn(counter, f"/{simulation.choices.made}", input=1)
            simulation.crash()
            simulation.reopen()


@pytest.mark.parametrize("seed", range(40))
def test_the_number_of_an_event_that_was_told_is_never_another_events(seed: int) -> None:
    """Each process tells that it loaded the agent, and dies before anything of it is written."""
    with Simulation(seed=seed) as simulation:
        simulation.spawn(waiting, "/a", input=None)
        known: dict[int, Event] = {}
        for _ in range(4):
            simulation.crash()
            simulation.reopen()
            for event in simulation.events(since=0, follow=False):
                assert known.setdefault(event.seq, event) == event


@agent(name="found.waiting", attempts=100)
async def waiting(turn: Turn) -> None:
    await asyncio.Event().wait()


@agent(name="found.checks")
def checks(turn: SyncTurn) -> str:
    turn.checkpoint()
    return "kept"


@pytest.mark.parametrize("seed", range(40))
def test_a_checkpoint_on_a_thread_whose_agent_is_closed_does_not_wait_for_ever(seed: int) -> None:
    """It would keep its slot and its place as well."""
    with Simulation(seed=seed, slots=1) as simulation:
        ref = simulation.spawn(checks, "/a", input=None)
        simulation.advance(simulation.choices.choose(5) / 20)
        ref.close()
        simulation.run_until_idle()
        assert simulation.stats().slots_taken == 0
        assert simulation.stats().resident == 0


def test_nothing_is_lost_while_the_disk_fails_at_the_start() -> None:
    for seed in range(20):
        with Simulation(seed=seed, faults=Faults(commit_fails=0.5)) as simulation:
            simulation.spawn(counter, "/a", durability="memory")
            simulation.crash()
            simulation.reopen()
            simulation.faults()
            assert [info.path for info in simulation.list()] in ([], ["/a"])


def test_the_doctor_takes_no_offence_at_a_disk_that_healed(tmp_path: Path) -> None:
    """It called the event that tells of it an error, and advised to put back a backup."""
    with Simulation(seed=1) as simulation:
        ref = simulation.spawn(counter, "/a")
        simulation.faults(Faults(commit_fails=1.0))
        ref.send("a letter", durability="memory")
        simulation.advance(1.0)
        simulation.faults()
        simulation.run_until_idle()
        types = [event.type for event in simulation.events(since=0, follow=False)]
        assert "store.healed" in types
    simulation.save(str(tmp_path / "store.db"))
    assert examine(str(tmp_path / "store.db")).findings == ()


def test_a_process_that_died_is_told_of_no_more_kinds() -> None:
    """It was, and so was kept in memory for as long as the real one lived."""
    before = dict(listeners)
    with Simulation(seed=1) as simulation:
        for _ in range(3):
            simulation.crash()
            assert listeners == before
            simulation.reopen()
    assert listeners == before
