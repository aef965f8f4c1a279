"""Kinds for the dashboard's tests and pictures: a small newsroom, and agents that do what they are told."""

import asyncio
import random
from typing import Any

from greenroom import Turn, agent


@agent(version=3)
async def reader(turn: Turn) -> Any:
    """Reads pages, and tells how far it is."""
    pages = turn.input.get("pages", 3) if isinstance(turn.input, dict) else 3
    chance = random.Random(turn.run_id)
    for page in range(pages):
        turn.emit("page", {"page": page + 1, "of": pages})
        await asyncio.sleep(chance.uniform(0.05, 0.6))
    read = turn.state.setdefault("read", [])
    read.append(
        {"title": turn.input["title"] if isinstance(turn.input, dict) else turn.input, "pages": pages}
    )
    turn.state["words"] = turn.state.get("words", 0) + 412 * pages
    turn.state["notes"] = [message.body for message in turn.inbox][-5:] or turn.state.get("notes", [])
    if chance.random() < 0.06:
        raise TimeoutError("the archive did not answer within 20 s")
    return {"title": read[-1]["title"], "pages": pages, "summary": "Short, and worth a second look."}


@agent
async def editor(turn: Turn) -> Any:
    """Has what is below it read something, and waits for that without a slot."""
    below = [info.path for info in await turn.list() if info.path.startswith(f"{turn.path}/")]
    runs = [await turn.followup(path, {"title": f"draft {n}", "pages": 2}) for n, path in enumerate(below)]
    outcomes = await turn.wait(*runs)
    turn.state["rounds"] = turn.state.get("rounds", 0) + 1
    return {"read": len(outcomes)}


@agent(open_timeout=5)
class Archive:
    """Cannot be opened."""

    async def open(self, info: Any) -> None:
        raise ConnectionError("no route to archive.example.org")

    async def run(self, turn: Turn) -> Any:
        return None


@agent(name="<img src=x onerror=alert(1)>")
async def hostile(turn: Turn) -> Any:
    """Everything about it would be HTML."""
    turn.state["<b>bold</b>"] = "<script>alert(2)</script>"
    turn.emit("<i onclick=alert(3)>", {"<u>": "</pre><img src=x onerror=alert(4)>"})
    if turn.input == "fail":
        raise ValueError("<svg onload=alert(5)>")
    return {"html": "<img src=x onerror=alert(6)>", "odd": {1, 2}}


@agent
async def told(turn: Turn) -> Any:
    """Does what its input says."""
    turn.state["runs"] = turn.state.get("runs", 0) + 1
    match turn.input:
        case "for ever":
            await asyncio.Event().wait()
        case "fail":
            raise ValueError("on purpose")
    return turn.input
