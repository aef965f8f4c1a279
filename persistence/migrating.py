"""The columns that version 3 of the schema adds to the rows of older stores: identities, and whose events
are whose.

Both are done in the migration's transaction. Memory does not grow with the store.
"""

import sqlite3

from ..errors import SnapshotTampered, StoreError
from .keys import ColumnPlace, SignedColumns, Signer, UnboundColumns, read_key

_PATH = "(SELECT path FROM agents WHERE agents.agent_id = runs.agent_id)"
_BOUND = (
    ("config", "agents", "config", "agent_id, path, kind, version, origin, started_by"),
    ("input", "runs", "input", f"run_id, serial, agent_id, {_PATH}, accepted_at, awaits, started_by, stem"),
    ("result", "runs", "result", "run_id, agent_id, status"),
    ("body", "inbox", "body", "serial, agent_id, sender, sender_id"),
)
"""The place of a value, its table and column, and the columns that its place is made of."""


def bind(connection: sqlite3.Connection, store: str) -> None:
    """Seal all values anew, each bound to its row, if its old seal is good; others stay refused.

    Raises `StoreError` if the key does not fit: with seals that it cannot check the store would be lost.
    """
    if not _has_values(connection):
        return
    try:
        sealer = Signer(read_key(store))
    except FileNotFoundError:
        problem = (
            "it is of an older version, and its key file is missing. Put it back; nothing was changed."
        )
        raise StoreError(store, problem) from None
    counted = {True: 0, False: 0}
    for name, table, column, columns in _BOUND:

        def resealed(sealed: bytes, *fields: object, name: str = name) -> bytes:
            old: ColumnPlace = getattr(UnboundColumns, name)(*fields)
            new: ColumnPlace = getattr(SignedColumns, name)(*fields)
            try:
                data = sealer.open(sealed, old, "")
            except SnapshotTampered:
                counted[False] += 1
                return sealed
            counted[True] += 1
            return sealer.seal(data, new)

        connection.create_function("resealed", -1, resealed)
        connection.execute(
            f"UPDATE {table} SET {column} = resealed({column}, {columns}) WHERE {column} IS NOT NULL"
        )
    connection.create_function("resealed", -1, None)
    if counted[False] and not counted[True]:
        problem = (
            f"it is of an older version, and none of its {counted[False]:,} values carries the signature "
            "of the key beside it. Put its own key file back; nothing was changed."
        )
        raise StoreError(store, problem)


def _has_values(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM agents LIMIT 1").fetchone() is not None


def number_first_events(connection: sqlite3.Connection) -> None:
    """Give each agent the number of the event that tells of its spawning; 0 if that is forgotten.

    A path's events name no agent. Of the agents that had a path, one after another, the newest is of the
    newest spawning, but for those that were deleted: that is told of as well.
    """
    for statement in (
        "CREATE TEMP TABLE spawnings AS SELECT path, seq FROM main.events WHERE type = 'agent.spawned'",
        "CREATE INDEX temp.spawnings_at ON spawnings(path, seq)",
    ):
        connection.execute(statement)
    deleted = "SELECT path, seq FROM main.events WHERE type = 'agent.deleted' ORDER BY seq"
    for path, seq in connection.execute(deleted):
        connection.execute(
            "DELETE FROM temp.spawnings WHERE rowid = (SELECT rowid FROM temp.spawnings"
            " WHERE path = ? AND seq < ? ORDER BY seq DESC LIMIT 1)",
            (path, seq),
        )
    connection.execute("""
        UPDATE main.agents SET first_seq = f.seq FROM (
            SELECT a.agent_id, s.seq FROM
                (SELECT agent_id, path, row_number() OVER (PARTITION BY path ORDER BY agent_id DESC) AS n
                 FROM main.agents) AS a
            JOIN
                (SELECT path, seq, row_number() OVER (PARTITION BY path ORDER BY seq DESC) AS n
                 FROM temp.spawnings) AS s
            USING (path, n)
        ) AS f WHERE f.agent_id = agents.agent_id""")
    connection.execute("DROP TABLE temp.spawnings")
