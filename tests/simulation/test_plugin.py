"""The pytest plugin, as somebody's tests use it."""

import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src"

TESTS = """
import asyncio
import pytest
from greenroom import agent

@agent
async def tally(turn):
    count = turn.state.get("n", 0)
    await asyncio.sleep(1)
    turn.state["n"] = count + 1

def test_counts(simulation):
    ref = simulation.spawn(tally, "/a")
    ref.followup(1)
    ref.followup(2)
    simulation.run_until_idle()
    assert ref.state() == {"n": 2}

@pytest.mark.greenroom(seeds=3, slots=1)
def test_slots(simulation):
    assert simulation.stats().slots == 1

@pytest.mark.greenroom(seeds=4)
def test_fails(simulation):
    simulation.spawn(tally, "/b", input=1)
    assert simulation.seed != 2
"""


def pytest_of(folder: Path, *options: str) -> str:
    (folder / "test_mine.py").write_text(TESTS)
    plugin = [
        "-p",
        "no:greenroom",
        "-p",
        "greenroom.testing.plugin",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-c",
        "/dev/null",
        *plugin,
        *options,
        str(folder),
    ]
    environment = {"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False).stdout


def test_each_test_runs_with_several_seeds_and_a_failure_says_how_to_repeat_it(tmp_path: Path) -> None:
    output = pytest_of(tmp_path, "--greenroom-seeds=5")
    assert "1 failed, 14 passed" in output
    assert "--greenroom-seed=2" in output
    assert "test_mine.py::test_fails'" in output
    assert "directory < SpawnAgent /b" in output


def test_without_options_a_marker_says_how_many(tmp_path: Path) -> None:
    output = pytest_of(tmp_path)
    assert "1 failed, 26 passed" in output  # 20, 3 and 4


def test_one_seed_can_be_repeated(tmp_path: Path) -> None:
    output = pytest_of(tmp_path, "--greenroom-seed=2", "-k", "test_fails")
    assert "1 failed, 2 deselected" in output
