"""The same seed is the same simulation, everywhere; a schedule is what a seed chose."""

import os
import subprocess
import sys
from pathlib import Path

from greenroom.testing import Simulation

from .driver import tell
from .stories import FAULTS, KINDS, everything, everything_goes_wrong

TESTS = Path(__file__).parents[1]

IN_ANOTHER_PROCESS = """
import hashlib, logging, sys
logging.disable(logging.CRITICAL)
sys.path.insert(0, sys.argv[1])
from simulation.test_repeating import trace_of
for seed in map(int, sys.argv[2:]):
    print(hashlib.sha256(trace_of(seed).encode()).hexdigest())
"""


def trace_of(seed: int) -> str:
    """Two stories with this seed, one of them with faults, and one of the model's; all that happened."""
    traces = []
    with Simulation(seed=seed, slots=2, residents=3, kinds=KINDS) as simulation:
        everything(simulation)
        traces.append(simulation.trace())
    with Simulation(seed=seed, slots=2, residents=3, kinds=KINDS) as simulation:
        simulation.faults(FAULTS)
        traces += everything_goes_wrong(simulation)
        traces.append(simulation.trace())
    traces.append(tell(seed).trace())
    return "\n".join(traces)


def test_the_same_seed_is_the_same_trace_in_every_process(tmp_path: Path) -> None:
    """All of them other ones than this, where the modules have other names, and pickles with them."""
    told = []
    for hash_seed in ("0", "1", "4711", "random"):
        folder = tmp_path / hash_seed
        folder.mkdir()
        command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(TESTS), "1", "2", "3"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment, cwd=folder
        )
        told.append(done.stdout.split())
    assert len(set(told[0])) == 3
    assert told == [told[0]] * 4


def test_a_trace_names_nothing_by_its_place_in_memory() -> None:
    assert " at 0x" not in trace_of(1)


def test_the_schedule_of_a_seed_repeats_it() -> None:
    with Simulation(seed=7, slots=2, residents=3) as seeded:
        everything(seeded)
        trace, schedule = seeded.trace(), seeded.schedule
    assert schedule
    with Simulation(schedule=schedule, slots=2, residents=3) as scheduled:
        everything(scheduled)
        assert scheduled.trace() == trace


def test_without_any_choice_everything_comes_in_its_natural_order() -> None:
    with Simulation(schedule={}) as simulation:
        everything(simulation)
        assert simulation.schedule == {}
