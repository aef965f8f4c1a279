"""A failure prints the command that repeats it, and the command does: the same failure, the same trace."""

import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from greenroom.testing import Simulation, explore

ROOT = Path(__file__).parents[2]
REPEAT = re.compile(r"To repeat it: (.*)")

SCRIPT = """
import asyncio
from greenroom import Turn, agent
from greenroom.testing import explore

balance = {}

@agent(name="bank.teller")
async def teller(turn: Turn):
    before = balance["/account"]
    await asyncio.sleep(0.002)
    balance["/account"] = before + turn.input

def two_payments(simulation):
    balance["/account"] = 0
    for name in ("/bank/a", "/bank/b"):
        simulation.spawn(teller, name, input=10)
    simulation.run_until_idle()
    assert balance["/account"] == 20, "a payment is lost"

def test_payments():
    explore(two_payments, seeds=200, slots=2)

def test_with_the_fixture(simulation):
    two_payments(simulation)

if __name__ == "__main__":
    test_payments()
"""

DRAWN = """
from greenroom import agent
from greenroom.testing import Simulation, faults, schedules, simulations
from hypothesis import given, settings

@agent(name="drawn.one")
async def one(turn):
    turn.state["n"] = turn.state.get("n", 0) + 1

@settings(max_examples=10, deadline=None)
@given(schedules(), faults("commit_fails", "read_fails"))
def test_drawn(schedule, drawn):
    with Simulation(schedule=schedule, faults=drawn) as simulation:
        simulation.run_until_idle()

@settings(max_examples=10, deadline=None)
@given(simulations(slots=1))
def test_drawn_whole(simulation):
    with simulation:
        assert simulation.spawn(one, "/one", input=None).run.outcome().status == "completed"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's new project, in whose environment greenroom is installed: found by its entry point."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "test_bank.py").write_text(SCRIPT)
    (folder / "test_drawn.py").write_text(DRAWN)
    declared = ConfigParser()
    declared.read(ROOT / "setup.cfg")
    installed = tmp_path / "installed" / "greenroom-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: greenroom\nVersion: 0\n")
    points = declared["options.entry_points"]["pytest11"]
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{points.strip()}\n")
    return folder


def shell(command: str, project: Path, *, code: int = 1) -> str:
    """What the command prints in a shell of the project; it ends with this code."""
    binaries = Path(sys.executable).parent
    path = os.pathsep.join([str(project.parent / "installed"), str(ROOT / "src")])
    environment = {"PATH": f"{binaries}:/usr/bin:/bin", "PYTHONPATH": path, "HOME": str(project)}
    done = subprocess.run(
        command, shell=True, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def trace_of(output: str) -> list[str]:
    """The first trace there: forty numbered lines."""
    lines = output.partition("To repeat it:")[2].splitlines()
    return [told[0] for line in lines if (told := re.search(r"\d+ +\d+\.\d{6} .*", line))][:40]


@pytest.mark.parametrize(
    "command",
    [
        "python test_bank.py",
        "pytest -p no:cacheprovider -k test_payments",
        "pytest -p no:cacheprovider -k test_with_the_fixture",
    ],
    ids=["script", "explore in a test", "fixture"],
)
def test_the_printed_command_repeats_the_failure(command: str, project: Path) -> None:
    first = shell(command, project)
    again = REPEAT.search(first)
    assert again is not None, first
    assert re.search(r"GREENROOM_SEED=\d+ |--greenroom-seed=\d+", again[1])
    second = shell(again[1], project)
    assert "a payment is lost" in second
    assert len(trace_of(first)) == 40
    assert trace_of(second) == trace_of(first)


def test_a_new_project_draws_its_schedules_and_faults_with_hypothesis(project: Path) -> None:
    assert "2 passed" in shell("pytest -q -p no:cacheprovider test_drawn.py", project, code=0)


@pytest.mark.slow
def test_the_models_command_repeats_what_it_found() -> None:
    """Two processes look for a mistake; the command for the first one that shows it shows it again."""
    explore_all = f"{sys.executable} -m tests.simulation.driver --mistake one_slot_too_many --count 40"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}

    def run(command: str) -> str:
        done = subprocess.run(
            command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stdout + done.stderr

    first = run(f"{explore_all} --processes 2")
    again = REPEAT.search(first)
    assert again is not None, first
    second = run(again[1].replace("python", sys.executable, 1))
    assert len(trace_of(first)) == 40
    assert trace_of(second) == trace_of(first)
    assert "G1: " in second


def test_a_seed_in_the_environment_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def note(simulation: Simulation) -> None:
        seeds.append(simulation.seed)

    monkeypatch.setenv("GREENROOM_SEED", "17")
    assert explore(note, seeds=100) == 1
    assert seeds == [17]
    monkeypatch.setenv("GREENROOM_SEED", "seventeen")
    with pytest.raises(ValueError, match="is no seed"):
        explore(note)
