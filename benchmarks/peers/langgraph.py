"""LangGraph: a compiled graph of one node, a thread for each agent, and its own SQLite checkpointer.

A turn is one `ainvoke` of a thread, whose state comes from the checkpointer and goes back to it. The
fan-out is its map-reduce (`Send`). Stored turns have `durability="exit"`, which writes least, and the
checkpointer's connection has SQLite's `synchronous` as greenroom has it: NORMAL for "process", and FULL,
which is what it has as shipped, for "power". Graphs exchange no messages, and an agent that stays in memory
is a debugging aid.
"""

import asyncio
import operator
import random
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Annotated, Any, TypedDict

import aiosqlite
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from peers.contest import (
    AT_ONCE,
    PAUSE,
    SLOTS,
    Contest,
    Values,
    advance,
    microseconds,
    new_state,
    pick,
    resident_kib,
    right,
    squares,
    to_ideal,
)

contest = Contest("langgraph", "langgraph-checkpoint-sqlite", note="")
STORED = 'AsyncSqliteSaver, durability="exit", synchronous='


class Keeper(TypedDict):
    state: dict[str, Any]
    given: float


class Family(TypedDict):
    children: int
    answers: Annotated[list[int], operator.add]


async def turn(known: Keeper) -> dict[str, Any]:
    return {"state": advance(known.get("state") or new_state(), int(known["given"]))}


async def sleep(known: Keeper) -> dict[str, Any]:
    await asyncio.sleep(known["given"])
    return {"state": {"n": (known.get("state") or {"n": 0})["n"] + 1}}


async def square(number: int) -> dict[str, Any]:
    return {"answers": [number * number]}


def each(family: Family) -> list[Send]:
    return [Send("child", number) for number in range(family["children"])]


def keeper(work: Any, saver: Any) -> Any:
    builder = StateGraph(Keeper)
    builder.add_node("turn", work)
    builder.add_edge(START, "turn")
    builder.add_edge("turn", END)
    return builder.compile(checkpointer=saver)


def family(saver: Any) -> Any:
    builder = StateGraph(Family)
    builder.add_node("child", square)
    builder.add_conditional_edges(START, each, ["child"])
    builder.add_edge("child", END)
    return builder.compile(checkpointer=saver)


@asynccontextmanager
async def sqlite(synchronous: str = "NORMAL") -> AsyncGenerator[AsyncSqliteSaver, None]:
    with tempfile.TemporaryDirectory(prefix="peers-bench-") as folder:
        async with aiosqlite.connect(Path(folder) / "checkpoints.db") as connection:
            saver = AsyncSqliteSaver(connection)
            await saver.setup()
            await connection.execute(f"PRAGMA synchronous = {synchronous}")
            yield saver


def thread(name: object) -> dict[str, Any]:
    return {"configurable": {"thread_id": str(name)}}


async def ask(graph: Any, name: object, given: float) -> int:
    """One turn of one agent: how many it has had."""
    done = await graph.ainvoke({"given": given}, thread(name), durability="exit")
    return int(done["state"]["n"])


async def new_ones(graph: Any, names: Sequence[int]) -> None:
    told = await asyncio.gather(*(ask(graph, name, 1) for name in names))
    right("first turns", told, [1] * len(names))


@contest.does("wait, stored", pick(200, 20), note=STORED + "NORMAL; until its first turn is stored")
async def waits(number: int) -> Values:
    async with sqlite() as saver:
        graph, agents = keeper(turn, saver), count()
        while True:
            times = []
            for _ in range(number):
                begun = time.perf_counter()
                right("first turn", await ask(graph, next(agents), 1), 1)
                times.append(time.perf_counter() - begun)
            yield microseconds(times)


@contest.does("spawn 1,000, stored", pick(1_000, 50), note=STORED + "NORMAL; ready: has had one turn")
async def spawn(number: int) -> Values:
    async with sqlite() as saver:
        graph = keeper(turn, saver)
        for batch in count():
            begun = time.perf_counter()
            await new_ones(graph, range(batch * number, (batch + 1) * number))
            yield [number / (time.perf_counter() - begun)]


@contest.does("turns process", pick(1_000, 50), "NORMAL", note=STORED + "NORMAL")
@contest.does("turns power", pick(1_000, 50), "FULL", note=STORED + "FULL, as shipped")
async def turns(number: int, synchronous: str) -> Values:
    async with sqlite(synchronous) as saver:
        graph = keeper(turn, saver)
        await new_ones(graph, range(number))
        for done in count(2):
            begun = time.perf_counter()
            told = await asyncio.gather(*(ask(graph, name, done) for name in range(number)))
            seconds = time.perf_counter() - begun
            right("turns", told, [done] * number)
            yield [number / seconds]


@contest.does("runs 1,000", pick(1_000, 50), "nothing", note="Send to each child; nothing is stored")
@contest.does("runs 10,000", pick(10_000, 200), "nothing", note="Send to each child; nothing is stored")
@contest.does(
    "runs 1,000, stored", pick(1_000, 50), "sqlite", note="Send to each child; " + STORED + "NORMAL"
)
async def runs(number: int, stored: str) -> Values:
    async with sqlite() as saver:
        graph = family(saver if stored == "sqlite" else None)
        for name in count():
            begun = time.perf_counter()
            given = {"children": number, "answers": []}
            how = {"durability": "exit"} if stored == "sqlite" else {}
            done = await graph.ainvoke(given, thread(name), **how)
            seconds = time.perf_counter() - begun
            right("the sum of squares", sum(done["answers"]), squares(number))
            yield [(number + 1) / seconds]


@contest.does("io", pick(1_000, 128), note="abatch, max_concurrency=64; " + STORED + "NORMAL")
async def io(number: int) -> Values:
    async with sqlite() as saver:
        graph = keeper(sleep, saver)
        inputs = [{"given": PAUSE}] * number
        configs = [{**thread(name), "max_concurrency": SLOTS} for name in range(number)]
        for done in count(1):
            begun = time.perf_counter()
            told = await graph.abatch(inputs, configs, durability="exit")
            seconds = time.perf_counter() - begun
            right("turns", [each["state"]["n"] for each in told], [done] * number)
            yield [to_ideal(seconds, number)]


@contest.does(
    "reload", pick(1_000, 100), pick(300, 50), pick(100, 20),
    note=STORED + "NORMAL; 1,000 known; every turn loads, nothing stays in memory; a reload is aget_state",
)  # fmt: skip
async def reload(known: int, number: int, alone: int) -> Values:
    async with sqlite() as saver:
        graph, had = keeper(turn, saver), [1] * known
        await new_ones(graph, range(known))
        chance = random.Random(20_261)
        while True:
            todo = iter(chance.choices(range(known), k=number))

            async def caller(todo: Any) -> None:
                for name in todo:
                    await ask(graph, name, 1)
                    had[name] += 1

            begun = time.perf_counter()
            await asyncio.gather(*(caller(todo) for _ in range(SLOTS)))
            rate = number / (time.perf_counter() - begun)
            reloads, asked = [], []
            for name in chance.sample(range(known), alone):
                begun = time.perf_counter()
                found = await graph.aget_state(thread(name))
                reloads.append(time.perf_counter() - begun)
                right("turns on disk", found.values["state"]["n"] >= 1, True)
                begun = time.perf_counter()
                await ask(graph, name, 1)
                asked.append(time.perf_counter() - begun)
            yield [rate, microseconds(reloads)[0], microseconds(asked)[0]]


@contest.does(
    "memory", 100, pick(2_000, 100), note="InMemorySaver; has had one turn, with a count for state"
)
async def memory(few: int, number: int) -> Values:
    graph = keeper(sleep, InMemorySaver())
    for first in range(0, few + number, AT_ONCE):
        if first == few:
            before = resident_kib()
        await asyncio.gather(*(ask(graph, name, 0) for name in range(first, first + AT_ONCE)))
    yield [(resident_kib() - before) / number]


if __name__ == "__main__":
    contest.main()
