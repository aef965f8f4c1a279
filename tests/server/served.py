"""Kinds that the tests have served."""

import asyncio
import dataclasses
import datetime
import threading
from pathlib import Path
from typing import Any

from greenroom import SyncTurn, Turn, agent


@dataclasses.dataclass
class Note:
    text: str
    tags: set[str]


@agent
async def echo(turn: Turn) -> Any:
    """Counts its runs, and does what its input says."""
    turn.state["runs"] = turn.state.get("runs", 0) + 1
    turn.state["inbox"] = turn.state.get("inbox", []) + [message.body for message in turn.inbox]
    match turn.input:
        case "fail":
            raise ValueError("on purpose")
        case "for ever":
            await asyncio.Event().wait()
        case {"tell": count, "size": size}:
            for number in range(count):
                turn.emit("tick", {"number": number, "text": "." * size})
    return turn.input


@agent(attempts=1)
async def once(turn: Turn) -> Any:
    """Waits for ever, and may not begin again: closing interrupts it."""
    await asyncio.Event().wait()


@agent
async def odd(turn: Turn) -> Any:
    """Makes what JSON cannot show."""
    turn.state["note"] = Note("hello", {"a"})
    turn.state["when"] = datetime.date(2024, 2, 29)
    return {"plain": [1, (2, 3)], "odd": {4, 5}, "bytes": b"\x80\x04", "nan": float("nan")}


@agent(open_timeout=600)
class Stuck:
    """Never opens."""

    async def open(self, info: Any) -> None:
        await asyncio.Event().wait()

    async def run(self, turn: Turn) -> Any:
        return turn.input


@agent
class Clinging:
    """Takes as long to close as the test wants: until there is a file."""

    async def open(self, info: Any) -> None:
        self.file = Path(info.config)

    async def run(self, turn: Turn) -> Any:
        return turn.input

    async def close(self) -> None:
        while not self.file.exists():
            await asyncio.sleep(0.01)


@agent
async def meeting(turn: Turn) -> Any:
    """Says that it is there, and waits for the test, at two named pipes."""
    here, there = turn.input

    def meet() -> str:
        with open(here, "w") as told:
            told.write("here\n")
        with open(there) as waiting:
            return waiting.readline().strip()

    return await asyncio.to_thread(meet)


@agent
async def leaving(turn: Turn) -> None:
    """Leaves behind a thread that never returns."""
    await asyncio.to_thread(threading.Event().wait)


@agent
def hogging(turn: SyncTurn) -> None:
    """A thread that never returns."""
    turn.emit("hogging")
    threading.Event().wait()


@agent
async def selfish(turn: Turn) -> None:
    """Never lets go of the loop, once there is a file."""
    Path(turn.input).touch()
    while True:
        pass
