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

        async def looked_at():
            while (await runtime.stats()).unwritten:
                await asyncio.sleep(0.01)
            return resident_kib()

        await some(0, FULL)
        before = await looked_at()
        await some(FULL, FULL + count)
        after, stats = await looked_at(), await runtime.stats()
        print(json.dumps([before, after, stats.agents, stats.resident]))

FULL, count = int(sys.argv[2]), int(sys.argv[3])
asyncio.run(main(sys.argv[1], count))
"""


FULL = 24_000
"""Agents after which all is full that is kept of the newest ones, their runs and events, and the file."""


def grown(store: str, count: int) -> int:
    """KiB by which the process grew with so many more agents."""
    done = subprocess.run(
        [sys.executable, "-c", STORY, store, str(FULL), str(count)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after, agents, resident = json.loads(done.stdout)
    assert (agents, resident <= 64) == (FULL + count, True)
    return after - before


@pytest.mark.slow
def test_agents_leave_no_trace_in_memory(tmp_path) -> None:
    assert grown(str(tmp_path / "agents.db"), 60_000) < 4 * 1024
