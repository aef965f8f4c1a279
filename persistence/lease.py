"""The claim to a store: its row in the file, and what only the running system can say about others.

A claim is taken in one transaction with the next epoch, so of two processes that race one wins. From then
on the epoch is what counts: whoever finds another one in the file has lost the store, whatever the row
says. All of this is done in the thread that has the connection.
"""

import os
import socket
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import StoreCorrupt, StoreInUse, StoreLost
from ..types import Seconds
from . import lease_rules
from .lease_rules import Instant, Owner, Process, Respected, TakenOver, Torn, decide, owner_of

NUMBERS_GONE = "its numbers are gone. `greenroom doctor --repair` counts them anew."

_COLUMNS = "host, boot_id, pid_namespace, pid, started, epoch, lease, heartbeat, uptime, released_at"

_held: set[tuple[int, int, int]] = set()
"""Device, inode and epoch of each store that this process has open: what `/proc` tells of others."""


class StoreLease:
    """This process's right to write a store, until `release` or until somebody else takes it."""

    def __init__(self, store: str, connection: sqlite3.Connection, owner: Owner, taken: TakenOver) -> None:
        self.store, self.owner, self.taken = store, owner, taken
        self._connection = connection
        key = _key(store, owner.epoch)
        _held.add(key)
        # with the object, too, so that a store which nobody closed does not pass for one in use
        self._let_go = weakref.finalize(self, _held.discard, key)

    @property
    def epoch(self) -> int:
        return self.owner.epoch

    @property
    def renew_after(self) -> Seconds:
        """Seconds from one sign of life to the next."""
        return self.owner.lease / lease_rules.BEATS

    @classmethod
    def take(cls, store: str, connection: sqlite3.Connection, lease: Seconds | None = None) -> "StoreLease":
        """Take the store in the next epoch, or raise `StoreInUse`.

        Raises `sqlite3.Error` if the file cannot be written. A file that stays locked is its owner's doing,
        if it has one: that is said then.
        """
        me = this_process()
        try:
            with _transaction(connection):
                taken = admit(store, connection)
                epoch = connection.execute("UPDATE meta SET epoch = epoch + 1 RETURNING epoch").fetchall()
                if not epoch:
                    raise StoreCorrupt(store, NUMBERS_GONE)
                owner = Owner(
                    me, epoch[0][0], lease_rules.LEASE_SECONDS if lease is None else lease, instant(), False
                )
                _put(connection, owner)
                # known as held before anybody can read the row
                return cls(store, connection, owner, taken)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            taken = admit(store, connection)
            if taken.reason != "expired":
                raise
            problem = (
                f"{taken.owner and taken.owner.process} has it open and stands still in the middle of a "
                "transaction. Let it go on, or end it"
            )
            raise StoreInUse(store, problem) from error

    def renew(self) -> None:
        """Give a sign of life. Raises `StoreLost`, or `sqlite3.Error` if it cannot be written."""
        with _transaction(self._connection):
            self.check()
            self.put()

    def put(self) -> None:
        """Give a sign of life in the transaction under way, which has made sure of the epoch."""
        self.owner = Owner(self.owner.process, self.epoch, self.owner.lease, instant(), False)
        _put(self._connection, self.owner)

    def check(self) -> None:
        """Raise `StoreLost` if this epoch is over; in a transaction nobody can end it meanwhile."""
        if self._connection.execute("SELECT epoch FROM meta").fetchone() != (self.epoch,):
            raise self.lost()

    def lost(self) -> StoreLost:
        """The error that names who has the store now."""
        record = _read(self._connection)
        other = isinstance(record, Owner) and record.epoch != self.epoch
        who = str(record.process) if isinstance(record, Owner) and other else "another runtime"
        return StoreLost(
            self.store,
            f"{who} has taken it over, as this one gave no sign of life for longer than its lease of "
            f"{self.owner.lease:g} s (suspended, or its disk hung). Nothing more is written from here, and "
            "what was under way begins again there: go on with that one",
        )

    def release(self) -> None:
        """Give the store back, if it is still ours. Raises `sqlite3.Error`, and has let go all the same."""
        try:
            self._connection.execute(
                "UPDATE owner SET released_at = ? WHERE epoch = ?", (time.time(), self.epoch)
            )
        finally:
            self.drop()

    def drop(self) -> None:
        """Let go without a word in the file."""
        self._let_go()


def admit(store: str, connection: sqlite3.Connection) -> TakenOver:
    """Raise `StoreInUse` if the store has a live owner."""
    record = _read(connection)
    me, seen, held = this_process(), None, False
    if isinstance(record, Owner):
        seen, held = start_of(record.process.pid), _key(store, record.epoch) in _held
    verdict = decide(record, me, seen=seen, held=held, now=instant())
    if isinstance(verdict, Respected):
        process = verdict.owner.process
        raise StoreInUse(store, str(verdict), host=process.host, pid=process.pid)
    return verdict


def _read(connection: sqlite3.Connection) -> Owner | Torn | None:
    cursor = connection.execute(f"SELECT {_COLUMNS} FROM owner WHERE id = 1")
    row = cursor.fetchone()
    names = [column[0] for column in cursor.description]
    cursor.close()
    return owner_of(None if row is None else dict(zip(names, row, strict=True)))


def _put(connection: sqlite3.Connection, owner: Owner) -> None:
    them, heartbeat = owner.process, owner.heartbeat
    connection.execute(
        f"INSERT OR REPLACE INTO owner (id, {_COLUMNS}) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        (
            them.host,
            them.boot_id,
            them.pid_namespace,
            them.pid,
            them.started,
            owner.epoch,
            owner.lease,
            heartbeat.wall,
            heartbeat.uptime,
        ),
    )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _key(store: str, epoch: int) -> tuple[int, int, int]:
    file = os.stat(store)
    return file.st_dev, file.st_ino, epoch


def file_of(store: str) -> str:
    """Which file this is; a copy of it is another one."""
    return "{}:{}".format(*_key(store, 0))


def held_here(file: str, epoch: int) -> bool:
    """Whether this process has the store in `file` open, in that epoch."""
    return any(f"{device}:{inode}" == file and held == epoch for device, inode, held in list(_held))


# The running system


def this_process() -> Process:
    """The process that asks; after a fork, somebody else."""
    pid = os.getpid()
    boot_id = ""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return Process(socket.gethostname() or "localhost", boot_id, namespace, pid, start_of(pid) or 0)


def start_of(pid: int) -> int | None:
    """When the process of this number started, in ticks since boot; 0 if unknown; None if there is none.

    One that was killed and that its parent has not waited for yet is there in name only.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # its name comes before, and may hold anything
    except OSError:
        return _exists(pid)  # no /proc, or one that hides the processes of others
    return None if fields[0] in (b"Z", b"X", b"x") else int(fields[19])


def _exists(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    return 0


def instant() -> Instant:
    return Instant(time.time(), time.monotonic())
