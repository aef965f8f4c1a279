"""The file under steady load: it comes to a size and stays there, and nothing is lost that is needed."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom import AgentNotFound, Retention, Run, RunNotFound, Runtime, Turn, agent
from greenroom.actors.storage import writer as actor_module
from greenroom.persistence import store as store_module

DEADLINE = 600.0
AGENTS = 20
FOR_EVER = Retention(run_age=None, runs=None, event_age=None, events=None, closed_age=None, closed=None)
NOTHING = Retention(runs=0, events=0, closed=0, least_age=0.0)

starts: list[str] = []
"""Run ids, each time a turn begins."""


@agent(name="space-worker")
async def worker(turn: Turn) -> int:
    starts.append(turn.run_id)
    turn.state["sum"] = turn.state.get("sum", 0) + turn.input["n"]
    return int(turn.input["n"])


@agent(name="space-parent")
async def parent(turn: Turn) -> list[int]:
    """Give a child ten runs and wait for them; the first time, then stay until the turn is cut off."""
    starts.append(turn.run_id)
    child = await turn.spawn(worker, "child")
    runs = [await child.followup({"n": n}) for n in range(10)]
    outcomes = await turn.wait(*runs)
    turn.emit("waiting")
    if starts.count(turn.run_id) == 1:
        async with turn.paused():
            await asyncio.Event().wait()
    return [outcome.result for outcome in outcomes]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at what may go after every batch, and copy the log often."""
    monkeypatch.setattr(actor_module, "PRUNE_AFTER", 1)
    monkeypatch.setattr(store_module, "CHECKPOINT_AFTER", 200)


def until(true: Callable[[], bool]) -> None:
    """Ask again until it holds; each question is a call that gives others their turn."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline


def load(path: Path, turns: int, retention: Retention) -> tuple[int, int]:
    """So many turns in one life of a runtime; bytes of the file at its end, and of its log at most."""
    log = 0
    with Runtime(path, slots=AGENTS, retention=retention) as runtime:
        refs = []
        for number in range(AGENTS):
            try:
                refs.append(runtime.agent(f"/load/a{number}"))
            except AgentNotFound:
                refs.append(runtime.spawn(worker, f"/load/a{number}"))
        for _ in range(turns // AGENTS):
            runtime.wait([ref.followup({"n": 1, "filling": "x" * 500}) for ref in refs])
            log = max(log, os.path.getsize(f"{path}-wal"))
    return path.stat().st_size, log


@pytest.mark.usefixtures("eager")
def test_under_steady_load_the_file_comes_to_a_size_and_the_log_is_bounded(tmp_path: Path) -> None:
    small = Retention(runs=200, events=600, least_age=0.0)
    kept, pruned = tmp_path / "kept.db", tmp_path / "pruned.db"
    turns = 600
    sizes, logs = zip(*(load(pruned, turns, small) for _ in range(3)), strict=True)
    grown = [load(kept, turns, FOR_EVER)[0] for _ in range(2)]
    assert sizes[2] < 1.15 * sizes[1], sizes
    assert grown[1] > 1.5 * grown[0], grown  # what it would be else
    assert max(logs) < 8 << 20, logs


@pytest.mark.usefixtures("eager")
def test_what_an_agent_came_to_stays_readable(tmp_path: Path) -> None:
    with Runtime(tmp_path / "agents.db", retention=NOTHING) as runtime:
        ref = runtime.spawn(worker, "/space/a")
        runs = [ended(ref.followup({"n": n}, run_id=f"mine-{n}")) for n in range(5)]
        until(lambda: gone(runtime, "mine-3"))
        assert runtime.run("mine-4").result(timeout=DEADLINE) == 4
        last = ref.info().last_outcome
        assert last is not None
        assert (last.run_id, last.result, ref.state()) == ("mine-4", 4, {"sum": 10})
        assert [run.result() for run in runs] == [0, 1, 2, 3, 4]  # who has seen the end has it
        again = ref.followup({"n": 7}, run_id="mine-3")  # forgotten, and so another run
        assert again.result(timeout=DEADLINE) == 7
        assert ref.followup({"n": 7}, run_id="mine-3").result(timeout=DEADLINE) == 7


def ended(run: Run) -> Run:
    """The run, at its end: with no least age, one has to ask while it is its agent's last."""
    run.outcome(timeout=DEADLINE)
    return run


def gone(runtime: Runtime, run_id: str) -> bool:
    try:
        runtime.run(run_id)
    except RunNotFound:
        return True
    return False


@pytest.mark.usefixtures("eager")
def test_closed_agents_are_listed_for_their_time_and_then_gone(tmp_path: Path) -> None:
    path = tmp_path / "agents.db"
    with Runtime(path, retention=Retention(closed=2, least_age=0.0)) as runtime:
        for number in range(5):
            ref = runtime.spawn(worker, f"/space/a{number}", input={"n": 1})
            assert ref.run is not None
            ref.run.result(timeout=DEADLINE)
            ref.close()
        until(lambda: len(runtime.list(status="closed")) == 2)
        assert [info.path for info in runtime.list(status="closed")] == ["/space/a3", "/space/a4"]
        assert runtime.agent("/space/a4").info().status == "closed"
        with pytest.raises(AgentNotFound):
            runtime.agent("/space/a0").info()
        runtime.spawn(worker, "/space/a0")  # the path is free, as it was before


@pytest.mark.usefixtures("eager")
def test_events_begin_with_the_oldest_that_is_kept_and_no_number_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "agents.db"
    numbers: list[int] = []
    for _ in range(3):
        with Runtime(path, retention=Retention(events=10, least_age=0.0)) as runtime:
            new = [event.seq for event in runtime.events(since=max(numbers, default=0), follow=False)]
            try:
                ref = runtime.agent("/space/a")
            except AgentNotFound:
                ref = runtime.spawn(worker, "/space/a")
            runtime.wait([ref.followup({"n": n}) for n in range(20)])
            assert not set(new) & set(numbers)
            numbers += new
    with Runtime(path, retention=FOR_EVER) as runtime:
        kept = [event.seq for event in runtime.events(since=0, follow=False)]
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert kept[0] > 100
    assert min(kept[-1] - kept[0], 10) == 10 or len(kept) >= 10


@pytest.mark.usefixtures("eager")
def test_a_turn_that_begins_again_finds_the_runs_that_it_started(tmp_path: Path) -> None:
    """Nine of its ten runs are no longer the child's last outcome when others' load would have them go."""
    path = tmp_path / "agents.db"
    starts.clear()
    with Runtime(path, retention=NOTHING) as runtime:
        run = runtime.spawn(parent, "/space/p", input=None).run
        assert run is not None
        events: Iterator[Any] = runtime.events("/space/p", since=0)
        assert any(event.type == "run.progress" for event in events)
        crowd(runtime)
        runtime.close(drain=0.0)
    with Runtime(path, retention=NOTHING) as runtime:
        crowd(runtime)
        assert runtime.run(run.run_id).result(timeout=DEADLINE) == list(range(10))
        assert [run_id for run_id in starts if starts.count(run_id) > 1] == [run.run_id] * 2
        crowd(runtime)  # the turn has ended: now they go
        until(lambda: len(held(path)) == 0)


def crowd(runtime: Runtime) -> None:
    """Runs that are there to be pruned."""
    ref = runtime.spawn(worker, f"/space/crowd{time.monotonic_ns()}")
    for _ in range(30):
        ended(ref.followup({"n": 1}))


def held(path: Path) -> list[Any]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        query = "SELECT serial FROM superseded"
        return connection.execute(query).fetchall()
    finally:
        connection.close()
