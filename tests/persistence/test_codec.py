"""What is put in comes out again, here and in another process, or is refused at once."""

import datetime
import enum
import errno
import math
import os
import subprocess
import sys
import threading
import types
from collections import Counter, OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.errors import CannotStore, SnapshotTampered
from greenroom.persistence import canonical, chunked_pickle, codec, state_codec, value_errors

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary()
hashable = st.recursive(
    leaves, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5
)
values = st.recursive(
    hashable | st.sets(hashable, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(hashable, inner, max_size=4)
    ),
    max_leaves=20,
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


class Colour(enum.IntEnum):
    RED = 1


@dataclass
class Note:
    words: set[str] = field(default_factory=set)


Point = namedtuple("Point", "x y")


def exactly(value: Any) -> Any:
    """`value` with its types, so that 1, 1.0 and True differ and nan equals nan."""
    if isinstance(value, (list, tuple)):
        return type(value), [exactly(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted((exactly(item) for item in value), key=repr)
    if isinstance(value, dict):
        return type(value), [(exactly(key), exactly(item)) for key, item in value.items()]
    return type(value), repr(value)


@given(values)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    assert exactly(codec.loads(codec.dumps(value, "it"))) == exactly(value)


def test_shared_references_and_cycles_come_back() -> None:
    shared: list[object] = [1]
    loop: dict[str, object] = {"a": shared, "b": shared}
    loop["self"] = loop
    back: Any = codec.loads(codec.dumps(loop, "it"))
    assert back["a"] is back["b"]
    assert back["self"] is back


def test_closures_and_local_classes_come_back() -> None:
    class Local:
        def __init__(self, n: int) -> None:
            self.n = n

    n = 3
    back: Any = codec.loads(codec.dumps((lambda x: x + n, Local(4)), "it"))
    assert back[0](1) == 4
    assert back[1].n == 4


def test_what_lives_in_main_can_be_loaded_by_another_process(tmp_path: Any) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\n"
        "from greenroom.persistence import codec\n"
        "class State:\n"
        "    def __init__(self): self.n = 5\n"
        "    def twice(self): return helper(self.n)\n"
        "def helper(n): return 2 * n\n"
        "sys.stdout.buffer.write(codec.dumps({'s': State(), 'f': helper}, 'it'))\n"
    )
    data = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, check=True).stdout
    back: Any = codec.loads(data)
    assert back["s"].twice() == 10
    assert back["f"](4) == 8


def test_a_value_is_stored_while_another_thread_imports_cloudpickle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", types.ModuleType("cloudpickle"))  # as yet empty
    assert codec.loads(codec.dumps([1], "it")) == [1]
    assert state_codec.encode_small([1], "cloudpickle", "it") == codec.dumps([1], "it")


def test_importable_classes_are_stored_by_name() -> None:
    assert len(codec.dumps(datetime.datetime(2026, 1, 1), "it")) < 100


@pytest.mark.parametrize("value", [threading.Lock(), (i for i in ()), {"a": [sys.stdout.buffer]}])
def test_what_no_process_can_keep_is_refused(value: object) -> None:
    with pytest.raises(CannotStore, match="the input cannot be stored: TypeError: cannot pickle"):
        codec.dumps(value, "the input")


def test_what_is_nested_too_deeply_is_refused() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(CannotStore, match="nested too deeply"):
        codec.dumps(value, "the input")
    with pytest.raises(CannotStore, match="nested too deeply"):
        state_codec.encode_state(value, "json", "the state")


def test_a_value_that_sqlite_would_refuse_is_refused_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_errors, "LARGEST_VALUE_BYTES", 100)
    with pytest.raises(CannotStore, match="100 are allowed"):
        codec.dumps("x" * 101, "the input")
    with pytest.raises(CannotStore, match="100 are allowed"):
        state_codec.encode_state(["x" * 101], "json", "the state")


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x05cno_such_module\nname\n."])
def test_bytes_that_do_not_load_are_unreadable(data: bytes) -> None:
    with pytest.raises(value_errors.Unreadable):
        codec.loads(data)


def test_what_the_store_refused_raises_when_it_is_loaded() -> None:
    payload = codec.tampered_marker(SnapshotTampered("/t/a", "config is wrong"))
    with pytest.raises(SnapshotTampered, match="/t/a was refused unread: config is wrong"):
        codec.loads(payload)


@given(plain, st.sampled_from(["cloudpickle", "json", "msgpack"]))
def test_a_plain_state_comes_back_by_every_codec(state: object, name: str) -> None:
    back = state_codec.decode_state(state_codec.encode_state(state, name, "the state"), name)
    assert exactly(back) == exactly(state)


@given(values, st.sampled_from(["json", "msgpack"]))
def test_a_plain_codec_gives_back_the_same_or_refuses(state: object, name: str) -> None:
    try:
        data = state_codec.encode_state(state, name, "the state")
    except CannotStore:
        return
    assert exactly(state_codec.decode_state(data, name)) == exactly(state)


@pytest.mark.parametrize("name", ["json", "msgpack"])
@pytest.mark.parametrize(
    "state",
    [(1, 2), {"a": (1,)}, {1, 2}, Colour.RED, Note(), Point(1, 2), OrderedDict(a=1), [math.nan, {1}]],
)
def test_a_plain_codec_refuses_what_would_change(state: object, name: str) -> None:
    with pytest.raises(CannotStore, match="the state cannot be stored"):
        state_codec.encode_state(state, name, "the state")


def test_the_refusal_says_where() -> None:
    with pytest.raises(CannotStore, match=r"it\['a'\]\[1\] is of type tuple and would come back as list"):
        state_codec.encode_state({"a": [1, (2,)]}, "json", "the state")


@pytest.mark.parametrize(("data", "name"), [(b"{", "json"), (b"\xc1", "msgpack"), (b"", "zip")])
def test_a_state_that_cannot_be_decoded_is_unreadable(data: bytes, name: str) -> None:
    with pytest.raises(value_errors.Unreadable):
        state_codec.decode_state(data, name)


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(CannotStore, match="no codec 'zip'"):
        state_codec.encode_state({}, "zip", "the state")


@given(values, values)
def test_forms_agree_when_the_values_do(one: object, other: object) -> None:
    assert canonical.canonical(one) == canonical.canonical(codec.loads(codec.dumps(one, "it")))
    if canonical.canonical(one) == canonical.canonical(other):
        assert one == other or exactly(one) == exactly(other)


def test_forms_forget_the_order_that_equality_forgets() -> None:
    assert canonical.canonical({"a": 1, "b": 2}) == canonical.canonical({"b": 2, "a": 1})
    assert canonical.canonical(Counter("ab")) == canonical.canonical(Counter("ba"))
    one, other = OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)
    assert canonical.canonical(one) != canonical.canonical(other)
    different = [1, 1.0, True, "1", b"1", [1], (1,), {1}, {1: 1}, None, -1, 0.0, -0.0, [], (), {}]
    assert len({canonical.canonical(value) for value in different}) == len(different)


FORMS = """
from collections import defaultdict
from dataclasses import dataclass
from greenroom.persistence.canonical import canonical
@dataclass
class Note:
    words: set
words = {"a" * n for n in range(50)}
print(canonical([words, {w: 1 for w in words}, Note(words), frozenset(words), 2.5, len]).hex())
"""


def test_forms_are_the_same_in_every_process() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", FORMS],
            env={"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert outputs.pop().strip()


def test_a_value_that_contains_itself_has_no_form() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(RecursionError):
        canonical.canonical(loop)


def test_functions_count_by_their_names() -> None:
    assert canonical.canonical(lambda: 1) == canonical.canonical(lambda: 1)
    assert canonical.canonical(len) != canonical.canonical(min)
    assert canonical.canonical([math.sin]) != canonical.canonical([math.cos])


def test_defaultdicts_are_no_dicts() -> None:
    assert canonical.canonical(defaultdict(list, a=[1])) != canonical.canonical({"a": [1]})


# Large states


@pytest.fixture
def small_is(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many bytes are still small."""
    return lambda size: monkeypatch.setattr(chunked_pickle, "LARGE", size)


@given(plain, st.sampled_from(["cloudpickle", "json", "msgpack"]))
def test_a_state_comes_back_however_it_is_stored(state: object, name: str) -> None:
    at_once = state_codec.encode_state(state, name, "it")
    assert state_codec.encode_small(state, name, "it") == at_once
    tag, data = state_codec.pack_state(state, name, "it")
    assert tag == name
    assert exactly(state_codec.decode_state(data, tag)) == exactly(state)


@pytest.mark.parametrize("name", ["cloudpickle", "json", "msgpack"])
def test_a_large_state_is_compressed_and_says_so(name: str) -> None:
    state = {"pages": [f"page {n}: " + "the same again " * 100 for n in range(1_000)]}
    assert state_codec.encode_small(state, name, "it") is None
    tag, data = state_codec.pack_state(state, name, "it")
    assert tag == f"{name}+zlib"
    assert len(data) < 0.2 * len(state_codec.encode_state(state, name, "it"))
    assert state_codec.is_large(data, tag)
    assert state_codec.decode_state(data, tag) == state
    with pytest.raises(value_errors.Unreadable, match="no codec"):
        state_codec.decode_state(data, f"{name}+brotli")


@given(values, st.integers(0, 300), st.sampled_from(["cloudpickle", "json", "msgpack"]))
def test_small_is_decided_by_the_bytes_alone(state: object, limit: int, name: str) -> None:
    before, chunked_pickle.LARGE = chunked_pickle.LARGE, limit
    try:
        at_once = state_codec.encode_state(state, name, "it")
        found = state_codec.encode_small(state, name, "it")
    except CannotStore:
        return
    finally:
        chunked_pickle.LARGE = before
    assert found in (None, at_once)
    if len(at_once) > limit:
        assert found is None
    elif name == "cloudpickle":
        assert found == at_once


def test_a_growing_state_is_given_up_at_the_limit_and_not_read_to_its_end() -> None:
    read: list[int] = []

    class Page:
        def __init__(self, number: int) -> None:
            self.number = number

        def __reduce__(self) -> Any:
            read.append(self.number)
            return bytes, (b"p" * 10_000,)

    assert state_codec.encode_small([Page(number) for number in range(1_000)], "cloudpickle", "it") is None
    assert len(read) < 100


@pytest.mark.parametrize("pack", [state_codec.encode_small, state_codec.pack_state])
def test_large_or_small_what_cannot_be_kept_is_refused(pack: Any, small_is: Any) -> None:
    with pytest.raises(CannotStore, match="the state cannot be stored: TypeError: cannot pickle"):
        pack({"lock": threading.Lock()}, "cloudpickle", "the state")
    with pytest.raises(CannotStore, match=r"it\['a'\] is of type tuple"):
        pack({"a": ()}, "json", "the state")
    with pytest.raises(CannotStore, match="no codec 'zip'"):
        pack({}, "zip", "the state")
    loop: list[object] = []
    loop.append(loop)
    small_is(10)
    with pytest.raises(CannotStore, match="nested too deeply"):
        state_codec.pack_state(loop, "msgpack", "the state")
    assert state_codec.encode_small(loop, "msgpack", "the state") is None


def test_large_or_small_a_state_may_hold_closures() -> None:
    n = 3
    state = {"times": lambda x: x * n, "padding": [str(i) for i in range(100_000)]}
    assert state_codec.encode_small(state, "cloudpickle", "it") is None
    back: Any = state_codec.decode_state(*reversed(state_codec.pack_state(state, "cloudpickle", "it")))
    assert back["times"](14) == 42
    del state["padding"]
    small = state_codec.encode_small(state, "cloudpickle", "it")
    assert small is not None
    back = state_codec.decode_state(small, "cloudpickle")
    assert back["times"](14) == 42


class OutOfFiles:
    """What pickles only while there are files to be opened."""

    def __reduce__(self) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class OutOfMemory:
    def __reduce__(self) -> Any:
        raise MemoryError


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (threading.Lock(), "Keep to values that pickle"),
        (OutOfFiles(), "raise the limit of open files"),
        (OutOfMemory(), "in a file or a store of its own"),
    ],
)
def test_what_cannot_be_stored_is_told_with_the_advice_that_helps(value: Any, advice: str) -> None:
    with pytest.raises(CannotStore, match=advice):
        codec.dumps(value, "the input")


@pytest.mark.parametrize(("form", "also"), [("json", "finite float"), ("msgpack", "bytes")])
@pytest.mark.parametrize("state", [{"a": {1, 2}}, {"a": object()}, [(1, 2)]])
def test_a_state_of_plain_data_is_told_what_its_codec_takes(form: str, also: str, state: Any) -> None:
    with pytest.raises(CannotStore) as refused:
        state_codec.encode_state(state, form, "the state")
    assert f'codec="{form}" takes None' in str(refused.value)
    assert also in str(refused.value)
    assert "pickle:" not in str(refused.value)


def test_what_is_too_large_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_errors, "LARGEST_VALUE_BYTES", 100)
    for value in ("x" * 200, ["x" * 200]):
        with pytest.raises(CannotStore, match="in a file or a store of its own"):
            codec.dumps_at_once(value, "the input")
