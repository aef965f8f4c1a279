"""JSON lines out of a stream of bytes, in bounded memory.

Plain values: bytes in, lines out, however the bytes are cut. A line is what ends with a newline, or what
is left when the stream ends. The type of the line:

    Value     JSON, decoded
    Text      anything else that is not blank; what is no UTF-8 in it is replaced
    Unusable  JSON as many programs write it, of which no value can be kept: NaN, 1e999, half a character
    TooLong   more bytes than allowed: its beginning is kept, the rest is dropped as it comes
"""

import json
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

LONGEST_LINE = 1 << 20
"""Bytes of a line, unless a kind says otherwise."""

BEGINNING = 1024
"""Bytes that are kept of a line that is too long."""


class ParsedValue(Struct, frozen=True):
    value: Any


class Text(Struct, frozen=True):
    text: str


class Unusable(Struct, frozen=True):
    text: str
    problem: str
    is_reply: bool  # an object with an id: somebody waits for it


class TooLong(Struct, frozen=True):
    beginning: str
    size: int  # bytes in all

    @property
    def looks_like_json(self) -> bool:
        """Whether it is no mere text."""
        return self.beginning.lstrip().startswith(("{", "[", '"'))


Line: TypeAlias = ParsedValue | Text | Unusable | TooLong


class Splitter:
    """Holds the line that has begun, at most `longest` bytes of it."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._begun = bytearray()
        self._size = 0  # of the line that has begun, what was dropped included

    def feed(self, data: bytes) -> list[Line]:
        """The lines that end in `data`."""
        lines: list[Line] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._add(data, start, end)
            lines += self._take()
            start = end + 1
        self._add(data, start, len(data))
        return lines

    def end(self) -> list[Line]:
        """The line that no newline ended, if there is one. Many programs end their last one so."""
        return self._take()

    def _add(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        room = self._longest + 1 - len(self._begun)  # one more tells that it is too long
        if room > 0:
            self._begun += data[start : min(end, start + room)]

    def _take(self) -> list[Line]:
        line, size = bytes(self._begun), self._size
        self._begun, self._size = bytearray(), 0
        if size > self._longest:
            return [TooLong(line[:BEGINNING].decode(errors="replace"), size)]
        line = line.strip()
        return [parse(line)] if line else []


def parse(line: bytes) -> ParsedValue | Text | Unusable:
    """The type of a line. Nothing that stands in one raises."""
    try:
        return ParsedValue(msgspec.json.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        problem = str(error)
    text = line.decode(errors="replace")
    try:
        meant = json.loads(text)
    except json.JSONDecodeError:
        return Text(text)
    except (RecursionError, ValueError) as error:  # of a number with too many digits
        return Unusable(text, str(error), is_reply=False)
    return Unusable(text, problem, is_reply=isinstance(meant, dict) and "id" in meant)
