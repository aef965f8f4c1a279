"""G15 with real processes: code that ends its process, wherever it stands, fails its own run alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from .trial import SOURCES

ATTEMPTS = 2

PROGRAM = """
import asyncio, os, sys
from greenroom import Runtime, agent

store, where = sys.argv[1:]

class Fatal:
    def __init__(self, how): self.how = how
    def __getstate__(self): return os._exit(9) if self.how == "getstate" else {"how": self.how}
    def __setstate__(self, state): os._exit(9)

def first_state():
    return os._exit(9) if where == "state" else {}

@agent(name="poison-opens", attempts=2)
class Opens:
    async def open(self, info): os._exit(9)
    async def run(self, turn): pass

@agent(name="poison-plain", attempts=2)
def plain(turn): os._exit(9)

@agent(name="poison-keeps", attempts=2, state=first_state)
async def keeps(turn):
    if turn.input == "fill": turn.state["fatal"] = Fatal("setstate")
    if turn.input == "getstate": turn.state["fatal"] = Fatal("getstate")

@agent(name="poison-innocent", attempts=2)
async def innocent(turn):
    await asyncio.sleep(0.1)
    return turn.attempt

kinds = {"open": Opens, "plain": plain, "getstate": keeps, "setstate": keeps, "state": keeps}
with Runtime(store) as runtime:
    if not runtime.list():
        for n in range(3):
            runtime.spawn(innocent, f"/i/{n}", input=n, run_id=f"i{n}")
    if where == "setstate":
        runtime.spawn(keeps, "/p/a", input="fill", run_id="fill").run.result(timeout=60)
        runtime.agent("/p/a").evict()
        runtime.agent("/p/a").followup(where, run_id="poison")
    else:
        runtime.spawn(kinds[where], "/p/a", input=where, run_id="poison")
    outcome = runtime.run("poison").outcome(timeout=60)
    print(outcome.error_type, runtime.run("poison").info().crashes, outcome.attempt, outcome.error)
    for n in range(3):
        print(runtime.run(f"i{n}").outcome(timeout=60).status)
"""


@pytest.mark.parametrize("where", ["open", "plain", "getstate", "setstate", "state"])
def test_g15_code_that_ends_the_process_fails_its_own_run_alone(tmp_path: Path, where: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "store.db"), where]
    lives = []
    while not lives or lives[-1].returncode == 9:
        life = subprocess.run(
            command, capture_output=True, text=True, timeout=600, env={"PYTHONPATH": str(SOURCES)}
        )
        lives.append(life)
        assert len(lives) <= 3 + ATTEMPTS + 4, "G15: it goes on dying"
    assert lives[-1].returncode == 0, lives[-1].stderr
    first, *others = lives[-1].stdout.strip().splitlines()[-4:]
    error_type, crashes, attempt, error = first.split(" ", 3)
    assert (error_type, int(crashes)) == ("Crashed", ATTEMPTS)
    assert others == ["completed"] * 3, "G15"
    outside = where in ("open", "setstate", "state")
    assert (int(attempt) == 0) == outside
    assert ("opening its agent's session ended the process 2 times" in error) == outside
