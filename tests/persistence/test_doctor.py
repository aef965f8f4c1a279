"""The doctor: a healthy store has no finding, a planted damage is found by its name and put right.

The stores are real ones, of a runtime that was busy; the damage is done by SQL.
"""

import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from greenroom import Runtime, StoreInUse
from greenroom.errors import StoreCorrupt, StoreError, StoreTooNew
from greenroom.persistence import doctor, schema_steps
from greenroom.persistence.codec import dumps
from greenroom.persistence.doctor import examination, repairing
from greenroom.persistence.doctor.check import Check
from greenroom.persistence.doctor.inspection import Inspection
from greenroom.persistence.doctor.repairs import BEFORE_TAKING, REPAIRS
from greenroom.persistence.doctor.run_checks import cycles
from greenroom.persistence.keys import SignedColumns, Signer, read_key

from .doctor_damage import CLOSED, DAMAGES, OPEN, Planted, overwritten, sealed_state
from .doctor_stores import (
    DEADLINE,
    TABLES,
    Owner,
    Worker,
    be_busy,
    change,
    content,
    counter,
    folder,
    rows,
    said,
    sign_anew,
    wait_for,
    wrong,
)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store at rest after a mixed load; not to be changed."""
    store = tmp_path_factory.mktemp("busy") / "agents.db"
    be_busy(store)
    return store


@pytest.fixture
def store(busy: Path, tmp_path: Path) -> Path:
    """A copy of it for the test."""
    for suffix in ("", ".key"):
        shutil.copy(f"{busy}{suffix}", tmp_path / f"agents.db{suffix}")
    return tmp_path / "agents.db"


# Healthy stores


def test_a_store_after_a_busy_time_has_no_finding(busy: Path) -> None:
    report = doctor.examine(str(busy))
    assert report.healthy, said(report)
    assert {finding.check for finding in report.findings} == {"failed-starts"}
    assert report.checks == tuple(check.name for check in doctor.CHECKS)
    counts = report.counts
    assert counts.runs.keys() == {"accepted", "completed", "failed", "interrupted"}
    assert counts.agents.keys() == {"idle", "failed", "closed"}
    assert counts.agents["closed"] == 2
    assert {each.codec for each in counts.snapshots} == {"cloudpickle", "json", "msgpack"}
    assert counts.inbox
    assert counts.first_event == 1
    assert counts.last_event is not None
    assert counts.last_event > counts.events  # those about the deleted agent are gone
    assert report.sizes.file == report.sizes.pages * report.sizes.page == os.stat(busy).st_size
    assert sum(report.sizes.tables.values()) <= report.sizes.file
    assert rows(busy, "SELECT 1 FROM runs WHERE status = 'accepted' AND awaits IS NOT NULL")


def test_an_empty_store_has_no_finding(tmp_path: Path) -> None:
    Runtime(tmp_path / "agents.db").start().close()
    assert doctor.examine(str(tmp_path / "agents.db")).findings == ()


def test_a_quick_examination_reads_no_value(store: Path) -> None:
    change(store, "UPDATE snapshots SET data = garbage(length(data))")
    assert wrong(doctor.examine(str(store))) == {"signatures"}
    quick = doctor.examine(str(store), quick=True)
    assert quick.healthy
    assert quick.quick
    assert "signatures" not in quick.checks
    assert quick.sizes.tables == {}


# Nothing is changed by looking


def test_looking_changes_no_byte_of_a_store_at_rest(store: Path) -> None:
    before = folder(store)
    doctor.examine(str(store))
    change(store, "UPDATE meta SET known = 99")
    damaged = folder(store)
    assert not doctor.examine(str(store)).healthy
    assert folder(store) == damaged
    assert damaged.keys() == before.keys()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[[], Owner]]:
    made: list[Owner] = []

    def make() -> Owner:
        made.append(Owner(tmp_path / "owned.db"))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def test_a_store_in_use_is_examined_without_a_trace(owner: Any, tmp_path: Path) -> None:
    live, store = owner(), str(tmp_path / "owned.db")
    live.process.send_signal(signal.SIGSTOP)  # or it could give a sign of life meanwhile
    os.waitid(os.P_PID, live.process.pid, os.WSTOPPED | os.WNOWAIT)
    before = folder(tmp_path / "owned.db")
    report = doctor.examine(store)
    after = folder(tmp_path / "owned.db")
    live.process.send_signal(signal.SIGCONT)
    assert after == before
    assert {"owned.db-wal", "owned.db-shm"} <= before.keys()
    assert report.findings == ()
    assert report.owner is not None
    assert report.owner.alive
    assert report.owner.pid == live.process.pid
    assert str(live.process.pid) in report.owner.said
    assert report.sizes.wal > 0
    assert report.counts.runs == {"completed": 1}
    assert live.run() == 2


def test_a_store_in_use_is_not_repaired(owner: Any, tmp_path: Path) -> None:
    live, store = owner(), tmp_path / "owned.db"
    os.chmod(store, 0o644)
    with pytest.raises(StoreInUse, match=str(live.process.pid)):
        doctor.repair(str(store))
    assert stat.S_IMODE(store.stat().st_mode) == 0o644
    assert live.run() == 2
    assert not list(tmp_path.glob("*before-repair*"))


def test_what_a_killed_owner_left_is_read_with_its_log_and_left_as_it_is(
    owner: Any, tmp_path: Path
) -> None:
    store = tmp_path / "owned.db"
    dead = owner()
    dead.end(signal.SIGKILL)
    assert (tmp_path / "owned.db-wal").stat().st_size > 0
    before = folder(store)
    report = doctor.examine(str(store))
    assert folder(store) == before
    assert report.counts.runs == {"completed": 1}, "the log was not read"
    assert report.healthy
    assert [finding.check for finding in report.findings] == ["owner"]
    assert report.owner is not None
    assert not report.owner.alive
    assert f"process {dead.process.pid}" in said(report)


def test_a_store_whose_owner_was_killed_at_work_has_no_finding(tmp_path: Path) -> None:
    store = tmp_path / "agents.db"
    for lines in (1, 7, 20):  # of what it says about its work
        worker = Worker(store)
        worker.read(lines)
        worker.end(signal.SIGKILL)
        report = doctor.examine(str(store))
        assert report.healthy, said(report)
        assert report.sizes.wal > 0


def test_a_log_without_its_index_is_read_as_well(owner: Any, tmp_path: Path) -> None:
    owner().end(signal.SIGKILL)
    (tmp_path / "owned.db-shm").unlink()
    before = folder(tmp_path / "owned.db")
    assert doctor.examine(str(tmp_path / "owned.db")).counts.runs == {"completed": 1}
    after = folder(tmp_path / "owned.db")
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"owned.db-shm"}


def test_a_store_that_is_opened_under_its_eyes_is_looked_at_again(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`immutable` would not see it: what was read then may be of two moments."""
    looked: list[int] = []
    real = examination._examine

    def disturbed(inspection: Any, doubts: list[str]) -> Any:
        report = real(inspection, doubts)
        if not looked:
            change(store, "UPDATE meta SET known = known + 1")
        looked.append(1)
        return report

    monkeypatch.setattr(examination, "_examine", disturbed)
    assert wrong(doctor.examine(str(store))) == {"counts"}
    assert len(looked) == 2


# Damage


@pytest.mark.parametrize("planted", DAMAGES, ids=lambda planted: f"{planted.check}-{planted.says[:30]}")
def test_planted_damage_is_found_and_repaired_without_a_loss(store: Path, planted: Planted) -> None:
    planted(store)
    before = folder(store)
    report = doctor.examine(str(store))
    assert wrong(report) == {planted.check, *planted.also}, said(report)
    assert re.search(planted.says, said(report)), said(report)
    assert folder(store) == before
    damaged = (
        None if planted.check == "pages" or "DROP TABLE inbox" in planted.statements else content(store)
    )

    done = doctor.repair(str(store))
    if not planted.repaired:
        assert wrong(done.after) == set(planted.left), said(done.after)
    else:
        assert done.after.healthy, f"{said(done.after)}\n{done.steps}"
        assert doctor.examine(str(store)).healthy
        again = doctor.repair(str(store))
        assert again.steps == ()
        assert again.backup is None
    assert done.steps or not any(finding.repairable for finding in report.findings)
    if damaged is not None:
        check_that_nothing_is_lost(store, planted, damaged, done)


def check_that_nothing_is_lost(
    store: Path, planted: Planted, damaged: dict[str, list[Any]], done: doctor.Repair
) -> None:
    if done.backup is not None:
        assert content(done.backup) == damaged
        assert stat.S_IMODE(os.stat(done.backup).st_mode) == 0o600
    now = content(store)
    aside = rows(store, "SELECT source, row FROM lost_found") if done.after.counts.set_aside else []
    for source, row in aside:
        columns = [name for (name,) in rows(store, f"SELECT name FROM pragma_table_info('{source}')")]
        values = msgspec.msgpack.decode(row)
        now[source].append(tuple(values[name] for name in columns))
    if planted.kept:
        assert {table: sorted(found, key=repr) for table, found in now.items()} == {
            table: sorted(found, key=repr) for table, found in damaged.items()
        }
    else:  # what was there is there, but for the columns that were wrong
        for table in TABLES:
            assert {row[0] for row in damaged[table]} <= {row[0] for row in now[table]}
        for table in ("inbox", "snapshots"):
            assert now[table] == damaged[table]


def test_every_check_has_damage_that_it_finds() -> None:
    """But for the notes, which have tests of their own."""
    planted = {each.check for each in DAMAGES}
    wrong_at_all = {check.name for check in doctor.CHECKS if check.severity != "note"}
    assert planted == wrong_at_all | {"owner", "processes"}


def test_every_repair_is_of_a_check_and_is_tried() -> None:
    repaired = {each.check for each in DAMAGES if each.left != (each.check, *each.also) or each.repaired}
    assert REPAIRS.keys() | BEFORE_TAKING.keys() | {"schema-version", "file-modes", "owner"} <= repaired


# What more there is to a check


def test_an_interrupt_that_was_answered_and_not_carried_out_is_no_finding(store: Path) -> None:
    change(store, "UPDATE runs SET error = 'its agent was interrupted' WHERE status = 'accepted'")
    assert doctor.examine(str(store)).healthy


def test_events_that_retention_took_are_not_missed(store: Path) -> None:
    last = "(SELECT max(seq) FROM events WHERE run_id = 'count-5-2')"
    change(store, f"DELETE FROM events WHERE seq < {last}")
    assert doctor.examine(str(store)).healthy
    change(store, f"DELETE FROM events WHERE seq <= {last}")
    assert doctor.examine(str(store)).healthy


def test_a_run_whose_outcome_is_not_told_is_missed_while_its_other_events_are_kept(store: Path) -> None:
    change(
        store,
        "DELETE FROM events WHERE seq < (SELECT min(seq) FROM events WHERE run_id = 'count-5-2')",
        "DELETE FROM events WHERE run_id = 'count-5-2' AND type = 'run.completed'",
    )
    assert "count-5-2 completed, and no event tells of it" in said(doctor.examine(str(store)))


def test_a_lost_snapshot_is_missed_although_retention_took_the_runs(store: Path) -> None:
    change(
        store,
        f"UPDATE agents SET last_run_id = NULL WHERE agent_id = {OPEN}",
        f"DELETE FROM runs WHERE agent_id = {OPEN}",
    )
    assert doctor.examine(str(store)).healthy
    change(store, f"DELETE FROM snapshots WHERE agent_id = {OPEN}")
    assert wrong(doctor.examine(str(store))) == {"snapshots-there"}


def test_a_continuation_whose_awaited_runs_were_erased_is_a_note(store: Path) -> None:
    change(
        store,
        "UPDATE runs SET awaits = '[\"gone\"]' WHERE status = 'accepted' AND awaits IS NOT NULL",
    )
    sign_anew(store)
    report = doctor.examine(str(store))
    assert report.healthy
    assert "waits for gone, which is not there" in said(report)


@pytest.mark.parametrize(
    ("waiting", "found"),
    [
        ({}, []),
        ({"a": ("b", "c"), "b": ("c",), "c": ()}, []),
        ({"a": ("ended",)}, []),
        ({"a": ("b",), "b": ("a",)}, [("a", "b")]),
        ({"x": ("a",), "a": ("b",), "b": ("c", "a"), "c": ("b",)}, [("b", "c"), ("a", "b")]),
        ({str(n): (str(n + 1),) for n in range(20_000)} | {"20000": ("19999",)}, [("19999", "20000")]),
    ],
)
def test_cycles_are_found_whatever_leads_into_them(waiting: Any, found: Any) -> None:
    assert list(cycles(waiting)) == found


def test_much_damage_of_one_kind_is_told_in_a_few_lines_and_repaired_wholly(store: Path) -> None:
    change(store, "UPDATE agents SET stateful = NULL, last_run_id = NULL")
    report = doctor.examine(str(store))
    lines = [finding for finding in report.findings if finding.check == "stateful"]
    assert len(lines) == examination.MOST_OF_A_FINDING + 1
    assert re.fullmatch("and \\d+ more like these", lines[-1].what)
    done = doctor.repair(str(store))
    assert done.after.healthy
    assert any("more like these" in step for step in done.steps)
    assert len(done.steps) < 4 * examination.MOST_OF_A_FINDING


# Nothing is executed, nothing is lost


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_nothing_that_is_stored_is_unpickled(store: Path, tmp_path: Path) -> None:
    bomb = dumps(Bomb(tmp_path / "exploded"), "it")
    sealed_state("/busy/counter-5", "cloudpickle", bomb)(store)  # genuine
    assert doctor.examine(str(store)).healthy
    connection = sqlite3.connect(store, isolation_level=None)
    for table, column in (
        ("agents", "config"),
        ("runs", "input"),
        ("snapshots", "data"),
        ("inbox", "body"),
    ):
        connection.execute(f"UPDATE {table} SET {column} = ?", (bytes(16) + bomb,))
    connection.close()
    assert wrong(doctor.examine(str(store))) >= {"signatures"}
    doctor.repair(str(store))
    assert not (tmp_path / "exploded").exists()


def test_a_repaired_store_goes_on_where_it_was(store: Path) -> None:
    change(
        store,
        "DELETE FROM meta",
        "DROP TRIGGER agent_added",
        "UPDATE owner SET pid = 0",
        f"UPDATE agents SET last_run_id = NULL WHERE agent_id = {OPEN}",
        f"UPDATE runs SET agent_id = {CLOSED} WHERE status = 'accepted' AND awaits IS NULL",
    )
    sign_anew(store)
    done = doctor.repair(str(store))
    assert done.after.healthy, said(done.after)
    with Runtime(store) as runtime:
        ref = runtime.agent("/busy/counter-5")
        outcome = ref.info().last_outcome
        assert outcome is not None
        assert outcome.run_id == "count-5-2"
        assert outcome.result == 2
        assert ref.followup(None).result(DEADLINE) == 3
        wait_for(runtime, "run.completed", "/left")  # its turn that waited for both
        assert runtime.spawn(counter, "/new", input=None).run.result(DEADLINE) == 1
    assert doctor.examine(str(store)).healthy
    assert [run for (run,) in rows(store, "SELECT run_id FROM runs WHERE status = 'accepted'")] == []


def test_the_copy_is_a_store_that_can_be_opened(store: Path) -> None:
    change(store, "UPDATE meta SET known = 1")
    first = doctor.repair(str(store)).backup
    change(store, "UPDATE meta SET known = 2")
    second = doctor.repair(str(store)).backup
    assert first == f"{store}.before-repair-1"
    assert second == f"{store}.before-repair-2"
    assert wrong(doctor.examine(first)) == wrong(doctor.examine(second)) == {"counts"}
    with Runtime(first, drain=0.0) as runtime:
        assert runtime.agent("/busy/counter-5").state() == {"count": 2}


def test_a_log_that_a_dead_owner_left_is_in_the_copy_and_survives_the_repair(
    owner: Any, tmp_path: Path
) -> None:
    store = tmp_path / "owned.db"
    owner().end(signal.SIGKILL)
    change(store, "UPDATE meta SET closed = 7")  # leaves the log, as another has it open
    done = doctor.repair(str(store))
    assert done.after.healthy
    assert done.after.counts.runs == {"completed": 1}
    assert done.after.owner is not None
    assert done.after.owner.released
    assert doctor.examine(str(done.backup)).counts.runs == {"completed": 1}


def test_without_room_for_a_copy_nothing_is_repaired(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(store, "UPDATE meta SET known = 99")
    before = folder(store)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("greenroom.persistence.doctor.repairing._copy_key", full)
    with pytest.raises(StoreError, match=r"cannot be copied .*nothing was repaired.*No space left"):
        doctor.repair(str(store))
    assert folder(store) == before


def test_a_repair_that_fails_leaves_all_as_it_was_and_says_so(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(store, "UPDATE meta SET known = 99", "UPDATE meta SET next_seq = 1")

    def fails(bench: Any) -> Iterator[str]:
        bench.connection.execute("DELETE FROM agents")
        yield "half of it"
        bench.connection.execute("SELECT * FROM nowhere")

    before = content(store)
    monkeypatch.setitem(REPAIRS, "counts", fails)
    done = doctor.repair(str(store))
    assert any(
        "could not repair counts, and left it as it was: no such table" in step for step in done.steps
    )
    assert content(store) == before
    assert wrong(done.after) == {"counts"}


@pytest.mark.parametrize(
    ("hindrance", "check"),
    [
        ("CREATE TRIGGER evil AFTER UPDATE ON meta BEGIN DELETE FROM inbox; END", "additions"),
        ("ALTER TABLE events ADD COLUMN extra TEXT", "tables"),
    ],
)
def test_where_writing_could_lose_something_nothing_is_repaired(
    store: Path, hindrance: str, check: str
) -> None:
    change(store, "UPDATE meta SET known = 99", hindrance)
    os.chmod(store, 0o644)
    before = content(store)
    done = doctor.repair(str(store))
    assert content(store) == before
    assert wrong(done.after) == {check, "counts"}
    assert done.steps[0].startswith(f"gave {store} the mode 0600")
    assert "left everything in the file as it was" in done.steps[1]
    assert done.backup is None


def test_a_damaged_table_keeps_everything_from_being_written(store: Path) -> None:
    change(store, "UPDATE meta SET known = 99")
    overwritten("events")(store)
    before = folder(store)
    done = doctor.repair(str(store))
    assert folder(store) == before
    assert "pages of it are damaged" in done.steps[0]


def test_a_store_that_is_opened_after_the_copy_was_made_is_left_alone(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(store, "UPDATE meta SET known = 99")
    real = repairing.back_up

    def and_then_somebody_opens_it(*arguments: Any) -> Any:
        made = real(*arguments)
        Runtime(store).start().close(0.0)
        return made

    monkeypatch.setattr(repairing, "back_up", and_then_somebody_opens_it)
    with pytest.raises(StoreInUse, match="opened it since it was copied"):
        doctor.repair(str(store))


# What cannot be examined


def test_what_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("no database, and long enough to be taken for one" * 100)
    newer = tmp_path / "newer.db"
    Runtime(newer).start().close()
    change(newer, f"PRAGMA user_version = {len(schema_steps.STEPS) + 1}")
    foreign = tmp_path / "foreign.db"
    change(foreign, "CREATE TABLE precious (a)")
    (tmp_path / "link.db").symlink_to(newer)
    before = folder(text)
    for path, error, match in (
        (tmp_path / "missing.db", StoreError, "no such file"),
        (tmp_path, StoreError, "is a directory"),
        (text, StoreCorrupt, "not a SQLite database"),
        (newer, StoreTooNew, "knows up to"),
        (foreign, StoreCorrupt, "some other program"),
        (tmp_path / "link.db", StoreError, "symbolic link"),
    ):
        for ask in (doctor.examine, doctor.repair):
            with pytest.raises(error, match=match):
                ask(str(path))
    assert folder(text) == before


def test_a_store_that_this_user_may_only_read_is_examined(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may always
    assert doctor.examine(str(store)).healthy
    change(store, "UPDATE meta SET known = 99")
    with pytest.raises(StoreError, match="may not write"):
        doctor.repair(str(store))


def test_a_signal_ends_an_examination_at_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within one long statement, which SQLite executes on its own."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    forever = Check("forever", "", lambda inspection: inspection.rows(endless), "")
    monkeypatch.setattr(examination, "CHECKS", (forever,))
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            doctor.examine(str(store))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


MEASURE = """
import resource, sys
from greenroom.persistence import doctor
report = doctor.examine(sys.argv[1])
assert report.healthy, report.findings
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def memory(store: Path) -> int:
    """KiB that a process takes to examine a store."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(store)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_store(store: Path) -> None:
    few = memory(store)
    many = 200_000
    sealer = Signer(read_key(str(store)))
    config, state = dumps(None, "it"), dumps({}, "it")
    connection = sqlite3.connect(store, isolation_level=None)
    connection.execute("BEGIN")
    numbers = range(1_000, 1_000 + many)
    connection.executemany(
        "INSERT INTO agents (agent_id, path, kind, version, config, created_at, updated_at, status,"
        " incarnation, last_run_id, stateful, epoch) VALUES (?, ?, 'k', 1, ?, 1, 1, 'idle', 1, ?, 1, 1)",
        (
            (
                n,
                f"/many/{n}",
                sealer.seal(config, SignedColumns.config(n, f"/many/{n}", "k", 1, None, None)),
                f"many-{n}",
            )
            for n in numbers
        ),
    )
    connection.executemany(
        "INSERT INTO runs (serial, run_id, agent_id, input, accepted_at, status, attempt, result,"
        " started_at, ended_at, epoch) VALUES (?, ?, ?, ?, 1, 'completed', 1, ?, 1, 1, 1)",
        (
            (
                n, f"many-{n}", n,
                sealer.seal(
                    config,
                    SignedColumns.input(f"many-{n}", n, n, f"/many/{n}", 1.0, None, None, None),
                ),
                sealer.seal(config, SignedColumns.result(f"many-{n}", n, "completed")),
            )
            for n in numbers
        ),
    )  # fmt: skip
    connection.executemany(
        "INSERT INTO snapshots (agent_id, codec, version, epoch, data) VALUES (?, 'cloudpickle', 1, 1, ?)",
        ((n, sealer.seal(state, ("state", n, "cloudpickle", 1))) for n in numbers),
    )
    for kind in ("run.accepted", "run.started", "run.completed"):
        connection.executemany(
            "INSERT INTO events (at, type, path, run_id, data) VALUES (1, ?, ?, ?, x'7b7d')",
            ((kind, f"/many/{n}", f"many-{n}") for n in numbers),
        )
    connection.execute(
        "UPDATE meta SET next_agent_id = 10000000, next_serial = 10000000, next_seq = 10000000"
    )
    connection.execute("COMMIT")
    connection.close()
    assert memory(store) - few < 100 * many / 1024, "more than 100 bytes for an agent with all it has"


# The manual


def test_the_manual_has_every_check_with_its_promise() -> None:
    manual = (Path(__file__).parents[2] / "docs/doctor.md").read_text()
    for check in doctor.CHECKS:
        (line,) = (line for line in manual.splitlines() if line.startswith(f"| `{check.name}` "))
        assert check.promise in line


@pytest.mark.parametrize("times", [1, 100])
def test_what_sqlite_says_against_a_store_is_believed_when_it_says_so_again(
    store: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """An owner that opens or closes the store meanwhile disturbs a look at it."""
    left = [None] * times
    rows = Inspection.rows

    def disturbed(inspection: Inspection, statement: str, *values: object) -> Any:
        if "json_each" in statement and left:
            left.pop()
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return rows(inspection, statement, *values)

    monkeypatch.setattr(Inspection, "rows", disturbed)
    found = doctor.examine(str(store)).findings
    assert [each.check for each in found if each.severity == "error"] == (
        [] if times == 1 else ["awaited-runs"]
    )
