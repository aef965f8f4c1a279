"""The file: its tables and their versions, the checks before it is touched, the ways to open it.

A file is looked at before it is opened: SQLite's `immutable` reads the header and makes nothing, so what
is refused stays as it was to the byte. (Opening it ourselves to look would be worse: to close any
descriptor of a file drops the locks that SQLite holds on it in this process.)
"""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from msgspec import Struct

from ..errors import StoreCorrupt, StoreError, StoreTooNew
from ..types import Durability
from . import migrating, transient
from .keys import BOUND_SINCE, drafts_of

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x67726E72  # "grnr", in the header of every store
BUSY_TIMEOUT_SECONDS = 1.0
"""Seconds that another gets to make the same new file a log, before the file counts as locked."""

SIDECARS = ("-wal", "-shm", "-journal", ".key")

OVERWRITE_IF_CHEAP = "secure_delete = FAST"
"""What is removed is overwritten where that takes no further page; of deleted agents, everywhere."""

SYNCHRONOUS: dict[Durability, str] = {
    "power": "FULL",  # an fsync of the log in every commit
    "process": "NORMAL",  # fsync at checkpoints only: survives kill -9, and a power cut undamaged
    "memory": "NORMAL",  # OFF would save little, and a power cut could damage what is older
}

# The versions. A released step is never changed; a new one is added below and to STEPS.


def tables(db: "Database") -> None:
    """Version 1."""
    db.table("agents").create(
        {
            "agent_id": int,
            "path": str,
            "kind": str,
            "version": int,
            "config": bytes,
            "created_at": float,
            "updated_at": float,
            "status": str,  # idle, failed, closed
            "error": str,
            "incarnation": int,
            "origin": str,
            "last_run_id": str,
            "stateful": int,  # 1 from its first snapshot on: one that is missing then was lost
            "epoch": int,  # which opening of the store added it
        },
        pk="agent_id",
        not_null={"path", "kind", "version", "config", "created_at", "updated_at", "status"},
        strict=True,
    )
    db.table("runs").create(
        {
            "serial": int,  # and not run_id: rows are added at the end, and unfinished ones come in order
            "run_id": str,
            "agent_id": int,
            "input": bytes,
            "accepted_at": float,
            "status": str,  # accepted, completed, failed, interrupted
            "attempt": int,
            "awaits": str,  # a JSON list of run ids
            "result": bytes,
            "error": str,
            "started_at": float,
            "ended_at": float,
            "epoch": int,
        },
        pk="serial",
        not_null={"run_id", "agent_id", "input", "accepted_at", "status", "attempt"},
        strict=True,
    )
    db.table("inbox").create(
        {"serial": int, "agent_id": int, "sender": str, "at": float, "body": bytes},
        pk="serial",
        not_null={"agent_id", "at", "body"},
        strict=True,
    )
    db.table("snapshots").create(
        {"agent_id": int, "codec": str, "version": int, "epoch": int, "data": bytes},
        pk="agent_id",
        not_null={"codec", "version", "data"},
        strict=True,
    )
    db.table("events").create(
        {"seq": int, "at": float, "type": str, "path": str, "run_id": str, "data": bytes},
        pk="seq",
        not_null={"at", "type", "path", "data"},
        strict=True,
    )
    db.table("superseded").create(  # runs that ended and are no longer their agent's last, in this order
        {"number": int, "serial": int, "at": float},  # of the run; when the agent's next one ended
        pk="number",
        not_null={"serial", "at"},
        strict=True,
    )
    db.table("owner").create(  # at most one row: who may write, or did last; see `ownership`
        {
            "id": int,
            "host": str,
            "boot_id": str,
            "pid_namespace": str,
            "pid": int,
            "started": int,  # of the process, in ticks since boot: its pid can be another's by now
            "epoch": int,
            "lease": float,  # seconds for which a sign of life holds
            "heartbeat": float,  # the last one, by the wall clock
            "uptime": float,  # … and by the monotonic one
            "released_at": float,  # NULL while it is in use
        },
        pk="id",
        strict=True,
    )
    db.table("meta").create(  # one row: numbers that never go back, whatever is erased
        {
            "id": int,
            "epoch": int,
            "known": int,
            "next_agent_id": int,
            "next_serial": int,
            "next_seq": int,
            "closed": int,
        },
        pk="id",
        not_null={"epoch", "known", "next_agent_id", "next_serial", "next_seq", "closed"},
        strict=True,
    )
    for statement in _V1_STATEMENTS:
        db.execute(statement)


_V1_STATEMENTS = (
    "INSERT INTO meta VALUES (1, 0, 0, 1, 1, 1, 0)",
    "CREATE UNIQUE INDEX agents_open ON agents(path) WHERE status <> 'closed'",
    "CREATE INDEX agents_closed ON agents(path, agent_id) WHERE status = 'closed'",
    "CREATE INDEX agents_closed_at ON agents(updated_at, agent_id) WHERE status = 'closed'",
    "CREATE UNIQUE INDEX runs_id ON runs(run_id)",
    "CREATE INDEX runs_unfinished ON runs(serial) WHERE status = 'accepted'",
    "CREATE INDEX runs_begun ON runs(serial) WHERE status = 'accepted' AND started_at IS NOT NULL",
    "CREATE INDEX runs_of_agent ON runs(agent_id, serial)",
    "CREATE INDEX inbox_of_agent ON inbox(agent_id, serial)",
    # `known` counts open agents and `closed` the others, so that nobody has to count millions
    """CREATE TRIGGER agent_added AFTER INSERT ON agents WHEN new.status <> 'closed'
       BEGIN UPDATE meta SET known = known + 1; END""",
    """CREATE TRIGGER agent_changed AFTER UPDATE OF status ON agents
       WHEN (old.status = 'closed') <> (new.status = 'closed')
       BEGIN
         UPDATE meta SET known = known + iif(new.status = 'closed', -1, 1),
                         closed = closed + iif(new.status = 'closed', 1, -1);
       END""",
    """CREATE TRIGGER agent_erased AFTER DELETE ON agents
       BEGIN
         UPDATE meta SET known = known - (old.status <> 'closed'),
                         closed = closed - (old.status = 'closed');
         DELETE FROM runs WHERE agent_id = old.agent_id;
         DELETE FROM inbox WHERE agent_id = old.agent_id;
         DELETE FROM snapshots WHERE agent_id = old.agent_id;
       END""",
    """CREATE TRIGGER snapshot_added AFTER INSERT ON snapshots
       BEGIN UPDATE agents SET stateful = 1 WHERE agent_id = new.agent_id; END""",
    # the queue of what retention may take: every run that ended is in it, or is its agent's last one
    """CREATE TRIGGER run_superseded AFTER UPDATE OF last_run_id ON agents WHEN old.last_run_id IS NOT NULL
       BEGIN
         INSERT INTO superseded (serial, at)
         SELECT serial, new.updated_at FROM runs WHERE run_id = old.last_run_id;
       END""",
)


def processes(db: "Database") -> None:
    """Version 2: what agents started outside. See `processes.ProcessRow`."""
    db.table("processes").create(
        {
            "number": int,
            "agent_id": int,
            "incarnation": int,
            "path": str,
            "kind": str,
            "host": str,
            "boot_id": str,
            "pid_namespace": str,
            "pid": int,
            "started": int,  # of the process, in ticks since boot
            "owner_pid": int,
            "owner_started": int,
            "epoch": int,  # which opening of the store started it
            "lease": float,  # its owner's
            "heartbeat": float,  # its owner's last sign of life, by the wall clock
            "uptime": float,  # … and by the monotonic one
            "token": str,
            "file": str,
        },
        pk="number",
        strict=True,
    )


NEW_NONCE = "lower(hex(randomblob(6)))"
"""In SQL: a name that no other store has."""


class Added(Struct, frozen=True):
    """A column that a version adds to a table of the one before."""

    table: str
    column: str
    declaration: str
    before: str = "0"  # what stands for it while an older file is only looked at


V3_COLUMNS = (
    # the serial of the run whose turn started it
    Added("runs", "started_by", "INTEGER", "NULL"),
    # crashes of the process beside which it was at work, and those of them that are held against it
    Added("runs", "cuts", "INTEGER NOT NULL DEFAULT 0"),
    Added("runs", "crashes", "INTEGER NOT NULL DEFAULT 0"),
    # 1: its turn began as the only suspect of a crash
    Added("runs", "alone", "INTEGER NOT NULL DEFAULT 0"),
    # seconds that its longest turn had run when it was cut off
    Added("runs", "ran", "REAL", "NULL"),
    # 1: a turn of it has begun, and not ended or been cut
    Added("runs", "at_work", "INTEGER NOT NULL DEFAULT 0"),
    Added("runs", "error_type", "TEXT", "NULL"),
    # what the ids of what it starts are derived from, if another store accepted it
    Added("runs", "stem", "TEXT", "NULL"),
    # the next serial at the last checkpoint of its turn
    Added("runs", "divided_at", "INTEGER", "NULL"),
    # the serial of the run whose turn spawned it
    Added("agents", "started_by", "INTEGER", "NULL"),
    # the events about it have no lower numbers
    Added("agents", "first_seq", "INTEGER NOT NULL DEFAULT 0"),
    # closed and past its time, but this open run may need it
    Added("agents", "keeper", "INTEGER", "NULL"),
    # the agent that sent it; NULL from outside
    Added("inbox", "sender_id", "INTEGER", "NULL"),
    # in all ids that the runtime makes: another store makes others
    Added("meta", "nonce", "TEXT", "NULL"),
    # runs with this serial or a greater one say what started them
    Added("meta", "first_origin", "INTEGER NOT NULL DEFAULT 1"),
)
_V3_TABLES = {
    # runs past their time, by the open run that still needs them: taken out of `superseded`
    "kept": """CREATE TABLE kept (keeper INTEGER NOT NULL, serial INTEGER NOT NULL,
        PRIMARY KEY (keeper, serial)) WITHOUT ROWID, STRICT""",
    # agents that were deleted, until the last of their rows is: nobody sees those meanwhile
    "erased": """CREATE TABLE erased (number INTEGER PRIMARY KEY, agent_id INTEGER NOT NULL UNIQUE,
        path TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL) STRICT""",
}
_V3_STATEMENTS = (
    f"UPDATE meta SET nonce = {NEW_NONCE}, first_origin = next_serial",
    # an older greenroom did not count the beginnings that it cut off itself
    """UPDATE runs SET at_work = 1, attempt = max(attempt, 1)
       WHERE status = 'accepted' AND started_at IS NOT NULL""",
    *_V3_TABLES.values(),
    "CREATE INDEX erased_at ON erased(path)",
    "DROP INDEX inbox_of_agent",  # senders stand in it, so that the mail of erased ones is seen there
    "CREATE INDEX inbox_of_agent ON inbox(agent_id, serial, sender_id)",
    "CREATE INDEX inbox_of_sender ON inbox(sender_id) WHERE sender_id IS NOT NULL",
    "DROP INDEX agents_closed_at",
    """CREATE INDEX agents_closed_at ON agents(updated_at, agent_id)
       WHERE status = 'closed' AND keeper IS NULL""",
    "CREATE INDEX agents_kept ON agents(keeper) WHERE keeper IS NOT NULL",
    # an agent may have more rows than one transaction should delete: whoever deletes it sees to them
    "DROP TRIGGER agent_erased",
    """CREATE TRIGGER agent_erased AFTER DELETE ON agents
       BEGIN
         UPDATE meta SET known = known - (old.status <> 'closed'),
                         closed = closed - (old.status = 'closed');
         DELETE FROM snapshots WHERE agent_id = old.agent_id;
       END""",
)


ORIGINS = 3
assert ORIGINS == BOUND_SINCE


def origins(db: "Database") -> None:
    """Version 3: where a run came from, how its turns were cut off, a name of the store's own.

    `migrating` does what takes more than statements.
    """
    _add(db, V3_COLUMNS)
    for statement in _V3_STATEMENTS:
        db.execute(statement)


def _add(db: "Database", columns: Iterable[Added]) -> None:
    for added in columns:
        db.execute(f"ALTER TABLE {added.table} ADD COLUMN {added.column} {added.declaration}")


V4_COLUMNS = (Added("meta", "pruned", "INTEGER NOT NULL DEFAULT 0"),)


def pruned_events(db: "Database") -> None:
    """Version 4: `meta.pruned`, up to which number retention has removed events.

    Numbers have gaps, and those about deleted agents go as well, so the oldest that is left does not tell.
    A trigger sees it also where somebody removes the oldest events with a tool of their own.
    """
    _add(db, V4_COLUMNS)
    db.execute("UPDATE meta SET pruned = coalesce((SELECT min(seq) FROM events), next_seq) - 1")
    db.execute(
        """CREATE TRIGGER event_pruned AFTER DELETE ON events
           WHEN NOT EXISTS (SELECT 1 FROM events WHERE seq < old.seq)
           AND NOT EXISTS (SELECT 1 FROM erased AS e
                           WHERE e.path = old.path AND old.seq >= e.low AND old.seq < e.high)
           BEGIN UPDATE meta SET pruned = max(pruned, old.seq); END"""
    )


V5_COLUMNS = (
    # JSON: of each crash at which it was the only suspect, the serials of those that may have caused it
    Added("runs", "doubts", "TEXT", "NULL"),
)


def doubted_crashes(db: "Database") -> None:
    """Version 5: a crash is held against a suspect once those beside it are cleared."""
    _add(db, V5_COLUMNS)


STEPS: list[Callable[["Database"], None]] = [tables, processes, origins, pruned_events, doubted_crashes]
ADDED = {3: V3_COLUMNS, 4: V4_COLUMNS, 5: V5_COLUMNS}
"""By version, the columns that an older file lacks."""


def as_of_now(connection: sqlite3.Connection, version: int) -> None:
    """Let an older store be read by the statements of this version, without a change to it.

    Views of this connection alone take the places of its tables.
    """
    lacking = [added for since, columns in ADDED.items() if since > version for added in columns]
    for table in dict.fromkeys(added.table for added in lacking):
        more = ", ".join(f"{added.before} AS {added.column}" for added in lacking if added.table == table)
        connection.execute(f"CREATE TEMP VIEW {table} AS SELECT *, {more} FROM main.{table}")
    if version < ORIGINS:
        for definition in _V3_TABLES.values():
            connection.execute(definition.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))


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
    if version > len(STEPS):
        raise StoreTooNew(
            store,
            f"its schema has version {version}, this greenroom knows up to {len(STEPS)}. "
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

    SQLite's message names what it cannot read, and where the name is damaged, too, and no text any more,
    the module fails on its own message.
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
    if _pragma(connection, "user_version") == len(STEPS):
        return
    from sqlite_utils import Database, Migrations  # 200 ms, and only a new or an old file needs it

    migrations = Migrations("greenroom")
    for step in STEPS:
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
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
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


@contextmanager
def explained(store: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise explain(store, error) from error


def explain(store: str, error: sqlite3.Error) -> StoreError:
    """SQLite's error in our words."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_NOTADB:
        return StoreCorrupt(store, "it is not a SQLite database. Choose another path.")
    if primary == sqlite3.SQLITE_CORRUPT:
        return StoreCorrupt(store, f"it is damaged ({error}). Restore it from a backup.")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(store, "another program holds it locked. Try again when that has ended.")
    if primary == sqlite3.SQLITE_FULL:
        return StoreError(store, "the disk is full. Make room on it.")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return StoreError(
            store, f"{error}. Give this user the right to write to the file and to its folder."
        )
    return StoreError(store, f"SQLite reports: {error}")
