"""uvicorn's HTTP protocol with bounds on what comes before a request is known: its head, and how long
it takes. What comes later is the gate's business."""

import asyncio
from typing import Any, ClassVar

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .log import log
from .problems import MEDIA_TYPE

LONGEST_HEAD = 32 << 10
"""Bytes of a request's first line and headers."""
HEAD_TIME = 20.0
"""Seconds within which they come, from the first byte or the connection on."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not come to the point, or that is one too many."""

    most_connections: ClassVar[int] = 5_000
    _in_head = True
    _head = 0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += len(data)
            if self._late is None:
                self._await_head()
        super().data_received(data)
        if self._in_head and self._head > LONGEST_HEAD and not self.transport.is_closing():
            self.send_400_response(f"a request's head has at most {LONGEST_HEAD:,} bytes here.")

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all is refused in the same form as anything else."""
        peer = self.client[0] if self.client else "?"
        log.warning("refused a connection from %s: 400 no-http: %s", peer, msg)
        problem = {"type": "urn:greenroom:problem:no-http", "title": "This is no HTTP", "status": 400}
        body = msgspec.json.encode({**problem, "detail": msg})
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: %s\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%s" % (MEDIA_TYPE.encode(), len(body), body)
        )
        self.transport.close()

    def on_headers_complete(self) -> None:
        self._in_head, self._head = False, 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def _await_head(self) -> None:
        self._late = asyncio.get_running_loop().call_later(HEAD_TIME, self._came_too_late)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _came_too_late(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()
