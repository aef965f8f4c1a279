"""The versions of the schema.

A released step is never changed. A new one is added below, and to STEPS.
"""

import sqlite3
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from sqlite_utils import Database


def tables(db: "Database") -> None:
    """Version 1."""
    db.table("agents").create(
        {
            "agent_id": int,
            "path": str,
            "kind": str,
            "version": int,
            "config": bytes,
            "created_at": float,
            "updated_at": float,
            "status": str,  # idle, failed, closed
            "error": str,
            "incarnation": int,
            "origin": str,
            "last_run_id": str,
            "stateful": int,  # 1 from its first snapshot on: one that is missing then was lost
            "epoch": int,  # which opening of the store added it
        },
        pk="agent_id",
        not_null={"path", "kind", "version", "config", "created_at", "updated_at", "status"},
        strict=True,
    )
    db.table("runs").create(
        {
            "serial": int,  # and not run_id: rows are added at the end, and unfinished ones come in order
            "run_id": str,
            "agent_id": int,
            "input": bytes,
            "accepted_at": float,
            "status": str,  # accepted, completed, failed, interrupted
            "attempt": int,
            "awaits": str,  # a JSON list of run ids
            "result": bytes,
            "error": str,
            "started_at": float,
            "ended_at": float,
            "epoch": int,
        },
        pk="serial",
        not_null={"run_id", "agent_id", "input", "accepted_at", "status", "attempt"},
        strict=True,
    )
    db.table("inbox").create(
        {"serial": int, "agent_id": int, "sender": str, "at": float, "body": bytes},
        pk="serial",
        not_null={"agent_id", "at", "body"},
        strict=True,
    )
    db.table("snapshots").create(
        {"agent_id": int, "codec": str, "version": int, "epoch": int, "data": bytes},
        pk="agent_id",
        not_null={"codec", "version", "data"},
        strict=True,
    )
    db.table("events").create(
        {"seq": int, "at": float, "type": str, "path": str, "run_id": str, "data": bytes},
        pk="seq",
        not_null={"at", "type", "path", "data"},
        strict=True,
    )
    db.table("superseded").create(  # runs that ended and are no longer their agent's last, in this order
        {"number": int, "serial": int, "at": float},  # of the run; when the agent's next one ended
        pk="number",
        not_null={"serial", "at"},
        strict=True,
    )
    db.table("owner").create(  # at most one row: who may write, or did last; see `ownership`
        {
            "id": int,
            "host": str,
            "boot_id": str,
            "pid_namespace": str,
            "pid": int,
            "started": int,  # of the process, in ticks since boot: its pid can be another's by now
            "epoch": int,
            "lease": float,  # seconds for which a sign of life holds
            "heartbeat": float,  # the last one, by the wall clock
            "uptime": float,  # The same by the monotonic clock.
            "released_at": float,  # NULL while it is in use
        },
        pk="id",
        strict=True,
    )
    db.table("meta").create(  # one row: numbers that never go back, whatever is erased
        {
            "id": int,
            "epoch": int,
            "known": int,
            "next_agent_id": int,
            "next_serial": int,
            "next_seq": int,
            "closed": int,
        },
        pk="id",
        not_null={"epoch", "known", "next_agent_id", "next_serial", "next_seq", "closed"},
        strict=True,
    )
    for statement in _V1_STATEMENTS:
        db.execute(statement)


_V1_STATEMENTS = (
    "INSERT INTO meta VALUES (1, 0, 0, 1, 1, 1, 0)",
    "CREATE UNIQUE INDEX agents_open ON agents(path) WHERE status <> 'closed'",
    "CREATE INDEX agents_closed ON agents(path, agent_id) WHERE status = 'closed'",
    "CREATE INDEX agents_closed_at ON agents(updated_at, agent_id) WHERE status = 'closed'",
    "CREATE UNIQUE INDEX runs_id ON runs(run_id)",
    "CREATE INDEX runs_unfinished ON runs(serial) WHERE status = 'accepted'",
    "CREATE INDEX runs_begun ON runs(serial) WHERE status = 'accepted' AND started_at IS NOT NULL",
    "CREATE INDEX runs_of_agent ON runs(agent_id, serial)",
    "CREATE INDEX inbox_of_agent ON inbox(agent_id, serial)",
    # `known` counts open agents and `closed` the others, so that nobody has to count millions
    """CREATE TRIGGER agent_added AFTER INSERT ON agents WHEN new.status <> 'closed'
       BEGIN UPDATE meta SET known = known + 1; END""",
    """CREATE TRIGGER agent_changed AFTER UPDATE OF status ON agents
       WHEN (old.status = 'closed') <> (new.status = 'closed')
       BEGIN
         UPDATE meta SET known = known + iif(new.status = 'closed', -1, 1),
                         closed = closed + iif(new.status = 'closed', 1, -1);
       END""",
    """CREATE TRIGGER agent_erased AFTER DELETE ON agents
       BEGIN
         UPDATE meta SET known = known - (old.status <> 'closed'),
                         closed = closed - (old.status = 'closed');
         DELETE FROM runs WHERE agent_id = old.agent_id;
         DELETE FROM inbox WHERE agent_id = old.agent_id;
         DELETE FROM snapshots WHERE agent_id = old.agent_id;
       END""",
    """CREATE TRIGGER snapshot_added AFTER INSERT ON snapshots
       BEGIN UPDATE agents SET stateful = 1 WHERE agent_id = new.agent_id; END""",
    # the queue of what retention may take: every run that ended is in it, or is its agent's last one
    """CREATE TRIGGER run_superseded AFTER UPDATE OF last_run_id ON agents WHEN old.last_run_id IS NOT NULL
       BEGIN
         INSERT INTO superseded (serial, at)
         SELECT serial, new.updated_at FROM runs WHERE run_id = old.last_run_id;
       END""",
)


def processes(db: "Database") -> None:
    """Version 2: what agents started outside. See `processes.ProcessRow`."""
    db.table("processes").create(
        {
            "number": int,
            "agent_id": int,
            "incarnation": int,
            "path": str,
            "kind": str,
            "host": str,
            "boot_id": str,
            "pid_namespace": str,
            "pid": int,
            "started": int,  # of the process, in ticks since boot
            "owner_pid": int,
            "owner_started": int,
            "epoch": int,  # which opening of the store started it
            "lease": float,  # its owner's
            "heartbeat": float,  # its owner's last sign of life, by the wall clock
            "uptime": float,  # The same by the monotonic clock.
            "token": str,
            "file": str,
        },
        pk="number",
        strict=True,
    )


NEW_NONCE = "lower(hex(randomblob(6)))"
"""In SQL: a name that no other store has."""


class Added(Struct, frozen=True):
    """A column that a version adds to a table of the one before."""

    table: str
    column: str
    declaration: str
    before: str = "0"  # what stands for it while an older file is only looked at


V3_COLUMNS = (
    # the serial of the run whose turn started it
    Added("runs", "started_by", "INTEGER", "NULL"),
    # crashes of the process beside which it was at work, and those of them that are held against it
    Added("runs", "cuts", "INTEGER NOT NULL DEFAULT 0"),
    Added("runs", "crashes", "INTEGER NOT NULL DEFAULT 0"),
    # 1: its turn began as the only suspect of a crash
    Added("runs", "alone", "INTEGER NOT NULL DEFAULT 0"),
    # seconds that its longest turn had run when it was cut off
    Added("runs", "ran", "REAL", "NULL"),
    # 1: a turn of it has begun, and not ended or been cut
    Added("runs", "at_work", "INTEGER NOT NULL DEFAULT 0"),
    Added("runs", "error_type", "TEXT", "NULL"),
    # what the ids of what it starts are derived from, if another store accepted it
    Added("runs", "stem", "TEXT", "NULL"),
    # the next serial at the last checkpoint of its turn
    Added("runs", "divided_at", "INTEGER", "NULL"),
    # the serial of the run whose turn spawned it
    Added("agents", "started_by", "INTEGER", "NULL"),
    # the events about it have no lower numbers
    Added("agents", "first_seq", "INTEGER NOT NULL DEFAULT 0"),
    # closed and past its time, but this open run may need it
    Added("agents", "keeper", "INTEGER", "NULL"),
    # the agent that sent it; NULL from outside
    Added("inbox", "sender_id", "INTEGER", "NULL"),
    # in all ids that the runtime makes: another store makes others
    Added("meta", "nonce", "TEXT", "NULL"),
    # runs with this serial or a greater one say what started them
    Added("meta", "first_origin", "INTEGER NOT NULL DEFAULT 1"),
)
_V3_TABLES = {
    # runs past their time, by the open run that still needs them: taken out of `superseded`
    "kept": """CREATE TABLE kept (keeper INTEGER NOT NULL, serial INTEGER NOT NULL,
        PRIMARY KEY (keeper, serial)) WITHOUT ROWID, STRICT""",
    # agents that were deleted, until the last of their rows is: nobody sees those meanwhile
    "erased": """CREATE TABLE erased (number INTEGER PRIMARY KEY, agent_id INTEGER NOT NULL UNIQUE,
        path TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL) STRICT""",
}
_V3_STATEMENTS = (
    f"UPDATE meta SET nonce = {NEW_NONCE}, first_origin = next_serial",
    # an older greenroom did not count the beginnings that it cut off itself
    """UPDATE runs SET at_work = 1, attempt = max(attempt, 1)
       WHERE status = 'accepted' AND started_at IS NOT NULL""",
    *_V3_TABLES.values(),
    "CREATE INDEX erased_at ON erased(path)",
    "DROP INDEX inbox_of_agent",  # senders stand in it, so that the mail of erased ones is seen there
    "CREATE INDEX inbox_of_agent ON inbox(agent_id, serial, sender_id)",
    "CREATE INDEX inbox_of_sender ON inbox(sender_id) WHERE sender_id IS NOT NULL",
    "DROP INDEX agents_closed_at",
    """CREATE INDEX agents_closed_at ON agents(updated_at, agent_id)
       WHERE status = 'closed' AND keeper IS NULL""",
    "CREATE INDEX agents_kept ON agents(keeper) WHERE keeper IS NOT NULL",
    # an agent may have more rows than one transaction should delete: whoever deletes it sees to them
    "DROP TRIGGER agent_erased",
    """CREATE TRIGGER agent_erased AFTER DELETE ON agents
       BEGIN
         UPDATE meta SET known = known - (old.status <> 'closed'),
                         closed = closed - (old.status = 'closed');
         DELETE FROM snapshots WHERE agent_id = old.agent_id;
       END""",
)


ORIGINS = 3


def origins(db: "Database") -> None:
    """Version 3: where a run came from, how its turns were cut off, a name of the store's own.

    `migrating` does what takes more than statements.
    """
    _add(db, V3_COLUMNS)
    for statement in _V3_STATEMENTS:
        db.execute(statement)


def _add(db: "Database", columns: Iterable[Added]) -> None:
    for added in columns:
        db.execute(f"ALTER TABLE {added.table} ADD COLUMN {added.column} {added.declaration}")


V4_COLUMNS = (Added("meta", "pruned", "INTEGER NOT NULL DEFAULT 0"),)


def pruned_events(db: "Database") -> None:
    """Version 4: `meta.pruned`, up to which number retention has removed events.

    Numbers have gaps, and those about deleted agents go as well, so the oldest that is left does not tell.
    A trigger sees it also where somebody removes the oldest events with a tool of their own.
    """
    _add(db, V4_COLUMNS)
    db.execute("UPDATE meta SET pruned = coalesce((SELECT min(seq) FROM events), next_seq) - 1")
    db.execute(
        """CREATE TRIGGER event_pruned AFTER DELETE ON events
           WHEN NOT EXISTS (SELECT 1 FROM events WHERE seq < old.seq)
           AND NOT EXISTS (SELECT 1 FROM erased AS e
                           WHERE e.path = old.path AND old.seq >= e.low AND old.seq < e.high)
           BEGIN UPDATE meta SET pruned = max(pruned, old.seq); END"""
    )


V5_COLUMNS = (
    # JSON: of each crash at which it was the only suspect, the serials of those that may have caused it
    Added("runs", "doubts", "TEXT", "NULL"),
)


def doubted_crashes(db: "Database") -> None:
    """Version 5: a crash is held against a suspect once those beside it are cleared."""
    _add(db, V5_COLUMNS)


STEPS: list[Callable[["Database"], None]] = [tables, processes, origins, pruned_events, doubted_crashes]
ADDED = {3: V3_COLUMNS, 4: V4_COLUMNS, 5: V5_COLUMNS}
"""By version, the columns that an older file lacks."""


def as_of_now(connection: sqlite3.Connection, version: int) -> None:
    """Let an older store be read by the statements of this version, without a change to it.

    Views of this connection alone take the places of its tables.
    """
    lacking = [added for since, columns in ADDED.items() if since > version for added in columns]
    for table in dict.fromkeys(added.table for added in lacking):
        more = ", ".join(f"{added.before} AS {added.column}" for added in lacking if added.table == table)
        connection.execute(f"CREATE TEMP VIEW {table} AS SELECT *, {more} FROM main.{table}")
    if version < ORIGINS:
        for definition in _V3_TABLES.values():
            connection.execute(definition.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
