"""How long does a call take until its work is accepted, under full load, with a fast disk and a slow one?

64 runs chase each other round a ring of agents, each turn starting the next, as fast as the runtime goes
with 8 slots, while a caller gives work to an agent that is at rest and waits to hear that it was accepted
(`durability="memory"`: written soon after). The slow disk takes 100 ms for each commit. Callers are a task
on the runtime's own loop, and a thread: once as Python shares itself between threads, and once with a
tenth of its switch interval. The floor is the answer of a task at rest, beside 8 that chase each
other by hand.

    python benchmarks/bench_latency.py --json
"""

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from itertools import count
from typing import Any
from unittest.mock import patch

from common.check import equal
from common.floor import Agents, Floor, Writer
from common.measure import PARTS, Round, Rounds, interleaved, quantiles
from common.report import FLOOR, Row, at_most, row
from common.script import Options, main
from common.stores import all_written, counted
from common.work import advance, keeper, new_state

from greenroom import AsyncRuntime, Runtime, Turn, agent
from greenroom.actors.storage import writer as persistence_actor
from greenroom.persistence.store import Store

CHASING, SLOTS = 64, 8
PAUSE = 0.002
"""Seconds between two calls."""
HURRIED = 0.0005
"""Seconds that a thread may keep others from Python."""


class Load:
    """What goes round a ring, until it is stopped."""

    def __init__(self, ring: int, chasing: int) -> None:
        self.ring, self.chasing = ring, chasing
        self.turns = 0
        self._left = 0
        self._goes_on = False
        self.over = threading.Event()

    def begin(self) -> None:
        self._goes_on, self._left = True, self.chasing
        self.over.clear()

    @property
    def starts(self) -> range:
        """Where in the ring they begin."""
        return range(0, self.ring, self.ring // self.chasing)

    def after(self, number: int) -> int:
        """Who is next."""
        return (number + 1) % self.ring

    def stop(self) -> None:
        self._goes_on = False

    def passes_on(self) -> bool:
        """A turn was done: whether it starts another one."""
        self.turns += 1
        if not self._goes_on:
            self._left -= 1
            if not self._left:
                self.over.set()
        return self._goes_on


LOADS: dict[str, Load] = {}


@agent(name="bench.chaser", state=new_state)
async def chaser(turn: Turn) -> None:
    """Does a turn's work, and has the next agent of the ring do the same."""
    name, number = turn.input
    advance(turn.state, number)
    load = LOADS[name]
    if load.passes_on():
        await turn.followup(f"/ring/a{load.after(number)}", (name, load.after(number)))


@contextmanager
def disk(delay: float) -> Any:
    """Have stores that are opened meanwhile take so long for each batch, as tests/durability/disks do."""

    class Slow(Store):
        def commit(self) -> None:
            time.sleep(delay)
            super().commit()

    with patch.object(persistence_actor, "Store", Slow if delay else Store):
        yield


async def probed(
    load: Load, begin: Callable[[], Awaitable[Any]], probe: Callable[[], Any], calls: int
) -> Round:
    """The waits of that many calls, one after the other, while the load goes round."""
    load.begin()
    await begin()
    before, begun = load.turns, time.perf_counter()
    times = await probe() if asyncio.iscoroutinefunction(probe) else await asyncio.to_thread(probe)
    seconds = time.perf_counter() - begun
    turns = load.turns - before
    load.stop()
    over = await asyncio.to_thread(load.over.wait, 60.0)
    equal("that the load came to its end", over, True)
    equal("calls", len(times), calls)
    return Round({**quantiles(times, 1e6), "load": turns / seconds}, times)


class OnTheLoop:
    """A caller that is a task on the runtime's loop."""

    def __init__(self, options: Options, name: str, calls: int) -> None:
        self.store, self.name, self.calls = options.store(name), name, calls
        self.load = LOADS[name] = Load(options.pick(256, CHASING), CHASING)
        self.rounds = 0
        self.runtime: Any
        self.refs: list[Any]
        self.probe: Any

    async def open(self, stack: AsyncExitStack) -> None:
        self.runtime = AsyncRuntime(
            self.store, slots=SLOTS, residents=2 * self.load.ring, durability="memory"
        )
        await stack.enter_async_context(self.runtime)
        spawned = (self.runtime.spawn(chaser, f"/ring/a{number}") for number in range(self.load.ring))
        self.refs = await asyncio.gather(*spawned)
        self.probe = await self.runtime.spawn(keeper, "/probe/a")

    async def round(self) -> Round:
        self.rounds += 1
        return await probed(self.load, self._begin, self._calls, self.calls)

    async def _begin(self) -> None:
        for number in self.load.starts:
            await self.refs[number].followup((self.name, number))

    async def _calls(self) -> list[float]:
        times = []
        for number in range(self.calls):
            begun = time.perf_counter()
            await self.probe.followup(number)
            times.append(time.perf_counter() - begun)
            await asyncio.sleep(PAUSE)
        return times

    async def finish(self) -> None:
        await all_written(self.runtime.stats)

    def check(self) -> None:
        expected = self.load.turns + self.rounds * self.calls
        found = counted(self.store, "SELECT count(*) FROM runs WHERE status = 'completed'")
        equal(f"completed runs in the store, {self.name}", found, expected)


class OnAThread(OnTheLoop):
    """A caller that is a thread, of a runtime with a thread for its loop."""

    async def open(self, stack: AsyncExitStack) -> None:
        self.runtime = Runtime(self.store, slots=SLOTS, residents=2 * self.load.ring, durability="memory")
        await asyncio.to_thread(self.runtime.start)
        stack.push_async_callback(asyncio.to_thread, self.runtime.close)
        self.refs = [self.runtime.spawn(chaser, f"/ring/a{number}") for number in range(self.load.ring)]
        self.probe = self.runtime.spawn(keeper, "/probe/a")

    async def round(self) -> Round:
        self.rounds += 1
        return await probed(self.load, self._begin, self._calls_of_thread, self.calls)

    async def finish(self) -> None:
        await all_written(partial(asyncio.to_thread, self.runtime.stats))

    async def _begin(self) -> None:
        for number in self.load.starts:
            await asyncio.to_thread(self.refs[number].followup, (self.name, number))

    async def hurried_round(self) -> Round:
        """With a shorter switch interval, which a program may set for itself."""
        usual = sys.getswitchinterval()
        sys.setswitchinterval(HURRIED)
        try:
            return await self.round()
        finally:
            sys.setswitchinterval(usual)

    def _calls_of_thread(self) -> list[float]:
        times = []
        for number in range(self.calls):
            begun = time.perf_counter()
            self.probe.followup(number)
            times.append(time.perf_counter() - begun)
            time.sleep(PAUSE)
        return times


class ByHand:
    """The ring as tasks with queues."""

    def __init__(self, writer: Writer, calls: int) -> None:
        self.load, self.calls = Load(256, SLOTS), calls
        floor = Floor(writer, durable=False)
        self.ring = Agents(floor, self.load.ring, work=self._work)
        self.probe = Agents(floor, 1)
        self._numbers = count(1)

    def _work(self, state: Any, number: int) -> None:
        advance(state, number)
        if self.load.passes_on():
            self.ring.ask(self.load.after(number), self.load.after(number))

    async def round(self) -> Round:
        return await probed(self.load, self._begin, self._calls, self.calls)

    async def _begin(self) -> None:
        for number in self.load.starts:
            self.ring.ask(number, number)

    async def _calls(self) -> list[float]:
        times = []
        for number in range(self.calls):
            begun = time.perf_counter()
            equal("the turns of the task at rest", await self.probe.ask(0, number), next(self._numbers))
            times.append(time.perf_counter() - begun)
            await asyncio.sleep(PAUSE)
        return times

    async def close(self) -> None:
        await self.ring.close()
        await self.probe.close()


def pooled(rounds: Rounds) -> Rounds:
    """All rounds as one, for a quantile that one of them has too few calls for."""
    times = {name: [time for each in some for time in each.times] for name, some in rounds.items()}
    return {name: [Round(quantiles(some, 1e6), some)] for name, some in times.items()}


async def measure(options: Options) -> list[Row]:
    calls, slow_commit = options.pick((400, 0.1), (20, 0.02))
    rows: list[Row] = []
    ways: dict[str, type[OnTheLoop]] = {"a task": OnTheLoop, "a thread": OnAThread}
    for way, kind in ways.items():
        async with AsyncExitStack() as stack:
            fast, slow = (kind(options, f"{way[2:]}-{name}", calls) for name in ("fast", "slow"))
            with disk(0.0):
                await fast.open(stack)
            with disk(slow_commit):
                await slow.open(stack)
            contestants = {"fast": fast.round, "slow": slow.round}
            between = [fast.finish, slow.finish]
            if isinstance(fast, OnAThread):
                contestants["hurried"] = fast.hurried_round
            else:
                writer = await stack.enter_async_context(Writer(options.store("floor")))
                by_hand = ByHand(writer, calls)
                stack.push_async_callback(by_hand.close)
                contestants[FLOOR] = by_hand.round
                between.append(writer.all_written)
            warm_up = options.pick(1, 0)
            rounds = await interleaved(contestants, options.repeats, warm_up=warm_up, between=between)
        fast.check()
        slow.check()
        for part in PARTS:
            found = pooled(rounds) if part == "p99.9" else rounds
            limit = at_most(2_000, of="ours") if part == "p99" else None
            rows.append(row(f"{way}, {part}", "µs", found, part, better="less", ours="fast", target=limit))
        rows.append(
            row(
                f"{way}, p99, {slow_commit * 1000:.0f} ms per commit", "µs", rounds, "p99", better="less",
                ours="slow", floor="fast", floor_name="fast disk", target=at_most(1.2),
            )
        )  # fmt: skip
        if isinstance(fast, OnAThread):
            rows.append(
                row(
                    f"{way}, p99, a switch interval of {HURRIED * 1000:g} ms", "µs", rounds, "p99",
                    better="less", ours="hurried", floor="fast", floor_name="5 ms",
                )
            )  # fmt: skip
        rows.append(
            row(f"{way}, the load meanwhile", "turns/s", rounds, "load", better="more", ours="fast")
        )
    return rows


if __name__ == "__main__":
    main(__file__, __doc__, measure)
