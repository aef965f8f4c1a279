"""The file: its tables and their versions, the checks before it is touched, the ways to open it.

A file is looked at before it is opened: SQLite's `immutable` reads the header and makes nothing, so what
is refused stays as it was to the byte. (Opening it ourselves to look would be worse: to close any
descriptor of a file drops the locks that SQLite holds on it in this process.)
"""

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import StoreCorrupt, StoreError, StoreTooNew
from ..types import Durability
from . import migrating, schema_steps, transient
from .keys import BOUND_SINCE, drafts_of
from .schema_steps import ORIGINS
from .sqlite_errors import explained

if TYPE_CHECKING:
    pass

APPLICATION_ID = 0x67726E72  # "grnr", in the header of every store
BUSY_TIMEOUT_SECONDS = 1.0
"""Seconds that another gets to make the same new file a log, before the file counts as locked."""

SIDECARS = ("-wal", "-shm", "-journal", ".key")

OVERWRITE_IF_CHEAP = "secure_delete = FAST"
"""Removed rows are overwritten where that takes no further page; of deleted agents, everywhere."""

SYNCHRONOUS: dict[Durability, str] = {
    "power": "FULL",  # an fsync of the log in every commit
    "process": "NORMAL",  # fsync at checkpoints only: survives kill -9, and a power cut undamaged
    "memory": "NORMAL",  # OFF would save little, and a power cut could damage what is older
}
assert ORIGINS == BOUND_SINCE


def open_for_writing(
    store: str,
    durability: Durability,
    *,
    admit: Callable[[sqlite3.Connection], object] = lambda _: None,
    private: bool = False,
) -> sqlite3.Connection:
    """Open the file, made if there is none and migrated if it is older, in the calling thread.

    `admit` looks at a store that is there and raises if it may not be opened, before anything is changed.
    `private` is for a file that nobody will open again: nothing of it need survive. If opening fails, a
    file that was made for it stays, empty: somebody else may have begun to fill it.
    """
    inspect(store)
    _make_file(store)
    with explained(store):
        connection = connect(store, "rw")
        try:
            version, foreign = _header(connection)
            _check_version(store, version, foreign=foreign)  # again, now with the log
            if version:
                admit(connection)
            else:  # it counts before the first table only, and is a write of its own after it
                _set(connection, "auto_vacuum = INCREMENTAL")
            _configure(connection, "OFF" if private else SYNCHRONOUS[durability])
            _migrate(connection, store, admit)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(store: str) -> sqlite3.Connection:
    """Open a file that its writer has opened already."""
    with explained(store):
        connection = connect(store, "ro")
        connection.execute("PRAGMA cache_size = -8192")  # KiB
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection


def inspect(store: str, *, to_write: bool = True) -> None:
    """Raise the `StoreError` for which this path cannot be a store, and change nothing."""
    for name in (store, *(store + suffix for suffix in SIDECARS)):
        _check_plain(store, name)
    had = [name for name in (f"{store}.key", f"{store}-wal") if _holds_something(name)]
    if not _holds_something(store):  # after its key, which is made when the file is a store
        if had and (f"{store}-wal" in had or os.path.lexists(store)):
            raise _emptied(store, had)
        return
    if to_write and not os.access(store, os.W_OK):
        raise StoreError(store, "this user may not write to it. Make it writable, or copy it.")
    if transient.look(store, lambda: _is_empty(store)) and had == [f"{store}.key"]:
        raise _emptied(store, had)


def _holds_something(name: str) -> bool:
    try:
        return os.lstat(name).st_size > 0
    except FileNotFoundError:
        return False


def _emptied(store: str, beside: list[str]) -> StoreCorrupt:
    files = " and ".join(beside)
    return StoreCorrupt(
        store,
        f"it holds nothing, but {files} beside it was made for a store: what that held is gone from here. "
        f"Put the file back from where it was moved to, or from a backup; to begin anew, remove {files}.",
    )


def _is_empty(store: str) -> bool:
    """Whether the file itself, without its log, is a database without a table. Raises as `inspect` does."""
    with explained(store):
        connection = connect(store, "ro&immutable=1")
        try:
            version, foreign = _header(connection)
            tables = _tables(connection)
        except sqlite3.DatabaseError:
            if not any(os.path.lexists(store + log) for log in ("-wal", "-journal")):
                raise
            return False  # half copied from its log, by a crash or just now: whoever opens it sees both
        finally:
            connection.close()
    _check_version(store, version, foreign=foreign)
    return not tables


def _header(connection: sqlite3.Connection) -> tuple[int, bool]:
    """The version of the schema, and whether it is another program's, both as of one moment."""
    connection.execute("BEGIN")
    try:
        application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
        return version if application == APPLICATION_ID else 0, _is_foreign(connection, application)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _check_plain(store: str, name: str) -> None:
    try:
        found = os.lstat(name)
        mode = found.st_mode
    except FileNotFoundError:
        folder = os.path.dirname(name) or os.curdir
        if not os.path.isdir(folder):
            raise StoreError(store, f"there is no folder {folder}. Create it first.") from None
        return
    except (OSError, ValueError) as error:
        raise StoreError(store, f"it cannot be reached: {error}. Choose another path.") from error
    if stat.S_ISLNK(mode):
        target = os.path.realpath(name)
        raise StoreError(store, f"{name} is a symbolic link. Give the file itself: {target}.")
    if stat.S_ISDIR(mode):
        advice = "Give the path of a file in it." if name == store else "Put the file back that was there."
        raise StoreError(store, f"{name} is a directory. {advice}")
    if not stat.S_ISREG(mode):
        raise StoreError(store, f"{name} is not a plain file. Choose another path.")
    names = found.st_nlink - (drafts_of(name) if name == f"{store}.key" else 0)
    if names > 1:
        raise StoreError(
            store,
            f"{name} has {names} names (hard links): who opens it by another one is not kept out. Remove "
            f"the others: find their places with `find DIR -samefile {name}`. Or copy it.",
        )


def _check_version(store: str, version: int, *, foreign: bool) -> None:
    if foreign:
        raise StoreCorrupt(store, "it is a SQLite database of some other program. Choose another path.")
    if version > len(schema_steps.STEPS):
        raise StoreTooNew(
            store,
            f"its schema has version {version}, this greenroom knows up to {len(schema_steps.STEPS)}. "
            "Open it with the newer greenroom that wrote it.",
        )


def _is_foreign(connection: sqlite3.Connection, application: int) -> bool:
    return application != APPLICATION_ID and (application != 0 or _tables(connection) > 0)


def _tables(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return found


def _make_file(store: str) -> None:
    """Make an empty file that only its owner may read; SQLite gives its other files the same mode."""
    try:
        os.close(os.open(store, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(
            store,
            f"it cannot be made: {error.strerror}. Choose a folder that this user may write to.",
        ) from error


class StoreConnection(sqlite3.Connection):
    """One whose errors are `sqlite3.Error`, whatever is in the file.

    SQLite's message names what it cannot read. If that name is damaged and no text any more, the module
    fails on its own message.
    """

    def execute(self, statement: str, values: Any = (), /) -> sqlite3.Cursor:
        try:
            return super().execute(statement, values)
        except UnicodeDecodeError as error:
            failure = sqlite3.DatabaseError(error.object.decode(errors="backslashreplace"))
            failure.sqlite_errorcode, failure.sqlite_errorname = sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT"
            raise failure from error


def connect(store: str, mode: str) -> StoreConnection:
    return sqlite3.connect(
        f"file:{quote(os.fsencode(os.path.abspath(store)))}?mode={mode}",
        uri=True,
        factory=StoreConnection,
        isolation_level=None,  # transactions begin and end where we say
        timeout=5.0,  # nobody else writes; a tool may hold it for a moment
        cached_statements=256,
    )


def _configure(connection: sqlite3.Connection, synchronous: str) -> None:
    for setting in (
        "journal_mode = WAL",
        f"synchronous = {synchronous}",
        "wal_autocheckpoint = 16384",  # pages; a last resort: the store checkpoints between commits
        "journal_size_limit = 67108864",  # bytes: a log that a long reader made longer shrinks again
        "cache_size = -16384",  # KiB
        "trusted_schema = OFF",
        OVERWRITE_IF_CHEAP,
    ):
        _set(connection, setting)


def _set(connection: sqlite3.Connection, setting: str) -> None:
    """SQLite does not wait for another that makes the same new file a log, whatever its timeout."""
    until = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute(f"PRAGMA {setting}").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(
    connection: sqlite3.Connection, store: str, admit: Callable[[sqlite3.Connection], object]
) -> None:
    """Bring the schema to this version, wholly or not at all."""
    if _pragma(connection, "user_version") == len(schema_steps.STEPS):
        return
    from sqlite_utils import Database, Migrations  # 200 ms, and only a new or an old file needs it

    migrations = Migrations("greenroom")
    for step in schema_steps.STEPS:
        migrations(name=step.__name__)(step)
    db = Database(connection, execute_plugins=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
        _check_version(store, version, foreign=_is_foreign(connection, application))
        if version:
            admit(connection)  # again: nobody can take it from here on
        migrations.apply(db)
        if 0 < version < ORIGINS:
            migrating.bind(connection, store)
            migrating.number_first_events(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(schema_steps.STEPS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    # `inspect` reads the header in the file itself, not the log
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
