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
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any

from ...persistence.codec import dumps
from ...persistence.protocol import Snapshot
from ..errors import CannotStore, ProcessFailed, SnapshotTampered, SnapshotUnreadable
from ..views import AgentInfo
from ..vocabulary import tellable
from .kind import Kind
from .states import StateKeeper, short
from .threads import run_in_thread
from .turn import SyncTurn, Turn

log = logging.getLogger("greenroom")

CLOSE_TIMEOUT = 10.0
"""Seconds that a kind's `close` may take; then it is left alone and the session ends without it."""

CANCEL_GRACE = 0.2
"""Seconds that an `open` which was cancelled has to return before it is left alone."""

FRAMES = 3
"""How many of a traceback's last lines an error tells."""

MEMBERS = 3
"""How many errors of a group are told."""

_ACTORS = Path(__file__).resolve().parents[1]
PLUMBING = tuple(
    f"{folder}{os.sep}"
    for folder in (
        _ACTORS,
        _ACTORS.parent / "persistence",
        *(Path(str(module.__file__)).resolve().parent for module in (asyncio, concurrent.futures)),
    )
)
"""Folders of the code between a turn and what it calls: its lines tell nobody anything."""

LIBRARIES = tuple(os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "purelib"))


_late_closings: set["asyncio.Future[None]"] = set()
"""The loop itself holds tasks by weak references only."""


class Behaviour:
    """One session's use of a kind."""

    __slots__ = ("_instance", "_is_async", "config", "context", "kind", "path", "states")

    def __init__(
        self, kind: Kind, path: str, config: bytes, snapshot: Snapshot | None, context: Context
    ) -> None:
        self.kind = kind
        self.path = path
        self.config = config
        self.context = context  # the session's own, which `open` and `close` share
        self.states = StateKeeper(kind, path, snapshot)
        self._instance: Any = None  # of a class
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
        opener = getattr(self._instance, "open", None)
        if opener is None:
            return
        opening = asyncio.ensure_future(self._call(lambda: opener(info), opener, late=self._close_late))
        try:
            done, _ = await asyncio.wait({opening}, timeout=self.kind.open_timeout)
        except asyncio.CancelledError:
            await self._give_up(opening)
            raise
        if not done:
            await self._give_up(opening)
            raise TimeoutError(f"open() took longer than {self.kind.open_timeout:g} s")
        opening.result()

    async def _give_up(self, opening: "asyncio.Future[Any]") -> None:
        """Cancel an `open` under way; one that does not care is left alone and closed when it returns."""
        opening.cancel()
        done, _ = await asyncio.wait({opening}, timeout=CANCEL_GRACE)
        if done:
            self._tell_of(opening)
        else:
            self._close_late(opening)

    def _tell_of(self, given_up: "asyncio.Future[Any]") -> None:
        if not given_up.cancelled() and (error := given_up.exception()) is not None:
            log.warning("%s: open() failed after it was given up: %s", self, explain_error(error))

    def _close_late(self, opening: "asyncio.Future[Any]") -> None:
        instance, self._instance = self._instance, None

        def close(given_up: "asyncio.Future[Any]") -> None:
            self._tell_of(given_up)
            closing = asyncio.ensure_future(self._close(instance))
            _late_closings.add(closing)
            closing.add_done_callback(_late_closings.discard)

        opening.add_done_callback(close)

    async def close(self) -> None:
        """Close what was opened, once, within `CLOSE_TIMEOUT`; what it raises is logged."""
        instance, self._instance = self._instance, None
        await self._close(instance)

    async def _close(self, instance: Any) -> None:
        closer = getattr(instance, "close", None)
        if closer is None:
            return
        closing = asyncio.ensure_future(self._call(closer, closer))
        done, _ = await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT)
        if not done:
            closing.cancel()
            log.error("%s: close() took longer than %g s; the session ends without it", self, CLOSE_TIMEOUT)
        elif closing.cancelled():
            log.error("%s: close() cancelled itself", self)
        elif (error := closing.exception()) is not None:
            log.error("%s: close() failed: %s", self, explain_error(error))

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
        return dumps(result, f"the result of {self.path}")

    async def _run_on_thread(self, code: Callable[[Any], Any], turn: Turn) -> Any:
        """Code on a thread cannot be cancelled: it is told, and waited for."""
        sync = SyncTurn(turn, asyncio.get_running_loop())
        calling = run_in_thread(lambda: code(sync), f"turn {self.path}", waits=True)
        try:
            return await asyncio.shield(calling)
        except asyncio.CancelledError:
            turn._interrupted = True
            sync._cancel_calls()
            while not calling.done():
                with suppress(asyncio.CancelledError):  # told already
                    await asyncio.wait({calling})
            raise

    async def _call(
        self,
        call: Callable[[], Any],
        code: Callable[..., Any],
        *,
        late: Callable[["asyncio.Future[Any]"], None] | None = None,
    ) -> Any:
        """Call the user's method: on the loop if it is async, else on a thread."""
        if inspect.iscoroutinefunction(code):
            try:
                return await call()
            except (SystemExit, KeyboardInterrupt) as error:
                raise RuntimeError(f"{code.__name__}() raised {error!r}") from error  # not out of the loop
        calling = run_in_thread(call, f"{code.__name__} {self.path}")
        try:
            result = await asyncio.shield(calling)
        except asyncio.CancelledError:
            if late is not None:
                late(calling)
            raise
        return await result if isinstance(result, Awaitable) else result

    def __str__(self) -> str:
        return f"{self.path} ({self.kind.name})"


def explain_error(error: BaseException) -> str:
    """What a run that failed tells: the error, and where it was raised."""
    if isinstance(error, CannotStore | ProcessFailed | SnapshotTampered | SnapshotUnreadable):
        return tellable(str(error))
    if isinstance(error, BaseExceptionGroup):  # what is in it says what went wrong, and where
        errors = list(_members(error))
        told = " + ".join(map(explain_error, errors[:MEMBERS]))
        more = f" + {len(errors) - MEMBERS:,} more" if len(errors) > MEMBERS else ""
        return tellable(f"{short(error)}: {told}{more}")
    frames = _telling(traceback.extract_tb(error.__traceback__))
    places = ", ".join(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in frames)
    return tellable(f"{short(error)}; at {places}") if places else short(error)


def _members(group: BaseExceptionGroup) -> Iterator[BaseException]:
    """The errors of a group and of those within it, in their order."""
    left: list[BaseException] = [group]
    while left:
        error = left.pop()
        if isinstance(error, BaseExceptionGroup):
            left += reversed(error.exceptions)
        else:
            yield error


def _telling(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The last frames, without the plumbing, and in any case the last one of the user's own code."""
    plumbed = [frame for frame in frames if not os.path.realpath(frame.filename).startswith(PLUMBING)]
    last = plumbed[-FRAMES:]
    own = [frame for frame in plumbed if not os.path.realpath(frame.filename).startswith(LIBRARIES)]
    return last if not own or own[-1] in last else [own[-1], *last]
