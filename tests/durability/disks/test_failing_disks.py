"""A disk that is full, read-only, failing or locked: nobody is told "durable" wrongly; nothing is lost."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from greenroom import AsyncRuntime, Runtime, StoreCorrupt, StoreError, SyncTurn, Turn, agent
from greenroom.errors import InternalError
from greenroom.persistence.records import AddRun
from greenroom.persistence.sql_writes import WRITES

from .conftest import Disk, Later, Listener, Log, asked_until, store_on

Make = Callable[..., Runtime]
Listen = Callable[[Runtime], Listener]

LARGE = "x" * 200_000
"""Takes pages of its own, on a disk that has none left."""

WORDS = {
    "full": "the disk is full",
    "read-only": "readonly",
    "I/O error": "disk I/O error",
    "locked": "locked",
}


@agent(name="disks-counter")
async def counter(turn: Turn) -> int:
    turn.state["inputs"] = [*turn.state.get("inputs", ()), str(turn.input)[:10]]
    turn.state["read"] = [*turn.state.get("read", ()), *(message.body[:10] for message in turn.inbox)]
    return len(turn.state["inputs"])


def on_disk(path: Path) -> dict[str, str]:
    """The runs in the file and their status, as another process sees them."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return dict(connection.execute("SELECT run_id, status FROM runs"))
    finally:
        connection.close()


@pytest.mark.parametrize("how", ["full", "read-only", "I/O error", "locked"])
def test_43_a_failing_disk_is_told_loudly_refuses_durable_work_and_loses_nothing(
    make: Make, listen: Listen, log: Log, tmp_path: Path, how: str
) -> None:
    disk = Disk()
    runtime = make(disk, slots=2)
    ref = runtime.spawn(counter, "/t/a", input="first")
    assert ref.run is not None
    assert ref.run.result(timeout=60) == 1
    heard = listen(runtime)

    disk.breaks(how)
    under_way = Later(ref.followup, LARGE, run_id="under-way")
    failing = heard.hear("store.failing")
    assert (failing.path, WORDS[how] in failing.data["problem"]) == ("/", True)
    assert WORDS[how] in (runtime.stats().store_problem or "")
    assert not under_way.done(), "nobody is told durable who is not"
    assert "under-way" not in on_disk(tmp_path / "agents.db")

    refused: dict[str, Callable[[], Any]] = {
        "spawn": lambda: runtime.spawn(counter, "/t/refused"),
        "followup": lambda: ref.followup("refused", run_id="refused"),
        "send": lambda: ref.send("refused"),
        "flushed": lambda: ref.followup("refused", durability="power"),
    }
    for call in refused.values():
        with pytest.raises(StoreError, match="nothing was recorded for /t/") as raised:
            call()
        assert WORDS[how] in str(raised.value)
        assert 'durability="memory"' in str(raised.value), "it says what to do"

    light = runtime.spawn(counter, "/t/light", input="light", durability="memory")
    assert light.run is not None
    assert light.run.result(timeout=60) == 1, "who did not ask for the disk does not wait for it"
    light.send("a message", durability="memory")
    assert light.followup("more", durability="memory").result(timeout=60) == 2
    assert [info.path for info in runtime.list()] == ["/t/a", "/t/light"]
    assert not under_way.done()

    disk.heals()
    run = under_way.get()
    assert run.result(timeout=60) == 2
    healed = heard.hear("store.healed")
    assert (healed.path, WORDS[how] in healed.data["problem"]) == ("/", True)
    assert runtime.stats().store_problem is None
    assert ref.followup("after").result(timeout=60) == 3
    assert [line.partition(":")[0] for line in log.lines] == ["ERROR", "WARNING"], log.lines
    seqs = [event.seq for event in heard.seen if event.type != "store.failing"]
    assert seqs == sorted(set(seqs)), "the one order of events holds"
    runtime.close()

    again = make()
    assert again.agent("/t/a").state()["inputs"] == ["first", LARGE[:10], "after"]
    assert again.agent("/t/light").state() == {"inputs": ["light", "more"], "read": ["a message"]}
    assert again.run("under-way").outcome(timeout=60).status == "completed"
    assert "refused" not in on_disk(tmp_path / "agents.db")
    types = [event.type for event in again.events(follow=False)]
    assert (types.count("store.healed"), types.count("store.failing")) == (1, 0)
    assert types.count("run.completed") == 5


def test_43_in_a_runtime_of_level_memory_work_goes_on_and_is_written_when_the_disk_heals(
    make: Make, listen: Listen, tmp_path: Path
) -> None:
    disk = Disk()
    runtime = make(disk, durability="memory")
    heard = listen(runtime)
    disk.breaks("I/O error")
    refs = [runtime.spawn(counter, f"/t/a{n}", input=n) for n in range(20)]
    heard.hear("store.failing")
    for ref in refs:
        assert ref.run is not None
        assert ref.run.result(timeout=60) == 1
        assert ref.followup("more").result(timeout=60) == 2
    with pytest.raises(StoreError, match="cannot be written"):
        refs[0].followup("durable", durability="process")
    assert on_disk(tmp_path / "agents.db") == {}
    disk.heals()
    heard.hear("store.healed")
    assert runtime.stats().store_problem is None
    assert refs[0].followup("durable", durability="process").result(timeout=60) == 3
    assert set(on_disk(tmp_path / "agents.db").values()) <= {"completed", "accepted"}
    assert len(on_disk(tmp_path / "agents.db")) == 41


def test_43_everything_kept_is_written_in_order_and_every_waiting_caller_is_answered(
    make: Make, listen: Listen
) -> None:
    disk = Disk()
    runtime = make(disk, slots=4)
    refs = [runtime.spawn(counter, f"/t/a{n}") for n in range(4)]
    heard = listen(runtime)
    disk.stall()
    mail = [Later(ref.send, "mail") for ref in refs]
    asked_until(runtime.list, lambda infos: sum(info.inbox for info in infos) == 4)
    calls = [Later(ref.followup, n) for n in range(5) for ref in refs]
    asked_until(lambda: runtime.stats().queued + runtime.stats().running, lambda count: count == 20)
    disk.breaks("I/O error")
    disk.go_on()
    heard.hear("store.failing")
    assert not any(call.done() for call in [*mail, *calls])
    disk.heals()
    answers = [call.get() for call in calls]
    for call in mail:
        call.get()
    for run in answers:
        assert run.outcome(timeout=60).status == "completed"
    for ref in refs:
        ref.followup("read").result(timeout=60)
        state = ref.state()
        assert (len(state["inputs"]), state["read"]) == (6, ["mail"])
    events = list(runtime.events(follow=False))
    for run in answers:
        own = [event.type for event in events if event.run_id == run.run_id]
        assert (own[0], own[-1], own.count("run.completed")) == ("run.accepted", "run.completed", 1)


def test_43_a_durable_run_that_waits_for_the_disk_holds_no_slot(make: Make, listen: Listen) -> None:
    """Else the one slot would be taken for as long as the disk fails, and work in memory would stand."""
    disk = Disk()
    runtime = make(disk, slots=1)
    heavy, light = runtime.spawn(counter, "/t/heavy"), runtime.spawn(counter, "/t/light")
    heard = listen(runtime)
    disk.stall()
    heavies = [Later(heavy.followup, n) for n in range(3)]
    asked_until(lambda: runtime.stats().queued + runtime.stats().running, lambda count: count == 3)
    disk.breaks("I/O error")
    disk.go_on()
    heard.hear("store.failing")
    for n in range(10):
        assert light.followup(n, durability="memory").result(timeout=60) == n + 1
    assert asked_until(lambda: heavy.explain(), lambda told: told.waits_for == "commit").waits_for
    disk.heals()
    assert sorted(later.get().result(timeout=60) for later in heavies) == [1, 2, 3]


def test_43_an_interrupted_run_that_could_not_begin_ends_as_interrupted(make: Make, listen: Listen) -> None:
    disk = Disk()
    runtime = make(disk)
    ref = runtime.spawn(counter, "/t/a")
    asked_until(lambda: (ref.info().status, runtime.stats().unwritten), lambda told: told == ("idle", 0))
    heard = listen(runtime)
    disk.breaks("I/O error")
    call = Later(ref.followup, 1, run_id="one")
    heard.hear("store.failing")
    stopping = Later(ref.interrupt)
    asked_until(lambda: runtime.stats().queued + runtime.stats().running, lambda count: count == 0)
    disk.heals()
    assert stopping.get() is True
    assert call.get().outcome(timeout=60).status == "interrupted"
    assert ref.followup(2).result(timeout=60) == 1


def test_43_what_a_turn_asks_for_waits_and_fails_no_run(make: Make, listen: Listen) -> None:
    """Its run was accepted before: that the disk fails is no reason for it to fail."""
    come, go = threading.Event(), threading.Event()

    @agent(name="disks-parent")
    def parent(turn: SyncTurn) -> Any:
        come.set()
        assert go.wait(600)
        child = turn.spawn(counter, "child")
        result = child.followup("of a turn").result()
        turn.checkpoint()
        return result

    disk = Disk()
    runtime = make(disk, slots=2)
    ref = runtime.spawn(parent, "/t/parent")
    other = runtime.spawn(counter, "/t/other")
    heard = listen(runtime)
    run = ref.followup(0, durability="memory")
    assert come.wait(600)
    disk.breaks("I/O error")
    other.followup(1, durability="memory").result(timeout=60)
    heard.hear("store.failing")
    go.set()
    with pytest.raises(TimeoutError):
        run.result(timeout=0.3)
    assert other.followup(2, durability="memory").result(timeout=60) == 2
    disk.heals()
    assert run.result(timeout=60) == 1


@pytest.mark.parametrize("level", ["process", "memory"])
def test_43_close_tries_for_the_drain_time_and_says_what_was_not_written(
    make: Make, listen: Listen, tmp_path: Path, level: str
) -> None:
    disk = Disk()
    runtime = make(disk, durability=level)
    ref = runtime.spawn(counter, "/t/a", input="kept")
    assert ref.run is not None
    assert ref.run.result(timeout=60) == 1
    ref.followup("kept", durability="process").result(timeout=60)
    heard = listen(runtime)
    disk.breaks("I/O error")
    lost = Later(ref.followup, "lost", run_id="lost")
    heard.hear("store.failing") if level == "process" else lost.get()
    with pytest.raises(StoreError, match=r"could not be written: .*disk I/O error"):
        Later(runtime.close, 0.5).get(600)
    if level == "process":
        with pytest.raises(Exception, match="clos"):
            lost.get()
    disk.heals()
    again = make()
    assert again.agent("/t/a").followup("next").result(timeout=60) == 3
    assert "lost" not in on_disk(tmp_path / "agents.db")


def test_43_close_writes_everything_if_the_disk_heals_in_time(make: Make, listen: Listen) -> None:
    disk = Disk()
    runtime = make(disk, durability="memory")
    ref = runtime.spawn(counter, "/t/a")
    heard = listen(runtime)
    disk.breaks("I/O error")
    for n in range(10):
        ref.followup(n)
    heard.hear("store.failing")
    closing = Later(runtime.close, 20.0)
    tried = len(disk.batches)
    asked_until(lambda: len(disk.batches), lambda count: count > tried)
    disk.heals()
    assert closing.get(600) is None
    assert make().agent("/t/a").state()["inputs"] == [str(n) for n in range(10)]


def test_43_an_async_runtime_says_at_its_end_what_was_not_written(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr("greenroom.actors.storage.writer.Store", store_on(disk))

    async def story() -> None:
        async with AsyncRuntime(tmp_path / "async.db", durability="memory", drain=0.2) as runtime:
            disk.breaks("I/O error")
            ref = await runtime.spawn(counter, "/t/a", input=1)
            assert ref.run is not None
            assert await ref.run == 1

    with pytest.raises(StoreError, match="could not be written"):
        asyncio.run(story())


def test_43_a_damaged_store_stops_the_runtime_by_name(make: Make) -> None:
    disk = Disk()
    runtime = make(disk)
    ref = runtime.spawn(counter, "/t/a")

    def damaged(_store: Any) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    disk._fault = damaged
    with pytest.raises(StoreCorrupt, match="damaged"):
        Later(ref.followup, 1).get()
    with pytest.raises(StoreCorrupt):
        ref.info()


def test_43_one_record_that_cannot_be_stored_is_found_and_all_before_it_is_written(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be a bug of greenroom: it says so, and costs nobody what came before."""
    disk = Disk()
    runtime = make(disk, durability="memory")
    runtime.spawn(counter, "/t/a", durability="process")
    write = WRITES[AddRun][0]

    def poisoned(store: Any, record: AddRun) -> Any:
        if record.row.run_id == "poison":
            raise TypeError("a value that SQLite does not know")
        return write.encode(store, record)

    monkeypatch.setitem(WRITES, AddRun, (replace(write, encode=poisoned),))
    disk.stall()
    ref = runtime.agent("/t/a")
    for n in range(50):
        ref.followup(n, run_id=f"good-{n:02}")
    ref.followup("bad", run_id="poison")
    for n in range(50):
        ref.followup(n, run_id=f"late-{n:02}")
    disk.go_on()
    with pytest.raises(InternalError, match=r"AddRun cannot be stored: .*does not know.*report"):
        ref.followup("any", durability="process").result(timeout=60)
    assert set(on_disk(tmp_path / "agents.db")) >= {f"good-{n:02}" for n in range(50)}
    assert "poison" not in on_disk(tmp_path / "agents.db")


def test_43_after_a_flush_that_failed_the_next_success_flushes_all_of_it_again(
    make: Make, listen: Listen, tmp_path: Path
) -> None:
    """A kernel may call pages clean that it could not write: a second fsync would say yes for nothing."""
    disk = Disk()
    runtime = make(disk, durability="power")
    ref = runtime.spawn(counter, "/t/a")
    heard = listen(runtime)
    before = (tmp_path / "agents.db").read_bytes()

    def unflushed(store: Any) -> None:
        disk._fault = None
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    disk._fault = unflushed
    Later(ref.send, "any")  # it may be refused, if the beginning of the session comes first
    heard.hear("store.healed")
    whole = (tmp_path / "agents.db").read_bytes()
    assert b"/t/a" not in before
    assert b"/t/a" in whole, "what the log held is in the file, which was flushed"


def test_43_a_question_that_the_disk_did_not_answer_is_asked_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is not failed because its agent could not be read for a moment."""
    from greenroom.persistence.reader import Reader

    runtime = make(residents=1)
    first = runtime.spawn(counter, "/t/a", input=0)
    assert first.run is not None
    first.run.result(timeout=60)
    runtime.spawn(counter, "/t/b", input=0).run.result(timeout=60)  # type: ignore[union-attr]
    answer, failures = Reader._answer, iter([True, True])

    def fails_twice(self: Reader, query: Any) -> object:
        if next(failures, False):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
            raise error
        return answer(self, query)

    monkeypatch.setattr(Reader, "_answer", fails_twice)
    assert first.followup(1).result(timeout=60) == 2
