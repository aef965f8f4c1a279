"""A server as a process of its own, and clients that cost little: what `bench_http` asks with."""

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from .check import WrongResult, equal

KINDS = Path(__file__).parents[1] / "http_kinds.py"


class Server(Struct):
    """A running `greenroom serve`."""

    process: Process
    host: str
    port: int
    token: str

    def resident_kib(self) -> int:
        """What the server has in memory now."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        """A request as it is sent."""
        data = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if data else ""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\n{kind}Content-Length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data


@contextlib.asynccontextmanager
async def served(store: Path, *options: str) -> AsyncIterator[Server]:
    """A server on a free port; it has to end with 0."""
    arguments = ["-m", "greenroom", "serve", str(KINDS), "--store", str(store), "--port", "0", "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, "--rate", "1000000", *options, stdout=PIPE
    )
    try:
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        host, _, port = said["url"].removeprefix("http://").rpartition(":")
        yield Server(process, host, int(port), Path(said["token_file"]).read_text().strip())
        process.terminate()
        equal("the server's exit status", await process.wait(), 0)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Connection:
    """One that is kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, server: Server) -> "Connection":
        return cls(*await asyncio.open_connection(server.host, server.port))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    async def listen(self, request: bytes) -> None:
        """Begin to read a stream."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise WrongResult(f"a stream was refused: {head[:100]!r}")

    async def numbers(self) -> AsyncIterator[int]:
        """The numbers of the events of a stream, as they come."""
        while True:
            line = await self._reader.readline()
            if line.startswith(b"id: "):
                yield int(line[4:])

    def close(self) -> None:
        self._writer.close()
