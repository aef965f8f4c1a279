"""A user's values as bytes and back: pure functions, no store and no agent.

Values are pickled, because nothing less gives back what was put in (tuples, sets, shared references, the
user's own classes). The C pickler does nearly all of it; cloudpickle costs several times as much. It takes
what pickle cannot (closures, local classes), and what pickle would only *name* although no other process
could find it: whatever lives in `__main__`. A name stands in a pickle as plain text, so one search tells.

States can be large, and `chunked_pickle` says how those are read without holding anybody up.

Nothing here decides whether bytes may be trusted: the store checks their seal before it hands them out. It
puts a marker in the place of those that fail (`tampered_marker`), which `loads` raises for.
"""

import pickle
import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any

import msgspec

from ..borders import let_out
from ..errors import CannotStore, SnapshotTampered
from ..types import Payload
from . import chunked_pickle, value_errors
from .plain_codec import _LEAVES, _SIZED
from .value_errors import Unreadable, _describe, _remedy

_REFUSED = b"refused\n"  # no pickle begins like this
_BY_VALUE = b"cloudpickle"  # stands in a pickle of what travels by value


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
        if size > value_errors.LARGEST_VALUE_BYTES:
            raise CannotStore.too_large(what, size, value_errors.LARGEST_VALUE_BYTES)
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
    if len(data) > value_errors.LARGEST_VALUE_BYTES:
        raise CannotStore.too_large(what, len(data), value_errors.LARGEST_VALUE_BYTES)
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


# Refusals of the store


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
        return chunked_pickle.pickled(state, make, most=value_errors.LARGEST_VALUE_BYTES)
    except chunked_pickle.Changed:
        raise
    except chunked_pickle.PickleTooLarge:
        raise CannotStore(
            what,
            f"it takes more than {value_errors.LARGEST_VALUE_BYTES:,} bytes, which are allowed",
            CannotStore.SMALLER,
        ) from None
    except BaseException as error:  # whatever the user's classes raise
        let_out(error)
        raise CannotStore(what, _describe(error), _remedy(error)) from error
