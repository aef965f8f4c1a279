"""A store's files that are removed, moved or replaced under their owner: nothing is called durable then."""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from greenroom import Retention, Runtime, StoreError, Turn, agent
from greenroom.persistence import lease_rules

DEADLINE = 600.0


@agent(name="misplaced-counter")
async def counter(turn: Turn) -> Any:
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]


@pytest.fixture(autouse=True)
def _signs_of_life_come_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_rules, "LEASE_SECONDS", 1.0)


def until(check: Callable[[], object]) -> None:
    for _ in range(int(DEADLINE / 0.02)):
        if check():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it did not come to that")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "agents.db"


@pytest.fixture
def runtime(store: Path) -> Iterator[Runtime]:
    runtime = Runtime(store, kinds=[counter], drain=0.5).start()
    runtime.spawn(counter, "/t/a", input=1).run.result(DEADLINE)
    yield runtime
    with suppress(StoreError):
        runtime.close()


def removed(store: Path) -> None:
    store.unlink()


def moved(store: Path) -> None:
    store.rename(store.with_name("moved.db"))


def replaced(store: Path) -> None:
    shutil.copy(store, store.with_name("copy.db"))
    os.replace(store.with_name("copy.db"), store)


def moved_behind_a_link(store: Path) -> None:
    """Who opens it by its new name has another log and another key: nothing would keep them apart."""
    store.rename(store.with_name("real.db"))
    store.symlink_to(store.with_name("real.db"))


def without_its_log(store: Path) -> None:
    store.with_name("agents.db-wal").unlink()


def without_its_index(store: Path) -> None:
    store.with_name("agents.db-shm").unlink()


def without_its_key(store: Path) -> None:
    store.with_name("agents.db.key").unlink()


def with_another_key(store: Path) -> None:
    store.with_name("agents.db.key").write_bytes(b"k" * 32)


def with_its_folder_moved(store: Path) -> None:
    store.parent.rename(store.parent.with_name("elsewhere"))


HOW = {
    removed: "agents.db any more: the store's file was deleted.*cp /proc/",
    moved: "agents.db any more: the store's file is .*moved.db now",
    replaced: "another file is at .*agents.db: the store's file was deleted",
    moved_behind_a_link: "another file is at .*agents.db: the store's file is .*real.db now",
    without_its_log: "no .*agents.db-wal any more.*has been copied into",
    without_its_index: "no .*agents.db-shm any more",
    without_its_key: "agents.db.key is not the key any more",
    with_another_key: "agents.db.key is not the key any more",
    with_its_folder_moved: "the store's file is .*elsewhere/agents.db now",
}


@pytest.mark.parametrize("misplace", HOW)
def test_it_is_noticed_while_nothing_is_asked_and_nothing_is_called_durable(
    runtime: Runtime, store: Path, misplace: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    misplace(store)
    until(lambda: runtime.stats().store_problem)
    ref = runtime.agent("/t/a")
    with pytest.raises(StoreError, match=HOW[misplace]):
        ref.followup(1)
    with pytest.raises(StoreError, match=HOW[misplace]):
        runtime.spawn(counter, "/t/b")
    assert ref.state() == {"n": 1}  # what is known is told all the same
    ref.followup(1, durability="memory").result(DEADLINE)
    with pytest.raises(StoreError, match=HOW[misplace]):
        runtime.close()
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len([record for record in told if "cannot be written" in record.message]) == 1


@pytest.mark.parametrize("misplace", HOW)
def test_the_first_call_after_it_hears_of_it_and_does_not_wait_for_ever(
    runtime: Runtime, store: Path, misplace: Callable[[Path], None]
) -> None:
    misplace(store)
    with pytest.raises(StoreError, match=HOW[misplace]):
        runtime.agent("/t/a").followup(1)


@pytest.mark.parametrize(
    ("misplace", "back"),
    [
        (moved, lambda store: store.with_name("moved.db").rename(store)),
        (with_its_folder_moved, lambda store: store.parent.with_name("elsewhere").rename(store.parent)),
        (with_another_key, None),
        (without_its_key, None),
    ],
)
def test_what_is_put_back_heals_it_and_nothing_is_lost(
    runtime: Runtime, store: Path, misplace: Callable[[Path], None], back: Callable[[Path], object] | None
) -> None:
    key = store.with_name("agents.db.key").read_bytes()
    misplace(store)
    until(lambda: runtime.stats().store_problem)
    ref = runtime.agent("/t/a")
    accepted = ref.followup(1, run_id="kept", durability="memory")
    if back is None:
        store.with_name("agents.db.key").write_bytes(key)
    else:
        back(store)
    until(lambda: runtime.stats().store_problem is None)
    assert accepted.result(DEADLINE) == 2
    assert ref.followup(1).result(DEADLINE) == 3
    told = [event.type for event in runtime.events(since=0, follow=False)]
    assert told.count("store.healed") == 1
    runtime.close()
    with Runtime(store, kinds=[counter]) as again:
        assert again.agent("/t/a").state() == {"n": 3}
        assert again.run("kept").result() == 2


@pytest.mark.parametrize("misplace", [moved, with_its_folder_moved, without_its_log])
def test_all_that_was_committed_is_where_it_says(
    runtime: Runtime, store: Path, misplace: Callable[[Path], None]
) -> None:
    misplace(store)
    with pytest.raises(StoreError):
        runtime.agent("/t/a").followup(1)
    with pytest.raises(StoreError):
        runtime.close()
    where = {moved: "folder/moved.db", with_its_folder_moved: "elsewhere/agents.db"}
    file = store.parent.parent / where.get(misplace, "folder/agents.db")
    if misplace is moved:
        store.with_name("agents.db.key").rename(file.with_name("moved.db.key"))
    with Runtime(file, kinds=[counter]) as again:
        assert again.agent("/t/a").followup(1).result(DEADLINE) == 2


def test_a_file_that_took_its_place_is_left_as_it_is(runtime: Runtime, store: Path) -> None:
    with Runtime(store.with_name("other.db"), kinds=[counter]) as other:
        other.spawn(counter, "/other", input=1).run.result(DEADLINE)
    os.replace(store.with_name("other.db"), store)
    before = store.read_bytes()
    with pytest.raises(StoreError):
        runtime.agent("/t/a").followup(1)
    with pytest.raises(StoreError):
        runtime.close()
    assert store.read_bytes() == before
    os.replace(store.with_name("other.db.key"), store.with_name("agents.db.key"))
    with Runtime(store, kinds=[counter]) as again:
        assert [info.path for info in again.list()] == ["/other"]


def test_it_is_noticed_at_the_end_if_nothing_came_before(runtime: Runtime, store: Path) -> None:
    store.unlink()
    with pytest.raises(StoreError, match="the store's file was deleted"):
        runtime.close()


def test_a_program_that_goes_to_another_folder_is_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Runtime("agents.db", retention=Retention()) as runtime:
        ref = runtime.spawn(counter, "/t/a")
        monkeypatch.chdir("/")
        assert ref.followup(1).result(DEADLINE) == 1
        assert runtime.stats().store_problem is None


def test_a_second_name_is_told_of_and_refused_at_the_next_opening(
    runtime: Runtime, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = store.with_name("other.db")
    os.link(store, other)
    until(lambda: "2 names (hard links) now" in caplog.text)
    assert runtime.agent("/t/a").followup(1).result(DEADLINE) == 2
    with pytest.raises(StoreError, match=r"other.db has 2 names \(hard links\)"):
        Runtime(other).start()
    runtime.close()
    with pytest.raises(StoreError, match="2 names"):
        Runtime(store).start()
    other.unlink()
    Runtime(store).start().close()
