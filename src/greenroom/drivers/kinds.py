"""Kinds that are made by a call: two of one name and version have to be made alike."""

from typing import Any

from ..actors.agent.kind import find_kind
from ..errors import KindTaken


def checked_again(name: str, version: int, body: dict[str, Any]) -> None:
    """Raise `KindTaken` if this kind was made before, and differently.

    `@agent` compares code, and the code of all these kinds is the same. Functions are compared by name:
    a module that is loaded again makes them anew.
    """
    known = find_kind(name) if isinstance(name, str) else None
    if known is None or known.version != version:
        return
    made = vars(known.behaviour)
    if _words(made.get(key) for key in body) != _words(body.values()):
        raise KindTaken(name, known.where)


def _words(values: Any) -> list[str]:
    return [_word(value) for value in values]


def _word(value: Any) -> str:
    if isinstance(value, staticmethod):
        value = value.__func__
    if callable(value):
        return str(getattr(value, "__qualname__", value))
    fields = getattr(value, "__struct_fields__", None)
    if fields is not None:
        return str({field: _word(getattr(value, field)) for field in fields})
    return repr(value)
