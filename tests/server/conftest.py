"""Servers as processes of their own, and clients for them."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

ROOT = Path(__file__).parents[2]
KINDS = Path(__file__).with_name("served.py")
DEADLINE = 600.0
"""Seconds after which a test gives up; nothing takes a tenth of it."""

T = TypeVar("T")


class Served:
    """`greenroom serve`, and how to ask it."""

    def __init__(
        self, store: Path, *options: str, files: tuple[Path, ...] = (KINDS,), port: int = 0
    ) -> None:
        command = [sys.executable, "-m", "greenroom", "serve", *map(str, files), "--store", str(store)]
        command += ["--json", "--port", str(port), *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self.log = store.with_name(f"{store.name}-{time.monotonic_ns()}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.kill()
            raise AssertionError(f"the server did not start: {self.log.read_text()}")
        self.said: dict[str, Any] = json.loads(line)
        self.url: str = self.said["url"]
        self.port = int(self.url.rpartition(":")[2])
        file = self.said["token_file"]
        self.token = Path(file).read_text().strip() if file else self.said.get("token", "")
        self.clients: list[httpx.Client] = []

    def client(self, token: str | None = None, **headers: str) -> httpx.Client:
        """A client with the main token, or another one; "" is none."""
        token = self.token if token is None else token
        given = {"authorization": f"Bearer {token}"} if token else {}
        self.clients.append(
            httpx.Client(base_url=self.url, headers={**given, **headers}, timeout=DEADLINE, verify=False)
        )
        return self.clients[-1]

    def logged(self) -> str:
        """What it has said on stderr."""
        return self.log.read_text()

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Tell it to stop, and wait; its exit status."""
        self.process.send_signal(signum)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """Have it over with."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        for client in getattr(self, "clients", ()):
            client.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start servers of the test's own, on one store unless told otherwise."""
    started: list[Served] = []

    def serve(*options: str, store: Path | None = None, **more: Any) -> Served:
        started.append(Served(store or tmp_path / "agents.db", *options, **more))
        return started[-1]

    yield serve
    for one in started:
        one.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests that leave it as it was, but for agents in trees of their own."""
    served = Served(tmp_path_factory.mktemp("served") / "agents.db", "--rate", "100000")
    yield served
    try:
        assert served.stop() == 0, served.logged()
    finally:
        served.kill()


@pytest.fixture
def api(server: Served) -> Iterator[httpx.Client]:
    """A client of the common server, with the main token."""
    with server.client() as client:
        yield client


@pytest.fixture
def tree(request: pytest.FixtureRequest) -> str:
    """A tree of the test's own on the common server."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return f"/t{abs(hash(request.node.nodeid)) % 10**8}-{name}"[:60].rstrip("-")


def facts(api: httpx.Client) -> Any:
    """What was recorded, once nothing happens any more. Whatever is recorded is a commit, and an event."""
    deadline = time.monotonic() + DEADLINE
    while (
        api.get("/api/agents?status=starting").json()["agents"] or api.get("/api/stats").json()["unwritten"]
    ):
        assert time.monotonic() < deadline, "it does not come to rest"
    stats = api.get("/api/stats").json()
    return stats["agents"], stats["commits"], stats["server"]["events"], stats["server"]["last_event"]


def story(tell: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test of a coroutine, with a loop and a deadline of its own."""

    async def bounded(**given: Any) -> None:
        async with asyncio.timeout(DEADLINE):
            await tell(**given)

    def test(**given: Any) -> None:
        asyncio.run(bounded(**given))

    import functools
    import inspect

    functools.update_wrapper(test, tell)
    test.__signature__ = inspect.signature(tell)  # type: ignore[attr-defined]
    return test
