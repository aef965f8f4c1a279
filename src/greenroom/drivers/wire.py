"""The protocol's lines, as the SDK wants a transport: bounded, and deaf to what is no message.

The SDK writes tracebacks to the root log about messages that it cannot read, with all that stands in them,
and hangs over some answers; so it gets none of those.
"""

import asyncio
import logging
from collections import deque
from typing import Any

import msgspec
from acp import schema

from .child import ChildProcess
from .lines import ParsedValue, Splitter, TooLong, Unusable

log = logging.getLogger("greenroom")

LONGEST_MESSAGE = 64 << 20
"""Bytes of one message of the protocol: pictures are among them."""

MOST_ASKED = 256
"""Requests of the agent that wait for their answers; it is not heard until it has taken some of them."""

BROKEN = -32603
"""The protocol's code for an error that has none."""


class AcpWire:
    """The messages of one program, both ways."""

    def __init__(self, child: ChildProcess) -> None:
        self._child = child
        self._chunks = child.chunks()
        self._splitter = Splitter(LONGEST_MESSAGE)
        self._ready: deque[dict[str, Any]] = deque()
        self._asked = 0
        self._answered = asyncio.Event()
        self.problem = ""
        self.over = False  # nothing more comes, or gets there

    async def send(self, message: dict[str, Any]) -> None:
        """Raises `BrokenPipeError`."""
        try:
            await self._child.write(msgspec.json.encode(message) + b"\n")
        except BrokenPipeError:
            self.over = True
            raise
        finally:
            if "method" not in message:
                self._asked -= 1
                self._answered.set()

    async def receive(self) -> dict[str, Any] | None:
        """The next message, None at the end."""
        while True:
            while self._asked >= MOST_ASKED:
                self._answered.clear()
                await self._answered.wait()
            if not self._ready and not await self._fill():
                self.over = True
                return None
            while self._ready:
                message = self._sound(self._ready.popleft())
                if message is not None:
                    return message

    async def close(self) -> None:
        """The child's owner closes its pipes."""

    async def _fill(self) -> bool:
        """Read on; whether there was anything."""
        try:
            lines = self._splitter.feed(await anext(self._chunks))
        except StopAsyncIteration:
            return False
        for line in lines:
            match line:
                case ParsedValue(dict() as message):
                    self._ready.append(message)
                case TooLong(_, size):
                    self.problem = f"it sent a message of {size:,} bytes, {LONGEST_MESSAGE:,} are allowed"
                    return False
                case Unusable(_, problem, is_reply=True):  # the SDK would wait for it for ever
                    self.problem = f"it sent a message with a value that cannot be read: {problem}"
                    return False
                case _:
                    self._pass_over("a line")
        return True

    def _sound(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """A message that the SDK can read; None for what says nothing to it."""
        match message:
            case {"method": str(), "id": _}:
                self._asked += 1
                return message
            case {"method": "session/update", "params": params}:
                try:
                    schema.SessionNotification.model_validate(params)
                except ValueError:  # of a later version of the protocol, perhaps
                    self._pass_over("an update")
                    return None
                return message
            case {"method": _}:
                self._pass_over("a notification")
            case {"id": int() | str(), "result": _} | {"id": int() | str(), "error": dict()}:
                return message
            case {"id": int() | str() as number}:
                error = str(message.get("error", "there is neither a result nor an error"))
                return {"id": number, "error": {"code": BROKEN, "message": error}}
            case _:
                self._pass_over("a line")
        return None

    def _pass_over(self, what: str) -> None:
        log.debug("%s printed %s that is no message of the protocol", self._child.path, what)
