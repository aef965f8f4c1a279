"""How many turns a second, when nearly each one needs an agent that is on disk?

10,000 known agents with 2 KiB of state, of which 64 are in memory, and 64 callers who each ask one agent
after the other, as an access pattern says. Then one caller alone, for what a single reload takes: from the
acceptance of the run to the opened session, by the runtime's own events. The floor has a dict of 64 states
in order of use, a SELECT for those that are not in it, and the same commit at the end of each turn.

    python benchmarks/bench_reload.py --json
"""

import asyncio
import pickle
import sqlite3
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from common.check import counted, equal
from common.floor import PUT, Floor, Rows, Writer
from common.measure import Round, interleaved, quantile
from common.report import FLOOR, OURS, Row, at_least, at_most, row
from common.script import Options, main
from common.stores import fill, path_of
from common.work import ACCESS, advance, new_state

from greenroom import AsyncRuntime

RESIDENTS, SLOTS, CALLERS = 64, 64, 64


class Ours:
    """Agents in a store."""

    def __init__(self, runtime: AsyncRuntime) -> None:
        self.runtime = runtime
        self._refs: dict[int, Any] = {}
        self._heard = 0  # the last event that was looked at

    async def ask(self, number: int) -> int:
        """One turn of one agent: how many it has had."""
        ref = self._refs.get(number)
        if ref is None:
            ref = self._refs[number] = await self.runtime.agent(path_of(number))
        run = await ref.followup(number)
        return int(await run)

    async def reload_times(self) -> list[float]:
        """Seconds from acceptance to opened session, of each reload since this was asked last."""
        accepted: dict[str, float] = {}
        times = []
        async for event in self.runtime.events(since=self._heard, follow=False):
            self._heard = event.seq
            if event.type == "run.accepted":
                accepted[event.path] = event.at
            elif event.type in ("agent.reloaded", "agent.started") and event.path in accepted:
                times.append(event.at - accepted.pop(event.path))
        return times


class ByHand:
    """States in a file, some of them in a dict."""

    def __init__(self, writer: Writer, known: int) -> None:
        self._floor = Floor(writer)
        self._states: OrderedDict[int, Any] = OrderedDict()
        self._unwritten: dict[int, tuple[Any, Any]] = {}  # the newest state of each, until it is committed
        self._reader = sqlite3.connect(writer.path)
        self.reloads: list[float] = []
        data = pickle.dumps(new_state(), 5)
        self.rows: Rows = [(PUT, (number, data)) for number in range(known)]

    async def fill(self) -> None:
        """Write all states."""
        written = asyncio.get_running_loop().create_future()
        self._floor.writer.put(self.rows, lambda: written.set_result(None))
        await written

    def _load(self, number: int) -> Any:
        state = self._states.pop(number, None)
        if state is None:
            begun = time.perf_counter()
            unwritten = self._unwritten.get(number)
            if unwritten is not None:
                state = pickle.loads(unwritten[1])
            else:
                question = "SELECT data FROM snapshots WHERE agent_id = ?"
                state = pickle.loads(self._reader.execute(question, (number,)).fetchone()[0])
            self.reloads.append(time.perf_counter() - begun)
        self._states[number] = state
        if len(self._states) > RESIDENTS:
            self._states.popitem(last=False)
        return state

    async def ask(self, number: int) -> int:
        state = self._load(number)
        result = advance(state, number)
        rows = self._floor.rows_of(number, number, result, state)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        mark = object()
        self._unwritten[number] = (mark, rows[2][1][1])
        self._floor.settle(rows, answer, result)
        found = await answer
        if self._unwritten.get(number, (None,))[0] is mark:
            del self._unwritten[number]
        return found

    def close(self) -> None:
        self._reader.close()


class Pattern:
    """One sequence of agents, for one contestant; knows how many turns each must have had."""

    def __init__(
        self, ask: Callable[[int], Awaitable[int]], numbers: Sequence[int], had: Counter[int]
    ) -> None:
        self._ask, self._numbers, self._had = ask, numbers, had

    async def round(self, callers: int) -> Round:
        """Go through all of it, with so many callers."""
        todo = iter(self._numbers)
        told: dict[int, list[int]] = {}
        times: list[float] = []

        async def caller() -> None:
            for number in todo:
                begun = time.perf_counter()
                result = await self._ask(number)
                times.append(time.perf_counter() - begun)
                told.setdefault(number, []).append(result)

        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        seconds = time.perf_counter() - begun
        for number, results in told.items():
            before = self._had[number]
            counted(f"the turns of agent {number}", (result - before for result in results), len(results))
            self._had[number] += len(results)
        equal("turns", len(times), len(self._numbers))
        return Round({"turns/s": len(times) / seconds}, times)


async def measure(options: Options) -> list[Row]:
    known, turns = options.pick((10_000, 3_000), (500, 100))
    alone = options.pick(500, 2 * RESIDENTS)  # more than there is room for
    fill(options.store("ours"), known, kind="bench.keeper", state=new_state())
    rows = []
    async with AsyncExitStack() as stack:
        runtime = AsyncRuntime(options.store("ours"), slots=SLOTS, residents=RESIDENTS)
        await stack.enter_async_context(runtime)
        writer = await stack.enter_async_context(Writer(options.store("floor")))
        ours, floor = Ours(runtime), ByHand(writer, known)
        stack.callback(floor.close)
        await floor.fill()
        had: dict[str, Counter[int]] = {OURS: Counter(), FLOOR: Counter()}
        for name, access in ACCESS.items():
            numbers = access(known, turns, options.seed)
            before = await runtime.stats()
            contestants = {
                OURS: partial(Pattern(ours.ask, numbers, had[OURS]).round, CALLERS),
                FLOOR: partial(Pattern(floor.ask, numbers, had[FLOOR]).round, CALLERS),
            }
            rounds = await interleaved(contestants, options.repeats)
            left = (await runtime.stats()).evictions - before.evictions
            share = left / (turns * (options.repeats + 1))
            target = at_least(4_000, of="ours") if name == "uniform" else None
            rows.append(
                row(
                    f"{known:,} known, {RESIDENTS} in memory, {name}", "turns/s", rounds, "turns/s",
                    better="more", target=target, note=f"{share:.0%} of the turns had an agent loaded",
                )
            )  # fmt: skip
        numbers = ACCESS["loop"](known, alone, options.seed)
        await ours.reload_times()

        async def one_by_one(name: str) -> Round:
            ask = ours.ask if name == OURS else floor.ask
            floor.reloads.clear()
            done = await Pattern(ask, numbers, had[name]).round(1)
            times = floor.reloads if name == FLOOR else await ours.reload_times()
            few = alone - RESIDENTS  # some may have been in memory from before
            equal(f"that {len(times)} loads by {name} are enough", few <= len(times) <= alone, True)
            return Round({"p50": quantile(times, 0.5) * 1e6, "turn": quantile(done.times, 0.5) * 1e6})

        contestants = {name: partial(one_by_one, name) for name in (OURS, FLOOR)}
        rounds = await interleaved(contestants, options.repeats)
        target = at_most(300, of="ours")
        rows.append(row("one reload, p50", "µs", rounds, "p50", better="less", target=target))
        rows.append(row("one turn of a cold agent, p50", "µs", rounds, "turn", better="less"))
    return rows


if __name__ == "__main__":
    main(__file__, __doc__, measure)
