"""A user's values as JSON. Values that JSON cannot show are described in their places, and the places are
listed.

Nothing pickled crosses HTTP: inputs are JSON, and a result, a state or a config is made into JSON here.
None, booleans, finite numbers, text, lists, tuples (as lists) and dictionaries with text as keys are
shown as they are. Anything else becomes `{"type": …, "text": …}`, its class and what Python shows for it,
with `"fields"` if it is a dataclass or a msgspec struct. `described` lists where such descriptions stand
(JSON pointers, RFC 6901): no value of a user's can be taken for one.
"""

import asyncio
import dataclasses
import math
from reprlib import Repr
from typing import Any, cast

import msgspec
from msgspec import Struct

from ..actors.models import UnreadableValue
from ..borders import type_name

DEPTH = 100
"""Levels of nesting that are shown; what is below is described."""
MOST_NODES = 200_000
MOST_VIEW_CHARACTERS = 8 << 20
"""Characters of all text in one value; beyond either bound it is described what would follow."""
SMALL = 1_000
"""Characters of a text that is shown without leaving the loop."""

_texts = Repr()
_texts.maxstring = _texts.maxother = _texts.maxlong = 300
_texts.maxlevel = 2  # with six entries each, as it is by default


class JsonView(Struct, frozen=True):
    """A value as encoded JSON, and the places in it that are descriptions."""

    json: msgspec.Raw
    described: tuple[str, ...] = ()


async def shown(value: object, at: str) -> JsonView:
    """`value` for a document in which it stands at the pointer `at`; a large one is made on a thread."""
    if value is None or type(value) in (bool, int, float) or (type(value) is str and len(value) <= SMALL):
        return show(value, at)
    return await asyncio.to_thread(show, value, at)


def show(value: object, at: str) -> JsonView:
    """The same, at once."""
    view = _ViewBudget()
    try:
        made = view.show(value, at, 0)
    except BaseException:  # of a container of the user's own class
        made = {"type": _clean(type_name(value)), "text": "it cannot be shown"}
        view.described = [at]
    return JsonView(msgspec.Raw(msgspec.json.encode(made)), tuple(view.described))


class _ViewBudget:
    """One value being shown."""

    def __init__(self) -> None:
        self.described: list[str] = []
        self._nodes, self._text = MOST_NODES, MOST_VIEW_CHARACTERS

    def show(self, value: object, at: str, depth: int) -> Any:
        self._nodes -= 1
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._show_text(value, at)  # type: ignore[arg-type]
        if kind is int:
            return value if -(2**1023) < value < 2**1023 else self._describe(value, at)  # type: ignore[operator]
        if kind is float:
            return value if math.isfinite(value) else self._describe(value, at)  # type: ignore[arg-type]
        if depth >= DEPTH or self._text < 0 or self._nodes < _length(value):
            return self._describe(value, at)
        if kind in (list, tuple):
            items = enumerate(cast("list[Any]", value))
            return [self.show(item, f"{at}/{n}", depth + 1) for n, item in items]
        if isinstance(value, dict) and all(type(key) is str and _encodable(key) for key in value):
            return self._show_items(value, at, depth)
        fields = _fields(value)
        if fields is None:
            return self._describe(value, at)
        return self._describe(value, at) | {"fields": self._show_items(fields, f"{at}/fields", depth)}

    def _show_items(self, items: dict[str, Any], at: str, depth: int) -> dict[str, Any]:
        made = {}
        for key, value in items.items():
            self._text -= len(key)
            made[key] = self.show(value, f"{at}/{key.replace('~', '~0').replace('/', '~1')}", depth + 1)
        return made

    def _show_text(self, text: str, at: str) -> Any:
        if len(text) > self._text or not _encodable(text):
            return self._describe(text, at)
        self._text -= len(text)
        return text

    def _describe(self, value: object, at: str) -> dict[str, Any]:
        self.described.append(at)
        if isinstance(value, UnreadableValue):
            return {"type": "unreadable", "text": _clean(value.problem)}
        cls = type(value)
        module = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
        return {"type": _clean(f"{module}{cls.__qualname__}"), "text": _text_of(value)}


def _length(value: object) -> int:
    """How many values a container would add to the view."""
    return len(value) if isinstance(value, list | tuple | dict) else 1


def _fields(value: object) -> dict[str, Any] | None:
    """The fields of a dataclass or a struct; None for anything else, or if it cannot be had."""
    if isinstance(value, Struct) and not isinstance(value, UnreadableValue):
        names = value.__struct_fields__
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = tuple(field.name for field in dataclasses.fields(value))
    else:
        return None
    try:
        return {name: getattr(value, name) for name in names}
    except BaseException:  # whatever the user's own class raises: it is described without its fields
        return None


def _text_of(value: object) -> str:
    try:
        return _clean(_texts.repr(value))
    except BaseException as error:  # an int with too many digits, or whatever the user's own class raises
        return _clean(f"<{type_name(value)}: {type_name(error)}>")


def _encodable(text: str) -> bool:
    """Whether text is made of whole characters, as UTF-8 wants it."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
