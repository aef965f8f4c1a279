"""Events: each type, in one durable order."""

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from greenroom import Event, Turn, agent

TYPES = {
    "agent.spawned",
    "agent.started",
    "agent.start_failed",
    "agent.evicted",
    "agent.reloaded",
    "agent.closed",
    "agent.deleted",
    "run.accepted",
    "run.started",
    "run.progress",
    "run.completed",
    "run.failed",
    "run.interrupted",
    "message.accepted",
}

pytestmark = pytest.mark.usefixtures("nothing_of_ours_blocks")


@agent(name="c-events-works")
async def works(turn: Turn) -> Any:
    if turn.input == "fail":
        raise ValueError("on purpose")
    if turn.input == "progress":
        turn.emit("half", [1, 2])
    return turn.input


@agent(name="c-events-fails-to-open")
class FailsToOpen:
    """Never opens."""

    async def open(self, info: Any) -> None:
        raise LookupError("no such model")

    async def run(self, turn: Turn) -> None:
        return None


def test_a_life_makes_every_type_of_event_in_order(runtime: Any, door: Any, happened: Any) -> None:
    gate = door()

    @agent(name="c-events-holds")
    async def holds(turn: Turn) -> None:
        await gate.enter()

    before = time.time()
    open_ = runtime()
    ref = open_.spawn(works, "/life/a")
    happened(open_, "agent.started", "/life/a")
    done = ref.followup("progress")
    done.result(timeout=60)
    failed = ref.followup("fail")
    failed.outcome(timeout=60)
    ref.send("mail")
    assert ref.evict()
    again = ref.followup("again")
    again.result(timeout=60)
    held = open_.spawn(holds, "/life/b", input=1)
    gate.arrived()
    held.interrupt()
    held.run.outcome(timeout=60)
    open_.spawn(FailsToOpen, "/life/c", input=1).run.outcome(timeout=60)
    ref.close()
    open_.spawn(works, "/life/d").delete()  # what it told goes with it
    happened(open_, "agent.deleted", "/life/d")

    events = list(open_.events(follow=False))
    assert {event.type for event in events} == TYPES
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    assert all(isinstance(event, Event) and before <= event.at <= time.time() for event in events)
    of_a = [(event.type, event.run_id) for event in events if event.path == "/life/a"]
    assert of_a == [
        ("agent.spawned", None),
        ("agent.started", None),
        ("run.accepted", done.run_id),
        ("run.started", done.run_id),
        ("run.progress", done.run_id),
        ("run.completed", done.run_id),
        ("run.accepted", failed.run_id),
        ("run.started", failed.run_id),
        ("run.failed", failed.run_id),
        ("message.accepted", None),
        ("agent.evicted", None),
        ("run.accepted", again.run_id),
        ("agent.reloaded", None),
        ("run.started", again.run_id),
        ("run.completed", again.run_id),
        ("agent.closed", None),
    ]
    types = {
        path: [event.type for event in events if event.path == path] for path in ("/life/b", "/life/c")
    }
    assert types["/life/b"].count("run.interrupted") == 1
    assert "agent.start_failed" in types["/life/c"]
    assert types["/life/c"].count("run.failed") == 1
    told = {event.type: event.data for event in events}
    assert told["run.progress"] == {"name": "half", "data": [1, 2]}
    assert "on purpose" in next(
        e.data["error"] for e in events if e.run_id == failed.run_id and e.data.get("error")
    )
    assert "no such model" in told["agent.start_failed"]["error"]


def test_events_can_be_had_from_a_number_on_and_of_a_part_of_the_tree(runtime: Any) -> None:
    open_ = runtime()
    for path in ("/part/a", "/part/a/b", "/part/ab", "/other/a"):
        open_.spawn(works, path, input=1).run.result(timeout=60)
    events = list(open_.events(follow=False))
    half = events[len(events) // 2].seq
    assert list(open_.events(since=half, follow=False)) == [event for event in events if event.seq > half]
    assert list(open_.events(since=0, follow=False)) == events
    assert list(open_.events(since=events[-1].seq, follow=False)) == []
    assert list(open_.events(since=10**9, follow=False)) == []
    of_part = [event for event in events if event.path in ("/part/a", "/part/a/b")]
    assert list(open_.events("/part/a", follow=False)) == of_part
    assert {event.path for event in open_.events("/part", follow=False)} == {
        "/part/a",
        "/part/a/b",
        "/part/ab",
    }
    assert list(open_.events("/nobody", follow=False)) == []


def test_a_reader_that_is_slower_than_its_writers_loses_nothing(runtime: Any) -> None:
    @agent(name="c-events-floods")
    async def floods(turn: Turn) -> None:
        for number in range(20_000):
            turn.emit("n", number)
            if number % 1_000 == 0:
                await asyncio.sleep(0)

    open_ = runtime()
    fast, slow = open_.events("/flood"), open_.events()
    found: dict[Any, list[Event]] = {fast: [], slow: []}

    def read(stream: Any, pause: float) -> None:
        for event in stream:
            found[stream].append(event)
            if event.seq % 1_000 == 0:
                time.sleep(pause)
            if event.type == "run.completed":
                return

    readers = [
        threading.Thread(target=read, args=(stream, pause)) for stream, pause in ((fast, 0), (slow, 0.02))
    ]
    for reader in readers:
        reader.start()
    open_.spawn(floods, "/flood/a", input=1).run.result(timeout=60)
    for reader in readers:
        reader.join(60)
    kept = [event for event in open_.events(follow=False) if event.seq <= found[slow][-1].seq]
    assert found[fast] == found[slow] == kept
    assert len([event for event in kept if event.type == "run.progress"]) == 20_000


def test_one_agents_progress_delays_no_other_agent(runtime: Any) -> None:
    """Told by what happened in which order, not by a clock."""

    @agent(name="c-events-talks-a-lot")
    async def talks(turn: Turn) -> None:
        for number in range(100_000):
            turn.emit("n", {"number": number, "text": "x" * 200})
            if number % 1_000 == 0:
                await asyncio.sleep(0)

    open_ = runtime()
    other = open_.spawn(works, "/other/a", input=0)
    other.run.result(timeout=60)
    flood = open_.spawn(talks, "/flood/a", input=1)
    while not flood.run.done():
        other.followup(1).result(timeout=60)
    events = [(event.type, event.path) for event in open_.events(follow=False)]
    begun, ended = events.index(("run.started", "/flood/a")), events.index(("run.completed", "/flood/a"))
    assert events[begun:ended].count(("run.completed", "/other/a")) >= 5
    assert events[begun:ended].count(("run.progress", "/flood/a")) == 100_000
    assert open_.stats().events_dropped == 0


def test_what_a_turn_tells_comes_before_what_it_asks_for_and_before_its_end(runtime: Any) -> None:
    @agent(name="c-events-tells-and-asks")
    async def tells(turn: Turn) -> None:
        turn.emit("first")
        await (await turn.followup(f"{turn.path}/child", 1))
        turn.emit("second")

    open_ = runtime()
    open_.spawn(works, "/order/a/child")
    open_.spawn(tells, "/order/a", input=1).run.result(timeout=60)
    events = [(event.type, event.data.get("name")) for event in open_.events(follow=False)]
    order = [
        ("run.progress", "first"),
        ("run.accepted", None),
        ("run.progress", "second"),
        ("run.completed", None),
    ]
    where = events.index(order[0])
    for one in order:
        where = events.index(one, where)


def test_a_reader_whose_events_are_not_kept_is_told_which_are_gone(runtime: Any, tmp_path: Path) -> None:
    first = runtime()
    first.spawn(works, "/gone/a", input=1).run.result(timeout=60)
    ref = first.agent("/gone/a")
    for number in range(5):
        ref.followup(number).result(timeout=60)
    before = list(first.events(follow=False))
    first.close()
    with sqlite3.connect(tmp_path / "agents.db") as retention:
        retention.execute("DELETE FROM events WHERE seq <= ?", (before[9].seq,))
    retention.close()
    open_ = runtime()
    stream = open_.events("/gone", since=before[2].seq)
    told = [next(stream) for _ in range(4)]
    assert (told[0].type, told[0].seq, told[0].path) == ("events.missed", before[9].seq, "/gone")
    assert told[0].data == {"since": before[2].seq, "upto": before[9].seq}
    assert told[1:] == before[10:13]
    assert next(open_.events(since=before[9].seq)) == before[10], "nothing after that one is gone"
    assert next(open_.events(since=0)) == before[10], "who asks for all that is kept misses nothing"
    stream = open_.events(since=10**9)
    (gap,) = [next(stream)]
    assert (gap.type, gap.data) == ("events.missed", {"since": 10**9, "upto": None})
    later = open_.agent("/gone/a").followup("later")
    assert next(event for event in stream if event.type == "run.accepted").run_id == later.run_id


def test_who_follows_sees_what_comes_after_and_the_end(runtime: Any) -> None:
    open_ = runtime()
    open_.spawn(works, "/follow/before", input=1).run.result(timeout=60)
    stream = open_.events("/follow")
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(f"{e.type} {e.path}" for e in stream), daemon=True)
    reader.start()
    open_.spawn(works, "/follow/after", input=1).run.result(timeout=60)
    open_.spawn(works, "/elsewhere/after", input=1).run.result(timeout=60)
    open_.close()
    reader.join(60)
    assert not reader.is_alive(), "it ends when the runtime closes"
    assert seen[0] == "agent.spawned /follow/after"
    assert "run.completed /follow/after" in seen
    assert {line.split()[1] for line in seen} == {"/follow/after"}


def test_a_stream_begins_when_it_was_asked_for_not_when_it_is_read(runtime: Any) -> None:
    open_ = runtime()
    stream = open_.events("/begin")
    open_.spawn(works, "/begin/a")
    assert next(stream).type == "agent.spawned"


def test_a_stream_can_be_ended_from_another_thread(runtime: Any) -> None:
    open_ = runtime()
    stream = open_.events("/nothing")
    ended = threading.Event()

    def read() -> None:
        for _ in stream:
            pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    stream.close()
    assert ended.wait(600)
    assert list(stream) == []


def test_many_who_follow_see_the_same(runtime: Any) -> None:
    open_ = runtime(residents=4)
    streams = [open_.events("/many") for _ in range(8)]
    seen: list[list[int]] = [[] for _ in streams]
    readers = [
        threading.Thread(target=lambda n=n: seen[n].extend(e.seq for e in streams[n]), daemon=True)
        for n in range(8)
    ]
    for reader in readers:
        reader.start()
    runs = [open_.spawn(works, f"/many/{n}", input="progress").run for n in range(50)]
    assert len(open_.wait(runs, timeout=60)) == 50
    open_.close()
    for reader in readers:
        reader.join(60)
    assert all(numbers == seen[0] for numbers in seen)
    assert len(seen[0]) >= 50 * 5
    assert seen[0] == sorted(set(seen[0]))


def test_the_order_goes_on_after_a_restart(runtime: Any) -> None:
    first = runtime()
    first.spawn(works, "/restart/a", input=1).run.result(timeout=60)
    before = list(first.events(follow=False))
    first.close()
    second = runtime()
    second.agent("/restart/a").followup(2).result(timeout=60)
    after = list(second.events(follow=False))
    assert after[: len(before)] == before
    assert [event.seq for event in after] == sorted({event.seq for event in after})
    resumed = list(second.events(since=before[-1].seq, follow=False))
    assert resumed == [event for event in after if event.seq > before[-1].seq]


def test_every_run_has_one_terminal_event(runtime: Any) -> None:
    open_ = runtime(slots=3, residents=4)
    refs = [open_.spawn(works, f"/terminal/{n}") for n in range(20)]
    runs = []
    for n in range(10):
        for ref in refs:
            runs.append(ref.followup("fail" if n % 3 == 0 else n))
            if n % 4 == 3:
                ref.interrupt()
    assert len(open_.wait(runs, timeout=60)) == 200
    ends: dict[str, list[str]] = {}
    for event in open_.events(follow=False):
        if event.type in ("run.completed", "run.failed", "run.interrupted"):
            ends.setdefault(event.run_id, []).append(event.type)
    assert {run.run_id: [f"run.{run.status}"] for run in runs} == ends


def test_progress_comes_while_the_turn_is_under_way(runtime: Any, door: Any, happened: Any) -> None:
    gate = door()

    @agent(name="c-events-progress")
    async def tells(turn: Turn) -> None:
        turn.emit("begun", {"of": 3})
        await gate.enter()

    open_ = runtime()
    ref = open_.spawn(tells, "/progress/a", input=1)
    gate.arrived()
    assert happened(open_, "run.progress", "/progress/a").data == {"name": "begun", "data": {"of": 3}}
    assert ref.run.status == "running"
    gate.open()
    ref.run.result(timeout=60)
