"""The kinds of the kept stores, under a name that can be imported: their snapshots name it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from greenroom import Turn, agent


@dataclass
class Paper:
    """A state of a class of its own."""

    title: str = ""
    pages: list[str] = field(default_factory=list)


@agent
async def plain(turn: Turn) -> Any:
    if turn.input == "fail":
        raise ValueError("out of ink")
    turn.state["seen"] = (*turn.state.get("seen", ()), turn.input)
    return {"seen": turn.state["seen"], "mail": [message.body for message in turn.inbox]}


@agent(state=Paper, version=3)
async def paper(turn: Turn) -> Any:
    turn.state.title = turn.config["title"]
    turn.state.pages.append(turn.input)
    return turn.state


@agent(codec="json")
async def in_json(turn: Turn) -> Any:
    turn.state["count"] = turn.state.get("count", 0) + turn.input
    turn.emit("counted", {"to": turn.state["count"]})
    return turn.state["count"]


@agent(codec="msgpack")
async def in_msgpack(turn: Turn) -> Any:
    turn.state["raw"] = turn.state.get("raw", b"") + turn.input
    return turn.state["raw"]


@agent
async def slow(turn: Turn) -> Any:
    turn.state["attempts"] = turn.attempt
    if turn.attempt == 1 and turn.input == "until it is killed":
        await asyncio.Event().wait()
    return f"{turn.input}, attempt {turn.attempt}"


@agent
async def chief(turn: Turn) -> Any:
    """Goes on when its worker has ended, with what that returned."""
    if turn.results:
        turn.state["results"] = [outcome.result for outcome in turn.results]
        return turn.state["results"]
    await turn.send("/office/plain", "from the chief")
    worker = await turn.spawn(slow, "worker")
    await turn.after(await worker.followup(turn.input), input=("go on", turn.input))
    return "handed over"


@agent
class Unopenable:
    async def open(self, info: Any) -> None:
        raise OSError(f"no {info.config}")

    async def run(self, turn: Turn) -> Any:
        return turn.input


KINDS = (plain, paper, in_json, in_msgpack, slow, chief, Unopenable)
