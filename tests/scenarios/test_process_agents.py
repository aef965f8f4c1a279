"""Stories of agents that are processes, with real ones."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("acp", reason="the protocol's SDK is not installed: pip install 'greenroom[acp]'")

from greenroom import RunFailed, Runtime
from greenroom.actors.processes import orphans
from greenroom.drivers import acp_agent, command_agent
from greenroom.persistence.lease import instant, start_of, this_process
from greenroom.persistence.lease_rules import LEASE_SECONDS, Owner, Process
from greenroom.persistence.processes import ProcessRow
from greenroom.persistence.store import Store

STUB = Path(__file__).parents[1] / "drivers/programs/acp_stub.py"
NAMES = (f"process-agent-{n}" for n in count())
DEADLINE = 600.0


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Callable[..., Runtime]]:
    """Makes runtimes, on one file unless told otherwise; they are closed after the test."""
    opened: list[Runtime] = []

    def make(store: Any = None, **options: Any) -> Runtime:
        made = Runtime(tmp_path / "agents.db" if store is None else store, **options)
        opened.append(made.start())
        return made

    yield make
    for one in reversed(opened):
        closing = threading.Thread(target=one.close, args=(0.0,), daemon=True)
        closing.start()
        closing.join(DEADLINE)
        assert not closing.is_alive(), "the runtime does not close"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Where the programs work."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def stub(work: Path) -> Callable[..., Any]:
    """Makes kinds of a small ACP agent."""

    def make(env: Any = None, **options: Any) -> Any:
        command = [sys.executable, "-I", "-S", str(STUB)]
        return acp_agent(command, name=next(NAMES), cwd=work, env=env, **options)

    return make


@pytest.fixture
def shell(work: Path) -> Callable[..., Any]:
    """Makes kinds of a script of the shell."""

    def make(script: str, **options: Any) -> Any:
        return command_agent(["/bin/sh", "-c", script], name=next(NAMES), cwd=work, **options)

    return make


def until(fact: Callable[[], Any], what: str = "it") -> None:
    tick = threading.Event()
    for _ in range(int(DEADLINE / 0.01)):
        if fact():
            return
        tick.wait(0.01)
    raise AssertionError(f"{what} has not come about within {DEADLINE} s")


def records(store: Path) -> list[int]:
    """Numbers of the processes that are recorded."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        found = [number for (number,) in connection.execute("SELECT number FROM processes ORDER BY number")]
    connection.close()
    return found


def waits(gate: Path) -> dict[str, str]:
    return {"STUB_OPEN": "wait", "STUB_GATE": str(gate)}


def started(work: Path) -> list[int]:
    return [int(file.name.partition("-")[2]) for file in work.glob("started-*")]


# Creation


def test_32_a_spawn_does_not_wait_for_a_slow_handshake(runtime: Any, stub: Any, work: Path) -> None:
    agents = runtime()
    ref = agents.spawn(stub(env=waits(work / "gate")), "/t/a", input="hello")
    until(lambda: started(work), "the program")
    assert ref.info().status == "starting"
    assert [info.path for info in agents.list()] == ["/t/a"]
    (work / "gate").touch()
    assert ref.run.result(DEADLINE)["message"] == "you said hello"


def test_33_a_handshake_that_fails_leaves_its_reason_and_no_process(
    runtime: Any, stub: Any, tmp_path: Path
) -> None:
    agents = runtime()
    ref = agents.spawn(stub(env={"STUB_OPEN": "fail"}), "/t/a")
    runs = [ref.followup(n) for n in range(3)]
    for run in runs:
        with pytest.raises(RunFailed, match=r"ended during the handshake with code 7; .*no such thing"):
            run.result(DEADLINE)
    assert ref.info().status == "failed"
    assert "no such thing" in ref.info().error
    until(lambda: records(tmp_path / "agents.db") == [], "the end of its record")


def test_34_the_end_of_an_old_start_leaves_the_new_agent_alone(
    runtime: Any, stub: Any, work: Path, tmp_path: Path
) -> None:
    agents = runtime()
    old = agents.spawn(stub(env=waits(work / "gate")), "/t/a")
    until(lambda: started(work), "the program")
    (pid,) = started(work)
    old.close()
    new = agents.spawn(stub(), "/t/a", input="hello")
    (work / "gate").touch()
    assert new.run.result(DEADLINE)["message"] == "you said hello"
    until(lambda: start_of(pid) is None, "the end of the old program")
    assert new.info().status == "idle"
    assert new.followup("still there?").result(DEADLINE)["message"] == "you said still there?"
    until(lambda: len(records(tmp_path / "agents.db")) == 1)


def test_35_an_agent_is_closed_although_its_handshake_is_under_way(
    runtime: Any, stub: Any, work: Path, tmp_path: Path
) -> None:
    agents = runtime()
    ref = agents.spawn(stub(env={"STUB_OPEN": "hang"}), "/t/a")
    until(lambda: started(work), "the program")
    (pid,) = started(work)
    other = agents.spawn(stub(), "/t/b", input="hello")
    ref.close()
    assert other.run.result(DEADLINE)["message"] == "you said hello"
    until(lambda: start_of(pid) is None, "the end of its program")
    assert [info.path for info in agents.list()] == ["/t/b"]
    until(lambda: len(records(tmp_path / "agents.db")) == 1)


def test_36_two_first_runs_at_once_start_one_program(runtime: Any, stub: Any, work: Path) -> None:
    kind = stub()
    agents = runtime()
    ref = agents.spawn(kind, "/t/a")
    until(lambda: ref.info().status == "idle")
    assert ref.evict()
    before = started(work)
    runs = [ref.followup("one"), ref.followup("two")]
    assert [run.result(DEADLINE)["message"] for run in runs] == ["you said one", "you said two"]
    assert len(started(work)) == len(before) + 1


def test_37_a_handshake_that_hangs_fails_and_the_next_run_tries_again(
    runtime: Any, stub: Any, work: Path
) -> None:
    def env(info: Any) -> dict[str, str]:
        return {} if (work / "well").exists() else {"STUB_OPEN": "hang"}

    agents = runtime()
    ref = agents.spawn(stub(env=env, open_timeout=1.0), "/t/a", input="x")
    with pytest.raises(RunFailed, match="took longer than 1 s"):
        ref.run.result(DEADLINE)
    assert ref.info().status == "failed"
    (work / "well").touch()
    assert ref.followup("hello").result(DEADLINE)["message"] == "you said hello"
    assert ref.info().status == "idle"
    until(lambda: [start_of(pid) is None for pid in started(work)].count(True) >= 1)


# Ownership


class Sleeper:
    """A program that an earlier opening of a store would have left, with its record."""

    def __init__(self, store: Path, agent_id: int, path: str, **changes: Any) -> None:
        self.token = uuid4().hex  # marks are looked for all over the system, where other tests are at work
        env = {**os.environ, "GREENROOM_PROCESS": f"{self.token}.{agent_id}"}
        self.popen = subprocess.Popen(["sleep", "1000"], env=env, start_new_session=True)
        me = this_process()
        pid = self.popen.pid
        self.process = Process(me.host, me.boot_id, me.pid_namespace, pid, start_of(pid) or 0)
        dead = Process(me.host, me.boot_id, me.pid_namespace, 4_000_000, 1)
        found = os.stat(store)
        fields = {
            "number": agent_id,
            "agent_id": agent_id,
            "incarnation": 1,
            "path": path,
            "kind": "any",
            "process": self.process,
            "owner": Owner(dead, 1, LEASE_SECONDS, instant(), False),
            "token": self.token,
            "file": f"{found.st_dev}:{found.st_ino}",
        }
        self.row = ProcessRow(**{**fields, **changes})

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Callable[..., Sleeper]]:
    made: list[Sleeper] = []
    store = tmp_path / "agents.db"

    def make(agent_id: int, path: str, **changes: Any) -> Sleeper:
        made.append(Sleeper(store, agent_id, path, **changes))
        return made[-1]

    yield make
    for one in made:
        one.popen.kill()
        one.popen.wait()


def prepare(store: Path, shell: Any, names: list[str]) -> None:
    """A store with agents, closed."""
    with Runtime(store) as agents:
        for name in names:
            agents.spawn(shell("true"), f"/t/{name}")


def keep(store: Path, *sleepers: Sleeper) -> None:
    opened, _ = Store.open(str(store), "process")
    opened.keep_processes([one.row for one in sleepers], [])
    opened.close()


def copied(store: Path) -> Path:
    """A copy of a store in use, with its key, that nobody owns and in which no run is unfinished."""
    copy = store.with_name("copy.db")
    with sqlite3.connect(store) as connection, sqlite3.connect(copy) as to:
        connection.backup(to)
        to.execute("UPDATE owner SET released_at = 1")  # else its owner is respected
        to.execute("UPDATE runs SET status = 'interrupted', ended_at = accepted_at")
    connection.close()
    to.close()
    os.chmod(copy, 0o600)
    shutil.copy(f"{store}.key", f"{copy}.key")
    return copy


def test_49_a_start_ends_what_dead_owners_left_and_nothing_else(
    runtime: Any, shell: Any, sleeper: Any, tmp_path: Path
) -> None:
    store = tmp_path / "agents.db"
    names = ["left", "live", "reused-owner", "reused", "torn", "rebooted"]
    prepare(store, shell, names)
    me = this_process()
    living = Owner(me, 1, LEASE_SECONDS, instant(), False)  # a process that lives, under another's start
    elsewhere = {"file": "1:1"}  # the record is from a store that this one is a copy of
    left_over = sleeper(1, "/t/left")
    sibling = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    them = Process(me.host, me.boot_id, me.pid_namespace, sibling.pid, start_of(sibling.pid) or 0)
    live = sleeper(2, "/t/live", owner=Owner(them, 1, LEASE_SECONDS, instant(), False), **elsewhere)
    before = Process(me.host, me.boot_id, me.pid_namespace, me.pid, me.started + 1)
    reused_owner = sleeper(
        3, "/t/reused-owner", owner=Owner(before, 1, LEASE_SECONDS, instant(), False), **elsewhere
    )
    reused = sleeper(4, "/t/reused", token=uuid4().hex)
    stranger = reused.process
    reused.row = ProcessRow(
        **{
            **{name: getattr(reused.row, name) for name in ProcessRow.__struct_fields__},
            "process": Process(me.host, me.boot_id, me.pid_namespace, stranger.pid, stranger.started + 7),
        }
    )
    torn = sleeper(5, "/t/torn")
    gone = Process(me.host, "another boot", me.pid_namespace, torn.process.pid, torn.process.started)
    rebooted = sleeper(6, "/t/rebooted", token=uuid4().hex, process=gone)
    keep(store, left_over, live, reused_owner, reused, torn, rebooted)
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE processes SET pid = NULL, started = NULL WHERE number = 5")
    connection.close()

    agents = runtime()
    until(lambda: records(store) == [2], "a clean table")
    assert living.epoch == 1
    assert (live.alive, reused.alive, rebooted.alive) == (True, True, True)
    until(lambda: not (left_over.alive or reused_owner.alive or torn.alive), "the end of what was left")
    agents.agent("/t/live").delete()  # in every case
    until(lambda: not live.alive, "the end of what was spared")
    until(lambda: records(store) == [])
    sibling.kill()
    sibling.wait()


def test_49_delete_ends_what_is_recorded_of_each(
    runtime: Any, shell: Any, sleeper: Any, tmp_path: Path
) -> None:
    store = tmp_path / "agents.db"
    prepare(store, shell, ["a", "b"])
    mine = Owner(this_process(), 1, LEASE_SECONDS, instant(), False)
    other = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    me = this_process()
    them = Process(me.host, me.boot_id, me.pid_namespace, other.pid, start_of(other.pid) or 0)
    both = [sleeper(n, f"/t/{name}", owner=Owner(them, 1, LEASE_SECONDS, instant(), False), file="1:1")
            for n, name in ((1, "a"), (2, "b"))]  # fmt: skip
    keep(store, *both)
    agents = runtime()
    agents.agent("/t/a").delete()
    until(lambda: not both[0].alive)
    assert both[1].alive
    assert mine.process.pid == os.getpid()
    other.kill()
    other.wait()


def test_49_a_copy_of_a_store_leaves_the_programs_of_the_original_alone(
    runtime: Any, shell: Any, work: Path, tmp_path: Path
) -> None:
    kind = shell("echo $$ > pid; exec sleep 1000")
    original = runtime()
    run = original.spawn(kind, "/t/a", input="x").run
    until(lambda: (work / "pid").exists() and (work / "pid").read_text(), "the program")
    pid = int((work / "pid").read_text())
    copy = runtime(copied(tmp_path / "agents.db"))
    other = copy.spawn(shell("echo 1"), "/t/b", input="x").run
    assert other.result(DEADLINE) == 1  # its room of processes is at work
    until(lambda: len(records(tmp_path / "copy.db")) == 1)
    assert start_of(pid) is not None
    assert not run.done()


def test_49_a_delete_in_a_copy_ends_the_programs_of_that_agent_alone(
    runtime: Any, shell: Any, work: Path, tmp_path: Path
) -> None:
    kind = shell("read x; echo $$ > $x.new; mv $x.new $x; exec sleep 1000")
    original = runtime()
    runs = {name: original.spawn(kind, f"/t/{name}", input=name).run for name in "ab"}
    until(lambda: (work / "a").exists() and (work / "b").exists(), "the programs")
    pids = {name: int((work / name).read_text()) for name in "ab"}
    copy = runtime(copied(tmp_path / "agents.db"))
    copy.agent("/t/a").delete()
    until(lambda: start_of(pids["a"]) is None and runs["a"].done(), "the end of what was deleted")
    until(lambda: len(records(tmp_path / "copy.db")) == 1)
    assert original.spawn(shell("echo 1"), "/t/c", input="x").run.result(DEADLINE) == 1
    assert start_of(pids["b"]) is not None
    assert not runs["b"].done()


def test_50_one_removal_that_fails_is_tried_again_and_does_not_stop_the_others(
    runtime: Any, shell: Any, sleeper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "agents.db"
    prepare(store, shell, ["a", "b", "c"])
    sleepers = [sleeper(n, f"/t/{name}") for n, name in enumerate("abc", 1)]
    keep(store, *sleepers)
    stubborn = sleepers[1].process.pid
    real, tried = orphans.end_by_descriptor, []
    allowed = threading.Event()

    def fails(descriptor: int, signum: int) -> None:
        info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        if f"Pid:\t{stubborn}\n" in info and not allowed.is_set():
            tried.append(signum)
            raise PermissionError(1, "not permitted")
        real(descriptor, signum)

    monkeypatch.setattr(orphans, "end_by_descriptor", fails)
    monkeypatch.setattr(orphans, "TERM_GRACE_SECONDS", 0.1)
    runtime()
    until(lambda: records(store) == [2], "the removal of the others")
    assert not sleepers[0].alive
    assert not sleepers[2].alive
    assert sleepers[1].alive
    assert tried
    allowed.set()
    until(lambda: records(store) == [], "the second try")
    assert not sleepers[1].alive


# The whole of it


KILLED = """
import sys
from greenroom import Runtime
from greenroom.drivers import command_agent

# a child in its group and one apart from it: neither dies with it by itself
script = "sleep 1000 & echo $! >> pids; setsid sleep 1001 & echo $! >> pids; echo $$ >> pids; wait"
kind = command_agent(["/bin/sh", "-c", script], name="killed", cwd=sys.argv[2])
again = command_agent(["/bin/sh", "-c", "true"], name="after", cwd=sys.argv[2])
with Runtime(sys.argv[1], slots=20) as agents:
    for n in range(10):
        agents.spawn(kind, f"/t/a{n}", input="x")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def to_be_killed(tmp_path: Path, work: Path) -> Iterator[tuple[subprocess.Popen[str], int, list[int]]]:
    """A runtime in a process of its own, its reaper, and thirty processes of ten agents."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "agents.db"), str(work)]
    owner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        file = work / "pids"
        until(lambda: file.exists() and len(file.read_text().split()) == 30, "thirty processes")
        (warden,) = [pid for pid in below(owner.pid) if b"reaper.py" in command_of(pid)][:1]
        yield owner, warden, [int(word) for word in file.read_text().split()]
    finally:
        owner.kill()
        owner.wait()
        assert owner.stdin is not None
        owner.stdin.close()
        assert owner.stdout is not None
        owner.stdout.close()


def below(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] + [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        if task.name != str(pid)
        for child in map(int, (task / "children").read_text().split())
    ]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def living(pids: list[int]) -> list[int]:
    return [pid for pid in pids if start_of(pid) is not None]


def test_15_a_runtime_that_is_killed_leaves_no_process(to_be_killed: Any) -> None:
    owner, warden, pids = to_be_killed
    assert living(pids) == pids
    owner.kill()
    until(lambda: not living([*pids, warden]), "the end of all processes")


def test_15_what_outlives_everything_is_ended_by_the_next_start(
    to_be_killed: Any, runtime: Any, tmp_path: Path
) -> None:
    owner, warden, pids = to_be_killed
    os.kill(warden, signal.SIGSTOP)  # or it would see the end of its runtime
    owner.kill()
    owner.wait()
    os.kill(warden, signal.SIGKILL)
    until(lambda: len(living(pids)) <= 20, "the end of those that die with their parent")
    outliving = living(pids)
    assert len(outliving) == 20  # else there is nothing to be ended
    assert len(records(tmp_path / "agents.db")) == 10
    agents = runtime(kinds=())
    until(lambda: not living(outliving), "the end of what outlived")
    until(lambda: records(tmp_path / "agents.db") == [])
    assert len(agents.list()) == 10
