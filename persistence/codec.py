"""A user's values as bytes and back: pure functions, no store and no agent.

Values are pickled, because nothing less gives back what was put in (tuples, sets, shared references,
the user's own classes). The C pickler does nearly all of it; cloudpickle, at several times the cost,
does what it cannot (closures, local classes) and what it would only *name* although no other process
could find it: whatever lives in `__main__`. A name stands in a pickle as plain text, so one search tells.

States can be large, and `chunked_pickle` says how those are read without holding anybody up.

Nothing here decides whether bytes may be trusted: the store checks their seal before it hands them out,
and puts a marker in the place of those that fail (`tampered_marker`), which `loads` raises for.
"""

import errno
import pickle
import struct
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from io import BytesIO
from types import BuiltinFunctionType, FunctionType
from typing import Any

import msgspec

from ..borders import error_text, is_a, let_out, type_name
from ..errors import CannotStore, SnapshotTampered
from ..types import Payload
from . import chunked_pickle

LARGEST_VALUE_BYTES = 512 * 1024 * 1024
"""Bytes of one value. SQLite takes no more than 10**9, and a value that it refused would hold up the
transactions of everybody."""

_REFUSED = b"refused\n"  # no pickle begins like this
_BY_VALUE = b"cloudpickle"  # stands in a pickle of what travels by value
_LEAVES = frozenset({bool, int, float, str, bytes})
_SIZED = frozenset({str, bytes})


class Unreadable(ValueError):
    """Bytes are genuine, but no value can be made of them here."""


# Values


def dumps(value: object, what: str) -> Payload:
    """`value` as bytes that another process can load; `what` names it in `CannotStore`.

    With a large one, others work in between. About 2 µs more than `pickle.dumps`, six times as much for
    what lives in `__main__`.
    """
    data = dumps_small(value, what)
    if data is None:
        try:
            data = dumps_in_pieces(value, what)
        except chunked_pickle.Changed:  # by another thread
            data = dumps_at_once(value, what)
    return data


def dumps_small(value: object, what: str) -> Payload | None:
    """`dumps`, or None as soon as it is seen that `value` is `chunked_pickle`."""
    kind = type(value)
    if kind in _SIZED:
        size = len(value)  # type: ignore[arg-type]
        if size > LARGEST_VALUE_BYTES:
            raise CannotStore.too_large(what, size, LARGEST_VALUE_BYTES)
        return pickle.dumps(value, 5) if size < chunked_pickle.LARGE // 4 else None
    if value is None or kind in _LEAVES:
        return pickle.dumps(value, 5)
    return _dumps_small(value, what)


def dumps_in_pieces(value: object, what: str) -> Payload:
    """`dumps` of a large value, on a thread; `chunked_pickle.Changed` if it was not left alone."""
    if type(value) in _SIZED:
        return dumps_at_once(value, what)  # nobody can change it
    return b"".join(_pickled(value, what))


def dumps_at_once(value: object, what: str) -> Payload:
    """`dumps` in one call, however large it is."""
    try:
        data = pickle.dumps(value, 5)
    except BaseException as error:  # the C pickler is only the first try; what cloudpickle says counts
        let_out(error)
        data = _dumps_by_value(value, what)
    else:
        if b"__main__" in data or _modules_by_value():
            data = _dumps_by_value(value, what)
    if len(data) > LARGEST_VALUE_BYTES:
        raise CannotStore.too_large(what, len(data), LARGEST_VALUE_BYTES)
    return data


def loads(data: Payload) -> object:
    """The value; `SnapshotTampered` if the store refused the bytes, `Unreadable` if they do not load.

    With a large one, others work in between.
    """
    check_genuine(data)
    try:
        if len(data) > chunked_pickle.LARGE:
            return chunked_pickle.unpickled(data, packed=False)
        if _BY_VALUE in data:
            return chunked_pickle.Unpickler(BytesIO(data)).load()
        return pickle.loads(data)
    except BaseException as error:  # whatever the user's classes raise, and the modules that are imported
        let_out(error)
        raise Unreadable(_describe(error)) from error


def _remedy(error: BaseException) -> str:
    """What to do about a value that did not pickle."""
    if is_a(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "Close files that are not needed, or raise the limit of open files (ulimit -n)"
    if is_a(error, MemoryError):
        return CannotStore.SMALLER
    return CannotStore.PICKLE


def _dumps_by_value(value: object, what: str) -> bytes:
    from .by_value import ByValuePickler  # 30 ms that few programs need

    sink = BytesIO()
    try:
        ByValuePickler(sink, 5).dump(value)
    except BaseException as error:  # whatever the user's classes raise
        let_out(error)
        raise CannotStore(what, _describe(error), _remedy(error)) from error
    return sink.getvalue()


def _modules_by_value() -> bool:
    """Whether the user registered modules with cloudpickle that are to travel by value."""
    # another thread may be importing it just now: then nobody has registered anything
    registered = getattr(sys.modules.get("cloudpickle"), "list_registry_pickle_by_value", None)
    return registered is not None and bool(registered())


def _describe(error: BaseException) -> str:
    text = error_text(error)
    if is_a(error, RecursionError) or "recursion" in text:
        return "it is nested too deeply"
    return f"{type_name(error)}: {text}" if text else type_name(error)


# What the store refused


def tampered_marker(error: SnapshotTampered) -> Payload:
    """Stands for bytes whose seal is broken, so that the row they belong to can still be listed."""
    return _REFUSED + msgspec.msgpack.encode((error.path, error.problem))


def is_tampered_marker(data: Payload) -> bool:
    """Whether `data` stands for bytes that the store refused."""
    return data.startswith(_REFUSED)


def check_genuine(data: Payload) -> None:
    """Raise the `SnapshotTampered` that `data` stands for, if it does."""
    if data.startswith(_REFUSED):
        path, problem = msgspec.msgpack.decode(data[len(_REFUSED) :], type=tuple[str, str])
        raise SnapshotTampered(path, problem)


# An agent's state

_PACKED = "+zlib"
"""At the end of a codec's name in the store: the bytes are compressed. The seal covers the name."""


def encode_state(state: object, codec: str, what: str) -> bytes:
    """`state` as bytes, by the codec that its kind chose: at once, however large it is.

    "json" and "msgpack" execute nothing on loading. They take only what comes back as it was: None,
    bool, int, float, str, list, dict (for "json" with str keys only and without nan; for "msgpack" also
    bytes, and ints of 64 bits), of exactly these types. Two references to one list come back as two.
    """
    match codec:
        case "cloudpickle":
            return dumps_at_once(state, what)
        case "json" | "msgpack":
            data = _encode_plain(state, codec, what, sys.maxsize)
            assert data is not None
            return data
        case _:
            raise CannotStore(what, f"there is no codec {codec!r}")


def encode_small(state: object, codec: str, what: str) -> bytes | None:
    """`encode_state`, or None as soon as it is seen that `state` is `chunked_pickle`."""
    match codec:
        case "cloudpickle":
            return _dumps_small(state, what)
        case "json" | "msgpack":
            return _encode_plain(state, codec, what, chunked_pickle.LARGE)
        case _:
            raise CannotStore(what, f"there is no codec {codec!r}")


def pack_state(state: object, codec: str, what: str) -> tuple[str, bytes]:
    """A state that may be large: how it is stored, and its bytes. For a thread of its own.

    A pickle is made in pieces, with others at work in between, and is that of one moment all the same;
    `chunked_pickle.Changed` if the state was not left alone. The other codecs have one call of C for all of it.
    """
    pieces = _pickled(state, what) if codec == "cloudpickle" else [encode_state(state, codec, what)]
    packed = chunked_pickle.compressed(pieces) if sum(map(len, pieces)) > chunked_pickle.LARGE else None
    return (codec, b"".join(pieces)) if packed is None else (codec + _PACKED, packed)


def is_large(data: bytes, codec: str) -> bool:
    """Whether what `decode_state` has to do takes too long for the loop."""
    return len(data) > chunked_pickle.LARGE or codec.endswith(_PACKED)


def decode_state(data: bytes, codec: str) -> object:
    """What `encode_state` or `pack_state` was given; `Unreadable` if that cannot be had here.

    With a large pickle, others work in between.
    """
    name = codec.removesuffix(_PACKED)
    packed = name != codec
    try:
        match name:
            case "cloudpickle" if is_large(data, codec):
                return _loads_large(data, packed)
            case "cloudpickle":
                return loads(data)
            case "json":
                return msgspec.json.decode(chunked_pickle.decompressed(data) if packed else data)
            case "msgpack":
                return msgspec.msgpack.decode(chunked_pickle.decompressed(data) if packed else data)
            case _:
                raise Unreadable(f"this greenroom knows no codec {codec!r}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, zlib.error) as error:
        raise Unreadable(_describe(error)) from error


def _dumps_small(state: object, what: str) -> bytes | None:
    """The same two tries as in `dumps_at_once`."""
    sink = chunked_pickle.Sink(chunked_pickle.LARGE)
    try:
        pickle.Pickler(sink, 5).dump(state)
    except chunked_pickle.PickleTooLarge:
        return None
    except BaseException as error:  # as in `dumps_at_once`
        let_out(error)
    else:
        data = b"".join(sink.pieces)
        if b"__main__" not in data and not _modules_by_value():
            return data
    from .by_value import ByValuePickler

    sink = chunked_pickle.Sink(chunked_pickle.LARGE)
    try:
        ByValuePickler(sink, 5).dump(state)
    except chunked_pickle.PickleTooLarge:
        return None
    except BaseException as error:  # whatever the user's classes raise
        let_out(error)
        raise CannotStore(what, _describe(error), _remedy(error)) from error
    return b"".join(sink.pieces)


def _pickled(state: object, what: str) -> list[bytes]:
    """By cloudpickle at once: what C alone can do costs it nothing, and a second try would."""
    from .by_value import ByValuePickler

    make: Callable[[Any], chunked_pickle.ChunkedPickler] = lambda file: ByValuePickler(file, 5)  # noqa: E731
    try:
        return chunked_pickle.pickled(state, make, most=LARGEST_VALUE_BYTES)
    except chunked_pickle.Changed:
        raise
    except chunked_pickle.PickleTooLarge:
        raise CannotStore(
            what,
            f"it takes more than {LARGEST_VALUE_BYTES:,} bytes, which are allowed",
            CannotStore.SMALLER,
        ) from None
    except BaseException as error:  # whatever the user's classes raise
        let_out(error)
        raise CannotStore(what, _describe(error), _remedy(error)) from error


def _loads_large(data: bytes, packed: bool) -> object:
    check_genuine(data)
    try:
        return chunked_pickle.unpickled(data, packed=packed)
    except BaseException as error:  # whatever the user's classes raise, and the modules that are imported
        let_out(error)
        raise Unreadable(_describe(error)) from error


# States of plain data

_KEYS = {"json": frozenset({str}), "msgpack": frozenset({str, int})}
_TAKES = {
    "json": 'codec="json" takes None, bool, int, finite float, str, list, and dict with str keys: keep to'
    ' these, or give the kind codec="cloudpickle"',
    "msgpack": 'codec="msgpack" takes None, bool, int, float, str, bytes, list, and dict with str or int'
    ' keys: keep to these, or give the kind codec="cloudpickle"',
}
"""What to do about a state that one of these codecs does not take."""
_FORMS: dict[str, Any] = {"json": msgspec.json, "msgpack": msgspec.msgpack}
_ODD = -1


def _weight(state: object, codec: str, most: int) -> int:
    """About how many bytes `state` takes, or some number above `most`; `_ODD` if it may not come back.

    What is odd is looked at more closely by `_difference`; most states are not.
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
    if len(data) > LARGEST_VALUE_BYTES:
        raise CannotStore.too_large(what, len(data), LARGEST_VALUE_BYTES)
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


# Comparing


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
    """What pickle would make of an object, without what depends on the process: identities, orders."""
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
