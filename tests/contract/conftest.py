"""Runtimes on files of their own, doors that agents wait at, and events with a deadline."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from greenroom import Event, Runtime

from ..blocking import blocking_calls

DEADLINE = 600.0
"""Seconds after which a wait in these tests has failed."""


class Door:
    """Closed until the test opens it; tells who stands before it. For code of agents and for threads."""

    def __init__(self) -> None:
        self._arrivals: SimpleQueue[Any] = SimpleQueue()
        self._opened: Future[None] = Future()

    async def enter(self, who: Any = None) -> None:
        """Say that one is there and wait, without blocking the loop."""
        self._arrivals.put(who)
        await asyncio.shield(asyncio.wrap_future(self._opened))

    def enter_on_thread(self, who: Any = None) -> None:
        """Say that one is there and wait, on a thread."""
        self._arrivals.put(who)
        self._opened.result(2 * DEADLINE)

    def arrived(self, count: int = 1) -> list[Any]:
        """Wait until `count` more have come; who they are, in the order they came."""
        return [self._arrivals.get(timeout=DEADLINE) for _ in range(count)]

    def nobody(self) -> bool:
        """Whether nobody has come whom `arrived` has not told of."""
        return self._arrivals.empty()

    def open(self) -> None:
        """Let everybody pass, now and from now on."""
        if not self._opened.done():
            self._opened.set_result(None)


@pytest.fixture
def nothing_of_ours_blocks() -> Iterator[None]:
    """What a test tells is done without a call on the loop that waits for anything outside."""
    with blocking_calls() as found:
        yield
    assert found == [], "on a loop's thread"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Callable[..., Runtime]]:
    """Makes runtimes, on one file unless told otherwise; they are closed after the test."""
    opened: list[Runtime] = []

    def make(store: Any = None, **options: Any) -> Runtime:
        made = Runtime(tmp_path / "agents.db" if store is None else store, **options)
        made.start()
        opened.append(made)
        return made

    yield make
    for one in reversed(opened):  # a runtime that does not close must not hold up the other tests
        closing = threading.Thread(target=one.close, args=(0.0,), daemon=True)
        closing.start()
        closing.join(DEADLINE)
        assert not closing.is_alive(), "the runtime does not close"


@pytest.fixture
def door(runtime: Any) -> Iterator[Callable[[], Door]]:
    """Makes doors; they are opened before the test's runtimes are closed."""
    made: list[Door] = []

    def make() -> Door:
        made.append(Door())
        return made[-1]

    yield make
    for one in made:
        one.open()


@pytest.fixture
def happened() -> Callable[..., Event]:
    """Waits until there is an event of a type at or below a path, and returns the first."""

    def wait(runtime: Runtime, type: str, under: str = "/", since: int = 0, **fields: Any) -> Event:
        stream = runtime.events(under, since=since)
        late = threading.Timer(DEADLINE, stream.close)
        late.daemon = True
        late.start()
        try:
            for event in stream:
                if event.type == type and all(getattr(event, k) == v for k, v in fields.items()):
                    return event
        finally:
            late.cancel()
            stream.close()
        raise AssertionError(f"no {type} of {under} within {DEADLINE} s")

    return wait


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for a fact that no event tells of."""

    def wait(fact: Callable[[], Any], what: str = "it") -> None:
        tick = threading.Event()
        for _ in range(int(DEADLINE / 0.01)):
            if fact():
                return
            tick.wait(0.01)
        raise AssertionError(f"{what} has not come about within {DEADLINE} s")

    return wait


def facts(runtime: Runtime) -> tuple[Any, ...]:
    """All that can be seen of a runtime and that must not change by itself."""
    return (
        runtime.list(),
        runtime.list(status="closed"),
        [(event.seq, event.type, event.path, event.run_id) for event in runtime.events(follow=False)],
    )


def settled(runtime: Runtime) -> bool:
    """Whether all that was accepted has begun, and is on disk: nothing more happens by itself."""
    started = all(info.status != "starting" for info in runtime.list())
    return started and runtime.stats().unwritten == 0


@pytest.fixture
def unchanged(until: Any) -> Callable[[Runtime], Any]:
    """A block in which nothing of a runtime may change."""

    @contextmanager
    def block(runtime: Runtime) -> Iterator[None]:
        until(lambda: settled(runtime), "a runtime at rest")
        before = facts(runtime)
        yield
        assert facts(runtime) == before

    return block


@pytest.fixture
def events_of() -> Callable[..., list[Event]]:
    """The events there are, at or below a path, of some types or all."""

    def read(runtime: Runtime, under: str = "/", *types: str) -> list[Event]:
        events = list(runtime.events(under, follow=False))
        return [event for event in events if not types or event.type in types]

    return read
