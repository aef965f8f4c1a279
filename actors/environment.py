"""The environment of an engine: the real world, unless a simulation brings its own."""

import asyncio
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from msgspec import Struct

from ..types import Seconds, Timestamp
from .systems.local import LocalSystemBase
from .watchdog import Watchdog


class Environment(Struct, frozen=True):
    """Threads, clocks and disks, as they are found.

    `answers` makes the queue in which a caller waits: `put` on the loop's thread, `get(timeout=None)` on
    the caller's, which raises `queue.Empty`. The openers take the place of `Store.open` and `Reader.open`.
    """

    base: Callable[[asyncio.AbstractEventLoop | None], LocalSystemBase] = LocalSystemBase
    clock: Callable[[], Timestamp] = time.time
    monotonic: Callable[[], Seconds] = time.monotonic
    answers: Callable[[], Any] = SimpleQueue
    watchdog: Callable[[asyncio.AbstractEventLoop], Watchdog] | None = Watchdog
    store_opener: Callable[..., Any] | None = None
    reader_opener: Callable[..., Any] | None = None


REAL_ENVIRONMENT = Environment()
