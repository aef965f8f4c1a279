"""The owner of a store: seen from outside, and taken for a repair as a runtime takes it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...errors import StoreInUse
from .. import schema, sqlite_errors
from ..lease import StoreLease, admit
from ..lease_rules import Owner, owner_of
from .inspection import stoppable
from .report import OwnerSeen

REPAIR_LEASE_SECONDS = 60.0
"""Seconds that a single repair may take before somebody else may take the store over. That loses nothing:
the repair finds out in its next transaction, and ends."""


def look_for_owner(store: str, connection: sqlite3.Connection) -> OwnerSeen | None:
    """The process that has the store open, or had it last; None if nobody is known."""
    cursor = connection.execute("SELECT * FROM owner")
    row = cursor.fetchone()
    if row is None:
        return None
    record = owner_of(dict(zip((column[0] for column in cursor.description), row, strict=True)))
    cursor.close()
    try:
        alive, said = False, str(admit(store, connection))
    except StoreInUse as error:
        alive, said = True, error.problem
    if not isinstance(record, Owner):
        return OwnerSeen(alive, False, "", 0, 0, 0.0, said)
    them = record.process
    if record.released:
        said = f"{them} gave it back"
    return OwnerSeen(alive, record.released, them.host, them.pid, record.epoch, record.heartbeat.wall, said)


@contextmanager
def writing(
    store: str, first: Callable[[sqlite3.Connection], None]
) -> Iterator[tuple[sqlite3.Connection, StoreLease]]:
    """The store opened for writing by its owner, its schema up to date; `StoreInUse` if it has another.

    `first` is done in a transaction before the store is taken, for what taking it needs.
    """
    connection = schema.open_for_writing(store, "power")
    stoppable(connection)
    try:
        with sqlite_errors.explained(store):
            connection.execute("BEGIN IMMEDIATE")
            admit(store, connection)
            first(connection)
            connection.execute("COMMIT")
            claim = StoreLease.take(store, connection, REPAIR_LEASE_SECONDS)
            try:
                yield connection, claim
            finally:
                claim.release()
    finally:
        connection.close()  # the last one copies the log into the file
