"""autogen-core: routed agents in its `SingleThreadedAgentRuntime`, which its manual has for one process.

Whatever is sent has an answer there, so a message and its answer are one `send_message`, and a parent waits
for all of them with `gather`. Telemetry is off, which is faster. Its agents' states are saved when somebody
asks for it, and not turn by turn, so there are no stored turns here.
"""

# ruff: noqa: ARG002 - a handler has these two arguments

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

os.environ["AUTOGEN_DISABLE_RUNTIME_TRACING"] = "true"

from autogen_core import (
    AgentId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    message_handler,
)

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

contest = Contest("autogen-core", note="SingleThreadedAgentRuntime, no telemetry")


@dataclass
class Ball:
    number: int


@dataclass
class Square:
    number: int


@dataclass
class Wait:
    seconds: float


@dataclass
class Count:
    pass


@dataclass
class Fan:
    """Have so many children add one to their number, so often."""

    children: int
    times: int


@dataclass
class Rally:
    times: int


@dataclass
class Squares:
    """Have so many children square their number."""

    children: int


class Child(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("answers")
        self.turns = 0

    @message_handler
    async def ball(self, message: Ball, ctx: MessageContext) -> int:
        return message.number + 1

    @message_handler
    async def square(self, message: Square, ctx: MessageContext) -> int:
        return message.number * message.number

    @message_handler
    async def wait(self, message: Wait, ctx: MessageContext) -> int:
        await asyncio.sleep(message.seconds)
        self.turns += 1
        return self.turns

    @message_handler
    async def count(self, message: Count, ctx: MessageContext) -> int:
        self.turns += 1
        return self.turns


class Parent(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("asks its children")

    @message_handler
    async def fan(self, message: Fan, ctx: MessageContext) -> int:
        total = 0
        for _ in range(message.times):
            sent = (self.send_message(Ball(number), child(number)) for number in range(message.children))
            total += sum(await asyncio.gather(*sent))
        return total

    @message_handler
    async def rally(self, message: Rally, ctx: MessageContext) -> int:
        number = 0
        for _ in range(message.times):
            number = await self.send_message(Ball(number), child(0))
        return number

    @message_handler
    async def squares(self, message: Squares, ctx: MessageContext) -> int:
        sent = (self.send_message(Square(number), child(number)) for number in range(message.children))
        return sum(await asyncio.gather(*sent))


PARENT = AgentId("parent", "one")


def child(number: int) -> AgentId:
    return AgentId("child", str(number))


@asynccontextmanager
async def started() -> AsyncGenerator[SingleThreadedAgentRuntime, None]:
    runtime = SingleThreadedAgentRuntime()
    await Parent.register(runtime, "parent", Parent)
    await Child.register(runtime, "child", Child)
    runtime.start()
    yield runtime
    await runtime.stop()


async def greet(runtime: SingleThreadedAgentRuntime, first: int, number: int) -> None:
    """Agents are made by their first message."""
    sent = (runtime.send_message(Count(), child(n)) for n in range(first, first + number))
    right("first answers", await asyncio.gather(*sent), [1] * number)


@contest.does("fan-out 1,000", pick(1_000, 50), pick(4, 1))
@contest.does("fan-out 10,000", pick(10_000, 200), 1)
async def fan_out(number: int, times: int) -> Values:
    async with started() as runtime:
        await greet(runtime, 0, number)
        while True:
            begun = time.perf_counter()
            total = await runtime.send_message(Fan(number, times), PARENT)
            seconds = time.perf_counter() - begun
            right("the sum", total, times * sum_of(number))
            yield [2 * number * times / seconds]


@contest.does("ping-pong", pick(2_000, 50))
async def ping_pong(times: int) -> Values:
    async with started() as runtime:
        while True:
            begun = time.perf_counter()
            right("the number", await runtime.send_message(Rally(times), PARENT), times)
            yield [2 * times / (time.perf_counter() - begun)]


@contest.does("runs 1,000", pick(1_000, 50), pick(4, 1), note="bare requests: nothing is stored")
@contest.does("runs 10,000", pick(10_000, 200), 1, note="bare requests: nothing is stored")
async def runs(number: int, times: int) -> Values:
    async with started() as runtime:
        await greet(runtime, 0, number)
        while True:
            begun = time.perf_counter()
            for _ in range(times):
                total = await runtime.send_message(Squares(number), PARENT)
                right("the sum of squares", total, squares(number))
            yield [times * (number + 1) / (time.perf_counter() - begun)]


@contest.does("wait", pick(1_000, 50), note="until its first answer, as there is no other spawn")
async def waits(number: int) -> Values:
    async with started() as runtime:
        agents = count()
        while True:
            times = []
            for _ in range(number):
                begun = time.perf_counter()
                await runtime.send_message(Count(), child(next(agents)))
                times.append(time.perf_counter() - begun)
            yield microseconds(times)


@contest.does("spawn 1,000", pick(1_000, 50), note="ready: has answered once")
@contest.does("spawn 10,000", pick(10_000, 200), note="ready: has answered once")
async def spawn(number: int) -> Values:
    while True:
        async with started() as runtime:
            begun = time.perf_counter()
            await greet(runtime, 0, number)
            yield [number / (time.perf_counter() - begun)]


@contest.does("io", pick(1_000, 128), note="64 callers who wait; nothing is stored")
async def io(turns: int) -> Values:
    async with started() as runtime:
        slots = asyncio.Semaphore(SLOTS)

        async def one(number: int) -> int:
            async with slots:
                return int(await runtime.send_message(Wait(PAUSE), child(number)))

        for done in count(1):
            begun = time.perf_counter()
            told = await asyncio.gather(*(one(number) for number in range(turns)))
            seconds = time.perf_counter() - begun
            right("turns", told, [done] * turns)
            yield [to_ideal(seconds, turns)]


@contest.does("memory", 1_000, pick(10_000, 500), note="has had one turn")
async def memory(few: int, number: int) -> Values:
    async with started() as runtime:
        for first in range(0, few + number, AT_ONCE):
            if first == few:
                before = resident_kib()
            await greet(runtime, first, AT_ONCE)
        yield [(resident_kib() - before) / number]


if __name__ == "__main__":
    contest.main()
