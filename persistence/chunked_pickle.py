"""Large values as bytes and back, while others go on working: pure functions, for a thread of their own.

One call of C that pickles 64 MiB keeps the interpreter to itself, on whatever thread it is made: 0.1 s for
chats, 2 s for small dicts. But a pickler that writes to a *file* hands its bytes over 64 KiB at a time, and
an unpickler asks for as much; they let go of the interpreter between pieces, and nobody waits for longer
than a piece takes (0.3 ms, and 5 ms).

So others can change the value before it is read to its end. Therefore it is read twice, and what was
found counts if both readings agree; if they do not, `Changed` says so and nothing was made.
"""

import threading
import time
import zlib
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pickle import Unpickler as PlainUnpickler
from typing import Any, Protocol

from ..borders import error_text, let_out

LARGE = 256 * 1024
"""Bytes. Smaller values are encoded on the loop, in one call: at most 1.5 ms, for the smallest values."""

LEVEL = 1
"""Of zlib: 60 to 200 MB/s. Level 6 takes three to eight times as long to save another eighth."""

WORTH = 0.9
"""Compression must leave less than this part, or it is not worth the reading."""

_YIELD_SECONDS = 1e-5  # seconds: enough for a thread that waits for the interpreter to take it
_SAMPLE = 32 * 1024


class Changed(Exception):
    """The value changed while it was being read, or does not pickle to the same bytes twice."""


class PickleTooLarge(Exception):
    """It takes more bytes than there may be."""


class ChunkedPickler(Protocol):
    """The methods that `pickle.Pickler` and cloudpickle's have in common."""

    def dump(self, value: Any, /) -> Any: ...


class Unpickler(PlainUnpickler):
    """One that uses the running script's own classes, see `by_value`."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("cloudpickle.cloudpickle", "cloudpickle"):
            from . import by_value

            found = by_value.IN_PLACE_OF.get(name)
            if found is not None:
                return found
        return super().find_class(module, name)


class Sink:
    """A file for a pickler that may write at most `most` bytes; keeps them in pieces."""

    def __init__(self, most: int) -> None:
        self.size = 0
        self.pieces: list[bytes] = []
        self._most = most

    def write(self, data: Any) -> None:
        piece = bytes(data)  # the same object if it is bytes; what is not can change
        self.size += len(piece)
        if self.size > self._most:
            raise PickleTooLarge
        self.take(piece)

    def take(self, piece: bytes) -> None:
        """Keep the next piece."""
        self.pieces.append(piece)


class _PickleSource(Sink):
    """One that lets others have the interpreter with each piece, and can tell what it was given."""

    def __init__(self, most: int, *, keep: bool) -> None:
        super().__init__(most)
        self.failure: BaseException | None = None
        self._keep, self._digest = keep, blake2b()

    def take(self, piece: bytes) -> None:
        self._digest.update(piece)
        if self._keep:
            super().take(piece)
        _yield_gil(len(piece))

    def agrees_with(self, other: "_PickleSource") -> bool:
        """Whether both found the same: the same bytes, or the same failure."""
        if self.failure is None or other.failure is None:
            return self.failure is other.failure and self._digest.digest() == other._digest.digest()
        return (type(self.failure), error_text(self.failure)) == (
            type(other.failure),
            error_text(other.failure),
        )


def pickled(value: object, pickler: Callable[[Any], ChunkedPickler], *, most: int) -> list[bytes]:
    """The pickle of `value` in pieces, as it was at one moment of this call.

    Raises `Changed`, `PickleTooLarge` for more than `most` bytes, and what pickling raises twice.
    """
    first, second = _PickleSource(most, keep=True), _PickleSource(most, keep=False)
    for reading in (first, second):
        try:
            pickler(reading).dump(value)
        except PickleTooLarge:
            raise
        except BaseException as error:  # of the user's classes, or because of a change under way
            let_out(error)
            if "during iteration" in error_text(error):
                raise Changed from error
            reading.failure = error
    if not first.agrees_with(second):
        raise Changed from first.failure
    if first.failure is not None:
        raise first.failure
    return first.pieces


def compressed(pieces: list[bytes]) -> bytes | None:
    """All of `pieces` in a row, compressed, or None if that is not worth it."""
    sample = [piece[:_SAMPLE] for piece in pieces[:: max(1, len(pieces) // 8)]]
    if len(_deflated(sample)) > WORTH * sum(map(len, sample)):
        return None
    data = _deflated(pieces)
    return data if len(data) < WORTH * sum(map(len, pieces)) else None


def decompressed(data: bytes) -> bytes:
    """The bytes that `compressed` was given, in one piece. Raises `zlib.error`."""
    return zlib.decompress(data)


def unpickled(data: bytes, *, packed: bool) -> object:
    """The value. Raises what unpickling raises, and `zlib.error` if it was `packed` by `compressed`."""
    return Unpickler(_Inflating(data) if packed else _Slices(data)).load()


class _PicklingThread(threading.local):
    """The thread that reads or writes; one that is simulated shares the interpreter with nobody."""

    shared = True


here = _PicklingThread()


def _yield_gil(size: int) -> None:
    """Let others have the interpreter, after a piece of some size (headers are written by themselves)."""
    if size >= 4096 and here.shared:
        time.sleep(_YIELD_SECONDS)


def _deflated(pieces: Iterable[bytes]) -> bytes:
    """zlib lets go of the interpreter by itself."""
    deflate = zlib.compressobj(LEVEL)
    parts = [deflate.compress(piece) for piece in pieces]
    parts.append(deflate.flush())
    return b"".join(parts)


class _Slices:
    """The file that an unpickler reads from, pausing for others with each piece."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int) -> bytes:
        _yield_gil(size)
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def readline(self) -> bytes:
        """Up to a newline: only pickles of older protocols have any."""
        end = self._data.find(b"\n", self._at) + 1 or len(self._data)
        return self.read(end - self._at)


class _Inflating:
    """The same for a file that `compressed` made."""

    def __init__(self, data: bytes) -> None:
        self._inflate, self._data, self._at = zlib.decompressobj(), memoryview(data), 0
        self._held = b""

    def read(self, size: int) -> bytes:
        _yield_gil(size)
        parts, missing = [self._held], size - len(self._held)
        while missing > 0 and self._more():
            parts.append(self._held)
            missing -= len(self._held)
        data = b"".join(parts)
        self._held = data[size:]
        return data[:size]

    def readline(self) -> bytes:
        """See `_Slices.readline`."""
        parts = []
        while piece := self.read(1):
            parts.append(piece)
            if piece == b"\n":
                break
        return b"".join(parts)

    def _more(self) -> bool:
        """Hold the next piece; False at the end."""
        piece = self._data[self._at : self._at + _SAMPLE]
        self._at += _SAMPLE
        self._held = self._inflate.decompress(piece)
        if not piece and not self._inflate.eof:
            raise zlib.error("it ends too early")
        return bool(piece)
