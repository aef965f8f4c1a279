"""What `bench_http` has served: an agent that takes long to open, and one that tells how it is going."""

import asyncio
from typing import Any

from greenroom import Turn, agent

OPENING = 3.0
"""Seconds."""


@agent(name="bench.slow")
class Slow:
    """Takes its time before its first turn."""

    async def open(self, info: Any) -> None:  # noqa: ARG002
        await asyncio.sleep(OPENING)

    async def run(self, turn: Turn) -> Any:
        return turn.input


@agent(name="bench.teller")
async def teller(turn: Turn) -> int:
    """Tells as much as it is asked to: `count` events of `size` characters."""
    for number in range(turn.input["count"]):
        turn.emit("tick", {"number": number, "text": "." * turn.input["size"]})
        await asyncio.sleep(0)
    return int(turn.input["count"])
