"""`greenroom mcp`: the kinds of files as sub-agents of an MCP client."""

import asyncio
import json
import logging
import os
import secrets
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from ..actors.agent.kind import Kind, kinds_of_module
from ..actors.face.async_runtime import AsyncRuntime
from ..errors import InvalidPath
from ..persistence.keys import read_key
from . import stores
from .extras import needs
from .loading import NoSuchKind, choose_kind, load_file, split_target
from .loops import run
from .program import leave
from .signals import ONE_PRESS, STOPPED
from .text import tell
from .tokens import make_token, token_file

if TYPE_CHECKING:
    from ..mcp.server import SubAgentServer
    from ..mcp.trees import Trees

log = logging.getLogger("greenroom")

DRAIN = 3.0
"""Seconds that turns under way get to end when the server does."""

MCP_PACKAGES = ("mcp", "mcp_types", "anyio", "uvicorn", "httptools")
DEFAULT_PORT = 8322


@click.command(short_help="Serve the agents of files to MCP clients, as sub-agents.")
@click.argument("targets", metavar="FILE[:KIND]…", nargs=-1, required=True)
@click.option(
    "--store",
    metavar="DB",
    default=stores.MEMORY,
    help="Keep the agents in this file.  [default: nothing is kept]",
)
@click.option(
    "--tree",
    metavar="NAME",
    help="The tree that all clients share, and find again.  [default: one for each session]",
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Serve streamable HTTP there, at /mcp; a PORT alone is of 127.0.0.1.  [default: stdio]",
)
@click.option("--slots", type=click.IntRange(min=1), default=8, show_default=True, metavar="N",
              help="How many agents may be at work at a time.")  # fmt: skip
@click.option("--residents", type=click.IntRange(min=1), default=64, show_default=True, metavar="N",
              help="How many agents may be in memory.")  # fmt: skip
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="With --http: a name by which clients may reach it, besides HOST and loopback's. Repeatable.",
)
@click.option(
    "--no-token",
    is_flag=True,
    help="With --http: let in everybody who can connect; on a loopback address only.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="With --http: one object on stdout: url, and token_file or token.",
)
def mcp(
    targets: tuple[str, ...],
    store: str,
    tree: str | None,
    http: str | None,
    slots: int,
    residents: int,
    names: tuple[str, ...],
    no_token: bool,
    as_json: bool,
) -> None:
    """Serve the agents of files to MCP clients, as durable, bounded sub-agents.

    FILE is Python with kinds (@agent); a client may spawn all of them, or those named by KIND. Its tools
    are spawn_agent, send_message, followup_task, wait_agent, interrupt_agent, list_agents, close_agent.

    Each client session has a tree of its own, which no other reaches and which is closed when the session
    ends. With --tree NAME all sessions share the tree /NAME, and with --store find it again after a
    restart: work that was cut off begins again.

    On stdio, stdout carries the protocol alone: what agents print goes to stderr. Over HTTP a client needs
    the bearer token in DB.token, which is made at the first start; without --store it is made anew at each
    and shown.

    \b
    Examples
      greenroom mcp team.py
      greenroom mcp team.py --store team.db --tree main
      greenroom mcp team.py:chief --http 8322
      claude mcp add team -- greenroom mcp /path/to/team.py --store /path/to/team.db

    \b
    Exit status
      0    the client hung up, or it was told to stop
      1    it could not be started, or not go on
      2    wrong usage
      130  a second signal cut the end short
    """
    with needs("mcp", *MCP_PACKAGES):
        from ..mcp import transports
        from ..mcp.trees import Trees
    try:
        trees = Trees(tree)
    except InvalidPath as error:
        raise click.BadParameter(str(error), param_hint="--tree") from error
    if http is None and (names or no_token or as_json):
        raise click.UsageError("--allow-host, --no-token and --json are for --http.")
    if http is None:
        wire = transports.Transport.taken()  # before anything of the user's is loaded, which may print
        serve: Serve = lambda server, stop: _until(stop, transports.serve_stdio(server, wire))  # noqa: E731
        kinds = _kinds(targets)
    else:
        kinds = _kinds(targets)
        serve = _over_http(http, store, names, with_token=not no_token, as_json=as_json)
    runtime = AsyncRuntime(store, slots=slots, residents=residents)
    run(_serve(runtime, store, kinds, trees, slots, serve))
    leave(0)  # a thread may be reading from a client that says nothing


Serve = Callable[["SubAgentServer", asyncio.Event], Coroutine[Any, Any, None]]


def _kinds(targets: tuple[str, ...]) -> list[Kind]:
    """The kinds that clients may spawn."""
    found: dict[str, Kind] = {}
    for target in targets:
        file, wanted = split_target(target)
        module = load_file(file)
        kinds = kinds_of_module(module) if wanted is None else [choose_kind(module, file, wanted)]
        if not kinds:
            raise NoSuchKind(f"{file} holds no kind: decorate a function or a class with @agent.")
        found |= {kind.name: kind for kind in kinds}
    return list(found.values())


def _over_http(http: str, store: str, names: tuple[str, ...], *, with_token: bool, as_json: bool) -> Serve:
    from ..mcp import transports

    host, port = _address(http)
    if not with_token and host not in transports.LOOPBACK_NAMES:
        raise click.UsageError(f"--no-token is for loopback addresses; others than you can reach {host}.")
    file = token_file(store) if with_token and store != stores.MEMORY else None
    token = make_token(file) if file else secrets.token_urlsafe(32) if with_token else None
    try:
        listening = transports.bound(host, port)
    except OSError as error:
        raise click.ClickException(f"it cannot listen at {http}: {error.strerror or error}.") from error
    port = listening.getsockname()[1]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{transports.PATH}"
    said = {"url": url, "token_file": str(file) if file else None, "token": None if file else token}
    settings = transports.security(host, port, names)

    async def serve(server: "SubAgentServer", stop: asyncio.Event) -> None:
        """Say where it is only now: the store is open, and a signal ends it in order."""
        _tell_where(said, as_json=as_json)
        await transports.serve_http(server, listening, settings, token, stop)

    return serve


def _tell_where(said: dict[str, str | None], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({name: value for name, value in said.items() if value is not None}))
        return
    tell(f"Serving MCP at {said['url']}", err=True)
    file, token = said["token_file"], said["token"]
    secret = f"Clients need the token {f'in {file}' if file else token}"
    tell(secret if file or token else "Everybody who can connect is let in", err=True)


def _address(http: str) -> tuple[str, int]:
    host, _, port = http.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(
            f"{http!r} is not HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}", param_hint="--http"
        )
    return host, int(port)


async def _until(stop: asyncio.Event, serving: Coroutine[Any, Any, None]) -> None:
    """Do it until it ends, or leave it when told to stop: a thread of it may wait for ever."""
    tasks = {asyncio.create_task(serving), asyncio.create_task(stop.wait())}
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    for task in left:
        task.cancel()


async def _serve(
    runtime: AsyncRuntime, store: str, kinds: list[Kind], trees: "Trees", slots: int, serve: Serve
) -> None:
    from ..mcp.server import SubAgentServer
    from ..mcp.subagents import close_orphans

    stop = asyncio.Event()
    _on_signals(stop)
    await runtime.start()
    try:
        if store != stores.MEMORY:
            trees.key = read_key(store)
            await close_orphans(runtime, trees)
        server = SubAgentServer(runtime, kinds, trees, slots=slots)
        try:
            await serve(server, stop)
        finally:
            await server.finish()
    finally:
        await runtime.close(DRAIN)


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    first = 0.0

    def told() -> None:
        nonlocal first
        if not stop.is_set():
            first = loop.time()
            stop.set()
        elif loop.time() - first > ONE_PRESS:
            os._exit(STOPPED)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:
            loop.add_signal_handler(signum, told)
