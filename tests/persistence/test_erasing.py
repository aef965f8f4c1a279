"""Deleted agents: gone at once for everybody, removed bit by bit, and nothing of others with it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.effects import Send
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.log.commits import Commit, NewEvent
from greenroom.actors.storage.protocol import Answer
from greenroom.persistence.codec import dumps
from greenroom.persistence.doctor.examination import examine
from greenroom.persistence.queries import EventPage, FindAgent, FindRuns, ListEvents, LoadAgent
from greenroom.persistence.reader import Reader
from greenroom.persistence.records import (
    AddAgent,
    AddEvent,
    AddMessage,
    AddRun,
    EndRun,
    EraseAgent,
    PutSnapshot,
    Record,
    SetAgent,
)
from greenroom.persistence.rows import AgentImage, AgentRow, EventRow, MessageRow, RunRow, Snapshot
from greenroom.persistence.store import Store

from .model import FOR_EVER

GOOD = dumps({"a": 1}, "it")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Store, Reader]]:
    store, _ = Store.open(str(tmp_path / "agents.db"), "process")
    reader = Reader.open(store.path)
    yield store, reader
    reader.close()
    store.close()


def spawned(agent_id: int, seq: int, path: str = "") -> list[Record]:
    path = path or f"/t/a{agent_id}"
    row = AgentRow(agent_id, path, "kind", 1, GOOD, 1.0, 1.0)
    return [AddAgent(row, seq), AddEvent(EventRow(seq, 1.0, "agent.spawned", path))]


def life(agent_id: int, first: int, count: int, path: str = "") -> list[Record]:
    """So many runs, each with an event; numbers and serials from `first` on."""
    path = path or f"/t/a{agent_id}"
    records: list[Record] = []
    for n in range(first, first + count):
        records += [
            AddRun(RunRow(f"r{n}", n, agent_id, path, GOOD, 1.0)),
            EndRun(f"r{n}", agent_id, "failed", None, "no luck", 1, 1.0, 1.0),
            AddEvent(EventRow(n, 1.0, "run.failed", path, f"r{n}")),
        ]
    return records


def seqs(reader: Reader, under: str = "/") -> list[int]:
    found: EventPage = reader.read(ListEvents(under, 0, 10**9))  # type: ignore[assignment]
    assert found.pruned == 0  # retention took nothing
    return [event.seq for event in found.events]


def worked_off(store: Store) -> int:
    """Prune until nothing is left; in how many steps."""
    steps = 0
    while store.erasing:
        store.prune(FOR_EVER, 1e9)
        steps += 1
    return steps


def rows(store: Store, table: str) -> int:
    found: int = store._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return found


def test_events_and_sent_messages_are_gone_at_once_and_then_from_the_file(
    opened: tuple[Store, Reader],
) -> None:
    store, reader = opened
    store.write([*spawned(1, 1), *spawned(2, 2), *life(1, 3, 4), *life(2, 10, 2)])
    store.write([AddMessage(MessageRow(20 + n, 2, GOOD, "/t/a1", 1.0, 1)) for n in range(3)])
    store.write([AddMessage(MessageRow(30, 2, GOOD, "/t/a2", 1.0, 2)), EraseAgent(1, "/t/a1", 15)])
    for _ in range(2):
        assert reader.read(FindAgent("/t/a1")) is None
        assert reader.read(FindRuns(("r3", "r10")))[0] is None  # type: ignore[index]
        assert seqs(reader) == [2, 10, 11]
        image: AgentImage = reader.read(LoadAgent(2))  # type: ignore[assignment]
        assert image.row.unread == (30,)
        assert [message.serial for message in image.inbox] == [30]
        assert wrong(store) == set()
        worked_off(store)
    assert (rows(store, "events"), rows(store, "runs"), rows(store, "inbox")) == (3, 2, 1)


def wrong(store: Store) -> set[str]:
    return {found.check for found in examine(store.path).findings if found.severity == "error"} - {
        "snapshots-there", "terminal-events", "next-numbers"  # of runs that nobody executed
    }  # fmt: skip


def test_those_before_and_after_it_at_its_path_keep_what_is_theirs(opened: tuple[Store, Reader]) -> None:
    store, reader = opened
    store.write([*spawned(1, 1, "/t/a"), *life(1, 2, 2, "/t/a"), SetAgent(1, "closed", None, 1.0)])
    store.write([AddEvent(EventRow(4, 1.0, "agent.closed", "/t/a"))])
    store.write([*spawned(2, 5, "/t/a"), *life(2, 6, 2, "/t/a"), EraseAgent(2, "/t/a", 8)])
    store.write([AddEvent(EventRow(8, 1.0, "agent.deleted", "/t/a")), *spawned(3, 9, "/t/a")])
    store.write(life(3, 10, 1, "/t/a"))
    for _ in range(2):
        assert seqs(reader, "/t/a") == [1, 2, 3, 4, 8, 9, 10]
        worked_off(store)


def test_a_large_one_goes_in_small_steps(opened: tuple[Store, Reader]) -> None:
    store, _ = opened
    store.write([*spawned(1, 1), *spawned(2, 2), *life(1, 10, 5_000), *life(2, 6_000, 100)])
    store.write([EraseAgent(1, "/t/a1", 10_000)])
    store.unpruned = 0
    most = 0
    while store.erasing:
        before = store._connection.total_changes
        store.prune(FOR_EVER, 1e9)
        most = max(most, store._connection.total_changes - before)
    assert most < 3_000  # a sweep over events takes no indexes along
    assert (rows(store, "events"), rows(store, "runs"), rows(store, "erased")) == (101, 100, 0)


def test_thousands_deleted_at_once_are_swept_together(opened: tuple[Store, Reader]) -> None:
    store, _ = opened
    for n in range(1, 2_001):
        store.write([*spawned(n, 2 * n), *life(n, 2 * n + 1, 1)])
    store.write([EraseAgent(n, f"/t/a{n}", 10_000) for n in range(1, 2_000)])
    store.unpruned = 0
    assert worked_off(store) < 40
    assert (rows(store, "events"), rows(store, "runs")) == (2, 1)


def test_an_id_of_its_runs_can_be_given_again_before_they_are_gone(opened: tuple[Store, Reader]) -> None:
    store, reader = opened
    store.write([*spawned(1, 1), *spawned(2, 2), *life(1, 10, 50), EraseAgent(1, "/t/a1", 100)])
    store.write([AddRun(RunRow("r20", 200, 2, "/t/a2", GOOD, 2.0))])
    with pytest.raises(Exception, match="UNIQUE"):
        store.write([AddRun(RunRow("r20", 201, 2, "/t/a2", GOOD, 2.0))])
    worked_off(store)
    assert [run.serial for run in reader.read(FindRuns(("r20",)))] == [200]  # type: ignore[attr-defined]


def test_what_was_not_finished_is_hidden_and_goes_on_with_the_next_opening(tmp_path: Path) -> None:
    path = str(tmp_path / "agents.db")
    store, _ = Store.open(path, "process")
    store.write([*spawned(1, 1), *life(1, 10, 30), EraseAgent(1, "/t/a1", 100)])
    store._connection.close()  # as a kill leaves it
    store.claim.drop()
    store, unfinished = Store.open(path, "process")
    assert (store.erasing, unfinished.runs, unfinished.known) == (True, (), 0)
    reader = Reader.open(path)
    assert seqs(reader) == []
    reader.close()
    worked_off(store)
    assert (rows(store, "runs"), rows(store, "events")) == (0, 0)
    store.close()


def test_closing_removes_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "agents.db"
    store, _ = Store.open(str(path), "process")
    secret = dumps("the secret" * 500, "it")
    run = RunRow("r2", 2, 1, "/t/a1", secret, 1.0)
    state = PutSnapshot(1, Snapshot("json", 1, secret))
    store.write([*spawned(1, 1), AddRun(run), AddEvent(EventRow(2, 1.0, "x", "/t/a1", None, secret))])
    store.write([state, *spawned(2, 3), AddMessage(MessageRow(9, 2, secret, "/t/a1", 1.0, 1))])
    store.tidy()  # all of it is in the file itself
    assert b"the secret" in path.read_bytes()
    store.write([EraseAgent(1, "/t/a1", 100)])
    store.close()
    assert b"the secret" not in path.read_bytes()
    left = sqlite3.connect(path)
    assert left.execute("SELECT count(*) FROM erased").fetchone() == (0,)
    left.close()


# Before it is on disk


def commit_log(store: Store) -> CommitLog:
    return CommitLog(durability="process", next_seq=1)


class Room:
    """A commit log, a store and a reader, with the disk as slow as a test says."""

    def __init__(self, store: Store, reader: Reader) -> None:
        self.store, self.reader = store, reader
        self.commit_log = CommitLog(durability="process", next_seq=1)
        self.unwritten: list[tuple[int, tuple[Record, ...]]] = []

    def commit(self, *records: Record, facts: tuple[tuple[str, str], ...] = ()) -> None:
        told = tuple(NewEvent(1.0, kind, path) for kind, path in facts)
        self.commit_log.commit(Commit(records, told))
        self.take(self.commit_log.take_batch())

    def take(self, effects: object) -> None:
        for effect in effects:  # type: ignore[attr-defined]
            if isinstance(effect, Send) and effect.to == "writer":
                batch = effect.message
                self.unwritten.append((batch.number, batch.records))  # type: ignore[attr-defined]

    def write(self) -> None:
        """Let the disk do one batch."""
        if self.unwritten:
            number, records = self.unwritten.pop(0)
            self.store.write(records)
            self.take(self.commit_log.written(number))

    def ask(self, query: object) -> object:
        answers: list[object] = []

        def answered(answer: Answer) -> tuple[()]:
            answers.append(answer.value)
            return ()

        for effect in self.commit_log.ask("it", answered, query):  # type: ignore[arg-type]
            message = effect.message  # type: ignore[union-attr]
            found = self.reader.read(message.query, message.erasing)  # type: ignore[attr-defined]
            self.commit_log.answered(Answer(message.request, found))  # type: ignore[attr-defined]
        return answers[0]


@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_it_is_gone_at_once_however_far_behind_the_disk_is(
    tmp_path_factory: pytest.TempPathFactory, writes: list[bool]
) -> None:
    path = str(tmp_path_factory.mktemp("store") / "agents.db")
    store, _ = Store.open(path, "process")
    room = Room(store, Reader.open(path))
    steps = iter(writes)

    def perhaps_write() -> None:
        if next(steps):
            room.write()

    row = [AgentRow(n, path, "kind", 1, GOOD, 1.0, 1.0) for n, path in enumerate(("/t/b", "/t/a", "/t/a"))]
    room.commit(AddAgent(row[0]), facts=(("agent.spawned", "/t/b"),))  # 1
    room.commit(AddAgent(row[1]), facts=(("agent.spawned", "/t/a"), ("x", "/t/a")))  # 2, 3
    perhaps_write()
    room.commit(SetAgent(1, "closed", None, 1.0), facts=(("agent.closed", "/t/a"),))  # 4
    room.commit(AddAgent(row[2]), facts=(("agent.spawned", "/t/a"), ("x", "/t/b"), ("x", "/t/a")))  # 5 to 7
    perhaps_write()
    room.commit(AddMessage(MessageRow(1, 0, GOOD, "/t/a", 1.0, 2)), facts=(("message.accepted", "/t/b"),))
    room.commit(AddMessage(MessageRow(2, 0, GOOD, "/t/a", 1.0, 1)))
    perhaps_write()
    room.commit(EraseAgent(2, "/t/a"), facts=(("agent.deleted", "/t/a"),))  # 9

    def look() -> None:
        assert [event.seq for event in room.ask(ListEvents("/", 0, 99)).events] == [1, 2, 3, 4, 6, 8, 9]  # type: ignore[attr-defined]
        image: AgentImage = room.ask(LoadAgent(0))  # type: ignore[assignment]
        assert image.row.unread == (2,)
        assert [message.serial for message in image.inbox] == [2]
        found: AgentRow = room.ask(FindAgent("/t/a"))  # type: ignore[assignment]
        assert found.agent_id == 1

    look()
    for _ in range(3):
        perhaps_write()
        look()
    while room.unwritten:
        room.write()
        look()
    worked_off(store)
    look()
    room.reader.close()
    store.close()
