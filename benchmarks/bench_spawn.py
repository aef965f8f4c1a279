"""How many agents a second can be made, and how long does a caller wait for one?

All at once: every spawn is answered when it is durable (`process`), and the round ends when the last
session is open. The floor makes a task with a queue for each, has it answer once, and commits a row for it
and one for the event; bare asyncio does the same with no file; the limit (`common.limit`) has a spawn's
messages and commits and decides nothing. Then the wait of one caller who makes agents
one after the other, for an answer that is durable and for one that is not.

    python benchmarks/bench_spawn.py --json
"""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from typing import Any

from common.check import equal
from common.floor import ADD_AGENT, ADD_EVENT, Floor, Rows, Writer
from common.limit import DECIDING_NOTHING, Hall
from common.measure import Round, interleaved, quantiles
from common.report import FLOOR, OURS, Row, at_least, at_most, row
from common.script import Options, main
from common.stores import all_written, counted, path_of
from common.work import trivial

from greenroom import AsyncRuntime
from greenroom.types import Durability

BARE = "bare asyncio"
AT_ONCE = 1_000
"""Callers who wait at the same time."""

stores = count()


async def all_resident(runtime: AsyncRuntime, number: int) -> None:
    """Wait until that many sessions are open: an agent's event says so."""
    opened = set()
    async for event in runtime.events(since=0):
        if event.type == "agent.started":
            opened.add(event.path)
            if len(opened) == number:
                return


async def ours(options: Options, number: int) -> Round:
    """Make that many agents, all to stay in memory."""
    store = options.store(f"ours-{next(stores)}")
    async with AsyncRuntime(store, residents=number) as runtime:
        times: list[float] = []

        async def spawn(agent: int) -> None:
            begun = time.perf_counter()
            ref = await runtime.spawn(trivial, path_of(agent))
            times.append(time.perf_counter() - begun)
            equal("the path of a new agent", ref.path, path_of(agent))

        begun = time.perf_counter()
        ready = asyncio.ensure_future(all_resident(runtime, number))
        for first in range(0, number, AT_ONCE):
            await asyncio.gather(*(spawn(agent) for agent in range(first, min(first + AT_ONCE, number))))
        await ready
        seconds = time.perf_counter() - begun
        stats = await runtime.stats()
        equal("agents, and how many are in memory", (stats.agents, stats.resident), (number, number))
    equal("agents in the file", counted(store, "SELECT count(*) FROM agents"), number)
    store.unlink()
    return Round({"agents/s": number / seconds}, times)


async def echo(inbox: "asyncio.Queue[asyncio.Future[int]]", agent: int) -> None:
    """An agent by hand."""
    while True:
        (await inbox.get()).set_result(agent)


async def by_hand(number: int, writer: Writer | None, tasks: "list[asyncio.Task[None]]") -> Round:
    """Make tasks with queues; each has answered at the end, and is in the file if there is one."""
    loop = asyncio.get_running_loop()
    written: list[asyncio.Future[None]] = []
    hello: list[asyncio.Future[int]] = []
    begun = time.perf_counter()
    for agent in range(number):
        inbox: asyncio.Queue[asyncio.Future[int]] = asyncio.Queue()
        tasks.append(asyncio.create_task(echo(inbox, agent)))
        hello.append(loop.create_future())
        inbox.put_nowait(hello[-1])
        if writer is not None:
            written.append(put(writer, agent))
    told = [await each for each in hello]
    for each in written:
        await each
    seconds = time.perf_counter() - begun
    equal("who answered", told, list(range(number)))
    return Round({"agents/s": number / seconds})


def put(writer: Writer, agent: int) -> "asyncio.Future[None]":
    """Have an agent written down; done when it is committed."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    rows: Rows = [
        (ADD_AGENT, (agent, path_of(agent), time.time())),
        (ADD_EVENT, (agent + 1, "agent.spawned", agent, None)),
    ]
    writer.put(rows, lambda: answer.set_result(None))
    return answer


async def floor(options: Options, number: int, *, stored: bool) -> Round:
    """`by_hand`, from nothing to nothing."""
    tasks: list[asyncio.Task[None]] = []
    try:
        if not stored:
            return await by_hand(number, None, tasks)
        store = options.store(f"floor-{next(stores)}")
        async with Writer(store) as writer:
            done = await by_hand(number, writer, tasks)
        equal("agents in the floor's file", counted(store, "SELECT count(*) FROM agents"), number)
        store.unlink()
        return done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def limit(options: Options, number: int) -> Round:
    """A spawn's messages and commits, for that many agents."""
    store = options.store(f"limit-{next(stores)}")
    async with Writer(store) as writer:
        hall = Hall(Floor(writer), 0)
        begun = time.perf_counter()
        for first in range(0, number, AT_ONCE):
            agents = range(first, min(first + AT_ONCE, number))
            await asyncio.gather(*(hall.spawn(agent, path_of(agent)) for agent in agents))
        seconds = time.perf_counter() - begun
        await hall.close()
    equal("agents in the limit's file", counted(store, "SELECT count(*) FROM agents"), number)
    store.unlink()
    return Round({"agents/s": number / seconds})


async def rates(options: Options, number: int, repeats: int) -> list[Row]:
    """Both floors in the same rounds."""
    contestants = {
        OURS: partial(ours, options, number),
        FLOOR: partial(floor, options, number, stored=True),
        BARE: partial(floor, options, number, stored=False),
        DECIDING_NOTHING: partial(limit, options, number),
    }
    rounds = await interleaved(contestants, repeats, warm_up=1 if repeats > 1 else 0)
    name = f"{number:,} agents, all ready"
    target = at_least(round(10_000 / 70_000, 3))
    return [
        row(name, "agents/s", rounds, "agents/s", better="more"),
        row(
            f"{name}, against no file", "agents/s", rounds, "agents/s", better="more", floor=BARE,
            floor_name=BARE, target=target,
        ),
        row(
            f"{name}, its messages and commits alone", "agents/s", rounds, "agents/s", better="more",
            floor=DECIDING_NOTHING, floor_name=DECIDING_NOTHING,
        ),
    ]  # fmt: skip


async def waits(options: Options, number: int) -> list[Row]:
    """One caller, one agent after the other."""
    names: dict[str, Durability] = {"durable": "process", "durable later": "memory"}
    agents = count()
    async with AsyncExitStack() as stack:
        runtime = AsyncRuntime(options.store("waits"))
        await stack.enter_async_context(runtime)
        writer = await stack.enter_async_context(Writer(options.store("floor-waits")))

        async def spawned(level: Durability) -> Round:
            async def spawn() -> Any:
                return await runtime.spawn(trivial, path_of(next(agents)), durability=level)

            return await timed(spawn)

        async def written() -> Round:
            async def write() -> Any:
                return await put(writer, next(agents))

            return await timed(write)

        async def timed(call: Any) -> Round:
            times = []
            for _ in range(number):
                begun = time.perf_counter()
                await call()
                times.append(time.perf_counter() - begun)
            return Round(quantiles(times, 1e6), times)

        contestants = {name: partial(spawned, level) for name, level in names.items()}
        between = [partial(all_written, runtime.stats), writer.all_written]
        rounds = await interleaved({**contestants, FLOOR: written}, options.repeats, between=between)
        made = number * (options.repeats + 1) * len(names)
        equal("agents made one by one", (await runtime.stats()).agents, made)
    limits = {"p50": at_most(150, of="ours"), "p99": at_most(1_000, of="ours")}
    rows = []
    for name in names:
        compared = rounds if name == "durable" else {name: rounds[name]}
        rows += [
            row(
                f"a caller's wait for one, {name}, {part}", "µs", compared, part, better="less", ours=name,
                target=limit if name == "durable" else None,
            )
            for part, limit in limits.items()
        ]  # fmt: skip
    return rows


async def measure(options: Options) -> list[Row]:
    sizes = options.pick([1_000, 10_000, 100_000], [100])
    rows = await waits(options, options.pick(2_000, 100))
    for number in sizes:
        rows += await rates(options, number, options.repeats if number <= 10_000 else 1)
    return rows


if __name__ == "__main__":
    main(__file__, __doc__, measure)
