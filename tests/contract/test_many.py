"""Interrupting, closing and deleting a part of the tree, in both runtimes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    AgentClosed,
    AgentNotFound,
    InvalidPath,
    RunNotFound,
    Turn,
    agent,
)
from greenroom.testing import Simulation

from .twins import BOTH, Twin, told

BOTH_TWINS = pytest.mark.parametrize("kind", BOTH)


@agent(name="many.waits")
async def waits(turn: Turn) -> Any:
    """Works until it is interrupted, if it is told to."""
    if turn.input == "wait":
        await asyncio.Event().wait()
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]


@agent(name="many.spawner")
async def spawner(turn: Turn) -> None:
    """Has ever more agents below it, each with a run, until it is interrupted."""
    number = 0
    while True:
        child = await turn.spawn(waits, f"kid{number}", exist_ok=True)
        await child.followup("wait")
        number += 1


async def statuses(runs: list[Any], do: Twin) -> list[str]:
    return [(await do(lambda run=run: run.outcome(60))).status for run in runs]  # type: ignore[misc]


@BOTH_TWINS
def test_interrupting_a_part_of_the_tree_ends_its_runs_and_keeps_its_agents(
    kind: type, tmp_path: Path
) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        paths = ["/t/a", "/t/a/b", "/t/ab", "/u/a"]
        refs = {path: await do(lambda path=path: runtime.spawn(waits, path)) for path in paths}  # type: ignore[misc]
        runs = {
            path: [await do(lambda r=r: r.followup("wait")) for _ in range(3)] for path, r in refs.items()
        }  # type: ignore[misc]
        assert await do(lambda: runtime.interrupt_many("/t/a")) == 6
        assert set(await statuses([*runs["/t/a"], *runs["/t/a/b"]], do)) == {"interrupted"}
        assert await do(lambda: runtime.wait([*runs["/t/ab"], *runs["/u/a"]], timeout=0)) == []
        last = await do(lambda: refs["/t/a"].followup(1))
        assert await do(lambda: last.result(60)) == 1, "its agent is as it was"
        assert await do(lambda: runtime.interrupt_many("/nobody/here")) == 0
        assert await do(lambda: runtime.interrupt_many("/t")) == 3, "/t is no agent itself"
        assert await do(lambda: runtime.interrupt_many("/")) == 3
        assert await do(lambda: runtime.interrupt_many("/")) == 0
        assert len(await do(lambda: runtime.list())) == 4

    told(kind, story, tmp_path / "store.db", slots=8)


@BOTH_TWINS
def test_closing_a_part_of_the_tree_ends_its_agents_and_their_runs(kind: type, tmp_path: Path) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        for path in ("/t/a", "/t/a/b", "/t/ab", "/u/a"):
            await do(lambda path=path: runtime.spawn(waits, path))  # type: ignore[misc]
        busy = await do(lambda: runtime.spawn(waits, "/t/a/b/c", input="wait"))
        assert await do(lambda: runtime.close_many("/t/a")) == 3
        assert await statuses([busy.run], do) == ["interrupted"]
        assert [info.path for info in await do(lambda: runtime.list())] == ["/t/ab", "/u/a"]
        ref = await do(lambda: runtime.agent("/t/a"))
        with pytest.raises(AgentClosed):
            await do(lambda: ref.followup(1))
        assert await do(lambda: runtime.close_many("/t/a")) == 0
        again = await do(lambda: runtime.spawn(waits, "/t/a", input=1))
        assert await do(lambda: again.run.result(60)) == 1, "a path that was freed is new"
        assert await do(lambda: runtime.close_many("/t")) == 2
        assert await do(lambda: runtime.close_many("/")) == 1
        assert await do(lambda: runtime.list()) == []
        assert (await do(lambda: runtime.stats())).agents == 0

    told(kind, story, tmp_path / "store.db", slots=8)


@BOTH_TWINS
def test_deleting_a_part_of_the_tree_erases_those_that_were_closed_as_well(
    kind: type, tmp_path: Path
) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        runs = []
        for _ in range(3):  # three agents at one path, one after the other
            ref = await do(lambda: runtime.spawn(waits, "/t/a", input=1))
            runs.append(ref.run)
            await do(lambda: runs[-1].result(60))
            await do(ref.close)
        open_ = await do(lambda: runtime.spawn(waits, "/t/a", input=1))
        await do(lambda: open_.run.result(60))
        other = await do(lambda: runtime.spawn(waits, "/u/a", input=1))
        await do(lambda: other.run.result(60))
        await do(other.close)
        assert await do(lambda: runtime.delete_many("/t")) == 4
        assert await do(lambda: runtime.list(status="closed")) != []
        assert [info.path for info in await do(lambda: runtime.list(status="closed"))] == ["/u/a"]
        with pytest.raises(AgentNotFound):
            await do(lambda: open_.info())
        for run in runs:
            with pytest.raises(RunNotFound):
                await do(lambda run=run: runtime.run(run.run_id))  # type: ignore[misc]
        assert await do(lambda: runtime.delete_many("/")) == 1
        assert await do(lambda: runtime.delete_many("/")) == 0
        assert await do(lambda: runtime.list(status="closed")) == []

    told(kind, story, tmp_path / "store.db")


@BOTH_TWINS
@pytest.mark.parametrize("call", ["interrupt_many", "close_many", "delete_many"])
def test_the_part_is_named_and_checked(kind: type, tmp_path: Path, call: str) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        many = getattr(runtime, call)
        with pytest.raises(TypeError):
            await do(lambda: many())
        for bad in ("", "t", "/T", "//", None, 3, "/t/"):
            with pytest.raises(InvalidPath):
                await do(lambda bad=bad: many(bad))  # type: ignore[misc]

    told(kind, story, tmp_path / "store.db")


def test_many_pages_of_agents_close_and_their_closed_namesakes_go(tmp_path: Path) -> None:
    """More than a page, and more namesakes at one path than a page."""

    async def story(runtime: Any, do: Twin) -> None:
        for round_ in range(2):
            for number in range(250):
                await runtime.spawn(waits, f"/t/a{number}", durability="memory")
            assert await runtime.close_many("/t") == 250, round_
        for _ in range(150):
            await (await runtime.spawn(waits, "/t/same", durability="memory")).close()
        assert len(await runtime.list("/t", status="closed", limit=10_000)) == 650
        assert await runtime.delete_many("/t") == 650
        assert await runtime.list("/t", status="closed") == []
        assert (await runtime.stats()).agents == 0

    told(BOTH[1], story, tmp_path / "store.db")


# Races


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("erase", [False, True])
def test_agents_that_are_spawned_there_meanwhile_are_closed_or_come_after(seed: int, erase: bool) -> None:
    with Simulation(seed=seed, slots=4, residents=8) as simulation:
        for tree in ("t", "u"):
            simulation.spawn(spawner, f"/{tree}/boss", input=1)
        simulation.advance(0.05)

        async def race() -> tuple[int, list[Any]]:
            aio = simulation.aio
            spawns = [asyncio.ensure_future(aio.spawn(waits, f"/t/new{n}", input="wait")) for n in range(5)]
            many = aio.delete_many if erase else aio.close_many
            closing = asyncio.ensure_future(many("/t"))
            spawns += [
                asyncio.ensure_future(aio.spawn(waits, f"/t/late{n}", input="wait")) for n in range(5)
            ]
            return await closing, await asyncio.gather(*spawns)

        count, spawned = simulation.run(race())
        assert count >= 1
        left = {info.path for info in simulation.list("/t")}
        assert left <= {ref.path for ref in spawned}, (
            "the agents that its turns spawned have gone with them"
        )
        for ref in spawned if not erase else ():
            is_open = simulation.run(ref.run.run_id).status in ("accepted", "queued", "running")
            assert is_open == (ref.path in left)
        assert "/u/boss" in {info.path for info in simulation.list("/u")}
        simulation.close_many("/u")
        simulation.close_many("/")
        assert simulation.list() == []
        assert simulation.stats().agents == 0


@pytest.mark.parametrize("seed", range(10))
def test_an_interrupted_part_starts_nothing_that_was_accepted_before(seed: int) -> None:
    began: list[Any] = []

    @agent(name=f"many.counts-{seed}")
    async def counts(turn: Turn) -> None:
        began.append(turn.input)
        await asyncio.sleep(1_000)

    with Simulation(seed=seed, slots=2, residents=4) as simulation:
        refs = [simulation.spawn(counts, f"/t/a{n}") for n in range(6)]
        old = [ref.followup(("old", n)) for n in range(30) for ref in refs]

        async def race() -> tuple[int, list[Any]]:
            aio = simulation.aio
            stopping = asyncio.ensure_future(aio.interrupt_many("/t"))
            late = [await aio.agent(f"/t/a{n}") for n in range(6)]
            new = await asyncio.gather(*(ref.followup(("new", 0)) for ref in late))
            return await stopping, new

        count, new = simulation.run(race())
        before = len(began)
        simulation.run_until_idle()
        assert not [what for what, _ in began[before:] if what == "old"]
        assert {run.outcome(0).status for run in old} == {"interrupted"}
        ends = [simulation.run(run.run_id).outcome(0).status for run in new]
        assert ends.count("interrupted") == count - len(old), "those that came before it, if any"
        assert sum(what == "new" for what, _ in began) >= ends.count("completed")
