"""Greenroom at the peers' workloads, by the code of its own benchmarks, asked like a peer."""

import asyncio
import logging
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import bench_fanout
import bench_memory
import bench_messages
import bench_reload
import bench_spawn
import bench_turns
from common.check import equal
from common.hops import Team
from common.measure import quantile
from common.report import OURS
from common.script import SEED, Options
from common.stores import fill, path_of
from common.work import ACCESS, new_state, sleeper, trivial

from greenroom import AsyncRuntime
from greenroom.types import Durability
from peers.contest import PAUSE, QUICK, SLOTS, Contest, Rounds, Values, microseconds, pick, to_ideal

contest = Contest("greenroom", note="")


def options(stack: AsyncExitStack) -> Options:
    """For a round of a benchmark, with a folder that goes away with the stack."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="greenroom-bench-"))
    return Options(QUICK, 1, SEED, Path(folder))


async def opened(stack: AsyncExitStack, **settings: Any) -> AsyncRuntime:
    return await stack.enter_async_context(AsyncRuntime(options(stack).store("ours"), **settings))


@contest.does("fan-out 1,000", pick(1_000, 50), pick(50, 2))
@contest.does("fan-out 10,000", pick(10_000, 200), pick(5, 1))
def fan_out(number: int, times: int) -> Rounds:
    team = Team(bench_messages.LocalSystemBase(), number)
    while True:
        yield [team.fan(times)]


@contest.does("ping-pong", pick(20_000, 50))
def ping_pong(times: int) -> Rounds:
    team = Team(bench_messages.LocalSystemBase(), 1)
    while True:
        yield [team.rally(times)]


@contest.does("wait", pick(1_000, 50), "memory")
@contest.does("wait, stored", pick(1_000, 50), "process")
async def waits(number: int, level: Durability) -> Values:
    async with AsyncExitStack() as stack:
        runtime = await opened(stack)
        agents = count()
        while True:
            times = []
            for _ in range(number):
                begun = time.perf_counter()
                await runtime.spawn(trivial, path_of(next(agents)), durability=level)
                times.append(time.perf_counter() - begun)
            yield microseconds(times)


@contest.does("spawn 1,000", pick(1_000, 50))
@contest.does("spawn 1,000, stored", pick(1_000, 50))
@contest.does("spawn 10,000", pick(10_000, 200))
async def spawn(number: int) -> Values:
    async with AsyncExitStack() as stack:
        settings = options(stack)
        while True:
            done = await bench_spawn.ours(settings, number)
            yield [done.values["agents/s"]]


@contest.does("turns process", "process")
@contest.does("turns power", "power")
async def turns(level: Durability) -> Values:
    asked = pick(1_000, 50)
    async with AsyncExitStack() as stack:
        agents = bench_turns.Ours(options(stack), "ours", known=asked, asked=asked, level=level)
        await agents.open(stack)
        while True:
            done = await agents.round(pick(3, 1))
            yield [done.values["turns/s"]]


@contest.does("runs 1,000", pick(1_000, 50), pick(3, 1), "memory")
@contest.does("runs 10,000", pick(10_000, 200), 1, "memory")
@contest.does("runs 1,000, stored", pick(1_000, 50), pick(3, 1), "process")
async def runs(number: int, times: int, level: Durability) -> Values:
    tree = bench_fanout.wide(number)
    async with AsyncExitStack() as stack:
        runtime = await opened(stack, slots=SLOTS, residents=number + 1, durability=level)
        agents = bench_fanout.Ours(runtime, tree)
        await agents.spawn()
        while True:
            done = await bench_fanout.timed(agents.round, tree, times)
            yield [done.values["runs/s"]]


@contest.does("io", pick(1_000, 128))
async def io(number: int) -> Values:
    async with AsyncExitStack() as stack:
        runtime = await opened(stack, slots=SLOTS, residents=number)
        spawned = (runtime.spawn(sleeper, f"/io/a{agent}") for agent in range(number))
        refs = await asyncio.gather(*spawned)

        async def one(ref: Any) -> Any:
            run = await ref.followup(PAUSE)
            return await run

        for done in count(1):
            begun = time.perf_counter()
            results = await asyncio.gather(*(one(ref) for ref in refs))
            seconds = time.perf_counter() - begun
            equal("what the turns returned", results, [done] * number)
            yield [to_ideal(seconds, number)]


@contest.does("reload", pick(10_000, 500), pick(2_000, 100), pick(300, 128))
async def reload(known: int, number: int, alone: int) -> Values:
    async with AsyncExitStack() as stack:
        settings = options(stack)
        fill(settings.store("ours"), known, kind="bench.keeper", state=new_state())
        runtime = AsyncRuntime(
            settings.store("ours"), slots=bench_reload.SLOTS, residents=bench_reload.RESIDENTS
        )
        await stack.enter_async_context(runtime)
        agents = bench_reload.Ours(runtime)
        had: Any = bench_reload.Counter()
        numbers = ACCESS["uniform"](known, number, SEED)
        one_by_one = ACCESS["loop"](known, alone, SEED)
        while True:
            many = await bench_reload.Pattern(agents.ask, numbers, had).round(bench_reload.CALLERS)
            await agents.reload_times()
            few = await bench_reload.Pattern(agents.ask, one_by_one, had).round(1)
            reloads = await agents.reload_times()
            yield [many.values["turns/s"], quantile(reloads, 0.5) * 1e6, quantile(few.times, 0.5) * 1e6]


@contest.does("memory", pick(5_000, 100))
def memory(number: int) -> Rounds:
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as process:
        yield [process.submit(bench_memory.probe, OURS, number, pick(1_000, 50)).result()]


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # a loop that is kept busy is no news here
    contest.main()
