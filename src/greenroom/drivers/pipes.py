"""Our ends of a program's pipes, on the loop.

By `add_reader` and `add_writer` and not as transports: uvloop's close the descriptor of a pipe twice, and
the second time it may be somebody else's. Nothing is read before somebody asks for it, so a program that
prints faster than it is read waits, and nothing piles up here.
"""

import asyncio
import os

PIPE_CHUNK_BYTES = 65_536


class Outlet:
    """Where what a program prints comes out. Owns its descriptor; one reader at a time."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor: int | None = descriptor
        self._loop = asyncio.get_running_loop()
        self._readable: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """Up to `PIPE_CHUNK_BYTES` bytes, as soon as there are any. Nothing at the end."""
        while self._descriptor is not None:
            try:
                return os.read(self._descriptor, PIPE_CHUNK_BYTES)
            except BlockingIOError:
                pass
            except OSError:  # EIO, of a terminal whose other end is gone
                return b""
            self._readable = self._loop.create_future()
            self._loop.add_reader(self._descriptor, self._wake)
            try:
                await self._readable
            finally:
                if self._descriptor is not None:
                    self._loop.remove_reader(self._descriptor)
        return b""

    def _wake(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def close(self) -> None:
        """Let go of it. Repeating that does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
            self._wake()


class Inlet:
    """Where what a program is told goes in. Owns its descriptor."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor: int | None = descriptor
        self._loop = asyncio.get_running_loop()
        self._unwritten = bytearray()
        self._ending = False
        self._dry = asyncio.Event()
        self._dry.set()

    async def write(self, data: bytes) -> None:
        """Write all of it, in one piece whoever else writes. Raises `BrokenPipeError` if nobody reads."""
        if self._descriptor is None or self._ending:
            raise BrokenPipeError
        self._unwritten += data
        self._flush()
        await self._dry.wait()
        if self._descriptor is None and not self._ending:
            raise BrokenPipeError

    async def written(self) -> None:
        """Wait until nothing is left to be written, or nobody reads it any more."""
        await self._dry.wait()

    def end(self) -> None:
        """Close it behind what is still to be written."""
        self._ending = True
        if not self._unwritten:
            self.close()

    def close(self) -> None:
        """Let go of it now. Repeating that does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._loop.remove_writer(descriptor)
            os.close(descriptor)
        self._unwritten.clear()
        self._dry.set()

    def _flush(self) -> None:
        if self._descriptor is None:
            return
        try:
            while self._unwritten:
                written = os.write(self._descriptor, self._unwritten[:PIPE_CHUNK_BYTES])
                del self._unwritten[:written]
        except BlockingIOError:
            if self._dry.is_set():
                self._dry.clear()
                self._loop.add_writer(self._descriptor, self._flush)
            return
        except OSError:  # nobody reads it any more
            self._ending = False
            self.close()
            return
        self._loop.remove_writer(self._descriptor)
        self._dry.set()
        if self._ending:
            self.close()
