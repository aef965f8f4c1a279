"""The two runtimes behind one face, so that one test says what both do."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from greenroom import AsyncRuntime, Runtime

DEADLINE = 600.0

BOTH = [Runtime, AsyncRuntime]


class Twin:
    """`await twin(lambda: runtime.wait(...))`: blocking calls are made on a thread, coroutines awaited."""

    def __init__(self, made: Any) -> None:
        self.made = made

    async def __call__(self, call: Callable[[], Any]) -> Any:
        if isinstance(self.made, AsyncRuntime):
            result = call()
            return await result if inspect.iscoroutine(result) else result
        return await asyncio.to_thread(call)


def told(kind: type, story: Callable[[Any, Twin], Awaitable[None]], *args: Any, **options: Any) -> None:
    """Have `story` told of a runtime of this kind that is open."""

    async def tell() -> None:
        made = kind(*args, **options)
        twin = Twin(made)
        await twin(made.start)
        try:
            async with asyncio.timeout(DEADLINE):
                await story(made, twin)
        finally:
            await twin(lambda: made.close(0.0))

    asyncio.run(tell())
