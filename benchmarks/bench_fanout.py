"""How many runs a second, where agents give work to agents and wait for it?

Wide: one parent, N children, one answer each. Deep: a chain as deep as a path can be, each waiting for the
next. Three levels: a tree of 10 by 10 by 10. The agents are in memory before it begins, and the sums of
squares that come back are checked. A tree takes few slots, as waiting gives them back. The limit
(`common.limit`) has the messages of as many turns and decides nothing.

    python benchmarks/bench_fanout.py --json
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from common.check import equal
from common.floor import Floor, Writer
from common.limit import DECIDING_NOTHING, Hall
from common.measure import Round, interleaved
from common.report import FLOOR, OURS, Row, row
from common.script import Options, main
from common.stores import all_written
from common.work import square

from greenroom import AsyncRuntime, Turn, agent
from greenroom.paths import MAX_SEGMENTS
from greenroom.types import Durability

SLOTS = 64
Tree = list[Any]
"""A tree is the list of its children's trees; a leaf is an empty one."""


@agent(name="bench.parent")
async def parent(turn: Turn) -> int:
    """Has all below it square a number, and adds up: it is told where they are, in trees."""
    number, children = turn.input
    runs = await asyncio.gather(
        *(
            turn.followup(name, (number + place, below) if below else number + place)
            for place, (name, below) in enumerate(children)
        )
    )
    return sum(outcome.result for outcome in await turn.wait(*runs))


def wide(count: int) -> Tree:
    return [[] for _ in range(count)]


def deep(levels: int) -> Tree:
    return [deep(levels - 1)] if levels > 1 else []


def levels(width: int, depth: int) -> Tree:
    return [levels(width, depth - 1) for _ in range(width)] if depth else []


def size(tree: Tree) -> int:
    """All agents in a tree."""
    return 1 + sum(size(child) for child in tree)


def expected(number: int, tree: Tree) -> int:
    """What a tree makes of a number."""
    if not tree:
        return number * number
    return sum(expected(number + place, child) for place, child in enumerate(tree))


class Ours:
    """A tree of agents."""

    def __init__(self, runtime: AsyncRuntime, tree: Tree) -> None:
        self.runtime, self.tree = runtime, tree

    async def spawn(self) -> None:
        """Make the agents, a level at a time, and have the whole tree in memory."""
        self.root = await self.runtime.spawn(parent, "/f")
        level = [("/f", self.tree)]
        while level:
            below = [(f"{at}/{n}", tree) for at, some in level for n, tree in enumerate(some)]
            await asyncio.gather(
                *(self.runtime.spawn(parent if tree else square, at) for at, tree in below)
            )
            level = below
        self.plan = self._plan("/f", self.tree)

    def _plan(self, at: str, tree: Tree) -> list[tuple[str, Any]]:
        return [(f"{at}/{n}", self._plan(f"{at}/{n}", child)) for n, child in enumerate(tree)]

    async def round(self, number: int) -> int:
        run = await self.root.followup((number, self.plan))
        return int(await run)


class ByHand:
    """A tree of tasks with queues."""

    def __init__(self, floor: Floor, tree: Tree) -> None:
        self._floor, self._tree = floor, tree
        self._tasks: list[asyncio.Task[None]] = []
        self._made = 0
        self._root = self._grow(tree)

    def _grow(self, tree: Tree) -> "asyncio.Queue[Any]":
        self._made += 1
        queue: asyncio.Queue[Any] = asyncio.Queue()
        below = [self._grow(child) for child in tree]
        self._tasks.append(asyncio.create_task(self._live(self._made, queue, below)))
        return queue

    async def _live(
        self, number: int, inbox: "asyncio.Queue[Any]", below: "list[asyncio.Queue[Any]]"
    ) -> None:
        while True:
            given, answer = await inbox.get()
            result = await self._ask(below, given) if below else given * given
            self._floor.settle(self._floor.rows_of(number, given, result, {}), answer, result)

    async def _ask(self, queues: "Sequence[asyncio.Queue[Any]]", number: int) -> int:
        answers = []
        for place, queue in enumerate(queues):
            answers.append(asyncio.get_running_loop().create_future())
            queue.put_nowait((number + place, answers[-1]))
        return sum([await answer for answer in answers])

    async def round(self, number: int) -> int:
        return await self._ask([self._root], number)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Limit:
    """A hall with a session for each child, all asked by nobody in particular."""

    def __init__(self, floor: Floor, tree: Tree) -> None:
        self.hall = Hall(floor, len(tree), slots=SLOTS, work=lambda _, number: number * number, state=dict)
        self._children = len(tree)

    async def round(self, number: int) -> int:
        children = range(self._children)
        return sum(await asyncio.gather(*(self.hall.ask(child, number + child) for child in children)))


async def timed(work: Callable[[int], Any], tree: Tree, times: int) -> Round:
    """Send that many numbers through a tree, one after the other."""
    took = []
    for number in range(times):
        begun = time.perf_counter()
        found = await work(number)
        took.append(time.perf_counter() - begun)
        equal("the sum of all squares", found, expected(number, tree))
    return Round({"runs/s": size(tree) * times / sum(took)}, took)


async def compare(options: Options, name: str, tree: Tree, times: int, level: Durability) -> Any:
    """Both in turn, each on a store of its own."""
    async with AsyncExitStack() as stack:
        runtime = AsyncRuntime(
            options.store(f"ours-{name}"), slots=SLOTS, residents=size(tree), durability=level
        )
        await stack.enter_async_context(runtime)
        ours = Ours(runtime, tree)
        await ours.spawn()
        writer = await stack.enter_async_context(Writer(options.store(f"floor-{name}")))
        floor = ByHand(Floor(writer, durable=level != "memory"), tree)
        stack.push_async_callback(floor.close)
        between = [partial(all_written, runtime.stats), writer.all_written]
        contestants = {
            OURS: partial(timed, ours.round, tree, times),
            FLOOR: partial(timed, floor.round, tree, times),
        }
        if not any(tree):  # it knows no levels
            writer = await stack.enter_async_context(Writer(options.store(f"limit-{name}")))
            limit = Limit(Floor(writer, durable=level != "memory"), tree)
            stack.push_async_callback(limit.hall.close)
            contestants[DECIDING_NOTHING] = partial(timed, limit.round, tree, times)
            between.append(writer.all_written)
        return await interleaved(contestants, options.repeats, between=between)


async def measure(options: Options) -> list[Row]:
    few, many = options.pick((1_000, 10_000), (50, 200))
    side = options.pick(10, 3)
    depth = MAX_SEGMENTS
    wanted = {"pykka": 1.0, "xoscar": 2.0, "autogen-core": 5.0, "ray": 10.0, "langgraph": 10.0}
    workloads: list[tuple[str, Tree, int, Durability]] = [
        (f"one parent, {few:,} children, memory", wide(few), options.pick(3, 1), "memory"),
        (f"one parent, {many:,} children, memory", wide(many), 1, "memory"),
        (f"one parent, {few:,} children, process", wide(few), options.pick(3, 1), "process"),
        (f"a chain of {depth}, memory", deep(depth), options.pick(20, 2), "memory"),
        (f"a tree of {side} by {side} by {side}, memory", levels(side, 3), options.pick(3, 1), "memory"),
    ]
    rows = []
    for number, (name, tree, times, level) in enumerate(workloads):
        rounds = await compare(options, str(number), tree, times, level)
        of_peers = wanted if number < 2 else None
        rows.append(row(name, "runs/s", rounds, "runs/s", better="more", wanted=of_peers))
        if number == 0:
            rows.append(
                row(
                    f"{name}, its messages alone", "runs/s", rounds, "runs/s", better="more",
                    floor=DECIDING_NOTHING, floor_name=DECIDING_NOTHING,
                )
            )  # fmt: skip
    return rows


if __name__ == "__main__":
    main(__file__, __doc__, measure)
