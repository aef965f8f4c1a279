"""Every value is bound to its row: no change of a single cell hands it to somebody else.

Who can write the file but does not have its key can still remove rows, put back older ones, and change what
`HARMLESS` lists: times, counts, words that are shown. No code is executed for another agent by that, and
nothing that is stored for one is read for another.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from greenroom.errors import GreenroomError
from greenroom.persistence import simulated
from greenroom.persistence.codec import check_genuine
from greenroom.persistence.keys import Signer
from greenroom.persistence.queries import FindAgents, FindRuns, LoadAgent
from greenroom.persistence.reader import Reader
from greenroom.persistence.records import (
    AddAgent,
    AddMessage,
    AddRun,
    BeginRun,
    EndRun,
    PutSnapshot,
    Record,
    SetAgent,
)
from greenroom.persistence.rows import AgentImage, AgentRow, MessageRow, RunRow, Snapshot

RUNS = ("done", "lost", "begun", "waits", "child", "old", "cut")


def records() -> Iterator[Record]:
    """Two trees, with everything that a row can be; no two values are alike."""
    places = {1: "/a", 2: "/a/x", 3: "/b", 4: "/b/x"}
    for n, path in places.items():
        origin = "of a turn" if n in (2, 4) else None
        yield AddAgent(
            AgentRow(n, path, f"kind-{n % 2}", n, b"config %d" % n, float(n), float(n), origin=origin,
                     started_by=30 + n if n in (2, 4) else None)
        )  # fmt: skip
        yield PutSnapshot(n, Snapshot("json" if n % 2 else "msgpack", n, b"state %d" % n))
        for m in (1, 2):
            sender = (places[5 - n], 5 - n) if m == 2 else (None, None)
            yield AddMessage(
                MessageRow(100 + 10 * n + m, n, b"body %d %d" % (n, m), sender[0], 1.0, sender[1])
            )
    for n in (1, 3):
        for m, name in enumerate(RUNS):
            run_id = f"{name}-{n}"
            yield AddRun(
                RunRow(
                    run_id,
                    10 * n + m,
                    n,
                    places[n],
                    b"input " + run_id.encode(),
                    1.0 + n + m,
                    awaits=(f"child-{n}", f"done-{n}") if name == "waits" else (),
                    started_by=10 * n if name == "child" else None,
                    stem="s" if name == "cut" else None,
                )
            )
            if name in ("begun", "cut"):
                yield BeginRun(run_id, n, 1, 2.0)
            if name in ("done", "old"):
                yield EndRun(run_id, n, "completed", b"result " + run_id.encode(), None, 1, 2.0, 3.0)
            if name == "lost":
                yield EndRun(run_id, n, "failed", None, "no luck", 1, 2.0, 3.0)
    yield SetAgent(4, "closed", None, 9.0)


HARMLESS = {
    # a state has its own version, which is the one that counts; the other is bound with the config
    "agents": {"created_at", "updated_at", "error", "incarnation", "epoch", "first_seq", "keeper"}
    # which run of the agent is shown as its last; one of another agent is not
    | {"last_run_id", "stateful"}
    # closed instead of open and back: as an older row, or a removed one
    | {"status"},
    "runs": {"attempt", "error", "error_type", "started_at", "epoch", "cuts", "crashes", "alone", "ran"}
    | {"at_work", "divided_at", "doubts"}
    # when it ended, if it has; a run without an outcome that says so is refused
    | {"ended_at"},
    "inbox": {"at"},
    "snapshots": {"epoch"},
}
"""Columns of which some change goes unnoticed. `status` of a run: a failed one may count as interrupted."""
NO_SUCCESS = {"failed", "interrupted"}


@pytest.fixture(scope="module")
def image() -> bytes:
    disk = simulated.Disk("a store")
    store, _ = disk.open_store("a store", "process")
    store.write(list(records()))
    found = disk.image()
    store.close()
    return found


def opened(image: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(image)
    return connection


def genuine(value: bytes | None) -> bytes | None:
    """The value, unless it was refused."""
    try:
        check_genuine(value or b"")
    except GreenroomError:
        return None
    return value


def told(connection: sqlite3.Connection) -> dict[bytes, Any]:
    """Every value that is handed out, with whose it is said to be and how it would be used."""
    reader = Reader("a store", connection, Signer(simulated.KEY))
    found: dict[bytes, Any] = {}

    def add(value: bytes | None, *whose: object) -> None:
        value = genuine(value)
        if value:
            assert value not in found or found[value] == whose
            found[value] = whose

    ids = [row[0] for row in connection.execute("SELECT agent_id FROM agents")]
    run_ids = [row[0] for row in connection.execute("SELECT run_id FROM runs")]
    for row in reader.read(FindAgents(tuple(ids))):  # type: ignore[attr-defined]
        add(row.config, row.agent_id, row.path, row.kind, row.origin, row.started_by)
        if row.last is not None:
            add(row.last.result, row.last.run_id, row.path, row.last.status)
        try:
            loaded: AgentImage = reader.read(LoadAgent(row.agent_id))  # type: ignore[assignment]
        except GreenroomError:
            continue
        assert loaded.snapshot is not None
        add(loaded.snapshot.data, row.path, row.kind, loaded.snapshot.codec, loaded.snapshot.version)
        for message in loaded.inbox:
            add(message.body, row.path, message.serial, message.sender, message.sender_id)
    for run in reader.read(FindRuns(tuple(run_ids))):  # type: ignore[attr-defined]
        if run is not None:
            open_ = run.status == "accepted"
            add(run.input, run.run_id, run.serial, run.path, run.accepted_at, run.awaits, run.started_by,
                run.stem, open_)  # fmt: skip
            add(run.result, run.run_id, run.path, run.status)
            if run.status == "completed":
                assert run.result is not None, "nothing completes without its result"
    return found


def cells() -> list[tuple[str, str]]:
    connection = opened(simulated.empty())
    return [
        (table, column)
        for table in ("agents", "runs", "inbox", "snapshots")
        for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    ]


@pytest.mark.parametrize(("table", "column"), [cell for cell in cells() if cell != ("runs", "status")])
def test_no_change_of_a_cell_hands_a_value_to_somebody_else(image: bytes, table: str, column: str) -> None:
    whole = opened(image)
    before = told(whole)
    rowids = [row[0] for row in whole.execute(f"SELECT rowid FROM {table}")]
    if column == "result":  # of a run that failed it is not looked at
        rowids = [row[0] for row in whole.execute("SELECT serial FROM runs WHERE status <> 'failed'")]
    values = {row[0] for row in whole.execute(f"SELECT DISTINCT {column} FROM {table}")}
    kind = whole.execute("SELECT type FROM pragma_table_info(?) WHERE name = ?", (table, column)).fetchone()
    values |= {"INTEGER": {None, 0, 1, 999}, "REAL": {None, 7.5}, "TEXT": {None, "x", "/a", "running"}}.get(
        kind[0], {None, b"", bytes(40)}
    )  # type: ignore[operator]
    changed = unnoticed = 0
    for rowid in rowids:
        for value in values:
            connection = opened(image)
            try:
                (was,) = connection.execute(
                    f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)
                ).fetchone()
                if was == value:
                    continue
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, rowid))
            except sqlite3.IntegrityError:  # SQLite itself refuses it
                continue
            changed += 1
            after = told(connection)
            stray = {key: whose for key, whose in after.items() if before[key] != whose}
            assert stray == {}, (rowid, was, value)
            unnoticed += len(after) == len(before)
            connection.close()
    assert changed
    assert not unnoticed or column in HARMLESS[table], "a change was not seen"
    assert unnoticed or column not in HARMLESS[table]


def test_a_change_of_a_runs_status_executes_nothing_again_and_makes_no_success(image: bytes) -> None:
    """It may make of a run that failed one that was interrupted, or keep one from being executed."""
    statuses = ("accepted", "completed", "failed", "interrupted")
    for run_id, was in opened(image).execute("SELECT run_id, status FROM runs").fetchall():
        for status in statuses:
            connection = opened(image)
            connection.execute("UPDATE runs SET status = ? WHERE run_id = ?", (status, run_id))
            reader = Reader("a store", connection, Signer(simulated.KEY))
            (run,) = reader.read(FindRuns((run_id,)))  # type: ignore[misc]
            if status == was:
                assert genuine(run.input)
            elif status == "completed":
                assert genuine(run.result) is None
            elif status == "accepted":
                assert genuine(run.input) is None
            else:
                assert was in (*NO_SUCCESS, "accepted") or genuine(run.result) is None
