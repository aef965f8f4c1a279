"""Connections whose request does not come to the point are given up, and cost nobody else anything."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from greenroom.server import wire
from greenroom.server.hosting import listen
from greenroom.server.wire import bounded, connection_of

from .conftest import DEADLINE, Served, story

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

ENDLESS = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body where the address is /read; lets its connection in where it is /known."""
    assert scope["type"] == "http"
    if scope["path"] == "/known":
        connection = connection_of(scope)
        assert connection is not None
        connection.let_in("/")
    more = scope["path"] != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    headers = [(b"content-length", b"2")]
    if scope["path"] == "/unread":
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(**limits: int) -> AsyncIterator[Callable[[], Any]]:
    """A server of that application; gives a function that connects to it."""
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    config = uvicorn.Config(application, http=bounded(**limits), lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([listening]))
    opened: list[Streams] = []

    async def connect() -> Streams:
        opened.append(await asyncio.open_connection("127.0.0.1", port))
        return opened[-1]

    try:
        yield connect
    finally:
        for _, writer in opened:
            writer.close()
        server.should_exit = True
        await task


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server hangs up."""
    found = b""
    try:
        while part := await reader.read(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


@story
async def test_a_body_that_does_not_come_is_answered_408_and_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wire, "BODY_TIME", 0.05)
    async with serving() as connect:
        reader, writer = await connect()
        writer.write(ENDLESS % b"/read")
        answer = await rest(reader)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:greenroom:problem:too-slow" in answer
    assert not [line for line in caplog.records if line.levelno >= logging.ERROR]


@story
async def test_trickling_does_not_set_the_clock_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_TIME", 0.05)
    async with serving() as connect:
        reader, writer = await connect()
        writer.write(ENDLESS % b"/read")

        async def trickle() -> None:
            while True:
                writer.write(b"a")
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        assert (await rest(reader)).startswith(b"HTTP/1.1 408 ")
        trickling.cancel()


@pytest.fixture
def struck(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The clock of a body strikes at once, and this is set then."""
    struck = asyncio.Event()
    original = wire.BoundedProtocol._body_is_late

    def late(self: wire.BoundedProtocol) -> None:
        original(self)
        struck.set()

    monkeypatch.setattr(wire.BoundedProtocol, "_body_is_late", late)
    monkeypatch.setattr(wire, "BODY_TIME", 0.01)
    return struck


@story
async def test_a_body_that_comes_at_its_pace_is_read_whatever_it_takes(
    monkeypatch: pytest.MonkeyPatch, struck: asyncio.Event
) -> None:
    monkeypatch.setattr(wire, "BODY_PACE", 1)
    async with serving() as connect:
        reader, writer = await connect()
        writer.write(
            b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n" + b"x" * 1000
        )
        await struck.wait()
        writer.write(b"x" * 1000)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")


@story
async def test_the_clock_of_a_body_stands_still_while_the_request_before_it_is_answered(
    monkeypatch: pytest.MonkeyPatch, struck: asyncio.Event
) -> None:
    """The server itself does not read on then."""
    gate = asyncio.Event()
    original = application

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await gate.wait()
        await original(scope, receive, send)

    monkeypatch.setitem(globals(), "application", slow)
    async with serving() as connect:
        reader, writer = await connect()
        head = b" HTTP/1.1\r\nHost: localhost\r\n"
        writer.write(b"GET /slow" + head + b"\r\nPOST /read" + head + b"Content-Length: 2\r\n\r\n1")
        await struck.wait()
        monkeypatch.setattr(wire, "BODY_TIME", DEADLINE)
        struck.clear()
        await struck.wait()
        gate.set()
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"2")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")


@story
async def test_the_rest_of_a_body_is_not_waited_for_once_the_answer_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the answer is read although much of the body was not."""
    monkeypatch.setattr(wire, "LINGER", 0.2)
    async with serving() as connect:
        reader, writer = await connect()
        writer.write(ENDLESS % b"/unread" + b"x" * 90_000)
        answer = await rest(reader)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"ok")


@story
async def test_strangers_that_are_too_many_are_dropped_and_those_with_a_token_stay() -> None:
    async with serving(known=10, strangers=5) as connect:
        known = [await connect() for _ in range(3)]
        for reader, writer in known:
            writer.write(b"GET /known HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"ok")
        strangers = [await connect() for _ in range(20)]
        for _, writer in strangers:
            writer.write(b"GET /re")
        for reader, _ in strangers[:15]:
            assert await rest(reader) == b""
        for reader, writer in known:
            writer.write(b"GET /known HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"ok")
        late_reader, late_writer = await connect()
        late_writer.write(b"GET /read HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await late_reader.readuntil(b"ok")


# A whole server


@story
async def test_thousands_who_have_no_token_and_never_end_their_body_lock_nobody_out(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    server = await asyncio.to_thread(serve, store=tmp_path / "a.db")
    sent = b"POST /api/agents HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    sent += b"Content-Length: 100000\r\n\r\n{"
    held: list[Streams] = []
    async with httpx.AsyncClient(
        base_url=server.url, headers={"authorization": f"Bearer {server.token}"}, timeout=DEADLINE
    ) as owner:
        for _ in range(1_500):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(sent)
                held.append((reader, writer))
            except ConnectionError:
                continue
        assert (await owner.get("/api/stats")).status_code == 200
        for reader, writer in held:  # none of them is kept
            await rest(reader)
            writer.close()
        assert (await owner.get("/api/stats")).status_code == 200


@story
async def test_a_client_that_hangs_up_amid_its_body_leaves_no_traceback(
    serve: Callable[..., Served],
) -> None:
    server = await asyncio.to_thread(serve)
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST /api/agents HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n{"
        writer.write(head.encode())
        await reader.readuntil(b"100 Continue")  # it is reading the body
        writer.close()
        await writer.wait_closed()
    assert await asyncio.to_thread(server.stop) == 0
    assert "Traceback" not in server.logged()
    assert "failed" not in server.logged()
