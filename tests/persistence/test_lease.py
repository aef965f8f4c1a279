"""Who may write a store: the rules by a table, then the row, the clocks and the processes in question."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from thespian.actors import ActorSystem

from greenroom.actors.storage.protocol import (
    BatchFailed,
    CloseStore,
    OpenStore,
    StoreOpened,
    StoreRefused,
    StoreTaken,
    WriteBatch,
)
from greenroom.actors.storage.writer import PersistenceActor
from greenroom.actors.systems.local import THREAD, LocalSystemBase
from greenroom.errors import StoreError, StoreInUse, StoreLost
from greenroom.persistence import lease as claim_module
from greenroom.persistence import lease_rules
from greenroom.persistence.codec import dumps
from greenroom.persistence.lease import StoreLease, start_of, this_process
from greenroom.persistence.lease_rules import (
    Instant,
    Owner,
    Process,
    Respected,
    TakenOver,
    Torn,
    decide,
    owner_of,
)
from greenroom.persistence.records import AddAgent
from greenroom.persistence.rows import AgentRow, Unfinished
from greenroom.persistence.store import Store
from greenroom.types import Durability

DEADLINE = 600.0
LEASE = 10.0

ME = Process("here", "boot-1", "pid:[1]", 100, 5_000)
OTHER = replace(ME, pid=200, started=6_000)
NOW = Instant(wall=1_000_000.0, uptime=500.0)
ROW = AgentRow(1, "/t/a", "kind", 1, dumps({}, "it"), 1.0, 1.0)


def owned(process: Process = OTHER, *, idle: float = 1.0, wall_idle: float | None = None) -> Owner:
    """A record whose last sign of life is `idle` seconds old, by the wall clock `wall_idle`."""
    behind = idle if wall_idle is None else wall_idle
    return Owner(process, 7, LEASE, Instant(NOW.wall - behind, NOW.uptime - idle), False)


ELSEWHERE = replace(OTHER, host="there", boot_id="boot-2")
CONTAINER = replace(OTHER, pid_namespace="pid:[2]")
NO_PROC = replace(ME, boot_id="", pid_namespace="", started=0)

# record, what the system says of its pid, whether this process has it open, and the answer
CASES: dict[str, tuple[Owner | Torn | None, int | None, bool, str]] = {
    "no record": (None, None, False, "free"),
    "given back": (replace(owned(), released=True), 6_000, False, "free"),
    "torn": (Torn("pid is no number"), 6_000, False, "torn"),
    "alive": (owned(), 6_000, False, "respected"),
    "alive to the last moment of its lease": (owned(idle=LEASE), 6_000, False, "respected"),
    "alive but overdue: stopped, or hung": (owned(idle=LEASE + 0.1), 6_000, False, "expired"),
    "the wall clock was set back an hour": (owned(wall_idle=3_600.0), 6_000, False, "respected"),
    "the wall clock was set forward": (owned(wall_idle=-3_600.0), 6_000, False, "respected"),
    "gone": (owned(), None, False, "gone"),
    "its pid is another's": (owned(), 6_001, False, "reused"),
    "its pid is mine": (owned(replace(ME, started=4_000)), 5_000, False, "reused"),
    "its start is not known": (owned(replace(OTHER, started=0)), 6_000, False, "respected"),
    "the system does not say when it started": (owned(), 0, False, "respected"),
    "the same, overdue": (owned(idle=LEASE + 0.1), 0, False, "expired"),
    "another runtime of this process": (owned(ME), 5_000, True, "respected"),
    "another runtime of this process, hung": (owned(ME, idle=LEASE + 0.1), 5_000, True, "expired"),
    "a runtime of this process that is gone": (owned(ME), 5_000, False, "abandoned"),
    "a reboot": (owned(replace(OTHER, boot_id="boot-0"), idle=-400.0), 6_000, False, "reboot"),
    "another host": (owned(ELSEWHERE), None, False, "respected"),
    "another host, its pid is here too": (owned(ELSEWHERE), 6_000, False, "respected"),
    "another host, another uptime": (owned(ELSEWHERE, idle=1e6, wall_idle=1.0), None, False, "respected"),
    "another host, overdue": (owned(ELSEWHERE, wall_idle=LEASE + 0.1), None, False, "expired"),
    "another host, ahead": (owned(ELSEWHERE, wall_idle=-LEASE), None, False, "respected"),
    "another host, from the future": (owned(ELSEWHERE, wall_idle=-LEASE - 0.1), None, False, "expired"),
    "another container": (owned(CONTAINER), None, False, "respected"),
    "another container, its pid is here too": (owned(CONTAINER), 4_000, False, "respected"),
    "another container, overdue": (owned(CONTAINER, wall_idle=LEASE + 0.1), None, False, "expired"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rules(case: str) -> None:
    record, seen, held, answer = CASES[case]
    verdict = decide(record, ME, seen=seen, held=held, now=NOW)
    assert (verdict.reason if isinstance(verdict, TakenOver) else "respected") == answer


def test_the_rules_where_a_system_says_little() -> None:
    other = replace(NO_PROC, pid=200)
    for idle, seen, answer in (
        (1.0, 0, None),
        (1.0, None, "gone"),
        (11.0, 0, "expired"),
        (-1e5, 0, "expired"),
    ):
        verdict = decide(owned(other, idle=idle), NO_PROC, seen=seen, held=False, now=NOW)
        assert (verdict.reason if isinstance(verdict, TakenOver) else None) == answer


def test_every_reason_has_its_case_and_its_words() -> None:
    answers = {answer for *_, answer in CASES.values()}
    assert answers == {"respected", *lease_rules.TAKEOVER_TEXTS}


names = st.sampled_from(["a", "b", ""])
processes = st.builds(
    Process, st.sampled_from(["a", "b"]), names, names, st.integers(1, 3), st.integers(0, 2)
)
moments = st.floats(0, 1e9)
owners = st.builds(
    Owner,
    processes,
    st.integers(1, 9),
    st.floats(0, 60),
    st.builds(Instant, moments, moments),
    st.booleans(),
)


@given(
    owners, processes, st.none() | st.integers(0, 2), st.booleans(), st.builds(Instant, moments, moments)
)
def test_nobody_is_respected_without_a_sign_of_life_within_the_lease(
    owner: Owner, me: Process, seen: int | None, held: bool, now: Instant
) -> None:
    verdict = decide(owner, me, seen=seen, held=held, now=now)
    idle = min(abs(now.wall - owner.heartbeat.wall), abs(now.uptime - owner.heartbeat.uptime))
    if isinstance(verdict, Respected):
        assert idle <= owner.lease
        assert not owner.released
        assert str(owner.process.pid) in str(verdict)
        assert owner.process.host in str(verdict)
        if owner.process.system == me.system:
            assert held if owner.process == me else seen is not None
    elif verdict.reason == "expired":
        assert max(abs(now.wall - owner.heartbeat.wall), abs(now.uptime - owner.heartbeat.uptime)) > 0
    elif verdict.reason in ("gone", "reused", "abandoned"):
        assert owner.process.system == me.system, "what this system says counts for its own processes only"


@given(owners, st.none() | st.integers(0, 2), st.booleans(), st.builds(Instant, moments, moments))
def test_whoever_lives_elsewhere_is_judged_by_the_wall_clock_alone(
    owner: Owner, seen: int | None, held: bool, now: Instant
) -> None:
    me = replace(owner.process, host="c")
    verdict = decide(replace(owner, released=False), me, seen=seen, held=held, now=now)
    alive = abs(now.wall - owner.heartbeat.wall) <= owner.lease
    assert isinstance(verdict, Respected) is alive


# The row


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "agents.db")


def rows(path: str) -> list[dict[str, Any]]:
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    found = [dict(row) for row in database.execute("SELECT * FROM owner")]
    database.close()
    return found


def alter(path: str, **columns: Any) -> None:
    database = sqlite3.connect(path)
    changes = ", ".join(f"{column} = ?" for column in columns)
    assert database.execute(f"UPDATE owner SET {changes}", tuple(columns.values())).rowcount == 1
    database.commit()
    database.close()


def test_the_record_says_who_has_it_open_and_who_had(path: str) -> None:
    store, unfinished = Store.open(path, "process")
    (row,) = rows(path)
    assert owner_of(row) == store.claim.owner
    assert (row["pid"], row["host"], row["released_at"]) == (os.getpid(), os.uname().nodename, None)
    assert (row["epoch"], row["lease"]) == (unfinished.epoch, lease_rules.LEASE_SECONDS)
    assert abs(row["heartbeat"] - time.time()) < DEADLINE
    store.close()
    (row,) = rows(path)
    assert (row["pid"], row["epoch"]) == (os.getpid(), 1)
    assert row["released_at"] >= row["heartbeat"]


def test_one_process_opens_a_store_once(path: str) -> None:
    first, _ = Store.open(path, "process")
    before = rows(path)
    with pytest.raises(StoreInUse, match=f"process {os.getpid()} on {os.uname().nodename} has it open"):
        Store.open(path, "process")
    assert rows(path) == before, "who is refused changes nothing"
    first.write([AddAgent(ROW)])
    first.close()
    second, unfinished = Store.open(path, "process")
    assert (unfinished.epoch, unfinished.known, second.claim.taken.reason) == (2, 1, "free")
    second.close()


def test_a_store_that_was_dropped_is_taken_over_at_once(path: str) -> None:
    store, _ = Store.open(path, "process")
    del store
    again, unfinished = Store.open(path, "process")
    assert unfinished.epoch == 2
    assert again.claim.taken.reason == "abandoned"
    again.close()


def test_a_copy_is_a_store_of_its_own(path: str, tmp_path: Path) -> None:
    store, _ = Store.open(path, "process")
    store.tidy()
    for suffix in ("", "-wal", ".key"):
        shutil.copy(path + suffix, f"{tmp_path}/copy.db{suffix}")
    copy, _ = Store.open(f"{tmp_path}/copy.db", "process")
    store.write([AddAgent(ROW)])
    copy.write([AddAgent(ROW)])
    copy.close()
    store.close()


TORN: list[dict[str, Any]] = [
    {"pid": None},
    {"pid": -1},
    {"pid": 0},
    {"host": None},
    {"host": ""},
    {"boot_id": None},
    {"started": None},
    {"started": -5},
    {"epoch": None},
    {"epoch": 0},
    {"lease": None},
    {"lease": -1.0},
    {"heartbeat": None},
    {"uptime": None},
    {"pid": None, "host": None, "boot_id": None, "heartbeat": None},
]


@pytest.mark.parametrize("garbage", TORN, ids=str)
def test_a_torn_record_is_taken_over(path: str, garbage: dict[str, Any]) -> None:
    torn, _ = Store.open(path, "process")
    alter(path, **garbage)
    store, unfinished = Store.open(path, "process")
    assert (store.claim.taken.reason, unfinished.epoch) == ("torn", 2)
    with pytest.raises(StoreLost):
        torn.write([])
    torn.close()
    store.close()


def test_a_record_that_was_removed_is_none(path: str) -> None:
    store, _ = Store.open(path, "process")
    database = sqlite3.connect(path)
    database.execute("DELETE FROM owner")
    database.commit()
    database.close()
    store.renew()
    assert owner_of(rows(path)[0]) == store.claim.owner, "its owner puts it right"
    store.close()


def test_a_reboot_is_taken_over_at_once(path: str) -> None:
    Store.open(path, "process")[0].claim.drop()
    alter(path, boot_id="12345678-0000-0000-0000-000000000000")
    store, _ = Store.open(path, "process")
    assert store.claim.taken.reason == "reboot"
    store.close()


def test_a_reused_pid_is_taken_over_at_once(path: str) -> None:
    """Of a process that is alive and well, but not the one that had the store."""
    mother = os.getppid()
    started = start_of(mother)
    assert started
    Store.open(path, "process")[0].claim.drop()
    alter(path, pid=mother, started=started)
    with pytest.raises(StoreInUse, match=f"process {mother} on"):
        Store.open(path, "process")
    alter(path, started=started - 1)
    store, _ = Store.open(path, "process")
    assert store.claim.taken.reason == "reused"
    store.close()


def test_another_host_is_respected_until_its_lease_is_over(path: str) -> None:
    Store.open(path, "process")[0].claim.drop()
    elsewhere = {"host": "elsewhere", "boot_id": "another", "pid": 1, "uptime": 1e9}
    alter(path, **elsewhere, lease=1e6)
    with pytest.raises(StoreInUse, match=r"process 1 on elsewhere .* free in [0-9]+ s at the latest"):
        Store.open(path, "process")
    alter(path, **elsewhere, lease=10.0, heartbeat=time.time() - 11.0)
    store, _ = Store.open(path, "process")
    assert store.claim.taken.reason == "expired"
    store.close()


def test_another_container_of_this_machine_is_judged_by_its_lease(path: str) -> None:
    Store.open(path, "process")[0].claim.drop()
    alter(path, pid_namespace="pid:[1]", pid=2**22, lease=1e6)
    with pytest.raises(StoreInUse):
        Store.open(path, "process")
    alter(path, lease=0.0)
    Store.open(path, "process")[0].close()


def test_who_was_taken_over_hears_it_at_its_next_sign_of_life(path: str) -> None:
    older, _ = Store.open(path, "process", lease=0.0)
    older.renew()
    newer, _ = Store.open(path, "process")
    before = rows(path)
    for _ in range(2):
        with pytest.raises(StoreLost, match=f"process {os.getpid()} on .* has taken it over"):
            older.renew()
    with pytest.raises(StoreLost):
        older.write([AddAgent(ROW)])
    older.close()
    assert rows(path) == before, "its end changes nothing either"
    newer.write([AddAgent(ROW)])
    newer.close()


def test_who_took_a_store_over_is_named_also_when_it_has_given_it_back(path: str) -> None:
    older, _ = Store.open(path, "process", lease=0.0)
    Store.open(path, "process")[0].close()
    with pytest.raises(StoreLost, match=f"process {os.getpid()} on"):
        older.write([AddAgent(ROW)])
    older.close()


def test_a_disk_that_is_full_at_the_end_does_not_keep_the_store(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = Store.open(path, "process")

    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store.claim, "release", fail)
    with pytest.raises(StoreError, match="I/O"):
        store.close()
    again, _ = Store.open(path, "process")
    assert again.claim.taken.reason == "abandoned"
    again.close()


def test_an_owner_that_stands_still_with_the_file_locked_is_named(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = Store.open(path, "process", lease=0.0)
    store.begin()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kw: connect(*args, **kw | {"timeout": 0}))
    with pytest.raises(StoreInUse, match=f"process {os.getpid()} on .* in the middle of a transaction"):
        Store.open(path, "process")
    store._connection.execute("ROLLBACK")
    store.close()


def test_who_is_refused_does_not_wait_for_the_owners_transaction(path: str) -> None:
    store, _ = Store.open(path, "process")
    store.begin()
    with pytest.raises(StoreInUse, match=r"has it open\. Use that one"):
        Store.open(path, "process")
    store._connection.execute("ROLLBACK")
    store.close()


# The running system


def test_a_process_is_seen_until_it_has_ended(tmp_path: Path) -> None:
    me = this_process()
    assert me.pid == os.getpid()
    assert me.started == start_of(me.pid)
    assert me.boot_id
    assert me.pid_namespace
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = start_of(child.pid)
        assert started is not None
        assert started >= me.started
    finally:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_of(child.pid) is None, "killed, though nobody has waited for it yet"
    child.communicate()
    assert start_of(child.pid) is None
    assert start_of(2**70) is None


def test_a_name_of_a_process_may_hold_anything(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to(shutil.which("sleep") or "")
    child = subprocess.Popen([odd, "60"])
    try:
        started = start_of(child.pid)
        assert started is not None
        assert started >= this_process().started
    finally:
        child.kill()
        child.wait()


def test_a_system_without_proc_says_at_least_who_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_proc(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(claim_module, "open", no_proc, raising=False)
    assert start_of(os.getpid()) == 0
    assert start_of(2**22 + 1) is None
    monkeypatch.setattr(os, "readlink", no_proc)
    assert this_process() == Process(os.uname().nodename, "", "", os.getpid(), 0)


def test_a_forked_process_is_another_one(path: str) -> None:
    store, _ = Store.open(path, "process")
    code = f"""
import sys
from greenroom.persistence.store import Store
from greenroom import StoreInUse
try:
    Store.open({path!r}, "process")
except StoreInUse as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"process {os.getpid()} on" in done.stdout
    store.close()


# The claim


def test_of_many_that_race_for_a_new_store_one_gets_it(path: str) -> None:
    """Threads, each with a connection of its own; `durability/test_two_owners.py` has processes."""
    count = 6
    for round_ in range(5):
        store = f"{path}{round_}"
        start = threading.Barrier(count)
        done: SimpleQueue[StoreLease | Exception] = SimpleQueue()
        over = threading.Event()

        def race(
            store: str = store,
            start: threading.Barrier = start,
            done: SimpleQueue[Any] = done,
            over: threading.Event = over,
        ) -> None:
            start.wait(DEADLINE)
            try:
                opened, _ = Store.open(store, "process")
            except Exception as error:
                done.put(error)
                return
            done.put(opened.claim)
            over.wait(DEADLINE)  # a store is closed in its own thread
            opened.close()

        threads = [threading.Thread(target=race) for _ in range(count)]
        for thread in threads:
            thread.start()
        ends = [done.get(timeout=DEADLINE) for _ in threads]
        over.set()
        for thread in threads:
            thread.join(DEADLINE)
        (won,) = [end for end in ends if isinstance(end, StoreLease)]
        assert all(isinstance(end, StoreInUse) for end in ends if end is not won), ends
        assert won.epoch == 1


# The writer


def short(path: str, durability: Durability) -> tuple[Store, Unfinished]:
    return Store.open(path, durability, lease=0.5)


@pytest.fixture
def base() -> LocalSystemBase:
    return LocalSystemBase()


@pytest.fixture
def system(base: LocalSystemBase) -> Iterator[ActorSystem]:
    system = ActorSystem(systemBase=base, transientUnique=True)
    yield system
    system.shutdown()


def test_the_writer_gives_signs_of_life_while_it_has_nothing_to_do_and_while_the_loop_is_blocked(
    system: ActorSystem, base: LocalSystemBase, path: str
) -> None:
    writer = system.createActor(PersistenceActor, {THREAD: True})
    assert isinstance(system.ask(writer, OpenStore(path, "process", short), DEADLINE), StoreOpened)
    gate, blocked = threading.Event(), threading.Event()
    base.loop.call_soon_threadsafe(lambda: (blocked.set(), gate.wait(DEADLINE)))
    assert blocked.wait(DEADLINE)
    first = rows(path)[0]["uptime"]
    try:
        deadline = time.monotonic() + DEADLINE
        while rows(path)[0]["uptime"] <= first + 0.5:  # longer than its lease
            assert time.monotonic() < deadline
            with pytest.raises(StoreInUse):
                Store.open(path, "process")
    finally:
        gate.set()
    system.ask(writer, CloseStore(), DEADLINE)
    assert rows(path)[0]["released_at"] is not None


def test_a_writer_that_has_nothing_to_do_finds_out_that_it_was_taken_over(
    system: ActorSystem, path: str
) -> None:
    writer = system.createActor(PersistenceActor, {THREAD: True})
    system.ask(writer, OpenStore(path, "process", short), DEADLINE)
    alter(path, heartbeat=0.0, uptime=0.0)
    newer = opened_when_possible(path)
    taken = system.listen(DEADLINE)
    assert isinstance(taken, StoreTaken)
    assert f"process {os.getpid()} on" in str(taken.error)
    failed = system.ask(writer, WriteBatch(1, (AddAgent(ROW),)), DEADLINE)
    assert isinstance(failed, BatchFailed)
    assert (failed.problem, failed.fatal) == (taken.error.problem, True)
    system.ask(writer, CloseStore(), DEADLINE)
    newer.write([AddAgent(ROW)])
    newer.close()


def opened_when_possible(path: str) -> Store:
    """Taken from a live owner of the same process, between two of its signs of life."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return Store.open(path, "process", lease=60.0)[0]
        except StoreInUse:
            assert time.monotonic() < deadline
            alter(path, heartbeat=0.0, uptime=0.0)


def test_a_writer_hears_of_its_loss_at_its_next_commit_too(system: ActorSystem, path: str) -> None:
    writer = system.createActor(PersistenceActor, {THREAD: True})
    system.ask(writer, OpenStore(path, "process"), DEADLINE)
    alter(path, heartbeat=0.0, uptime=0.0)
    newer = opened_when_possible(path)
    system.tell(writer, WriteBatch(1, (AddAgent(ROW),)))
    answers = [system.listen(DEADLINE), system.listen(DEADLINE)]
    assert {type(answer) for answer in answers} == {StoreTaken, BatchFailed}
    system.tell(writer, WriteBatch(1, (AddAgent(ROW),)))
    assert isinstance(system.listen(DEADLINE), BatchFailed)
    assert system.listen(0.05) is None, "it is told once"
    system.ask(writer, CloseStore(), DEADLINE)
    newer.close()


def test_a_writer_is_refused_what_another_has_and_the_first_goes_on(system: ActorSystem, path: str) -> None:
    store, _ = Store.open(path, "process")
    writer = system.createActor(PersistenceActor, {THREAD: True})
    refused = system.ask(writer, OpenStore(path, "process"), DEADLINE)
    assert isinstance(refused, StoreRefused)
    assert isinstance(refused.error, StoreInUse)
    store.write([AddAgent(ROW)])
    store.close()
    assert isinstance(system.ask(writer, OpenStore(path, "process"), DEADLINE), StoreOpened)
    system.ask(writer, CloseStore(), DEADLINE)


def test_a_timer_of_an_earlier_opening_is_nobodys(system: ActorSystem, path: str) -> None:
    writer = system.createActor(PersistenceActor, {THREAD: True})
    for _ in range(3):
        system.ask(writer, OpenStore(path, "process", short), DEADLINE)
    system.ask(writer, CloseStore(), DEADLINE)
    (row,) = rows(path)
    assert (row["epoch"], row["released_at"] is not None) == (3, True)
    assert system.listen(0.3) is None, "what is closed gives no sign of life, and hears of no loss"


def test_an_idle_owner_is_no_reason_for_the_log_to_grow(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = Store.open(path, "process")
    monkeypatch.setattr("greenroom.persistence.store.CHECKPOINT_AFTER", 10)
    for _ in range(10):
        assert not store.untidy
        store.renew()
    assert store.untidy
    store.close()


def test_a_sign_of_life_is_not_waited_for_on_the_disk(path: str) -> None:
    store, _ = Store.open(path, "power")
    store.write([AddAgent(ROW)], sync=True)

    def level() -> int:
        found: int = store._connection.execute("PRAGMA synchronous").fetchone()[0]
        return found

    store.renew()
    assert level() == 1
    store.write([])
    assert level() == 2
    store.close()
