"""A user's values as bytes and back: pure functions, no store and no agent.

Values are pickled, because nothing less gives back what was put in (tuples, sets, shared references,
the user's own classes). The C pickler does nearly all of it; cloudpickle, at several times the cost,
does what it cannot (closures, local classes) and what it would only *name* although no other process
could find it: whatever lives in `__main__`. A name stands in a pickle as plain text, so one search tells.

Nothing here decides whether bytes may be trusted: the store checks their seal before it hands them out,
and puts a marker in the place of those that fail (`refused`), which `loads` raises for.
"""

import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from types import BuiltinFunctionType, FunctionType

import msgspec

from ..actors.errors import CannotStore, SnapshotTampered
from ..actors.vocabulary import Payload

LARGEST = 512 * 1024 * 1024
"""Bytes of one value. SQLite takes no more than 10**9, and a value that it refused would hold up the
transactions of everybody."""

_REFUSED = b"refused\n"  # no pickle begins like this
_LEAVES = frozenset({bool, int, float, str, bytes})


class Unreadable(ValueError):
    """Bytes are genuine, but no value can be made of them here."""


# Values


def dumps(value: object, what: str) -> Payload:
    """`value` as bytes that another process can load; `what` names it in `CannotStore`.

    About 1 µs more than `pickle.dumps`, six times as much for what lives in `__main__`.
    """
    try:
        data = pickle.dumps(value, 5)
    except Exception:  # the C pickler is only the first try; what cloudpickle says is what counts
        data = _dumps_by_value(value, what)
    else:
        if b"__main__" in data or _modules_by_value():
            data = _dumps_by_value(value, what)
    if len(data) > LARGEST:
        raise CannotStore(what, f"it takes {len(data):,} bytes, {LARGEST:,} are allowed")
    return data


def loads(data: Payload) -> object:
    """The value; `SnapshotTampered` if the store refused the bytes, `Unreadable` if they do not load."""
    check_genuine(data)
    try:
        return pickle.loads(data)
    except Exception as error:  # whatever the user's classes raise
        raise Unreadable(_describe(error)) from error


def _dumps_by_value(value: object, what: str) -> bytes:
    import cloudpickle  # type: ignore[import-untyped]  # 30 ms that few programs need

    try:
        data: bytes = cloudpickle.dumps(value, 5)
    except Exception as error:  # whatever the user's classes raise
        raise CannotStore(what, _describe(error)) from error
    return data


def _modules_by_value() -> bool:
    """Whether the user registered modules with cloudpickle that are to travel by value."""
    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle is not None and bool(cloudpickle.list_registry_pickle_by_value())


def _describe(error: Exception) -> str:
    if isinstance(error, RecursionError) or "recursion" in str(error):
        return "it is nested too deeply"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


# What the store refused


def refused(error: SnapshotTampered) -> Payload:
    """Stands for bytes whose seal is broken, so that the row they belong to can still be listed."""
    return _REFUSED + msgspec.msgpack.encode((error.path, error.problem))


def check_genuine(data: Payload) -> None:
    """Raise the `SnapshotTampered` that `data` stands for, if it does."""
    if data.startswith(_REFUSED):
        path, problem = msgspec.msgpack.decode(data[len(_REFUSED) :], type=tuple[str, str])
        raise SnapshotTampered(path, problem)


# An agent's state


def encode_state(state: object, codec: str, what: str) -> bytes:
    """`state` as bytes, by the codec that its kind chose.

    "json" and "msgpack" execute nothing on loading. They take only what comes back as it was: None,
    bool, int, float, str, list, dict (for "json" with str keys only and without nan; for "msgpack" also
    bytes, and ints of 64 bits), of exactly these types. Two references to one list come back as two.
    """
    match codec:
        case "cloudpickle":
            return dumps(state, what)
        case "json":
            return _encode_plain(state, msgspec.json, what)
        case "msgpack":
            return _encode_plain(state, msgspec.msgpack, what)
        case _:
            raise CannotStore(what, f"there is no codec {codec!r}")


def decode_state(data: bytes, codec: str) -> object:
    """What `encode_state` was given; `Unreadable` if that cannot be had here."""
    try:
        match codec:
            case "cloudpickle":
                return loads(data)
            case "json":
                return msgspec.json.decode(data)
            case "msgpack":
                return msgspec.msgpack.decode(data)
            case _:
                raise Unreadable(f"this greenroom knows no codec {codec!r}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(_describe(error)) from error


def _encode_plain(state: object, form: object, what: str) -> bytes:
    try:
        data: bytes = form.encode(state)  # type: ignore[attr-defined]
        problem = _difference(state, form.decode(data), "it")  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CannotStore(what, _describe(error)) from error
    if problem:
        raise CannotStore(what, problem)
    if len(data) > LARGEST:
        raise CannotStore(what, f"it takes {len(data):,} bytes, {LARGEST:,} are allowed")
    return data


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


# Digests


def canonical(value: object) -> bytes:
    """A digest of 16 bytes: the same for equal values of equal types, in every process.

    Sets and dicts count without their order, an OrderedDict with it; 1, 1.0 and True differ. Objects
    count by their class's name and what they reduce to, functions of `__main__` by their pickle.
    """
    try:
        text = _canonical(value)
    except RecursionError:  # it contains itself
        text = b"p" + dumps(value, "the value")
    return blake2b(text, digest_size=16).digest()


def _canonical(value: object) -> bytes:
    """Bytes that say where they end, so that no two values run together into the same."""
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
        return _many(b"l" if kind is list else b"t", map(_canonical, value))  # type: ignore[call-overload]
    if kind is dict:
        return _many(b"d", sorted(_pairs(value.items())))  # type: ignore[attr-defined]
    if kind is set or kind is frozenset:
        return _many(b"s" if kind is set else b"z", sorted(map(_canonical, value)))  # type: ignore[call-overload]
    if isinstance(value, type):
        return _leaf(b"c", f"{value.__module__}:{value.__qualname__}".encode())
    if isinstance(value, (FunctionType, BuiltinFunctionType)):
        return _leaf(b"p", dumps(value, "the value"))
    return _reduced(value)


def _reduced(value: object) -> bytes:
    """What pickle would make of an object, without what depends on the process: identities, orders."""
    try:
        parts = value.__reduce_ex__(4)
    except Exception:  # whatever the user's classes raise; if it is no good at all, `dumps` says so
        return _leaf(b"p", dumps(value, "the value"))
    if isinstance(parts, str):
        return _leaf(b"g", f"{type(value).__module__}:{parts}".encode())
    make, arguments, state, items, pairs = (*parts, None, None, None)[:5]
    mapped: Iterable[bytes] = _pairs(pairs or ())
    if not isinstance(value, OrderedDict):
        mapped = sorted(mapped)
    fields = (_canonical(make), _canonical(arguments), _canonical(state))
    return b"r" + b"".join(fields) + _many(b"l", map(_canonical, items or ())) + _many(b"d", mapped)


def _pairs(items: Iterable[tuple[object, object]]) -> Iterable[bytes]:
    return (_canonical(key) + _canonical(item) for key, item in items)


def _leaf(tag: bytes, data: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(data), data)


def _many(tag: bytes, parts: Iterable[bytes]) -> bytes:
    listed = list(parts)
    return b"%b%d:%b" % (tag, len(listed), b"".join(listed))
