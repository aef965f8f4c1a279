"""What a terminal shows, and what is shown where there is none."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import Event
from greenroom.cli.progress import describe, printable

Start = Callable[..., Any]
WriteAgents = Callable[[str], Path]

WAITING = """
    @agent
    async def waiting(turn):
        worker = await turn.spawn(working, "worker")
        await (await worker.followup("hostile \\x1b[31m"))
        print("printed by the agent")
        reached("waits")
        await asyncio.to_thread(passing)
        return "the result"

    @agent
    async def working(turn):
        turn.emit("step", turn.input)
    """

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """A terminal of its own, whose screen the test reads."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.text = ""

    def read_until(self, what: str) -> str:
        """Read until the screen has shown `what`; all that it showed."""
        deadline = time.monotonic() + 60
        while what not in self.text:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{what!r} never came: {self.text}"
            self.text += os.read(self.master, 65536).decode(errors="replace")
        return self.text

    def read_rest(self) -> str:
        """Read what is left once the process has ended."""
        os.close(self.slave)
        try:
            while data := os.read(self.master, 65536):
                self.text += data.decode(errors="replace")
        except OSError:  # nobody has it open any more
            pass
        return self.text


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    os.close(terminal.master)


def attach() -> None:
    """Make stderr the terminal of the process, so that Ctrl-C there reaches it."""
    os.setsid()
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)


def test_a_terminal_shows_how_it_is_getting_on(
    terminal: Terminal, start: Start, write_agents: WriteAgents, reached: Any, passing: Any
) -> None:
    process = start(f"{write_agents(WAITING)}:waiting", stderr=terminal.slave)
    reached.line()
    terminal.read_until("run.completed")
    for shown in ("/waiting (waiting)", "known", "resident", "running", "runs/s", "evictions", "reloads"):
        terminal.read_until(shown)
    terminal.read_until("printed by the agent")
    terminal.read_until("run.progress")
    passing.open()
    ended = process.end()
    shown = terminal.read_rest()
    assert (ended.status, ended.out) == (0, "the result\n")
    assert "completed: agents: 2 known" in shown
    assert "the result" not in shown
    assert shown.count(HIDE) == shown.count(SHOW) > 0
    assert shown.rindex(HIDE) < shown.rindex(SHOW)
    assert "\x1b[31m" not in shown


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_at_a_terminal_stops_and_leaves_it_in_order(
    presses: int, terminal: Terminal, start: Start, write_agents: WriteAgents, reached: Any, passing: Any
) -> None:
    process = start(f"{write_agents(WAITING)}:waiting", stderr=terminal.slave, prepare=attach)
    reached.line()
    terminal.read_until("run.completed")
    os.write(terminal.master, b"\x03")
    terminal.read_until("Stopping")
    while presses == 2 and process.poll() is None:
        os.write(terminal.master, b"\x03")
        select.select([], [], [], 0.05)
    ended = process.end()
    shown = terminal.read_rest()
    assert (ended.status, ended.out) == (130, "")
    assert shown.rindex(HIDE) < shown.rindex(SHOW)
    assert ("goes on from here" in shown) == (presses == 1)


def test_without_a_terminal_there_are_plain_lines(
    start: Start, write_agents: WriteAgents, reached: Any, passing: Any
) -> None:
    process = start(f"{write_agents(WAITING)}:waiting")
    reached.line()
    while (line := process.stderr.readline()) and "1 running" not in line:
        pass
    assert re.search(r"agents: 2 known, 2 resident, 1 running; runs: .* 1 ended", line)
    passing.open()
    ended = process.end()
    assert ended.out == "the result\n"
    assert "\x1b" not in ended.err
    assert ended.err.startswith("completed: ")


def test_json_lines_come_while_it_works(
    start: Start, write_agents: WriteAgents, reached: Any, passing: Any
) -> None:
    process = start(f"{write_agents(WAITING)}:waiting", "--json")
    reached.line()
    assert json.loads(process.stdout.readline())["type"] == "started"
    numbers: list[Any] = []
    while not numbers or numbers[-1]["runs"]["completed"] < 1 or len(numbers) < 3:
        numbers.append(json.loads(process.stdout.readline()))
    assert {line["type"] for line in numbers} == {"progress"}
    assert (numbers[-1]["agents"], numbers[-1]["running"]) == (2, 1)
    passing.open()
    ended = process.end()
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert lines[-1]["result"] == "the result"


def test_the_survey_with_a_screen_of_its_own_is_served_as_well(start: Start) -> None:
    examples = Path(__file__).parents[2] / "examples"
    sources = Path(__file__).parents[2] / "src" / "greenroom" / "cli"
    process = start(f"{examples / 'survey.py'}:survey", "--input", sources, "--residents", 4)
    ended = process.end()
    assert ended.status == 0, ended
    modules = len(list(sources.glob("*.py")))
    assert json.loads(ended.out)["totals"]["modules"] == modules


@given(st.text())
def test_no_event_can_command_the_terminal(text: str) -> None:
    event = Event(1, 0.0, "run.progress", "/a", "run-1", {"name": text, "data": text})
    assert describe(event).isprintable()
    assert printable("plain ä") == "plain ä"
