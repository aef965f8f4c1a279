"""Any value in any cell of a store: whoever looks at it says something, and never falls over it."""

import json
import shutil
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom import Runtime
from greenroom.cli import main
from greenroom.persistence import doctor

from .doctor_stores import be_busy, change, counter

CELLS = {
    "agents": "agent_id path kind version config created_at updated_at status error incarnation origin "
    "stateful last_run_id epoch",
    "runs": "serial run_id agent_id input accepted_at status attempt awaits result error started_at "
    "ended_at epoch",
    "inbox": "serial agent_id sender at body",
    "snapshots": "agent_id codec version data epoch",
    "events": "seq at type path run_id data",
    "superseded": "serial at",
    "owner": "host boot_id pid_namespace pid started epoch lease heartbeat uptime released_at",
    "meta": "epoch known next_agent_id next_serial next_seq closed",
    "processes": "number agent_id path pid token lease heartbeat file owner_pid",
}
NESTED = "[" * 100_000 + "]" * 100_000
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.sampled_from(
        ["", "seven", "[", "[1]", "{}", '["a"]', '"\\ud800"', "null", NESTED, "\x1b[31m", "/", "/a"]
    ),
    st.sampled_from([b"", b"\xff\xfe", b"[", b"[1]", b"null", b"{", b'{"a": NaN}', NESTED.encode()]),
    st.sampled_from(["closed", "accepted", "completed", "failed", "idle", "run.completed"]),
)
DAMAGE = st.sampled_from(sorted(CELLS)).flatmap(
    lambda table: st.tuples(
        st.just(table), st.sampled_from(CELLS[table].split()), VALUES, st.booleans(), st.integers(0, 3)
    )
)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("busy") / "agents.db"
    be_busy(store)
    change(store, "INSERT INTO processes (number, agent_id, path) VALUES (7, 1, '/t/a')")
    return store


def copy_of(store: Path, folder: str) -> Path:
    for suffix in ("", ".key"):
        shutil.copy(f"{store}{suffix}", f"{folder}/agents.db{suffix}")
    return Path(folder, "agents.db")


def put(store: Path, table: str, column: str, value: Any, as_text: bool, which: int) -> None:
    """Put `value` into a cell, or into all cells of its column, whatever the schema says of them."""
    connection = sqlite3.connect(store, isolation_level=None)
    found = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    ((schema,),) = connection.execute(found, (table,)).fetchall()
    _write_schema(connection, table, schema.rstrip().removesuffix("STRICT").replace("NOT NULL", ""))
    connection.close()
    connection = sqlite3.connect(store, isolation_level=None)
    rows = f"SELECT rowid FROM {table} ORDER BY rowid" + (f" LIMIT 1 OFFSET {which}" if which else "")
    cast = "CAST(? AS TEXT)" if as_text and isinstance(value, bytes) else "?"
    update = f"UPDATE OR IGNORE {table} SET {column} = {cast} WHERE rowid IN ({rows})"
    with suppress(sqlite3.Error):  # of a primary key and the like, SQLite itself keeps the type
        connection.execute(update, (value,))
    _write_schema(connection, table, schema)
    connection.close()


def _write_schema(connection: sqlite3.Connection, table: str, schema: str) -> None:
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = ?", (schema, table)
    )


def said(*words: str) -> Result:
    """What a command says. An exit is its own, an exception would be a traceback."""
    result = CliRunner().invoke(main, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "\x1b" not in result.output
    return result


LOOKS = (
    ("ls",),
    ("ls", "--status", "closed", "--json"),
    ("stats",),
    ("events",),
    ("events", "--json"),
    ("show", "/busy/counter-5"),
    ("show", "count-5-2", "--json"),
    ("export", "-"),
)


@settings(max_examples=80, suppress_health_check=list(HealthCheck), deadline=None)
@given(damages=st.lists(DAMAGE, min_size=1, max_size=3))
def test_every_look_at_a_damaged_store_ends_in_an_answer_or_an_error_of_our_own(
    busy: Path, damages: list[tuple[str, str, Any, bool, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = copy_of(busy, folder)
        for damage in damages:
            put(store, *damage)
        report = doctor.examine(str(store))
        assert report.checks
        assert doctor.examine(str(store), quick=True).checks
        found = json.loads(said("doctor", str(store), "--json").stdout)
        assert len(found["findings"]) == len(report.findings)
        said("doctor", str(store))
        for look in LOOKS:
            said(*look, "--store", str(store))
        said("doctor", str(store), "--repair")


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("runs", "epoch", "seven"),
        ("runs", "epoch", b"\x00"),
        ("meta", "next_seq", "many"),
        ("meta", "known", None),
        ("agents", "path", 5),
        ("agents", "status", None),
        ("runs", "awaits", b"\xff"),
        ("runs", "awaits", NESTED),
        ("snapshots", "codec", 7),
        ("events", "type", b"\xff"),
        ("events", "path", None),
        ("owner", "heartbeat", float("inf")),
    ],
)
def test_a_value_of_the_wrong_kind_is_a_finding(
    busy: Path, tmp_path: Path, table: str, column: str, value: Any
) -> None:
    store = copy_of(busy, str(tmp_path))
    put(store, table, column, value, False, 0)
    report = doctor.examine(str(store))
    assert not report.healthy or column == "heartbeat"


@pytest.mark.parametrize("data", [b"\xff", b"[1]", b"{", b"null", NESTED.encode(), b""])
def test_an_event_whose_data_is_damaged_is_told_with_what_is_wrong_and_hides_no_other(
    tmp_path: Path, data: bytes
) -> None:
    store = tmp_path / "agents.db"
    with Runtime(store) as runtime:
        runtime.spawn(counter, "/t/a", input=1).run.result(60)
        whole = list(runtime.events(since=0, follow=False))
    damaged = whole[1]
    connection = sqlite3.connect(store)
    connection.execute("UPDATE events SET data = ? WHERE seq = ?", (data, damaged.seq))
    connection.commit()
    connection.close()
    with Runtime(store) as runtime:
        found = list(runtime.events(since=0, follow=False))
    assert [event.seq for event in found] == [event.seq for event in whole]
    assert f"event {damaged.seq} is damaged" in found[1].data["unreadable"]
    assert "greenroom doctor" in found[1].data["unreadable"]
    assert found[0] == whole[0]
    assert found[2:] == whole[2:]
    lines = said("events", "--store", str(store), "--json").stdout.splitlines()
    assert len(lines) == len(whole)
    assert json.loads(lines[1])["data"] == found[1].data
    assert "unreadable=event" in said("events", "--store", str(store)).stdout
