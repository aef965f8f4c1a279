"""The rows of deleted agents: nobody sees them any more, and they are removed a little at a time.

An agent may have had a million runs and events, which no single transaction should remove. So its row goes
with the commit that deletes it, and leaves an entry in `erased`; readers leave out what such an entry
covers. Those entries that are there when a round begins are worked off together: runs, mail and sent
messages by index, events in one sweep over the numbers that any of them had, as no index leads to them.
Where a round stands is known in memory only; after a restart it begins anew.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from .records import EraseAgent, Record
from .retention import affordable, weight

SWEEP = 10
"""Events that are passed over in a step for each row that it may delete."""

Part: TypeAlias = Literal["runs", "inbox", "sent", "events", "entries"]
PARTS: tuple[Part, ...] = ("runs", "inbox", "sent", "events", "entries")

ROWS_BY_TABLE = {
    "runs": """
        SELECT e.number, r.serial, length(r.input) + coalesce(length(r.result), 0)
        FROM erased AS e CROSS JOIN runs AS r ON r.agent_id = e.agent_id
        WHERE e.number BETWEEN ? AND ? ORDER BY e.number LIMIT ?""",
    "inbox": """
        SELECT e.number, m.serial, length(m.body)
        FROM erased AS e CROSS JOIN inbox AS m ON m.agent_id = e.agent_id
        WHERE e.number BETWEEN ? AND ? ORDER BY e.number LIMIT ?""",
    "sent": """
        SELECT e.number, m.serial, length(m.body)
        FROM erased AS e CROSS JOIN inbox AS m ON m.sender_id = e.agent_id
        WHERE e.number BETWEEN ? AND ? ORDER BY e.number LIMIT ?""",
}
DELETE = {
    "runs": "DELETE FROM runs WHERE serial IN (SELECT value FROM json_each(?))",
    "inbox": "DELETE FROM inbox WHERE serial IN (SELECT value FROM json_each(?))",
    "sent": "DELETE FROM inbox WHERE serial IN (SELECT value FROM json_each(?))",
}
ROUND = "SELECT min(number), max(number), min(low), max(high) FROM erased"
SWEPT = """
    DELETE FROM events AS o WHERE seq >= ? AND seq < ? AND type <> 'agent.deleted' AND EXISTS (
        SELECT 1 FROM erased AS e WHERE e.path = o.path AND o.seq >= e.low AND o.seq < e.high)
"""
WORKED_OFF = "DELETE FROM erased WHERE number BETWEEN ? AND ?"
ANY = "SELECT EXISTS (SELECT 1 FROM erased)"
SAME_IDS = """
    DELETE FROM runs WHERE run_id IN (SELECT value FROM json_each(?))
        AND agent_id IN (SELECT agent_id FROM erased)
"""


class Erasure(Struct, frozen=True):
    """The rows that one transaction removes: rows by their serials, or a range of events or entries."""

    part: Part
    at: int  # the number of the entry, or of the event, to go on from
    serials: tuple[int, ...] = ()
    over: bool = False  # the next step is about the next part


class Eraser:
    """Belongs to a store, and is told every record that the store committed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.pending: bool = bool(self._rows(ANY)[0][0])
        self._part: Part = "runs"
        self._at = 0
        self._last = 0  # the entries of this round are those from `_first` to `_last`, if there is one
        self._first = 0
        self._seqs = (0, 0)

    def committed(self, records: Sequence[Record]) -> None:
        """These are in the store now."""
        self.pending = self.pending or any(type(record) is EraseAgent for record in records)

    def make_way(self, run_ids: list[str]) -> None:
        """Remove what is left of deleted agents under ids that are given again, in the same transaction."""
        if self.pending:
            self._connection.execute(SAME_IDS, (msgspec.json.encode(run_ids).decode(),))

    def look(self, rows: int) -> Erasure | None:
        """The next rows, at most about `rows`; None if nothing does. Changes nothing in the store."""
        if not self.pending:
            return None
        if not self._last:
            first, last, low, high = self._rows(ROUND)[0]
            if first is None:
                self.pending = False
                return None
            self._first, self._last, self._seqs = first, last, (low, high)
            self._part, self._at = "runs", first
        part = self._part
        if part == "events":
            upto = min(self._at + SWEEP * rows, self._seqs[1])
            return Erasure(part, upto, over=upto == self._seqs[1])
        if part == "entries":
            upto = min(self._at + rows, self._last + 1)
            return Erasure(part, upto, over=upto == self._last + 1)
        found = self._rows(ROWS_BY_TABLE[part], self._at, self._last, rows)
        count = affordable((weight(size) for _, _, size in found), rows)
        over = count == len(found) < rows
        at = self._at if not found else found[count - 1][0]
        return Erasure(part, at, tuple(serial for _, serial, _ in found[:count]), over)

    def delete(self, erasure: Erasure) -> None:
        """Do it; the caller's transaction goes round it."""
        # a page that is emptied is not left as it was, nor is one that is free then
        self._connection.execute("PRAGMA secure_delete = ON")
        if erasure.part == "events":
            self._connection.execute(SWEPT, (self._at, erasure.at))
        elif erasure.part == "entries":
            self._connection.execute(WORKED_OFF, (self._at, erasure.at - 1))
        elif erasure.serials:
            serials = msgspec.json.encode(erasure.serials).decode()
            self._connection.execute(DELETE[erasure.part], (serials,))

    def deleted(self, erasure: Erasure) -> bool:
        """It was committed; whether nothing is left with that."""
        self._at = erasure.at
        if not erasure.over:
            return False
        if erasure.part == "entries":
            self._last = 0
            self.pending = bool(self._rows(ANY)[0][0])
            return not self.pending
        self._part = PARTS[PARTS.index(erasure.part) + 1]
        self._at = self._seqs[0] if self._part == "events" else self._first
        return False

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()
