"""An agent's state as bytes and back, by the codec that its kind chose."""

import sys
import zlib

import msgspec

from ..borders import let_out
from ..errors import CannotStore
from . import chunked_pickle
from .codec import _dumps_small, _pickled, check_genuine, dumps_at_once, loads
from .plain_codec import _encode_plain
from .value_errors import Unreadable, _describe

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

    A pickle is made in pieces, with others at work in between, and is that of one moment all the same.
    Raises `chunked_pickle.Changed` if the state was not left alone. The other codecs have one call of C.
    """
    pieces = _pickled(state, what) if codec == "cloudpickle" else [encode_state(state, codec, what)]
    packed = chunked_pickle.compressed(pieces) if sum(map(len, pieces)) > chunked_pickle.LARGE else None
    return (codec, b"".join(pieces)) if packed is None else (codec + _PACKED, packed)


def is_large(data: bytes, codec: str) -> bool:
    """Whether what `decode_state` has to do takes too long for the loop."""
    return len(data) > chunked_pickle.LARGE or codec.endswith(_PACKED)


def decode_state(data: bytes, codec: str) -> object:
    """The state that `encode_state` or `pack_state` was given; `Unreadable` if that cannot be had here.

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


def _loads_large(data: bytes, packed: bool) -> object:
    check_genuine(data)
    try:
        return chunked_pickle.unpickled(data, packed=packed)
    except BaseException as error:  # whatever the user's classes raise, and the modules that are imported
        let_out(error)
        raise Unreadable(_describe(error)) from error
