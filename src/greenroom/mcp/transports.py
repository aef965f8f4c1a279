"""The two ways in which a client reaches the server: this process's stdin and stdout, and HTTP.

On stdio the protocol has stdout for itself: whatever else writes there (an agent that prints, a program
that it starts) writes to stderr, and reading stdin gives nothing. Over HTTP a client needs the token, and
requests are refused that name a foreign host or come from a foreign web page.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from hmac import compare_digest
from io import TextIOWrapper
from typing import Any, TypeAlias

import anyio
import uvicorn
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from msgspec import Struct

from ..server.shares import OWNER
from ..server.wire import bounded, connection_of
from .server import SubAgentServer

PATH = "/mcp"

SESSION_IDLE_SECONDS = 1800.0
"""Seconds without a request after which a session over HTTP is over."""

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Transport(Struct, frozen=True):
    """The former stdin and stdout of this process."""

    incoming: int
    outgoing: int

    @classmethod
    def taken(cls) -> "Transport":
        """Take them for the protocol; from then on stdin is empty and stdout is stderr."""
        sys.stdout.flush()
        wire = cls(os.dup(0), os.dup(1))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return wire


async def serve_stdio(server: SubAgentServer, wire: Transport) -> None:
    """Serve the client at the other end of `wire` until it hangs up."""
    # closefd: a thread of the SDK may be reading still when the loop has ended
    incoming = os.fdopen(wire.incoming, "rb", closefd=False)
    outgoing = os.fdopen(wire.outgoing, "wb", closefd=False)
    lines = anyio.wrap_file(TextIOWrapper(incoming, encoding="utf-8", errors="replace"))
    out = anyio.wrap_file(TextIOWrapper(outgoing, encoding="utf-8"))
    async with stdio_server(lines, out) as (read, write):
        await server.protocol.run(read, write, server.protocol.create_initialization_options())


# HTTP


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises `OSError`."""
    (family, kind, number, _, address), *_ = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listening = socket.socket(family, kind, number)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)  # what connects from now on waits for the server, and is not refused
    except OSError:
        listening.close()
        raise
    return listening


def security(host: str, port: int, names: tuple[str, ...]) -> TransportSecuritySettings:
    """Which Host and Origin headers are let in: those of this machine, of `host`, and `names`."""
    known = [
        f"[{name}]" if ":" in name else name for name in dict.fromkeys((*LOOPBACK_NAMES, host, *names))
    ]
    hosts = [name for each in known for name in (each, f"{each}:{port}")]
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in hosts]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)


class WithToken:
    """An application that only those reach who have the token; with None, everybody."""

    def __init__(self, app: App, token: str | None) -> None:
        self._app = app
        self._expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if self._expected is not None and not compare_digest(given, self._expected):
                await _refuse(send)
                return
            connection = connection_of(scope)
            if connection is not None:
                connection.let_in(OWNER)
        await self._app(scope, receive, send)


async def _refuse(send: Send) -> None:
    headers = [(b"www-authenticate", b"Bearer"), (b"content-type", b"text/plain")]
    headers.append((b"connection", b"close"))  # its body is not waited for
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": b"This needs the server's bearer token.\n"})


class _McpServer(uvicorn.Server):
    """Leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    server: SubAgentServer,
    listening: socket.socket,
    settings: TransportSecuritySettings,
    token: str | None,
    stop: asyncio.Event,
) -> None:
    """Serve clients over HTTP until `stop`."""
    app: App = server.protocol.streamable_http_app(
        streamable_http_path=PATH, transport_security=settings, session_idle_timeout=SESSION_IDLE_SECONDS
    )
    config = uvicorn.Config(
        WithToken(app, token),
        http=bounded(),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,  # seconds: streams that clients hold open do not end by themselves
        lifespan="on",
    )
    http = _McpServer(config)
    serving = asyncio.create_task(http.serve(sockets=[listening]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        http.should_exit = True
        await serving
    finally:
        stopping.cancel()
        serving.cancel()
