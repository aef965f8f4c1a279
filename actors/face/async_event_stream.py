"""Events for a task that waits for them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ...errors import RuntimeClosing
from ...persistence.rows import EventRow
from ...types import RequestId
from ..events.buffer import cursor_of
from ..events.protocol import Cursor, ForgetPull
from ..models import Event
from . import requests
from .engine import granted

if TYPE_CHECKING:
    from .async_runtime import AsyncRuntime


class AsyncEventStream(AsyncIterator[Event]):
    """Events as they happen; `aclose` ends it. `page` is how many are asked for at a time."""

    page: int = requests.AGENTS_IN_PAGE

    def __init__(
        self, runtime: "AsyncRuntime", under: str, since: int | Cursor | None, *, follow: bool
    ) -> None:
        self._runtime, self._under, self._follow = runtime, under, follow
        self._ready: deque[EventRow] = deque()
        self._over = False
        self._since: int | Cursor = since or 0
        self._request: RequestId = None
        self._begin: asyncio.Future[Any] | None = None
        self._awaited: asyncio.Future[Any] | None = None
        if since is None and follow:
            _, self._begin = runtime._post(requests.pull(under, None, wait=False))

    def __aiter__(self) -> "AsyncEventStream":
        return self

    async def begin(self) -> int:
        """Wait until it is settled where the stream begins: the number of the event before its first."""
        if self._begin is not None:
            self._since = granted(await self._begin).last
            self._begin = None
        return cursor_of(self._since)[0]

    async def __anext__(self) -> Event:
        try:
            await self.begin()
            while not self._ready and not self._over:
                await self._pull()
        except RuntimeClosing:
            self._over = True
        if not self._ready:
            raise StopAsyncIteration
        return Event.of(self._ready.popleft())  # as late as this: a whole page would hold the loop

    async def _pull(self) -> None:
        call = requests.pull(self._under, self._since, wait=self._follow, limit=self.page)
        self._request, self._awaited = self._runtime._post(call)
        try:
            answer = granted(await self._awaited)
        finally:
            self._forget()
        if answer is None:
            return
        self._since = answer.last
        self._ready.extend(answer.events)
        if not self._ready and not self._follow:
            self._over = True

    def _forget(self) -> None:
        engine, request = self._runtime._engine, self._request
        self._request = None
        if engine is not None and request is not None and request in engine.callers.waiting:
            engine.forget(request)
            engine.tell("events", ForgetPull(request))

    async def aclose(self) -> None:
        """End the stream, also for a task that waits for the next event."""
        self._over = True
        self._ready.clear()
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)
