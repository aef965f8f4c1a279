"""A death while the log is being copied into the file: the file alone is torn, file and log are not."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from greenroom import Runtime, Turn, agent

from .facts import copied

PAGE = 4096


@agent(name="kill-writes-much")
async def writes_much(turn: Turn) -> int:
    turn.state.setdefault("bodies", []).extend(message.body for message in turn.inbox)
    return len(turn.state["bodies"])


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A store as a killed process left it, with all of its last work in the log."""
    store = tmp_path / "live" / "store.db"
    store.parent.mkdir()
    with Runtime(store) as runtime:
        runtime.spawn(writes_much, "/much/a")
    with Runtime(store) as runtime:
        for n in range(40):
            runtime.agent("/much/a").send(str(n) * 5_000)
        return copied(store, tmp_path / "dead")


def cut_off(store: Path, pages: int) -> None:
    """Copy the log into the file, which goes from page to page, and die after so many."""
    whole = copied(store, store.parent / "whole")
    with sqlite3.connect(whole) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()
    with store.open("r+b") as file:
        file.write(whole.read_bytes()[: pages * PAGE])
    shutil.rmtree(whole.parent)


@pytest.mark.parametrize("pages", [0, 1, 2, 5, 20, 50])
def test_a_store_whose_checkpoint_was_cut_off_opens_with_all_that_was_in_it(dead: Path, pages: int) -> None:
    assert os.path.getsize(f"{dead}-wal") > 50 * PAGE
    assert dead.stat().st_size < 50 * PAGE, "the log has what the file lacks"
    cut_off(dead, pages)
    with Runtime(dead) as runtime:
        assert runtime.agent("/much/a").followup(1).result(timeout=60) == 40
    with sqlite3.connect(dead) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


@pytest.mark.parametrize("pages", [0, 1, 2, 5, 20])
def test_a_new_store_whose_first_checkpoint_was_cut_off_opens(tmp_path: Path, pages: int) -> None:
    """All of it stands in the log then, the schema included."""
    store = tmp_path / "live" / "store.db"
    store.parent.mkdir()
    with Runtime(store) as runtime:
        runtime.spawn(writes_much, "/much/a")
        whole = copied(store, tmp_path / "whole")
    new = tmp_path / "new" / "store.db"
    new.parent.mkdir()
    shutil.copy(f"{whole}.key", f"{new}.key")
    with sqlite3.connect(whole) as source, sqlite3.connect(new, isolation_level=None) as target:
        target.execute("PRAGMA journal_mode = WAL").fetchall()
        target.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        source.backup(target)
        dead = copied(new, tmp_path / "dead")
    source.close()
    target.close()
    cut_off(dead, pages)
    with Runtime(dead) as runtime:
        assert runtime.agent("/much/a").followup(1).result(timeout=60) == 0
