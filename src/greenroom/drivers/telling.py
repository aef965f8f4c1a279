"""Progress of a program as events: masked, and cut where an event has no room for it."""

from contextlib import suppress
from typing import Any

import msgspec

from ..actors.agent.turn import Turn
from ..errors import CannotStore
from .environment import Mask

CHARACTERS_KEPT = 1024
"""Characters that are told of what an event has no room for."""

FIELDS = 32
SHORT = 16_384
"""Fields of it, and their bytes, that are told as they are: a question keeps its id and its options."""


def tell(turn: Turn, name: str, data: Any, mask: Mask) -> None:
    """A `run.progress` event; nothing that a program says keeps its run from going on."""
    if turn._over or turn.suspended:
        return
    data = mask.value(data)
    try:
        turn.emit(name, data)
    except CannotStore as error:
        cut = str(data)[:CHARACTERS_KEPT].encode(errors="replace").decode()
        turn.emit(name, {**_short(data), "cut": cut, "why": str(error)[:CHARACTERS_KEPT]})


def _short(data: Any) -> dict[str, Any]:
    """The fields of an object that an event has room for."""
    if not isinstance(data, dict):
        return {}
    short: dict[str, Any] = {}
    for key, value in data.items():
        with suppress(TypeError, ValueError, RecursionError):
            if len(short) < FIELDS and len(msgspec.json.encode({key: value})) <= SHORT:
                short[key] = value
    return short
