"""The prompt of a program in a run: the input, and the messages that came for its agent meanwhile."""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from ..actors.agent.turn import Turn
from ..borders import shown
from ..errors import CannotStore

Prompt: TypeAlias = Callable[[Turn], str] | None


def prompt_of(turn: Turn, prompt: Prompt) -> str:
    """As the kind's `prompt` says; without one, the messages and then the input.

    A str is told as it is, anything else as JSON. Messages are read by this run, so they must not get lost.
    """
    if prompt is not None:
        made = prompt(turn)
        if not isinstance(made, str):
            raise TypeError(f"prompt= returned {type(made).__name__}, and a str is needed")
        return made
    parts = [f"Message from {message.sender or 'outside'}: {_told(message.body)}" for message in turn.inbox]
    return "\n\n".join([*parts, _told(turn.input)])


def checked_prompt(prompt: object) -> None:
    """Raise unless it is a function or None."""
    if prompt is not None and not callable(prompt):
        raise TypeError(
            f"prompt= is a function of the turn that returns a str, or None, not {shown(prompt)}"
        )


def _told(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CannotStore("an input for a program", f"{error}", "Use a str or JSON-like values") from None
