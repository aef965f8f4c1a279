"""`greenroom mcp` over stdio, driven by the official client."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenroom import Runtime, Turn, agent
from greenroom.mcp import tools

ROOT = Path(__file__).parents[2]
DEADLINE = 600.0

Connect = Callable[..., Any]

ERAS = {"legacy": "2025-11-25", "auto": "2026-07-28"}


@pytest.mark.parametrize("mode", ERAS)
def test_a_client_of_either_era_has_its_work_done(stdio: Connect, tmp_path: Path, mode: str) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def tell(done: float, of: float | None, said: str | None) -> None:
        told.append((done, of, said))

    async def test() -> None:
        async with stdio(mode=mode) as client:
            assert client.session.protocol_version == ERAS[mode]
            listed = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert list(listed) == list(tools.BY_NAME)
            kinds = listed["spawn_agent"].input_schema["properties"]["kind"]
            assert (
                "mcp-echo: Says back what it is told, with the messages it got.\n" in kinds["description"]
            )

            gate = tmp_path / "gate"
            done = await client.call_tool(
                "spawn_agent", {"kind": "mcp-gate", "name": "keeper", "input": str(gate)}
            )
            assert done.structured_content["agent"] == "keeper"
            early = await client.call_tool("wait_agent", {"timeout_seconds": 0.5}, progress_callback=tell)
            assert early.structured_content["timed_out"] is True
            gate.touch()
            late = await client.call_tool("wait_agent", {"agents": ["keeper"]})
            assert late.structured_content["agents"][0]["last_run"]["result"] == "passed"

            await client.call_tool("spawn_agent", {"kind": "mcp-echo", "name": "a"})
            await client.call_tool("send_message", {"agent": "a", "message": {"n": 1}})
            await client.call_tool("followup_task", {"agent": "a", "input": "hello"})
            waited = await client.call_tool("wait_agent", {"agents": ["a"]})
            (report,) = waited.structured_content["agents"]
            assert report["last_run"]["result"] == {"input": "hello", "inbox": [{"n": 1}], "turns": 1}
            assert report["last_run"]["described"] == []

            await client.call_tool("spawn_agent", {"kind": "mcp-noise", "name": "loud", "input": 1})
            waited = await client.call_tool("wait_agent", {"agents": ["loud"]})
            assert waited.structured_content["agents"][0]["last_run"]["result"] == "nothing to read"

    asyncio.run(test())
    assert told, "no progress was told"
    assert told[0][1] == 0.5
    assert "keeper" in str(told) or "0 of 1 agents at rest" in str(told)


def said_first(kind: str) -> str:
    """What a client says to have an agent of a kind spawned."""
    return (
        '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
        '"capabilities":{},"clientInfo":{"name":"test","version":"1"}}}\n'
        '{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
        '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"spawn_agent",'
        f'"arguments":{{"kind":"{kind}","name":"a","input":1}}}}}}\n'
    )


def told(team: Path, hello: str) -> "subprocess.Popen[str]":
    """A server of a file's kinds that was told this."""
    process = subprocess.Popen(
        [sys.executable, "-m", "greenroom", "mcp", str(team)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert process.stdin is not None
    process.stdin.write(hello)
    process.stdin.flush()
    return process


def test_every_line_on_stdout_is_json(team: Path) -> None:
    hello = (
        said_first("mcp-noise") + "this is no JSON\n"
        '{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"wait_agent","arguments":{}}}\n'
    )
    process = told(team, hello)
    assert process.stdout is not None
    lines = []
    while not all(any(f'"id":{number}' in line for line in lines) for number in (2, 3)):
        lines.append(process.stdout.readline())  # They are answered in any order.
    out, err = process.communicate(timeout=DEADLINE)
    assert out == ""
    assert process.returncode == 0
    assert all(line.startswith('{"jsonrpc":"2.0"') for line in lines)
    for said in ("printed while the file is loaded", "printed in a turn", "past the redirection",
                 "to the descriptor", "by a program"):  # fmt: skip
        assert said in err


def test_it_ends_though_a_turn_does_not(tmp_path: Path) -> None:
    team = tmp_path / "stubborn.py"
    team.write_text(
        "import asyncio\n"
        "from greenroom import agent\n\n"
        '@agent(name="mcp-stubborn")\n'
        "async def stubborn(turn):\n"
        "    print('at work', flush=True)\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.Event().wait()\n"
        "        except asyncio.CancelledError:\n"
        "            pass\n"
    )
    process = told(team, said_first("mcp-stubborn"))
    assert process.stderr is not None
    assert any("at work" in line for line in process.stderr)
    process.communicate(timeout=DEADLINE)  # the client hangs up
    assert process.returncode == 0


@pytest.mark.slow
def test_a_session_ends_with_its_tree_and_a_named_tree_stays(stdio: Connect, tmp_path: Path) -> None:
    store = tmp_path / "team.db"

    async def spawn(*arguments: object) -> None:
        async with stdio("--store", store, *arguments) as client:
            await client.call_tool("spawn_agent", {"kind": "mcp-echo", "name": "a", "input": 1})
            await client.call_tool("wait_agent", {})

    async def again() -> None:
        async with stdio("--store", store, "--tree", "main") as client:
            listed = await client.call_tool("list_agents", {})
            assert [agent["agent"] for agent in listed.structured_content["agents"]] == ["a"]
            await client.call_tool("followup_task", {"agent": "a", "input": 2})
            waited = await client.call_tool("wait_agent", {})
            assert waited.structured_content["agents"][0]["last_run"]["result"]["turns"] == 2

    asyncio.run(spawn())
    with Runtime(store) as runtime:
        assert runtime.list() == []
        assert len(runtime.list(status="closed")) == 1
    asyncio.run(spawn("--tree", "main"))
    asyncio.run(again())


@pytest.mark.slow
def test_work_of_a_named_tree_survives_a_killed_server(stdio: Connect, tmp_path: Path) -> None:
    store, gate = tmp_path / "team.db", tmp_path / "gate"

    async def killed() -> None:
        async with stdio("--store", store, "--tree", "main") as client:
            await client.call_tool("spawn_agent", {"kind": "mcp-gate", "name": "a", "input": str(gate)})
            await client.call_tool("wait_agent", {"timeout_seconds": 0})
            _kill(store)

    async def again() -> None:
        gate.touch()
        async with stdio("--store", store, "--tree", "main") as client:
            waited = await client.call_tool("wait_agent", {"agents": ["a"]})
            assert waited.structured_content["agents"][0]["last_run"]["result"] == "passed"

    asyncio.run(killed())
    asyncio.run(again())


@agent(name="mcp-stdio-own")
async def own(turn: Turn) -> Any:
    return turn.input


def test_the_trees_of_a_killed_servers_sessions_are_closed_and_a_users_own_is_not(
    stdio: Connect, tmp_path: Path
) -> None:
    """Whatever the user calls it."""
    store = tmp_path / "team.db"
    with Runtime(store) as runtime:
        runtime.spawn(own, "/mcp-session-notes/mine", input="kept").run.result(DEADLINE)

    async def killed() -> None:
        async with stdio("--store", store) as client:
            await client.call_tool("spawn_agent", {"kind": "mcp-gate", "name": "a", "input": "/nowhere"})
            _kill(store)

    async def again() -> None:
        async with stdio("--store", store) as client:
            await client.list_tools()

    asyncio.run(killed())
    with Runtime(store) as runtime:
        assert len(runtime.list()) == 2
    asyncio.run(again())
    with Runtime(store) as runtime:
        assert [info.path for info in runtime.list()] == ["/mcp-session-notes/mine"]
        assert len(runtime.list(status="closed")) == 1


def _kill(store: Path) -> None:
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and str(store) in _command(process):
            os.kill(int(process.name), signal.SIGKILL)


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
