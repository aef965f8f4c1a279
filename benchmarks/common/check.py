"""Results that are wrong. A benchmark fails on these, and never on a time."""

from collections.abc import Iterable
from typing import Any


class WrongResult(AssertionError):
    """What was measured did not do its work: how fast it did that is no answer."""


def equal(what: str, found: Any, expected: Any) -> None:
    """Raise `WrongResult` unless `what` is as expected."""
    if found != expected:
        raise WrongResult(f"{what}: {_short(found)} instead of {_short(expected)}")


def counted(what: str, numbers: Iterable[int], upto: int) -> None:
    """Raise `WrongResult` unless the numbers are 1 to `upto`, each once, in any order."""
    equal(what, sorted(numbers), list(range(1, upto + 1)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:160]}… ({len(text):,} characters)"
