"""Kinds for the dashboard's tests: agents that do what they are told, and one that would be HTML."""

import asyncio
from typing import Any

from greenroom import Turn, agent


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
