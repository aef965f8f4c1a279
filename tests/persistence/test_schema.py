"""Opening: what is made, what is migrated, what is refused without a change."""

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from greenroom.errors import StoreCorrupt, StoreError, StoreTooNew
from greenroom.persistence import schema, schema_steps
from greenroom.persistence.codec import dumps
from greenroom.persistence.doctor.examination import examine
from greenroom.persistence.queries import FindAgent
from greenroom.persistence.reader import Reader
from greenroom.persistence.records import AddAgent
from greenroom.persistence.rows import AgentRow
from greenroom.persistence.store import Store


def contents(folder: Path) -> dict[str, Any]:
    """Every name below `folder`, with what it is and holds."""
    return {
        str(path.relative_to(folder)): (
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None,
            path.lstat().st_mode,
            path.lstat().st_mtime_ns if not path.is_dir() else 0,
        )
        for path in sorted(folder.rglob("*"))
    }


def refused(folder: Path, path: Path | str, error: type[StoreError], match: str) -> None:
    before = contents(folder)
    with pytest.raises(error, match=match):
        Store.open(str(path), "process")
    assert contents(folder) == before


def make_store(path: Path) -> None:
    store, _ = Store.open(str(path), "process")
    store.write([AddAgent(AgentRow(1, "/t/a", "kind", 1, dumps({"a": 1}, "it"), 1.0, 1.0))])
    store.close()


def test_only_the_owner_can_read_what_is_made(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    store.close()
    names = ("agents.db", "agents.db-wal", "agents.db-shm", "agents.db.key")
    assert modes == dict.fromkeys(names, 0o600)


def test_scenario_42_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "real.db")
    (tmp_path / "link.db").symlink_to("real.db")
    refused(tmp_path, tmp_path / "link.db", StoreError, "symbolic link.*real.db")
    (tmp_path / "dangling.db").symlink_to("nowhere")
    refused(tmp_path, tmp_path / "dangling.db", StoreError, "symbolic link")


@pytest.mark.parametrize("suffix", schema.SIDECARS)
def test_scenario_42_a_symbolic_link_beside_it_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / f"agents.db{suffix}").symlink_to("target")
    refused(tmp_path, tmp_path / "agents.db", StoreError, "symbolic link")


def test_scenario_42_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agents.db").mkdir()
    refused(tmp_path, tmp_path / "agents.db", StoreError, "is a directory")


def test_scenario_42_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "agents.db")
    refused(tmp_path, tmp_path / "agents.db", StoreError, "not a plain file")


def test_scenario_42_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, tmp_path / "no" / "agents.db", StoreError, "there is no folder .*no. Create it")


def test_scenario_42_an_unwritable_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    refused(tmp_path, tmp_path / "file" / "agents.db", StoreError, "Choose another path")
    refused(tmp_path, "/proc/agents.db", StoreError, "cannot be made")  # holds for root, too
    refused(tmp_path, "a\0b", StoreError, "null byte")


def test_scenario_42_a_file_without_the_right_to_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "agents.db")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may always
    refused(tmp_path, tmp_path / "agents.db", StoreError, "may not write")


@pytest.mark.parametrize("suffix", ["", ".key"])
def test_scenario_42_a_second_name_is_refused(tmp_path: Path, suffix: str) -> None:
    """Two owners would each have a log of their own beside their name for it."""
    make_store(tmp_path / "agents.db")
    os.link(tmp_path / f"agents.db{suffix}", tmp_path / "other")
    refused(tmp_path, tmp_path / "agents.db", StoreError, r"2 names \(hard links\).*-samefile")
    refused(tmp_path, tmp_path / "other", StoreError, "hard links|not a SQLite")
    (tmp_path / "other").unlink()
    make_store(tmp_path / "new.db")
    Store.open(str(tmp_path / "agents.db"), "process")[0].close()


def test_a_key_whose_making_was_cut_off_has_one_name(tmp_path: Path) -> None:
    make_store(tmp_path / "agents.db")
    os.link(tmp_path / "agents.db.key", tmp_path / f"agents.db.key.{'0a' * 8}")
    Store.open(str(tmp_path / "agents.db"), "process")[0].close()


@pytest.mark.parametrize("left", [b"", None])
def test_a_store_that_was_emptied_is_refused_and_not_begun_anew(tmp_path: Path, left: bytes | None) -> None:
    make_store(tmp_path / "agents.db")
    if left is None:  # a database, but without a table
        (tmp_path / "agents.db").unlink()
        empty = sqlite3.connect(tmp_path / "agents.db")
        empty.execute("PRAGMA user_version = 0")
        empty.execute("VACUUM")
        empty.close()
    else:
        (tmp_path / "agents.db").write_bytes(left)
    refused(tmp_path, tmp_path / "agents.db", StoreCorrupt, "holds nothing, but .*key beside it.*backup")
    (tmp_path / "agents.db.key").unlink()
    make_store(tmp_path / "agents.db")


@pytest.mark.parametrize("there", [True, False])
def test_a_log_without_its_file_is_not_thrown_away(tmp_path: Path, there: bool) -> None:
    """SQLite would: it takes the log of an empty file for one of a file that was removed."""
    make_store(tmp_path / "agents.db")
    (tmp_path / "agents.db").unlink()
    (tmp_path / "agents.db.key").unlink()
    (tmp_path / "agents.db-wal").write_bytes(b"what was committed last")
    if there:
        (tmp_path / "agents.db").touch()
    refused(tmp_path, tmp_path / "agents.db", StoreCorrupt, "holds nothing, but .*-wal beside it")


def test_a_removed_store_begins_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_store(tmp_path / "agents.db")
    (tmp_path / "agents.db").unlink()
    make_store(tmp_path / "agents.db")
    assert "is not there, but its key is: a new store is made" in caplog.text


@pytest.mark.parametrize("text", [b"hello", b"hello" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_scenario_42_what_is_no_database_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "agents.db").write_bytes(text)
    refused(tmp_path, tmp_path / "agents.db", StoreCorrupt, "not a SQLite database|damaged")


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_scenario_42_another_programs_database_is_refused(tmp_path: Path, mode: str) -> None:
    other = sqlite3.connect(tmp_path / "agents.db")
    other.execute(f"PRAGMA journal_mode = {mode}")
    other.execute("CREATE TABLE precious (a)")
    other.commit()
    other.close()
    refused(tmp_path, tmp_path / "agents.db", StoreCorrupt, "some other program")


def test_scenario_42_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    make_store(tmp_path / "agents.db")
    newer = sqlite3.connect(tmp_path / "agents.db")
    newer.execute(f"PRAGMA user_version = {len(schema_steps.STEPS) + 1}")
    newer.close()
    versions = (
        rf"version {len(schema_steps.STEPS) + 1}, this greenroom knows up to {len(schema_steps.STEPS)}"
    )
    refused(tmp_path, tmp_path / "agents.db", StoreTooNew, versions)


def test_scenario_42_a_damaged_store_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "agents.db")
    data = bytearray((tmp_path / "agents.db").read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    (tmp_path / "agents.db").write_bytes(bytes(data))
    with pytest.raises(StoreCorrupt, match="damaged"):
        Store.open(str(tmp_path / "agents.db"), "process")


def test_scenario_42_a_store_whose_damage_is_no_text_is_refused(tmp_path: Path) -> None:
    """SQLite's message quotes the damage, and cannot be decoded either."""
    make_store(tmp_path / "agents.db")
    data = (tmp_path / "agents.db").read_bytes()
    before, name, after = data.partition(b"tableagentsagents")
    after = after.replace(b"CREATE TABLE", b"CREATE TABXE", 1)
    (tmp_path / "agents.db").write_bytes(before + name.replace(b"s", b"\xae", 1) + after)
    refused(tmp_path, tmp_path / "agents.db", StoreCorrupt, r"damaged \(malformed .*agent\\xae")
    with pytest.raises(StoreCorrupt, match=r"agent\\xae"):
        examine(str(tmp_path / "agents.db"))


def test_a_store_whose_owner_has_just_copied_the_log_into_it_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first page told of pages that the file did not have yet, and the log is gone."""
    make_store(tmp_path / "agents.db")
    whole = (tmp_path / "agents.db").read_bytes()
    (tmp_path / "agents.db").write_bytes(whole[:8192])
    with pytest.raises(StoreCorrupt, match="damaged"):
        schema.inspect(str(tmp_path / "agents.db"))
    look = schema._is_empty

    def and_copy(path: str) -> bool:
        try:
            return look(path)
        finally:
            (tmp_path / "agents.db").write_bytes(whole)

    monkeypatch.setattr(schema, "_is_empty", and_copy)
    schema.inspect(str(tmp_path / "agents.db"))


def test_a_locked_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path / "agents.db")
    holder = sqlite3.connect(tmp_path / "agents.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kw: connect(*args, **kw | {"timeout": 0}))
    with pytest.raises(StoreError, match="another program holds it locked"):
        Store.open(str(tmp_path / "agents.db"), "process")
    holder.close()


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "agents.db").touch()
    make_store(tmp_path / "agents.db")


def test_the_version_is_in_the_file_itself_from_the_first_opening_on(tmp_path: Path) -> None:
    """Or a refusal would have to open the log of a killed writer, and so change it."""
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    header = (tmp_path / "agents.db").read_bytes()[:100]
    assert int.from_bytes(header[60:64], "big") == len(schema_steps.STEPS)
    assert int.from_bytes(header[68:72], "big") == schema.APPLICATION_ID
    store.close()


def test_a_failed_first_opening_leaves_an_empty_file_that_becomes_a_store(
    tmp_path: Path, steps: list[Any]
) -> None:
    """Removing it could remove what somebody else has made of it meanwhile."""
    steps.append(broken)
    with pytest.raises(ZeroDivisionError):
        Store.open(str(tmp_path / "agents.db"), "process")
    assert [path.name for path in tmp_path.iterdir()] == ["agents.db"]  # its key comes last
    steps.pop()
    make_store(tmp_path / "agents.db")


def broken(db: Any) -> None:
    db.table("agents").add_column("shape", str)
    raise ZeroDivisionError


def colours(db: Any) -> None:
    db.table("agents").add_column("colour", str)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The list of migrations, to add to."""
    extended = list(schema_steps.STEPS)
    monkeypatch.setattr(schema_steps, "STEPS", extended)
    return extended


def test_an_older_store_is_migrated_and_keeps_its_agents(tmp_path: Path, steps: list[Any]) -> None:
    make_store(tmp_path / "agents.db")
    steps.append(colours)
    store, unfinished = Store.open(str(tmp_path / "agents.db"), "process")
    assert unfinished.known == 1
    assert "colour" in {c[1] for c in store._connection.execute("PRAGMA table_info(agents)")}
    store.write([AddAgent(AgentRow(2, "/t/b", "kind", 1, dumps({}, "it"), 1.0, 1.0))])
    reader = Reader.open(store.path)
    assert reader.read(FindAgent("/t/a")) is not None
    reader.close()
    store.close()
    steps.pop()
    versions = rf"version {len(steps) + 1}, this greenroom knows up to {len(steps)}"
    refused(tmp_path, tmp_path / "agents.db", StoreTooNew, versions)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, steps: list[Any]) -> None:
    make_store(tmp_path / "agents.db")
    steps.extend([colours, broken])
    with pytest.raises(ZeroDivisionError):
        Store.open(str(tmp_path / "agents.db"), "process")
    del steps[-2:]
    store, unfinished = Store.open(str(tmp_path / "agents.db"), "process")
    assert (unfinished.known, unfinished.epoch) == (1, 2)
    assert not {"colour", "shape"} & {c[1] for c in store._connection.execute("PRAGMA table_info(agents)")}
    store.close()


@pytest.mark.parametrize(("durability", "level"), [("memory", 1), ("process", 1), ("power", 2)])
def test_the_settings(tmp_path: Path, durability: Any, level: int) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), durability)
    wanted = {"journal_mode": "wal", "synchronous": level, "auto_vacuum": 2, "trusted_schema": 0}
    assert {k: store._connection.execute(f"PRAGMA {k}").fetchone()[0] for k in wanted} == wanted
    store.close()


def test_a_store_in_memory_leaves_nothing_and_has_readers() -> None:
    store, _ = Store.open(":memory:", "memory")
    store.write([AddAgent(AgentRow(1, "/t/a", "kind", 1, dumps({}, "it"), 1.0, 1.0))])
    reader = Reader.open(store.path)
    assert reader.read(FindAgent("/t/a")) is not None
    reader.close()
    store.close()
    assert not Path(store.path).parent.exists()


def test_a_reader_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="open it for writing first"):
        Reader.open(str(tmp_path / "agents.db"))
    assert list(tmp_path.iterdir()) == []


def test_importing_the_store_does_not_import_sqlite_utils() -> None:
    code = "import sys, greenroom.actors.storage.writer; assert 'sqlite_utils' not in sys.modules, 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True)
