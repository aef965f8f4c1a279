"""Values read without executing anything."""

import collections
import datetime
import decimal
import enum
import os
import pickle
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import SnapshotTampered
from greenroom.persistence import codec, safe_unpickle, state_codec, value_errors

executed: list[str] = []


def execute(what: str) -> str:
    executed.append(what)
    return what


class Bomb:
    """Unpickling it calls a function."""

    def __reduce__(self) -> Any:
        return execute, ("boom",)


class Thing:
    def __init__(self, x: int) -> None:
        self.x = x

    def __setstate__(self, state: Any) -> None:
        executed.append("setstate")
        self.__dict__.update(state)


class Colour(enum.Enum):
    RED = 1


class Many(list[Any]):
    def extend(self, items: Any) -> None:
        executed.append("extend")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.frozensets(st.text())
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    assert safe_unpickle.read_value(codec.dumps(value, "it")) == value


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        bytearray(b"a"),
        1 + 2j,
        range(3),
        datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        datetime.timedelta(1),
        decimal.Decimal("1.5"),
        uuid.UUID(int=1),
        collections.OrderedDict(a=1),
        collections.deque([1], 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_harmless_values_of_pythons_own_come_back(value: Any) -> None:
    assert safe_unpickle.read_value(codec.dumps(value, "it")) == value


def test_nothing_that_a_value_names_is_executed() -> None:
    executed.clear()
    many = Many()
    list.append(many, 1)
    value = [Bomb(), Thing(1), Colour.RED, many, Path("/a"), ValueError("b"), len, Thing, {"x": Bomb()}]
    data = codec.dumps(value, "it")
    executed.clear()
    found: Any = safe_unpickle.read_value(data)
    assert executed == []
    assert repr(found[:4]) == "[execute('boom'), Thing(x=1), Colour(1), Many()]"
    assert type(found[1]).__module__ == Thing.__module__
    assert "ValueError('b')" in repr(found)
    assert codec.loads(data)  # the bytes would do it
    assert "boom" in executed


@pytest.mark.parametrize(
    "name", ["builtins\neval", "os\nsystem", "builtins\ngetattr", "builtins\n__import__"]
)
def test_a_pickle_made_to_harm_does_nothing(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "made"
    data = f"c{name}\n(V__import__('os').mkdir({str(victim)!r})\ntR.".encode()
    assert re.search(r"\(", repr(safe_unpickle.read_value(data)))
    assert not victim.exists()


def test_functions_and_states_of_them_are_stood_in_for() -> None:
    data = codec.dumps({"n": 1, "f": lambda x: x + os.getpid()}, "it")
    found: Any = safe_unpickle.read_state(data, "cloudpickle")
    assert found["n"] == 1
    assert isinstance(found["f"], safe_unpickle.Placeholder)


def test_large_states_are_read_in_each_codec() -> None:
    state = {"text": "x" * 1_000_000}
    for name in ("cloudpickle", "json", "msgpack"):
        tag, data = state_codec.pack_state(state, name, "it")
        assert tag == f"{name}+zlib"
        assert safe_unpickle.read_state(data, tag) == state


@pytest.mark.parametrize("data", [b"", b"nonsense", pickle.dumps([1])[:-1]])
def test_what_is_no_pickle_is_unreadable(data: bytes) -> None:
    with pytest.raises(value_errors.Unreadable):
        safe_unpickle.read_value(data)


def test_what_the_store_refused_stays_refused() -> None:
    with pytest.raises(SnapshotTampered):
        safe_unpickle.read_value(codec.tampered_marker(SnapshotTampered("/a", "it was altered")))
