"""What may grow with the number of known agents: the file, and nothing else."""

import json
import subprocess
import sys

import pytest

STORY = """
import gc, json, sys
from greenroom import Runtime, agent

@agent(name="growth")
async def grows(turn):
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]

def resident_kib():
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

count = int(sys.argv[2])
with Runtime(sys.argv[1], residents=64) as runtime:
    def some(first, last):
        runs = []
        for number in range(first, last):
            runs.append(runtime.spawn(grows, f"/growth/a{number}", input=number).run)
            if len(runs) == 500:
                runtime.wait(runs)
                runs.clear()
        runtime.wait(runs)
    some(0, 2_000)  # whatever is allocated once
    before = resident_kib()
    some(2_000, count)
    stats = runtime.stats()
    print(json.dumps([before, resident_kib(), stats.agents, stats.resident]))
"""


def grown(store: str, count: int) -> int:
    """KiB by which the process grew."""
    done = subprocess.run(
        [sys.executable, "-c", STORY, store, str(count)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after, agents, resident = json.loads(done.stdout)
    assert (agents, resident <= 64) == (count, True)
    return after - before


def test_ten_thousand_agents_leave_no_trace_in_memory(tmp_path) -> None:
    assert grown(str(tmp_path / "agents.db"), 12_000) < 30 * 1024


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_agents_take_less_than_60_mb(tmp_path) -> None:
    assert grown(str(tmp_path / "agents.db"), 100_000) < 60 * 1024
