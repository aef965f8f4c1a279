"""A disk that the test stalls, fails and heals, under runtimes that write real files.

The faults are those of SQLite itself wherever it can be had to make them: a limit of pages, a connection
that may only read, a lock that another process holds. Nothing sleeps but the slow disk.
"""

import logging
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import pytest

from greenroom import Event, Runtime
from greenroom.persistence.records import Record
from greenroom.persistence.store import Store

T = TypeVar("T")

DEADLINE = 600.0
"""Seconds that any single wait may take; none takes a tenth of it when all is well."""


def io_error() -> sqlite3.OperationalError:
    """As SQLite raises it when the kernel could not write a page."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    return error


class Disk:
    """What the writer meets. Used by its thread and the test's."""

    def __init__(self) -> None:
        self.batches: list[tuple[Record, ...]] = []  # each that was tried
        self.path = ""
        self.delay = 0.0  # seconds for each commit
        self._fault: Callable[[Store], None] | None = None
        self._heal: Callable[[Store], None] | None = None
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._arrived = threading.Semaphore(0)
        self._holder: subprocess.Popen[str] | None = None

    # The test

    def stall(self) -> None:
        """Have the next commit wait, and all after it, until `go_on`."""
        self._goes_on.clear()
        while self._arrived.acquire(blocking=False):
            pass  # Those that came before do not count.

    def go_on(self) -> None:
        """Let the writer go on."""
        self._goes_on.set()

    def await_arrival(self) -> None:
        """Wait until the writer stands before the disk, with a batch."""
        assert self._arrived.acquire(timeout=DEADLINE), "the writer did not come"

    def breaks(self, how: str) -> None:
        """Have every write fail from now on, in this way."""
        if how == "locked":
            self._holder = subprocess.Popen(
                [sys.executable, "-c", HOLDER, self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._holder.stdout is not None
            assert self._holder.stdout.readline() == "held\n"
        self._fault = FAULTS[how]

    def heals(self) -> None:
        """Have writes succeed again."""
        if self._holder is not None:
            self._holder.communicate("let go\n", timeout=DEADLINE)
            self._holder = None
        self._fault, self._heal = None, _healed

    # The writer

    def begin(self, store: Store) -> None:
        if self._heal is not None:
            self._heal(store)
            self._heal = None
        if self._fault is not None:
            self._fault(store)

    def commit(self, store: Store) -> None:
        self._arrived.release()
        if self.delay:
            time.sleep(self.delay)
        assert self._goes_on.wait(3 * DEADLINE), "the test forgot to let the writer go on"
        if self._fault is not None:  # it broke meanwhile
            self._fault(store)


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


def _full(store: Store) -> None:
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")


def _read_only(store: Store) -> None:
    store._connection.execute("PRAGMA query_only = 1")


def _io_error(_store: Store) -> None:
    raise io_error()


def _locked(store: Store) -> None:
    store._connection.execute("PRAGMA busy_timeout = 10")


def _healed(store: Store) -> None:
    store._connection.execute("PRAGMA max_page_count = 1000000000")
    store._connection.execute("PRAGMA query_only = 0")


FAULTS: dict[str, Callable[[Store], None]] = {
    "full": _full,
    "read-only": _read_only,
    "I/O error": _io_error,
    "locked": _locked,
}


def store_on(disk: Disk) -> type[Store]:
    """A `Store` that meets this disk with every batch."""

    class Faulty(Store):
        of_a_batch = False

        def write(self, records: Sequence[Record], *, sync: bool = False) -> None:
            disk.path = self.path
            disk.batches.append(tuple(records))
            self.of_a_batch = True
            try:
                super().write(records, sync=sync)
            finally:
                self.of_a_batch = False

        def begin(self) -> None:
            if self.of_a_batch:
                disk.begin(self)
            super().begin()

        def commit(self) -> None:
            if self.of_a_batch:
                disk.commit(self)
            super().commit()

    return Faulty


class Listener:
    """All events of a runtime from now on, in order, and a way to await one of them."""

    def __init__(self, runtime: Runtime) -> None:
        self.seen: list[Event] = []
        self._changed = threading.Condition()
        self._stream = runtime.events()
        self._thread = threading.Thread(target=self._read, name="listener", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for event in self._stream:
            with self._changed:
                self.seen.append(event)
                self._changed.notify_all()

    def hear(self, type: str, count: int = 1) -> Event:
        """The `count`-th event of this type, once it has come."""

        def heard() -> list[Event]:
            return [event for event in self.seen if event.type == type]

        with self._changed:
            came = self._changed.wait_for(lambda: len(heard()) >= count, DEADLINE)
            assert came, f"no {type}; heard {[event.type for event in self.seen[-20:]]}"
            return heard()[count - 1]

    def close(self) -> None:
        """Stop listening."""
        self._stream.close()
        self._thread.join(DEADLINE)


class Later:
    """A call that goes on in the background, on a thread of its own."""

    def __init__(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._end: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

        def work() -> None:
            try:
                self._end.put((call(*args, **kwargs), None))
            except BaseException as error:  # handed on by get
                self._end.put((None, error))

        threading.Thread(target=work, daemon=True).start()

    def done(self) -> bool:
        """Whether it has returned or raised."""
        return not self._end.empty()

    def get(self, within: float = DEADLINE) -> Any:
        """What it returned or raised, once it has."""
        value, error = self._end.get(timeout=within)
        if error is not None:
            raise error
        return value


def asked_until(ask: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """Ask the runtime until the answer is enough: each question is answered in its turn."""
    deadline = time.monotonic() + DEADLINE
    while True:
        answer = ask()
        if enough(answer):
            return answer
        assert time.monotonic() < deadline, f"it did not come to what was awaited: {answer!r}"


class Log(logging.Handler):
    """The lines of greenroom's log about whether the store can be written."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "be written" in record.getMessage():
            self.lines.append(f"{record.levelname}: {record.getMessage()}")


@pytest.fixture
def log() -> Iterator[Log]:
    """What is logged meanwhile."""
    handler = Log()
    logger = logging.getLogger("greenroom")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Runtime]]:
    """Makes started runtimes, each on the disk it is given, on a file of the test's own."""
    made: list[tuple[Runtime, Disk]] = []

    def start(disk: Disk | None = None, store: Any = None, **settings: Any) -> Runtime:
        disk = disk or Disk()
        monkeypatch.setattr("greenroom.actors.storage.writer.Store", store_on(disk))
        settings.setdefault("drain", 2.0)
        runtime = Runtime(store or tmp_path / "agents.db", **settings).start()
        made.append((runtime, disk))
        return runtime

    yield start
    for runtime, disk in made:
        disk.go_on()
        disk.heals()
        Later(runtime.close, 2.0).get(60.0)


@pytest.fixture
def listen() -> Iterator[Callable[[Runtime], Listener]]:
    """Makes listeners; all end afterwards."""
    made: list[Listener] = []

    def start(runtime: Runtime) -> Listener:
        made.append(Listener(runtime))
        return made[-1]

    yield start
    for one in made:
        one.close()
