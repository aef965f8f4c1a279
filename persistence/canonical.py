"""Values as bytes that are equal whenever the values are."""

import struct
from collections import OrderedDict
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType


def canonical(value: object) -> bytes:
    """The same bytes for equal values of equal types, in every process.

    Sets and dicts count without their order, an OrderedDict with it; 1, 1.0 and True differ. Objects
    count by their class's name and what they reduce to, functions by their names. Each part says where it
    ends, so that no two values run together into the same. Raises what the users' classes raise, and
    `RecursionError` for a value that contains itself.
    """
    kind = type(value)
    if kind is str:
        return _leaf(b"u", value.encode("utf-8", "surrogatepass"))  # type: ignore[attr-defined]
    if kind is int or kind is bool:
        return _leaf(b"i" if kind is int else b"o", hex(value).encode())  # type: ignore[arg-type]
    if value is None:
        return b"n"
    if kind is float:
        return b"f" + (b"nan:::::" if value != value else struct.pack(">d", value))
    if kind is bytes:
        return _leaf(b"b", value)  # type: ignore[arg-type]
    if kind is list or kind is tuple:
        return _many(b"l" if kind is list else b"t", map(canonical, value))  # type: ignore[call-overload]
    if kind is dict:
        return _many(b"d", sorted(_pairs(value.items())))  # type: ignore[attr-defined]
    if kind is set or kind is frozenset:
        return _many(b"s" if kind is set else b"z", sorted(map(canonical, value)))  # type: ignore[call-overload]
    if isinstance(value, type):
        return _leaf(b"c", f"{value.__module__}:{value.__qualname__}".encode())
    if isinstance(value, (FunctionType, BuiltinFunctionType)):  # one that travels by value has many pickles
        return _leaf(b"p", f"{value.__module__}:{value.__qualname__}".encode())
    return _reduced(value)


def _reduced(value: object) -> bytes:
    """The pickle of an object without the parts that depend on the process: identities, orders."""
    parts = value.__reduce_ex__(4)
    if isinstance(parts, str):
        return _leaf(b"g", f"{type(value).__module__}:{parts}".encode())
    make, arguments, state, items, pairs = (*parts, None, None, None)[:5]
    mapped: Iterable[bytes] = _pairs(pairs or ())
    if not isinstance(value, OrderedDict):
        mapped = sorted(mapped)
    fields = (canonical(make), canonical(arguments), canonical(state))
    return b"r" + b"".join(fields) + _many(b"l", map(canonical, items or ())) + _many(b"d", mapped)


def _pairs(items: Iterable[tuple[object, object]]) -> Iterable[bytes]:
    return (canonical(key) + canonical(item) for key, item in items)


def _leaf(tag: bytes, data: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(data), data)


def _many(tag: bytes, parts: Iterable[bytes]) -> bytes:
    listed = list(parts)
    return b"%b%d:%b" % (tag, len(listed), b"".join(listed))
