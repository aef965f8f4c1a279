"""Deep and wide trees, one slot, little room: everything completes and no limit is passed."""

import asyncio
import threading
from typing import Any

import pytest

from greenroom import SyncTurn, Turn, agent


class Count:
    """How many are at work at once, and how many were at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *exception: object) -> None:
        self.now -= 1


@pytest.mark.parametrize("how", ["wait", "after", "thread"])
def test_a_tree_ten_deep_completes_with_one_slot(
    runtime: Any, how: str, until: Any, events_of: Any
) -> None:
    """Each agent spawns the next, gives it a run and waits for it."""

    @agent(name=f"c-limits-deep {how}")
    async def deep(turn: Turn) -> Any:
        if turn.results:
            return "continued"
        if turn.input == 0:
            return 1
        child = await turn.spawn(f"c-limits-deep {how}", "n")
        run = await child.followup(turn.input - 1)
        if how == "after":
            return (await turn.after(run)).run_id
        return await run + 1

    @agent(name="c-limits-deep-sync")
    def deep_sync(turn: SyncTurn) -> Any:
        if turn.input == 0:
            return 1
        return turn.spawn("c-limits-deep-sync", "n").followup(turn.input - 1).result() + 1

    kind = deep_sync if how == "thread" else deep
    open_ = runtime(slots=1, residents=4)
    ref = open_.spawn(kind, "/deep", input=9)
    if how == "after":
        until(lambda: len(events_of(open_, "/", "run.completed")) == 10 + 9, "ten runs, nine continuations")
        assert len(events_of(open_, "/", "run.accepted")) == 10 + 9
    else:
        assert ref.run.result(timeout=60) == 10
    assert [info.path for info in open_.list()] == ["/deep" + "/n" * n for n in range(10)]
    stats = open_.stats()
    assert (stats.running, stats.queued) == (0, 0)


def test_a_tree_five_hundred_wide_completes_with_one_slot(runtime: Any) -> None:
    at_work = Count()

    @agent(name="c-limits-leaf")
    async def leaf(turn: Turn) -> int:
        with at_work:
            await asyncio.sleep(0)
        return turn.input

    @agent(name="c-limits-wide")
    async def wide(turn: Turn) -> int:
        runs = []
        for n in range(500):
            child = await turn.spawn(leaf, f"n{n}")
            runs.append(await child.followup(n))
        return sum(outcome.result for outcome in await turn.wait(*runs))

    open_ = runtime(slots=1, residents=4)
    assert open_.spawn(wide, "/wide", input=1).run.result(timeout=60) == sum(range(500))
    assert at_work.most == 1
    stats = open_.stats()
    assert (stats.agents, stats.running, stats.queued) == (501, 0, 0)
    assert stats.resident <= 4


def test_a_wide_fan_in_after_completes_with_one_slot(runtime: Any) -> None:
    @agent(name="c-limits-after-leaf")
    async def leaf(turn: Turn) -> int:
        return turn.input

    @agent(name="c-limits-after-wide")
    async def wide(turn: Turn) -> Any:
        if turn.results:
            return [outcome.result for outcome in turn.results]
        children = [await turn.spawn(leaf, f"n{n}") for n in range(200)]
        return (await turn.after(*[await c.followup(n) for n, c in enumerate(children)])).run_id

    open_ = runtime(slots=1, residents=2)
    later = open_.spawn(wide, "/wide", input=1).run.result(timeout=60)
    assert open_.run(later).result(timeout=60) == list(range(200))


@pytest.mark.parametrize("how", ["async", "thread"])
def test_turns_never_exceed_the_slots(runtime: Any, how: str) -> None:
    at_work, guard = Count(), threading.Lock()

    @agent(name="c-limits-slots")
    async def works(turn: Turn) -> None:
        with at_work:
            await asyncio.sleep(0)
            async with turn.paused():
                at_work.now -= 1
                await asyncio.sleep(0)
            at_work.now += 1
            at_work.most = max(at_work.most, at_work.now)

    @agent(name="c-limits-slots-sync")
    def works_sync(turn: SyncTurn) -> None:
        with guard:
            at_work.__enter__()
        turn.checkpoint()
        with guard:
            at_work.__exit__()

    kind = works if how == "async" else works_sync
    open_ = runtime(slots=3, residents=8)
    refs = [open_.spawn(kind, f"/slots{n % 4}/{n}") for n in range(30)]
    runs = [ref.followup(n) for n in range(4) for ref in refs]
    assert len(open_.wait(runs, timeout=60)) == 120
    assert {run.status for run in runs} == {"completed"}
    assert at_work.most <= 3


def test_one_trees_many_runs_do_not_starve_another_tree(runtime: Any, door: Any) -> None:
    gate = door()
    order: list[str] = []

    @agent(name="c-limits-first")
    async def first(turn: Turn) -> None:
        await gate.enter()

    @agent(name="c-limits-fair")
    async def notes(turn: Turn) -> None:
        order.append(turn.path)

    open_ = runtime(slots=1, residents=64)
    open_.spawn(first, "/first/a", input=1)
    gate.arrived()
    many = [open_.spawn(notes, f"/many/{n}", input=n).run for n in range(40)]
    one = open_.spawn(notes, "/one/a", input=1).run
    # all of them are in memory and queued before the slot is free
    for ref in [run.path for run in many] + [one.path]:
        while open_.agent(ref).explain().waits_for != "slot":
            pass
    gate.open()
    one.result(timeout=60)
    open_.wait(many, timeout=60)
    assert order.index("/one/a") <= 2, "its turn comes with the second grant or the third"
    assert [path for path in order if path != "/one/a"] == [f"/many/{n}" for n in range(40)]


def test_turns_that_wait_are_counted_apart_from_the_residents(runtime: Any, door: Any, until: Any) -> None:
    """G4: five agents, each waiting in a turn for the next, with room for two."""
    gate = door()

    @agent(name="c-limits-chain")
    async def chain(turn: Turn) -> Any:
        if turn.input == 4:
            await gate.enter()
            return [4]
        return [turn.input, *await (await turn.followup(f"/chain/{turn.input + 1}", turn.input + 1))]

    open_ = runtime(slots=1, residents=2)
    refs = [open_.spawn(chain, f"/chain/{n}") for n in range(5)]
    run = refs[0].followup(0)
    gate.arrived()
    stats = open_.stats()
    assert (stats.resident, stats.waiting, stats.running, stats.slots_taken) == (1, 4, 5, 1)
    assert [ref.info().status for ref in refs] == ["waiting"] * 4 + ["running"]
    assert all(ref.info().resident for ref in refs), "a turn that waits stays in memory"
    assert [info.path for info in open_.list(status="waiting")] == [f"/chain/{n}" for n in range(4)]
    assert stats.given_way == 0, "nothing gives way"
    gate.open()
    assert run.result(timeout=60) == list(range(5))
    until(lambda: open_.stats().waiting == 0, "nobody waits any more")
    assert open_.stats().resident <= 2
    for ref in refs:
        assert ref.followup(4).result(timeout=60) == [4]
        assert open_.stats().resident <= 2


def test_those_that_work_are_needed_and_new_work_waits_for_one_of_them(
    runtime: Any, door: Any, until: Any
) -> None:
    gate = door()

    @agent(name="c-limits-holds")
    async def holds(turn: Turn) -> Any:
        await gate.enter(turn.path)
        return turn.input

    open_ = runtime(slots=8, residents=2)
    refs = [open_.spawn(holds, f"/holds/{n}", input=n) for n in range(6)]
    gate.arrived(2)
    for ref in refs[2:]:
        until(lambda ref=ref: ref.explain().waits_for == "room", "waiting for room")
    stats = open_.stats()
    assert (stats.resident, stats.running, stats.waiting) == (2, 2, 0)
    gate.open()
    assert [ref.run.result(timeout=60) for ref in refs] == list(range(6))


def test_pinned_agents_are_needed_and_nobody_is_refused(runtime: Any, until: Any) -> None:
    @agent(name="c-limits-pinned")
    async def works(turn: Turn) -> Any:
        return turn.input

    open_ = runtime(residents=2)
    pinned = [open_.spawn(works, f"/pinned/{n}", input=n) for n in range(2)]
    for ref in pinned:
        ref.run.result(timeout=60)
        ref.pin()
    waits = open_.spawn(works, "/pinned/waits", input="in")
    until(lambda: waits.explain().waits_for == "room", "waiting for room")
    assert sorted(waits.explain().held_by) == ["/pinned/0", "/pinned/1"]
    assert open_.stats().resident == 2
    pinned[0].unpin()
    assert waits.run.result(timeout=60) == "in"
    assert pinned[1].info().resident


def test_hundreds_of_agents_take_turns_in_little_room(runtime: Any) -> None:
    @agent(name="c-limits-turns")
    async def counts(turn: Turn) -> int:
        turn.state["count"] = turn.state.get("count", 0) + 1
        return turn.state["count"]

    open_ = runtime(slots=2, residents=3)
    refs = [open_.spawn(counts, f"/turns/{n:03}") for n in range(200)]
    for round_ in range(1, 4):
        runs = [ref.followup(None) for ref in refs]
        assert [run.result(timeout=60) for run in runs] == [round_] * 200
    assert open_.stats().resident <= 3


def test_all_slots_are_back_after_every_kind_of_end(runtime: Any, door: Any, until: Any) -> None:
    gate = door()

    @agent(name="c-limits-ends", turn_timeout=None)
    async def ends(turn: Turn) -> Any:
        if turn.input == "raise":
            raise ValueError
        if turn.input == "hold":
            await gate.enter()
        if turn.input == "pause":
            async with turn.paused():
                await gate.enter()
        if turn.input == "wait":
            await turn.wait(await turn.followup("/ends/holder", "hold"))
        return turn.input

    open_ = runtime(slots=2, residents=3)
    holder = open_.spawn(ends, "/ends/holder")
    for round_ in range(5):
        a = open_.spawn(ends, f"/ends/a{round_}", input="well")
        b = open_.spawn(ends, f"/ends/b{round_}", input="raise")
        open_.wait([a.run, b.run], timeout=60)
        for how in ("hold", "pause", "wait"):
            run = a.followup(how)
            gate.arrived()
            assert a.interrupt()
            assert run.outcome(timeout=60).status == "interrupted"
            if how == "wait":
                assert holder.interrupt()
        b.followup("pause")
        gate.arrived()
        b.close()
        a.evict()
    until(lambda: open_.stats().slots_taken == 0, "all slots back")
    runs = [open_.spawn(ends, f"/ends/last{n}", input="hold").run for n in range(2)]
    gate.arrived(2)
    gate.open()
    assert [run.result(timeout=60) for run in runs] == ["hold", "hold"]
