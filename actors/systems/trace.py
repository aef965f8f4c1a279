"""The log of a simulation: who received what when, in lines that are the same wherever it is repeated.

Nothing in a line may differ between two processes: no addresses in memory, no order of a hash. Lines are
made when they are read; what happens is kept as it is until then.
"""

from collections import deque
from typing import Any

STEPS_KEPT = 100_000
"""Lines. Of a longer simulation the newest are kept."""

_TELLING = ("path", "run_id", "agent_id", "number", "role", "step")


class Trace:
    """The events of a simulation, in order."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, float, str, tuple[Any, ...]]] = deque(maxlen=STEPS_KEPT)
        self._count = 0

    def add(self, at: float, text: str, *about: Any) -> None:
        """Note what happened `at` seconds; `text` is formatted (`%`) with `about` when it is read."""
        self._count += 1
        self._lines.append((self._count, at, text, about))

    def lines(self, last: int | None = None) -> list[str]:
        """The lines, or the `last` ones."""
        wanted = list(self._lines) if last is None else list(self._lines)[-last:]
        return [f"{number:6} {at:12.6f}  {_told(text, about)}" for number, at, text, about in wanted]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _told(text: str, about: tuple[Any, ...]) -> str:
    return text % tuple(map(describe, about)) if about else text


def describe(thing: Any) -> str:
    """A message, an actor or a plain value, in few words."""
    if isinstance(thing, str | int | float):
        return str(thing)
    name = type(thing).__name__
    inner = getattr(thing, "message", None)
    if name == "Relay":
        return describe(inner)
    words = [name]
    for holder in (thing, getattr(thing, "row", None), getattr(thing, "run", None)):
        for attribute in _TELLING:
            value = getattr(holder, attribute, None)
            if isinstance(value, str | int) and str(value) not in words:
                words.append(str(value))
    for attribute in ("status", "payload"):
        value = getattr(thing, attribute, None)
        if isinstance(value, str):
            words.append(value)
        elif attribute == "payload" and value is not None:
            words.append(describe(value))
    return " ".join(words)
