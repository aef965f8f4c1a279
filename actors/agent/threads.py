"""Plain functions on threads of their own, for kinds that are not `async`.

A thread for each call and none kept: a turn on a thread costs milliseconds anyway, and a pool would have to
grow with every turn that waits. A daemon thread never keeps a program from ending. Work that nobody chose
the amount of (large states) is limited by a `ThreadLimiter`.
"""

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from ...borders import is_a, left_behind, shown
from ...errors import RuntimeClosing
from .executing import end_child, in_child

Returned = TypeVar("Returned")


def run_in_thread(
    call: Callable[[], Any],
    name: str,
    *,
    waits: bool = False,
    context: contextvars.Context | None = None,
) -> "asyncio.Future[Any]":
    """Run `call` on a new thread; the future belongs to the loop that runs now.

    `waits`: it may wait for the loop, by `wait_for_loop`. `context`: to run in; a copy of the present one
    if it is not given.

    A future that was cancelled does not stop the thread; what it returns is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context() if context is None else context

    def deliver(set_it: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_it(value)
            future.exception()  # seen: whoever does not wait any more has given it up

    pid = os.getpid()

    def work() -> None:
        try:
            result = context.run(call)
        except BaseException as error:
            outcome = (future.set_exception, _carried(error))
        else:
            outcome = (future.set_result, result)
        if in_child(pid):
            end_child()
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(deliver, *outcome)

    start: Callable[..., None] = getattr(loop, "start_thread", _start_thread)  # a simulated one has its own
    start(work, f"greenroom {name}", waits=waits)
    return future


def _start_thread(work: Callable[[], None], name: str, *, waits: bool) -> None:  # noqa: ARG001
    threading.Thread(target=work, name=name, daemon=True).start()


def wait_for_loop(
    call: Callable[[], Coroutine[Any, Any, Returned]], loop: asyncio.AbstractEventLoop
) -> Returned:
    """On a thread: do `call` on the loop, and return what it returns or raise what it raises.

    `RuntimeClosing` where the loop is gone: the thread has outlived it. The coroutine is made on the loop,
    and not here for `asyncio.run_coroutine_threadsafe`: where the loop ends first, nobody would await it.
    """
    answer: Future[Returned] = Future()

    def begin() -> None:
        asyncio.ensure_future(carried()).add_done_callback(end)

    async def carried() -> tuple[Returned | None, BaseException | None]:
        """An exception goes to the loop as a value: a task that raises SystemExit ends the loop."""
        try:
            return await call(), None
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if left_behind(error, loop):
                raise
            return None, error

    def end(task: "asyncio.Future[tuple[Returned | None, BaseException | None]]") -> None:
        if task.cancelled():
            answer.cancel()
            return
        result, error = task.result()
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    try:
        loop.call_soon_threadsafe(begin)
    except RuntimeError:  # asyncio's word for a loop that is closed
        raise RuntimeClosing("the runtime was closed before this turn ended") from None
    wait: Callable[[Any], None] | None = getattr(loop, "wait_on_thread", None)
    if wait is not None:
        wait(answer)
    return answer.result()


class Carried(RuntimeError):
    """Carries an error of user code that a future cannot hold. An exit would end the loop, not the run."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"the code raised {shown(error)}")
        self.error = error


def _carried(error: BaseException) -> BaseException:
    return Carried(error) if is_a(error, StopIteration, SystemExit, KeyboardInterrupt) else error


def raised(error: BaseException) -> BaseException:
    """The error that the code raised, if another one carries it."""
    return error.error if type(error) is Carried else error


class ThreadLimiter:
    """Calls on threads, at most `size` of them at once; the others wait in order. One for each loop."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def run(self, call: Callable[[], Returned], name: str) -> Returned:
        """The result of `call`, or its error. Cancelled, it leaves a call that has begun to its thread."""
        if self._free:
            self._free -= 1
        else:
            await self._place()
        calling = run_in_thread(call, name)
        calling.add_done_callback(lambda _: self._pass_on())
        return await asyncio.shield(calling)

    async def _place(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it came just then, for somebody who is gone
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


class _Here(threading.local):
    loop: asyncio.AbstractEventLoop | None = None
    thread_limiter: ThreadLimiter


_here = _Here()


def thread_limiter() -> ThreadLimiter:
    """The thread limiter of the running loop, for work that would hold the loop up."""
    loop = asyncio.get_running_loop()
    if _here.loop is not loop:
        size = getattr(loop, "crew_size", None) or max(2, (os.cpu_count() or 1) // 2)
        _here.loop, _here.thread_limiter = loop, ThreadLimiter(size)
    return _here.thread_limiter
