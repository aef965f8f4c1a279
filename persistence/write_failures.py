"""Why a transaction was given up: what a later try can mend, and what it cannot."""

import sqlite3

from ..errors import StoreError, StoreLost
from . import sqlite_errors

_OF_THE_DISK = {  # The next try may succeed.
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_ABORT,
    sqlite3.SQLITE_PROTOCOL,
}
_OF_A_RECORD = {  # A bug: other records can be written.
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_RANGE,
}


class WriteFailed(StoreError):
    """A transaction was given up; nothing of it is in the store.

    `fatal`: no later try can succeed, for reasons of the store or of one of the records (`of_record`).
    """

    def __init__(
        self,
        store: str,
        problem: str,
        fatal: bool,
        *,
        of_record: bool = False,
        means: StoreError | None = None,
    ) -> None:
        super().__init__(store, problem)
        self.args = (store, problem, fatal)
        self.fatal, self.of_record = fatal, of_record
        self.means = means  # The error that callers get for a fatal failure.


class Misplaced(WriteFailed):
    """The files at the store's path are not those that are open: nobody would find what is written."""


def is_failed_flush(error: Exception) -> bool:
    """Whether the kernel could not flush: what was committed before may be lost as well."""
    codes = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)
    return getattr(error, "sqlite_errorcode", None) in codes


def failure_of(store: str, error: Exception) -> StoreError:
    """The failure that an exception in a transaction means: `WriteFailed`, or `StoreLost`."""
    if isinstance(error, StoreLost | WriteFailed):
        return error
    if isinstance(error, StoreError):
        return WriteFailed(store, error.problem, True)
    if isinstance(error, MemoryError | OSError):
        return WriteFailed(store, f"{type(error).__name__}: {error}.", False)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # The exception was raised before SQLite was called.
        return WriteFailed(store, f"a record cannot be written: {error!r}", True, of_record=True)
    means = sqlite_errors.explain(store, error)  # type: ignore[arg-type]
    fatal, of_record = code & 0xFF not in _OF_THE_DISK, code & 0xFF in _OF_A_RECORD
    return WriteFailed(store, means.problem, fatal, of_record=of_record, means=means)
