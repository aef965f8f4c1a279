"""A world as bytes, and back: what an explorer goes back to, and what it knows a state by.

Pickle, made fit for two things more. Functions with closures (the ledger waits for the disk's answer in
some) are taken apart into their code and their cells, so that an unpacked world shares nothing with the
one it was packed from. And texts are packed by their value: pickle notes whether two equal ones are one
object, which is no difference between two worlds.

Equal bytes are equal worlds, to the order within each dictionary. Equal worlds that came about in
different orders may differ in bytes: then they are explored twice, which costs time and hides nothing.
"""

import io
import pickle
from types import CellType, CodeType, FunctionType
from typing import Any

BY_VALUE: set[type] = {str, bytes}
"""Types whose equal values are one thing; an immutable one may be added."""

_VALUES: list[Any] = []
_NUMBERS: dict[Any, int] = {}
_CODES: list[tuple[CodeType, dict[str, Any]]] = []
_NUMBER_OF_CODE: dict[CodeType, int] = {}


class _Packer(pickle.Pickler):
    def persistent_id(self, thing: Any) -> int | None:
        if type(thing) not in BY_VALUE:
            return None
        number = _NUMBERS.get(thing)
        if number is None:
            number = _NUMBERS[thing] = len(_VALUES)
            _VALUES.append(thing)
        return number

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is not FunctionType or thing.__closure__ is None:
            return NotImplemented
        number = _NUMBER_OF_CODE.get(thing.__code__)
        if number is None:
            number = _NUMBER_OF_CODE[thing.__code__] = len(_CODES)
            _CODES.append((thing.__code__, thing.__globals__))
        cells = [cell.cell_contents for cell in thing.__closure__]
        made = (number, thing.__name__, thing.__defaults__)
        return _function, made, cells, None, None, _fill  # cells last: they may lead back to it


class _Unpacker(pickle.Unpickler):
    persistent_load = _VALUES.__getitem__


def _function(number: int, name: str, defaults: tuple[Any, ...] | None) -> FunctionType:
    code, names = _CODES[number]
    cells = tuple(CellType() for _ in code.co_freevars)
    return FunctionType(code, names, name, defaults, cells)


def _fill(function: FunctionType, contents: list[Any]) -> None:
    for cell, content in zip(function.__closure__ or (), contents, strict=True):
        cell.cell_contents = content


def pack(world: Any) -> bytes:
    """All of `world`, as bytes."""
    packed = io.BytesIO()
    _Packer(packed, pickle.HIGHEST_PROTOCOL).dump(world)
    return packed.getvalue()


def unpack(packed: bytes) -> Any:
    """A world of its own, as it was when it was packed."""
    return _Unpacker(io.BytesIO(packed)).load()
