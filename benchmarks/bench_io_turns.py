"""How near to the ideal do turns come that wait for something outside?

1,000 turns of 50 ms at 64 slots: 16 rounds, 0.80 s. What a turn costs beyond its waiting shows in the
ratio to that ideal. The floor does the same with a semaphore of 64. The limit (`common.limit`) has a turn's
messages and commits and decides nothing but who has a slot.

    python benchmarks/bench_io_turns.py --json
"""

import asyncio
import math
import time
from contextlib import AsyncExitStack
from typing import Any

from common.check import equal
from common.floor import Floor, Writer
from common.limit import DECIDING_NOTHING, Hall
from common.measure import Round, interleaved
from common.report import FLOOR, OURS, Row, at_most, row
from common.script import Options, main
from common.work import sleeper

from greenroom import AsyncRuntime

SLOTS = 64


async def measure(options: Options) -> list[Row]:
    turns, pause = options.pick((1_000, 0.05), (128, 0.02))
    ideal = math.ceil(turns / SLOTS) * pause
    done = 0

    def timed(results: list[Any], expected: int, begun: float) -> Round:
        seconds = time.perf_counter() - begun
        equal("what the turns returned", results, [expected] * turns)
        return Round({"ideal": seconds / ideal})

    async with AsyncExitStack() as stack:
        runtime = AsyncRuntime(options.store("ours"), slots=SLOTS, residents=turns)
        await stack.enter_async_context(runtime)
        spawned = (runtime.spawn(sleeper, f"/io/a{number}") for number in range(turns))
        refs = await asyncio.gather(*spawned)

        async def one(ref: Any) -> Any:
            run = await ref.followup(pause)
            return await run

        async def ours() -> Round:
            nonlocal done
            done += 1
            begun = time.perf_counter()
            return timed(await asyncio.gather(*(one(ref) for ref in refs)), done, begun)

        writer = await stack.enter_async_context(Writer(options.store("floor")))
        floor, slots = Floor(writer), asyncio.Semaphore(SLOTS)

        async def by_hand(number: int) -> Any:
            answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            async with slots:
                await asyncio.sleep(pause)
            floor.settle(floor.rows_of(number, pause, 1, {"n": 1}), answer, 1)
            return await answer

        async def theirs() -> Round:
            begun = time.perf_counter()
            return timed(await asyncio.gather(*(by_hand(number) for number in range(turns))), 1, begun)

        async def sleep(_state: Any, seconds: float) -> int:
            await asyncio.sleep(seconds)
            return 1

        writer = await stack.enter_async_context(Writer(options.store("limit")))
        hall = Hall(Floor(writer), turns, slots=SLOTS, work=sleep, state=dict)
        stack.push_async_callback(hall.close)

        async def limit() -> Round:
            begun = time.perf_counter()
            return timed(
                await asyncio.gather(*(hall.ask(number, pause) for number in range(turns))), 1, begun
            )

        contestants = {OURS: ours, FLOOR: theirs, DECIDING_NOTHING: limit}
        rounds = await interleaved(contestants, options.repeats)
    name = f"{turns:,} turns of {pause * 1000:.0f} ms, {SLOTS} slots"
    return [
        row(name, "x ideal", rounds, "ideal", better="less", target=at_most(1.05, of="ours")),
        row(
            f"{name}, its messages and commits alone", "x ideal", rounds, "ideal", better="less",
            floor=DECIDING_NOTHING, floor_name=DECIDING_NOTHING,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main(__file__, __doc__, measure)
