"""A kind at work: its opened object, its state, its turns and its end.

Owns what a session holds of the user's: the instance of a class kind and, by its `StateKeeper`, the
state. Runs the user's code and says how it ended; knows no slots, no ledger, no lifecycle.
"""

import asyncio
import concurrent.futures
import inspect
import logging
import os
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Context
from typing import Any

from ...borders import error_text, is_a, members_of, type_name
from ...errors import CannotStore, ProcessFailed, SnapshotTampered, SnapshotUnreadable
from ...persistence import codec
from ...persistence.rows import Snapshot
from ...stored_text import storable_text
from ..handle import Handle
from ..models import AgentInfo
from .aside import encoded
from .kind import Kind
from .opened import Opened
from .states import StateKeeper, short
from .sync_turn import SyncTurn
from .threads import raised, run_in_thread
from .turn import Turn

log = logging.getLogger("greenroom")

CLOSE_TIMEOUT = 10.0
"""Seconds that a kind's `close` may take; then it is left alone and the session ends without it."""

CANCEL_GRACE = 0.2
"""Seconds that an `open` which was cancelled has to return before it is left alone."""

FRAMES = 3
"""How many of a traceback's last lines an error tells."""

MEMBERS = 3
"""How many errors of a group are told."""


def _folders(*paths: str) -> tuple[str, ...]:
    """Beginnings of the names of files in these folders, as they are imported and as they are."""
    both = dict.fromkeys(each for path in paths for each in (path, os.path.realpath(path)))
    return tuple(f"{each}{os.sep}" for each in both)


PLUMBING = _folders(
    os.path.dirname(os.path.dirname(__file__)),
    *(os.path.dirname(str(module.__file__)) for module in (codec, asyncio, concurrent.futures)),
)
"""Folders of the code between a turn and what it calls: its lines tell nobody anything."""

FRAMES_LEFT_OUT = _folders(*(sysconfig.get_path(name) for name in ("stdlib", "purelib")))


class Behaviour:
    """One session's use of a kind."""

    __slots__ = (
        "_instance",
        "_is_async",
        "_lost",
        "_opened",
        "config",
        "context",
        "kind",
        "path",
        "states",
    )

    def __init__(
        self,
        kind: Kind,
        path: str,
        config: bytes,
        snapshot: Snapshot | None,
        context: Context,
        lost: Callable[[], None],
    ) -> None:
        self.kind = kind
        self.path = path
        self.config = config
        self.context = context  # the session's own, which `open` and `close` share
        self.states = StateKeeper(kind, path, snapshot)
        self._lost = lost  # to be called if the object ends by itself
        self._instance: Any = None  # of a class
        self._opened: Opened | None = None  # its task, if it was opened
        self._is_async: bool | None = None  # the code of its turns, once it is known

    # Opening and closing

    async def open(self, info: AgentInfo) -> None:
        """Restore the state, make the session's object and open it.

        Raises what the kind raises, or `TimeoutError`, or `SnapshotUnreadable`.
        """
        await self.states.restore()
        if not self.kind.is_class:
            return
        self._instance = self.kind.behaviour()
        if getattr(self._instance, "open", None) is None:
            return
        opened = self._opened = self._inhabit(info)
        try:
            await opened.open(self.kind.open_timeout, CANCEL_GRACE)
        except BaseException:
            if opened.given_up:
                self.abandon()
            raise

    def _inhabit(self, info: AgentInfo | None) -> Opened:
        return Opened(
            self._instance,
            info,
            whose=str(self),
            context=self.context,
            tell=explain_error,
            lost=self._lost,
        )

    async def close(self) -> None:
        """Close what was opened, once, within `CLOSE_TIMEOUT`; what it raises is logged."""
        opened, self._opened = self._opened, None
        if opened is None and self._closes():
            opened = self._inhabit(None)
        self._instance = None
        if opened is not None:
            await opened.close(CLOSE_TIMEOUT)

    def _closes(self) -> bool:
        try:
            return getattr(self._instance, "close", None) is not None
        except BaseException:  # code of a user's, which `Opened` meets again
            return True

    def abandon(self) -> None:
        """Have what was opened closed as soon as that can be, without waiting for it."""
        opened, self._opened, self._instance = self._opened, None, None
        if opened is not None:
            opened.close_late(CLOSE_TIMEOUT)

    # Turns

    async def run(self, turn: Turn) -> bytes:
        """Execute a turn and return its result as bytes. Raises what the code raises."""
        code: Callable[[Any], Any]
        code = self.kind.behaviour if self._instance is None else self._instance.run
        if self._is_async is None:
            self._is_async = inspect.iscoroutinefunction(code)
        if self._is_async:
            watch = getattr(
                asyncio.get_running_loop(), "watch_turn", None
            )  # a simulation has faults happen
            result = await (code(turn) if watch is None else watch(code(turn)))
        else:
            result = await self._run_on_thread(code, turn)
        if turn._diverged is not None:  # in a simulation, and the code went on all the same
            raise turn._diverged.error(turn.run_id, turn.path)
        return await encoded(result, f"the result of {self.path}")

    async def _run_on_thread(self, code: Callable[[Any], Any], turn: Turn) -> Any:
        """Code on a thread cannot be cancelled: it is told, and waited for.

        What it returns may be the coroutine of an async kind that somebody's decorator is around.
        """
        sync = SyncTurn(turn, asyncio.get_running_loop())
        calling = run_in_thread(lambda: code(sync), f"turn {self.path}", waits=True)
        try:
            result = await asyncio.shield(calling)
        except asyncio.CancelledError:
            if not turn._interrupted:  # the runtime closes, or the program around it ends
                turn._suspended = True
            sync._cancel_calls()
            while not calling.done():
                with suppress(asyncio.CancelledError):  # told already
                    await asyncio.wait({calling})
            if calling.exception() is None and inspect.iscoroutine(calling.result()):
                calling.result().close()  # of a decorated async kind: nobody will await it
                raise
            if turn._interrupted:
                raise
            return calling.result()  # it came to its end all the same
        if not inspect.isawaitable(result) or isinstance(result, Handle):
            return result
        sync._become(turn)
        return await result

    def __str__(self) -> str:
        return f"{self.path} ({self.kind.name})"


def explain_error(error: BaseException) -> str:
    """The error of a run that failed: the error, and where it was raised."""
    error = raised(error)
    try:
        return _explained(error)
    except BaseException:  # the error of a user's own class, of which nothing but its type can be told
        return f"{type_name(error)}: it could not be explained"


def _explained(error: BaseException) -> str:
    if is_a(error, CannotStore, ProcessFailed, SnapshotTampered, SnapshotUnreadable):
        return storable_text(error_text(error))
    if is_a(error, BaseExceptionGroup):  # what is in it says what went wrong, and where
        errors = list(_members(error))
        told = " + ".join(map(explain_error, errors[:MEMBERS]))
        more = f" + {len(errors) - MEMBERS:,} more" if len(errors) > MEMBERS else ""
        return storable_text(f"{short(error)}: {told}{more}")
    frames = _telling(_frames(error))
    places = ", ".join(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in frames)
    return storable_text(f"{short(error).removesuffix('.')}; at {places}") if places else short(error)


def _frames(error: BaseException) -> Iterator[traceback.FrameSummary]:
    """Those of its traceback; their lines are not looked up, for which their modules' loaders are asked."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        yield traceback.FrameSummary(code.co_filename, line, code.co_name, lookup_line=False)


def type_of(error: BaseException) -> str:
    """The name of an error's class, as the class says it, whatever its metaclass does."""
    name: str = type.__dict__["__qualname__"].__get__(type(raised(error)))
    return storable_text("".join(name))


def _members(group: BaseExceptionGroup) -> Iterator[BaseException]:
    """The errors of a group and of those within it, in their order."""
    left: list[BaseException] = [group]
    while left:
        error = left.pop()
        if is_a(error, BaseExceptionGroup):
            left += reversed(members_of(error))
        else:
            yield error


def _telling(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The last frames, without the plumbing, and in any case the last one of the user's own code."""
    plumbed = [frame for frame in frames if not frame.filename.startswith(PLUMBING)]
    last = plumbed[-FRAMES:]
    own = [frame for frame in plumbed if not frame.filename.startswith(FRAMES_LEFT_OUT)]
    return last if not own or own[-1] in last else [own[-1], *last]
