"""A disk that is slow or stands still: nobody waits for a commit they did not ask for (G9)."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenroom import Runtime, Turn, agent
from greenroom.actors.systems.simulated import SimulatedThreadCell, name_of
from greenroom.persistence.records import AddAgent, PutSnapshot, SetAgent
from greenroom.testing import Simulation

from .conftest import Disk, Later, Listener, asked_until, store_on

Make = Callable[..., Runtime]
Listen = Callable[[Runtime], Listener]


@agent(name="slow-counter")
async def counter(turn: Turn) -> int:
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]


@pytest.mark.parametrize("level", ["runtime", "call"])
def test_39_twenty_agents_are_spawned_run_and_listed_while_the_writer_stands_still(
    make: Make, level: str
) -> None:
    disk = Disk()
    light: dict[str, Any] = {} if level == "runtime" else {"durability": "memory"}
    runtime = make(disk, durability="memory" if level == "runtime" else "process")
    disk.stall()
    refs = [runtime.spawn(counter, f"/t/a{n:02}", input=n, **light) for n in range(20)]
    disk.await_arrival()
    for ref in refs:
        assert ref.run is not None
        assert ref.run.result(timeout=60) == 1
        assert ref.followup("more", **light).result(timeout=60) == 2
        assert ref.info().last_outcome is not None
        assert ref.state() == {"n": 2}
    assert [info.path for info in runtime.list()] == [f"/t/a{n:02}" for n in range(20)]
    assert runtime.stats().unwritten > 0
    assert refs[0].evict() is True
    assert refs[0].followup("reloaded", **light).result(timeout=60) == 3
    disk.go_on()
    runtime.close()
    again = make()
    assert [again.agent(ref.path).state()["n"] for ref in refs] == [3, *[2] * 19]


def test_39_a_durable_answer_is_all_that_waits_for_a_writer_that_stands_still(
    make: Make, tmp_path: Path
) -> None:
    disk = Disk()
    runtime = make(disk)
    ref = runtime.spawn(counter, "/t/a", input=1, run_id="first")
    assert ref.run is not None
    assert ref.run.result(timeout=60) == 1
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()
    durable = Later(ref.followup, 2)
    disk.await_arrival()
    assert ref.run.outcome(timeout=60).result == 1
    assert runtime.run(ref.run.run_id).result(timeout=60) == 1, "it is on disk: nothing to wait for"
    assert ref.followup(1, run_id="first", durability="memory").run_id == "first"
    assert ref.interrupt("no-such-run") is False
    assert [info.path for info in runtime.list()] == ["/t/a"]
    assert runtime.list(status="closed") == []
    assert [event.type for event in runtime.events(follow=False)][-1] == "run.completed"
    assert ref.explain().waits_for == "commit"
    assert not durable.done()
    disk.go_on()
    assert durable.get().result(timeout=60) == 2


def test_39_the_closed_are_listed_without_the_disk(make: Make) -> None:
    disk = Disk()
    runtime = make(disk, durability="memory")
    refs = [runtime.spawn(counter, f"/t/a{n}", input=n) for n in range(6)]
    runtime.wait([ref.run for ref in refs if ref.run])
    refs[0].close()
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()
    refs[1].close()
    refs[3].close()
    refs[4].delete()
    runtime.spawn(counter, "/t/a3")
    runtime.spawn(counter, "/t/new").close()
    closed = ["/t/a0", "/t/a1", "/t/a3", "/t/new"]
    assert [info.path for info in runtime.list(status="closed")] == closed
    assert [info.path for info in runtime.list("/t/a1", status="closed")] == ["/t/a1"]
    first = runtime.list(status="closed", limit=2)
    second = runtime.list(status="closed", limit=2, after=first[-1].path)
    assert [info.path for info in first + second] == closed
    assert [info.path for info in runtime.list()] == ["/t/a2", "/t/a3", "/t/a5"]
    disk.go_on()
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    assert [info.path for info in runtime.list(status="closed")] == closed


def test_39_a_turn_that_waits_keeps_to_its_timeout_while_the_writer_stands_still(make: Make) -> None:
    disk = Disk()

    @agent(name="slow-parent")
    async def parent(turn: Turn) -> str:
        try:
            await turn.wait(turn.input, timeout=0.1)
        except TimeoutError:
            return "in time"
        return "told"

    runtime = make(disk, slots=1)
    child = runtime.spawn(counter, "/t/child")
    waiting = runtime.spawn(parent, "/t/parent")
    run = child.followup(1)
    run.result(timeout=60)
    gate = threading.Event()

    @agent(name="slow-gated")
    def gated(turn: Any) -> str:
        gate.wait(600)
        return "ended"

    other = runtime.spawn(gated, "/t/gated")
    ended = other.followup(1)
    asked_until(lambda: other.info().status, lambda status: status == "running")
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()
    gate.set()
    disk.await_arrival()
    asked_until(lambda: other.info().status, lambda status: status == "idle")
    assert waiting.followup(ended.run_id, durability="memory").result(timeout=60) == "in time"
    disk.go_on()
    assert ended.result(timeout=60) == "ended"


BURST = """
import os, signal, sys
from greenroom import Runtime, agent

@agent(name="slow-counter")
async def counter(turn):
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]

def stop(*_):
    raise SystemExit(0)

signal.signal(signal.SIGTERM, stop)
with Runtime(sys.argv[1], durability=sys.argv[2], drain=20.0) as runtime:
    refs = [runtime.spawn(counter, f"/t/a{n}") for n in range(20)]
    runs = [ref.followup(n, durability="memory") for n in range(20) for ref in refs]
    print("burst", flush=True)
    if sys.argv[3] == "SIGTERM":
        runtime.wait(runs)
        print("ended", flush=True)
        while True:
            signal.pause()
    runtime.wait(runs)
"""


@pytest.mark.parametrize("end", ["close", "SIGTERM"])
@pytest.mark.parametrize("level", ["memory", "process"])
def test_40_outcomes_of_a_burst_are_on_disk_before_the_process_ends(
    tmp_path: Path, level: str, end: str
) -> None:
    store = str(tmp_path / "agents.db")
    child = subprocess.Popen(
        [sys.executable, "-c", BURST, store, level, end], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    if end == "SIGTERM":
        while child.stdout.readline() != "ended\n":
            assert child.poll() is None
        os.kill(child.pid, signal.SIGTERM)
    child.communicate(timeout=60)
    assert child.returncode == 0
    connection = sqlite3.connect(store)
    assert connection.execute("SELECT status, count(*) FROM runs GROUP BY status").fetchall() == [
        ("completed", 400)
    ]
    terminal = "SELECT count(*) FROM events WHERE type = 'run.completed'"
    assert connection.execute(terminal).fetchone() == (400,)
    connection.close()
    with Runtime(store) as again:
        assert {again.agent(f"/t/a{n}").followup(0).result(timeout=60) for n in range(20)} == {21}


def test_40_a_burst_of_outcomes_is_written_by_close_though_the_writer_stands_still_first(
    make: Make,
) -> None:
    disk = Disk()
    runtime = make(disk, durability="memory", slots=8)
    refs = [runtime.spawn(counter, f"/t/a{n}") for n in range(20)]
    disk.stall()
    runs = [ref.followup(n) for n in range(10) for ref in refs]
    assert len(runtime.wait(runs, timeout=60)) == 200
    closing = Later(runtime.close)
    disk.await_arrival()
    assert not closing.done()
    disk.go_on()
    closing.get(60.0)
    again = make()
    assert {again.agent(ref.path).state()["n"] for ref in refs} == {10}
    assert {again.run(run.run_id).outcome(timeout=60).status for run in runs} == {"completed"}


def test_eviction_of_a_clean_agent_writes_nothing(make: Make, listen: Listen, tmp_path: Path) -> None:
    disk = Disk()
    runtime = make(disk)
    ref = runtime.spawn(counter, "/t/a", input=1)
    assert ref.run is not None
    ref.run.result(timeout=60)
    heard = listen(runtime)
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    batches, commits = len(disk.batches), runtime.stats().commits
    log = (tmp_path / "agents.db-wal").stat().st_size

    assert ref.evict() is True
    heard.hear("agent.evicted")

    assert ref.info().resident is False
    assert len(disk.batches) == batches, "no commit, at once or later: nothing is left that asks for one"
    assert (runtime.stats().commits, runtime.stats().unwritten) == (commits, 0)
    assert (tmp_path / "agents.db-wal").stat().st_size == log
    assert ref.explain().waits_for is None
    ref.followup(2).result(timeout=60)
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    later = [record for batch in disk.batches[batches:] for record in batch]
    assert not [record for record in later if type(record) in (AddAgent, SetAgent)]
    assert len([record for record in later if type(record) is PutSnapshot]) == 1, "that of the new turn"
    types = [event.type for event in runtime.events("/t/a", follow=False)]
    assert types[-6:] == [
        "run.completed",
        "agent.evicted",
        "run.accepted",
        "agent.reloaded",
        "run.started",
        "run.completed",
    ]


def test_many_evictions_in_a_row_are_written_in_bounded_number(make: Make) -> None:
    disk = Disk()
    runtime = make(disk, residents=1)
    for n in range(4):
        runtime.spawn(counter, f"/t/a{n}", input=n).run.result(timeout=60)  # type: ignore[union-attr]
    runtime.close()
    again = make()
    evicted = [event for event in again.events(follow=False) if event.type == "agent.evicted"]
    assert [event.path for event in evicted] == ["/t/a0", "/t/a1", "/t/a2"], "a close writes what waited"


def test_a_number_that_was_told_and_never_written_is_not_used_again(make: Make, listen: Listen) -> None:
    """An event of the next process under that number would be missed by whoever goes on from there."""
    disk = Disk()
    runtime = make(disk, durability="process")
    ref = runtime.spawn(counter, "/t/a", input=1)
    assert ref.run is not None
    ref.run.result(timeout=60)
    heard = listen(runtime)
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    ref.evict()
    told = heard.hear("agent.evicted").seq
    disk.breaks("I/O error")  # as if the process were killed: nothing more is written
    with pytest.raises(Exception, match="could not be written"):
        Later(runtime.close, 0.0).get()
    again = make()
    heard = listen(again)
    again.agent("/t/a").followup(2).result(timeout=60)
    assert heard.hear("run.accepted").seq > told


# Latencies

COMMITS = {"fast": 0.0, "slow": 0.1, "fast again": 0.0}
"""Seconds that each commit takes. Fast twice: a p99 differs by itself, and this says how much here."""
ROUNDS, AGENTS, RUNS = 14, 60, 150
SLACK = COMMITS["slow"] / 4
"""Seconds by which a p99 may differ on a machine that does other things as well: no wait for a commit."""


class Stopwatch:
    """What callers of one runtime meet: seconds, by what they asked for."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.samples: dict[str, list[float]] = {}
        self._now = now

    def time(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call, and note how long it takes."""
        start = self._now()
        value = call(*args, **kwargs)
        self.note(what, self._now() - start)
        return value

    def note(self, what: str, seconds: float) -> None:
        self.samples.setdefault(what, []).append(seconds)

    def p99(self, what: str) -> float:
        times = sorted(self.samples[what])
        return times[int(len(times) * 0.99)]


def measure(watch: Stopwatch, store: Path, level: str, begun: dict[int, float]) -> None:
    """Work with one runtime, whose `timed` agents note in `begun` when the turn of an input began."""
    light: dict[str, Any] = {} if level == "runtime" else {"durability": "memory"}
    seen: dict[int, float] = {}
    last = threading.Event()
    asked: dict[int, float] = {}
    of_runtime: Any = "memory" if level == "runtime" else "process"
    with Runtime(store, durability=of_runtime, residents=2 * AGENTS, drain=5.0) as runtime:
        stream = runtime.events()

        def listen() -> None:
            for event in stream:
                if event.type == "run.accepted":
                    seen[len(seen)] = time.perf_counter()
                    if len(seen) == RUNS:
                        last.set()

        threading.Thread(target=listen, daemon=True).start()
        refs = [
            watch.time("spawn", runtime.spawn, "slow-timed", f"/t/a{n}", **light) for n in range(AGENTS)
        ]
        for n in range(RUNS):
            asked[n] = time.perf_counter()
            run = watch.time("accept", refs[n % AGENTS].followup, n, **light)
            watch.time("list", runtime.list, limit=20)
            watch.time("outcome", run.outcome, timeout=60)
        if level == "runtime":  # else events are facts of the disk, and told when they are on it
            assert last.wait(600)
            for n in range(RUNS):
                watch.note("event", seen[n] - asked[n])
        for n in range(RUNS):
            watch.note("turn", begun[n] - asked[n])
        stream.close()


@pytest.mark.parametrize("level", ["runtime", "call"])
def test_with_100_ms_per_commit_nobody_waits_a_moment_of_virtual_time(
    monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """Exact, where clocks are not: in a simulation only the writer takes time."""
    begun: dict[int, float] = {}

    @agent(name="slow-simulated")
    async def timed(turn: Turn) -> None:
        begun[turn.input] = simulation.loop.time()

    def only_the_writer(cell: SimulatedThreadCell, do: Callable[[], None]) -> None:
        loop = cell.base.loop
        loop.after(0.05 if name_of(cell.address) == "writer" else 0.0, cell.address, do)  # before and after

    monkeypatch.setattr(SimulatedThreadCell, "_later", only_the_writer)
    watch = Stopwatch(lambda: simulation.loop.time())
    light: dict[str, Any] = {} if level == "runtime" else {"durability": "memory"}
    simulation = Simulation(
        schedule={}, durability="memory" if level == "runtime" else "process", residents=8
    )
    with simulation as runtime:
        stream = runtime.events()
        refs = [
            watch.time("spawn", runtime.spawn, "slow-simulated", f"/t/a{n}", **light) for n in range(AGENTS)
        ]
        for n in range(RUNS):
            simulation.advance(0.03)  # so that commits begin and end between any two calls
            asked = simulation.loop.time()
            run = watch.time("accept", refs[n % AGENTS].followup, n, **light)
            if level == "runtime":  # else events are facts of the disk, and told when they are on it
                watch.time("event", lambda: next(event for event in stream if event.type == "run.accepted"))
            watch.time("list", runtime.list, limit=20)
            watch.time("outcome", run.outcome, timeout=30)
            watch.note("turn", begun[n] - asked)
    assert simulation.loop.time() > 1.0, "the disk has taken its time"
    assert {what: max(times) for what, times in watch.samples.items()} == dict.fromkeys(watch.samples, 0.0)


@pytest.mark.long
@pytest.mark.parametrize("level", ["runtime", "call"])
def test_with_100_ms_per_commit_nobody_waits_longer_than_with_a_fast_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """Many short rounds in turn, so that whatever else the machine does troubles both alike."""
    begun: dict[int, float] = {}

    @agent(name="slow-timed")
    async def timed(turn: Turn) -> None:
        begun[turn.input] = time.perf_counter()

    watches = {name: Stopwatch() for name in COMMITS}
    for number in range(ROUNDS):
        for name, watch in watches.items():
            disk = Disk()
            disk.delay = COMMITS[name]
            monkeypatch.setattr("greenroom.actors.storage.writer.Store", store_on(disk))
            measure(watch, tmp_path / f"{number}-{name}.db", level, begun)
    p99 = {
        what: {name: watch.p99(what) for name, watch in watches.items()} for what in watches["fast"].samples
    }
    for what, of in p99.items():
        print(f"{level}, {what}: " + ", ".join(f"{name} {of[name] * 1e3:.2f} ms" for name in of))
    for what, of in p99.items():
        fast = max(of["fast"], of["fast again"])
        assert of["slow"] <= 2 * fast + SLACK, f"p99 of {what} in seconds: {of}"
