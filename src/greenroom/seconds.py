"""Numbers of seconds that a caller gives: checked once, in one way."""

import math

from .borders import shown
from .types import Seconds

LONGEST: Seconds = 1e9
"""About thirty years. A longer wait is cut to this: locks, queues and timers take no more."""


def checked_seconds(
    name: str,
    value: object,
    *,
    least: Seconds = 0.0,
    above: bool = False,
    or_none: bool = False,
    wrong_type: type[Exception] = ValueError,
) -> Seconds:
    """`value` as seconds that any arithmetic, lock and timer takes, at most `LONGEST`.

    Raises `ValueError` if it is not a finite number from `least` on (or `above` it), and `wrong_type` if it
    is no number at all.
    """
    needed = f"{name}= is a number of seconds{_from(least, above)}{' or None' if or_none else ''}"
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong_type(f"{needed}, not {shown(value)}")
    if not -math.inf < value < math.inf:
        raise ValueError(f"{needed}, and a finite one, not {shown(value)}")
    if value < least or (above and value == least):
        raise ValueError(f"{needed}, not {shown(value)}")
    return float(max(-LONGEST, min(LONGEST, value)))


def _from(least: Seconds, above: bool) -> str:
    if least == -math.inf:
        return ""
    return f" above {least:g}" if above else f" from {least:g} on"


def checked_timeout(timeout: object) -> Seconds | None:
    """How long to wait; None for ever. A time that has passed is 0: look, and do not wait."""
    if timeout is None:
        return None
    seconds = checked_seconds("timeout", timeout, least=-math.inf, or_none=True, wrong_type=TypeError)
    return max(0.0, seconds)
