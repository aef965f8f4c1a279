"""The server and the official client in one process: what is said of results and errors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client, MCPError

from greenroom import AsyncRuntime, Turn, agent
from greenroom.actors.agent.kind import kind_of
from greenroom.mcp.server import SubAgentServer
from greenroom.mcp.trees import Trees


@agent(name="mcp-echo")
async def echo(turn: Turn) -> Any:
    turn.state["turns"] = turn.state.get("turns", 0) + 1
    return {"input": turn.input, "turns": turn.state["turns"]}


@agent(name="mcp-fails")
async def fails(turn: Turn) -> None:
    raise ValueError("it went wrong")


@agent(name="mcp-odd")
async def odd(turn: Turn) -> Any:
    return {"set": {1}, "nan": float("nan"), "plain": 1}


@agent(name="mcp-chief")
async def chief(turn: Turn) -> Any:
    helper = await turn.spawn(echo, "helper")
    return (await (await helper.followup("from the chief")))["input"]


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    kinds = [kind_of(kind) for kind in (echo, fails, odd, chief)]
    async with asyncio.timeout(60), AsyncRuntime() as runtime:
        server = SubAgentServer(runtime, kinds, Trees(None), slots=8)
        async with Client(server.protocol) as client:
            yield client
        await server.finish()
        assert await runtime.list() == []  # the session is over, and so is its tree


def test_errors_say_what_happened_in_the_words_of_the_tools() -> None:
    async def test() -> None:
        async with connected() as client:

            async def said(tool: str, **arguments: object) -> str:
                done = await client.call_tool(tool, arguments)
                assert done.is_error
                text: str = done.content[0].text  # type: ignore[union-attr]
                assert "mcp-session-" not in text  # trees are nobody's business
                return text

            await client.call_tool("spawn_agent", {"kind": "mcp-fails", "name": "a", "input": 1})
            waited = await client.call_tool("wait_agent", {"agents": ["a"]})
            last_run = waited.structured_content["agents"][0]["last_run"]
            error = last_run["error"]
            assert last_run["error_type"] == "ValueError"
            assert error.startswith("ValueError: it went wrong")
            assert "'a' already" in await said("spawn_agent", kind="mcp-echo", name="a")
            assert "no kind 'nope'" in await said("spawn_agent", kind="nope", name="b")
            assert "no agent 'b'" in await said("send_message", agent="b", message=1)
            assert "is not the name of an agent" in await said("close_agent", agent="/else/where")
            assert "`agent`" in await said("close_agent")
            assert "timeout_seconds" in await said("wait_agent", timeout_seconds=10_000)
            await client.call_tool("close_agent", {"agent": "a"})
            assert "'a' is closed" in await said("followup_task", agent="a", input=1)
            with pytest.raises(MCPError):
                await client.call_tool("no_such_tool", {})

    asyncio.run(test())


def test_results_that_json_cannot_hold_are_described() -> None:
    async def test() -> None:
        async with connected() as client:
            await client.call_tool("spawn_agent", {"kind": "mcp-odd", "name": "a", "input": 1})
            waited = await client.call_tool("wait_agent", {})
            last = waited.structured_content["agents"][0]["last_run"]
            assert last["result"]["plain"] == 1
            assert last["result"]["set"] == {"type": "set", "text": "{1}"}
            assert last["described"] == ["/result/set", "/result/nan"]

    asyncio.run(test())


def test_agents_of_agents_are_reached_below_them() -> None:
    async def test() -> None:
        async with connected() as client:
            await client.call_tool("spawn_agent", {"kind": "mcp-chief", "name": "chief", "input": 1})
            await client.call_tool("wait_agent", {})
            listed = await client.call_tool("list_agents", {})
            names = [agent["agent"] for agent in listed.structured_content["agents"]]
            assert names == ["chief", "chief/helper"]
            await client.call_tool("followup_task", {"agent": "chief/helper", "input": 2})
            waited = await client.call_tool("wait_agent", {"agents": ["chief/helper"]})
            assert waited.structured_content["agents"][0]["last_run"]["result"]["turns"] == 2

    asyncio.run(test())
