"""The event loop of a command that serves, and its end in bounded time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

LAST_STEPS = 1.0
"""Seconds that tasks get to end which nobody waits for."""


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run it on the fastest loop there is. Unlike `asyncio.run`, it waits for no code that does not end."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:  # of turns on threads that never return, say
            loop.run_until_complete(asyncio.wait(left, timeout=LAST_STEPS))
        asyncio.set_event_loop(None)
        if all(task.done() for task in left):
            loop.close()
