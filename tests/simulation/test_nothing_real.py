"""Inside a simulation nothing real happens: no sleep, no thread, no look at a clock, no random bytes."""

import os
import random
import sys
import threading
import time
from typing import Any

import pytest

from greenroom.persistence import simulated
from greenroom.testing import Faults, Simulation

from .stories import House, all_of_asyncio, counter, parent, plain

LOGGING = ("logging", "_pytest.logging")  # stamps its records; nothing depends on those


def _raising(name: str, real: Any) -> Any:
    def reads_the_world(*arguments: Any, **options: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller in LOGGING:
            return real(*arguments, **options)
        raise AssertionError(f"{name} was called by {caller}")

    return reads_the_world


def _no_real_world(patch: pytest.MonkeyPatch, *, threads: bool) -> None:
    simulated.empty()  # the schema is made once in a process, outside of all simulations
    for clock in ("time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "sleep"):
        patch.setattr(time, clock, _raising(f"time.{clock}", getattr(time, clock)))
    patch.setattr(os, "urandom", _raising("os.urandom", os.urandom))
    patch.setattr(random, "random", _raising("random.random", random.random))
    if not threads:
        start = threading.Thread.start
        patch.setattr(threading.Thread, "start", _raising("Thread.start", start))


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
        house.followup("y").result(timeout=0.0)
    simulation.faults(Faults(commit_fails=0.2, read_fails=0.2))
    house.followup("z", durability="memory").outcome()
    simulation.stats()
    house.explain()
    assert list(simulation.events(since=0, follow=False))
    house.close()


@pytest.mark.parametrize("seed", range(5))
def test_no_real_sleep_thread_or_clock_is_used(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_real_world(monkeypatch, threads=False)
    with Simulation(seed=seed, durability="power") as simulation:
        story(simulation)
    monkeypatch.undo()
    assert simulation.now > 1_000_003_600


def test_a_plain_function_has_a_thread_that_never_runs_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python can suspend its call stack on a thread only; no clock and no sleep all the same."""
    _no_real_world(monkeypatch, threads=True)
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
