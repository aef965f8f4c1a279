"""How far a run of the tests is, and what failed, is said as it happens: also by several processes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .progress import Progress

CONFTEST = """
import progress
import pytest

progress.EVERY = 0.05

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    progress.tell_progress(config)
"""

TESTS = """
import os, pytest

def test_good():
    pass

def test_bad():
    assert 1 == 2, "on purpose"

@pytest.fixture
def broken():
    raise OSError("no such thing")

def test_without_its_fixture(broken):
    pass

def test_long():
    with open(os.environ["GATE"]) as gate:  # until somebody who reads what is said lets it go on
        gate.read()
"""


@pytest.mark.parametrize("processes", [[], ["-n", "2"]])
def test_a_failure_is_named_and_the_share_is_told_before_the_end(
    tmp_path: Path, processes: list[str]
) -> None:
    shutil.copy(Path(__file__).with_name("progress.py"), tmp_path / "progress.py")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        *processes,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "GATE": str(gate)}
    )
    assert process.stdout is not None
    wanted = [
        r"^FAILED test_it.py::test_bad: .*on purpose",
        r"^FAILED in its setup test_it.py::test_without_its_fixture: .*no such thing",
        r"^75% \(3 of 4, 2 failed\); at: test_it.py::test_long \(\d+ s\)$",
    ]
    said = ""
    for line in process.stdout:
        said += line
        if all(re.search(pattern, said, re.MULTILINE) for pattern in wanted):
            break
    else:
        raise AssertionError(said)
    gate.write_text("go on")
    said += process.stdout.read()
    assert process.wait() == 1
    assert re.search(r"2 passed|1 failed, 2 passed, 1 error", said)


def test_a_line_says_the_share_the_failures_and_who_takes_long() -> None:
    progress = Progress(print)
    assert progress.line(0.0) == "0% (0 of 0); at: none"
    progress.total, progress.done, progress.failed = 3_000, 1_234, 2
    progress._begun = {"b": 20.0, "a": 10.0, "c": 30.0, "d": 40.0}
    assert progress.line(100.0) == "41% (1,234 of 3,000, 2 failed); at: a (90 s), b (80 s), c (70 s)"
