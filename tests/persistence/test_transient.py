"""Looks at a store whose owner opens and closes it all the time: each is answered, and none cries wolf."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from greenroom.cli.store_reader import StoreReader
from greenroom.errors import StoreCorrupt, StoreError
from greenroom.persistence import transient
from greenroom.persistence.doctor.examination import examine
from greenroom.persistence.transfer import export


def failing(store: Path, *, times: int, changes: bool) -> list[int]:
    """Asks of a store that SQLite says is damaged, so often; how often it was asked."""
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        if changes:
            store.write_bytes(bytes(len(asked)))
        if len(asked) > times:
            return "found"
        try:
            raise sqlite3.DatabaseError("malformed")
        except sqlite3.Error as error:
            raise StoreCorrupt(str(store), "it is damaged") from error

    assert transient.look(str(store), ask) == "found"
    return asked


def test_what_is_said_against_a_store_once_is_asked_again(tmp_path: Path) -> None:
    assert len(failing(tmp_path / "a.db", times=1, changes=False)) == 2
    assert len(failing(tmp_path / "a.db", times=6, changes=True)) == 7


def test_what_is_said_twice_of_files_that_have_not_changed_is_believed(tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match="damaged"):
        failing(tmp_path / "a.db", times=2, changes=False)


def test_what_is_said_of_files_that_always_change_is_said_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transient, "RETRY_PAUSES", (0.0, 0.001, 0.001))
    with pytest.raises(StoreCorrupt, match="damaged"):
        failing(tmp_path / "a.db", times=3, changes=True)

    def disturbed() -> None:
        raise transient.Disturbed("a.db")

    with pytest.raises(StoreError, match="changed all the time"):
        transient.look("a.db", disturbed)


def test_what_was_not_sqlites_word_is_believed_at_once() -> None:
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        raise StoreError("a.db", "there is no such file.")

    with pytest.raises(StoreError, match="no such file"):
        transient.look("a.db", ask)
    assert asked == [1]


OWNER = """
import sys
from greenroom.persistence.codec import dumps
from greenroom.persistence.records import AddAgent, AddEvent, PutSnapshot
from greenroom.persistence.rows import AgentRow, EventRow, Snapshot
from greenroom.persistence.store import Store
value = dumps("x" * 3000, "it")
count = 0
while True:
    store, unfinished = Store.open(sys.argv[1], "process")
    if not unfinished.known:
        store.write([AddAgent(AgentRow(n, f"/t/a{n}", "kind", 1, value, 1.0, 1.0)) for n in range(1, 101)])
    for n in range(1, 20):
        count += 1
        event = EventRow(unfinished.next_seq + n - 1, 1.0, "run.progress", "/t/a1")
        store.write([PutSnapshot(1 + count % 100, Snapshot("json", 1, value)), AddEvent(event)])
    store.close()
    print(unfinished.epoch, flush=True)
"""


@contextmanager
def busy_owner(store: Path) -> Iterator[None]:
    """Another process opens, changes and closes it, as fast as it can."""
    with subprocess.Popen([sys.executable, "-c", OWNER, str(store)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()  # once it is there
        drain = threading.Thread(target=owner.stdout.read, daemon=True)
        drain.start()
        try:
            yield
            assert owner.poll() is None
        finally:
            owner.kill()


def looks(store: Path, count: int) -> Counter[str]:
    """So many looks by all that looks, in threads; what was wrong."""
    wrong: Counter[str] = Counter()
    file = StoreReader(str(store))

    def look(number: int) -> None:
        if number % 10 == 0:
            found = {found.check for found in examine(str(store), quick=True).findings}
            assert found <= {"owner"}, found
        elif number % 25 == 1:
            with open(os.devnull, "wb") as nowhere:
                assert export(str(store), nowhere).agents == 100
        elif number % 3 == 0:
            assert file.agent("/t/a1").path == "/t/a1"
        else:
            assert len(file.agents("/", status=None, after=None, limit=1000).agents) == 100

    def work(numbers: range) -> None:
        for number in numbers:
            try:
                look(number)
            except (AssertionError, StoreError) as error:
                wrong[f"{type(error).__name__}: {error}".replace(str(store), "the store")] += 1

    threads = [threading.Thread(target=work, args=(range(n, count, 4),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def test_two_thousand_looks_beside_an_owner_that_opens_and_closes(tmp_path: Path) -> None:
    with busy_owner(tmp_path / "agents.db"):
        assert looks(tmp_path / "agents.db", 2_000) == {}


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_a_hundred_thousand_looks_beside_an_owner_that_opens_and_closes(tmp_path: Path) -> None:
    with busy_owner(tmp_path / "agents.db"):
        assert looks(tmp_path / "agents.db", 100_000) == {}
