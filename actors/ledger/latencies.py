"""How long things take: the newest measurements of each, and their percentiles."""

from collections import deque

SAMPLES_KEPT = 1_000
"""Measurements of each name; older ones are forgotten."""


class Latencies:
    """Seconds by name, in memory that does not grow."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = {}

    def add(self, name: str, seconds: float) -> None:
        """One more measurement. A clock that was set back counts as no time."""
        kept = self._seconds.get(name)
        if kept is None:
            kept = self._seconds[name] = deque(maxlen=SAMPLES_KEPT)
        kept.append(max(0.0, seconds))

    def percentiles(self) -> dict[str, tuple[float, float]]:
        """The median and the 99th percentile of each, of those measured at all."""
        return {name: _percentiles(sorted(kept)) for name, kept in self._seconds.items()}


def _percentiles(ascending: list[float]) -> tuple[float, float]:
    last = len(ascending) - 1
    return ascending[last // 2], ascending[round(last * 0.99)]
