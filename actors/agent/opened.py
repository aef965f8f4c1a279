"""The object of a class kind from its `open` to its `close`, in one task.

Only the task that entered a task group or a cancel scope in `open` can leave it. So
that task waits, and calls `close`. `Behaviour` looks after it in another task, and waits no
longer than it wants to.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

from ...borders import is_a, left_behind
from ...types import Seconds
from ..models import AgentInfo
from .executing import calling
from .threads import run_in_thread

log = logging.getLogger("greenroom")

_late: set["asyncio.Task[None]"] = set()
"""The loop itself holds tasks by weak references only."""


class Opened:
    """One session's object. All on the loop.

    Args:
        instance: the object. Its `open` is called first and its `close` in the end, if it has them.
        info: what `open` gets; None if that is not to be called.
        whose: for what is told of it.
        context: the session's own. `open` and `close` share it also where one of them is on a thread.
        tell: how an error is told in a log.
        lost: called if the object ended by itself, by what `open` had left to work.
    """

    def __init__(
        self,
        instance: Any,
        info: AgentInfo | None,
        *,
        whose: str,
        context: Context,
        tell: Callable[[BaseException], str],
        lost: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._instance, self._info, self._whose = instance, info, whose
        self._tell, self._lost = tell, lost
        self._begun = self._called_off = False
        self._opened: asyncio.Future[BaseException | None] = loop.create_future()
        self._leave: asyncio.Future[None] = loop.create_future()
        self._closing: asyncio.Future[BaseException | None] = loop.create_future()
        self._task = loop.create_task(self._live(), name=f"session {whose}", context=context)
        self._task.add_done_callback(self._ended)

    # From outside

    async def open(self, timeout: Seconds, grace: Seconds) -> None:
        """Wait until it is open. Raises what `open` raises, or `TimeoutError`.

        An `open` that takes too long, or is not waited for any more, is cancelled. One that does not care
        within `grace` is left alone; what it opened is closed once it has returned.
        """
        try:
            done, _ = await asyncio.wait({self._opened}, timeout=timeout)
        except asyncio.CancelledError:
            await self._give_up(grace)
            raise
        if not done:
            await self._give_up(grace)
            raise TimeoutError(f"open() took longer than {timeout:g} s")
        error = self._opened.result()
        if error is not None:
            raise error

    async def close(self, timeout: Seconds) -> None:
        """Close it, once. An error of `close`, and a `close` that takes too long, is logged."""
        if not self._leave.done():
            self._leave.set_result(None)
        done, _ = await asyncio.wait({self._task}, timeout=timeout)
        if not done:
            self._task.cancel()
            log.error(
                "%s: close() took longer than %g s; the session ends without it", self._whose, timeout
            )
            return
        error = self._closing.result()
        if is_a(error, asyncio.CancelledError):
            log.error("%s: close() cancelled itself", self._whose)
        elif error is not None:
            log.error("%s: close() failed: %s", self._whose, self._tell(error))

    def close_late(self, timeout: Seconds) -> None:
        """Close it in any case, while nobody waits for that."""
        task = asyncio.get_running_loop().create_task(self._wait_and_close(timeout))
        _late.add(task)
        task.add_done_callback(_late.discard)

    async def _wait_and_close(self, timeout: Seconds) -> None:
        await asyncio.wait({self._opened})
        self._tell_of(self._opened.result())
        await self.close(timeout)

    async def _give_up(self, grace: Seconds) -> None:
        if self._opened.done():
            return
        self._called_off = True
        if self._begun:
            self._task.cancel()
        on_thread = not inspect.iscoroutinefunction(getattr(self._instance, "open", None))
        done, _ = await asyncio.wait({self._opened}, timeout=0.0 if on_thread else grace)
        if done:
            self._tell_of(self._opened.result())

    def _tell_of(self, error: BaseException | None) -> None:
        if error is not None and not is_a(error, asyncio.CancelledError):
            log.warning("%s: open() failed after it was given up: %s", self._whose, self._tell(error))

    @property
    def given_up(self) -> bool:
        """Whether `open` is still under way although nobody waits for it."""
        return self._called_off and not self._opened.done()

    # In the task

    async def _live(self) -> None:
        """Nothing that the user's code raises gets out of here."""
        self._begun = True
        task = asyncio.current_task()
        assert task is not None
        error: BaseException | None = None
        if self._called_off:
            error = asyncio.CancelledError()
        elif self._info is not None:
            error = await self._call("open", self._info)
        self._opened.set_result(error)
        while task.uncancel() > 0:
            pass  # told and done: `close` is not cancelled by what was meant for `open`
        try:
            await self._leave
        except asyncio.CancelledError:  # what `open` left to work has failed, or the loop ends
            log.warning(
                "%s: its task was cancelled, by what open() had begun or from outside; it is opened anew",
                self._whose,
            )
            self._lost()
        self._closing.set_result(await self._call("close"))

    async def _call(self, method: str, *args: Any) -> BaseException | None:
        """Call a method of the object, on the loop if it is async, else on a thread; what it raised."""
        loop = asyncio.get_running_loop()
        try:
            with calling(method):
                code = getattr(self._instance, method, None)
                if code is None:
                    return None
                if inspect.iscoroutinefunction(code):
                    await code(*args)
                    return None
                result = await self._on_thread(lambda: code(*args), f"{method} {self._whose}")
                if inspect.isawaitable(result):
                    await result
        except BaseException as error:
            if left_behind(error, loop):
                raise
            return error
        return None

    async def _on_thread(self, code: Callable[[], Any], name: str) -> Any:
        """Wait for code on a thread, which cannot be cancelled. Context variables that it set are kept."""
        context = copy_context()
        calling = run_in_thread(code, name, context=context)
        cancelled: asyncio.CancelledError | None = None
        while not calling.done():
            try:
                await asyncio.wait({calling})
            except asyncio.CancelledError as error:
                cancelled = error
        for variable, value in context.items():
            if variable.get(calling) is not value:
                variable.set(value)
        result = calling.result()
        if cancelled is not None:
            raise cancelled
        return result

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """However the task ended, nobody waits for it in vain."""
        for future in (self._opened, self._closing):
            if not future.done():
                future.set_result(asyncio.CancelledError())
        if not task.cancelled():
            task.exception()  # seen
