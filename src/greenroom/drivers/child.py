"""A program under way for an agent: its three streams, its end, and the last of what it complained of.

The program itself belongs to the runtime's room of processes, which has it recorded before it works and
ended whatever happens; this is the session's end of its pipes.
"""

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from ..actors.agent.process_client import NoPermit, ProcessClient, ProcessHandle, link
from ..actors.models import AgentInfo
from ..errors import ProcessFailed
from ..types import Seconds
from .environment import Mask, Setting
from .pipes import Inlet, Outlet

TAIL = 4_096
"""Bytes of its standard error that are kept."""

ENDING: Seconds = 6.0
"""How long a session waits for its process to be gone: SIGTERM, 2 s, SIGKILL, and some. The runtime goes
on ending it after that."""

LAST_WORDS: Seconds = 1.0
"""How long, after nothing is left of it, its pipes may stay open. Only what escaped can hold them."""


class ChildProcess:
    """One process. Made by `start`."""

    def __init__(self, info: AgentInfo, folder: str, mask: Mask) -> None:
        self.path, self.folder, self.mask = info.path, folder, mask
        self.started: ProcessHandle
        self._stdin: Inlet
        self._stdout: Outlet
        self._stderr: Outlet
        self._tail: deque[bytes] = deque()
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, way: ProcessClient, info: AgentInfo, kind: str, setting: Setting, *, wait: bool
    ) -> "ChildProcess":
        """Start the kind's program for an agent; it is recorded and executed when this returns.

        Waits for a place if there is none and `wait`, else raises `NoPermit`. Raises `ProcessFailed`.
        Cancelled, it leaves nothing behind.
        """
        program, mask = setting.program(info)
        child = cls(info, program.cwd or "/", mask)
        theirs = child._open()
        places = setting.limits.processes
        child.started = way.start(program, theirs, path=info.path, kind=kind, places=places, wait=wait)
        try:
            await asyncio.shield(child.started.ready)
        except BaseException as error:
            child.started.end()
            child.let_go()
            if isinstance(error, ProcessFailed) and not isinstance(error, NoPermit):
                raise ProcessFailed(info.path, f"{setting.argv[0]!r} was not started: {error}") from None
            raise
        return child

    def _open(self) -> tuple[int, int, int]:
        """Make its pipes, and return its own ends of them."""
        opened: list[int] = []
        try:
            for _ in range(3):
                opened += os.pipe()
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            raise ProcessFailed(self.path, f"there are no pipes for it: {error.strerror}") from error
        its_in, our_in, our_out, its_out, our_error, its_error = opened
        self._stdin, self._stdout, self._stderr = Inlet(our_in), Outlet(our_out), Outlet(our_error)
        self._listening = asyncio.ensure_future(self._listen())
        return its_in, its_out, its_error

    async def _listen(self) -> None:
        """Keep the end of its standard error."""
        size = 0
        while data := await self._stderr.read():
            self._tail.append(data)
            size += len(data)
            while size - len(self._tail[0]) >= TAIL:
                size -= len(self._tail.popleft())

    # Talking

    async def write(self, data: bytes) -> None:
        """Write to its standard input. Raises `BrokenPipeError`."""
        await self._stdin.write(data)

    async def written(self) -> None:
        """Wait until it has taken what it was told."""
        await self._stdin.written()

    def close_stdin(self) -> None:
        """Say nothing more to it: the end of its standard input, behind what is being written."""
        self._stdin.end()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its output, until that ends or nothing is left of it that could print."""
        gone = self.started.gone
        while True:
            reading = asyncio.ensure_future(self._stdout.read())
            either: set[asyncio.Future[Any]] = {reading, gone}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    await asyncio.wait({reading}, timeout=LAST_WORDS)
                if not reading.done():
                    return
            finally:
                if not reading.done():
                    reading.cancel()
            data = reading.result()
            if not data:
                return
            yield data

    # The end

    @property
    def alive(self) -> bool:
        return not self.started.exited.done()

    async def end(self) -> None:
        """End it with all that it started, and wait until nothing is left, for `ENDING` at most."""
        self.started.end()
        self.close_stdin()
        try:
            await asyncio.wait({self.started.gone}, timeout=ENDING)
        finally:
            self.let_go()

    def abandon(self) -> None:
        """Have it ended, and do not wait for that."""
        self.started.end()
        self.let_go()

    def let_go(self) -> None:
        """Close our ends of its pipes."""
        if self._listening is not None:
            self._listening.cancel()
        for end in (self._stdin, self._stdout, self._stderr):
            end.close()

    async def stderr_tail(self) -> str:
        """The end of its standard error, once it has ended."""
        if self._listening is not None:
            await asyncio.wait({self._listening}, timeout=LAST_WORDS)
        text = b"".join(self._tail)[-TAIL:].decode(errors="replace").strip()
        return self.mask.text(text)

    async def failure(self, what: str) -> ProcessFailed:
        """How it ended: `what`, code or signal, and what it said last."""
        code = self.started.exited.result() if self.started.exited.done() else None
        said = await self.stderr_tail()
        ending = f"; the end of its standard error: {said}" if said else "; its standard error was empty"
        return ProcessFailed(self.path, f"{what} {how(code)}{ending}")


def how(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "and nobody saw how"
    if code >= 0:
        return f"with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"by signal {-code} ({name})"


__all__ = ["ChildProcess", "NoPermit", "ProcessClient", "how", "link"]
