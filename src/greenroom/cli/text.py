"""Texts for a terminal, which takes some characters for commands. Agents may say anything."""

import time
from typing import TextIO

import click


def printable(text: str) -> str:
    """`text` without what a terminal would take for a command."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


HARMLESS_CONTROLS = frozenset("\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}\N{SOFT HYPHEN}")
"""Characters that are not printable, and belong to text of several lines and of many languages."""


def readable(text: str) -> str:
    """The same for text of several lines."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in HARMLESS_CONTROLS else "\N{REPLACEMENT CHARACTER}"
        for char in text.replace("\r\n", "\n")
    )


def tell(text: str, *, err: bool = False) -> None:
    """Tell people something, in which anybody may have put anything."""
    click.echo(readable(text), err=err)


def clock(at: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time of a store or a server as it was here; `?` if no clock can show it."""
    try:
        return time.strftime(form, time.localtime(at))
    except (OverflowError, ValueError, OSError, TypeError):
        return "?"


def write(out: TextIO, text: str) -> None:
    """A line, at once, also where the encoding lacks a character. Into a pipe it goes as it is."""
    if out.isatty():
        text = readable(text)
    encoding = out.encoding or "utf-8"
    out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    out.flush()
