"""A record that the store refuses: the request that it is of is refused, and nobody else notices.

It would be a bug of greenroom, which is planted here: a run that gets the id of another one on its way into
the file, so that SQLite refuses it, or whose row cannot be made at all.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from greenroom import AgentNotFound, RunNotFound, Runtime, Turn, agent
from greenroom.errors import InternalError
from greenroom.persistence import doctor
from greenroom.persistence.records import AddMessage, AddRun
from greenroom.persistence.sql_writes import WRITES

from .conftest import Disk, Later, Listener, asked_until

Make = Callable[..., Runtime]
Listen = Callable[[Runtime], Listener]


@agent(name="disks-keeper")
async def keeper(turn: Turn) -> Any:
    turn.state["inputs"] = [*turn.state.get("inputs", ()), turn.input]
    turn.state["read"] = [*turn.state.get("read", ()), *(message.body for message in turn.inbox)]
    return turn.input


def plant(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Have the store refuse the run with the id "bad" and the message "bad"."""
    write, send = WRITES[AddRun][0], WRITES[AddMessage][0]

    def run(store: Any, record: AddRun) -> Any:
        row = record.row
        if row.run_id != "bad":
            return write.encode(store, record)
        if how == "no row":
            raise TypeError("a value that SQLite does not know")
        row = replace(row, serial=1) if how == "its serial" else replace(row, run_id="known")
        return write.encode(store, AddRun(row))

    def message(store: Any, record: AddMessage) -> Any:
        if b"bad" in record.row.body:
            raise TypeError("a value that SQLite does not know")
        return send.encode(store, record)

    monkeypatch.setitem(WRITES, AddRun, (replace(write, encode=run),))
    monkeypatch.setitem(WRITES, AddMessage, (replace(send, encode=message),))


def begun(make: Make, disk: Disk, **settings: Any) -> Runtime:
    """A runtime in which there is a run called "known", and agents at rest."""
    runtime = make(disk, **settings)
    assert runtime.spawn(keeper, "/t/a", input=0, run_id="known").run.result(60) == 0  # type: ignore[union-attr]
    runtime.spawn(keeper, "/t/b")
    return runtime


def accepted(runtime: Runtime, run_id: str) -> None:
    """Wait until a run is accepted, on disk or not."""

    def is_there() -> bool:
        with suppress(RunNotFound):
            return bool(runtime.run(run_id))
        return False

    asked_until(is_there, bool)


def check_file(path: Path) -> None:
    report = doctor.examine(str(path))
    assert report.healthy, report.findings


@pytest.mark.parametrize("how", ["no row", "its id"])
@pytest.mark.parametrize("path", ["/t/a", "/t/b"])
def test_43_a_run_that_the_store_refuses_is_refused_alone(
    make: Make, listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, path: str
) -> None:
    """Wherever it stands by then: behind others, or as one whose turn waits for the disk to begin."""
    disk = Disk()
    runtime = begun(make, disk)
    heard: Listener = listen(runtime)
    ref = runtime.agent(path)
    plant(monkeypatch, how)
    disk.stall()
    ref.send("a message", durability="memory")
    busy = [Later(runtime.agent("/t/a").followup, n, run_id=f"early-{n}") for n in range(1, 9)]
    for n in range(1, 9):
        accepted(runtime, f"early-{n}")
    bad = Later(ref.followup, "bad", run_id="bad")
    accepted(runtime, "bad")
    waits = Later(runtime.run("bad").result)
    twice = Later(ref.followup, "bad", run_id="bad")
    busy += [Later(runtime.agent("/t/a").followup, n, run_id=f"late-{n}") for n in range(9, 17)]
    for n in range(9, 17):
        accepted(runtime, f"late-{n}")
    disk.go_on()
    for call in (bad, waits, twice):
        with pytest.raises(InternalError, match=r"refused to record this run.*Nothing else is affected"):
            call.get()
    assert sorted(later.get().result(60) for later in busy) == list(range(1, 17))
    with pytest.raises(RunNotFound):
        runtime.run("bad")
    assert ref.followup("after").result(60) == "after"
    state = ref.state()
    assert (state["inputs"].count("bad"), state["read"]) == (0, ["a message"])
    assert runtime.run("known").result(60) == 0
    heard.hear("run.completed", count=17)
    assert not [event for event in heard.seen if event.run_id == "bad"]
    stats = runtime.stats()
    assert (stats.running, stats.queued, stats.slots_taken, stats.unwritten) == (0, 0, 0, 0)
    runtime.close()
    check_file(tmp_path / "agents.db")


@pytest.mark.parametrize("how", ["no row", "its id"])
def test_43_a_spawn_whose_run_the_store_refuses_leaves_nothing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Also if its turn waits for the disk to begin."""
    disk = Disk()
    runtime = begun(make, disk)
    plant(monkeypatch, how)
    disk.stall()
    before = Later(runtime.agent("/t/b").send, "it is in the way")
    disk.await_arrival()
    bad = Later(runtime.spawn, keeper, "/t/new", input="bad", run_id="bad")
    accepted(runtime, "bad")
    new = runtime.agent("/t/new")
    calls = [bad, Later(new.followup, 1, run_id="follows"), Later(new.send, "follows")]
    accepted(runtime, "follows")
    asked_until(lambda: new.info().inbox, bool)
    other = Later(runtime.spawn, keeper, "/t/other", input=1)
    disk.go_on()
    for call in calls:
        with pytest.raises(InternalError, match=r"refused to record this agent.*Nothing else is affected"):
            call.get()
    assert other.get().run.result(60) == 1
    with pytest.raises(AgentNotFound):
        new.info()
    assert [info.path for info in runtime.list()] == ["/t/a", "/t/b", "/t/other"]
    assert runtime.spawn(keeper, "/t/new", input=2).run.result(60) == 2  # type: ignore[union-attr]
    assert new.state() == {"inputs": [2], "read": []}
    before.get()
    stats = runtime.stats()
    assert (stats.agents, stats.running, stats.slots_taken) == (4, 0, 0)
    runtime.close()
    assert "left behind" not in caplog.text
    check_file(tmp_path / "agents.db")


def test_43_a_message_that_the_store_refuses_is_refused_alone(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    runtime = begun(make, disk)
    ref = runtime.agent("/t/b")
    plant(monkeypatch, "no row")
    disk.stall()
    calls = []
    for number, text in enumerate(("one", "bad", "three"), 1):
        calls.append(Later(ref.send, text))
        asked_until(lambda: ref.info().inbox, lambda found, number=number: found == number)  # type: ignore[misc]
    disk.go_on()
    with pytest.raises(InternalError, match="refused to record this message"):
        calls.pop(1).get()
    for call in calls:
        call.get()
    assert ref.followup("reads").result(60) == "reads"
    assert ref.state()["read"] == ["one", "three"]
    runtime.close()
    check_file(tmp_path / "agents.db")


def test_43_a_number_used_twice_stops_the_runtime_and_says_which(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the books are wrong, and no single request is at fault."""
    disk = Disk()
    runtime = begun(make, disk)
    plant(monkeypatch, "its serial")
    with pytest.raises(InternalError, match="a run's serial is given once does not hold") as raised:
        runtime.agent("/t/a").followup("bad", run_id="bad")
    assert "stopped itself" in str(raised.value)
    with sqlite3.connect(tmp_path / "agents.db") as connection:
        assert connection.execute("SELECT run_id FROM runs").fetchall() == [("known",)]


def test_43_a_run_that_somebody_was_told_of_stops_the_runtime(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    runtime = begun(make, disk)
    plant(monkeypatch, "no row")
    ref = runtime.agent("/t/a")
    ref.followup("bad", run_id="bad", durability="memory")
    with pytest.raises(InternalError, match="AddRun cannot be stored"):
        ref.followup("any").result(60)
