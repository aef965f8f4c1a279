"""The time that retention goes by: the wall clock, but for a jump that has not lasted.

Rows that retention removes do not come back when a wrong clock is put right. So the wall clock is held
against the monotonic one, which nobody sets. If it has jumped, the earlier of the two times counts until
the jump has lasted. A stop counts as a jump, unless the monotonic clock went on meanwhile: nothing else
tells it from a machine that starts with a wrong clock.
"""

from msgspec import Struct

from ..types import Seconds, Timestamp
from .lease_rules import Instant, Owner, Process

SLACK: Seconds = 60.0
"""A clock that is corrected by less was not wrong enough to matter."""

LASTING: Seconds = 3_600.0
"""Seconds of the monotonic clock after which a jump is believed."""


class _Jump(Struct, frozen=True):
    off: Seconds  # the wall clock against what was expected of it
    since: Seconds  # by the monotonic clock


class TrustedTime:
    """Told the time of both clocks, now and then; each answer is the time to go by."""

    def __init__(self, last: Instant) -> None:
        self._last = last  # a moment at which the wall clock was believed
        self._jump: _Jump | None = None

    def at(self, now: Instant) -> Timestamp:
        """The trusted time."""
        expected = self._last.wall + now.uptime - self._last.uptime
        off = now.wall - expected
        if abs(off) > SLACK:
            if self._jump is None or abs(off - self._jump.off) > SLACK:
                self._jump = _Jump(off, now.uptime)
            if now.uptime - self._jump.since < LASTING:
                return min(now.wall, expected)
        self._last, self._jump = now, None
        return now.wall


def last_known(before: Owner, me: Process, now: Instant) -> Instant:
    """The moment to begin with, from the last sign of life of whoever had the store before."""
    heartbeat = before.heartbeat
    same_clock = before.process.system == me.system and heartbeat.uptime <= now.uptime
    return heartbeat if same_clock else Instant(heartbeat.wall, now.uptime)
