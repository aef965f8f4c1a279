"""What the stories are told with: runtimes on stores of their own, gates to hold code at, events to await.

Nothing here sleeps. Every wait has a deadline and says what it waited for.
"""

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from greenroom import Event, Runtime

T = TypeVar("T")

DEADLINE = 600.0
"""Seconds that any single wait of a story may take; none takes a tenth of it when all is well."""


class Gate:
    """Code of a kind comes to the gate and waits there; the test sees it come and lets it through.

    `reach` is for `async` code, `reach_on_thread` for code on threads. What comes is counted; a gate that
    was opened lets everything through, `let` so many only.
    """

    _all: "weakref.WeakSet[Gate]" = weakref.WeakSet()

    def __init__(self, name: str = "gate") -> None:
        self.name = name
        self._changed = threading.Condition()
        self._came = self._left = self._cancelled = 0
        self._permits = 0.0
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        Gate._all.add(self)

    # Code of a kind

    async def reach(self) -> None:
        """Come to the gate and wait, on a loop, until it lets this one through."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._changed:
            self._came += 1
            if self._permits > 0:
                self._permits -= 1
                future.set_result(None)
            else:
                self._waiting.append((loop, future))
            self._changed.notify_all()
        try:
            await future
        except asyncio.CancelledError:
            with self._changed:
                self._waiting = [(its, one) for its, one in self._waiting if one is not future]
                self._cancelled += 1
                self._changed.notify_all()
            raise
        with self._changed:
            self._left += 1
            self._changed.notify_all()

    async def reach_deaf(self) -> None:
        """`reach` for code that does not listen: cancelled, it waits on, and then ends as if it was not."""
        inner = asyncio.ensure_future(self.reach())
        while not inner.done():
            try:
                await asyncio.shield(inner)
            except asyncio.CancelledError:
                continue

    def reach_on_thread(self, within: float = 60.0) -> None:
        """Come to the gate and wait, on a thread."""
        with self._changed:
            self._came += 1
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._permits > 0, within):
                raise TimeoutError(f"nobody opened {self.name} within {within} s")
            self._permits -= 1
            self._left += 1
            self._changed.notify_all()

    # The test

    def open(self) -> None:
        """Let everything through, now and from now on."""
        self.let(float("inf"))

    def let(self, count: float = 1) -> None:
        """Let `count` through, those that wait first."""
        with self._changed:
            self._permits += count
            while self._permits > 0 and self._waiting:
                loop, future = self._waiting.pop(0)
                self._permits -= 1
                with contextlib.suppress(RuntimeError):  # its loop is closed, and so is what waited
                    loop.call_soon_threadsafe(_resolve, future)
            self._changed.notify_all()

    def await_arrivals(self, count: int = 1, within: float = DEADLINE) -> None:
        """Wait until `count` have come in all."""
        self._await(lambda: self._came >= count, f"{count} arrivals", within)

    def await_ends(self, count: int = 1, within: float = DEADLINE) -> None:
        """Wait until `count` have got through or were cancelled at the gate, in all."""
        self._await(lambda: self._left + self._cancelled >= count, f"{count} ends", within)

    @property
    def arrivals(self) -> int:
        """How many came so far."""
        return self._came

    @property
    def cancelled(self) -> int:
        """How many were cancelled while they waited here."""
        return self._cancelled

    def _await(self, condition: Callable[[], bool], what: str, within: float) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, within):
                raise TimeoutError(
                    f"{self.name} did not see {what} within {within} s: "
                    f"{self._came} came, {self._left} got through, {self._cancelled} were cancelled"
                )


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Witness:
    """All events of a runtime from its store's first on, in order, and a way to await some of them."""

    def __init__(self, runtime: Runtime, under: str = "/", since: int | None = 0) -> None:
        self._changed = threading.Condition()
        self._seen: list[Event] = []
        self._stream = runtime.events(under, since=since)
        self._thread = threading.Thread(target=self._read, name="witness", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for event in self._stream:
            with self._changed:
                self._seen.append(event)
                self._changed.notify_all()

    def seen(self, type: str | None = None, path: str | None = None) -> list[Event]:
        """What was seen so far, of this type and of the agent at this path."""
        with self._changed:
            return self._chosen(type, path)

    def await_event(
        self,
        type: str,
        path: str | None = None,
        *,
        count: int = 1,
        within: float = DEADLINE,
    ) -> Event:
        """The `count`th event of this type, of the agent at this path, once it has come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._chosen(type, path)) >= count, within):
                raise TimeoutError(
                    f"{count} {type} of {path or 'anybody'} did not come within {within} s; seen: "
                    + ", ".join(f"{event.type} {event.path}" for event in self._seen[-30:])
                )
            return self._chosen(type, path)[count - 1]

    def close(self) -> None:
        """Stop watching."""
        self._stream.close()
        self._thread.join(DEADLINE)

    def _chosen(self, type_: str | None, path: str | None) -> list[Event]:
        return [
            event
            for event in self._seen
            if (type_ is None or event.type == type_) and (path is None or event.path == path)
        ]


def asked_until(ask: Callable[[], T], enough: Callable[[T], bool], within: float = DEADLINE) -> T:
    """Ask until the answer is enough, and return it.

    `ask` is a question to the runtime (`explain`, `info`, `stats`): each is answered in its turn among the
    actors' messages, so asking again is waiting for what was under way, and takes no sleep.
    """
    deadline = time.monotonic() + within
    while True:
        answer = ask()
        if enough(answer):
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"within {within} s it did not come to what was awaited: {answer!r}")


def promptly(call: Callable[..., T], *args: Any, within: float = DEADLINE, **kwargs: Any) -> T:
    """What `call` returns or raises, on a thread of its own; a `TimeoutError` if it takes too long."""
    return Later(call, *args, **kwargs).get(within)


class Later:
    """A call that goes on in the background, on a thread of its own."""

    def __init__(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._name = getattr(call, "__qualname__", repr(call))
        self._ended = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

        def work() -> None:
            try:
                self._result = call(*args, **kwargs)
            except BaseException as error:  # handed on by get
                self._error = error
            finally:
                self._ended.set()

        threading.Thread(target=work, name=f"later {self._name}", daemon=True).start()

    def done(self) -> bool:
        """Whether it has returned or raised."""
        return self._ended.is_set()

    def get(self, within: float = DEADLINE) -> Any:
        """What it returned or raised, once it has; a `TimeoutError` if it takes too long."""
        if not self._ended.wait(within):
            raise TimeoutError(f"{self._name} took longer than {within} s")
        if self._error is not None:
            raise self._error
        return self._result


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Callable[..., Runtime]]:
    """Makes started runtimes, on a file of the test's own unless told; all are closed afterwards.

    Called again with no `store` it opens the same file: close the first one before, for a restart.
    """
    made: list[Runtime] = []

    def make(store: Any = None, **settings: Any) -> Runtime:
        settings.setdefault("drain", 1.0)
        one = Runtime(store if store is not None else tmp_path / "agents.db", **settings)
        promptly(one.start, within=30.0)
        made.append(one)
        return one

    yield make
    for gate in list(Gate._all):
        gate.open()
    for one in made:
        promptly(one.close, 0.1, within=30.0)


@pytest.fixture
def witness() -> Iterator[Callable[..., Witness]]:
    """Makes witnesses of runtimes' events; all end afterwards."""
    made: list[Witness] = []

    def make(runtime: Runtime, under: str = "/", since: int | None = 0) -> Witness:
        one = Witness(runtime, under, since)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def waiting_at(gate: Gate, how: str) -> Callable[..., Any]:
    """A method for a class kind that waits at `gate`, and how it takes being called off.

    "listens" ends when it is cancelled, "deaf" swallows that and waits on, "thread" is a plain method on
    a thread, which nobody can cancel.
    """

    async def listens(self: Any, *arguments: Any) -> None:
        await gate.reach()

    async def deaf(self: Any, *arguments: Any) -> None:
        await gate.reach_deaf()

    def thread(self: Any, *arguments: Any) -> None:
        gate.reach_on_thread()

    return {"listens": listens, "deaf": deaf, "thread": thread}[how]
