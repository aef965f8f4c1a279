"""The disk actors by messages, each with what it promises to its sender."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from thespian.actors import ActorExitRequest, ActorSystem

from greenroom.actors.storage.protocol import (
    Answer,
    BatchFailed,
    BatchWritten,
    CloseStore,
    OpenReader,
    OpenStore,
    Read,
    ReaderOpened,
    StoreClosed,
    StoreOpened,
    StoreRefused,
    WriteBatch,
)
from greenroom.actors.storage.reader import ReaderActor
from greenroom.actors.storage.writer import PersistenceActor
from greenroom.errors import RuntimeClosing, StoreCorrupt, StoreError
from greenroom.persistence.codec import dumps
from greenroom.persistence.queries import FindAgent, LoadAgent
from greenroom.persistence.records import AddAgent, PutSnapshot
from greenroom.persistence.rows import AgentRow, Snapshot, Unfinished
from greenroom.persistence.store import Store
from greenroom.persistence.write_failures import WriteFailed
from greenroom.types import Durability

PATIENCE = 600.0
ROW = AgentRow(1, "/t/a", "kind", 1, dumps({"a": 1}, "it"), 1.0, 1.0)


@pytest.fixture(params=["simpleSystemBase", "multiprocTCPBase", "LocalSystemBase"])
def system(request: pytest.FixtureRequest) -> Iterator[Any]:
    base, capabilities = request.param, None
    if base == "LocalSystemBase":
        local = pytest.importorskip("greenroom.actors.systems.local", exc_type=ImportError)
        base = local.LocalSystemBase()
    elif base == "multiprocTCPBase":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            capabilities = {"Admin Port": probe.getsockname()[1]}
    quiet = {"version": 1, "disable_existing_loggers": False}
    actors = ActorSystem(base, capabilities, logDefs=quiet, transientUnique=True)
    try:
        yield actors
    finally:
        actors.shutdown()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "agents.db")


def test_records_are_written_read_and_still_there(system: Any, path: str) -> None:
    writer = system.createActor(PersistenceActor)
    opened = system.ask(writer, OpenStore(path, "process"), PATIENCE)
    nonce = opened.unfinished.nonce
    assert nonce
    assert opened == StoreOpened(Unfinished(1, 1, 1, 1, nonce=nonce, crashed=False), path)
    reader = system.createActor(ReaderActor)
    assert system.ask(reader, OpenReader(opened.file), PATIENCE) == ReaderOpened()
    assert system.ask(reader, Read(1, FindAgent("/t/a")), PATIENCE) == Answer(1, None)
    written = system.ask(writer, WriteBatch(7, (AddAgent(ROW),), sync=True), PATIENCE)
    assert isinstance(written, BatchWritten)
    assert written.number == 7
    assert 0 <= written.seconds < PATIENCE
    assert system.ask(reader, Read(("b", 2), FindAgent("/t/a")), PATIENCE) == Answer(("b", 2), ROW)
    assert system.ask(reader, CloseStore(), PATIENCE) == StoreClosed()
    assert system.ask(writer, CloseStore(), PATIENCE) == StoreClosed()
    assert not Path(f"{path}-wal").exists()
    again = system.ask(writer, OpenStore(path, "process"), PATIENCE)
    assert (again.unfinished.epoch, again.unfinished.known) == (2, 1)
    system.ask(writer, CloseStore(), PATIENCE)


def test_a_store_in_memory_says_where_it_is(system: Any) -> None:
    writer, reader = system.createActor(PersistenceActor), system.createActor(ReaderActor)
    opened = system.ask(writer, OpenStore(":memory:", "memory"), PATIENCE)
    assert system.ask(reader, OpenReader(opened.file), PATIENCE) == ReaderOpened()
    system.ask(reader, CloseStore(), PATIENCE)
    system.ask(writer, CloseStore(), PATIENCE)
    assert not Path(opened.file).exists()


def test_a_store_that_cannot_be_opened_is_refused(system: Any, path: str) -> None:
    Path(path).write_text("no database")
    writer, reader = system.createActor(PersistenceActor), system.createActor(ReaderActor)
    refused = system.ask(writer, OpenStore(path, "process"), PATIENCE)
    assert isinstance(refused, StoreRefused)
    assert isinstance(refused.error, StoreCorrupt)
    assert "not a SQLite database" in str(refused.error)
    refused = system.ask(reader, OpenReader(path), PATIENCE)
    assert isinstance(refused.error, StoreError)


def test_nothing_is_written_or_read_before_the_opening_and_after_the_end(system: Any, path: str) -> None:
    writer, reader = system.createActor(PersistenceActor), system.createActor(ReaderActor)
    unwritten = BatchFailed(1, "the store is not open", True)
    assert system.ask(writer, WriteBatch(1, ()), PATIENCE) == unwritten
    assert isinstance(system.ask(reader, Read(1, FindAgent("/t")), PATIENCE).error, RuntimeClosing)
    system.ask(writer, OpenStore(path, "process"), PATIENCE)
    system.ask(writer, CloseStore(), PATIENCE)
    assert system.ask(writer, CloseStore(), PATIENCE) == StoreClosed()
    assert system.ask(writer, WriteBatch(1, ()), PATIENCE) == unwritten


def test_a_writer_that_opens_another_store_closes_the_first(system: Any, path: str) -> None:
    writer = system.createActor(PersistenceActor)
    system.ask(writer, OpenStore(path, "process"), PATIENCE)
    system.ask(writer, OpenStore(f"{path}2", "process"), PATIENCE)
    assert not Path(f"{path}-wal").exists()
    system.ask(writer, CloseStore(), PATIENCE)


class Unlucky(Store):
    """Its first transaction is given up at the very end."""

    lucky = False

    def commit(self) -> None:
        if not self.lucky:
            self.lucky = True
            raise WriteFailed(self.path, "no luck", False)
        super().commit()

    def _failure(self, error: Exception) -> WriteFailed:
        return error if isinstance(error, WriteFailed) else super()._failure(error)


def unlucky(path: str, durability: Durability) -> tuple[Store, Unfinished]:
    return Unlucky.open(path, durability)


def test_scenario_43_a_failed_batch_is_answered_and_the_next_try_succeeds(system: Any, path: str) -> None:
    writer = system.createActor(PersistenceActor)
    system.ask(writer, OpenStore(path, "process", unlucky), PATIENCE)
    batch = WriteBatch(1, (AddAgent(ROW),))
    assert system.ask(writer, batch, PATIENCE) == BatchFailed(1, "no luck", False)
    assert isinstance(system.ask(writer, batch, PATIENCE), BatchWritten)
    system.ask(writer, CloseStore(), PATIENCE)


def test_a_tampered_agent_is_an_error_for_its_reader_alone(system: Any, path: str) -> None:
    writer, reader = system.createActor(PersistenceActor), system.createActor(ReaderActor)
    system.ask(writer, OpenStore(path, "process"), PATIENCE)
    system.ask(writer, WriteBatch(1, (AddAgent(ROW),)), PATIENCE)
    system.ask(writer, CloseStore(), PATIENCE)
    Path(f"{path}.key").unlink()
    system.ask(writer, OpenStore(path, "process"), PATIENCE)
    system.ask(reader, OpenReader(path), PATIENCE)
    refused = system.ask(reader, Read(1, LoadAgent(1)), PATIENCE)
    assert refused.value is None
    assert "/t/a was refused unread" in str(refused.error)
    assert system.ask(reader, Read(2, FindAgent("/t/a")), PATIENCE).value.path == "/t/a"
    system.ask(reader, CloseStore(), PATIENCE)
    system.ask(writer, CloseStore(), PATIENCE)


def test_the_answer_to_a_large_batch_comes_before_its_checkpoint(system: Any, path: str) -> None:
    writer = system.createActor(PersistenceActor)
    system.ask(writer, OpenStore(path, "process"), PATIENCE)
    system.ask(writer, WriteBatch(0, (AddAgent(ROW),)), PATIENCE)
    for number in range(1, 4):
        large = tuple(PutSnapshot(1, Snapshot("json", 1, b"x" * 4_000_000)) for _ in range(3))
        assert isinstance(system.ask(writer, WriteBatch(number, large), PATIENCE), BatchWritten)
    system.ask(writer, CloseStore(), PATIENCE)
    assert Path(path).stat().st_size > 4_000_000


def test_a_writer_that_is_told_to_go_closes_its_store(system: Any, path: str) -> None:
    writer = system.createActor(PersistenceActor)
    system.ask(writer, OpenStore(path, "process"), PATIENCE)
    system.tell(writer, ActorExitRequest())
    deadline = time.monotonic() + PATIENCE
    log = Path(f"{path}-wal")
    while log.exists() and time.monotonic() < deadline:
        system.listen(0.01)
    assert not log.exists()


def test_answers_come_in_the_order_asked(path: str) -> None:
    actors = ActorSystem("simpleSystemBase", transientUnique=True)
    try:
        writer, reader = actors.createActor(PersistenceActor), actors.createActor(ReaderActor)
        actors.ask(writer, OpenStore(path, "process"), PATIENCE)
        actors.ask(reader, OpenReader(path), PATIENCE)
        for number in range(5):
            actors.tell(reader, Read(number, FindAgent("/t/a")))
        assert [actors.listen(PATIENCE).request for _ in range(5)] == [0, 1, 2, 3, 4]
        actors.ask(reader, CloseStore(), PATIENCE)
        actors.ask(writer, CloseStore(), PATIENCE)
    finally:
        actors.shutdown()
