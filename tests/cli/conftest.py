"""Files with kinds, the command in this process, and the command as a process of its own."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner, Result

from greenroom.cli import main

ROOT = Path(__file__).parents[2]
DEADLINE = 600.0
"""Seconds after which a test gives up; nothing takes a tenth of it."""


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of the test's own for everything; imports are as before afterwards."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file into the test's folder."""

    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))
        return file

    return write


@pytest.fixture
def run() -> Callable[..., Result]:
    """`greenroom run …` in this process."""

    def run(*arguments: object, **options: Any) -> Result:
        return CliRunner().invoke(main, ["run", *map(str, arguments)], **options)

    return run


class Gate:
    """A named pipe: what agents and tests wait for each other with."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._read = b""

    def line(self) -> str:
        """The next line that an agent wrote."""
        deadline = time.monotonic() + DEADLINE
        while b"\n" not in self._read:
            ready, _, _ = select.select([self.descriptor], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no agent came here; all that was read is {self._read!r}"
            self._read += os.read(self.descriptor, 4096)
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def open(self) -> None:
        """Let an agent pass that reads a line here."""
        os.write(self.descriptor, b"pass\n")

    def close(self) -> None:
        os.close(self.descriptor)


@pytest.fixture
def reached(tmp_path: Path) -> Iterator[Gate]:
    """Where agents of a process write a line with `reached(text)`."""
    gate = Gate(tmp_path / "reached")
    yield gate
    gate.close()


@pytest.fixture
def passing(tmp_path: Path) -> Iterator[Gate]:
    """Where agents of a process wait with `passing()` for the test to open it."""
    gate = Gate(tmp_path / "passing")
    yield gate
    gate.close()


GATES = '''
import asyncio
import time
from pathlib import Path
from greenroom import agent

def reached(text):
    """Tell the test."""
    with open(Path(__file__).parent / "reached", "w") as gate:
        gate.write(f"{text}\\n")

def passing():
    """Wait for the test."""
    with open(Path(__file__).parent / "passing") as gate:
        gate.readline()
'''


@pytest.fixture
def write_agents(tmp_path: Path) -> Callable[[str], Path]:
    """Write `agents.py`, whose kinds can meet the test at its gates."""

    def write_agents(text: str) -> Path:
        file = tmp_path / "agents.py"
        file.write_text(GATES + dedent(text))
        return file

    return write_agents


class Process(subprocess.Popen[str]):
    """`greenroom run …` as a process of its own, that a Ctrl-C reaches."""

    def __init__(self, *arguments: object, **options: Any) -> None:
        command = [sys.executable, "-m", "greenroom", "run", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self.prepare = options.pop("prepare", lambda: None)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        super().__init__(command, text=True, env=environment, preexec_fn=self._prepare, **options)

    def _prepare(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background ignores it
        self.prepare()

    def end(self) -> "Ended":
        """Wait for its end."""
        out, err = self.communicate(timeout=DEADLINE)
        return Ended(self.returncode, out or "", err or "")


class Ended:
    """How a process ended, and what it said."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    def __repr__(self) -> str:
        return f"<status {self.status}\nout: {self.out}\nerr: {self.err}>"


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start processes; those that a failing test leaves behind are killed."""
    started: list[Process] = []

    def start(*arguments: object, **options: Any) -> Process:
        started.append(Process(*arguments, **options))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
