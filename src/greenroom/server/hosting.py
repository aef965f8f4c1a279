"""One server's life: the socket, the runtime, uvicorn, and an end in bounded time.

The runtime runs on this loop, and so do the agents' coroutines; what they do with the loop, requests feel.
A server that is stopped takes no new connections and no new work, and lets turns end for the drain time.
Then it tells the streams' clients the last events, and ends.
"""

import asyncio
import contextlib
import gc
import logging
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from msgspec import Struct

from .. import AsyncRuntime
from .access import Keyring
from .app import build
from .middleware import ServerLimits
from .service import Service
from .streams import Streams
from .wire import bounded

LAST_ANSWERS = 3.0
"""Seconds that answers under way get once the runtime is closed."""
UNREAD_SECONDS = 60.0
"""Seconds after which a connection is given up whose client does not read what it is sent."""
FILES = 65_536
"""Open files that are asked for: each client is one."""


class Hosting(Struct, frozen=True, kw_only=True):
    """How a server is to be run."""

    token: str | None
    limits: ServerLimits
    streams: int = 2_000
    drain: float = 10.0
    kinds: Sequence[str] = ()


class _ApiServer(uvicorn.Server):
    """Signals are the command's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that clients can connect to from now on. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # TCP by name: without it asyncio leaves Nagle's algorithm on, and every second answer takes 40 ms
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(AttributeError, OSError):  # where this is unknown, the kernel decides
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1000))
        listening.bind((host.strip("[]"), port))
        listening.listen(2_048)
    except OSError:
        listening.close()
        raise
    return listening


async def host(
    runtime: AsyncRuntime,
    listening: socket.socket,
    hosting: Hosting,
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """Start the runtime and serve it until `stop` is set, then close it. `ready` is called in between.

    Raises what the runtime raises, also if it fails while it is served.
    """
    _allow_files()
    streams = Streams(runtime, most=hosting.streams)
    service = Service(runtime, streams, Keyring(hosting.token), hosting.kinds)
    app = build(service, hosting.limits)
    await runtime.start()
    tasks: list[asyncio.Task[Any]] = []
    server = _ApiServer(_config(app))
    try:
        await streams.begin()
        tasks.append(asyncio.create_task(streams.run()))
        tasks.append(asyncio.create_task(server.serve([listening])))
        tasks.append(asyncio.create_task(stop.wait()))
        _keep_pauses_short()
        ready()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        service.closing = True
        for one in getattr(server, "servers", ()):
            one.close()  # no new connections; those that there are see the runtime close
    finally:
        try:
            await runtime.close(hosting.drain)
        finally:
            server.should_exit = True
            # clients that do not read are cut off by it, each with a traceback
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            failures = [await _end(task) for task in tasks[:2]]
            for task in tasks[2:]:
                task.cancel()
    for failure in failures:
        if failure is not None:
            raise failure


async def _end(task: "asyncio.Task[Any]") -> BaseException | None:
    """Wait for the end of what is ending; its error."""
    await asyncio.wait({task})
    return None if task.cancelled() else task.exception()


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=bounded(),
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(LAST_ANSWERS),
    )


def _allow_files() -> None:
    """Allow as many open files as the system lets this process have, up to what a server needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _keep_pauses_short() -> None:
    """The collector of cycles holds all requests up, and so does a thread that will not let go of Python.

    Collections of everything took 70 to 270 ms here, for what is made once and never goes: it is set
    aside, and they come seldom. The writer's thread had Python for up to 5 ms at a time, several times a
    request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000, 5, 1_000)
    sys.setswitchinterval(0.0005)
