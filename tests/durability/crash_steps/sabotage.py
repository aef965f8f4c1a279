"""Bugs to plant, each of which the audits have to find: what they do not find they do not prove."""

from typing import Any

from greenroom.actors.storage.protocol import BatchWritten, WriteBatch
from greenroom.actors.storage.writer import PersistenceActor
from greenroom.persistence.store import Store


def answer_before_the_commit() -> None:
    """Each batch is answered at once, and written before the next one."""
    write, close = PersistenceActor.write, PersistenceActor.close
    held: list[WriteBatch] = []

    def late(writer: PersistenceActor, batch: WriteBatch) -> BatchWritten:
        while held:
            write(writer, held.pop())
        held.append(batch)
        return BatchWritten(batch.number, 0.0)

    def close_late(writer: PersistenceActor) -> None:
        while held:
            write(writer, held.pop())
        close(writer)

    PersistenceActor.write = late  # type: ignore[method-assign]
    PersistenceActor.close = close_late  # type: ignore[method-assign]


def commit_by_halves() -> None:
    """Each record has a transaction of its own."""
    write = Store.write

    def torn(store: Store, records: Any, *, sync: bool = False) -> None:
        for record in records:
            write(store, [record], sync=sync)

    Store.write = torn  # type: ignore[method-assign]


def keep_what_was_read() -> None:
    """A message that a turn has read stays in the inbox, for the next session to read again."""
    write = Store.write

    def forgetful(store: Store, records: Any, *, sync: bool = False) -> None:
        kept = [record for record in records if type(record).__name__ != "DropMessages"]
        write(store, kept, sync=sync)

    Store.write = forgetful  # type: ignore[method-assign]
