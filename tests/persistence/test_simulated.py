"""The simulated disk: what a crash leaves, exactly."""

import sqlite3
from pathlib import Path

import pytest

from greenroom.errors import StoreError
from greenroom.persistence import schema
from greenroom.persistence.codec import dumps
from greenroom.persistence.queries import FindAgent
from greenroom.persistence.records import AddAgent, AddRun
from greenroom.persistence.rows import AgentRow, RunRow
from greenroom.persistence.simulated import Disk, empty
from greenroom.persistence.store import Store
from greenroom.persistence.write_failures import WriteFailed
from greenroom.types import AgentId, Durability, RunId

NOTHING = dumps(None, "nothing")


def agent(number: int) -> AddAgent:
    return AddAgent(
        AgentRow(
            AgentId(number), f"/a{number}", "kind", 1, NOTHING, 1.0, 1.0, "idle", None, 0, None, None, ()
        )
    )


def run(number: int) -> AddRun:
    return AddRun(
        RunRow(
            run_id=RunId(f"run-{number}"),
            serial=number,
            agent_id=AgentId(number),
            path=f"/a{number}",
            input=NOTHING,
            accepted_at=1.0,
            status="accepted",
            attempt=0,
        )
    )


def left(disk: Disk) -> list[str]:
    """The runs that somebody finds who opens it."""
    _, unfinished = disk.open_store("x", "process")
    return [str(row.run_id) for row in unfinished.runs]


def opened(disk: Disk, durability: Durability = "process") -> Store:
    return disk.open_store("x", durability)[0]


def test_a_crash_keeps_what_was_committed_and_nothing_else() -> None:
    disk = Disk("x")
    store = opened(disk)
    store.write([agent(1), run(1)])
    store.begin()
    store.apply([agent(2), run(2)])  # and then it dies
    disk.crash()
    assert left(disk) == ["run-1"]


def test_a_power_cut_keeps_what_was_flushed_and_a_first_part_of_the_rest() -> None:
    kept = set()
    for choice in range(3):
        disk = Disk("x")
        store = opened(disk)
        store.write([agent(1), run(1)], sync=True)
        store.write([agent(2), run(2)])
        store.write([agent(3), run(3)])
        ways = []

        def choose(count: int, ways: list[int] = ways, choice: int = choice) -> int:
            ways.append(count)
            return choice

        disk.power_cut(choose)
        assert ways == [3]
        kept.add(tuple(left(disk)))
    assert kept == {("run-1", "run-2", "run-3"), ("run-1", "run-2"), ("run-1",)}


def test_with_durability_power_a_power_cut_loses_nothing() -> None:
    disk = Disk("x")
    store = opened(disk, "power")
    for number in (1, 2, 3):
        store.write([agent(number), run(number)])
    disk.power_cut(lambda count: count - 1)
    assert left(disk) == ["run-1", "run-2", "run-3"]


def test_an_orderly_end_is_flushed() -> None:
    disk = Disk("x")
    store = opened(disk)
    store.write([agent(1), run(1)])
    store.close()
    disk.power_cut(lambda count: count - 1)
    assert left(disk) == ["run-1"]


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR])
def test_a_write_that_fails_leaves_nothing_and_can_be_tried_again(code: int) -> None:
    problems: list[int | None] = [code, None]
    disk = Disk("x", write_problem=lambda: problems.pop(0))
    store = opened(disk)
    with pytest.raises(WriteFailed) as failure:
        store.write([agent(1), run(1)])
    assert not failure.value.fatal
    assert disk.open_reader("x").read(FindAgent("/a1")) is None
    store.write([agent(1), run(1)])
    assert left(disk) == ["run-1"]


def test_a_reader_sees_what_is_committed_and_can_fail() -> None:
    problems: list[int | None] = [sqlite3.SQLITE_IOERR, None]
    disk = Disk("x", read_problem=lambda: problems.pop(0))
    store = opened(disk)
    store.write([agent(1)])
    reader = disk.open_reader("x")
    with pytest.raises(StoreError, match="disk I/O error"):
        reader.read(FindAgent("/a1"))
    found = reader.read(FindAgent("/a1"))
    assert isinstance(found, AgentRow)


def test_each_opening_takes_the_next_epoch() -> None:
    disk = Disk("x")
    epochs = [opened(disk).epoch for _ in range(3)]
    assert epochs == [1, 2, 3]


def test_its_schema_is_the_real_one(tmp_path: Path) -> None:
    def tables(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
        statement = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
        return [tuple(row) for row in connection.execute(statement) if "migrations" not in row[1]]

    simulated = sqlite3.connect(":memory:")
    simulated.deserialize(empty())
    real = schema.open_for_writing(str(tmp_path / "real.db"), "process")
    assert tables(simulated) == tables(real)
    assert len(tables(real)) > 15
