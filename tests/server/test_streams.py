"""Events as they happen: to real clients, across restarts, and to clients that do not read."""

import asyncio
import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent, connect_sse

from greenroom import AsyncRuntime
from greenroom.server.feed import Feed, Wanted
from greenroom.server.streams import HEARTBEAT_FRAME, OPENING, Streams

from . import served
from .conftest import Served, story


def told(source: EventSource, until: Callable[[ServerSentEvent], bool]) -> Iterator[ServerSentEvent]:
    """What a stream tells, up to an event."""
    for event in source.iter_sse():
        yield event
        if until(event):
            return


def one_run(api: httpx.Client, path: str, input: Any) -> str:
    run_id: str = api.post(f"/api/agents{path}/runs", json={"input": input}).json()["run_id"]
    return run_id


def test_a_client_hears_of_everything_from_its_request_on(api: httpx.Client, tree: str) -> None:
    with connect_sse(api, "GET", "/api/events", params={"under": tree}) as source:
        assert source.response.headers["content-type"].startswith("text/event-stream")
        api.post("/api/agents", json={"kind": "echo", "path": tree, "input": 1})
        found = list(told(source, lambda event: event.event == "run.completed"))
    assert [event.event for event in found] == [
        "agent.spawned",
        "run.accepted",
        "agent.started",
        "run.started",
        "run.completed",
    ]
    for event in found:
        data = event.json()
        assert (str(data["seq"]), data["type"], data["path"]) == (event.id, event.event, tree)


def test_types_and_runs_and_paths_can_be_chosen(api: httpx.Client, tree: str) -> None:
    for name in ("a", "ab"):
        api.post(
            "/api/agents", json={"kind": "echo", "path": f"{tree}/{name}", "input": {"tell": 2, "size": 1}}
        )
    run = one_run(api, f"{tree}/a", 1)
    api.get(f"/api/runs/{run}?wait=30")
    last = one_run(api, f"{tree}/ab", 1)
    api.get(f"/api/runs/{last}?wait=30")

    def types(**query: Any) -> list[str]:
        with connect_sse(
            api, "GET", "/api/events", params={"since": 0, "follow": False, **query}
        ) as source:
            return [event.event for event in source.iter_sse()]

    assert types(under=f"{tree}/a", type="run.progress") == ["run.progress"] * 2
    assert types(run=run) == ["run.accepted", "run.started", "run.completed"]
    assert types(under=f"{tree}/a", type=["agent.*", "run.accepted"]) == [
        "agent.spawned",
        "run.accepted",
        "agent.started",
        "run.accepted",
    ]


def test_a_stream_resumes_after_the_last_event_id_and_the_header_goes_before_the_query(
    api: httpx.Client, tree: str
) -> None:
    api.post("/api/agents", json={"kind": "echo", "path": tree, "input": {"tell": 200, "size": 10}})
    api.get(f"/api/runs/{one_run(api, tree, 1)}?wait=30")
    query = {"under": tree, "since": 0, "follow": False}
    with connect_sse(api, "GET", "/api/events", params=query) as source:
        whole = [event.id for event in source.iter_sse()]
    assert len(whole) == 208
    for place in (0, 100, 207):
        headers = {"Last-Event-ID": whole[place]}
        with connect_sse(api, "GET", "/api/events", params=query, headers=headers) as source:
            assert [event.id for event in source.iter_sse()] == whole[place + 1 :]


@pytest.mark.parametrize(
    "bad", ["x", "-1", "1.5", "9" * 19, "9" * 4_301, "0" * 4_301, "\N{SUPERSCRIPT TWO}"]
)
def test_a_last_event_id_that_is_none_is_refused(api: httpx.Client, bad: str) -> None:
    headers = {"Last-Event-ID": bad.encode("latin-1")}
    assert api.get("/api/events", headers=headers).status_code == 422  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_client_reads_on_across_restarts_and_a_kill_without_a_gap_or_a_repeat(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    seen: list[str] = []
    for turn in range(4):
        server = serve()
        api = server.client()
        if turn == 0:
            api.post("/api/agents", json={"kind": "echo", "path": "/t/a"})
        headers = {"Last-Event-ID": seen[-1]} if seen else {}
        query = {} if seen else {"since": 0}
        with connect_sse(api, "GET", "/api/events", params=query, headers=headers) as source:
            events = source.iter_sse()
            run = one_run(api, "/t/a", {"tell": 100, "size": 100})
            for event in events:
                seen.append(event.id)
                if event.event == "run.completed" and event.json()["run_id"] == run:
                    break
            if turn == 1:  # the client is away at the end, and more happens
                api.get(f"/api/runs/{one_run(api, '/t/a', {'tell': 50, 'size': 1})}?wait=30")
            if turn == 2:
                server.kill()
            else:
                server.process.terminate()
                seen += [event.id for event in _rest(events)]
                assert server.process.wait(60) == 0
    with serve().client() as api, connect_sse(api, "GET", "/api/events?since=0&follow=false") as source:
        whole = [event.id for event in source.iter_sse() if int(event.id) <= int(seen[-1])]
    assert seen == whole
    assert len(seen) == len(set(seen)) > 450


def _rest(events: Iterator[ServerSentEvent]) -> Iterator[ServerSentEvent]:
    """What comes until the server hangs up, in whichever way."""
    try:
        yield from events
    except httpx.RemoteProtocolError:
        return


def test_the_last_events_are_told_before_the_server_leaves(serve: Callable[..., Served]) -> None:
    server = serve("--drain", "0.2")
    api = server.client()
    with connect_sse(api, "GET", "/api/events") as source:
        events = source.iter_sse()
        api.post("/api/agents", json={"kind": "once", "path": "/t/a", "input": 1})
        for event in events:
            if event.event == "run.started":
                break
        server.process.terminate()
        assert [event.event for event in _rest(events)][-1] == "run.interrupted"
    assert server.process.wait(60) == 0


def test_as_many_streams_as_allowed_are_open_and_one_more_is_refused(serve: Callable[..., Served]) -> None:
    server = serve("--streams", "2")
    api = server.client()
    api.post("/api/agents", json={"kind": "echo", "path": "/t/a", "input": "for ever"})
    with connect_sse(api, "GET", "/api/events") as one, connect_sse(api, "GET", "/api/events") as two:
        lines = [one.response.iter_raw(), two.response.iter_raw()]
        assert [next(line) for line in lines] == [OPENING, OPENING]
        refused = api.get("/api/events")
        assert (refused.status_code, refused.json()["type"]) == (
            429,
            "urn:greenroom:problem:too-many-streams",
        )
        assert refused.headers["retry-after"]
        run = api.post("/api/agents/t/a/runs", json={"input": 1}).json()["run_id"]
        assert api.get(f"/api/runs/{run}?wait=1").status_code == 429
        assert api.get(f"/api/runs/{run}").status_code == 200


def test_a_trees_token_leaves_streams_and_connections_to_others(serve: Callable[..., Served]) -> None:
    server = serve("--streams", "10")
    api = server.client()
    api.post("/api/agents", json={"kind": "echo", "path": "/mine/a", "input": "for ever"})
    tree = server.client(api.post("/api/tokens", json={"tree": "mine"}).json()["token"])
    with ExitStack() as stack:
        statuses: list[int] = []
        lines: list[Iterator[bytes]] = []
        for _ in range(10):
            source = stack.enter_context(connect_sse(tree, "GET", "/api/events"))
            statuses.append(source.response.status_code)
            if statuses[-1] == 200:
                lines.append(source.response.iter_raw())
                assert next(lines[-1]) == OPENING
        assert statuses == [200] * 5 + [429] * 5
        run = tree.get("/api/agents/mine/a").json()
        assert run["status"] == "running"
        for _ in range(5):
            source = stack.enter_context(connect_sse(api, "GET", "/api/events"))
            lines.append(source.response.iter_raw())
            assert next(lines[-1]) == OPENING
        assert api.get("/api/events").status_code == 429


# In one process, where what happens meanwhile can be chosen


@story
async def test_one_token_with_many_streams_waits_for_the_store_behind_itself_alone() -> None:
    """Pages of the store are read two at a time; a tree that resumes often has one of both."""
    async with running(most=100) as (runtime, streams):
        await runtime.spawn("echo", "/t/a")
        order: list[str] = []

        async def read(holder: str) -> None:
            await streams.page("/", 0, holder=holder)
            order.append(holder)

        hogs = [asyncio.create_task(read("hog")) for _ in range(50)]
        await asyncio.sleep(0)
        await read("/")
        assert order.index("/") < 5
        await asyncio.gather(*hogs)


@asynccontextmanager
async def running(
    store: Path | str = ":memory:", **options: Any
) -> AsyncIterator[tuple[AsyncRuntime, Streams]]:
    """A runtime and its streams."""
    most = options.pop("most", 10)
    heartbeat = options.pop("heartbeat", 60.0)
    runtime = AsyncRuntime(store, kinds=[served], **options)
    await runtime.start()
    streams = Streams(runtime, most=most, heartbeat=heartbeat)
    await streams.begin()
    relay = asyncio.create_task(streams.run())
    try:
        yield runtime, streams
    finally:
        await runtime.close(0)
        await relay


def numbers(portion: bytes) -> list[int]:
    return [int(line[4:]) for line in portion.split(b"\n") if line.startswith(b"id: ")]


async def until(fact: Callable[[], bool]) -> None:
    while not fact():
        await asyncio.sleep(0)


@story
async def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    async with running(heartbeat=0.01) as (_, streams):
        stream = streams.tell(Wanted(), None, follow=True)
        assert [await anext(stream) for _ in range(3)] == [OPENING, HEARTBEAT_FRAME, HEARTBEAT_FRAME]
        await stream.aclose()  # type: ignore[attr-defined]
        assert streams.open == 0
    assert HEARTBEAT_FRAME.startswith(b":")
    assert not HEARTBEAT_FRAME.endswith(b"\n\n"), "some clients take the end of no event for an event"


@story
async def test_who_has_fallen_behind_the_feed_reads_on_from_the_store() -> None:
    async with running() as (runtime, streams):
        streams.feed = Feed(streams.feed.last, keep=10)
        stream = streams.tell(Wanted("/t"), None, follow=True)
        assert await anext(stream) == OPENING
        ref = await runtime.spawn("echo", "/t/a", input={"tell": 500, "size": 10})
        assert ref.run is not None
        await ref.run.outcome()
        await until(lambda: streams.feed.counts.get("run.completed") == 1)
        found: list[int] = []
        while len(found) < 505:
            found += numbers(await anext(stream))
        assert found == list(range(found[0], found[0] + 505))
        await ref.followup(1)
        while len(found) < 508:
            found += numbers(await anext(stream))
        assert found == list(range(found[0], found[0] + 508))
        await stream.aclose()  # type: ignore[attr-defined]


@story
async def test_one_that_never_reads_slows_nobody_and_nothing_is_kept_for_it() -> None:
    async with running() as (runtime, streams):
        idle = streams.tell(Wanted(), None, follow=True)
        busy = streams.tell(Wanted(), None, follow=True)
        assert (await anext(idle), await anext(busy)) == (OPENING, OPENING)
        ref = await runtime.spawn("echo", "/t/a")
        found: list[int] = []
        for _ in range(30):
            run = await ref.followup({"tell": 100, "size": 1_000})
            await run.outcome()
            upto = streams.feed.last
            while not found or found[-1] < upto:
                found += numbers(await anext(busy))
        assert found == list(range(found[0], found[0] + len(found)))
        late = numbers(await anext(idle))
        assert late == found[: len(late)]
        for stream in (idle, busy):
            await stream.aclose()  # type: ignore[attr-defined]


@story
async def test_what_the_store_has_not_kept_is_said_to_be_missed(tmp_path: Path) -> None:
    store = tmp_path / "agents.db"
    async with running(store) as (runtime, streams):
        ref = await runtime.spawn("echo", "/t/a")
        await (await ref.followup({"tell": 200, "size": 1})).outcome()
    with sqlite3.connect(store) as pruning:
        pruning.execute("DELETE FROM events WHERE seq < 100")
    pruning.close()
    async with running(store) as (runtime, streams):
        portions = [portion async for portion in streams.tell(Wanted("/t"), 1, follow=False)]
        whole = [portion async for portion in streams.tell(Wanted("/t"), 0, follow=False)]
    gap = json.loads(portions[1].partition(b"data: ")[2].partition(b"\n")[0])
    assert (gap["type"], gap["data"]) == ("events.missed", {"since": 1, "upto": 99})
    first, *told = numbers(b"".join(portions[1:]))
    assert first == 99
    assert told == list(range(100, told[-1] + 1))
    assert numbers(b"".join(whole)) == told, "who asks for all there is misses nothing"


@story
async def test_who_knows_more_than_the_store_is_told_and_goes_on_from_now() -> None:
    async with running() as (runtime, streams):
        stream = streams.tell(Wanted(), 10_000, follow=True)
        assert await anext(stream) == OPENING
        portion = await anext(stream)
        assert json.loads(portion.partition(b"data: ")[2])["data"] == {"since": 10_000, "upto": None}
        assert numbers(portion) == [streams.feed.last]
        await runtime.spawn("echo", "/t/a")
        assert numbers(await anext(stream))[0] > numbers(portion)[0]
        await stream.aclose()  # type: ignore[attr-defined]


@story
async def test_news_that_come_while_clients_are_woken_reach_all_of_them() -> None:
    async with running(most=200) as (runtime, streams):
        ref = await runtime.spawn("echo", "/t/a")

        async def read(stream: AsyncIterator[bytes]) -> list[int]:
            found: list[int] = []
            async for portion in stream:
                found += numbers(portion)
                if b"event: run.completed" in portion:
                    return found
            raise AssertionError

        readers = [asyncio.create_task(read(streams.tell(Wanted(), None, follow=True))) for _ in range(150)]
        await until(lambda: streams.open == 150)
        await ref.followup({"tell": 50, "size": 1})
        everybody = await asyncio.gather(*readers)
        assert len(everybody[0]) >= 53
        assert all(one == everybody[0] for one in everybody)


@story
async def test_what_the_store_has_before_the_relay_is_told_once() -> None:
    runtime = AsyncRuntime(kinds=[served])
    await runtime.start()
    ref = await runtime.spawn("echo", "/t/a", input=1)
    assert ref.run is not None
    await ref.run.outcome()
    streams = Streams(runtime, most=1)
    await streams.begin()  # but it does not run yet: the feed is behind the store
    await (await ref.followup({"tell": 10, "size": 1})).outcome()
    last = [event.seq async for event in runtime.events(follow=False)][-1]
    found: list[int] = []

    async def read() -> None:
        async for portion in streams.tell(Wanted(), 0, follow=True):
            found.extend(numbers(portion))

    reading = asyncio.create_task(read())
    await until(lambda: len(found) >= 5)
    relay = asyncio.create_task(streams.run())
    await until(lambda: streams.feed.last == last)
    await runtime.close(0)
    await relay
    await reading
    assert found == sorted(set(found))
    assert found[0] == 1
    assert last in found


# Many, and one that never reads


def connected(server: Served, path: str) -> socket.socket:
    """A client that has asked for a stream, and reads nothing by itself."""
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode()
    )
    return client


def resident_kib(server: Served) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@pytest.mark.slow
def test_a_thousand_clients_read_everything_at_once(serve: Callable[..., Served]) -> None:
    server = serve()
    api = server.client()
    api.post("/api/agents", json={"kind": "echo", "path": "/t/a"})

    async def read() -> list[list[int]]:
        streams = [
            await asyncio.open_connection(sock=connected(server, "/api/events")) for _ in range(1_000)
        ]
        for reader, _ in streams:
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(OPENING)
        run = one_run(api, "/t/a", {"tell": 20, "size": 100})

        async def numbers_of(reader: asyncio.StreamReader) -> list[int]:
            found = []
            over = False
            while not over:
                line = await reader.readline()
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if event["run_id"] == run:  # not that its agent was loaded
                        found.append(event["seq"])
                        over = event["type"] == "run.completed"
            return found

        return await asyncio.gather(*(numbers_of(reader) for reader, _ in streams))

    _allow_files()
    everybody = asyncio.run(asyncio.wait_for(read(), 60))
    assert len(everybody) == 1_000
    assert len(everybody[0]) == 23
    assert all(one == everybody[0] for one in everybody)


def _allow_files() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_096), hard))


@pytest.mark.slow
def test_clients_that_never_read_cost_bounded_memory(serve: Callable[..., Served]) -> None:
    """Each is sent 24 MB; what it costs is a portion and the socket's buffers, and others go on."""
    server = serve()
    api = server.client()
    api.post("/api/agents", json={"kind": "echo", "path": "/t/a"})

    def tell() -> None:
        for _ in range(4):
            run = one_run(api, "/t/a", {"tell": 100, "size": 60_000})
            assert api.get(f"/api/runs/{run}?wait=60").json()["status"] == "completed"

    tell()  # the feed is full from now on
    before = resident_kib(server)
    clients = [connected(server, "/api/events?since=0") for _ in range(20)]
    for client in clients:
        assert client.recv(12) == b"HTTP/1.1 200"
    tell()
    for _ in range(100):
        assert api.get("/healthz").status_code == 200
    grown = resident_kib(server) - before
    for client in clients:
        client.close()
    assert grown < 20 * 1_500, f"{grown} KiB for 20 clients"
