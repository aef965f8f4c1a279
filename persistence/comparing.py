"""Whether two stored values are the same, and where they differ.

Equal bytes are one value; the same value can have many bytes, by the order of a set or by what refers to
what. So values are loaded and compared by their canonical form. This executes code of the users' classes,
and belongs to the thread or turn that brought the value.
"""

from collections.abc import Iterator
from reprlib import Repr

from ..borders import let_out, plain, type_name
from ..stored_text import storable_text
from ..types import Payload
from .canonical import canonical
from .codec import loads

SHOWN = 60
"""Characters of a value that are told."""

DEEPEST = 8
"""Levels of lists and dicts within which a difference is looked for."""


def difference(recorded: Payload, given: Payload) -> str | None:
    """Where `given` differs from `recorded`, shortly.

    None if it does not, or if that cannot be told: if one of them cannot be loaded or compared here.
    """
    if recorded == given:
        return None
    try:
        return _difference(loads(recorded), loads(given), "", DEEPEST)
    except BaseException as error:  # whatever the users' classes raise
        let_out(error)
        return None


def _difference(recorded: object, given: object, where: str, levels: int) -> str | None:
    if canonical(recorded) == canonical(given):
        return None
    for place, there, here in _members(recorded, given) if levels else ():
        found = _difference(there, here, where + place, levels - 1)
        if found is not None:
            return found
    told = f"{shown(recorded)} is recorded, {shown(given)} was given"
    return f"{where}: {told}" if where else told


def _members(recorded: object, given: object) -> Iterator[tuple[str, object, object]]:
    """The values at the same places of two lists, tuples or dicts that have the same places."""
    if type(recorded) is dict and type(given) is dict and recorded.keys() == given.keys():
        for key, there in recorded.items():
            yield f"[{shown(key)}]", there, given[key]
    if type(recorded) in (list, tuple) and type(recorded) is type(given):
        pairs = list(zip(recorded, given, strict=False))  # type: ignore[call-overload]
        if len(recorded) == len(given):  # type: ignore[arg-type]
            for place, (there, here) in enumerate(pairs):
                yield f"[{place}]", there, here


def shown(value: object) -> str:
    """A value in a few words, whatever its class does."""
    try:
        return storable_text(plain(_short.repr(value)))
    except BaseException as error:  # of the users' own
        let_out(error)
        return f"a {type_name(value)}"


_short = Repr()
_short.maxstring = _short.maxother = SHOWN
_short.maxlevel = 3
