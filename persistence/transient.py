"""Looking at a store that somebody may be opening or closing at the same moment.

An opening or closing makes, copies and removes the files beside a store. A look in the midst of that finds
half of a database: no right to read its index, pages that are not in it yet. So what SQLite says against a
store is believed only when it says the same again of files that have not changed.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias, TypeVar

from ..errors import StoreError
from ..types import Seconds

RETRY_PAUSES: tuple[Seconds, ...] = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Before each look; longer than any single step of an opening or a closing takes."""

CLOCK_TICK_SECONDS: Seconds = 0.015
"""Two changes further apart than this have different times."""

SUFFIXES = ("", "-wal", "-shm", "-journal")

State: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Inode, size and time of change of the database and the files beside it."""

T = TypeVar("T")


class Disturbed(StoreError):
    """Somebody changed the store under an eye that could not see it: what was found counts for nothing."""

    def __init__(self, store: str) -> None:
        super().__init__(store, "it was changed while it was being read. Try again.")
        self.args = (store,)


def state_of(store: str) -> State:
    """A number that changes with nearly every change to the store."""
    return tuple(map(_state, (store + suffix for suffix in SUFFIXES)))


def _state(name: str) -> tuple[int, int, int] | None:
    try:
        found = os.lstat(name)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def let_settle(store: str) -> None:
    """Wait until a change to the database would show, were there one from now on."""
    with suppress(OSError):
        young = time.time() - os.lstat(store).st_mtime
        if 0 <= young < CLOCK_TICK_SECONDS:
            time.sleep(CLOCK_TICK_SECONDS - young)


def look(store: str, ask: Callable[[], T]) -> T:
    """The answer of `ask`; asked again where an opening or a closing may have disturbed it."""
    doubted: tuple[str, State] | None = None
    failure: StoreError
    for pause in RETRY_PAUSES:
        if pause:
            time.sleep(pause)
        before = state_of(store)
        try:
            return ask()
        except Disturbed as error:
            failure, doubted = error, None
        except StoreError as error:
            if not isinstance(error.__cause__, sqlite3.Error):
                raise  # not what SQLite met in the file, but what was seen around it
            failure, seen = error, (str(error), before)
            if state_of(store) == before and seen == doubted:
                raise
            doubted = seen
    if isinstance(failure, Disturbed):
        raise StoreError(store, "it is being changed all the time. Try again.") from failure
    raise failure
