"""How many durable turns a second, with 2 KiB of state, and do known agents slow them down?

A thousand agents in memory are each asked once a round, all at once, and each answer is awaited: a run is
accepted, executed and committed with its state. Once for each durability, against the floor at the same
level; then against a turn's messages and commits with nothing decided on the way (`common.limit`); then
with a hundred times as many agents known. Afterwards every run is counted in the file.

    python benchmarks/bench_turns.py --json
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, get_args

from common.check import equal
from common.floor import Agents, Floor, Writer
from common.limit import DECIDING_NOTHING, Hall
from common.measure import Round, interleaved
from common.report import FLOOR, OURS, Row, at_least, row
from common.script import Options, main
from common.stores import all_written, counted, fill, path_of
from common.work import new_state

from greenroom import AsyncRuntime
from greenroom.types import Durability

SLOTS = 64


class Ours:
    """Agents that are known, of which the first few are asked."""

    def __init__(self, options: Options, name: str, *, known: int, asked: int, level: Durability) -> None:
        self.store, self.asked, self.level = options.store(name), asked, level
        fill(self.store, known, kind="bench.keeper", state=new_state())
        self.done = 0
        self.finish: Callable[[], Awaitable[None]]

    async def open(self, stack: AsyncExitStack) -> None:
        runtime = AsyncRuntime(self.store, slots=SLOTS, residents=self.asked, durability=self.level)
        await stack.enter_async_context(runtime)
        self.refs = [await runtime.agent(path_of(number)) for number in range(self.asked)]
        self.finish = partial(all_written, runtime.stats)

    async def round(self, turns: int) -> Round:
        """Ask each so many times, one after the other, and all of them at once."""

        async def one(ref: Any) -> list[float]:
            times = []
            for number in range(turns):
                begun = time.perf_counter()
                run = await ref.followup(number)
                equal("the turns of an agent", await run, self.done + number + 1)
                times.append(time.perf_counter() - begun)
            return times

        return await self._all([one(ref) for ref in self.refs], turns)

    async def _all(self, work: list[Any], turns: int) -> Round:
        begun = time.perf_counter()
        times = await asyncio.gather(*work)
        seconds = time.perf_counter() - begun
        self.done += turns
        return Round({"turns/s": len(work) * turns / seconds}, [time for some in times for time in some])

    def check(self) -> None:
        """All of it is in the file, now that it is closed."""
        finished = counted(self.store, "SELECT count(*) FROM runs WHERE status = 'completed'")
        equal("completed runs in the store", finished, self.done * self.asked)


class ByHand(Ours):
    """The floor."""

    def __init__(self, options: Options, name: str, *, asked: int, level: Durability) -> None:
        self.store, self.asked, self.level = options.store(name), asked, level
        self.done = 0

    async def open(self, stack: AsyncExitStack) -> None:
        writer = Writer(self.store, flush=self.level == "power")
        await stack.enter_async_context(writer)
        self.finish = writer.all_written
        self.agents = Agents(Floor(writer, durable=self.level != "memory"), self.asked)
        stack.push_async_callback(self.agents.close)

    async def round(self, turns: int) -> Round:
        async def one(agent: int) -> list[float]:
            times = []
            for number in range(turns):
                begun = time.perf_counter()
                result = await self.agents.ask(agent, number)
                equal("the turns of a task", result, self.done + number + 1)
                times.append(time.perf_counter() - begun)
            return times

        return await self._all([one(agent) for agent in range(self.asked)], turns)


class Limit(ByHand):
    """A turn's messages and commits, and nothing decided on the way."""

    async def open(self, stack: AsyncExitStack) -> None:
        writer = Writer(self.store)
        await stack.enter_async_context(writer)
        self.finish = writer.all_written
        self.agents = Hall(Floor(writer), self.asked)
        stack.push_async_callback(self.agents.close)


async def compare(ours: Ours, other: Ours, turns: int, names: tuple[str, str], repeats: int) -> Any:
    """Both in turn, then what they left behind."""
    async with AsyncExitStack() as stack:
        await ours.open(stack)
        await other.open(stack)
        contestants = {names[0]: partial(ours.round, turns), names[1]: partial(other.round, turns)}
        rounds = await interleaved(contestants, repeats, between=[ours.finish, other.finish])
    ours.check()
    other.check()
    return rounds


async def measure(options: Options) -> list[Row]:
    asked, turns = options.pick(1_000, 50), options.pick(3, 2)
    rows = []
    targets = {"process": at_least(0.4)}
    wanted = {"process": {"erlang": 0.5, "langgraph": 20.0, "temporal": 20.0, "dbos": 20.0}}
    for level in ("process", "power", "memory"):
        assert level in get_args(Durability)
        ours = Ours(options, f"ours-{level}", known=asked, asked=asked, level=level)
        floor = ByHand(options, f"floor-{level}", asked=asked, level=level)
        rounds = await compare(ours, floor, turns, (OURS, FLOOR), options.repeats)
        rows.append(
            row(
                f"{asked:,} agents, {level}", "turns/s", rounds, "turns/s", better="more",
                target=targets.get(level), wanted=wanted.get(level),
            )
        )  # fmt: skip
    ours = Ours(options, "ours-limit", known=asked, asked=asked, level="process")
    limit = Limit(options, "limit", asked=asked, level="process")
    rounds = await compare(ours, limit, turns, (OURS, FLOOR), options.repeats)
    rows.append(
        row(
            f"{asked:,} agents, process, its messages and commits alone", "turns/s", rounds, "turns/s",
            better="more", floor_name=DECIDING_NOTHING,
        )
    )  # fmt: skip
    many = asked * 100
    large = Ours(options, "many", known=many, asked=asked, level="process")
    small = Ours(options, "few", known=asked, asked=asked, level="process")
    rounds = await compare(large, small, turns, (OURS, FLOOR), options.repeats + 2)
    rows.append(
        row(
            f"the same with {many:,} known, process", "turns/s", rounds, "turns/s", better="more",
            floor_name=f"{asked:,} known", target=at_least(0.9),
        )
    )  # fmt: skip
    return rows


if __name__ == "__main__":
    main(__file__, __doc__, measure)
