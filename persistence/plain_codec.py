"""States of plain data, as JSON or MessagePack: what comes back as it was, and nothing else."""

import sys
from typing import Any

import msgspec

from ..borders import let_out
from ..errors import CannotStore
from . import chunked_pickle, value_errors
from .value_errors import _describe

_LEAVES = frozenset({bool, int, float, str, bytes})
_SIZED = frozenset({str, bytes})


_KEYS = {"json": frozenset({str}), "msgpack": frozenset({str, int})}
_TAKES = {
    "json": 'codec="json" takes None, bool, int, finite float, str, list, and dict with str keys: keep to'
    ' these, or give the kind codec="cloudpickle"',
    "msgpack": 'codec="msgpack" takes None, bool, int, float, str, bytes, list, and dict with str or int'
    ' keys: keep to these, or give the kind codec="cloudpickle"',
}
"""Advice on a state that one of these codecs does not take."""
_FORMS: dict[str, Any] = {"json": msgspec.json, "msgpack": msgspec.msgpack}
_ODD = -1


def _weight(state: object, codec: str, most: int) -> int:
    """About how many bytes `state` takes, or some number above `most`; `_ODD` if it may not come back.

    An odd state is looked at more closely by `_difference`; most states are not odd.
    """
    keys, weight, left = _KEYS[codec], 0, [state]
    while left and weight <= most:
        value = left.pop()
        kind = type(value)
        weight += 8
        if kind is str:
            weight += len(value)  # type: ignore[arg-type]
        elif kind is dict:  # in C, lest somebody change it half-way
            if not keys.issuperset(map(type, value)):  # type: ignore[call-overload]
                return _ODD
            weight += 8 * len(value)  # type: ignore[arg-type]
            left += value.values()  # type: ignore[attr-defined]
        elif kind is list:
            left += value  # type: ignore[arg-type]
        elif kind is float:
            if codec == "json" and value - value != 0:  # type: ignore[operator]  # nan and the infinities
                return _ODD
        elif kind is bytes and codec == "msgpack":
            weight += len(value)  # type: ignore[arg-type]
        elif kind is not int and kind is not bool and value is not None:
            return _ODD
    return weight


def _encode_plain(state: object, codec: str, what: str, most: int) -> bytes | None:
    """The bytes; None if there would be more than `most`, which is seen before they are made."""
    form = _FORMS[codec]
    try:
        weight = _weight(state, codec, chunked_pickle.LARGE)
        if weight > most:
            return None
        data: bytes = form.encode(state)
        if weight > chunked_pickle.LARGE:  # weighed to its end now that it cannot contain itself
            weight = _weight(state, codec, sys.maxsize)
        problem = _difference(state, form.decode(data), "it") if weight == _ODD else None
    except BaseException as error:  # of msgspec, which looks into objects of the user's
        let_out(error)
        raise CannotStore(what, _describe(error), _TAKES[codec]) from error
    if problem:
        raise CannotStore(what, problem, _TAKES[codec])
    if len(data) > value_errors.LARGEST_VALUE_BYTES:
        raise CannotStore.too_large(what, len(data), value_errors.LARGEST_VALUE_BYTES)
    return data if len(data) <= most else None


def _difference(value: object, copy: object, where: str) -> str | None:
    """The first place where `copy` is not `value` again, types and all."""
    kind = type(value)
    if kind is not type(copy):
        return f"{where} is of type {kind.__name__} and would come back as {type(copy).__name__}"
    if isinstance(value, dict) and isinstance(copy, dict):
        if len(value) != len(copy):
            return f"{where} has keys that would become one"
        for (key, item), (key_copy, item_copy) in zip(value.items(), copy.items(), strict=True):
            if _same_leaf(key, key_copy) and _same_leaf(item, item_copy):
                continue
            problem = _difference(key, key_copy, f"a key of {where}")
            problem = problem or _difference(item, item_copy, f"{where}[{key!r}]")
            if problem:
                return problem
        return None
    if isinstance(value, list) and isinstance(copy, list):
        for index, (item, item_copy) in enumerate(zip(value, copy, strict=True)):
            if _same_leaf(item, item_copy):
                continue
            if problem := _difference(item, item_copy, f"{where}[{index}]"):
                return problem
        return None
    if value == copy or value != value:  # unless it is nan
        return None
    return f"{where} would come back as another value"


def _same_leaf(value: object, copy: object) -> bool:
    """Whether these are equal and of one simple type: nearly always, and before a place is named."""
    kind = type(value)
    return kind in _LEAVES and kind is type(copy) and value == copy
