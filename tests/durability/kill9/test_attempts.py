"""What a run that ends its process again and again costs: two beginnings, and its attempts."""

import subprocess
import sys
from pathlib import Path

import pytest

from .trial import SOURCES

PROGRAM = """
import asyncio, os, signal, sys, threading
from greenroom import Runtime, agent

store, attempts = sys.argv[1], int(sys.argv[3])
begun = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
gate = threading.Event()

@agent(name="kill-itself", attempts=attempts)
async def itself(turn):
    os.write(begun, b"begun\\n")
    os.kill(os.getpid(), signal.SIGKILL)

@agent(name="kill-guard", attempts=10)
async def guard(turn):
    await asyncio.to_thread(gate.wait, 20)
    for _ in range(300):  # one commit, with which the writer is busy when the next run begins
        await turn.send("/kill/itself", b"x" * 50_000)

with Runtime(store, slots=1) as runtime:
    if not runtime.list():
        runtime.spawn(itself, "/kill/itself")
        runtime.spawn(guard, "/kill/guard", input=1)
        runtime.agent("/kill/itself").followup(1, run_id="itself")
        print("acknowledged", flush=True)
    gate.set()
    outcome = runtime.run("itself").outcome(timeout=600)
    started = [event.data for event in runtime.events(follow=False) if event.run_id == "itself"]
    print(outcome.status, outcome.attempt, len(started), outcome.error)
"""


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_run_that_kills_its_process_begins_as_often_as_its_kind_allows(
    tmp_path: Path, attempts: int
) -> None:
    """However soon: the count of its attempts must be on disk before its code can end the process."""
    begun = tmp_path / "begun"
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "store.db"), str(begun), str(attempts)]
    surroundings = {"PYTHONPATH": str(SOURCES)}
    lives = []
    while not lives or lives[-1].returncode == -9:
        life = subprocess.run(command, capture_output=True, text=True, timeout=600, env=surroundings)
        lives.append(life)
        assert len(lives) < 10
    # two crashes make it a suspect, and the next ones are its own; or it may begin but once
    times = 1 if attempts == 1 else 2 + attempts
    assert begun.read_text().count("begun") == times
    assert len(lives) == times + 1
    assert lives[0].stdout.startswith("acknowledged")
    assert lives[-1].returncode == 0, lives[-1].stderr
    status, attempt, events, error = lives[-1].stdout.strip().split(" ", 3)
    assert (status, int(attempt)) == ("failed", times)
    assert int(events) == times + 2, "accepted, so many beginnings, failed"
    assert "attempts" in error
