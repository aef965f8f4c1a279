"""How many schedules a second does a simulation explore, on one core?

Two stories: a small one (an agent, three runs, no faults) and one of the whole model's (15 random calls,
with crashes, faults and all checks; see `tests/simulation`). Seeds from 0 on, after a warm-up. Times are
those of this process's CPU, so that neighbours do not count.

    python benchmarks/bench_simulation.py --seconds 10 --json
"""

import argparse
import asyncio
import importlib.util
import json
import logging
import resource
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from greenroom import Turn, agent
from greenroom.testing import Simulation

TESTS = Path(__file__).parents[1] / "tests"


@agent(name="bench.counter")
async def counter(turn: Turn) -> int:
    """Counts, and sleeps for a virtual second."""
    turn.state["count"] = turn.state.get("count", 0) + 1
    await asyncio.sleep(1)
    return int(turn.state["count"])


def small(seed: int) -> int:
    """An agent and three runs; the steps that it took."""
    with Simulation(seed=seed) as simulation:
        ref = simulation.spawn(counter, "/bench/counter")
        runs = [ref.followup(number) for number in range(3)]
        assert [run.result() for run in runs] == [1, 2, 3]
    return simulation.loop.steps


def model() -> Callable[[int], int]:
    """The story of the tests' driver, which is no package."""
    package = types.ModuleType("simulation")
    package.__path__ = [str(TESTS / "simulation")]
    sys.modules.setdefault("simulation", package)
    spec = importlib.util.spec_from_file_location("simulation.driver", TESTS / "simulation/driver.py")
    assert spec is not None
    assert spec.loader is not None
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)

    def story(seed: int) -> int:
        return int(driver.tell(seed).loop.steps)

    return story


def measure(story: Callable[[int], int], seconds: float) -> dict[str, Any]:
    """Tell the story of seed after seed for that long."""
    for seed in range(5):
        story(seed)
    took: list[float] = []
    steps = 0
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        first = time.process_time()
        steps += story(len(took))
        took.append(time.process_time() - first)
    total = sum(took)
    return {
        "schedules": len(took),
        "per_second": round(len(took) / total, 1),
        "steps_per_second": round(steps / total),
        "median_ms": round(statistics.median(took) * 1e3, 2),
        "p99_ms": round(sorted(took)[int(len(took) * 0.99)] * 1e3, 2),
    }


def main() -> None:
    """Measure both and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of CPU, for each story")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    results = {"small": measure(small, options.seconds), "model": measure(model(), options.seconds)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if options.json:
        print(json.dumps({**results, "peak_mib": peak}))
        return
    for name, result in results.items():
        told = ", ".join(f"{key} {value}" for key, value in result.items())
        print(f"{name:6} {told}")
    print(f"peak memory {peak} MiB")


if __name__ == "__main__":
    main()
