"""Runtimes on files of their own, programs, and the processes of the system as they are found."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom import Event, Runtime

DEADLINE = 600.0
"""Seconds after which a wait in these tests has failed."""
STANDING: set[int] = set()
"""Processes below this one that were there before the test: of other tests, such as a browser."""


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
    for one in reversed(opened):
        closing = threading.Thread(target=one.close, args=(0.0,), daemon=True)
        closing.start()
        closing.join(DEADLINE)
        assert not closing.is_alive(), "the runtime does not close"


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


@pytest.fixture
def progress() -> Callable[[Runtime, str], list[Any]]:
    """The progress of a path so far, as pairs of name and data."""

    def read(runtime: Runtime, under: str) -> list[Any]:
        events = runtime.events(under, since=0, follow=False)
        return [(e.data["name"], e.data["data"]) for e in events if e.type == "run.progress"]

    return read


@pytest.fixture
def happened() -> Callable[..., Event]:
    """Waits until there is a progress event of a name at or below a path, and returns the first."""

    def wait(runtime: Runtime, name: str, under: str = "/") -> Event:
        stream = runtime.events(under, since=0)
        late = threading.Timer(DEADLINE, stream.close)
        late.daemon = True
        late.start()
        try:
            for event in stream:
                if event.type == "run.progress" and event.data["name"] == name:
                    return event
        finally:
            late.cancel()
            stream.close()
        raise AssertionError(f"no {name!r} of {under} within {DEADLINE} s")

    return wait


def alive(pid: int) -> bool:
    """Whether there is such a process; a zombie is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(autouse=True)
def _standing() -> None:
    STANDING.clear()
    STANDING.update(descendants())


def descendants(pid: int | None = None) -> list[int]:
    """All processes below this one, or below `pid`, zombies as well, that the test has brought about."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(name)] = int(fields[1])
    found, border = [], [os.getpid() if pid is None else pid]
    while border:
        parent = border.pop()
        below = [child for child, its in parents.items() if its == parent and child not in STANDING]
        found += below
        border += below
    return found
