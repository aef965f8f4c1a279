"""What the trials and the reading of the code for them found, each by itself."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom import Runtime, Turn, agent

from .trial import SOURCES

PATIENCE = 600.0
"""Seconds after which a wait has failed."""


class Stage(threading.Event):
    """Where a turn says that it is, and waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    async def reach(self) -> None:
        self.set()
        await asyncio.to_thread(self.go_on.wait, PATIENCE)

    def reached(self) -> None:
        assert self.wait(PATIENCE), "no turn came here"


stages: dict[str, Stage] = {}


@pytest.fixture(autouse=True)
def _stages() -> Iterator[None]:
    stages.update({name: Stage() for name in ("first", "second", "third")})
    yield
    for stage in stages.values():
        stage.go_on.set()


def killed(program: str, *arguments: object) -> list[str]:
    """What a program says until it kills itself, or ends."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(SOURCES)},
    )
    assert done.returncode in (0, -9), done.stderr
    return done.stdout.splitlines()


STUBBORN = """
import os, signal, sys, threading
from greenroom import Runtime, agent

@agent(name="found-stubborn", attempts=10)
def stubborn(turn):
    print("begun", flush=True)
    there.set()
    if turn.attempt == 1:
        threading.Event().wait()

there = threading.Event()
with Runtime(sys.argv[1]) as runtime:
    if not runtime.list():
        ref = runtime.spawn(stubborn, "/found/a", input=1, run_id="run")
        there.wait(600)
        print("interrupted", ref.interrupt("run"), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    print(runtime.run("run").outcome(timeout=600).status)
"""


def test_a_run_whose_interrupt_was_acknowledged_is_not_begun_again_after_a_death(tmp_path: Path) -> None:
    assert killed(STUBBORN, tmp_path / "store.db") == ["begun", "interrupted True"]
    assert killed(STUBBORN, tmp_path / "store.db") == ["interrupted"]


UNKNOWN = """
import asyncio, os, signal, sys
from greenroom import Runtime, agent

@agent(name="found-cut", attempts=1)
async def cut(turn):
    asyncio.get_running_loop().call_soon(print, "begun")
    await asyncio.Event().wait()

if sys.argv[2] == "first":
    @agent(name="found-continues")
    async def continues(turn):
        if not turn.results:
            await turn.after("cut", input="on")

with Runtime(sys.argv[1]) as runtime:
    if sys.argv[2] == "first":
        cut_off = runtime.spawn(cut, "/found/cut", input=1, run_id="cut").run
        runtime.spawn(continues, "/found/fan", input=1).run.result(timeout=600)
        while cut_off.status != "running":
            pass
        runtime.agent("/found/fan").send("answered when all before it is on disk")
        os.kill(os.getpid(), signal.SIGKILL)
    print(runtime.run("cut").outcome(timeout=600).status)
    fan = runtime.agent("/found/fan")
    print(fan.info().queued_runs, fan.explain().waits_for, fan.info().error)
"""


def test_a_continuation_whose_kind_is_not_registered_waits_also_if_recovery_frees_it(
    tmp_path: Path,
) -> None:
    killed(UNKNOWN, tmp_path / "store.db", "first")
    assert killed(UNKNOWN, tmp_path / "store.db", "second") == ["failed", "1 kind None"]


@agent(name="found-child")
async def child(turn: Turn) -> int:
    turn.state["runs"] = turn.state.get("runs", 0) + 1
    return int(turn.state["runs"])


@agent(name="found-parent")
async def parent(turn: Turn) -> Any:
    if stages["first"].is_set():
        await stages["second"].reach()
    run = await (await turn.spawn(child, "c")).followup("x")
    (outcome,) = await turn.wait(run)
    if not stages["first"].is_set():
        await stages["first"].reach()
    return [run.run_id, outcome.result]


def test_a_turn_begun_again_finds_its_child_and_run_also_if_the_child_was_closed(tmp_path: Path) -> None:
    first = Runtime(tmp_path / "store.db").start()
    first.spawn(parent, "/found/p", input=1, run_id="run")
    stages["first"].reached()
    first.close(drain=0)
    with Runtime(tmp_path / "store.db") as second:
        stages["second"].reached()
        second.agent("/found/p/c").close()
        stages["second"].go_on.set()
        outcome = second.run("run").outcome(timeout=PATIENCE)
        assert (outcome.status, outcome.error) == ("completed", None)
        assert outcome.result[1] == 1
        assert second.list("/found/p/c") == []
        assert len(second.list("/found/p/c", status="closed")) == 1


@agent(name="found-spawner")
async def spawner(turn: Turn) -> None:
    number = 0
    while True:
        stages["first"].set()
        number += 1
        await turn.spawn(child, f"c{number}")


def test_a_turn_whose_agent_is_closed_leaves_no_child_behind(tmp_path: Path) -> None:
    with Runtime(tmp_path / "store.db") as runtime:
        for number in range(10):
            stages["first"].clear()
            ref = runtime.spawn(spawner, f"/found{number}/p", input=1)
            stages["first"].reached()
            ref.close()
        runtime.spawn(child, "/last", input=1).run.result(timeout=PATIENCE)
        assert [info.path for info in runtime.list()] == ["/last"]


@agent(name="found-checkpoints")
async def checkpoints(turn: Turn) -> list[str]:
    turn.state.setdefault("marks", []).append(turn.input)
    if turn.input == "checkpoint":
        for _ in range(300):  # one commit that takes a while
            await turn.send("box", b"x" * 50_000)
        stages["first"].set()
        await turn.checkpoint()
        await asyncio.Event().wait()
    return list(turn.state["marks"])


def test_a_checkpoint_that_is_interrupted_is_forgotten_by_nobody(tmp_path: Path) -> None:
    with Runtime(tmp_path / "store.db") as runtime:
        runtime.spawn(child, "/found/c/box")
        ref = runtime.spawn(checkpoints, "/found/c", input="checkpoint")
        stages["first"].reached()
        assert ref.interrupt()
        assert ref.run is not None
        assert ref.run.outcome(timeout=PATIENCE).status == "interrupted"
        sent = runtime.agent("/found/c/box").info().inbox
        marks = ["checkpoint"] if sent else []
        assert ref.state().get("marks", []) == marks
        assert ref.followup("next").result(timeout=PATIENCE) == [*marks, "next"]


@agent(name="found-sends")
async def sends(turn: Turn) -> None:
    await turn.send("/found/b", "late")
    await stages["first"].reach()


def test_a_message_to_an_agent_deleted_meanwhile_leaves_no_row(tmp_path: Path) -> None:
    with Runtime(tmp_path / "store.db") as runtime:
        runtime.spawn(child, "/found/b")
        run = runtime.spawn(sends, "/found/a", input=1).run
        stages["first"].reached()
        runtime.agent("/found/b").delete()
        stages["first"].go_on.set()
        assert run.outcome(timeout=PATIENCE).status == "completed"
    with sqlite3.connect(tmp_path / "store.db") as database:
        assert database.execute("SELECT count(*) FROM inbox").fetchall() == [(0,)]
    database.close()
