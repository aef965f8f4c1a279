"""What may grow with the number of known agents: the file, and nothing else."""

import json
import subprocess
import sys

import pytest

STORY = """
import asyncio, gc, json, sys
from greenroom import AsyncRuntime, agent

@agent(name="growth")
async def grows(turn):
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]

def resident_kib():
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

async def main(store, count):
    async with AsyncRuntime(store, residents=64) as runtime:
        async def one(number):
            ref = await runtime.spawn(grows, f"/growth/a{number}", input=number)
            return await ref.run

        async def some(first, last):
            for begin in range(first, last, 500):
                done = await asyncio.gather(*map(one, range(begin, min(begin + 500, last))))
                assert set(done) == {1}

        await some(0, 2_000)  # whatever is allocated once
        before = resident_kib()
        await some(2_000, count)
        stats = await runtime.stats()
        print(json.dumps([before, resident_kib(), stats.agents, stats.resident]))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
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
