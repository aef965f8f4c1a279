"""Programs under `AsyncRuntime`, in a simulation, and in what the manual shows."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from greenroom import AsyncRuntime, RunFailed, Turn, agent
from greenroom.drivers import Limits, command_agent
from greenroom.testing import Simulation

from .conftest import DEADLINE, alive, descendants

SHOWN = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
MANUAL = (Path(__file__).parents[2] / "docs/processes.md").read_text()

ECHO = command_agent(
    ["/bin/sh", "-c", "read x; echo $x"], name="echo elsewhere", limits=Limits(processes=2)
)
SLEEP = command_agent(["/bin/sh", "-c", "echo $$; echo; echo go; exec sleep 1000"], name="sleep elsewhere")


@agent(name="chief of programs")
async def chief(turn: Turn) -> Any:
    """Programs are agents of its tree, as all others."""
    runs = [await (await turn.spawn(ECHO, f"p{n}")).followup(str(n)) for n in range(turn.input)]
    return sum(outcome.result for outcome in await turn.wait(*runs))


def test_programs_run_on_the_callers_loop_and_leave_nothing(tmp_path: Path) -> None:
    async def main() -> list[int]:
        async with AsyncRuntime(tmp_path / "agents.db", slots=1) as runtime:
            ref = await runtime.spawn(chief, "/t/chief", input=6)
            assert await ref.run.result(DEADLINE) == 15
            sleeper = await runtime.spawn(SLEEP, "/t/sleeper", input="x")
            async for event in runtime.events("/t/sleeper", since=0):
                if event.type == "run.progress":
                    break
            below = descendants()
            assert len(below) >= 2
            await sleeper.run.interrupt()
            assert (await sleeper.run.outcome(DEADLINE)).status == "interrupted"
            return below

    before = descendants()
    below = asyncio.run(main())
    assert not any(map(alive, set(below) - set(before)))
    assert descendants() == before


def test_a_simulation_starts_no_programs() -> None:
    with Simulation(seed=1) as runtime:
        run = runtime.spawn(ECHO, "/t/a", input="1").run
        with pytest.raises(RunFailed, match="a simulation starts no programs"):
            run.result()


@pytest.mark.parametrize(("code", "output"), [(m[1], m[2]) for m in SHOWN.finditer(MANUAL)])
def test_what_the_manual_shows_runs(code: str, output: str | None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == output
