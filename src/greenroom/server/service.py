"""The base of the server's addresses: the runtime, the streams, the tokens, and how it is doing."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from .. import AsyncRuntime, GreenroomError
from .access import Keyring
from .log import log
from .metrics import Metrics
from .streams import Streams
from .views import HealthView


class Service:
    """One server's parts. `closing` is set when it was told to stop."""

    def __init__(
        self, runtime: AsyncRuntime, streams: Streams, keyring: Keyring, kinds: Sequence[str] = ()
    ) -> None:
        self.runtime, self.streams, self.keyring = runtime, streams, keyring
        self.kinds = tuple(kinds)
        self.metrics = Metrics()
        self.started_at = time.time()
        self.closing = False
        self._left: set[asyncio.Task[Any]] = set()  # what goes on without its request

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    async def health(self) -> HealthView:
        """Whether work can be accepted now."""
        if self.closing:
            return HealthView("closing")
        stats = await self.runtime.stats()
        return HealthView("ok" if stats.store_problem is None else "store-failing")

    async def soon(self, work: Coroutine[Any, Any, bool], seconds: float) -> bool | None:
        """The result of `work`, or None if that takes longer; it goes on in any case."""
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if done:
            return task.result()
        self._left.add(task)
        task.add_done_callback(self._ended)
        return None

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._left.discard(task)
        if not task.cancelled() and isinstance(task.exception(), GreenroomError):
            log.info("what a request had begun came to nothing: %s", task.exception())
