"""The activity of a runtime, read from its events on a thread of its own.

Counts the runs that end, keeps the newest events, and wakes who waits for a run of one agent to end. It
reads what the runtime tells everybody, at its own pace: nobody waits for it.
"""

import time
from collections import Counter, deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

from msgspec import Struct

from ..actors.face.runtime import Runtime
from ..actors.models import Event, Stats

NEWEST_KEPT = 8
"""How many of the newest events are kept."""

WINDOW = 3.0
"""Seconds over which runs per second are counted."""

BEHIND_SECONDS = 0.5
"""Seconds that are waited for an event that should be there; it may have happened before the watch."""

STATUS_OF_END_EVENT = {
    "run.completed": "completed",
    "run.failed": "failed",
    "run.interrupted": "interrupted",
}
TURNING_POINTS = frozenset({*STATUS_OF_END_EVENT, "agent.closed", "agent.deleted"})


class Moment(Struct, frozen=True):
    """How it stands."""

    seconds: float  # since the command began
    stats: Stats
    runs: dict[str, int]  # how many have ended since then, by how they ended
    per_second: float
    newest: tuple[Event, ...]  # oldest first

    @property
    def ended(self) -> int:
        """Runs that have ended, in whichever way."""
        return sum(self.runs.values())


class Watch:
    """Follows the events of `runtime` from now on; `path` is the agent whose runs are waited for."""

    def __init__(self, runtime: Runtime, path: str) -> None:
        self.seen = 0  # events
        self._path = path
        self._last_end: str | None = None
        self._runs: Counter[str] = Counter()
        self._newest: deque[Event] = deque(maxlen=NEWEST_KEPT)
        self._began = time.monotonic()
        self._counts: deque[tuple[float, int]] = deque([(self._began, 0)])
        self._news: SimpleQueue[Exception | None] = SimpleQueue()
        self._stream = runtime.events()  # what happens from here on is seen
        Thread(target=self._follow, name="greenroom watch", daemon=True).start()

    def _follow(self) -> None:
        try:
            for event in self._stream:
                self.seen += 1
                self._newest.append(event)
                ended = STATUS_OF_END_EVENT.get(event.type)
                if ended is not None:
                    self._runs[ended] += 1
                if event.path == self._path and event.type in TURNING_POINTS:
                    self._last_end = event.run_id
                    self._news.put(None)
        except Exception as error:  # told where it is waited for
            self._news.put(error)

    def wait(self, seconds: float) -> bool:
        """Wait until a run of the agent ended, or `seconds` are over; whether one did.

        Raises why no event will come any more.
        """
        try:
            error = self._news.get(timeout=seconds)
        except Empty:
            return False
        with suppress(Empty):
            while error is None:
                error = self._news.get_nowait()
        if error is not None:
            raise error
        return True

    def catch_up(self, run_id: str) -> None:
        """Wait until the end of this run of the agent was read, which is a matter of milliseconds."""
        until = time.monotonic() + BEHIND_SECONDS
        while self._last_end != run_id and (left := until - time.monotonic()) > 0:
            self.wait(left)

    def moment(self, stats: Stats, *, overall: bool = False) -> Moment:
        """How it stands now; `overall`: with the runs per second of all the time, not of the last few."""
        now = time.monotonic()
        runs = dict(self._runs)
        self._counts.append((now, sum(runs.values())))
        while self._counts[0][0] < now - WINDOW and len(self._counts) > 2:
            self._counts.popleft()
        before, few = (self._began, 0) if overall else self._counts[0]
        many = self._counts[-1][1]
        per_second = (many - few) / (now - before) if now > before else 0.0
        # copied in one step of the interpreter, while the other thread appends
        return Moment(now - self._began, stats, runs, per_second, tuple(self._newest))
