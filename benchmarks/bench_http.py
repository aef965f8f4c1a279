"""How long does a request wait until its work is accepted, and what does a client of the event stream cost?

A server as a process of its own, on loopback. Requests come at 500 a second, whether the ones before were
answered or not (an open loop: a wait counts from when a request was due). Each makes an agent whose
session takes 3 s to open, and gives it its first run; it is answered when both are committed, or accepted
(`"durability": "memory"`). The floor is the same server's `/healthz`, which does nothing. Then a thousand
clients read all events at once, and a hundred ask for them and never read.

    python benchmarks/bench_http.py --json
"""

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import count

from common.check import equal
from common.measure import Round, Rounds, interleaved, quantiles
from common.report import FLOOR, OURS, Row, at_most, row
from common.script import Options, main
from common.web import Connection, Server, served

RATE = 500
"""Requests a second."""
CONNECTIONS = 64

agents = count()


async def asked(server: Server, seconds: float, request: Callable[[], bytes], status: int) -> Round:
    """Requests at the rate, for that long; the seconds until each was answered."""
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await Connection.to(server))
    times: list[float] = []

    async def ask(due: float, text: bytes) -> None:
        connection = await idle.get()
        found, body = await connection.ask(text)
        times.append(time.perf_counter() - due)
        idle.put_nowait(connection)
        equal(f"the status of {body[:100]!r}", found, status)

    begun, asking = time.perf_counter(), []
    for number in range(int(seconds * RATE)):
        due = begun + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asking.append(asyncio.create_task(ask(due, request())))
    await asyncio.gather(*asking)
    while not idle.empty():
        idle.get_nowait().close()
    return Round(quantiles(times, 1e3), times)


def spawn(server: Server, durability: str) -> bytes:
    """A request for an agent that is slow to open."""
    path = f"/bench/{next(agents)}"
    work = {"kind": "bench.slow", "path": path, "input": path, "durability": durability}
    return server.request("POST", "/api/agents", work)


async def accepting(options: Options) -> list[Row]:
    seconds = options.pick(5.0, 0.5)
    async with served(options.store("accepting"), "--drain", "0", "--backlog", "1000000") as server:
        contestants = {
            **{
                level: partial(asked, server, seconds, partial(spawn, server, level), 202)
                for level in ("process", "memory")
            },
            FLOOR: partial(asked, server, seconds, partial(server.request, "GET", "/healthz"), 200),
        }
        rounds = await interleaved(contestants, options.repeats)
    names = {"process": "durable", "memory": "durable later"}
    return [
        row(
            f"202 at {RATE} requests/s, {name}, {part}", "ms", rounds, part, better="less", ours=level,
            floor_name="GET /healthz", target=at_most(5, of="ours") if part == "p99" else None,
        )
        for level, name in names.items()
        for part in ("p50", "p99")
    ]  # fmt: skip


async def streaming(options: Options) -> list[Row]:
    """All clients at once read what one agent tells."""
    clients, events = options.pick(1_000, 50), options.pick(500, 20)
    async with served(options.store("streaming"), "--streams", "5000") as server:
        asking = await Connection.to(server)
        spawned = {"kind": "bench.teller", "path": "/bench/teller"}
        await asking.ask(server.request("POST", "/api/agents", spawned))
        before = server.resident_kib()
        listening = []
        for _ in range(clients):
            listening.append(await Connection.to(server))
            await listening[-1].listen(server.request("GET", "/api/events?type=run.*"))
        silent = server.resident_kib()
        begun = time.perf_counter()
        work = {"input": {"count": events, "size": 100}}
        await asking.ask(server.request("POST", "/api/agents/bench/teller/runs", work))
        told = await asyncio.gather(*(_read(client, events + 3) for client in listening))
        seconds = time.perf_counter() - begun
        for numbers in told:
            equal("what a client read", numbers, told[0])
        after = server.resident_kib()
        values = {
            "silent": (silent - before) / clients,
            "busy": (after - before) / clients,
            "rate": clients * events / seconds,
        }
        rounds: Rounds = {OURS: [Round(values)]}
        for client in listening:
            client.close()
    name = f"{clients:,} streams"
    return [
        row(f"{name}, memory of each, silent", "KiB", rounds, "silent", better="less"),
        row(f"{name}, memory of each, after {events} events", "KiB", rounds, "busy", better="less"),
        row(f"{name}, events told", "events/s", rounds, "rate", better="more"),
    ]


async def _read(client: Connection, number: int) -> list[int]:
    found: list[int] = []
    async for seq in client.numbers():
        found.append(seq)
        if len(found) == number:
            break
    return found


async def unread(options: Options) -> list[Row]:
    """Clients that ask for all events and never read one, while there are many megabytes of them."""
    clients, events = options.pick(100, 5), options.pick(4_000, 50)
    async with served(options.store("unread")) as server:
        asking = await Connection.to(server)
        await asking.ask(
            server.request("POST", "/api/agents", {"kind": "bench.teller", "path": "/bench/teller"})
        )
        work = {"input": {"count": events, "size": 10_000}}

        async def tell() -> None:
            status, body = await asking.ask(server.request("POST", "/api/agents/bench/teller/runs", work))
            equal("the status of a run", status, 202)
            run_id = json.loads(body)["run_id"]
            while True:
                _, body = await asking.ask(server.request("GET", f"/api/runs/{run_id}?wait=30"))
                if json.loads(body)["status"] == "completed":
                    return

        await tell()
        before = server.resident_kib()
        for _ in range(clients):
            connection = await Connection.to(server)
            await connection.listen(server.request("GET", "/api/events?since=0"))
        await tell()
        rounds: Rounds = {OURS: [Round({"memory": (server.resident_kib() - before) / clients})]}
    much = f"{clients} clients that never read {events * 10_000 / 1e6:.0f} MB"
    return [
        row(
            f"{much}, memory of each", "KiB", rounds, "memory",
            better="less", target=at_most(1_024, of="ours"),
        )
    ]  # fmt: skip


async def measure(options: Options) -> list[Row]:
    return [*await accepting(options), *await streaming(options), *await unread(options)]


if __name__ == "__main__":
    main(__file__, __doc__, measure)
