"""The faults of a simulation, and how often each happens."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from msgspec import Struct

from ..actors.systems.choices import Choices


class InjectedFault(Exception):
    """Raised in an agent's code by a simulation: any call that it waited for may fail in life."""


class Crashed(Exception):
    """The simulated process has died. Its commits are on the disk: `reopen` goes on with it."""


class Faults(Struct, frozen=True, kw_only=True):
    """Probabilities from 0 to 1.

    Attributes:
        commit_fails: of each transaction, because the disk is full or does not answer.
        read_fails: of each question to the disk.
        turn_raises: of each moment at which an async turn goes on: what it awaited raises `InjectedFault`.
        turn_cancels: … it is cancelled, and nobody asked for it.
        turn_hangs: … it does not go on, until it is interrupted.
        crash: of each step of the simulation: the process dies.
        power: of each such crash: the machine's power goes as well.
    """

    commit_fails: float = 0.0
    read_fails: float = 0.0
    turn_raises: float = 0.0
    turn_cancels: float = 0.0
    turn_hangs: float = 0.0
    crash: float = 0.0
    power: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
                raise ValueError(f"{name}= is a probability from 0 to 1, not {value!r}")

    def disk_problem(self, probability: float, choices: Choices) -> int | None:
        """A code of SQLite's, or None."""
        if not choices.chance(probability):
            return None
        return (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)[choices.choose(2)]


NO_FAULTS = Faults()


class FaultyTurn:
    """Awaits an agent's coroutine; when it goes on after an await of its own, something may go wrong.

    An await inside of greenroom (a turn's method) is left alone: that fails by other faults. So is
    what it awaits through an async generator, which cannot be looked into.
    """

    def __init__(
        self, code: Coroutine[Any, Any, Any], faults: Callable[[], Faults], choices: Choices
    ) -> None:
        self._code, self._faults, self._choices = code, faults, choices

    def __await__(self) -> Generator[Any, Any, Any]:
        code, error = self._code, None
        answer: Any = None
        while True:
            try:
                awaited = code.send(answer) if error is None else code.throw(error)
            except StopIteration as end:
                return end.value
            answer = error = None
            try:
                answer = yield awaited
            except BaseException as raised:
                error = _without_this_frame(raised)
            if error is None and not _inside(code):
                error = self._fault()
                if error is None and self._choices.chance(self._faults().turn_hangs):
                    try:
                        yield from asyncio.get_running_loop().create_future()
                    except BaseException as raised:
                        error = raised

    def _fault(self) -> BaseException | None:
        faults, choices = self._faults(), self._choices
        if choices.chance(faults.turn_raises):
            return InjectedFault("what it awaited failed")
        return asyncio.CancelledError() if choices.chance(faults.turn_cancels) else None


def _without_this_frame(error: BaseException) -> BaseException:
    """The error of a failed run is the same as outside of a simulation."""
    trace = error.__traceback__
    return error.with_traceback(trace.tb_next if trace else None)


def _inside(code: Any) -> bool:
    """Whether the coroutine waits in code of greenroom's own, or where that cannot be seen."""
    while code is not None:
        if type(code).__name__.startswith("async_generator_"):  # `async with turn.paused()`, for one
            return True
        frame = getattr(code, "cr_frame", None) or getattr(code, "gi_frame", None)
        if frame is not None and frame.f_globals.get("__name__", "").startswith("greenroom.actors"):
            return True
        code = getattr(code, "cr_await", None) or getattr(code, "gi_yieldfrom", None)
    return False
