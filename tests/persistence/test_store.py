"""What the store promises beyond being right: seals, indexes, failures, one writer."""

import os
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom.errors import SnapshotTampered, StoreCorrupt, StoreError, StoreLost
from greenroom.persistence import codec, schema, schema_steps
from greenroom.persistence import reader as reader_module
from greenroom.persistence import store as store_module
from greenroom.persistence.keys import Signer, UnboundColumns
from greenroom.persistence.pruning import Step
from greenroom.persistence.queries import (
    EventPage,
    FindAgent,
    FindAgents,
    FindRuns,
    ListAgents,
    ListEvents,
    LoadAgent,
)
from greenroom.persistence.reader import Reader
from greenroom.persistence.records import (
    AddAgent,
    AddEvent,
    AddMessage,
    AddRun,
    DropMessages,
    EndRun,
    EraseAgent,
    PutSnapshot,
    SetAgent,
)
from greenroom.persistence.rows import AgentImage, AgentRow, EventRow, MessageRow, RunRow, Snapshot
from greenroom.persistence.store import Store
from greenroom.persistence.write_failures import WriteFailed

from .model import FOR_EVER

GOOD = codec.dumps({"fine": True}, "it")


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def agent(agent_id: int, path: str) -> AgentRow:
    return AgentRow(agent_id, path, "kind", 1, GOOD, 1.0, 1.0)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Store, Reader]]:
    """A store of two agents, each with a run done, a run open, a message and a snapshot."""
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    reader = Reader.open(store.path)
    for n, path in ((1, "/t/a"), (2, "/t/b")):
        store.write(
            [
                AddAgent(agent(n, path)),
                AddRun(RunRow(f"done{n}", 10 * n, n, path, GOOD, 1.0)),
                EndRun(f"done{n}", n, "completed", GOOD, None, 1, 1.0, 2.0),
                AddRun(RunRow(f"open{n}", 10 * n + 1, n, path, GOOD, 1.0)),
                AddMessage(MessageRow(10 * n + 2, n, GOOD, None, 1.0)),
                PutSnapshot(n, Snapshot("cloudpickle", 1, GOOD)),
                AddEvent(EventRow(n, 1.0, "agent.spawned", path)),
            ]
        )
    yield store, reader
    reader.close()
    store.close()


# Seals

COLUMNS = [
    ("agents", "config", "agent_id = 1"),
    ("runs", "input", "run_id = 'open1'"),
    ("runs", "result", "run_id = 'done1'"),
    ("snapshots", "data", "agent_id = 1"),
    ("inbox", "body", "agent_id = 1"),
]


def decoded(reader: Reader) -> list[object]:
    """Every value of agent 1 that can be had, unpickled; errors where it cannot."""
    found: list[object] = []

    def load(payload: bytes | None) -> None:
        try:
            found.append(payload and codec.loads(payload))
        except SnapshotTampered as error:
            found.append(error)

    row, run, done = reader.read(FindAgent("/t/a")), *reader.read(FindRuns(("open1", "done1")))  # type: ignore[misc]
    for payload in (row.config, row.last.result, run.input, done.result):
        load(payload)
    try:
        image = reader.read(LoadAgent(1))
        assert isinstance(image, AgentImage)
        assert image.snapshot is not None
        for payload in (image.snapshot.data, *(message.body for message in image.inbox)):
            load(payload)
    except SnapshotTampered as error:
        found.append(error)
    return found


@pytest.mark.parametrize(("table", "column", "where"), COLUMNS)
@pytest.mark.parametrize("seal", [b"", b"s" * 16, "its own"])
def test_a_pickle_bomb_is_refused_unread(
    opened: tuple[Store, Reader], tmp_path: Path, table: str, column: str, where: str, seal: Any
) -> None:
    store, reader = opened
    assert not any(isinstance(value, Exception) for value in decoded(reader))
    old = store._connection.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()[0]
    bomb = (old[:16] if seal == "its own" else seal) + codec.dumps(Bomb(tmp_path / "boom"), "it")
    store._connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (bomb,))
    refusals = [value for value in decoded(reader) if isinstance(value, SnapshotTampered)]
    assert refusals
    assert all(error.path == "/t/a" for error in refusals)
    assert not (tmp_path / "boom").exists()
    kept = store._connection.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()[0]
    assert kept == bomb  # the bytes are kept
    if (table, column) in {("agents", "config"), ("snapshots", "data"), ("inbox", "body")}:
        with pytest.raises(SnapshotTampered, match="/t/a was refused unread"):
            reader.read(LoadAgent(1))
    assert reader.read(LoadAgent(2)) is not None  # nobody else is concerned
    assert len(reader.read(ListAgents("/", None, 10))) == 2  # type: ignore[arg-type]
    assert len(reader.read(FindAgents((1, 2)))) == 2  # type: ignore[arg-type]
    store.claim.drop()  # as if its process had ended
    reopened, unfinished = Store.open(store.path, "process")
    assert len(unfinished.runs) == 2
    reopened.close()


@pytest.mark.parametrize(("table", "column", "where"), COLUMNS)
def test_a_genuine_value_cannot_be_moved(
    opened: tuple[Store, Reader], table: str, column: str, where: str
) -> None:
    store, reader = opened
    other = where.replace("1", "2")
    store._connection.execute(
        f"UPDATE {table} SET {column} = (SELECT {column} FROM {table} WHERE {other}) WHERE {where}"
    )
    assert any(isinstance(value, SnapshotTampered) for value in decoded(reader))


@pytest.mark.parametrize("change", ["codec = 'json'", "version = 2"])
def test_a_snapshot_cannot_be_given_another_codec_or_version(
    opened: tuple[Store, Reader], change: str
) -> None:
    store, reader = opened
    store._connection.execute(f"UPDATE snapshots SET {change} WHERE agent_id = 1")
    with pytest.raises(SnapshotTampered, match="state does not carry"):
        reader.read(LoadAgent(1))


def test_a_store_without_its_own_key_opens_and_refuses_its_values(tmp_path: Path) -> None:
    path = tmp_path / "agents.db"
    store, _ = Store.open(str(path), "process")
    store.write([AddAgent(agent(1, "/t/a")), PutSnapshot(1, Snapshot("json", 1, b"{}"))])
    store.close()
    own = (tmp_path / "agents.db.key").rename(tmp_path / "put away")
    store, unfinished = Store.open(str(path), "process")
    reader = Reader.open(str(path))
    assert unfinished.known == 1
    with pytest.raises(SnapshotTampered, match="Put the store's own key file back"):
        reader.read(LoadAgent(1))
    reader.close()
    store.close()
    own.replace(tmp_path / "agents.db.key")
    store, _ = Store.open(str(path), "process")
    reader = Reader.open(str(path))
    assert isinstance(reader.read(LoadAgent(1)), AgentImage)
    reader.close()
    store.close()


# Indexes

PLANS = {
    FindAgent: (reader_module.OPEN_AT, "agents_open"),
    ListAgents: (reader_module.OPEN_BETWEEN, "agents_open"),
    FindRuns: (reader_module.RUN_BY_ID, "runs_id"),
    LoadAgent: (reader_module.IMAGE, "INTEGER PRIMARY KEY"),
}
MORE_PLANS = [
    (reader_module.CLOSED_AT, "agents_closed"),
    (reader_module.OPEN_HERE, "agents_open"),
    (reader_module.CLOSED_HERE, "agents_closed"),
    (reader_module.CLOSED_BETWEEN, "agents_closed"),
    (reader_module.UNFINISHED_RUNS, "runs_unfinished"),
    (reader_module.UNFINISHED_AGENTS, "runs_unfinished"),
    (reader_module.AGENTS_BY_ID, "INTEGER PRIMARY KEY"),
    (reader_module.INBOX, "inbox_of_agent"),
    (reader_module.EVENTS, "INTEGER PRIMARY KEY"),
]


@pytest.mark.parametrize(("statement", "index"), [*PLANS.values(), *MORE_PLANS])
def test_every_question_uses_an_index(opened: tuple[Store, Reader], statement: str, index: str) -> None:
    store, _ = opened
    marks = [None] * statement.count("?")
    plan = [row[3] for row in store._connection.execute(f"EXPLAIN QUERY PLAN {statement}", marks)]
    assert any(index in step for step in plan), plan
    scans = [step for step in plan if step.startswith("SCAN") and "json_each" not in step]
    assert all("runs_unfinished" in step for step in scans), plan  # that one holds nothing else
    assert not any("TEMP B-TREE FOR ORDER BY" in step for step in plan), plan


# Failures


class Failing(Store):
    """Fails once at one step."""

    step = ""
    error: Exception = sqlite3.OperationalError("disk I/O error")

    def fail(self, step: str) -> None:
        if self.step == step:
            self.step = ""
            raise self.error

    def begin(self) -> None:
        self.fail("begin")
        super().begin()

    def apply(self, records: Any) -> None:
        super().apply(records)
        self.fail("apply")

    def commit(self) -> None:
        self.fail("commit")
        super().commit()


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("no luck")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("step", ["begin", "apply", "commit"])
@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (sqlite_error(sqlite3.SQLITE_BUSY), False),
        (sqlite_error(sqlite3.SQLITE_FULL), False),
        (sqlite_error(sqlite3.SQLITE_IOERR), False),
        (sqlite_error(sqlite3.SQLITE_IOERR_WRITE), False),
        (sqlite_error(sqlite3.SQLITE_READONLY), False),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), True),
        (sqlite_error(sqlite3.SQLITE_CONSTRAINT), True),
        (ValueError("a bug"), True),
    ],
)
def test_scenario_43_a_failed_batch_leaves_nothing_and_can_be_tried_again(
    tmp_path: Path, step: str, error: Exception, fatal: bool
) -> None:
    store, _ = Failing.open(str(tmp_path / "agents.db"), "process")
    assert isinstance(store, Failing)
    reader = Reader.open(store.path)
    store.step, store.error = step, error
    batch = [AddAgent(agent(1, "/t/a")), AddAgent(agent(2, "/t/b"))]
    with pytest.raises(WriteFailed) as caught:
        store.write(batch, sync=True)
    assert caught.value.fatal is fatal
    assert reader.read(ListAgents("/", None, 10)) == ()
    store.write(batch)
    assert len(reader.read(ListAgents("/", None, 10))) == 2  # type: ignore[arg-type]
    reader.close()
    store.close()


def test_scenario_43_a_full_disk_is_a_failure_that_can_pass(tmp_path: Path) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    batch = [AddAgent(agent(1, "/t/a")), PutSnapshot(1, Snapshot("json", 1, b"x" * 100_000))]
    with pytest.raises(WriteFailed, match="the disk is full") as caught:
        store.write(batch)
    assert not caught.value.fatal
    store._connection.execute("PRAGMA max_page_count = 1000000")
    store.write(batch)
    store.close()


def test_a_path_cannot_have_two_open_agents(tmp_path: Path) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    store.write([AddAgent(agent(1, "/t/a"))])
    with pytest.raises(WriteFailed, match="UNIQUE") as caught:
        store.write([AddEvent(EventRow(1, 1.0, "run.progress", "/t")), AddAgent(agent(2, "/t/a"))])
    assert caught.value.fatal
    store.write([SetAgent(1, "closed", None, 2.0), AddAgent(agent(2, "/t/a"))])
    reader = Reader.open(store.path)
    assert reader.read(FindAgent("/t/a")).agent_id == 2  # type: ignore[attr-defined]
    assert reader.read(ListEvents("/", 0, 9)) == EventPage(())
    reader.close()
    store.close()


def test_the_store_knows_which_events_are_gone_although_numbers_have_gaps(tmp_path: Path) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    store.write([AddEvent(EventRow(seq, 1.0, "run.progress", "/t")) for seq in (1, 2, 3, 67, 68)])
    reader = Reader.open(store.path)

    def pruned() -> int:
        return reader.read(ListEvents("/", 0, 9)).pruned  # type: ignore[attr-defined]

    found = [pruned()]
    for seq in (2, 3, 67):
        store._pruner.delete(Step(upto_seq=seq))
        found.append(pruned())
    assert found == [0, 2, 3, 67], "nothing after 3 was gone before 67 was"
    store.write([AddEvent(EventRow(seq, 1.0, "run.progress", "/t")) for seq in (69, 70)])
    store._connection.execute("DELETE FROM events WHERE seq = 69")
    assert pruned() == 67, "one of many that is erased is not their end"
    store._connection.execute("DELETE FROM events WHERE seq = 68")
    assert pruned() == 68, "somebody else removed the oldest one"
    reader.close()
    store.close()


def test_a_store_of_version_2_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "agents.db")
    with monkeypatch.context() as older:
        older.setattr(schema_steps, "STEPS", schema_steps.STEPS[:2])
        connection = schema.open_for_writing(path, "process")
        connection.execute("INSERT INTO events VALUES (5, 1.0, 'run.progress', '/t', NULL, x'7b7d')")
        connection.close()
    connection = schema.open_for_reading(path)
    schema_steps.as_of_now(connection, 2)
    reader = Reader(path, connection, Signer(b"k" * 32), places=UnboundColumns)
    assert reader.read(ListEvents("/", 0, 9)).pruned == 0  # type: ignore[attr-defined]
    reader.close()
    store, _ = Store.open(path, "process")
    reader = Reader.open(path)
    assert reader.read(ListEvents("/", 0, 9)).pruned == 4, "whatever came before it"  # type: ignore[attr-defined]
    reader.close()
    store.close()


def test_one_answer_looks_at_so_many_events_and_says_how_far_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.persistence.reader.EVENTS_IN_STEP", 10)
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    paths = {25: "/t/a", 31: "/t/a"}
    store.write(
        [AddEvent(EventRow(seq, 1.0, "run.progress", paths.get(seq, "/u"))) for seq in range(1, 36)]
    )
    reader = Reader.open(store.path)
    pages: list[EventPage] = []
    since = 0
    while not pages or pages[-1].upto is not None:
        pages.append(reader.read(ListEvents("/t", since, 9)))  # type: ignore[arg-type]
        since = pages[-1].upto or 0
    assert [page.upto for page in pages] == [10, 20, 30, None]
    assert [event.seq for page in pages for event in page.events] == [25, 31]
    store._pruner.delete(Step(upto_seq=24))
    assert reader.read(ListEvents("/t", 1, 9)).upto == 34  # type: ignore[attr-defined]
    reader.close()
    store.close()


def test_of_the_agents_closed_at_a_path_the_last_one_is_found(tmp_path: Path) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    for n in (1, 2, 3):
        store.write([AddAgent(agent(n, "/t/a")), SetAgent(n, "closed", None, 2.0)])
    reader = Reader.open(store.path)
    assert reader.read(FindAgent("/t/a")).agent_id == 3  # type: ignore[attr-defined]
    reader.close()
    store.close()


def test_the_older_of_two_writers_writes_nothing_more(tmp_path: Path) -> None:
    older, _ = Store.open(str(tmp_path / "agents.db"), "process", lease=0.0)
    newer, unfinished = Store.open(str(tmp_path / "agents.db"), "process")
    assert unfinished.epoch == 2
    for _ in range(2):
        with pytest.raises(StoreLost, match=f"process {os.getpid()} on .* has taken it over"):
            older.write([AddAgent(agent(1, "/t/a"))])
    newer.write([AddAgent(agent(1, "/t/a"))])
    older.close()
    newer.write([AddAgent(agent(2, "/t/b"))])
    newer.close()


def test_an_error_with_half_a_character_can_be_stored(tmp_path: Path) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    store.write([AddAgent(agent(1, "/t/a")), SetAgent(1, "failed", "no file \udcff", 1.0)])
    reader = Reader.open(store.path)
    assert reader.read(FindAgent("/t/a")).error == "no file \\udcff"  # type: ignore[attr-defined]
    reader.close()
    store.close()


def test_a_damaged_page_is_an_answer_and_not_a_crash(opened: tuple[Store, Reader]) -> None:
    store, _ = opened
    store.tidy()
    file = Path(store.path)
    named = "SELECT rootpage FROM sqlite_master WHERE name = 'agents_open'"
    page = 4096 * (store._connection.execute(named).fetchone()[0] - 1)
    data = bytearray(file.read_bytes())
    data[page : page + 4096] = b"\xff" * 4096
    file.with_name("copy.db").write_bytes(bytes(data))
    file.with_name("copy.db.key").write_bytes(file.with_name("agents.db.key").read_bytes())
    reader = Reader.open(str(file.with_name("copy.db")))
    with pytest.raises(StoreCorrupt, match="damaged"):
        reader.read(FindAgent("/t/a"))
    reader.close()


def test_numbers_are_never_used_again(tmp_path: Path) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    store.write([AddAgent(agent(7, "/t/a")), AddMessage(MessageRow(9, 7, GOOD, None, 1.0))])
    store.write([DropMessages(7, 9), EraseAgent(7)])
    store.close()
    store, unfinished = Store.open(str(tmp_path / "agents.db"), "process")
    assert (unfinished.next_agent_id, unfinished.next_serial, unfinished.known) == (8, 10, 0)
    store.close()


def test_erasing_leaves_nothing_of_the_agent(opened: tuple[Store, Reader]) -> None:
    store, reader = opened
    store.write([EraseAgent(1)])
    assert reader.read(LoadAgent(1)) is None
    assert reader.read(FindRuns(("done1", "open1"))) == (None, None)
    while store.erasing:
        store.prune(FOR_EVER, 1e9)
    for table in ("agents", "runs", "inbox", "snapshots", "erased"):
        rows = store._connection.execute(f"SELECT count(*) FROM {table} WHERE agent_id = 1")
        assert rows.fetchone() == (0,), table


def test_a_checkpoint_is_due_after_many_rows_or_large_ones(
    opened: tuple[Store, Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = opened
    store.tidy()
    assert not store.untidy
    monkeypatch.setattr(store_module, "CHECKPOINT_AFTER", 100)
    store.write([PutSnapshot(1, Snapshot("json", 1, b"x" * 4096 * 100))])
    assert store.untidy
    store.tidy()
    assert not store.untidy
    wal = os.stat(f"{store.path}-wal").st_size
    store.write([PutSnapshot(1, Snapshot("json", 1, b"y" * 4096 * 100))])
    assert os.stat(f"{store.path}-wal").st_size <= wal  # begun again, not longer


def test_sync_has_this_commit_alone_flushed(tmp_path: Path) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    seen: list[int] = []

    class Watching(Store):
        def commit(self) -> None:
            seen.append(self._connection.execute("PRAGMA synchronous").fetchone()[0])
            super().commit()

    store.__class__ = Watching
    store.write([])
    store.write([], sync=True)
    store.write([])
    assert seen == [1, 2, 1]
    store.close()


def test_write_failed_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(WriteFailed("agents.db", "full", False)))
    assert isinstance(error, StoreError)
    assert (error.store, error.problem, error.fatal) == ("agents.db", "full", False)


def test_a_message_to_an_agent_that_was_deleted_meanwhile_is_dropped(tmp_path: Path) -> None:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    store.write([AddAgent(AgentRow(1, "/t/a", "kind", 1, b"", 1.0, 1.0))])
    store.write([EraseAgent(1)])
    store.write([AddMessage(MessageRow(1, 1, b"late", None, 2.0))])
    assert store._connection.execute("SELECT count(*) FROM inbox").fetchone() == (0,)
    store.close()
