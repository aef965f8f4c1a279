"""The store: the only writer of a file, one transaction at a time, in the thread that opened it.

The epoch fences: every transaction touches the row that counts how often the file was opened for
writing, and is given up if somebody else opened it since.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

from ..actors.errors import StoreError, StoreLost
from ..actors.vocabulary import Durability
from . import schema
from .keys import Place, Sealer, make_key
from .protocol import (
    AddAgent,
    AddEvent,
    AddMessage,
    AddRun,
    Record,
    Unfinished,
)
from .reader import Reader
from .records import WRITES, grouped

CHECKPOINT_AFTER = 2_000
"""Rows written (and 4 KiB pieces of their values) before the log is copied into the file."""

FULL = 2  # of `PRAGMA synchronous`: an fsync in every commit

_RETRYABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_PROTOCOL,
}


class WriteFailed(StoreError):
    """A transaction was given up; nothing of it is in the store. `fatal`: no later try can succeed."""

    def __init__(self, store: str, problem: str, fatal: bool) -> None:
        super().__init__(store, problem)
        self.args = (store, problem, fatal)
        self.fatal = fatal


class Store:
    """A file opened for writing. `path` is the file, also for a store `:memory:`."""

    def __init__(
        self,
        path: str,
        connection: sqlite3.Connection,
        sealer: Sealer,
        *,
        epoch: int,
        folder: TemporaryDirectory[str] | None = None,
    ) -> None:
        self.path, self.epoch = path, epoch
        self._connection, self._sealer, self._folder = connection, sealer, folder
        self._synchronous = self._level = connection.execute("PRAGMA synchronous").fetchone()[0]
        self._unchecked = 0  # rows, about, since the last checkpoint

    @classmethod
    def open(cls, path: str, durability: Durability) -> "tuple[Store, Unfinished]":
        """Open the file in this thread, take the next epoch, and say what is unfinished in it.

        Costs as much as is unfinished, however many agents are known. `:memory:` is an ordinary file in
        a directory of its own, gone when the store is closed, so that a second connection can read it.
        """
        # the object, and not mkdtemp: gone with the interpreter, too, if nobody closes the store
        folder = TemporaryDirectory(prefix="greenroom-") if path == ":memory:" else None
        file = path if folder is None else os.path.join(folder.name, "store.db")
        try:
            schema.inspect(file)  # before a key is made for what is refused
            sealer = Sealer(make_key(file))
            connection = schema.open_for_writing(file, durability, private=folder is not None)
            try:
                epoch = _next_epoch(file, connection)
                unfinished = Reader(file, connection, sealer).unfinished()
                store = cls(file, connection, sealer, epoch=epoch, folder=folder)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            if folder is not None:
                folder.cleanup()
            raise
        return store, unfinished

    def write(self, records: Sequence[Record], *, sync: bool = False) -> None:
        """Write all of `records` in this order, or nothing and raise `WriteFailed`.

        `sync` has the log on the disk itself, with all before it, when this returns.
        """
        try:
            self._set_level(sync)
            self.begin()
            self.apply(records)
            self.commit()
        except Exception as error:
            failure = self._failure(error)
            if self._connection.in_transaction:  # SQLite itself may have rolled it back
                self._connection.execute("ROLLBACK")
            raise failure from error

    # The steps of a transaction, each a method so that a test can fail or stall it

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def apply(self, records: Sequence[Record]) -> None:
        groups = list(grouped(records))
        self._count(groups)
        for kind, group in groups:
            for statement, encode in WRITES[kind]:
                self._connection.executemany(statement, [encode(self, record) for record in group])
        self._unchecked += len(records)

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def seal(self, data: bytes, place: Place) -> bytes:
        self._unchecked += len(data) >> 12
        return self._sealer.seal(data, place)

    @property
    def untidy(self) -> bool:
        """Whether `tidy` has something to do."""
        return self._unchecked >= CHECKPOINT_AFTER

    def tidy(self) -> None:
        """Copy the log into the file and give some free pages back: milliseconds, between commits."""
        self._unchecked = 0
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if self._connection.execute("PRAGMA freelist_count").fetchone()[0] > 4096:
                self._connection.execute("PRAGMA incremental_vacuum(512)").fetchall()
        except sqlite3.Error as error:
            raise schema.explain(self.path, error) from error

    def close(self) -> None:
        """Copy the log into the file and let go of it; close readers first.

        The log of a file that could not be copied stays beside it, for the next opening.
        """
        try:
            self.tidy()
        finally:
            self._connection.close()  # the last connection removes the log
            if self._folder is not None:
                self._folder.cleanup()

    def _set_level(self, sync: bool) -> None:
        level = max(self._synchronous, FULL if sync else 0)
        if level != self._level:  # between transactions only
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._level = level

    def _count(self, groups: Iterable[tuple[type[Record], list[Any]]]) -> None:
        """Note the numbers that are used up; fails if this epoch is over."""
        agent_id = serial = seq = 0
        for kind, group in groups:
            if kind is AddEvent:
                seq = max(seq, *(record.row.seq for record in group))
            elif kind is AddRun or kind is AddMessage:
                serial = max(serial, *(record.row.serial for record in group))
            elif kind is AddAgent:
                agent_id = max(agent_id, *(record.row.agent_id for record in group))
        cursor = self._connection.execute(
            "UPDATE meta SET next_agent_id = max(next_agent_id, ?), next_serial = max(next_serial, ?),"
            " next_seq = max(next_seq, ?) WHERE epoch = ?",
            (agent_id + 1, serial + 1, seq + 1, self.epoch),
        )
        if cursor.rowcount != 1:
            raise StoreLost(self.path, "another runtime has opened it for writing since")

    def _failure(self, error: Exception) -> WriteFailed:
        if isinstance(error, StoreError):
            return WriteFailed(self.path, error.problem, True)
        if isinstance(error, sqlite3.Error):
            code = getattr(error, "sqlite_errorcode", None)
            fatal = code is None or code & 0xFF not in _RETRYABLE
            return WriteFailed(self.path, schema.explain(self.path, error).problem, fatal)
        return WriteFailed(self.path, f"a record cannot be written: {error!r}", True)


def _next_epoch(path: str, connection: sqlite3.Connection) -> int:
    try:
        rows = connection.execute("UPDATE meta SET epoch = epoch + 1 RETURNING epoch").fetchall()
    except sqlite3.Error as error:
        raise schema.explain(path, error) from error
    epoch: int = rows[0][0]
    return epoch
