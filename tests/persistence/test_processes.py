"""Records of processes: whose they are, how they are kept, and how an older store gets a table for them."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from greenroom.persistence import doctor, schema, schema_steps
from greenroom.persistence.lease import file_of, held_here
from greenroom.persistence.lease_rules import LEASE_SECONDS, Instant, Owner, Process
from greenroom.persistence.processes import OrphanVerdict, ProcessRow, TornRow, columns_of, judge, row_of
from greenroom.persistence.store import Store
from greenroom.persistence.write_failures import WriteFailed

ME = Process("host", "boot", "pid:[1]", 100, 1000)
OTHER = Process("host", "boot", "pid:[1]", 200, 2000)
CHILD = Process("host", "boot", "pid:[1]", 300, 3000)
NOW = Instant(10_000.0, 500.0)
ROW = ProcessRow(
    7, 3, 2, "/t/a", "kind", CHILD, Owner(OTHER, 4, LEASE_SECONDS, NOW, False), "token-of-then", "8:15"
)
LONG_AGO = Instant(NOW.wall - 1000, NOW.uptime - 400)


def owned(**changes: Any) -> ProcessRow:
    return replace(ROW, owner=replace(ROW.owner, **changes))


@pytest.mark.parametrize(
    ("row", "circumstances", "verdict"),
    [
        # in its own store, what an earlier opening left is nobody's, alive though its owner may be
        (ROW, {}, "there"),
        (ROW, {"owner_seen": None}, "there"),
        (ROW, {"seen": None}, "gone"),
        (ROW, {"seen": 3001}, "reused"),
        (ROW, {"seen": 0}, "reused"),  # a start that nobody knows is nobody's
        (replace(ROW, process=replace(CHILD, started=0)), {"seen": 0}, "reused"),
        # in a copy, a live owner has it in the original
        (ROW, {"here": False}, "spared"),
        (owned(heartbeat=LONG_AGO), {"here": False}, "spared"),  # nobody renews it in a copy
        (ROW, {"here": False, "owner_seen": None}, "there"),
        (ROW, {"here": False, "owner_seen": 2001}, "there"),  # that pid is another's now
        (owned(process=ME), {"here": False, "owner_seen": 1000, "held": True}, "spared"),
        (owned(process=ME), {"here": False, "owner_seen": 1000, "held": False}, "there"),
        # of another boot, another container, another host
        (replace(ROW, process=replace(CHILD, boot_id="before")), {}, "gone"),
        (replace(ROW, process=replace(CHILD, pid_namespace="pid:[2]")), {}, "spared"),
        (replace(owned(heartbeat=LONG_AGO), process=replace(CHILD, host="other")), {}, "elsewhere"),
        (TornRow(7, "no pid"), {}, "torn"),
    ],
)
def test_the_rules(row: Any, circumstances: dict[str, Any], verdict: OrphanVerdict) -> None:
    seen = {"here": True, "seen": 3000, "owner_seen": 2000, "held": False, "now": NOW, **circumstances}
    assert judge(row, ME, **seen) == verdict


def names() -> list[str]:
    return [name.strip() for name in schema_columns()]


def schema_columns() -> list[str]:
    from greenroom.persistence.processes import PROCESS_COLUMNS

    return PROCESS_COLUMNS.split(",")


def test_a_row_comes_back_as_it_was_written() -> None:
    assert row_of(dict(zip(names(), columns_of(ROW), strict=True))) == ROW


@pytest.mark.parametrize(
    "column", ["pid", "started", "host", "owner_pid", "epoch", "agent_id", "token", "path"]
)
def test_a_torn_record_is_no_record(column: str) -> None:
    values: dict[str, Any] = {**dict(zip(names(), columns_of(ROW), strict=True)), column: None}
    row = row_of(values)
    assert isinstance(row, TornRow)
    assert row.number == 7
    assert row.mark == (None if column == "token" else ROW.mark)


def test_records_are_kept_and_dropped_and_found_by_the_next_opening(tmp_path: Path) -> None:
    path = str(tmp_path / "agents.db")
    store, found = Store.open(path, "process")
    assert found.left == ()
    rows = [replace(ROW, number=number) for number in (1, 2, 3)]
    store.keep_processes(rows, [2])
    store.keep_processes([], [3, 9])
    store.close()
    store, found = Store.open(path, "process")
    assert [row.number for row in found.left] == [1]
    assert found.left[0] == rows[0]
    store.close()


def test_a_sign_of_life_of_the_owner_is_in_its_records(tmp_path: Path) -> None:
    path = str(tmp_path / "agents.db")
    store, _ = Store.open(path, "process")
    mine = replace(ROW, owner=replace(ROW.owner, epoch=store.epoch, heartbeat=LONG_AGO))
    store.keep_processes([mine, replace(ROW, number=8, owner=replace(ROW.owner, epoch=99))], [])
    store.renew()
    beat = store.claim.owner.heartbeat
    store.close()
    store, found = Store.open(path, "process")
    assert [row.owner.heartbeat for row in found.left if isinstance(row, ProcessRow)] == [beat, NOW]
    store.close()


def test_a_failing_disk_is_said_and_nothing_is_changed(tmp_path: Path) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    store._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(WriteFailed):
        store.keep_processes([ROW], [])
    store._connection.execute("PRAGMA query_only = OFF")
    store.keep_processes([ROW], [])
    store.close()


def test_a_copy_is_another_file(tmp_path: Path) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    file = file_of(store.path)
    assert held_here(file, store.epoch)
    assert not held_here(file, store.epoch + 1)
    (tmp_path / "copy.db").write_bytes((tmp_path / "agents.db").read_bytes())
    assert not held_here(file_of(str(tmp_path / "copy.db")), store.epoch)
    store.close()
    assert not held_here(file, store.epoch)


def test_a_store_of_version_1_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agents.db"
    with monkeypatch.context() as older:
        older.setattr(schema_steps, "STEPS", schema_steps.STEPS[:1])
        schema.open_for_writing(str(path), "process").close()
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    assert database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'processes'").fetchone() == (
        0,
    )
    database.close()
    store, found = Store.open(str(path), "process")
    assert found.left == ()
    store.keep_processes([ROW], [])
    store.close()
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (len(schema_steps.STEPS),)
    database.close()


def test_the_doctor_notes_what_nobody_has_any_more(tmp_path: Path) -> None:
    path = str(tmp_path / "agents.db")
    store, _ = Store.open(path, "process")
    mine = replace(ROW, owner=replace(ROW.owner, epoch=store.epoch))
    store.keep_processes([mine], [])
    assert doctor.examine(path).findings == ()  # its owner is alive
    store.close()
    (finding,) = doctor.examine(path).findings
    assert (finding.check, finding.severity) == ("processes", "note")
    assert "1 processes are recorded that nobody has any more" in finding.what
