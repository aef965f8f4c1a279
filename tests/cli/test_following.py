"""Commands as processes: `events -f` and `top` as they follow, and how commands end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom import Runtime, agent
from greenroom.cli.store_reader import StoreReader

ROOT = Path(__file__).parents[2]
DEADLINE = 600.0

KINDS = """
from greenroom import agent

@agent(name="follow-echo")
async def echo(turn):
    return turn.input
"""


WAIT = """
import asyncio
from greenroom import agent

@agent(name="follow-wait")
async def wait(turn):
    print("begun", flush=True)
    await asyncio.Event().wait()
"""


@agent(name="follow-echo")
async def echo(turn: Any) -> Any:
    return turn.input


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `greenroom …`; what a failing test leaves behind is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "greenroom", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **options.pop("env", {})}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background ignores it

        process = subprocess.Popen(command, text=True, env=environment, preexec_fn=prepare, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Runtime(tmp_path / "agents.db") as runtime:
        runtime.spawn(echo, "/t/a", input=0).run.outcome(60)  # type: ignore[union-attr]
    return tmp_path / "agents.db"


def told(process: "subprocess.Popen[str]", count: int) -> list[dict[str, Any]]:
    """The next events that it tells."""
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_a_store_is_followed_through_owners_and_ctrl_c_ends_it_with_130(start: Start, store: Path) -> None:
    following = start("events", "-f", "--since", 0, "--type", "run.completed", "--json", "--store", store)
    assert [event["path"] for event in told(following, 1)] == ["/t/a"]
    for _ in range(2):
        with Runtime(store) as runtime:
            for _ in range(2):
                runtime.agent("/t/a").followup(1).result(60)
            told(following, 2)  # while it is in use
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=DEADLINE)
    assert (following.returncode, out, err) == (130, "", "")


def test_who_reads_no_more_ends_it_quietly(start: Start, store: Path) -> None:
    for command in (("events", "-f", "--since", 0), ("top", "--every", 0.1)):
        following = start(*command, "--store", store)
        assert following.stdout is not None
        assert following.stdout.readline()
        following.stdout.close()
        with Runtime(store) as runtime:
            runtime.agent("/t/a").followup(1).result(60)
        assert following.wait(DEADLINE) == 1
        assert following.stderr is not None
        assert following.stderr.read() == ""


def serve(start: Start, store: Path, port: str = "0") -> tuple["subprocess.Popen[str]", str]:
    kinds = store.parent / "kinds.py"
    kinds.write_text(KINDS)
    server = start("serve", kinds, "--store", store, "--port", port, stderr=subprocess.DEVNULL)
    assert server.stdout is not None
    for line in server.stdout:
        if " at http" in line:
            return server, line.split(" at ")[1].split()[0]
    raise AssertionError("it does not serve")


@pytest.mark.slow
def test_events_go_on_without_a_gap_when_the_server_is_started_anew(start: Start, store: Path) -> None:
    server, url = serve(start, store)
    where = ("--server", url, "--token-file", f"{store}.token")
    following = start("events", "-f", "--type", "run.accepted", "--since", 0, "--json", *where)
    seen = told(following, 1)
    for number in range(2):
        start("followup", "/t/a", "x", "--run-id", f"r{number}", *where).wait(DEADLINE)
        seen += told(following, 1)
        server.send_signal(signal.SIGTERM)
        server.wait(DEADLINE)
        with Runtime(store) as runtime:  # meanwhile
            runtime.agent("/t/a").followup(1, run_id=f"between{number}").result(60)
        server, url = serve(start, store, url.rpartition(":")[2])
        seen += told(following, 1)
    names = [event["run_id"] for event in seen[1:]]
    assert names == ["r0", "between0", "r1", "between1"]
    following.send_signal(signal.SIGINT)
    assert following.wait(DEADLINE) == 130


@agent(name="follow-wait")
async def wait(turn: Any) -> Any: ...


def test_who_stops_waiting_for_a_run_is_told_that_it_goes_on(start: Start, store: Path) -> None:
    with Runtime(store) as runtime:
        runtime.spawn(wait, "/t/wait")
    kinds = store.parent / "kinds.py"
    kinds.write_text(WAIT)
    waiting = start("followup", "/t/wait", "--run-id", "r", "--store", store, "--kinds", kinds)
    assert waiting.stderr is not None
    while "begun" not in waiting.stderr.readline():
        pass
    waiting.send_signal(signal.SIGINT)
    said = waiting.stderr.read()
    assert waiting.wait(DEADLINE) == 130
    assert "The run r begins again" in said or "whether the run is accepted" in said
    assert "Traceback" not in said
    assert StoreReader(str(store)).run("r").status == "queued"
