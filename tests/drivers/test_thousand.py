"""A thousand process agents on few places: nothing is left of them, however the runtime ends."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from greenroom import Runtime
from greenroom.drivers import Limits, command_agent

from .conftest import alive, descendants

ANSWERS = command_agent(
    ["/bin/sh", "-c", "read x; echo $x"], name="one of a thousand", limits=Limits(processes=8)
)

MANY = """
import sys
from greenroom import Runtime
from greenroom.drivers import command_agent

quick = command_agent(["/bin/sh", "-c", "read x; echo $x"], name="quick")
stays = command_agent(["/bin/sh", "-c", "sleep 1000 & setsid sleep 1001 & wait"], name="stays")
with Runtime(sys.argv[1], slots=8, residents=32) as agents:
    for n in range(1000):
        agents.spawn(stays if n % 5 == 0 else quick, f"/t/a{n}", input=str(n))
    print("ready", flush=True)
    sys.stdin.read()
"""


def baseline() -> tuple[int, int, int]:
    """Threads, descriptors, and processes below this one, zombies included."""
    return threading.active_count(), len(os.listdir("/proc/self/fd")), len(descendants())


@pytest.mark.slow
def test_scenario_15_a_thousand_agents_that_ran_and_were_evicted_leave_nothing(
    tmp_path: Path, until: Any
) -> None:
    with Runtime(":memory:") as warm:  # what is loaded once and stays
        warm.spawn(ANSWERS, "/t/a", input="1").run.result(60)
    until(lambda: not descendants(), "a baseline")
    before = baseline()
    with Runtime(tmp_path / "agents.db", slots=8, residents=64) as agents:
        within = threading.active_count()
        most = 0
        refs = [agents.spawn(ANSWERS, f"/t/a{n}", input=str(n)) for n in range(1000)]
        pending = [ref.run for ref in refs]
        while pending:
            most = max(most, len(descendants()))
            pending = pending[len(agents.wait(pending[:50], timeout=60)) :]
        assert [ref.run.result(0) for ref in refs] == list(range(1000))
        assert most <= 1 + 8
        for ref in refs:
            ref.evict()
        assert agents.stats().resident == 0
        until(lambda: len(descendants()) == 1, "the warden alone")
        assert threading.active_count() <= within
    until(lambda: baseline() == before, f"the baseline {before}, and not {baseline()}")


@pytest.mark.slow
def test_scenario_15_nothing_is_left_of_a_runtime_that_was_killed_and_started_anew(
    tmp_path: Path, until: Any
) -> None:
    store = tmp_path / "agents.db"
    before = baseline()
    ours = f"{store}"
    owner = subprocess.Popen(
        [sys.executable, "-c", MANY, ours], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    until(lambda: len(descendants(owner.pid)) > 8, "processes at work")
    below = descendants(owner.pid)
    warden = min(below)
    for pid in (warden, owner.pid):  # both at once: neither sees the end of the other
        os.kill(pid, signal.SIGSTOP)
    for pid in (owner.pid, warden):
        os.kill(pid, signal.SIGKILL)
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()
    # the kinds are known here as well, so what was under way is begun again
    command_agent(["/bin/sh", "-c", "read x; echo $x"], name="quick")
    command_agent(["/bin/sh", "-c", "true"], name="stays", version=2)
    with Runtime(store, slots=8, residents=32) as agents:
        until(lambda: agents.stats().queued == agents.stats().running == 0, "the end of all work")
        assert {info.last_outcome.status for info in agents.list(limit=1000)} == {"completed"}
        assert agents.stats().agents == 1000
        until(lambda: not any(map(alive, below)), "the end of what was left")
    until(lambda: baseline() == before, f"the baseline {before}, and not {baseline()}")
