"""How much is accepted and not on disk yet: in records and bytes, and in pieces of work.

A commit log that its writer cannot keep up with would grow without end. Two bounds keep it from that.
Pieces of work that somebody handed in count until they are done *and* on disk. The ledger refuses more than
`backlog` of them. All records together, also those that work brings forth itself, have a bound of their
own (`crowded`). Beyond it, whatever brings forth more waits for the disk.
"""

from collections.abc import Sequence

from msgspec import Struct

from ....persistence.records import (
    AddAgent,
    AddMessage,
    AddRun,
    BeginRun,
    EndRun,
    PutSnapshot,
    Record,
    SetAgent,
)
from ....persistence.rows import EventRow

MOST_UNWRITTEN_RECORDS = 200_000
"""Not on disk: some hundred MB; a disk that writes them within a second is not behind."""
MOST_UNWRITTEN_BYTES = 512 << 20
"""Of values: eight states of 64 MB."""


class Size(Struct, frozen=True, gc=False):
    """Of commits: of those up to one, or of those that are not on disk."""

    records: int = 0
    bytes: int = 0  # of states, inputs, results, bodies, configs and what events tell
    agents: int = 0  # spawned
    pieces: int = 0  # runs that ended, messages


class WriteBacklog:
    """The commits that are not on disk, as a size."""

    __slots__ = ("_made", "_paid")

    def __init__(self) -> None:
        self._made = self._paid = Size()  # of all commits, of those on disk

    def grow(self, records: Sequence[Record], events: Sequence[EventRow]) -> Size:
        """A commit more; the size of all commits up to it."""
        self._made = grown(self._made, records, events)
        return self._made

    def paid(self, upto: Size) -> None:
        """All commits up to this one are on disk."""
        self._paid = upto

    @property
    def records(self) -> int:
        return self._made.records - self._paid.records

    @property
    def bytes(self) -> int:
        return self._made.bytes - self._paid.bytes

    @property
    def agents(self) -> int:
        return self._made.agents - self._paid.agents

    @property
    def pieces(self) -> int:
        return self._made.pieces - self._paid.pieces

    @property
    def heavy(self) -> bool:
        """Whether no more may be handed in, however few pieces it is in."""
        return self.bytes >= MOST_UNWRITTEN_BYTES

    @property
    def crowded(self) -> bool:
        """Whether it is so much that more should wait."""
        return self.records >= MOST_UNWRITTEN_RECORDS or self.heavy


def grown(size: Size, records: Sequence[Record], events: Sequence[EventRow]) -> Size:
    """`size` with a commit more; O(records)."""
    values, agents, pieces = size.bytes, size.agents, size.pieces
    for event in events:
        values += len(event.data)
    for record in records:
        kind = type(record)  # compared by identity: this is done for every record there is
        if kind is BeginRun:
            pass
        elif kind is AddRun:
            values += len(record.row.input)  # type: ignore[union-attr]
        elif kind is EndRun:
            pieces += 1
            values += len(record.result or b"") + len(record.error or "")  # type: ignore[union-attr]
        elif kind is PutSnapshot:
            values += len(record.snapshot.data)  # type: ignore[union-attr]
        elif kind is AddMessage:
            pieces += 1
            values += len(record.row.body)  # type: ignore[union-attr]
        elif kind is AddAgent:
            agents += 1
            values += len(record.row.config)  # type: ignore[union-attr]
        elif kind is SetAgent:
            values += len(record.error or "")  # type: ignore[union-attr]
    return Size(size.records + len(records) + len(events), values, agents, pieces)
