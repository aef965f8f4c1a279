"""Events for a thread that waits for them."""

from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from ...errors import RuntimeClosing
from ..events.protocol import ForgetPull
from ..models import Event
from . import requests
from .engine import failure_of

if TYPE_CHECKING:
    from .runtime import Runtime


class EventStream(Iterator[Event]):
    """Events as they happen. `close` ends it, also for a thread that waits for the next one."""

    def __init__(self, runtime: "Runtime", under: str, since: int | None, *, follow: bool) -> None:
        self._runtime, self._under, self._follow = runtime, under, follow
        self._ready: list[Event] = []  # newest first
        self._answers: SimpleQueue[Any] = runtime._engine.world.answers()
        self._request: Any = None
        self._over = False
        self._since = since or 0
        if since is None and follow:
            self._since = runtime._ask(requests.pull(under, None, wait=False)).last
        elif runtime._engine.callers.failure is not None:
            raise runtime._engine.callers.failure

    def __next__(self) -> Event:
        while not self._ready:
            if self._over:
                raise StopIteration
            self._pull()
        return self._ready.pop()

    def _pull(self) -> None:
        call = requests.pull(self._under, self._since, wait=self._follow)
        try:
            self._request = self._runtime._post(call, self._answers.put)
        except RuntimeClosing:
            self._over = True
            return
        answer = self._answers.get()
        error = failure_of(answer)
        if answer is None or isinstance(error, RuntimeClosing):
            self._over = True
            return
        if error is not None:
            raise error
        self._since = answer.last
        self._ready = [Event.of(row) for row in reversed(answer.events)]
        if not self._ready and not self._follow:
            self._over = True

    def close(self) -> None:
        """End the stream."""
        self._over = True
        self._runtime._engine.forget(self._request)
        self._runtime._engine.tell("events", ForgetPull(self._request))
        self._answers.put(None)
