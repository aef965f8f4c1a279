"""Large values: read in pieces and twice, compressed when that pays, and read back in pieces."""

import pickle
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.persistence import chunked_pickle, state_codec, value_errors

MOST = 1 << 30


def standard(file: Any) -> chunked_pickle.ChunkedPickler:
    return pickle.Pickler(file, 5)


def pickled(value: object, *, most: int = MOST) -> bytes:
    return b"".join(chunked_pickle.pickled(value, standard, most=most))


def chat(messages: int) -> dict[str, Any]:
    words = [f"word{n % 37}" for n in range(200)]
    rng = random.Random(messages)
    return {
        "messages": [
            {"role": "user", "content": " ".join(rng.choices(words, k=40)), "at": number}
            for number in range(messages)
        ]
    }


LARGE = {
    "a chat": chat(10_000),
    "bytes": {"blob": random.Random(1).randbytes(1 << 21), "after": 1},
    "a bytearray": [bytearray(1 << 20), "after"],
    "a view of one": [pickle.PickleBuffer(bytearray(b"ab" * (1 << 19))), "after"],
    "text": ["ü" * (1 << 20), "a" * (1 << 20), "after"],
    "numbers": [float(number) for number in range(100_000)],
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_read_in_pieces_is_the_pickle(name: str) -> None:
    value = LARGE[name]
    pieces = chunked_pickle.pickled(value, standard, most=MOST)
    assert len(pieces) > 1
    if name != "a view of one":  # which comes back as what it is a view of
        assert pickle.loads(b"".join(pieces)) == value
    packed = chunked_pickle.compressed(pieces)
    assert chunked_pickle.unpickled(b"".join(pieces), packed=False) == pickle.loads(b"".join(pieces))
    if packed is not None:
        assert chunked_pickle.unpickled(packed, packed=True) == pickle.loads(b"".join(pieces))


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_are_read_in_pieces(protocol: int) -> None:
    value = [chat(3), b"bytes", 2**70, 1.5, None, {1, 2}, "x" * 70_000]
    data = pickle.dumps(value, protocol)
    assert chunked_pickle.unpickled(data, packed=False) == value
    assert chunked_pickle.unpickled(zlib.compress(data), packed=True) == value


@given(st.binary(max_size=200_000), st.lists(st.integers(1, 100_000)))
def test_pieces_come_back_compressed_or_not_at_all(data: bytes, cuts: list[int]) -> None:
    pieces = [data[: len(data) // 2], data[len(data) // 2 :], b"", b"a" * 10_000]
    packed = chunked_pickle.compressed(pieces)
    if packed is not None:
        assert chunked_pickle.decompressed(packed) == b"".join(pieces)
        file = chunked_pickle._Inflating(packed)
        read = [file.read(size) for size in cuts]
        assert b"".join(read) == b"".join(pieces)[: sum(cuts)]


def test_what_does_not_compress_is_left_as_it_is() -> None:
    noise = random.Random(2).randbytes(1 << 20)
    assert chunked_pickle.compressed([noise]) is None
    assert chunked_pickle.compressed([noise[i : i + 4096] for i in range(0, 1 << 20, 4096)]) is None
    # half of it would: the sample says yes, and all of it counts
    both = chunked_pickle.compressed([noise, b"a" * (1 << 20)])
    assert both is not None
    assert len(both) < 0.6 * (1 << 21)


@pytest.mark.parametrize("cut", [0, 1, 10, 5_000])
def test_compressed_bytes_that_end_too_early_are_an_error(cut: int) -> None:
    packed = chunked_pickle.compressed(chunked_pickle.pickled(LARGE["a chat"], standard, most=MOST))
    assert packed is not None
    with pytest.raises((zlib.error, EOFError, pickle.UnpicklingError)):
        chunked_pickle.unpickled(packed[:cut], packed=True)
    with pytest.raises(value_errors.Unreadable):
        state_codec.decode_state(packed[:cut], "cloudpickle+zlib")
    with pytest.raises(value_errors.Unreadable):
        state_codec.decode_state(packed[:cut], "json+zlib")


def test_a_value_above_the_limit_is_given_up_where_it_passes_it() -> None:
    with pytest.raises(chunked_pickle.PickleTooLarge):
        pickled(["x" * 100_000] * 2 + ["y" * 100_000, "z" * 100_000], most=250_000)


class Meddler:
    """Stands somewhere in a value; `meddle` happens whenever it is pickled."""

    def __init__(self, meddle: Any) -> None:
        self.meddle = meddle

    def __reduce__(self) -> Any:
        self.meddle()
        return Meddler, (None,)


@pytest.mark.parametrize("where", ["behind it", "ahead of it"])
def test_a_change_between_two_pieces_is_noticed(where: str) -> None:
    """One half was read, the other is not yet: a snapshot would be a mixture."""
    state: dict[str, Any] = {"left": 0, "padding": "x" * 100_000, "meddler": None, "right": 0}
    calls: list[None] = []

    def meddle() -> None:
        calls.append(None)
        if len(calls) == 1 or where == "behind it":
            state["left"] += 1
            state["right"] += 1

    state["meddler"] = Meddler(meddle)
    with pytest.raises(chunked_pickle.Changed):
        pickled(state)
    assert len(calls) == 2


def test_a_change_that_pickling_itself_stumbles_over_is_a_change() -> None:
    state: dict[Any, Any] = {}
    state["meddler"] = Meddler(lambda: state.update({len(state): 1}))
    with pytest.raises(chunked_pickle.Changed):
        pickled(state)


def test_a_failure_counts_if_it_comes_twice() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        pickled(["x" * 100_000, (i for i in ())])
    failures = iter([LookupError("once"), None])

    def meddle() -> None:
        failure = next(failures)
        if failure is not None:
            raise failure

    with pytest.raises(chunked_pickle.Changed):
        pickled(["x" * 100_000, Meddler(meddle)])


def test_a_pickle_that_is_never_the_same_is_taken_for_a_change() -> None:
    class Restless:
        def __reduce__(self) -> Any:
            return float, (random.random(),)

    with pytest.raises(chunked_pickle.Changed):
        pickled([Restless()])
