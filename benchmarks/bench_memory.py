"""How much memory does an agent take that is in memory, and one that is only known?

Each figure is what a process of its own grew by while agents came: trivial ones, each of which has had a
turn, that all stay in memory; then trivial ones with a turn each, of which 64 stay. By hand, an agent is a
task with a queue. The first ones do not count, as they bring what is allocated once: they fill SQLite's
caches (8 MiB for each of two connections) and what is kept of the newest events and agents. As many again
do count, so that each table has grown once in that time.

    python benchmarks/bench_memory.py --json
"""

import asyncio
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from common.check import equal
from common.floor import Agents, Floor, Writer
from common.measure import Round, interleaved, resident_kib
from common.report import FLOOR, OURS, Row, at_most, row
from common.script import Options, main
from common.stores import path_of
from common.work import trivial

from greenroom import AsyncRuntime

AT_ONCE = 500
KNOWN = "known"


def count(state: dict[str, int], _input: Any) -> int:
    """The trivial agent's work, by hand."""
    state["n"] = state.get("n", 0) + 1
    return state["n"]


async def ours(number: int, first: int, residents: int) -> float:
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as folder:
        async with AsyncRuntime(Path(folder) / "agents.db", residents=residents) as runtime:

            async def one(agent: int) -> Any:
                ref = await runtime.spawn(trivial, path_of(agent), input=None)
                assert ref.run is not None
                return await ref.run

            async def some(begin: int, end: int) -> None:
                for at in range(begin, end, AT_ONCE):
                    agents = range(at, min(at + AT_ONCE, end))
                    results = await asyncio.gather(*(one(agent) for agent in agents))
                    equal("the turns of new agents", results, [1] * len(agents))

            await some(0, first)
            before = resident_kib()
            await some(first, first + number)
            grown = resident_kib() - before
            stats = await runtime.stats()
            in_memory = min(residents, first + number)
            equal(
                "agents, and how many in memory",
                (stats.agents, stats.resident),
                (first + number, in_memory),
            )
    return grown / number


async def by_hand(number: int, first: int) -> float:
    with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as folder:
        async with Writer(Path(folder) / "agents.db") as writer:
            floor = Floor(writer)

            async def some(count_: int) -> Agents:
                made = Agents(floor, count_, work=count, state=dict)
                for at in range(0, count_, AT_ONCE):
                    agents = range(at, min(at + AT_ONCE, count_))
                    results = await asyncio.gather(*(made.ask(agent, None) for agent in agents))
                    equal("the turns of new tasks", results, [1] * len(agents))
                return made

            few = await some(first)
            before = resident_kib()
            many = await some(number)
            grown = resident_kib() - before
            await few.close()
            await many.close()
    return grown / number


def probe(who: str, number: int, first: int) -> float:
    """KiB per agent; in a process of its own."""
    if who == FLOOR:
        return asyncio.run(by_hand(number, first))
    return asyncio.run(ours(number, first, 64 if who == KNOWN else first + number))


async def measure(options: Options) -> list[Row]:
    sizes = {who: options.pick((25_000, 25_000), (300, 100)) for who in (OURS, FLOOR)}
    sizes[KNOWN] = options.pick((25_000, 25_000), (300, 100))
    fresh = multiprocessing.get_context("spawn")

    async def of(who: str) -> Round:
        with ProcessPoolExecutor(1, mp_context=fresh) as process:
            loop = asyncio.get_running_loop()
            return Round({"kib": await loop.run_in_executor(process, probe, who, *sizes[who])})

    contestants = {who: partial(of, who) for who in sizes}
    rounds = await interleaved(contestants, options.repeats, warm_up=0)
    known = {KNOWN: rounds[KNOWN]}
    wanted = at_most(4.0, of="ours")
    nothing = at_most(0.1, of="ours")
    return [
        row("a trivial agent in memory", "KiB", rounds, "kib", better="less", target=wanted),
        row("one more known, 64 in memory", "KiB", known, "kib", better="less", ours=KNOWN, target=nothing),
    ]


if __name__ == "__main__":
    main(__file__, __doc__, measure, rounds=3)
