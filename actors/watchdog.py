"""Says who blocks the loop.

All turns of `async` kinds share one loop; one that computes for a second without an `await` stops all
of them for that second. Nobody can take the loop away from it, but its name can be told.
"""

import asyncio
import logging
import queue
import sys
import threading
import time
import traceback

log = logging.getLogger("greenroom")

BEAT = 0.25
PATIENCE = 0.75
"""Seconds without a beat of the loop, after which it counts as blocked."""


class Watchdog:
    """A thread that watches a loop's heartbeat, and names the task that holds it up, once each time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._beaten = time.monotonic()
        self._stopped: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._loop_thread = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._loop.call_soon_threadsafe(self._beat)
        threading.Thread(target=self._watch, name="greenroom watchdog", daemon=True).start()

    def stop(self) -> None:
        """Cease to watch."""
        self._stopped.put(None)

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._loop_thread = threading.get_ident()
        if self._stopped.empty():
            self._loop.call_later(BEAT, self._beat)

    def _watch(self) -> None:
        told = 0.0  # the beat after which it was told last
        while True:
            try:
                self._stopped.get(timeout=BEAT)
            except queue.Empty:
                beaten = self._beaten
                if time.monotonic() - beaten > PATIENCE + BEAT and beaten != told and self._loop_thread:
                    told = beaten
                    self._tell(time.monotonic() - beaten)
            else:
                self._stopped.put(None)  # for the beat
                return

    def _tell(self, seconds: float) -> None:
        task = asyncio.current_task(self._loop)
        who = task.get_name() if task is not None else "a callback"
        frame = sys._current_frames().get(self._loop_thread)
        where = "".join(traceback.format_stack(frame, limit=None)[-3:]) if frame else ""
        log.warning(
            "%s has blocked all agents for %.1f s: await something, or make it a plain def, which runs on "
            "a thread\n%s",
            who,
            seconds,
            where,
        )
