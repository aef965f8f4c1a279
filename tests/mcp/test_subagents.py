"""What the tools do, on a runtime in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from greenroom import AsyncRuntime, PathTaken, RunIdTaken, RuntimeClosing, Turn, UnknownKind, agent
from greenroom.mcp import tools
from greenroom.mcp.subagents import SubAgents, close_orphans, close_tree
from greenroom.mcp.trees import SESSION, Tree, Trees

KINDS = frozenset({"mcp-sub-echo", "mcp-sub-gate"})
HERE, THERE = Tree("here", passing=False), Tree("there", passing=False)

gates: dict[str, asyncio.Event] = {}


@agent(name="mcp-sub-echo")
async def echo(turn: Turn) -> Any:
    return turn.input


@agent(name="mcp-sub-gate")
async def gate(turn: Turn) -> Any:
    await gates.setdefault(turn.path, asyncio.Event()).wait()
    return turn.input


@agent(name="mcp-sub-hidden")
async def hidden(turn: Turn) -> None: ...


class Told(list[tuple[float, float, str]]):
    """What was told about progress."""

    async def __call__(self, done: float, of: float, said: str) -> None:
        self.append((done, of, said))


@asynccontextmanager
async def subagents(tree: Tree = HERE) -> AsyncIterator[tuple[AsyncRuntime, SubAgents]]:
    gates.clear()
    async with asyncio.timeout(60), AsyncRuntime() as runtime:
        yield runtime, SubAgents(runtime, tree, KINDS)
        for each in gates.values():
            each.set()


async def do(agents: SubAgents, arguments: tools.Arguments) -> Any:
    return await agents.do(arguments, Told())


def test_a_result_that_is_there_is_waited_for_no_more() -> None:
    async def test() -> None:
        async with subagents() as (_, agents):
            await do(agents, tools.SpawnAgentArguments("mcp-sub-echo", "a", input={"n": 1}))
            for _ in range(2):
                waited = await do(agents, tools.WaitAgentArguments(["a"]))
                (report,) = waited.agents
                assert not waited.timed_out
                assert report.last_run.result == {"n": 1}
            for until in ("all", "any"):
                assert (await do(agents, tools.WaitAgentArguments(until=until))).agents == waited.agents

    asyncio.run(test())


def test_a_wait_ends_with_its_time_and_the_work_goes_on() -> None:
    async def test() -> None:
        async with subagents() as (_, agents):
            await do(agents, tools.SpawnAgentArguments("mcp-sub-gate", "a", input=1))
            waited = await do(agents, tools.WaitAgentArguments(timeout_seconds=0))
            assert waited.timed_out
            assert [report.last_run for report in waited.agents] == [None]
            waiting = asyncio.create_task(do(agents, tools.WaitAgentArguments(["a"], timeout_seconds=50)))
            gates.setdefault("/here/a", asyncio.Event()).set()
            waited = await waiting
            assert not waited.timed_out
            assert waited.agents[0].last_run.result == 1

    asyncio.run(test())


def test_any_one_or_all_of_them() -> None:
    async def test() -> None:
        async with subagents() as (_, agents):
            for name in ("a", "b"):
                await do(agents, tools.SpawnAgentArguments("mcp-sub-gate", name, input=name))
            first = asyncio.create_task(do(agents, tools.WaitAgentArguments(["a", "b"], "any", 50)))
            both = asyncio.create_task(do(agents, tools.WaitAgentArguments(["a", "b"], "all", 50)))
            gates.setdefault("/here/b", asyncio.Event()).set()
            waited = await first
            ended = {report.agent for report in waited.agents if report.last_run}
            assert (waited.timed_out, ended) == (False, {"b"})
            assert not both.done()
            gates.setdefault("/here/a", asyncio.Event()).set()
            assert all(report.last_run for report in (await both).agents)

    asyncio.run(test())


def test_of_all_agents_any_one_that_has_work_will_do() -> None:
    async def test() -> None:
        async with subagents() as (_, agents):
            await do(agents, tools.SpawnAgentArguments("mcp-sub-echo", "idle", input=1))
            await do(agents, tools.WaitAgentArguments(["idle"]))
            await do(agents, tools.SpawnAgentArguments("mcp-sub-gate", "busy", input=1))
            waited = await do(agents, tools.WaitAgentArguments(until="any", timeout_seconds=0))
            assert (waited.timed_out, [report.agent for report in waited.agents]) == (True, ["busy"])
            waited = await do(agents, tools.WaitAgentArguments(until="all", timeout_seconds=0))
            assert (waited.timed_out, [report.agent for report in waited.agents]) == (
                True,
                ["busy", "idle"],
            )

    asyncio.run(test())


def test_progress_tells_how_long_and_what_happens() -> None:
    async def test() -> None:
        async with subagents() as (_, agents):
            await do(agents, tools.SpawnAgentArguments("mcp-sub-gate", "a", input=1))
            told = Told()
            waiting = asyncio.create_task(
                agents.do(tools.WaitAgentArguments(["a"], timeout_seconds=50), told)
            )
            while not told:
                await asyncio.sleep(0)
            gates.setdefault("/here/a", asyncio.Event()).set()
            await waiting
            done, of, said = told[0]
            assert 0 <= done < of == 50
            assert said.startswith("0 of 1 agents at rest")
            assert [each[0] for each in told] == sorted({each[0] for each in told})  # it only grows

    asyncio.run(test())


def test_a_wait_that_is_given_up_leaves_the_work_alone() -> None:
    async def test() -> None:
        async with subagents() as (runtime, agents):
            await do(agents, tools.SpawnAgentArguments("mcp-sub-gate", "a", input=1))
            told = Told()
            waiting = asyncio.create_task(
                agents.do(tools.WaitAgentArguments(["a"], timeout_seconds=50), told)
            )
            while not told:
                await asyncio.sleep(0)
            assert [task for task in asyncio.all_tasks() if "News" in repr(task.get_coro())]
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert not [task for task in asyncio.all_tasks() if "News" in repr(task.get_coro())]
            assert (await (await runtime.agent("/here/a")).info()).status == "running"

    asyncio.run(test())


def test_a_wait_ends_with_the_runtime() -> None:
    async def test() -> None:
        async with subagents() as (runtime, agents):
            await do(agents, tools.SpawnAgentArguments("mcp-sub-gate", "a", input=1))
            told = Told()
            waiting = asyncio.create_task(
                agents.do(tools.WaitAgentArguments(["a"], timeout_seconds=50), told)
            )
            while not told:
                await asyncio.sleep(0)
            await runtime.close(0)
            (error,) = await asyncio.gather(waiting, return_exceptions=True)
            assert isinstance(error, RuntimeClosing) or not error.timed_out

    asyncio.run(test())


def test_two_trees_know_nothing_of_each_other() -> None:
    async def test() -> None:
        async with subagents() as (runtime, here):
            there = SubAgents(runtime, THERE, KINDS)
            await do(here, tools.SpawnAgentArguments("mcp-sub-echo", "a", input=1))
            await do(there, tools.SpawnAgentArguments("mcp-sub-echo", "a", input=2))
            for agents, result in ((here, 1), (there, 2)):
                assert (await do(agents, tools.WaitAgentArguments(["a"]))).agents[
                    0
                ].last_run.result == result
                assert [each.agent for each in (await do(agents, tools.ListAgentsArguments())).agents] == [
                    "a"
                ]
            await do(here, tools.CloseAgentArguments("a"))
            assert (await do(there, tools.ListAgentsArguments())).agents != []

    asyncio.run(test())


def test_run_ids_of_two_trees_do_not_meet() -> None:
    async def test() -> None:
        async with subagents() as (runtime, here):
            there = SubAgents(runtime, THERE, KINDS)
            for agents in (here, there):
                await do(agents, tools.SpawnAgentArguments("mcp-sub-echo", "a"))
                for _ in range(2):  # given twice, it is the same task
                    started = await do(agents, tools.FollowupTaskArguments("a", 1, run_id="mine"))
                    assert started.run_id == "mine"
            events = [event async for event in runtime.events(since=0, follow=False)]
            assert sum(event.type == "run.accepted" for event in events) == 2
            await do(here, tools.SpawnAgentArguments("mcp-sub-echo", "b"))
            with pytest.raises(RunIdTaken):
                await do(here, tools.FollowupTaskArguments("b", 1, run_id="mine"))

    asyncio.run(test())


def test_clients_spawn_the_kinds_that_they_are_offered() -> None:
    async def test() -> None:
        async with subagents() as (_, agents):
            with pytest.raises(UnknownKind):
                await do(agents, tools.SpawnAgentArguments("mcp-sub-hidden", "a"))
            await do(agents, tools.SpawnAgentArguments("mcp-sub-echo", "a"))
            with pytest.raises(PathTaken):
                await do(agents, tools.SpawnAgentArguments("mcp-sub-echo", "a"))

    asyncio.run(test())


def test_an_interrupted_agent_stays_and_a_closed_one_gives_its_name_back() -> None:
    async def test() -> None:
        async with subagents() as (_, agents):
            await do(agents, tools.SpawnAgentArguments("mcp-sub-gate", "a", input=1))
            assert (await do(agents, tools.InterruptAgentArguments("a"))).interrupted
            (report,) = (await do(agents, tools.WaitAgentArguments(["a"]))).agents
            assert report.last_run.status == "interrupted"
            assert not (await do(agents, tools.InterruptAgentArguments("a"))).interrupted
            assert (await do(agents, tools.CloseAgentArguments("a"))).previous_status == "idle"
            assert (await do(agents, tools.ListAgentsArguments(status="closed"))).agents[0].agent == "a"
            await do(agents, tools.SpawnAgentArguments("mcp-sub-echo", "a"))

    asyncio.run(test())


def test_long_lists_come_in_pages() -> None:
    async def test() -> None:
        async with subagents() as (_, agents):
            names = [f"a{n}" for n in range(5)]
            for name in names:
                await do(agents, tools.SpawnAgentArguments("mcp-sub-echo", name))
            found: list[str] = []
            after = None
            while True:
                page = await do(agents, tools.ListAgentsArguments(limit=2, after=after))
                found += [each.agent for each in page.agents]
                after = page.next
                if after is None:
                    break
            assert found == names

    asyncio.run(test())


def test_a_tree_is_closed_whole_with_work_under_way() -> None:
    async def test() -> None:
        async with subagents() as (runtime, agents):
            for name in ("a", "a/b", "c/d", "c/d/e"):
                await do(agents, tools.SpawnAgentArguments("mcp-sub-gate", name, input=1))
            assert await close_tree(runtime, "/here") == 2
            assert await runtime.list("/here") == []
            assert len(await runtime.list("/here", status="closed")) == 4

    asyncio.run(test())


def test_trees_of_sessions_that_were_cut_off_are_closed_and_no_others() -> None:
    key = bytes(32)
    cut_off = [Trees(None, key).of(session).path for session in ("one", "two", "three")]
    of_others = [
        f"/{SESSION}notes",
        f"/{SESSION}notes-{'0' * 24}",
        Trees(None, bytes(31) + b"x").of("one").path,  # of another store
        cut_off[0][:-1] + ("0" if cut_off[0][-1] != "0" else "1"),
        f"/{SESSION}zzz",
        "/team",
        "/a",
    ]

    async def test() -> None:
        async with subagents() as (runtime, _):
            for tree in (*cut_off, *of_others):
                for name in ("a", "a/b", "z" * 64):
                    await runtime.spawn(echo, f"{tree}/{name}")
            await close_orphans(runtime, Trees(None, key))
            left = {f"/{info.path.split('/')[1]}" for info in await runtime.list()}
            assert left == set(of_others)
            assert len(await runtime.list()) == 3 * len(of_others)

    asyncio.run(test())
