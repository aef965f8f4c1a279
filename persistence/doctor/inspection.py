"""A store opened so that looking at it changes nothing: not the file, not its log.

SQLite writes even where it only reads: it makes the log and its index, and marks in the index how far each
reader is. So a file without a log is opened as `immutable`. One with a log and an index (its owner is at
work, or was killed) is opened with an index that is only read. A log *without* an index, as a careless copy
leaves behind, is the one case where SQLite makes a file: the index, which holds nothing of its own.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from ...errors import StoreError
from ...types import Timestamp
from .. import schema, schema_steps, sqlite_errors, transient
from ..keys import Signer, read_key

Row: TypeAlias = tuple[Any, ...]
Progress: TypeAlias = Callable[[str], None]
"""Told what is being done, often enough for a screen."""

NEVER_CHANGES = "ro&immutable=1"
INDEX_IS_READ = "ro&readonly_shm=1"
STEPS_BETWEEN_TICKS = 10_000
"""Rows between two words about progress."""


class Inspection:
    """A store under examination, read in the thread that opened it."""

    def __init__(
        self,
        store: str,
        connection: sqlite3.Connection,
        *,
        now: Timestamp,
        quick: bool,
        progress: Progress,
    ) -> None:
        self.store, self.connection = store, connection
        self.now, self.quick, self.progress = now, quick, progress
        self.key_problem: str | None = None
        self.sealer = self._read_key()

    def rows(self, statement: str, *values: object) -> Iterator[Row]:
        """The rows, one at a time: there may be millions."""
        return self.connection.execute(statement, values)

    def row(self, statement: str, *values: object) -> Row:
        """The first row; `()` if there is none."""
        found: Row | None = self.connection.execute(statement, values).fetchone()
        return () if found is None else found

    def ticking(self, what: str, rows: Iterator[Row]) -> Iterator[Row]:
        """`rows`, with a word now and then about how many have passed."""
        for number, row in enumerate(rows, 1):
            yield row
            if number % STEPS_BETWEEN_TICKS == 0:
                self.progress(f"{what}: {number:,}")

    @property
    def version(self) -> int:
        """Of the schema."""
        version: int = self.row("PRAGMA user_version")[0]
        return version

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """A block that sees the store as of one commit.

        Not one for the whole examination: meanwhile a live owner could not shorten its log.
        """
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def _read_key(self) -> Signer | None:
        try:
            return Signer(read_key(self.store))
        except FileNotFoundError:
            self.key_problem = f"there is no key file {self.store}.key"
        except StoreError as error:
            self.key_problem = error.problem
        return None


@contextmanager
def inspecting(store: str, *, now: Timestamp, quick: bool, progress: Progress) -> Iterator[Inspection]:
    """Open `store`.

    Raises `StoreError` for a file that is no store of this greenroom, as opening it for writing would.
    Raises `Disturbed` at the end if somebody changed it under an eye that could not see it.
    """
    if not os.path.lexists(store):
        raise StoreError(store, "there is no such file.")
    schema.inspect(store, to_write=False)
    before, how, connection = transient.look(store, lambda: _opened(store))

    def disturbed() -> bool:
        return how == NEVER_CHANGES and transient.state_of(store) != before

    try:
        inspection = Inspection(store, connection, now=now, quick=quick, progress=progress)
        schema_steps.as_of_now(connection, inspection.version or len(schema_steps.STEPS))
        yield inspection
    except sqlite3.Error as error:
        raise_if_stopped(error)
        if disturbed():
            raise transient.Disturbed(store) from error
        raise sqlite_errors.explain(store, error) from error
    finally:
        connection.close()
    if disturbed():
        raise transient.Disturbed(store)


def _opened(store: str) -> tuple[transient.State, str, sqlite3.Connection]:
    """A connection that has looked once: from then on its owner cannot take the log away from it."""
    before, how = transient.state_of(store), _how(store)
    if how == NEVER_CHANGES:
        transient.let_settle(store)
    with sqlite_errors.explained(store):
        connection = schema.connect(store, how)
        try:
            _set_up(connection)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
    return before, how, connection


def stoppable(connection: sqlite3.Connection) -> None:
    """Have long statements come back to Python now and then, where signals raise what they raise.

    SQLite swallows it and says that it was interrupted: `raise_if_stopped`.
    """
    connection.set_progress_handler(lambda: 0, 500_000)


def met(error: Exception) -> str:
    """The error that kept somebody from reading a store: SQLite's words, or a wrong value."""
    if isinstance(error, sqlite3.Error):
        return str(error)
    return f"it met a value that cannot be there ({type(error).__name__}: {error})"


def raise_if_stopped(error: Exception) -> None:
    """Raise `KeyboardInterrupt` if somebody stopped the statement: nothing but a signal does."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
        raise KeyboardInterrupt from error


def _how(store: str) -> str:
    log = _size(store + "-wal")
    index = os.path.lexists(store + "-shm")
    if log is None or (log == 0 and not index):
        return NEVER_CHANGES
    return INDEX_IS_READ if index else "ro"


def _set_up(connection: sqlite3.Connection) -> None:
    connection.text_factory = lambda text: text.decode(errors="backslashreplace")
    for setting in (
        "trusted_schema = OFF",
        "cache_size = -16384",  # KiB
        "temp_store = FILE",  # sorting millions of rows takes disk, not memory
    ):
        connection.execute(f"PRAGMA {setting}")
    stoppable(connection)


def _size(name: str) -> int | None:
    try:
        return os.lstat(name).st_size
    except FileNotFoundError:
        return None
