"""What the runs do that may be suspected of a crash."""

# In virtual time: these are the runs of a Simulation.

import asyncio

from msgspec import Struct

from greenroom import Turn


class Work(Struct, frozen=True):
    """What a run does: it waits without a slot, and works."""

    pauses: float
    works: float


async def do(turn: Turn) -> None:
    if turn.input.pauses:
        async with turn.paused():
            await asyncio.sleep(turn.input.pauses)
    await asyncio.sleep(turn.input.works)
