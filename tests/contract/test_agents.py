"""What can be asked of an agent, and what it does: `AgentRef`, `list`, `explain`."""

import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    AgentClosed,
    AgentNotFound,
    PathTaken,
    RunInterrupted,
    RunNotFound,
    Turn,
    UnknownKind,
    agent,
)

pytestmark = pytest.mark.usefixtures("nothing_of_ours_blocks")


@agent(name="c-agents-counter", version=4)
async def counter(turn: Turn) -> int:
    turn.state["count"] = turn.state.get("count", 0) + 1
    turn.state.setdefault("read", []).extend(message.body for message in turn.inbox)
    return turn.state["count"]


@agent(name="c-agents-plain")
async def plain(turn: Turn) -> Any:
    return turn.input


def gated(name: str, gate: Any) -> Any:
    @agent(name=name)
    async def stands(turn: Turn) -> Any:
        await gate.enter(turn.path)
        return turn.input

    return stands


# followup, run ids


def test_followups_of_one_agent_go_in_order_one_at_a_time(runtime: Any) -> None:
    working: list[int] = []
    most: list[int] = []

    @agent(name="c-agents-order")
    async def notes(turn: Turn) -> int:
        working.append(turn.input)
        most.append(len(working))
        await turn.checkpoint()
        working.remove(turn.input)
        turn.state.setdefault("order", []).append(turn.input)
        return turn.input

    open_ = runtime()
    ref = open_.spawn(notes, "/order/a")
    runs = [ref.followup(n) for n in range(50)]
    assert [run.result(timeout=60) for run in runs] == list(range(50))
    assert ref.state()["order"] == list(range(50))
    assert max(most) == 1


def test_a_run_id_given_twice_is_the_same_run(runtime: Any, events_of: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(counter, "/same/a", input="first", run_id="same-first")
    assert ref.run.run_id == "same-first"
    once = ref.followup("x", run_id="same-run")
    twice = ref.followup("x", run_id="same-run")
    assert once.run_id == twice.run_id == "same-run"
    assert once.result(timeout=60) == twice.result(timeout=60) == 2
    late = ref.followup("x", run_id="same-run")
    assert late.result(timeout=60) == 2
    assert ref.followup("y").result(timeout=60) == 3
    accepted = [event.run_id for event in events_of(open_, "/same/a", "run.accepted")]
    assert accepted.count("same-run") == 1


def test_a_run_id_given_by_many_threads_is_one_run(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(counter, "/race/a")
    start, results = threading.Barrier(8), []

    def give() -> None:
        start.wait(600)
        results.append(ref.followup("x", run_id="race-run").result(timeout=60))

    threads = [threading.Thread(target=give, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [1] * 8
    assert ref.state()["count"] == 1


def test_a_run_can_be_found_by_its_id_and_tells_how_it_goes(runtime: Any, door: Any) -> None:
    gate = door()
    open_ = runtime(slots=1)
    ref = open_.spawn(gated("c-agents-found", gate), "/found/a")
    first, second = ref.followup(1), ref.followup(2)
    gate.arrived()
    assert open_.run(first.run_id).path == "/found/a"
    assert first.status == "running"
    assert second.status in ("accepted", "queued")
    assert not first.done()
    with pytest.raises(TimeoutError):
        first.result(timeout=0.01)
    with pytest.raises(TimeoutError):
        first.outcome(timeout=0)
    gate.open()
    outcome = open_.run(second.run_id).outcome(timeout=60)
    assert (outcome.status, outcome.result, outcome.error) == ("completed", 2, None)
    assert (outcome.run_id, outcome.path, outcome.attempt) == (second.run_id, "/found/a", 1)
    assert outcome.started_at is not None
    assert outcome.started_at <= outcome.ended_at
    assert second.status == "completed"
    assert first.done()
    assert first.interrupt() is False


def test_a_result_is_a_copy_for_everybody_who_asks(runtime: Any) -> None:
    open_ = runtime()
    given = {"list": [1]}
    ref = open_.spawn(plain, "/copy/a", input=given)
    given["list"].append(2)
    mine = ref.run.result(timeout=60)
    assert mine == {"list": [1]}
    mine["list"].append(3)
    assert open_.run(ref.run.run_id).result(timeout=60) == {"list": [1]}


def test_none_is_an_input_and_no_input_is_no_run(runtime: Any) -> None:
    open_ = runtime()
    assert open_.spawn(plain, "/none/a").run is None
    assert open_.spawn(plain, "/none/b", input=None).run.result(timeout=60) is None


# send


def test_a_message_fills_the_inbox_and_starts_nothing(runtime: Any, events_of: Any, happened: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(counter, "/mail/a")
    happened(open_, "agent.started", "/mail/a")
    for body in ("one", {"two": 2}, None):
        ref.send(body)
    info = ref.info()
    assert (info.inbox, info.status, info.queued_runs) == (3, "idle", 0)
    assert len(events_of(open_, "/mail/a", "message.accepted")) == 3
    assert events_of(open_, "/mail/a", "run.accepted") == []
    ref.followup(None).result(timeout=60)
    assert ref.state()["read"] == ["one", {"two": 2}, None]
    assert ref.info().inbox == 0
    ref.followup(None).result(timeout=60)
    assert ref.state()["read"] == ["one", {"two": 2}, None]


def test_a_message_knows_who_sent_it_and_when(runtime: Any) -> None:
    @agent(name="c-agents-post")
    async def post(turn: Turn) -> list[Any]:
        if turn.input == "send":
            await turn.send("/post/b", "hello")
        return [(message.body, message.sender, message.at > 0) for message in turn.inbox]

    open_ = runtime()
    a, b = open_.spawn(post, "/post/a"), open_.spawn(post, "/post/b")
    b.send("from outside")
    a.followup("send").result(timeout=60)
    assert b.followup("read").result(timeout=60) == [
        ("from outside", None, True),
        ("hello", "/post/a", True),
    ]


# info, state


def test_info_tells_what_the_agent_is(runtime: Any) -> None:
    open_ = runtime()
    config = {"model": "small", "tools": ["a", "b"]}
    ref = open_.spawn(counter, "/info/a", config=config, input=1)
    ref.run.result(timeout=60)
    info = ref.info()
    assert (info.path, info.kind, info.version, info.config) == ("/info/a", "c-agents-counter", 4, config)
    assert (info.status, info.resident, info.incarnation) == ("idle", True, 1)
    assert (info.queued_runs, info.inbox, info.error) == (0, 0, None)
    assert info.last_outcome == ref.run.outcome(timeout=60)
    assert 0 < info.created_at <= info.updated_at


def test_the_state_is_a_copy_as_of_the_last_commit(runtime: Any, door: Any) -> None:
    gate = door()

    @agent(name="c-agents-state", state=lambda: {"made": True})
    async def changes(turn: Turn) -> None:
        turn.state["count"] = turn.input
        await gate.enter()

    open_ = runtime()
    ref = open_.spawn(changes, "/state/a")
    assert ref.state() == {"made": True}
    run = ref.followup(1)
    gate.arrived()
    assert ref.state() == {"made": True}
    gate.open()
    run.result(timeout=60)
    copy = ref.state()
    assert copy == {"made": True, "count": 1}
    copy["count"] = 99
    assert ref.state() == {"made": True, "count": 1}


# interrupt


def test_an_interrupt_names_one_run_or_all_before_it_and_repeated_does_nothing(
    runtime: Any, door: Any, events_of: Any
) -> None:
    gate = door()
    open_ = runtime()
    ref = open_.spawn(gated("c-agents-interrupt", gate), "/interrupt/a")
    first, second, third = (ref.followup(n) for n in range(3))
    gate.arrived()
    assert ref.interrupt(second.run_id) is True
    assert second.outcome(timeout=60).status == "interrupted"
    assert second.outcome(timeout=60).error
    assert second.outcome(timeout=60).started_at is None
    assert ref.interrupt(second.run_id) is False
    assert first.status == "running"
    assert ref.interrupt() is True
    for run in (first, third):
        with pytest.raises(RunInterrupted) as raised:
            run.result(timeout=60)
        assert (raised.value.run_id, raised.value.path) == (run.run_id, "/interrupt/a")
    assert ref.interrupt() is False
    fourth = ref.followup(3)
    gate.open()
    assert fourth.result(timeout=60) == 3
    assert len(events_of(open_, "/interrupt/a", "run.interrupted")) == 3
    assert ref.info().status == "idle"


# close, delete


def test_close_ends_the_agent_and_its_descendants_also_on_disk(
    runtime: Any, door: Any, happened: Any
) -> None:
    gate = door()
    open_ = runtime(residents=8)
    kind = gated("c-agents-close", gate)
    root = open_.spawn(counter, "/close/a", input=1)
    on_disk = open_.spawn(counter, "/close/a/disk", input=1)
    below = open_.spawn(counter, "/close/a/gap/below", input=1)
    beside = open_.spawn(counter, "/close/ab", input=1)
    for ref in (root, on_disk, below, beside):
        ref.run.result(timeout=60)
    busy = open_.spawn(kind, "/close/a/busy", input=1)
    gate.arrived()
    assert on_disk.evict() is True
    assert below.evict() is True
    root.close()
    assert busy.run.outcome(timeout=60).status == "interrupted"
    closed = ["/close/a", "/close/a/busy", "/close/a/disk", "/close/a/gap/below"]
    assert [info.path for info in open_.list()] == ["/close/ab"]
    assert [info.path for info in open_.list(status="closed")] == closed
    for path in closed:
        happened(open_, "agent.closed", path)
        info = open_.agent(path).info()
        assert (info.status, info.resident) == ("closed", False)
        with pytest.raises(AgentClosed):
            open_.agent(path).followup(1)
        with pytest.raises(AgentClosed):
            open_.agent(path).send(1)
    assert beside.followup(1).result(timeout=60) == 2


def test_a_closed_path_is_free_for_another_agent(runtime: Any) -> None:
    open_ = runtime()
    for round_ in range(3):
        ref = open_.spawn(counter, "/free/a", config=round_, input=1)
        assert ref.run.result(timeout=60) == 1, "a new agent, with a state of its own"
        with pytest.raises(PathTaken):
            open_.spawn(counter, "/free/a")
        assert ref.info().config == round_
        ref.close()
    assert open_.list() == []


def test_what_a_closed_agent_did_stays_readable(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(counter, "/past/a", input=1)
    ref.run.result(timeout=60)
    ref.close()
    assert ref.state() == {"count": 1, "read": []}
    assert open_.run(ref.run.run_id).result(timeout=60) == 1
    assert ref.info().last_outcome == ref.run.outcome(timeout=60)


def test_delete_erases_what_is_stored(runtime: Any, happened: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(counter, "/delete/a", input=1)
    child = open_.spawn(counter, "/delete/a/b", input=1)
    for one in (ref, child):
        one.run.result(timeout=60)
    child.evict()
    ref.delete()
    happened(open_, "agent.deleted", "/delete/a")
    for path, run in (("/delete/a", ref.run), ("/delete/a/b", child.run)):
        with pytest.raises(AgentNotFound):
            open_.agent(path)
        with pytest.raises(RunNotFound):
            open_.run(run.run_id)
    assert open_.list() == []
    assert open_.list(status="closed") == []
    assert open_.spawn(counter, "/delete/a", input=1).run.result(timeout=60) == 1


def test_a_closed_agent_can_be_deleted(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(counter, "/later/a", input=1)
    ref.run.result(timeout=60)
    ref.close()
    ref.delete()
    with pytest.raises(AgentNotFound):
        open_.agent("/later/a")
    assert open_.list(status="closed") == []


def test_what_was_deleted_is_gone_after_a_restart(runtime: Any) -> None:
    first = runtime()
    ref = first.spawn(counter, "/erase/a", input="secret-word-in-the-input")
    ref.run.result(timeout=60)
    ref.delete()
    first.close()
    second = runtime()
    with pytest.raises(AgentNotFound):
        second.agent("/erase/a")


# evict, pin


def test_eviction_is_invisible_but_for_the_room(runtime: Any, happened: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(counter, "/evict/a", config={"k": 1}, input=1)
    ref.run.result(timeout=60)
    ref.send("unread")
    before, state = ref.info(), ref.state()
    assert before.resident
    assert ref.evict() is True
    happened(open_, "agent.evicted", "/evict/a")
    after = ref.info()
    assert not after.resident
    names = [
        "path",
        "kind",
        "version",
        "config",
        "status",
        "last_outcome",
        "queued_runs",
        "inbox",
        "created_at",
        "error",
    ]
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    assert ref.state() == state
    assert ref.evict() is False
    assert open_.stats().resident == 0
    assert ref.followup(1).result(timeout=60) == 2
    happened(open_, "agent.reloaded", "/evict/a")
    assert ref.info().resident
    assert ref.info().incarnation > before.incarnation
    assert ref.state() == {"count": 2, "read": ["unread"]}
    assert (open_.stats().evictions, open_.stats().reloads) == (1, 1)


def test_what_is_busy_starting_or_pinned_is_not_evicted(runtime: Any, door: Any) -> None:
    gate, opening = door(), door()

    @agent(name="c-agents-slow-open")
    class SlowOpen:
        async def open(self, info: Any) -> None:
            await opening.enter()

        async def run(self, turn: Turn) -> None:
            return None

    open_ = runtime()
    busy = open_.spawn(gated("c-agents-busy", gate), "/stay/busy", input=1)
    starting = open_.spawn(SlowOpen, "/stay/starting")
    pinned = open_.spawn(counter, "/stay/pinned", input=1)
    gate.arrived()
    opening.arrived()
    pinned.run.result(timeout=60)
    pinned.pin()
    assert starting.info().status == "starting"
    for ref in (busy, starting, pinned):
        assert ref.evict() is False
        assert ref.info().resident
    pinned.unpin()
    assert pinned.evict() is True


def test_a_pinned_agent_stays_while_others_come_and_go(runtime: Any) -> None:
    open_ = runtime(residents=2)
    pinned = open_.spawn(counter, "/pins/pinned", input=1)
    pinned.run.result(timeout=60)
    pinned.pin()
    pinned.pin()
    for number in range(6):
        other = open_.spawn(counter, f"/pins/other{number}", input=1)
        other.run.result(timeout=60)
        assert pinned.info().resident
    assert pinned.info().incarnation == 1
    assert open_.stats().resident <= 2
    pinned.unpin()
    for number in range(2):
        open_.agent(f"/pins/other{number}").followup(1).result(timeout=60)
    assert not pinned.info().resident


def test_the_least_recently_used_is_evicted_first(runtime: Any) -> None:
    open_ = runtime(residents=2)
    a, b = (open_.spawn(counter, f"/lru/{name}", input=1) for name in "ab")
    a.run.result(timeout=60)
    b.run.result(timeout=60)
    a.followup(1).result(timeout=60)
    open_.spawn(counter, "/lru/c", input=1).run.result(timeout=60)
    assert (a.info().resident, b.info().resident) == (True, False)


# list


def test_a_list_goes_page_by_page(runtime: Any) -> None:
    open_ = runtime(residents=4)
    paths = sorted(f"/pages/{letter}/{number}" for letter in "abc" for number in range(7))
    for path in reversed(paths):
        open_.spawn(plain, path)
    open_.spawn(plain, "/pagesx")
    assert [info.path for info in open_.list("/pages")] == paths
    assert [info.path for info in open_.list()] == sorted([*paths, "/pagesx"])
    assert [info.path for info in open_.list("/pages/b")] == [path for path in paths if "/b/" in path]
    assert [info.path for info in open_.list("/pages/b/3")] == ["/pages/b/3"]
    assert open_.list("/nobody") == []
    seen: list[str] = []
    after = None
    while page := open_.list("/pages", limit=4, after=after):
        assert len(page) <= 4
        seen += [info.path for info in page]
        after = seen[-1]
    assert seen == paths
    assert [i.path for i in open_.list("/pages", after="/pages/a/35")] == [
        p for p in paths if p > "/pages/a/35"
    ]


def test_a_list_filters_by_every_status(runtime: Any, door: Any, until: Any) -> None:
    gate, opening, deaf = door(), door(), door()

    @agent(name="c-agents-list-opens")
    class Opens:
        async def open(self, info: Any) -> None:
            if info.path.endswith("failed"):
                raise LookupError("no such model")
            await opening.enter()

        async def run(self, turn: Turn) -> None:
            return None

    @agent(name="c-agents-list-deaf")
    def does_not_listen(turn: Any) -> None:
        deaf.enter_on_thread()

    stands = gated("c-agents-list", gate)
    open_ = runtime(slots=2, residents=16)
    open_.spawn(plain, "/status/idle", input=1).run.result(timeout=60)
    open_.spawn(plain, "/status/closed").close()
    open_.spawn(Opens, "/status/starting")
    failed = open_.spawn(Opens, "/status/failed", input=1)
    failed.run.outcome(timeout=60)
    open_.spawn(stands, "/status/running", input=1)
    interrupting = open_.spawn(does_not_listen, "/status/interrupting", input=1)
    gate.arrived()
    deaf.arrived()
    open_.spawn(stands, "/status/queued", input=1)
    assert interrupting.interrupt() is True
    for status in ("idle", "starting", "failed", "running", "interrupting", "queued", "closed"):
        until(
            lambda status=status: [i.path for i in open_.list(status=status)] == [f"/status/{status}"],
            status,
        )
    assert len(open_.list()) == 6
    assert open_.list("/status/idle", status="running") == []
    assert open_.agent("/status/failed").info().error == failed.info().error
    assert "no such model" in failed.info().error


def test_a_long_list_with_a_filter_finds_the_few(runtime: Any, door: Any) -> None:
    gate = door()
    open_ = runtime(residents=4)
    for number in range(300):
        open_.spawn(plain, f"/few/{number:03}")
    open_.spawn(gated("c-agents-few", gate), "/few/zzz", input=1)
    gate.arrived()
    assert [info.path for info in open_.list(status="running", limit=1)] == ["/few/zzz"]
    assert len(open_.list(limit=250)) == 250
    assert len(open_.list(status="idle", limit=1000)) == 300


# explain


def test_an_agent_with_nothing_to_do_waits_for_nothing(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(plain, "/why/a", input=1)
    ref.run.result(timeout=60)
    why = ref.explain()
    assert (why.path, why.status, why.waits_for, why.held_by) == ("/why/a", "idle", None, ())
    ref.evict()
    assert ref.explain().waits_for is None
    assert str(ref.explain()).startswith("/why/a")


def test_it_waits_for_a_slot(runtime: Any, door: Any, until: Any) -> None:
    gate = door()
    kind = gated("c-agents-why-slot", gate)
    open_ = runtime(slots=1)
    holder = open_.spawn(kind, "/why/holder", input=1)
    gate.arrived()
    assert holder.explain().waits_for is None
    others = [open_.spawn(kind, f"/why/other{n}", input=1) for n in range(2)]
    for place, other in enumerate(others):
        until(lambda other=other: other.explain().waits_for == "slot", "waiting for a slot")
        why = other.explain()
        assert (why.status, why.place, why.held_by) == ("queued", place, ("/why/holder",))
        assert why.since is not None
        assert "slot" in str(why)


def test_it_waits_for_room(runtime: Any, door: Any, until: Any) -> None:
    gate = door()
    kind = gated("c-agents-why-room", gate)
    open_ = runtime(residents=1, slots=4)
    open_.spawn(kind, "/why/holder", input=1)
    gate.arrived()
    other = open_.spawn(kind, "/why/other", input=1)
    until(lambda: other.explain().waits_for == "room", "waiting for room")
    why = other.explain()
    assert (why.place, why.held_by) == (0, ("/why/holder",))
    assert why.since is not None
    assert other.info().resident is False
    gate.open()
    assert other.run.result(timeout=60) == 1


def test_it_waits_for_its_session(runtime: Any, door: Any) -> None:
    opening = door()

    @agent(name="c-agents-why-session")
    class Opens:
        async def open(self, info: Any) -> None:
            await opening.enter()

        async def run(self, turn: Turn) -> None:
            return None

    ref = runtime().spawn(Opens, "/why/a", input=1)
    opening.arrived()
    why = ref.explain()
    assert (why.status, why.waits_for) == ("starting", "session")
    assert why.since is not None


def test_it_waits_for_runs_in_a_turn_and_after_it(runtime: Any, door: Any, until: Any) -> None:
    gate = door()

    @agent(name="c-agents-why-run")
    async def parent(turn: Turn) -> Any:
        if turn.results:
            return [outcome.result for outcome in turn.results]
        run = await turn.followup("/why/child", 7)
        if turn.input == "wait":
            return await run
        await turn.after(run)
        return "later"

    open_ = runtime()
    open_.spawn(gated("c-agents-why-child", gate), "/why/child")
    waits = open_.spawn(parent, "/why/waits", input="wait")
    gate.arrived()
    until(lambda: waits.explain().waits_for == "run", "waiting for a run")
    child_run = next(e.run_id for e in open_.events("/why/child", follow=False) if e.type == "run.started")
    why = waits.explain()
    assert (why.status, why.held_by) == ("waiting", ("/why/child",))
    assert f"waits, without a slot, for run {child_run} of /why/child to end" in why.text
    later = open_.spawn(parent, "/why/later", input="after")
    assert later.run.result(timeout=60) == "later"
    assert later.explain().waits_for == "run"
    assert later.explain().held_by == ("/why/child",)
    assert "its next run goes on when run " in later.explain().text
    assert later.explain().since is not None
    gate.open()
    assert waits.run.result(timeout=60) == 7


def test_it_waits_for_a_commit(runtime: Any, tmp_path: Path, until: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(plain, "/why/a", input=1)
    ref.run.result(timeout=60)
    other = sqlite3.connect(tmp_path / "agents.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        giver = threading.Thread(target=ref.followup, args=(2,), daemon=True)
        giver.start()
        until(lambda: ref.explain().waits_for == "commit", "waiting for the disk")
    finally:
        other.execute("ROLLBACK")
        other.close()
    giver.join(60)
    assert ref.followup(3).result(timeout=60) == 3


def test_it_waits_for_its_kind(runtime: Any, tmp_path: Path) -> None:
    code = """
        import asyncio, os, sys
        from greenroom import Runtime, agent
        @agent(name="c-agents-elsewhere")
        async def elsewhere(turn):
            if turn.input == "stay":
                await asyncio.Event().wait()
            return turn.input
        runtime = Runtime(sys.argv[1]).start()
        ref = runtime.spawn(elsewhere, "/why/a", input=1)
        ref.run.result(timeout=600)
        ref.followup("stay", run_id="why-run")
        os._exit(0)
    """
    store = str(tmp_path / "agents.db")
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), store], check=True, timeout=600)
    open_ = runtime()
    ref = open_.agent("/why/a")
    why = ref.explain()
    assert why.waits_for == "kind"
    assert "c-agents-elsewhere" in str(why)
    assert open_.run("why-run").status in ("accepted", "queued")
    with pytest.raises(UnknownKind) as unknown:
        ref.followup(2)
    assert unknown.value.kind == "c-agents-elsewhere"
    assert ref.info().last_outcome.result == 1
    ref.close()
    assert open_.run("why-run").outcome(timeout=60).status == "interrupted"
    assert open_.list() == []


def test_those_in_memory_can_be_listed_alone(runtime: Any, door: Any, until: Any) -> None:
    gate = door()
    open_ = runtime(slots=1, residents=3)
    for number in range(20):
        open_.spawn(plain, f"/memory/{number:02}", input=1).run.result(timeout=60)
    stands = gated("c-agents-memory", gate)
    open_.spawn(stands, "/memory/stands", input=1)
    gate.arrived()
    open_.spawn(stands, "/memory/waits", input=1)
    until(lambda: len(open_.list(resident=True)) == 3 == open_.stats().resident, "three are in memory")
    listed = open_.list("/memory", resident=True)
    assert all(info.resident for info in listed)
    assert [info.path for info in listed] == sorted(info.path for info in listed)
    assert "/memory/stands" in [info.path for info in listed]
    assert [info.path for info in open_.list(resident=True, status="running")] == ["/memory/stands"]
    idle = [info.path for info in open_.list(resident=True, status="idle")]
    assert idle == [info.path for info in listed if info.status == "idle"] != []
    assert [info.path for info in open_.list(resident=True, limit=1, after=idle[0])] != [idle[0]]
    assert open_.stats().holders == ("/memory/stands",)
    with pytest.raises(TypeError, match="resident="):
        open_.list(resident="yes")


def test_a_closed_agent_is_not_listed_among_those_in_memory(runtime: Any) -> None:
    open_ = runtime()
    open_.spawn(plain, "/memory/closed", input=1).run.result(timeout=60)
    open_.agent("/memory/closed").close()
    assert open_.list(resident=True) == []
