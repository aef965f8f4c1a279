"""xoscar: actors in a pool of one process, which is faster between them than one of several.

Actors are called, also from actors, and a call is awaited. It stores nothing.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import xoscar as xo

from peers.contest import (
    AT_ONCE,
    PAUSE,
    SLOTS,
    Contest,
    Values,
    microseconds,
    pick,
    resident_kib,
    right,
    squares,
    sum_of,
    to_ideal,
)

contest = Contest("xoscar", note="a pool of one process")


class Child(xo.Actor):
    def __init__(self) -> None:
        self.turns = 0

    async def ball(self, number: int) -> int:
        return number + 1

    async def square(self, number: int) -> int:
        return number * number

    async def count(self) -> int:
        self.turns += 1
        return self.turns

    async def wait(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        self.turns += 1
        return self.turns


class Parent(xo.Actor):
    def __init__(self, children: list[Any]) -> None:
        self.children = children

    async def fan(self, times: int) -> int:
        total = 0
        for _ in range(times):
            sent = (child.ball(number) for number, child in enumerate(self.children))
            total += sum(await asyncio.gather(*sent))
        return total

    async def rally(self, times: int) -> int:
        number = 0
        for _ in range(times):
            number = await self.children[0].ball(number)
        return number

    async def squares(self) -> int:
        sent = (child.square(number) for number, child in enumerate(self.children))
        return sum(await asyncio.gather(*sent))


@asynccontextmanager
async def pool() -> AsyncGenerator[str, None]:
    """A pool's address."""
    made = await xo.create_actor_pool("127.0.0.1", n_process=0)
    async with made:
        yield made.external_address


async def make(address: str, number: int) -> list[Any]:
    return await asyncio.gather(*(xo.create_actor(Child, address=address) for _ in range(number)))


@asynccontextmanager
async def family(number: int) -> AsyncGenerator[Any, None]:
    """A parent with so many children."""
    async with pool() as address:
        children = await make(address, number)
        yield await xo.create_actor(Parent, children, address=address)


@contest.does("fan-out 1,000", pick(1_000, 50), pick(10, 1))
@contest.does("fan-out 10,000", pick(10_000, 200), 1)
async def fan_out(number: int, times: int) -> Values:
    async with family(number) as parent:
        while True:
            begun = time.perf_counter()
            total = await parent.fan(times)
            seconds = time.perf_counter() - begun
            right("the sum", total, times * sum_of(number))
            yield [2 * number * times / seconds]


@contest.does("ping-pong", pick(5_000, 50))
async def ping_pong(times: int) -> Values:
    async with family(1) as parent:
        while True:
            begun = time.perf_counter()
            right("the number", await parent.rally(times), times)
            yield [2 * times / (time.perf_counter() - begun)]


@contest.does("runs 1,000", pick(1_000, 50), pick(10, 1), note="bare requests: nothing is stored")
@contest.does("runs 10,000", pick(10_000, 200), 1, note="bare requests: nothing is stored")
async def runs(number: int, times: int) -> Values:
    async with family(number) as parent:
        while True:
            begun = time.perf_counter()
            for _ in range(times):
                right("the sum of squares", await parent.squares(), squares(number))
            yield [times * (number + 1) / (time.perf_counter() - begun)]


@contest.does("wait", pick(1_000, 50))
async def waits(number: int) -> Values:
    async with pool() as address:
        while True:
            times = []
            for _ in range(number):
                begun = time.perf_counter()
                await xo.create_actor(Child, address=address)
                times.append(time.perf_counter() - begun)
            yield microseconds(times)


@contest.does("spawn 1,000", pick(1_000, 50), note="ready: has answered once")
@contest.does("spawn 10,000", pick(10_000, 200), note="ready: has answered once")
async def spawn(number: int) -> Values:
    while True:
        async with pool() as address:
            begun = time.perf_counter()
            children = await make(address, number)
            told = await asyncio.gather(*(child.count() for child in children))
            seconds = time.perf_counter() - begun
            right("first answers", told, [1] * number)
            yield [number / seconds]


@contest.does("io", pick(1_000, 128), note="64 callers who wait; nothing is stored")
async def io(turns: int) -> Values:
    async with pool() as address:
        children = await make(address, turns)
        slots = asyncio.Semaphore(SLOTS)

        async def one(child: Any) -> int:
            async with slots:
                return int(await child.wait(PAUSE))

        for done in count(1):
            begun = time.perf_counter()
            told = await asyncio.gather(*(one(child) for child in children))
            seconds = time.perf_counter() - begun
            right("turns", told, [done] * turns)
            yield [to_ideal(seconds, turns)]


@contest.does("memory", 1_000, pick(10_000, 500), note="has had one turn")
async def memory(few: int, number: int) -> Values:
    async with pool() as address:
        children: list[Any] = []
        for first in range(0, few + number, AT_ONCE):
            if first == few:
                before = resident_kib()
            some = await make(address, AT_ONCE)
            await asyncio.gather(*(child.count() for child in some))
            children += some
        yield [(resident_kib() - before) / number]


if __name__ == "__main__":
    contest.main()
