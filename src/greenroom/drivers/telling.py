"""Progress of a program as events: masked, and cut where an event has no room for it."""

from typing import Any

from ..actors.agent.turn import Turn
from ..actors.errors import CannotStore
from .environment import Mask

KEPT = 1024
"""Characters that are told of what an event has no room for."""


def tell(turn: Turn, name: str, data: Any, mask: Mask) -> None:
    """A `run.progress` event; nothing that a program says keeps its run from going on."""
    if turn.over:
        return
    data = mask.value(data)
    try:
        turn.emit(name, data)
    except CannotStore as error:
        turn.emit(
            name, {"cut": str(data)[:KEPT].encode(errors="replace").decode(), "why": str(error)[:KEPT]}
        )
