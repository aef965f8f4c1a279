"""Counts of what the interpreter does, and a world in which that is the same each time.

Time is not measured: the clock all but stands still, and jumps to the next timer when nothing else is left
to do; actors that ask for a thread of their own stay on the loop's. So there is one order of events.
"""

import asyncio
import gc
import selectors
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from greenroom.actors.systems.cell import Cell
from greenroom.actors.systems.local import LocalSystemBase


class StillLoop(asyncio.SelectorEventLoop):
    """A loop whose clock moves only when it is looked at, by a microsecond, or when there is nothing to do
    but wait for a timer. (If it stood quite still, timers would be equal that never are.)"""

    def __init__(self) -> None:
        self.now = 1_000.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        self.now += 1e-6
        return self.now


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: StillLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing can happen any more, and something is awaited")
        if not ready and timeout:
            self._loop.now += timeout
        return ready


class OneThread(LocalSystemBase):
    """Actors that ask for a thread do not get one, and no clock says when the loop gets its turn."""

    clock = staticmethod(float)
    thread_cell_type = Cell


class Steps:
    """Counts what the interpreter does while it is on."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.where: Counter[CodeType] = Counter()  # bytecodes, by function

    @contextmanager
    def bytecodes(self) -> Iterator[None]:
        """Every bytecode of every function."""
        where = self.where

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if event == "call":
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
            elif event == "opcode":
                where[frame.f_code] += 1
            return trace

        with _quiet():
            sys.settrace(trace)
            try:
                yield
            finally:
                sys.settrace(None)
        self.found["bytecodes"] = where.total()

    @contextmanager
    def calls(self) -> Iterator[None]:
        """Every call of a function, and the blocks of memory that are more at the end."""
        python = c = 0

        def profile(_: FrameType, event: str, __: Any) -> None:
            nonlocal python, c
            if event == "call":
                python += 1
            elif event == "c_call":
                c += 1

        with _quiet():
            before = sys.getallocatedblocks()
            sys.setprofile(profile)
            try:
                yield
            finally:
                sys.setprofile(None)
            gc.collect()
            self.found["blocks of memory kept"] += sys.getallocatedblocks() - before
        self.found["calls of Python functions"] += python
        self.found["calls of C functions"] += c


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the garbage collector, which comes when it likes."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Statements:
    """Counts SQL statements, row by row."""

    def __init__(self) -> None:
        self.executed = 0

    def watch(self, connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(self._seen)

    def _seen(self, statement: str) -> None:
        if not statement.startswith("--"):  # what a trigger does is told as a comment
            self.executed += 1
