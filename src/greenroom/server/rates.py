"""How often somebody may ask: a bucket of requests for each, that fills at a steady rate.

Plain values; the clock is an argument. Memory is bounded: who has not asked for longest is forgotten,
and begins with a full bucket.
"""

from collections import OrderedDict

from msgspec import Struct

MOST_KEYS = 10_000
"""How many are remembered at a time."""


class _Bucket(Struct):
    level: float
    at: float


class Rates:
    """At most `rate` requests a second in the long run, `burst` at once; for each key of its own."""

    def __init__(self, rate: float, burst: float, most: int = MOST_KEYS) -> None:
        self.rate, self.burst, self.most = rate, burst, most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> float:
        """Take one request out of the bucket; 0.0, or the seconds until there is one (none was taken)."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self.burst, now)
            if len(self._buckets) > self.most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        bucket.level = min(self.burst, bucket.level + max(0.0, now - bucket.at) * self.rate)
        bucket.at = now
        if bucket.level >= 1.0:
            bucket.level -= 1.0
            return 0.0
        return (1.0 - bucket.level) / self.rate
