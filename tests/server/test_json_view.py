"""A user's values as JSON."""

import dataclasses
import datetime
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors.models import UnreadableValue
from greenroom.server import json_view as module
from greenroom.server.json_view import show

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
ANYTHING = st.recursive(
    JSON | st.floats() | st.binary() | st.dates() | st.sets(st.integers()) | st.complex_numbers(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=20,
)


def seen(value: object) -> tuple[Any, list[str]]:
    found = show(value, "")
    return json.loads(bytes(found.json)), list(found.described)


@given(JSON)
@settings(max_examples=50)
def test_what_json_can_hold_is_shown_as_it_is(value: Any) -> None:
    found, described = seen(value)
    assert found == value
    assert described == []


@given(ANYTHING)
@settings(max_examples=50)
def test_anything_is_shown_and_descriptions_stand_where_it_says(value: Any) -> None:
    found, described = seen(value)
    for pointer in described:
        place = found
        for step in pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            place = place[int(key)] if isinstance(place, list) else place[key]
        assert {"type", "text"} <= place.keys()


@dataclasses.dataclass
class Point:
    x: int
    y: Any


class Pair(msgspec.Struct):
    left: Any
    right: Any


def test_a_description_has_the_class_and_what_python_shows() -> None:
    found, described = seen({"when": datetime.date(2024, 2, 29)})
    assert found == {"when": {"type": "datetime.date", "text": "datetime.date(2024, 2, 29)"}}
    assert described == ["/when"]


def test_dataclasses_and_structs_have_their_fields() -> None:
    found, described = seen([Point(1, {2}), Pair(3, None)])
    assert found[0]["fields"] == {"x": 1, "y": {"type": "set", "text": "{2}"}}
    assert found[1]["fields"] == {"left": 3, "right": None}
    assert described == ["/0", "/0/fields/y", "/1"]


def test_a_value_of_the_users_cannot_pose_as_a_description() -> None:
    assert seen({"type": "set", "text": "{1}"})[1] == []


def test_what_cannot_be_read_is_said_to_be() -> None:
    assert seen(UnreadableValue("no such class"))[0] == {"type": "unreadable", "text": "no such class"}


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


ODD = [Rude(), "\ud800", {"\ud800": 1}, float("inf"), 10**5000, {1: 2}, object]


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_whatever_it_is_it_does_not_raise(value: Any) -> None:
    assert len(seen(value)[1]) == 1


def test_a_cycle_ends() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert len(seen(cycle)[1]) == 1


def test_what_is_too_much_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NODES", 100)
    monkeypatch.setattr(module, "MOST_VIEW_CHARACTERS", 100)
    found, described = seen({"many": list(range(1000)), "long": "x" * 1000, "little": 1})
    assert described == ["/many", "/long"]
    assert found["little"] == 1
    assert len(found["long"]["text"]) < 400
    many: list[Any] = [[]] * 10
    for _ in range(50):
        many = [many] * 10
    assert len(bytes(show(many, "").json)) < 1_000_000
