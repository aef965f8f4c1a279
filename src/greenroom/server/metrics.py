"""`/metrics`: the runtime's numbers as they are when asked, and those of requests as they come."""

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from .. import Stats

CONTENT_TYPE = CONTENT_TYPE_LATEST

_GAUGES = {
    "agents": "Open agents, in memory or not",
    "resident": "Agents in memory, but for those that wait inside a turn",
    "waiting": "Agents in memory that wait inside a turn",
    "residents": "How many agents may be in memory, but for those that wait inside a turn",
    "running": "Runs whose turn is under way",
    "queued": "Runs accepted and not begun",
    "slots": "How many turns may execute at a time",
    "slots_taken": "Turns that hold a slot",
    "unwritten": "Commits that are not on disk yet",
    "given_way": "Always 0: the limit of agents in memory gives way no more",
}
_COUNTERS = {
    "evictions": "Agents moved out of memory",
    "reloads": "Agents loaded from disk",
    "commits": "Commits",
    "events_dropped": "Progress events dropped because too many waited to be recorded",
}
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)


class Metrics:
    """Counts requests, and shows everything."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "greenroom_http_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "greenroom_http_request_seconds",
            "Until the answer began",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._refused = Counter(
            "greenroom_http_refused", "Requests refused", ("problem",), registry=self._registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, problem: str) -> None:
        """A request was refused."""
        self._refused.labels(problem).inc()

    def show(self, stats: Stats, events: dict[str, int], streams: int) -> bytes:
        """Everything, as Prometheus reads it."""
        now = CollectorRegistry()
        now.register(_Moment(stats, events, streams))
        return generate_latest(now) + generate_latest(self._registry)


class _Moment(Collector):
    """The runtime's numbers as metrics."""

    def __init__(self, stats: Stats, events: dict[str, int], streams: int) -> None:
        self._stats, self._events, self._streams = stats, events, streams

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        stats = self._stats
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"greenroom_{name}", text, value=getattr(stats, name))
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"greenroom_{name}", text, value=getattr(stats, name))
        failing = stats.store_problem is not None
        yield GaugeMetricFamily("greenroom_store_failing", "1 while nothing can be written", value=failing)
        latency = GaugeMetricFamily(
            "greenroom_latency_seconds", "Of the newest thousand of each", labels=("of", "quantile")
        )
        for name, (median, p99) in stats.latencies.items():
            latency.add_metric((name, "0.5"), median)
            latency.add_metric((name, "0.99"), p99)
        yield latency
        events = CounterMetricFamily(
            "greenroom_events", "Events since the server started", labels=("type",)
        )
        for name, number in self._events.items():
            events.add_metric((name,), number)
        yield events
        yield GaugeMetricFamily("greenroom_streams", "Open event streams and waits", value=self._streams)
        yield GaugeMetricFamily("greenroom_time_seconds", "The server's clock", value=time.time())
