"""The time that a turn may take: it stands still while the turn waits.

Runs on an asyncio loop and goes by the loop's clock.
"""

import asyncio
from collections.abc import Callable

from ...types import Seconds


class TurnClock:
    """Calls `over` once `seconds` have passed in which it was going; it stands still at first."""

    __slots__ = ("_begun", "_left", "_loop", "_over", "_timer")

    def __init__(self, seconds: Seconds, over: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = seconds
        self._over = over
        self._begun = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def go_on(self) -> None:
        """The turn executes."""
        if self._timer is None:
            self._begun = self._loop.time()
            self._timer = self._loop.call_later(self._left, self._over)

    def stop(self) -> None:
        """The turn waits, or is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left = max(0.0, self._left - (self._loop.time() - self._begun))
