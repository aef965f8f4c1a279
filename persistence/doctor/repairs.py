"""The repairs, one for each check that has any: each loses nothing, and yields what it did.

A row that has no place any more goes, whole, into the table `lost_found`. They say all that they did,
which may be much: the caller shortens it.
"""

import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec
from msgspec import Struct

from ...types import Timestamp
from .. import schema_steps
from .agent_checks import BAD_LAST_RUNS, OF_NOBODY
from .file_checks import INDEX_IS_WRONG
from .number_checks import COUNTED, HIGHEST_EPOCH, USED_NUMBERS
from .parts import LOST_FOUND, Parts, made_here
from .run_checks import NEVER_QUEUED, QUEUED_TOO_EARLY, TERMINAL, TERMINAL_EVENTS_OF_RUNS


class Bench(Struct, frozen=True):
    """A store under repair: opened for writing by its owner, within a transaction."""

    connection: sqlite3.Connection
    now: Timestamp


Mend: TypeAlias = Callable[[Bench], Iterator[str]]

_LOST_FOUND = f"""CREATE TABLE IF NOT EXISTS {LOST_FOUND} (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, source TEXT NOT NULL, why TEXT NOT NULL, row BLOB NOT NULL
) STRICT"""


def set_aside(store: Bench, table: str, which: str, why: str) -> list[tuple[object, ...]]:
    """Move rows to `lost_found`, where `row` is msgpack of {column: value}; the first column of each."""
    columns = [
        row[0] for row in store.connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    ]
    store.connection.create_function(
        "packed", -1, lambda *values: msgspec.msgpack.encode(dict(zip(columns, values, strict=True)))
    )
    store.connection.execute(_LOST_FOUND)
    store.connection.execute(
        f"INSERT INTO {LOST_FOUND} (at, source, why, row)"
        f" SELECT ?, ?, ?, packed({', '.join(columns)}) FROM {table} WHERE {which}",
        (store.now, table, why),
    )
    return store.connection.execute(f"DELETE FROM {table} WHERE {which} RETURNING {columns[0]}").fetchall()


def indexes(store: Bench) -> Iterator[str]:
    lines = [line for (line,) in store.connection.execute("PRAGMA integrity_check").fetchall()]
    for name in sorted({found[1] for found in map(INDEX_IS_WRONG.search, lines) if found}):
        store.connection.execute(f'REINDEX "{name}"')
        yield f"built the index {name} again from its table"


def parts(store: Bench) -> Iterator[str]:
    found = Parts.of(store.connection).others
    for name, part in made_here().others.items():
        if name in found and found[name].meaning == part.meaning:
            continue
        if name in found:
            store.connection.execute(f'DROP {found[name].type} "{name}"')
        store.connection.execute(part.sql)
        yield f"made the {part.type} {name} {'anew' if name in found else 'that was missing'}"


def meta(store: Bench) -> Iterator[str]:
    """In the place of several rows one with the highest numbers: none of them is used twice then."""
    rows = store.connection.execute(
        f"SELECT max(nonce), max(epoch), {', '.join(f'max({column})' for column in USED_NUMBERS)}, count(*)"
        " FROM meta"
    ).fetchone()
    store.connection.execute("DELETE FROM meta")
    store.connection.execute(
        f"INSERT INTO meta (id, nonce, epoch, {', '.join((*USED_NUMBERS, *COUNTED))})"
        f" SELECT 1, coalesce(?, {schema_steps.NEW_NONCE}), coalesce(?, ({HIGHEST_EPOCH}), 0),"
        f" {', '.join(f'coalesce(?, ({used}) + 1, 1)' for used in USED_NUMBERS.values())},"
        f" {', '.join(f'({counted})' for counted in COUNTED.values())}",
        rows[:-1],
    )
    # which runs say what started them is not known any more: of none of them it is relied on
    store.connection.execute("UPDATE meta SET first_origin = next_serial")
    yield f"wrote one row of numbers in the place of {rows[-1]}"


def next_numbers(store: Bench) -> Iterator[str]:
    for column, used in USED_NUMBERS.items():
        raised = store.connection.execute(
            f"UPDATE meta SET {column} = ({used}) + 1 WHERE {column} <= ({used}) RETURNING {column}"
        ).fetchall()
        for (number,) in raised:
            yield f"raised {column} to {number}"


def epochs(store: Bench) -> Iterator[str]:
    raised = store.connection.execute(
        f"UPDATE meta SET epoch = ({HIGHEST_EPOCH}) WHERE epoch < ({HIGHEST_EPOCH}) RETURNING epoch"
    ).fetchall()
    for (number,) in raised:
        yield f"raised epoch to {number}"


def counts(store: Bench) -> Iterator[str]:
    for column, counted in COUNTED.items():
        counted_now = store.connection.execute(
            f"UPDATE meta SET {column} = ({counted}) WHERE {column} <> ({counted}) RETURNING {column}"
        ).fetchall()
        for (number,) in counted_now:
            yield f"counted the agents: {column} is {number:,}"


def runs_of_agents(store: Bench) -> Iterator[str]:
    for (serial,) in set_aside(store, "runs", OF_NOBODY, "its agent is not there"):
        yield f"set the run of serial {serial} aside, its agent is not there"


def inbox_of_agents(store: Bench) -> Iterator[str]:
    for (serial,) in set_aside(store, "inbox", OF_NOBODY, "its agent is not there"):
        yield f"set message {serial} aside, its agent is not there"


def snapshots_of_agents(store: Bench) -> Iterator[str]:
    for (agent_id,) in set_aside(store, "snapshots", OF_NOBODY, "its agent is not there"):
        yield f"set the snapshot of agent {agent_id} aside, which is not there"


def runs_of_closed_agents(store: Bench) -> Iterator[str]:
    why = "its agent was closed"
    for run_id, agent_id, path in store.connection.execute(
        "SELECT r.run_id, a.agent_id, a.path FROM runs AS r JOIN agents AS a USING (agent_id)"
        " WHERE r.status = 'accepted' AND a.status = 'closed' ORDER BY r.serial"
    ).fetchall():
        store.connection.execute(
            "UPDATE runs SET status = 'interrupted', error = ?, ended_at = ? WHERE run_id = ?",
            (why, store.now, run_id),
        )
        store.connection.execute(
            "UPDATE agents SET last_run_id = ?, updated_at = ? WHERE agent_id = ?",
            (run_id, store.now, agent_id),
        )
        _add_event(store, store.now, "run.interrupted", path, run_id, why)
        yield f"ended run {run_id} of {path} as interrupted: {why}"


def terminal_events(store: Bench) -> Iterator[str]:
    store.connection.execute(f"CREATE TEMP TABLE told AS {TERMINAL_EVENTS_OF_RUNS}")
    try:
        for run_id, path, status, error, ended_at in store.connection.execute("""
            SELECT r.run_id, a.path, r.status, r.error, r.ended_at
            FROM temp.told AS t CROSS JOIN runs AS r USING (run_id) JOIN agents AS a USING (agent_id)
            WHERE r.status <> 'accepted' AND coalesce(t.count, 0) = 0 ORDER BY r.serial"""):
            at = store.now if ended_at is None else ended_at
            _add_event(store, at, f"run.{status}", path, run_id, error)
            yield f"added the event run.{status} of run {run_id}"
        which = f"""type IN {TERMINAL} AND run_id IN (SELECT run_id FROM temp.told WHERE count > 1)
            AND seq <> (SELECT min(o.seq) FROM events AS o JOIN runs AS r USING (run_id)
                        WHERE o.run_id = events.run_id AND o.type = 'run.' || r.status)"""
        store.connection.execute(f"CREATE TEMP TABLE doubles AS SELECT seq FROM events WHERE {which}")
        which = "seq IN (SELECT seq FROM temp.doubles)"
        for (seq,) in set_aside(store, "events", which, "its run has another terminal event"):
            yield f"set event {seq} aside, its run has another terminal event"
        store.connection.execute("DROP TABLE temp.doubles")
    finally:
        store.connection.execute("DROP TABLE temp.told")


def last_outcome(store: Bench) -> Iterator[str]:
    for path, before, _, agent_id in store.connection.execute(BAD_LAST_RUNS).fetchall():
        found = store.connection.execute(
            "SELECT run_id FROM runs WHERE agent_id = ? AND status <> 'accepted'"
            " ORDER BY ended_at DESC, serial DESC LIMIT 1",
            (agent_id,),
        ).fetchone()
        run_id = found[0] if found else None
        store.connection.execute("UPDATE agents SET last_run_id = ? WHERE agent_id = ?", (run_id, agent_id))
        yield f"the last run of {path} is {run_id or 'none'} now, it was {before or 'none'}"


def superseded(store: Bench) -> Iterator[str]:
    for (serial,) in store.connection.execute(
        f"DELETE FROM superseded WHERE serial IN ({QUEUED_TOO_EARLY}) RETURNING serial"
    ).fetchall():
        yield f"retention does not take the run of serial {serial} any more"
    store.connection.execute(f"DELETE FROM kept WHERE serial IN ({QUEUED_TOO_EARLY})")
    for (serial,) in store.connection.execute(
        f"INSERT INTO superseded (serial, at) SELECT serial, ? FROM ({NEVER_QUEUED}) RETURNING serial",
        (store.now,),
    ).fetchall():
        yield f"retention may take the run of serial {serial} from now on, as if it had just ended"


def stateful(store: Bench) -> Iterator[str]:
    for (path,) in store.connection.execute(
        "UPDATE agents SET stateful = 1 WHERE stateful IS NOT 1"
        " AND agent_id IN (SELECT agent_id FROM snapshots) RETURNING path"
    ).fetchall():
        yield f"{path} says that it has a snapshot"


def _add_event(store: Bench, at: Timestamp, kind: str, path: str, run_id: str, error: str | None) -> None:
    data: dict[str, object] = {"repaired": True}
    if error is not None:
        data["error"] = error
    (seq,) = store.connection.execute(
        "UPDATE meta SET next_seq = next_seq + 1 RETURNING next_seq - 1"
    ).fetchall()[0]
    store.connection.execute(
        "INSERT INTO events (seq, at, type, path, run_id, data) VALUES (?, ?, ?, ?, ?, ?)",
        (seq, at, kind, path, run_id, msgspec.json.encode(data)),
    )


BEFORE_TAKING: dict[str, Mend] = {"meta": meta, "epochs": epochs}
"""By check: what taking the store needs."""

REPAIRS: dict[str, Mend] = {
    "pages": indexes,  # first: what follows finds its rows by them
    "indexes-and-triggers": parts,
    "next-numbers": next_numbers,
    "counts": counts,
    "runs-of-agents": runs_of_agents,
    "inbox-of-agents": inbox_of_agents,
    "snapshots-of-agents": snapshots_of_agents,
    "stateful": stateful,
    "runs-of-closed-agents": runs_of_closed_agents,
    "terminal-events": terminal_events,
    "last-outcome": last_outcome,
    "superseded": superseded,
}
"""By check, in the order in which they are done: what a later one needs comes first."""
