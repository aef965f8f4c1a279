"""For how long does one hold of the loop last while there is very much to do?

A hold is what the loop does between two of its turns: one callback, or one step of a task. Its length is
the CPU time of the loop's thread, so that other programs on the machine do not count. Measured is the
longest hold during each of: the interrupt of 200,000 queued runs, the wait for 100,000 ended runs,
the close of 100,000 children, an input and a result of 50 MB, 200,000 progress events with 1,000
listeners, and the closing and opening of a runtime with 100,000 agents that each have a queued run.

What the program itself holds before that (its handles, the queue) is frozen for Python's collector, as
`gc.freeze` is meant to be used: a full collection visits every object, and would be measured instead. The
collector is off while a runtime is opened: the open runs come into memory then, and it would visit them.

The floor is a task that takes as many items from a queue by hand, 16 at a time, and yields in between.

    python benchmarks/bench_holds.py --json
"""

import asyncio
import gc
import time
from asyncio import events
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from common.check import equal
from common.measure import Round, interleaved
from common.report import OURS, Row, at_most, row
from common.script import Options, main
from common.work import trivial

from greenroom import AsyncRuntime, Turn, agent
from greenroom.actors.face.async_handles import AsyncRun

LIMIT = 20.0
"""Milliseconds."""

BY_HAND = "by hand"
GROUP = 500
"""Calls that are under way at once while a round is prepared."""

Work = Callable[[], Awaitable[None]]


@agent(name="bench.holds.waits")
async def waits(_: Turn) -> None:
    """Works until it is interrupted."""
    await asyncio.Event().wait()


@agent(name="bench.holds.echo")
async def echo(turn: Turn) -> Any:
    return turn.input


@agent(name="bench.holds.tells")
async def tells(turn: Turn) -> int:
    """Tells as often as it is told to; its own steps are short."""
    for number in range(turn.input):
        turn.emit("step", number)
        if number % 50 == 0:
            await asyncio.sleep(0)
    return int(turn.input)


@contextmanager
def longest(found: dict[str, float]) -> Iterator[None]:
    """Note the longest hold of the loop meanwhile, in ms."""
    run, clock = events.Handle._run, time.thread_time
    most = 0.0

    def measured(handle: Any) -> None:
        nonlocal most
        begun = clock()
        run(handle)
        most = max(most, clock() - begun)

    events.Handle._run = measured  # type: ignore[method-assign]
    try:
        yield
    finally:
        events.Handle._run = run  # type: ignore[method-assign]
        found["longest"] = most * 1e3


async def in_groups(count: int, call: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """What so many calls return, a group of them at a time."""
    done: list[Any] = []
    for begin in range(0, count, GROUP):
        done += await asyncio.gather(*(call(n) for n in range(begin, min(begin + GROUP, count))))
    return done


async def held(work: Work) -> Round:
    """The longest hold while `work` is done."""
    gc.collect()
    gc.freeze()
    found: dict[str, float] = {}
    try:
        with longest(found):
            await asyncio.sleep(0)  # from here on the steps of this task are measured, too
            await work()
    finally:
        gc.unfreeze()
    return Round(found)


class Workloads:
    """Each prepares what is to be done, and does it in a hold-measured block."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rounds = 0

    def runtime(self, **settings: Any) -> AsyncRuntime:
        self.rounds += 1
        store = self.options.store(f"holds-{self.rounds}")
        return AsyncRuntime(store, **{"slots": 8, "backlog": 1_000_000, "durability": "memory", **settings})

    async def interrupt(self, count: int) -> Round:
        async with self.runtime(durability="process") as runtime:
            ref = await runtime.spawn(waits, "/queue/a")
            runs = await in_groups(count, lambda n: ref.followup(n, durability="memory"))

            async def work() -> None:
                equal("that there was something to interrupt", await ref.interrupt(), True)

            found = await held(work)
            equal("the last run's end", (await runs[-1].outcome()).status, "interrupted")
            equal("runs that are left", (await runtime.stats()).queued, 0)
            return found

    async def wait(self, count: int) -> Round:
        async with self.runtime(residents=200) as runtime:
            refs = await in_groups(100, lambda n: runtime.spawn(trivial, f"/wait/a{n}"))
            runs = await in_groups(count, lambda n: refs[n % 100].followup(n))
            await runtime.wait(runs)
            fresh = [AsyncRun(runtime, run.run_id, run.path) for run in runs]  # that have seen no end

            async def work() -> None:
                equal("runs that have ended", len(await runtime.wait(fresh)), count)

            return await held(work)

    async def close(self, count: int) -> Round:
        async with self.runtime() as runtime:
            parent = await runtime.spawn(trivial, "/family/parent")
            await in_groups(count, lambda n: runtime.spawn(trivial, f"/family/parent/c{n}"))
            found = await held(parent.close)
            equal("agents that are left", (await runtime.stats()).agents, 0)
            return found

    async def large(self, size: int) -> Round:
        async with self.runtime() as runtime:
            ref, value = await runtime.spawn(echo, "/large/a"), "x" * size

            async def work() -> None:
                equal("what came back", len(await (await ref.followup(value))), size)

            return await held(work)

    async def crowded(self, count: int) -> str:
        """A store with so many agents that each have a queued run."""
        async with self.runtime() as runtime:
            await in_groups(count, lambda n: runtime.spawn(waits, f"/crowd/a{n}", input=n))
        return self.options.store(f"holds-{self.rounds}")

    async def reopen(self, count: int) -> Round:
        store = await self.crowded(count)
        runtime = AsyncRuntime(store, backlog=1_000_000, durability="memory")
        gc.disable()
        try:
            found = await held(runtime.start)
        finally:
            gc.enable()
            stats = await runtime.stats()
            await runtime.close(drain=0.0)
        equal("runs that are open", stats.queued + stats.running, count)
        return found

    async def leave(self, count: int) -> Round:
        store = await self.crowded(count)
        runtime = await AsyncRuntime(store, backlog=1_000_000, durability="memory").start()
        return await held(lambda: runtime.close(drain=0.0))

    async def progress(self, count: int) -> Round:
        listening, heard = self.options.pick(1_000, 20), 0
        async with self.runtime() as runtime:
            speaker = await runtime.spawn(tells, "/tells/a")

            async def listen(under: str) -> None:
                nonlocal heard
                async for event in runtime.events(under):
                    heard += event.type == "run.progress"

            others = [asyncio.create_task(listen(f"/quiet/a{n}")) for n in range(listening - 1)]
            others.append(asyncio.create_task(listen("/tells")))
            await asyncio.sleep(0.05)

            async def work() -> None:
                equal("what was told", await (await speaker.followup(count)), count)

            found = await held(work)
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            equal("that somebody heard of it", heard > 0, True)
            return found


async def by_hand(count: int) -> Round:
    """As many items, 16 at a time."""
    items, done = deque(range(count)), 0

    async def work() -> None:
        nonlocal done
        while items:
            for _ in range(min(16, len(items))):
                items.popleft()
                done += 1
            await asyncio.sleep(0)

    found = await held(work)
    equal("items", done, count)
    return found


async def measure(options: Options) -> list[Row]:
    loads = Workloads(options)
    thousands = options.pick((200_000, 100_000, 100_000, 200_000, 100_000), (500, 300, 150, 300, 300))
    queued, ended, children, told, crowd = thousands
    megabytes = options.pick(50, 3)
    wanted: dict[str, tuple[int, Callable[[int], Awaitable[Round]]]] = {
        f"interrupt of {queued:,} queued runs": (queued, loads.interrupt),
        f"wait for {ended:,} ended runs": (ended, loads.wait),
        f"close of {children:,} children": (children, loads.close),
        f"input and result of {megabytes} MB": (megabytes * 1_000_000, loads.large),
        f"{told:,} progress events, {options.pick(1_000, 20):,} listeners": (told, loads.progress),
        f"opening with {crowd:,} open runs": (crowd, loads.reopen),
        f"closing with {crowd:,} open runs": (crowd, loads.leave),
    }
    rows = []
    for name, (size, load) in wanted.items():
        items = min(size, queued)
        contestants = {OURS: lambda load=load, size=size: load(size), BY_HAND: lambda n=items: by_hand(n)}
        rounds = await interleaved(contestants, options.repeats, warm_up=options.pick(1, 0))
        rows.append(
            row(
                name, "ms", rounds, "longest", better="less", floor=BY_HAND, floor_name="a task by hand",
                target=at_most(LIMIT, of="ours"),
            )
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main(__file__, __doc__, measure, rounds=3)
