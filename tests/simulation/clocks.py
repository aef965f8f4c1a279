"""A wall clock that jumps, and what it has shown."""

from msgspec import Struct

from greenroom.testing.simulation import EPOCH

LASTING = 3_600.0
"""Seconds after which retention believes a clock that has jumped; see docs/semantics.md."""

ROUNDING = 0.001


class _Setting(Struct):
    """The clock between two jumps."""

    since: float
    off: float
    believed: bool = False  # a runtime was opened with it, which knows no other time


class WallClock:
    """What the clock showed when. True times are those of a clock that nobody sets."""

    def __init__(self) -> None:
        self._settings = [_Setting(EPOCH, 0.0, believed=True)]

    def jumps(self, now: float, off: float) -> None:
        """At this true time it is set, so that it shows so many seconds more than is right."""
        self._settings.append(_Setting(now, off))

    def believed(self) -> None:
        """A runtime is opened."""
        self._settings[-1].believed = True

    def earliest(self, shown: float) -> float:
        """The first true time at which it showed this; exact as long as it showed nothing twice."""
        ends = [setting.since for setting in self._settings[1:]] + [float("inf")]
        return next(
            (
                shown - setting.off
                for setting, end in zip(self._settings, ends, strict=True)
                if setting.since - ROUNDING <= shown - setting.off <= end + ROUNDING
            ),
            shown - self._settings[-1].off,
        )

    def may_be_past(self, shown: float, age: float, now: float) -> bool:
        """Whether it may count that what this stands at is so old: it is, or a jump has lasted."""
        if self.earliest(shown) + age <= now:
            return True
        ends = [setting.since for setting in self._settings[1:]] + [now]
        return any(
            shown + age <= end + setting.off
            for setting, end in zip(self._settings, ends, strict=True)
            if setting.believed or end - setting.since >= LASTING
        )
