"""Plain functions on threads of their own, for kinds that are not `async`.

A thread for each call and none kept: a turn on a thread costs milliseconds anyway, a pool would have to
grow with every turn that waits, and a daemon thread never keeps a program from ending.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def run_in_thread(call: Callable[[], Any], name: str) -> "asyncio.Future[Any]":
    """Run `call` on a new thread; the future belongs to the loop that runs now.

    A future that was cancelled does not stop the thread; what it returns is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(set_it: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            set_it(value)

    def work() -> None:
        try:
            result = context.run(call)
        except BaseException as error:
            outcome = (future.set_exception, _storable(error))
        else:
            outcome = (future.set_result, result)
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(deliver, *outcome)

    threading.Thread(target=work, name=f"greenroom {name}", daemon=True).start()
    return future


def _storable(error: BaseException) -> BaseException:
    """A future refuses StopIteration, and an exit would end the loop instead of the run."""
    if isinstance(error, StopIteration | SystemExit | KeyboardInterrupt):
        return RuntimeError(f"the code raised {error!r}")
    return error
