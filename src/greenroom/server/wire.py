"""uvicorn's HTTP protocol with bounds on each connection: its head, its body, and who may have how many.

A refused request is hung up on before its body is read. So is one whose body does not come: a body has
a clock, which each part of it sets on by as long as that part may take.
"""

import asyncio
import functools
from collections.abc import Mapping
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .log import log
from .problems import NoHttp, Refusal, TooSlow, problem_of, problem_response
from .shares import Connections

LONGEST_HEAD = 32 << 10
"""Bytes of a request's first line and headers."""
HEAD_TIME = 20.0
"""Seconds within which they come, from the first byte or the connection on."""
BODY_TIME = 20.0
"""Seconds within which a body comes, and …"""
BODY_PACE = 16 << 10
"""… one more for each so many bytes that have come."""
LINGER = 1.0
"""Seconds for which the rest of a body is taken in and dropped, once the answer is sent.

Closing a socket with unread bytes in it resets the connection, and the client may lose the answer.
"""

KNOWN = 5_000
"""Connections of those who have shown a token."""
STRANGERS = 1_000
"""Connections of everybody else."""

EXTENSION = "greenroom.connection"
"""Where a request's scope has its connection, among its `extensions`."""


class HttpConnection(Protocol):
    """The connection that a request came on."""

    def let_in(self, holder: str) -> bool:
        """It belongs to the holder of this token from now on; False if these have their share already."""


def connection_of(scope: Mapping[str, Any]) -> HttpConnection | None:
    """The connection that a request came on; None if another server runs the application."""
    return cast("HttpConnection | None", scope.get("extensions", {}).get(EXTENSION))


def bounded(known: int = KNOWN, strangers: int = STRANGERS) -> type[asyncio.Protocol]:
    """The protocol of one server, for uvicorn's `http`."""
    doors = Connections["BoundedProtocol"](known, strangers)
    return cast("type[asyncio.Protocol]", functools.partial(BoundedProtocol, doors=doors))


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not come to the point, or that is one too many."""

    def __init__(self, *args: Any, doors: Connections["BoundedProtocol"], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._doors = doors
        self._in_head = True
        self._size = 0  # bytes of the head, or of the body, that have come
        self._late: asyncio.TimerHandle | None = None
        self._body_began = 0.0
        self._leaving = False  # what comes is dropped

    def connection_made(self, transport: Any) -> None:
        super().connection_made(cast("asyncio.Transport", _LingeringTransport(transport, self)))
        crowded_out = self._doors.opened(self, self.client[0] if self.client else "?")
        if crowded_out is not None:
            crowded_out.transport.abort()
        self._await(HEAD_TIME, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._doors.closed(self)
        self._stop_waiting()
        super().connection_lost(exc)

    def let_in(self, holder: str) -> bool:
        """See `HttpConnection`."""
        return self._doors.let_in(self, holder)

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            return
        if self._in_head:
            self._size += len(data)
            if self._late is None:
                self._await(HEAD_TIME, self._head_is_late)
        super().data_received(data)
        if self._in_head and self._size > LONGEST_HEAD and not self.transport.is_closing():
            self.send_400_response(f"a request's head has at most {LONGEST_HEAD:,} bytes here.")

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP at all in the same form as anything else."""
        self._refuse(NoHttp(msg))

    def _refuse(self, error: Refusal) -> None:
        peer = self.client[0] if self.client else "?"
        problem = problem_of(error)
        log.warning("refused a connection from %s: %d %s: %s", peer, problem.status, problem.name, error)
        status, headers, body = problem_response(error)
        headers |= {"content-length": str(len(body)), "connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"HTTP/1.1 {status} {problem.title}\r\n{lines}\r\n".encode() + body)
        self.transport.close()

    # The parser's calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["extensions"] = {EXTENSION: self}

    def on_headers_complete(self) -> None:
        self._in_head, self._size = False, 0
        self._body_began = self.loop.time()
        self._await(BODY_TIME, self._body_is_late)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._size = True, 0
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Several requests may come on one connection before the first is answered.
        if not self._in_head and self.cycle.response_complete and not self.transport.is_closing():
            self._await(LINGER, self.transport.close)

    # Clocks

    def _await(self, seconds: float, late: Any) -> None:
        self._stop_waiting()
        self._late = self.loop.call_later(seconds, late)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _head_is_late(self) -> None:
        self._late = None
        self.transport.close()

    def _body_is_late(self) -> None:
        self._late = None
        if self.flow.read_paused:  # the request before it is not answered, or it has more than is read
            self._body_began = self.loop.time()
            self._await(BODY_TIME, self._body_is_late)
            return
        left = self._body_began + BODY_TIME + self._size / BODY_PACE - self.loop.time()
        if left > 0:
            self._await(left, self._body_is_late)
        elif self.cycle.response_started or self.transport.is_closing():
            self.transport.close()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._refuse(
                TooSlow(f"a body comes within {BODY_TIME:g} seconds and at {BODY_PACE:,} bytes/s.")
            )

    def is_amid_a_body(self) -> bool:
        """Whether the client has more to send of the request under way."""
        return not self._in_head

    def leave(self) -> None:
        """Drop what comes, for a while; then the connection is closed."""
        self._leaving = True
        self._await(LINGER, self.transport.hang_up)  # type: ignore[attr-defined]


class _LingeringTransport:
    """A transport that waits for the rest of a body before it closes, so that the answer is read."""

    def __init__(self, transport: asyncio.Transport, protocol: BoundedProtocol) -> None:
        self._transport, self._protocol = transport, protocol
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if not self._closing:
            self._transport.write(data)

    def hang_up(self) -> None:
        self._transport.close()

    def close(self) -> None:
        if self.is_closing():
            return
        if not self._protocol.is_amid_a_body():
            self.hang_up()
            return
        self._closing = True
        self._transport.write_eof()  # after what is written
        self._transport.resume_reading()
        self._protocol.leave()
