"""A loop on a thread of its own, for programs that have none."""

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

log = logging.getLogger("Thespian")


def _new_loop(over: Callable[[], bool]) -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    """A loop that runs on a new thread, until it is stopped when it is `over`."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    loop = new_event_loop()
    running: SimpleQueue[None] = SimpleQueue()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.call_soon(running.put, None)
        try:
            _run(loop, over)
        finally:
            _cancel_all(loop)
            loop.close()

    thread = threading.Thread(target=run, name="greenroom loop", daemon=True)
    thread.start()
    running.get()
    return loop, thread


def _run(loop: asyncio.AbstractEventLoop, over: Callable[[], bool]) -> None:
    """An attempt of a task to end the loop, or the process, ends that task alone."""
    while not over():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            log.error("a task raised %r, which does not end the actors", error)
        else:
            if not over():
                log.error("a task stopped the loop, which does not end the actors: it goes on")


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """Tasks that users' code left behind get a moment to end; those that do not are named."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        _, left = loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        for task in left:
            where = getattr(task.get_coro(), "__qualname__", "a coroutine")
            log.warning(
                "left behind, as it did not end when it was cancelled: %s, in %s", task.get_name(), where
            )
    loop.set_exception_handler(_told)
    loop.run_until_complete(loop.shutdown_asyncgens())


def _told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A task that was left behind has been named, and is not told of again when it is destroyed."""
    if "task" not in context:
        loop.default_exception_handler(context)
