"""Lines out of bytes, however they are cut."""

from unittest.mock import ANY

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.drivers.lines import BEGINNING, Line, ParsedValue, Splitter, Text, TooLong, Unusable, parse


def lines_of(*chunks: bytes, longest: int = 100) -> list[Line]:
    splitter = Splitter(longest)
    found = [line for chunk in chunks for line in splitter.feed(chunk)]
    return found + splitter.end()


@pytest.mark.parametrize(
    ("given_bytes", "lines"),
    [
        (b'{"a": 1}\n', [ParsedValue({"a": 1})]),
        (b'{"a": 1}\r\n\n  \n[2]\n', [ParsedValue({"a": 1}), ParsedValue([2])]),
        (b"plain\n7\n", [Text("plain"), ParsedValue(7)]),
        (b'{"a": 1}', [ParsedValue({"a": 1})]),  # the last line needs no end
        (b'{"a": ', [Text('{"a":')]),  # half a line at the end is text
        (b"\xff\xfe{}\n", [Text("\ufffd\ufffd{}")]),
        (b"[" * 60 + b"\n", [Text("[" * 60)]),
        (b"", []),
        (b"\n\n\n", []),
        (b"x" * 100 + b"\n", [Text("x" * 100)]),
        (b"x" * 101 + b"\n1\n", [TooLong("x" * 101, 101), ParsedValue(1)]),
        (b"x" * 5000, [TooLong("x" * 101, 5000)]),
    ],
)
def test_what_a_line_is(given_bytes: bytes, lines: list[Line]) -> None:
    assert lines_of(given_bytes) == lines


@given(st.lists(st.binary(max_size=30)), st.integers(1, 40))
def test_where_the_bytes_are_cut_changes_nothing(chunks: list[bytes], longest: int) -> None:
    assert lines_of(*chunks, longest=longest) == lines_of(b"".join(chunks), longest=longest)


@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    found = parse(line)
    if isinstance(found, ParsedValue):
        assert msgspec.json.decode(msgspec.json.encode(found.value)) == found.value


def test_an_endless_line_takes_no_memory() -> None:
    splitter = Splitter(1000)
    for _ in range(1000):
        assert splitter.feed(b"y" * 10_000) == []
    assert len(splitter._begun) <= 1001
    (line,) = splitter.feed(b"\n")
    assert line == TooLong("y" * min(BEGINNING, 1001), 10_000_000)


@pytest.mark.parametrize(
    "line",
    [
        b"NaN",
        b'{"score": NaN, "text": "the answer"}',
        b"[-Infinity]",
        b'{"a": 1e999}',
        b'{"a": "\xff"}',
        b'"\\ud800"',
        b"9" * 5_000,
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_json_of_which_no_value_can_be_kept_is_no_mere_text(line: bytes) -> None:
    found = parse(line)
    assert isinstance(found, Unusable)
    assert found.problem
    assert found.text == line.decode(errors="replace")
    assert not found.is_reply


def test_a_reply_is_known_though_its_value_cannot_be_kept() -> None:
    assert parse(b'{"id": 1, "result": NaN}') == Unusable('{"id": 1, "result": NaN}', ANY, is_reply=True)


def test_what_is_too_long_may_be_json_or_mere_text() -> None:
    for beginning in ("{", " [1,", '"x'):
        assert TooLong(beginning, 9).looks_like_json
    for beginning in ("", "x", "7", "DEBUG {"):
        assert not TooLong(beginning, 9).looks_like_json
