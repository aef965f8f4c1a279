"""Kinds in a file, `greenroom mcp` as a process of its own, and the official client to it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

ROOT = Path(__file__).parents[2]
DEADLINE = 600.0
"""Seconds after which a test gives up; nothing takes a tenth of it."""

TEAM = '''
import asyncio
import os
import subprocess
import sys
from pathlib import Path

from greenroom import agent

print("printed while the file is loaded")

@agent(name="mcp-echo")
async def echo(turn):
    """Says back what it is told,
    with the messages it got.

    This is not for the client.
    """
    turn.state["turns"] = turn.state.get("turns", 0) + 1
    return {"input": turn.input, "inbox": [m.body for m in turn.inbox], "turns": turn.state["turns"]}

@agent(name="mcp-noise")
def noise(turn):
    """Writes to stdout in every way, and reads stdin."""
    print("printed in a turn", flush=True)
    sys.__stdout__.write("written past the redirection\\n")
    sys.__stdout__.flush()
    os.write(1, b"written to the descriptor\\n")
    subprocess.run(["echo", "written by a program"], check=True)
    try:
        return input()
    except EOFError:
        return "nothing to read"

@agent(name="mcp-gate")
async def gate(turn):
    """Tells its progress and waits until a file is there."""
    turn.emit("waiting", {"for": turn.input})
    while not Path(turn.input).exists():
        await asyncio.sleep(0.01)
    return "passed"

@agent(name="mcp-fails")
async def fails(turn):
    raise ValueError("it went wrong")

@agent(name="mcp-odd")
async def odd(turn):
    return {"set": {1}, "nan": float("nan"), "plain": 1}

@agent(name="mcp-chief")
async def chief(turn):
    """Has a helper."""
    helper = await turn.spawn(echo, "helper")
    return (await (await helper.followup("from the chief")))["input"]
'''


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A file with kinds."""
    file = tmp_path / "team.py"
    file.write_text(TEAM)
    return file


Connect = Callable[..., Any]


@pytest.fixture
def stdio(team: Path) -> Connect:
    """`async with stdio(*arguments, **of_the_client) as client`: a process and its client."""

    @asynccontextmanager
    async def connect(*arguments: object, **options: Any) -> AsyncIterator[Client]:
        command = ["-m", "greenroom", "mcp", str(team), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        server = StdioServerParameters(command=sys.executable, args=command, env=environment)
        async with asyncio.timeout(DEADLINE), Client(server, **options) as client:
            yield client

    return connect


class Server(subprocess.Popen[str]):
    """`greenroom mcp … --http 0` as a process of its own."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "greenroom", "mcp", *map(str, arguments), "--http", "127.0.0.1:0"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        super().__init__(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.stderr is not None
        self.token = self.url = ""
        for line in self.stderr:
            if line.startswith("Serving MCP at "):
                self.url = line.split()[-1]
            if line.startswith(("Clients need the token", "Everybody")):
                told = line.split()[-1]
                self.token = Path(told).read_text().strip() if "/" in told else told
                break

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Client]:
        http = httpx2.AsyncClient(headers=self.headers, timeout=DEADLINE)
        transport = streamable_http_client(self.url, http_client=http)
        async with asyncio.timeout(DEADLINE), http, Client(transport, **options) as client:
            yield client

    def stop(self) -> int:
        """Have it end; its exit status."""
        self.send_signal(signal.SIGTERM)
        self.communicate(timeout=DEADLINE)
        return self.returncode


@pytest.fixture(scope="module")
def serving() -> Callable[..., AbstractContextManager[Server]]:
    """`with serving(folder, *arguments) as server`: over HTTP; killed if it is not stopped."""

    @contextmanager
    def serving(folder: Path, *arguments: object) -> Iterator[Server]:
        file = folder / "team.py"
        file.write_text(TEAM)
        server = Server(file, *arguments)
        try:
            yield server
        finally:
            if server.poll() is None:
                server.kill()
                server.communicate()

    return serving


@pytest.fixture
def serve(tmp_path: Path, serving: Any) -> Iterator[Callable[..., Server]]:
    """Start servers over HTTP, for one test."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(serving(tmp_path, *arguments))
