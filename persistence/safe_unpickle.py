"""Stored values read without executing anything: for who looks at a store and has none of the agents' code.

A pickle may name any function and have it called. Here what it names is a stand-in that takes whatever it
is given and does nothing, but for a few harmless types of Python's own. A stand-in can be shown, by the
name of what it stands for and what it was given; it is of no other use.
"""

import pickle
from io import BytesIO
from typing import Any

from ..types import Payload
from . import chunked_pickle, codec, state_codec, value_errors

HARMLESS_GLOBALS = frozenset(
    {
        *(f"builtins.{name}" for name in ("complex", "set", "frozenset", "bytearray", "range", "slice")),
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        "collections.OrderedDict",
        "collections.deque",
        "decimal.Decimal",
        "fractions.Fraction",
        "uuid.UUID",
    }
)


class Placeholder:
    """A stand-in for something in a pickle that is not to be executed here."""

    _given: tuple[Any, ...] = ()
    _state: Any = None

    def __new__(cls, *given: Any, **named: Any) -> "Placeholder":
        made = super().__new__(cls)
        made._given = (*given, named) if named else given
        return made

    def __init__(self, *given: Any, **named: Any) -> None:
        """All was done."""

    def __call__(self, *given: Any) -> "Placeholder":
        """It stands for a function that something else made; so does what that returns."""
        return type(self)(*given)

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        del key, value

    def extend(self, items: Any) -> None:
        """For what pickles as a list does."""

    append = add = update = extend

    def __repr__(self) -> str:
        name = type(self).__qualname__
        if isinstance(self._state, dict):
            fields = ", ".join(f"{field}={value!r}" for field, value in self._state.items())
            return f"{name}({fields})"
        return f"{name}({', '.join(map(repr, self._given))})"


class _Plain(pickle.Unpickler):
    def __init__(self, file: BytesIO) -> None:
        super().__init__(file)
        self._known: dict[tuple[str, str], type[Placeholder]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in HARMLESS_GLOBALS:
            return super().find_class(module, name)
        found = self._known.get((module, name))
        if found is None:
            attributes = {"__module__": module, "__qualname__": name}
            found = self._known[module, name] = type(name, (Placeholder,), attributes)
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise value_errors.Unreadable(f"it refers to something outside ({pid!r})")


def read_value(data: Payload) -> object:
    """A value as of `codec.dumps`. Raises `SnapshotTampered`, `Unreadable`."""
    codec.check_genuine(data)
    return _unpickled(data)


def read_state(data: bytes, tag: str) -> object:
    """A state as of `state_codec.encode_state` and `pack_state`, as it was stored. Raises `Unreadable`."""
    if not tag.startswith("cloudpickle"):
        return state_codec.decode_state(data, tag)
    return _unpickled(chunked_pickle.decompressed(data) if tag != "cloudpickle" else data)


def _unpickled(data: bytes) -> object:
    try:
        return _Plain(BytesIO(data)).load()
    except value_errors.Unreadable:
        raise
    except Exception as error:  # objects of classes that travel by value; and bytes that are no pickle
        problem = f"only its own code can read it ({type(error).__name__}: {error})"
        raise value_errors.Unreadable(problem) from error
