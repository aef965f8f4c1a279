"""A writer slower than the load: what is accepted stops at `backlog`, and memory stays bounded."""

import asyncio
import gc
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from greenroom import AgentClosed, AsyncRuntime, BacklogFull, Runtime, RuntimeClosing, Turn, agent
from greenroom.actors.ledger import ledger as ledger_module
from greenroom.actors.ledger.admission import REQUESTS_IN_PORTION
from greenroom.actors.ledger.log import write_backlog
from greenroom.actors.ledger.log.commit_log import CommitLog

from .conftest import DEADLINE, Disk, Later, Listener, asked_until, store_on

Make = Callable[..., Runtime]
Listen = Callable[[Runtime], Listener]
BACKLOG = 50


@agent(name="backlog-counter")
async def counter(turn: Turn) -> int:
    turn.state["n"] = turn.state.get("n", 0) + 1
    turn.state["read"] = turn.state.get("read", 0) + len(turn.inbox)
    return turn.state["n"]


def journal_of(runtime: Runtime) -> CommitLog:
    """What is not on disk, from within."""
    commit_log: CommitLog = runtime._engine._roles["ledger"].cell.instance.commit_log
    return commit_log


def flooded(call: Callable[[int], Any], attempts: int = 10 * BACKLOG) -> tuple[list[Any], int]:
    """What was accepted of so many attempts, and how many were refused."""
    accepted: list[Any] = []
    refused = 0
    for number in range(attempts):
        try:
            accepted.append(call(number))
        except BacklogFull:
            refused += 1
    return accepted, refused


def resident_kib() -> int:
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_runs_that_complete_in_memory_count_until_they_are_on_disk(make: Make) -> None:
    disk = Disk()
    runtime = make(disk, durability="memory", backlog=BACKLOG)
    ref = runtime.spawn(counter, "/t/a", durability="process")
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()

    def run(number: int) -> Any:
        one = ref.followup(number)
        one.result(timeout=60)  # ended, and so no longer open
        return one

    accepted, refused = flooded(run)
    assert (len(accepted), refused) == (BACKLOG, 9 * BACKLOG)
    assert (runtime.stats().queued, runtime.stats().running) == (0, 0)
    with pytest.raises(BacklogFull, match=f"{BACKLOG} pieces"):
        ref.send("a message")
    with pytest.raises(BacklogFull):
        runtime.spawn(counter, "/t/b")
    disk.go_on()
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    assert ref.followup("again").result(timeout=60) == BACKLOG + 1, (
        "nothing was lost, nothing more was done"
    )


def test_messages_and_agents_count_until_they_are_on_disk(make: Make) -> None:
    disk = Disk()
    runtime = make(disk, durability="memory", backlog=BACKLOG)
    ref = runtime.spawn(counter, "/t/a", durability="process")
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()
    accepted, _ = flooded(lambda number: ref.send(number))
    assert len(accepted) == BACKLOG
    disk.go_on()
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    ref.followup("read", durability="process").result(timeout=60)
    assert ref.state()["read"] == BACKLOG
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()
    spawned, _ = flooded(lambda number: runtime.spawn(counter, f"/t/b{number}"))
    assert len(spawned) == BACKLOG
    disk.go_on()
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    assert len(runtime.list()) == BACKLOG + 1


def test_durable_work_that_waits_for_its_answer_counts_once(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr("greenroom.actors.storage.writer.Store", store_on(disk))

    async def story() -> None:
        async with AsyncRuntime(tmp_path / "agents.db", backlog=BACKLOG, slots=2) as runtime:
            ref = await runtime.spawn(counter, "/t/a", input=0)
            assert ref.run is not None
            assert await ref.run == 1
            disk.stall()
            calls = [asyncio.ensure_future(ref.followup(n)) for n in range(10 * BACKLOG)]
            done: set[Any] = set()
            while len(done) < 9 * BACKLOG:
                waiting = [call for call in calls if call not in done]
                ended, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=60)
                assert ended
                done |= ended
            assert {type(call.exception()) for call in done} == {BacklogFull}
            disk.go_on()
            runs = [await call for call in calls if call not in done]
            assert len(runs) == BACKLOG
            assert sorted([await run for run in runs]) == list(range(2, BACKLOG + 2))

    asyncio.run(story())


def test_memory_does_not_grow_with_what_is_refused(make: Make) -> None:
    disk = Disk()
    runtime = make(disk, durability="memory", backlog=BACKLOG)
    ref = runtime.spawn(counter, "/t/a", durability="process")
    disk.stall()
    flooded(ref.followup, 500)
    before = resident_kib()
    flooded(lambda number: ref.followup("x" * 10_000), 5_000)
    assert resident_kib() - before < 8 * 1024, "50 MB were handed in"


SLOW = 0.02
"""Seconds for a commit of a disk that is behind, and works."""


@pytest.fixture
def door_shut_soon(monkeypatch: pytest.MonkeyPatch) -> int:
    """Nobody may hand in more than this many records ahead of the disk."""
    monkeypatch.setattr(ledger_module, "MOST_HANDED_IN", 100)
    return 100


def test_what_waits_for_the_disk_alone_is_held_up_and_not_refused(make: Make) -> None:
    disk = Disk()
    runtime = make(disk, durability="memory", backlog=BACKLOG)
    ref = runtime.spawn(counter, "/t/a", durability="process")
    disk.delay = SLOW
    accepted, refused = flooded(ref.send)
    assert (len(accepted), refused) == (10 * BACKLOG, 0)
    spawned, refused = flooded(lambda number: runtime.spawn(counter, f"/t/b{number}"))
    assert (len(spawned), refused) == (10 * BACKLOG, 0)
    disk.delay = 0.0
    assert ref.followup("read").result(timeout=DEADLINE) == 1
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    assert ref.state()["read"] == 10 * BACKLOG
    assert runtime.stats().agents == 10 * BACKLOG + 1


def test_a_loop_that_spawns_in_groups_is_held_up_and_stays_small(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, door_shut_soon: int
) -> None:
    disk = Disk()
    monkeypatch.setattr("greenroom.actors.storage.writer.Store", store_on(disk))
    most, group, groups = 0, 40, 50

    async def story() -> None:
        nonlocal most
        async with AsyncRuntime(tmp_path / "agents.db", durability="memory", backlog=100_000) as runtime:
            write_backlog = runtime._engine._roles["ledger"].cell.instance.commit_log.debt  # type: ignore[union-attr]
            disk.delay = SLOW
            for number in range(groups):
                paths = [f"/t/a{number}-{each}" for each in range(group)]
                await asyncio.gather(*(runtime.spawn(counter, path) for path in paths))
                most = max(most, write_backlog.records)
            disk.delay = 0.0
            assert (await runtime.stats()).agents == group * groups

    asyncio.run(story())
    assert most < door_shut_soon + 4 * REQUESTS_IN_PORTION


def test_open_runs_are_refused_at_once_also_while_the_disk_is_behind(make: Make) -> None:
    gate = threading.Event()

    @agent(name="backlog-open")
    def gated(turn: Any) -> str:
        gate.wait(600)
        return "ended"

    disk = Disk()
    runtime = make(disk, durability="memory", backlog=BACKLOG)
    ref = runtime.spawn(gated, "/t/a")
    disk.delay = SLOW
    accepted, refused = flooded(ref.followup, 2 * BACKLOG)
    assert (len(accepted), refused) == (BACKLOG, BACKLOG)
    gate.set()
    assert runtime.wait(accepted, timeout=DEADLINE) == accepted


def held_at_the_door(runtime: Runtime, calls: list[Callable[[], Any]]) -> list[Future[Any]]:
    """Calls on threads, once each of them waits at the door."""
    room = runtime._engine._roles["ledger"].cell.instance
    made: list[Future[Any]] = []
    for number, call in enumerate(calls, 1):
        future: Future[Any] = Future()

        def make_it(call: Callable[[], Any] = call, future: Future[Any] = future) -> None:
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=make_it, daemon=True).start()
        made.append(future)
        asked_until(lambda: len(room.door._waiting), lambda count, number=number: count == number)  # type: ignore[misc]
    return made


def behind(make: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[Disk, Runtime, Any]:
    """A disk that stands still, and a runtime that can wait for it for long."""
    monkeypatch.setattr("greenroom.actors.ledger.actor.STALLED", DEADLINE)
    disk = Disk()
    runtime = make(disk, durability="memory", backlog=BACKLOG)
    ref = runtime.spawn(counter, "/t/a", durability="process")
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()
    flooded(ref.send, BACKLOG)
    return disk, runtime, ref


def test_who_waits_at_the_door_comes_in_as_they_came(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, runtime, ref = behind(make, monkeypatch)
    calls = [lambda: runtime.spawn(counter, "/t/b"), lambda: ref.followup("read"), lambda: ref.send("late")]
    spawned, followed, sent = held_at_the_door(runtime, calls)
    assert runtime.list() != [], "others are answered"
    disk.go_on()
    assert spawned.result(DEADLINE).path == "/t/b"
    assert followed.result(DEADLINE).result(timeout=DEADLINE) == 1
    assert sent.result(DEADLINE) is None
    ref.followup("rest").result(timeout=DEADLINE)
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    assert ref.state()["read"] == BACKLOG + 1


def test_an_agent_that_is_closed_meanwhile_takes_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, runtime, ref = behind(make, monkeypatch)
    followed, sent = held_at_the_door(runtime, [lambda: ref.followup("late"), lambda: ref.send("late")])
    ref.close()
    disk.go_on()
    for call in (followed, sent):
        with pytest.raises(AgentClosed):
            call.result(DEADLINE)
    assert runtime.stats().queued == 0


def test_who_waits_at_the_door_when_the_runtime_closes_is_told_so(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, runtime, ref = behind(make, monkeypatch)
    (followed,) = held_at_the_door(runtime, [lambda: ref.followup("late")])
    closing = threading.Thread(target=runtime.close, args=(0.0,), daemon=True)
    closing.start()
    with pytest.raises(RuntimeClosing):
        followed.result(DEADLINE)
    disk.go_on()
    closing.join(DEADLINE)
    assert not closing.is_alive()


def test_waiting_again_and_again_for_what_is_not_on_disk_leaves_nothing_behind(make: Make) -> None:
    gate = threading.Event()

    @agent(name="backlog-gated")
    def gated(turn: Any) -> str:
        gate.wait(600)
        return "ended"

    disk = Disk()
    runtime = make(disk)
    ref = runtime.spawn(gated, "/t/a")
    run = ref.followup(1)
    asked_until(lambda: ref.explain().text, lambda text: "executes" in text)
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()
    gate.set()
    asked_until(lambda: ref.info().status, lambda status: status == "idle")
    for _ in range(200):
        with pytest.raises(TimeoutError):
            run.result(timeout=0.001)
    assert runtime.list()  # answered behind all that was said before
    commit_log = journal_of(runtime)
    assert sum(len(entry.then) for entry in commit_log._entries) < 10
    assert len(commit_log._after_durable) < 10
    disk.go_on()
    assert run.result(timeout=60) == "ended"


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> int:
    """A commit log that is crowded soon."""
    monkeypatch.setattr(write_backlog, "MOST_UNWRITTEN_RECORDS", 1_000)
    return 1_000


def test_progress_is_dropped_and_counted_when_the_disk_is_far_behind(make: Make, little_room: int) -> None:
    @agent(name="backlog-talker")
    async def talks(turn: Turn) -> str:
        for n in range(5 * little_room):
            turn.emit("n", n)
        return "said"

    disk = Disk()
    runtime = make(disk, durability="memory")
    ref = runtime.spawn(talks, "/t/a", durability="process")
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()
    assert ref.followup(1).result(timeout=60) == "said"
    assert journal_of(runtime).debt.records < little_room + 20
    dropped = runtime.stats().events_dropped
    assert 4 * little_room <= dropped <= 4 * little_room + 20
    disk.go_on()
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    told = [event for event in runtime.events("/t/a", follow=False) if event.type == "run.progress"]
    assert len(told) == 5 * little_room - dropped
    assert [event.data["data"] for event in told] == list(range(len(told))), "what was told is in order"


def test_checkpoints_wait_for_a_disk_that_is_far_behind(make: Make, little_room: int) -> None:
    @agent(name="backlog-checks")
    async def checks(turn: Turn) -> int:
        for n in range(2 * little_room):
            turn.state["n"] = n
            await turn.checkpoint()
        return 1

    disk = Disk()
    runtime = make(disk, durability="memory")
    ref = runtime.spawn(checks, "/t/a", durability="process")
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()
    run = ref.followup(1)
    commit_log = journal_of(runtime)
    asked_until(lambda: (runtime.stats(), commit_log.debt.crowded)[1], lambda crowded: crowded)
    with pytest.raises(TimeoutError):
        run.result(timeout=0.2)
    assert commit_log.debt.records < little_room + 20
    disk.go_on()
    assert run.result(timeout=60) == 1


def test_turns_begin_when_the_disk_has_caught_up(make: Make, little_room: int) -> None:
    """A turn may send as many messages as it likes; the next one waits until they are on disk."""

    @agent(name="backlog-sends")
    async def sends(turn: Turn) -> int:
        for _ in range(200):
            await turn.send("/t/inbox", "m")
        return 1

    disk = Disk()
    runtime = make(disk, durability="memory", slots=2)
    runtime.spawn(counter, "/t/inbox", durability="process")
    refs = [runtime.spawn(sends, f"/t/a{n}", durability="process") for n in range(10)]
    asked_until(lambda: runtime.stats().unwritten, lambda count: count == 0)
    disk.stall()
    runs = [ref.followup(1) for ref in refs]
    commit_log = journal_of(runtime)
    asked_until(lambda: (runtime.stats(), commit_log.debt.crowded)[1], lambda crowded: crowded)
    asked_until(lambda: runtime.stats().running, lambda running: running == 0)
    assert commit_log.debt.records < little_room + 2 * 420, "what two slots could still add"
    assert [info.path for info in runtime.list(limit=1)] == ["/t/a0"], "questions are answered meanwhile"
    disk.go_on()
    assert [run.result(timeout=60) for run in runs] == [1] * 10
    runtime.agent("/t/inbox").followup(1).result(timeout=60)
    assert runtime.agent("/t/inbox").state()["read"] == 2_000


def test_a_runtime_closes_while_turns_wait_for_the_disk_to_catch_up(make: Make, little_room: int) -> None:
    disk = Disk()
    runtime = make(disk, durability="memory", slots=2)
    ref = runtime.spawn(counter, "/t/a", durability="process")
    disk.stall()
    for _ in range(little_room // 2 + 10):
        ref.send("m")
    run = ref.followup(1, run_id="left")
    asked_until(lambda: ref.info().status, lambda status: status == "queued")
    closing = Later(runtime.close, 0.5)
    disk.go_on()
    assert closing.get(60.0) is None
    assert not run._ended
    again = make()
    assert again.run("left").result(timeout=60) == 1
    assert again.agent("/t/a").state()["read"] == little_room // 2 + 10
