"""Two processes and one store: who is refused, who follows, and what becomes of who was followed."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from greenroom import AsyncRuntime, Runtime, RuntimeClosing, StoreInUse, StoreLost, Turn, agent
from greenroom.persistence.store import Store

ROOT = Path(__file__).parents[2]
DEADLINE = 600.0
HOUR = 3_600.0

WORKER = """
import asyncio, sys, threading, time
from greenroom import GreenroomError, Runtime, agent
from greenroom.persistence import lease_rules

lease_rules.LEASE_SECONDS = float(sys.argv[2])
begun = threading.Semaphore(0)

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

@agent(name="owners-counter")
async def counter(turn):
    turn.state["count"] = turn.state.get("count", 0) + 1
    return turn.state["count"]

@agent(name="owners-waits")
async def waits(turn):
    say("waiting")
    begun.release()
    try:
        await asyncio.Event().wait()
    finally:
        say("ended waits")

@agent(name="owners-waits-on-a-thread")
def waits_on_a_thread(turn):
    say("waiting")
    begun.release()
    while not (turn.suspended or turn.interrupted):
        time.sleep(0.01)
    say("ended thread")

def opened(path):
    "A runtime on `path`, as soon as it can be had."
    refusals = 0
    while True:
        try:
            runtime = Runtime(path, durability="process").start()
        except GreenroomError as error:
            refusals += 1
            if refusals == 1:
                say("refused", type(error).__name__, error)
            time.sleep(0.01)
        else:
            say("opened", refusals)
            return runtime

def told(name, call):
    try:
        while True:
            call()
    except GreenroomError as error:
        say("told", name, type(error).__name__, error)
"""

OWNER = """
runtime = opened(sys.argv[1])
ref = runtime.spawn(counter, "/owner/a", input=1)
ref.run.result(timeout=600)
kinds = enumerate((waits, waits_on_a_thread))
runs = [runtime.spawn(kind, f"/owner/{n}", input=None).run for n, kind in kinds]
stream = runtime.events("/owner/a")
"""

LOADED = """
calls = {
    "result": runs[0].result,
    "wait": lambda: runtime.wait(runs),
    "stream": lambda: next(stream),
    "durable": lambda: ref.followup(1).result(),
    "memory": lambda: (ref.followup(1, durability="memory"), time.sleep(0.001)),
    "list": lambda: (runtime.list(), time.sleep(0.001)),
}
threads = [threading.Thread(target=told, args=item) for item in calls.items()]
for thread in threads:
    thread.start()
for _ in runs:
    begun.acquire()
say("loaded")
for thread in threads:
    thread.join()
told("later", ref.info)
begun = time.monotonic()
runtime.close()
say("closed", time.monotonic() - begun)
told("closed", ref.info)
"""


class Worker:
    """Another Python on the same store; what it says is read by a thread, so that it never waits for us."""

    def __init__(self, code: str, store: Path, lease: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER + code, str(store), str(lease)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self._lines: SimpleQueue[str] = SimpleQueue()
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._lines.put), daemon=True),
            threading.Thread(
                target=self._read, args=(self.process.stderr, self.errors.append), daemon=True
            ),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(pipe: Any, take: Callable[[str], None]) -> None:
        for line in pipe:
            take(line.rstrip("\n"))

    def says(self, *words: str) -> str:
        """The rest of the next line that begins with `words`."""
        wanted, deadline = " ".join(words), time.monotonic() + DEADLINE
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"it did not say {wanted!r}; stderr: {self.errors}") from None
            if line.startswith(wanted):
                return line[len(wanted) :].strip()

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ends(self) -> tuple[int, list[str]]:
        """Its exit status, and all that it said that was not heard."""
        status = self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)
        left = []
        while not self._lines.empty():
            left.append(self._lines.get())
        return status, left

    def stop(self, store: Path) -> None:
        """Suspend it with the file unlocked: nobody takes over from who stands still within a commit."""
        deadline = time.monotonic() + DEADLINE
        while True:
            os.kill(self.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED)
            with closing(sqlite3.connect(store, timeout=0, isolation_level=None)) as probe:
                try:
                    probe.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    assert time.monotonic() < deadline
                else:
                    probe.execute("ROLLBACK")
                    return
            self.go_on()

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


@pytest.fixture
def worker(store: Path) -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(code: str, *, lease: float = HOUR, on: Path | None = None) -> Worker:
        made.append(Worker(code, on or store, lease))
        return made[-1]

    yield make
    for one in made:
        for reader in one._readers:
            one.go_on() if one.process.poll() is None else None
            if one.process.poll() is None:
                one.process.kill()
            reader.join(DEADLINE)
        one.process.wait(DEADLINE)
        for pipe in (one.process.stdin, one.process.stdout, one.process.stderr):
            assert pipe is not None
            pipe.close()


def rows(store: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(store)) as database:
        return database.execute(query, values).fetchall()


def contents(store: Path) -> list[str]:
    """All that is in the file, but for the sign of life of whoever has it."""
    with closing(sqlite3.connect(store)) as database:
        return [line for line in database.iterdump() if 'INTO "owner"' not in line]


def overdue(store: Path) -> None:
    """Have the owner's last sign of life be an old one, as if its lease had run out."""
    with closing(sqlite3.connect(store, isolation_level=None)) as database:
        assert database.execute("UPDATE owner SET heartbeat = 0, uptime = -1e9").rowcount == 1


# Refused


def test_a_second_process_is_refused_by_pid_and_host_and_the_first_works_on(
    worker: Any, store: Path
) -> None:
    first = worker(OWNER + "say('ready', ref.followup(1).result(600)); input(); runtime.close(0)")
    assert first.says("ready") == "2"
    before = rows(store, "SELECT epoch FROM meta")
    second = worker(OWNER + "say('ready', ref.followup(1).result(600))")
    refused = second.says("refused")
    assert refused.startswith("StoreInUse")
    assert f"process {first.pid} on {socket.gethostname()}" in refused
    with pytest.raises(StoreInUse, match=f"process {first.pid} on {socket.gethostname()}"):
        Runtime(store).start()
    assert rows(store, "SELECT epoch FROM meta") == before
    first.do("end")
    assert first.ends()[0] == 0
    second.says("opened")
    second.kill()


def test_the_command_says_who_has_the_store_and_exits_with_1(worker: Any, store: Path) -> None:
    first = worker(OWNER + "say('ready'); input()")
    first.says("ready")
    kinds = store.with_name("kinds.py")
    kinds.write_text("from greenroom import agent\n@agent\nasync def echo(turn):\n    return turn.input\n")
    command = [sys.executable, "-m", "greenroom", "run", str(kinds), "--store", str(store)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "XDG_STATE_HOME": str(store.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE)
    problem = (
        f"store {store}: process {first.pid} on {socket.gethostname()} has it open. "
        "Use that one, or end it first"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {problem}\n")
    command.append("--json")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE)
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert (done.returncode, told["type"], told["status"], told["error"]) == (1, "result", "error", problem)
    first.kill()


# Followed


def test_who_was_killed_is_followed_at_once(worker: Any, store: Path) -> None:
    """Its lease has an hour to go, and its parent has not even heard of its end."""
    first = worker(OWNER + "say('ready'); input()")
    first.says("ready")
    os.kill(first.pid, signal.SIGKILL)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    opened, unfinished = Store.open(str(store), "process")
    assert (opened.claim.taken.reason, unfinished.epoch) == ("gone", 2)
    assert [run.path for run in unfinished.runs] == ["/owner/0", "/owner/1"]
    opened.close()
    second = worker(
        OWNER.partition("ref = ")[0] + "say('went', runtime.agent('/owner/a').followup(1).result(600))"
    )
    assert second.says("opened") == "0", "nobody was in its way"
    assert second.says("went") == "2"
    second.kill()


RACER = """
for line in sys.stdin:
    path, at = line.split()
    while time.monotonic() < float(at):
        pass
    try:
        runtime = Runtime(path).start()
    except GreenroomError as error:
        say(type(error).__name__, error)
    else:
        say("won", runtime.spawn(counter, f"/race/a{time.monotonic_ns()}", input=1).run.result(600))
        sys.stdin.readline()
        runtime.close()
        say("closed")
"""


@pytest.mark.parametrize("found", ["nothing", "a store", "an owner that was killed"])
def test_of_two_processes_that_race_one_wins(worker: Any, tmp_path: Path, found: str) -> None:
    racers = [worker(RACER) for _ in range(2)]
    wins = []
    for round_ in range(12):
        path = tmp_path / (f"new{round_}.db" if found == "nothing" else "agents.db")
        if found == "an owner that was killed":
            dead = worker("runtime = opened(sys.argv[1]); input()", on=path)
            dead.says("opened")
            dead.kill()
        at = time.monotonic() + 0.05
        for racer in racers:
            racer.do(f"{path} {at}")
        said = [racer.says("") for racer in racers]
        won = [word.startswith("won") for word in said]
        assert sorted(won) == [False, True], said
        loser = said[won.index(False)]
        assert loser.startswith("StoreInUse"), said
        winner = racers[won.index(True)]
        assert f"process {winner.pid} on" in loser
        winner.do("close")
        winner.says("closed")
        wins.append(won.index(True))
        (epoch,) = rows(path, "SELECT epoch FROM meta")[0]
        openings = {"nothing": 1, "a store": round_ + 1, "an owner that was killed": 2 * round_ + 2}
        assert epoch == openings[found]
    for racer in racers:
        racer.kill()


# Suspended, followed, and gone on

TOLD = {"result", "wait", "stream", "durable", "memory", "list", "later", "closed"}


def audit_nothing_written(store: Path, old: Worker, work: Callable[[], None]) -> tuple[int, list[str]]:
    """Have the old owner go on; how it ended. Nothing of it came into the file."""
    (new_owner,) = rows(store, "SELECT pid, epoch FROM owner")
    before = contents(store)
    last = rows(store, "SELECT max(seq) FROM events")[0]
    old.go_on()
    ended = old.ends()
    assert contents(store) == before, "it wrote something"
    assert rows(store, "SELECT pid, epoch FROM owner") == [new_owner]
    work()
    for table, newer in (("agents", "agent_id"), ("runs", "serial")):
        epochs = [epoch for (epoch,) in rows(store, f"SELECT epoch FROM {table} ORDER BY {newer}")]
        assert epochs == sorted(epochs), f"{table}: a row of the old epoch came after the takeover"
        assert epochs[-1] == new_owner[1]
    assert rows(store, "SELECT max(seq) FROM events")[0] > last
    return ended


NEXT = """
say("ready")
sys.stdin.readline()  # its own start may take longer than a lease
runtime = opened(sys.argv[1])
ref = runtime.agent("/owner/a")
say("count", ref.followup(1).result(600))
for line in sys.stdin:
    runtime.spawn(counter, f"/owner/new-{line.strip()}")
    say("count", ref.followup(1).result(600))
"""


def settled(store: Path) -> None:
    """Wait until the new owner has committed all it has to, which nobody waits for."""
    deadline = time.monotonic() + DEADLINE
    quiet_since, last = time.monotonic(), contents(store)
    while time.monotonic() < quiet_since + 2.0:
        assert time.monotonic() < deadline
        now = contents(store)
        if now != last:
            quiet_since, last = time.monotonic(), now


def test_a_suspended_owner_is_followed_after_its_lease_and_writes_nothing_more(
    worker: Any, store: Path
) -> None:
    second = worker(NEXT)
    second.says("ready")
    first = worker(OWNER + LOADED, lease=2.0)
    first.says("loaded")
    first.stop(store)
    second.do("open it")
    refused = second.says("refused")
    assert refused.startswith("StoreInUse"), "its lease is respected"
    assert f"process {first.pid} on" in refused
    assert int(second.says("opened")) > 0
    count = int(second.says("count"))
    settled(store)

    def work() -> None:
        second.do("one")
        assert int(second.says("count")) == count + 1

    status, said = audit_nothing_written(store, first, work)
    told = {line.split()[1]: line for line in said if line.startswith("told")}
    assert set(told) == TOLD, said
    for line in told.values():
        assert "StoreLost" in line
        assert f"process {second.pid} on {socket.gethostname()} has taken it over" in line
    assert "ended waits" in said, "its turns have ended"
    assert "ended thread" in said
    (closed,) = [float(line.split()[1]) for line in said if line.startswith("closed")]
    assert closed < 10.0
    assert status == 0
    assert not any("Traceback" in line for line in first.errors), "\n".join(first.errors)
    second.kill()


SUSPENDED_IN_A_COMMIT = """
import os, signal
from greenroom.persistence.store import Store

begin, armed = Store.begin, threading.Event()

def stop_and_begin(self):
    "Stands still between the decision to commit and the transaction."
    if armed.is_set():
        armed.clear()
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread at once, not soon
    begin(self)

Store.begin = stop_and_begin
"""


def test_an_owner_suspended_on_its_way_into_a_commit_does_not_make_it(worker: Any, store: Path) -> None:
    first = worker(
        SUSPENDED_IN_A_COMMIT
        + OWNER
        + """
armed.set()
told("durable", lambda: ref.followup(2).result())
told("later", ref.info)
runtime.close()
say("closed")
"""
    )
    os.waitid(os.P_PID, first.pid, os.WSTOPPED)
    second = worker(NEXT)
    second.do("open it")
    second.says("refused")
    overdue(store)
    second.says("opened")
    count = int(second.says("count"))
    settled(store)

    def work() -> None:
        second.do("one")
        assert int(second.says("count")) == count + 1

    status, said = audit_nothing_written(store, first, work)
    assert [line.split()[:3] for line in said if line.startswith("told")] == [
        ["told", "durable", "StoreLost"],
        ["told", "later", "StoreLost"],
    ]
    assert "closed" in said
    assert status == 0
    second.kill()


def test_the_command_that_was_followed_says_by_whom_and_exits_with_1(tmp_path: Path, store: Path) -> None:
    kinds = tmp_path / "kinds.py"
    kinds.write_text(
        "import asyncio\nfrom greenroom import agent\n@agent\nasync def waits(turn):\n"
        "    print('waiting', flush=True)\n    await asyncio.Event().wait()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "XDG_STATE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "greenroom", "run", str(kinds), "--store", str(store)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as first:
        assert first.stderr is not None
        try:
            while "waiting" not in first.stderr.readline():
                assert first.poll() is None
            first.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, first.pid, os.WSTOPPED)
            overdue(store)
            opened, _ = Store.open(str(store), "process")
            first.send_signal(signal.SIGCONT)
            out, err = first.communicate(timeout=DEADLINE)
        finally:
            first.kill()
    opened.close()
    assert (first.returncode, out) == (1, "")
    assert f"Error: store {store}: process {os.getpid()} on" in err
    assert "has taken it over" in err
    assert "Traceback" not in err


# Within one process


class Closes:
    """Says when its sessions close."""

    closed: SimpleQueue[str] = SimpleQueue()
    begun: SimpleQueue[str] = SimpleQueue()

    def open(self, info: Any) -> None:
        self.path = info.path

    async def run(self, turn: Turn) -> None:
        self.begun.put(turn.path)
        await asyncio.Event().wait()

    def close(self) -> None:
        self.closed.put(self.path)


closes = agent(name="owners-closes")(Closes)


@pytest.fixture
def watched() -> type[Closes]:
    """The kind with nothing of another test in its queues."""
    Closes.closed, Closes.begun = SimpleQueue(), SimpleQueue()
    return Closes


def taken(store: Path) -> Store:
    """The store, taken from a live runtime of this process."""
    deadline = time.monotonic() + DEADLINE
    while True:
        overdue(store)
        try:
            return Store.open(str(store), "process")[0]
        except StoreInUse:
            assert time.monotonic() < deadline


def test_a_runtime_that_lost_its_store_closes_its_sessions_and_tells_everybody(
    store: Path, watched: type[Closes], caplog: pytest.LogCaptureFixture
) -> None:
    runtime = Runtime(store).start()
    ref = runtime.spawn(closes, "/lost/a", input=1)
    assert watched.begun.get(timeout=DEADLINE) == "/lost/a"
    told: SimpleQueue[BaseException] = SimpleQueue()

    def wait() -> None:
        try:
            assert ref.run is not None
            ref.run.result()
        except BaseException as error:
            told.put(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    newer = taken(store)
    error = told.get(timeout=DEADLINE)
    assert isinstance(error, StoreLost)
    assert (error.store, f"process {os.getpid()} on" in str(error)) == (str(store), True)
    for call in (ref.info, runtime.stats, lambda: ref.followup(1), lambda: next(runtime.events())):
        with pytest.raises(StoreLost):
            call()
    assert watched.closed.get(timeout=DEADLINE) == "/lost/a", "before anybody closes the runtime"
    runtime.close()
    runtime.close()
    with pytest.raises(StoreLost):
        ref.info()
    newer.close()
    assert "left behind" not in caplog.text
    with Runtime(store, drain=0) as again:
        assert again.agent("/lost/a").info().status in ("queued", "running", "starting")


def test_a_store_lost_while_the_runtime_closes_is_told_by_close(store: Path, watched: type[Closes]) -> None:
    runtime = Runtime(store).start()
    runtime.spawn(closes, "/lost/c", input=1)
    assert watched.begun.get(timeout=DEADLINE) == "/lost/c"
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def close() -> None:
        try:
            runtime.close(drain=HOUR)
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=close).start()
    deadline = time.monotonic() + DEADLINE
    while True:  # until it is closing
        try:
            runtime.spawn(closes, f"/lost/b{time.monotonic_ns()}")
        except RuntimeClosing:
            break
        assert time.monotonic() < deadline
    newer = taken(store)
    error = ended.get(timeout=DEADLINE)
    assert isinstance(error, StoreLost)
    newer.close()


def test_an_async_runtime_that_lost_its_store_tells_everybody(store: Path) -> None:
    async def main() -> None:
        runtime = await AsyncRuntime(store).start()
        ref = await runtime.spawn(closes, "/lost/a", input=1)
        waiting = asyncio.ensure_future(ref.run.result())  # type: ignore[union-attr]
        newer = await asyncio.to_thread(lambda: taken_and_released(store))
        with pytest.raises(StoreLost, match=f"process {os.getpid()} on"):
            await asyncio.wait_for(waiting, DEADLINE)
        with pytest.raises(StoreLost):
            await ref.info()
        async with asyncio.timeout(DEADLINE):
            await runtime.close()
        assert newer == 2

    asyncio.run(main())


def taken_and_released(store: Path) -> int:
    newer = taken(store)
    newer.close()
    return newer.epoch
