"""Inside a simulation nothing real happens: no sleep, no thread, no look at a clock, no random bytes."""

import asyncio
import datetime
import os
import random
import sys
import threading
import time
from typing import Any

import pytest

from greenroom import Turn, agent
from greenroom.persistence import simulated
from greenroom.testing import Faults, Simulation

from .driver import simulate
from .stories import House, all_of_asyncio, counter, parent, plain

LOGGING = ("logging", "_pytest.logging")  # stamps its records; nothing depends on those
BATONS = "greenroom.actors.systems.lockstep_thread"
CLOCKS = (
    *("time", "monotonic", "perf_counter", "process_time", "thread_time"),
    *("time_ns", "monotonic_ns", "perf_counter_ns", "process_time_ns", "thread_time_ns"),
    *("clock_gettime", "clock_gettime_ns", "sleep"),
)


def _raising(name: str, real: Any, *allowed: str) -> Any:
    # what a test before has left behind (a thread that never returns, say) is in no simulation
    others = set(threading.enumerate()) - {threading.current_thread()}

    def reads_the_world(*arguments: Any, **options: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller in (*LOGGING, *allowed) or threading.current_thread() in others:
            return real(*arguments, **options)
        raise AssertionError(f"{name} was called by {caller}")

    return reads_the_world


class NoCalendar(datetime.datetime):
    """A calendar that does not know what day it is."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        raise AssertionError("datetime.now was called")

    @classmethod
    def utcnow(cls) -> Any:
        raise AssertionError("datetime.utcnow was called")


def _no_real_world(patch: pytest.MonkeyPatch) -> None:
    """Also for modules that have imported such a function by its name."""
    simulated.empty()  # the schema is made once in a process, outside of all simulations
    instead: dict[Any, Any] = {datetime.datetime: NoCalendar}
    for clock in CLOCKS:
        real = getattr(time, clock)
        instead[real] = _raising(f"time.{clock}", real)
        patch.setattr(time, clock, instead[real])
    patch.setattr(os, "urandom", _raising("os.urandom", os.urandom))
    patch.setattr(random, "random", _raising("random.random", random.random))
    patch.setattr(threading.Thread, "start", _raising("Thread.start", threading.Thread.start, BATONS))
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("greenroom", "thespian", "asyncio", "queue", "concurrent"):
            for attribute, value in list(vars(module).items()):
                if callable(value) and getattr(value, "__hash__", None) and value in instead:
                    patch.setattr(module, attribute, instead[value])


def story(simulation: Simulation) -> None:
    """Sleeps, time-outs, threads, faults, a crash and a power cut."""
    family = simulation.spawn(parent, "/family", input=3)
    loops = simulation.spawn(all_of_asyncio, "/loops", input=None)
    house = simulation.spawn(House, "/house", input="x")
    house.send("a letter")
    simulation.advance(0.3)
    simulation.crash()
    simulation.reopen()
    assert family.run is not None
    assert loops.run is not None
    assert house.run is not None
    simulation.wait([family.run, loops.run, house.run])
    simulation.crash(power=True)
    simulation.reopen()
    with pytest.raises(TimeoutError):
        simulation.spawn(counter, "/sleeps", input=1).run.result(timeout=0.1)  # type: ignore[union-attr]
    simulation.faults(Faults(commit_fails=0.2, read_fails=0.2))
    house.followup("z", durability="memory").outcome()
    simulation.stats()
    house.explain()
    assert list(simulation.events(since=0, follow=False))
    house.close()


@agent(name="simulated.hoarder")
async def hoarder(turn: Turn) -> int:
    """A state that production encodes aside, with short pauses for others; and many messages at once."""
    await asyncio.sleep(10)
    turn.state["hoard"] = [random.Random(turn.run_id).randbytes(2_000) for _ in range(turn.input)]
    for number in range(turn.input if turn.path == "/hoarder" else 0):
        await turn.send(turn.path, number)
    return len(turn.inbox)


@pytest.mark.parametrize("seed", range(5))
def test_no_real_sleep_thread_or_clock_is_used(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_real_world(monkeypatch)
    monkeypatch.setattr(threading.Thread, "start", _raising("Thread.start", None))
    with Simulation(seed=seed, durability="power") as simulation:
        story(simulation)
    monkeypatch.undo()
    assert simulation.now > 1_000_003_600


@pytest.mark.parametrize("seed", range(8))
def test_nor_in_the_stories_of_the_model(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of its kinds are plain functions: their threads hold the baton, and nothing else starts one."""
    _no_real_world(monkeypatch)
    simulate(seed)


def test_nor_with_large_states_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_real_world(monkeypatch)
    with Simulation(seed=2, residents=1) as simulation:
        ref = simulation.spawn(hoarder, "/hoarder")
        assert ref.followup(600).result() == 0
        assert ref.evict()
        assert ref.followup(1).result() == 600
        assert len(ref.state()["hoard"]) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_a_large_state_is_the_same_simulation_whatever_the_machine(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = []
    for cores in (1, 64):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        with Simulation(seed=seed, slots=6) as simulation:
            for number in range(6):
                simulation.spawn(hoarder, f"/hoarder/{number}", input=600)
            simulation.run_until_idle()
            traces.append(simulation.trace())
    assert traces[0] == traces[1]


def test_a_plain_function_has_a_thread_that_never_runs_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python can suspend its call stack on a thread only; no clock and no sleep all the same."""
    _no_real_world(monkeypatch)
    with Simulation(seed=3) as simulation:
        assert simulation.spawn(plain, "/plain", input=1).run is not None
        simulation.run_until_idle()
        assert simulation.agent("/plain").info().last_outcome.result == ["completed"]  # type: ignore[union-attr]


def test_hours_cost_nothing() -> None:
    begun = time.process_time()
    with Simulation(seed=1) as simulation:
        assert simulation.spawn(all_of_asyncio, "/a", input=None).run.result() is not None  # type: ignore[union-attr]
        assert simulation.spawn(counter, "/b", input=None).run.result() == 1  # type: ignore[union-attr]
        assert simulation.now - 1_000_000_000 > 3 * 3600
    assert time.process_time() - begun < 60


def test_the_check_itself_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_real_world(monkeypatch)
    for real in (time.sleep, time.time, threading.Thread(target=print).start):
        with pytest.raises(AssertionError, match="was called by"):
            real(*([0] if real is time.sleep else []))
