"""`greenroom mcp --http`, driven by the official client."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from greenroom import Runtime
from greenroom.mcp.transports import security

ROOT = Path(__file__).parents[2]
DEADLINE = 600.0
"""Seconds after which a test gives up."""

Serve = Callable[..., Any]

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"accept": "application/json, text/event-stream"}


async def names(client: Any) -> list[str]:
    listed = await client.call_tool("list_agents", {})
    return [agent["agent"] for agent in listed.structured_content["agents"]]


def test_clients_have_their_work_done_each_in_a_tree_of_its_own(serve: Serve, tmp_path: Path) -> None:
    store = tmp_path / "team.db"
    server = serve("--store", store)

    async def test() -> None:
        told = asyncio.Event()

        async def tell(done: float, of: float | None, said: str | None) -> None:
            told.set()

        async with server.client(mode="legacy") as one, server.client(mode="auto") as two:
            # the newest protocol has no sessions over HTTP: both begin one
            assert two.session.protocol_version == "2025-11-25"
            gate = tmp_path / "gate"
            await one.call_tool("spawn_agent", {"kind": "mcp-gate", "name": "a", "input": str(gate)})
            await two.call_tool("spawn_agent", {"kind": "mcp-echo", "name": "a", "input": "two"})
            waited = await two.call_tool("wait_agent", {})
            assert waited.structured_content["agents"][0]["last_run"]["result"]["input"] == "two"
            assert await names(one) == await names(two) == ["a"]
            await two.call_tool("close_agent", {"agent": "a"})
            assert await names(one) == ["a"]
            waiting = asyncio.create_task(one.call_tool("wait_agent", {}, progress_callback=tell))
            await told.wait()
            gate.touch()
            waited = await waiting
            assert waited.structured_content["agents"][0]["last_run"]["result"] == "passed"

    asyncio.run(test())
    assert stat.S_IMODE((tmp_path / "team.db.token").stat().st_mode) == 0o600
    assert server.stop() == 0
    with Runtime(store) as runtime:  # the sessions are over, and so are their trees
        assert runtime.list() == []
        assert len(runtime.list(status="closed")) == 2


def test_a_session_that_its_client_ends_is_closed_while_others_go_on(serve: Serve) -> None:
    server = serve()

    async def test() -> None:
        async with server.client(mode="legacy") as stays:
            await stays.call_tool("spawn_agent", {"kind": "mcp-echo", "name": "a", "input": 1})
            async with httpx2.AsyncClient(headers={**server.headers, **ACCEPT}) as http:
                begun = await http.post(server.url, json=INITIALIZE)
                session = {"mcp-session-id": begun.headers["mcp-session-id"]}
                note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
                await http.post(server.url, json=note, headers=session)
                spawn = {"kind": "mcp-gate", "name": "b", "input": "/nowhere"}
                call = {
                    "jsonrpc": "2.0",
                    "id": 2,
                    "method": "tools/call",
                    "params": {"name": "spawn_agent", "arguments": spawn},
                }
                answer = await http.post(server.url, json=call, headers=session)
                assert '"agent\\":\\"b' in answer.text.replace(" ", "")
                assert (await http.delete(server.url, headers=session)).status_code == 200
                assert (await http.post(server.url, json=call, headers=session)).status_code == 404
            assert await names(stays) == ["a"]

    asyncio.run(test())
    assert server.stop() == 0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, serving: Any) -> Iterator[Any]:
    """A server with one tree for all."""
    with serving(tmp_path_factory.mktemp("shared"), "--tree", "main") as server:
        yield server


def test_a_shared_tree_is_served_in_both_eras(shared: Any) -> None:
    server = shared

    async def test() -> None:
        async with server.client(mode="legacy") as one, server.client(mode="auto") as two:
            assert two.session.protocol_version == "2026-07-28"
            await one.call_tool("spawn_agent", {"kind": "mcp-echo", "name": "a", "input": "one"})
            waited = await two.call_tool("wait_agent", {"agents": ["a"]})
            assert waited.structured_content["agents"][0]["last_run"]["result"]["input"] == "one"

    asyncio.run(test())


def test_who_has_no_token_or_comes_from_elsewhere_is_refused(shared: Any) -> None:
    server = shared

    async def status(**headers: str) -> int:
        async with httpx2.AsyncClient() as http:
            answer = await http.post(server.url, json=INITIALIZE, headers={**ACCEPT, **headers})
            return answer.status_code

    async def test() -> None:
        token = server.headers["authorization"]
        assert await status() == 401
        assert await status(authorization="Bearer wrong") == 401
        assert await status(authorization=token.removesuffix(token[-1])) == 401
        assert await status(authorization=token, host="evil.example") == 421
        assert await status(authorization=token, origin="http://evil.example") == 403
        assert await status(authorization=token) == 200

    asyncio.run(test())


def test_it_says_where_it_is_only_when_it_serves(team: Path, tmp_path: Path) -> None:
    with Runtime(tmp_path / "team.db"):
        refused = subprocess.run(
            [
                sys.executable,
                "-m",
                "greenroom",
                "mcp",
                team,
                "--store",
                tmp_path / "team.db",
                "--http",
                "0",
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    assert refused.returncode == 1
    assert "has it open" in refused.stderr
    assert "Serving" not in refused.stderr


def test_a_refused_request_is_hung_up_on_whatever_is_to_come_of_its_body(shared: Any) -> None:
    port = int(shared.url.split(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n{")
        answer = b""
        while part := client.recv(65_536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("host", "shown"), [("::1", "[::1]"), ("192.0.2.7", "192.0.2.7"), ("127.0.0.1", None)]
)
def test_names_that_are_let_in_are_the_machines_and_those_given(host: str, shown: str | None) -> None:
    settings = security(host, 8322, ("agents.example",))
    for name in ("localhost", "127.0.0.1", "[::1]", "agents.example", *([shown] if shown else [])):
        assert f"{name}:8322" in settings.allowed_hosts
        assert f"https://{name}:8322" in settings.allowed_origins
    assert "evil.example:8322" not in settings.allowed_hosts
