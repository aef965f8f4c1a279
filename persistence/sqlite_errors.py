"""Errors of SQLite, in words that say what to do."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import StoreCorrupt, StoreError


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
