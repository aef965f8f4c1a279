"""What this store did not sign is refused without executing, or even decompressing, a byte of it."""

import asyncio
import os
import pickle
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from greenroom import AsyncRuntime, Runtime, SnapshotTampered, Turn, agent
from greenroom.persistence import chunked_pickle
from greenroom.persistence.keys import Signer

SEAL = 16


@agent(name="d-tamper", state=lambda: {"pages": []})
async def reader(turn: Turn) -> Any:
    turn.state["pages"] += [f"{turn.input} {n}" for n in range(300)]
    return len(turn.state["pages"])


@agent(name="d-tamper-waits")
async def waits(turn: Turn) -> Any:
    await asyncio.Event().wait()


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def small(number: int) -> str:
    return f"page {number}"


def big(number: int) -> str:
    return f"page {number}, " + "which goes on and on " * 100


PAGES = {"small": small, "large": big}


@contextmanager
def database(store: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(store)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def make_store(store: Path, page: Callable[[int], str] = small) -> None:
    """Agents /t/bad and /t/good, each with a state, a last outcome and an unread message."""
    store.parent.mkdir(exist_ok=True)
    with Runtime(store) as runtime:
        for path in ("/t/bad", "/t/good"):
            ref = runtime.spawn(reader, path, config={"of": path}, input=page(1))
            assert ref.run.result(timeout=60) == 300  # type: ignore[union-attr]
            ref.send("a message")


OF_BAD = "(SELECT agent_id FROM agents WHERE path = '/t/bad')"


def stored(store: Path) -> Any:
    with database(store) as connection:
        return connection.execute(
            f"SELECT codec, version, data FROM snapshots WHERE agent_id = {OF_BAD}"
        ).fetchone()


def put(store: Path, data: bytes, codec: str | None = None) -> None:
    with database(store) as connection:
        changed = connection.execute(
            f"UPDATE snapshots SET data = ?, codec = coalesce(?, codec) WHERE agent_id = {OF_BAD}",
            (data, codec),
        ).rowcount
    assert changed == 1


def assert_refused(store: Path, *, good: bool = True) -> None:
    """The agent's runs fail by name and its bytes stay; nobody else is concerned."""
    before = stored(store)
    with Runtime(store) as runtime:
        assert [info.path for info in runtime.list()] == ["/t/bad", "/t/good"]
        bad = runtime.agent("/t/bad")
        for _ in range(2):
            outcome = bad.followup("again").outcome(timeout=60)
            assert outcome.status == "failed"
            assert outcome.started_at is None, "its code did not begin"
            assert "/t/bad was refused unread" in (outcome.error or "")
            assert "The bytes are kept" in (outcome.error or "")
        with pytest.raises(SnapshotTampered, match="/t/bad was refused unread"):
            bad.state()
        assert bad.info().status == "failed"
        if good:
            assert runtime.agent("/t/good").followup("again").result(timeout=60) == 600
    assert stored(store) == before

    async def story() -> None:
        async with AsyncRuntime(store) as runtime:
            ref = await runtime.agent("/t/bad")
            with pytest.raises(SnapshotTampered, match="/t/bad was refused unread"):
                await ref.state()

    asyncio.run(story())


# Bombs


@pytest.mark.parametrize("codec", ["cloudpickle", "cloudpickle+zlib", "json", None])
@pytest.mark.parametrize("seal", ["none", "some", "its own", "another store's"])
@pytest.mark.parametrize("page", PAGES)
def test_a_pickle_bomb_in_the_snapshot_is_never_executed(
    tmp_path: Path, page: str, seal: str, codec: str | None
) -> None:
    store, mark = tmp_path / "agents.db", tmp_path / "boom"
    make_store(store, PAGES[page])
    tag, version, old = stored(store)
    assert tag == ("cloudpickle+zlib" if page == "large" else "cloudpickle")
    bomb = pickle.dumps(Bomb(mark))
    if (codec or tag).endswith("zlib"):
        bomb = zlib.compress(bomb)
    with database(store) as connection:
        (agent_id,) = connection.execute(f"SELECT {OF_BAD}").fetchone()
    signature = {
        "none": b"",
        "some": b"s" * SEAL,
        "its own": old[:SEAL],
        "another store's": Signer(b"k" * 32).seal(bomb, ("state", agent_id, codec or tag, version))[:SEAL],
    }[seal]
    put(store, signature + bomb, codec)
    assert_refused(store)
    assert not mark.exists()


def test_the_bomb_would_go_off(tmp_path: Path) -> None:
    """What the tests here are worth: with the right key this is what happens."""
    store, mark = tmp_path / "agents.db", tmp_path / "boom"
    make_store(store)
    tag, version, _ = stored(store)
    with database(store) as connection:
        (agent_id,) = connection.execute(f"SELECT {OF_BAD}").fetchone()
    sealer = Signer((tmp_path / "agents.db.key").read_bytes())
    put(store, sealer.seal(pickle.dumps(Bomb(mark)), ("state", agent_id, tag, version)))
    with Runtime(store) as runtime:
        runtime.agent("/t/bad").state()
    assert mark.exists()


COLUMNS = {
    "a config": ("agents", "config", f"agent_id = {OF_BAD}"),
    "an unread message": ("inbox", "body", f"agent_id = {OF_BAD}"),
    "the input of a run that waits": ("runs", "input", f"agent_id = {OF_BAD} AND status = 'accepted'"),
    "the last result": ("runs", "result", f"agent_id = {OF_BAD} AND status = 'completed'"),
}


@pytest.mark.parametrize("what", COLUMNS)
@pytest.mark.parametrize("seal", ["none", "its own"])
def test_a_pickle_bomb_elsewhere_is_never_executed(tmp_path: Path, what: str, seal: str) -> None:
    store, mark = tmp_path / "agents.db", tmp_path / "boom"
    make_store(store)
    with Runtime(store, drain=0) as runtime:
        for name in ("first", "second"):  # one is under way, the other waits: both begin again
            runtime.spawn(waits, f"/w/{name}")
        runtime.agent("/t/bad").close()
        ref = runtime.spawn(waits, "/t/bad", input="done")
        ref.interrupt()
        ref.run.outcome(timeout=60)  # type: ignore[union-attr]
        ref.send("a message")
        if what == "the last result":
            ref.close()
            ref = runtime.spawn(reader, "/t/bad", input="done")
            ref.run.result(timeout=60)  # type: ignore[union-attr]
        else:
            for number in range(2):
                ref.followup(number)
        runtime.close(drain=0)
    table, column, where = COLUMNS[what]
    where = where.replace("path = '/t/bad'", "path = '/t/bad' AND status <> 'closed'")
    with database(store) as connection:
        rows = connection.execute(f"SELECT rowid, {column} FROM {table} WHERE {where}").fetchall()
        assert rows
        for rowid, old in rows:
            bomb = (old[:SEAL] if seal == "its own" else b"") + pickle.dumps(Bomb(mark))
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (bomb, rowid))
    with Runtime(store, drain=0) as runtime:
        runtime.agent("/t/good").followup("again").result(timeout=60)
        bad = runtime.agent("/t/bad")
        bad.info()
        runtime.list()
        list(runtime.events(follow=False))
        if what != "the last result":
            assert bad.followup("again", run_id="again").run_id == "again"
            bad.interrupt()
            assert runtime.run("again").outcome(timeout=60).status in ("failed", "interrupted")
    assert not mark.exists()


# Altered bytes, and other keys


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("where", [0, SEAL - 1, SEAL, -1, "cut", "longer"])
def test_an_altered_byte_is_refused_wherever_it_is(
    tmp_path: Path, page: str, where: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "agents.db"
    make_store(store, PAGES[page])
    data = bytearray(stored(store)[2])
    if where == "cut":
        del data[-1]
    elif where == "longer":
        data += b"\0"
    else:
        data[where] ^= 1  # type: ignore[index]
    put(store, bytes(data))

    def read(*args: Any, **options: Any) -> Any:
        raise AssertionError("bytes that are not genuine were read")

    with (
        monkeypatch.context() as patched
    ):  # of large states; the good agent's would be read in the same way
        if page == "large":
            patched.setattr(chunked_pickle, "unpickled", read)
            patched.setattr(chunked_pickle, "decompressed", read)
        assert_refused(store, good=page == "small")


@pytest.mark.parametrize("tag", ["cloudpickle", "json+zlib", "msgpack"])
def test_genuine_bytes_are_not_read_in_another_way(tmp_path: Path, tag: str) -> None:
    """The seal covers how they are to be read, also whether they are compressed."""
    store = tmp_path / "agents.db"
    make_store(store, big)
    put(store, stored(store)[2], tag)
    assert_refused(store)


@pytest.mark.parametrize("page", PAGES)
def test_a_snapshot_of_another_store_is_refused(tmp_path: Path, page: str) -> None:
    """The same agents with the same numbers, and another key."""
    store, foreign = tmp_path / "agents.db", tmp_path / "elsewhere" / "agents.db"
    make_store(store, PAGES[page])
    make_store(foreign, PAGES[page])
    assert stored(store)[:2] == stored(foreign)[:2]
    put(store, stored(foreign)[2])
    assert_refused(store)


@pytest.mark.parametrize("page", PAGES)
def test_a_store_with_another_key_reads_nothing_until_it_has_its_own_again(
    tmp_path: Path, page: str
) -> None:
    store, key = tmp_path / "agents.db", tmp_path / "agents.db.key"
    make_store(store, PAGES[page])
    own = key.read_bytes()
    make_store(tmp_path / "elsewhere" / "agents.db")
    shutil.copy(tmp_path / "elsewhere" / "agents.db.key", key)
    assert_refused(store, good=False)
    key.write_bytes(own)
    with Runtime(store) as runtime:
        for path in ("/t/bad", "/t/good"):
            assert runtime.agent(path).followup("again").result(timeout=60) == 600
