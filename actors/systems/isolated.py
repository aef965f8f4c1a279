"""An asyncio loop without a world around it: no network, no processes, and nothing named by its memory.

A set of tasks is walked through in the order of their hashes, and asyncio keeps several: a task group that
cancels its tasks, most of all. So tasks and futures are hashed by their numbers.
"""

import asyncio
from typing import Any, NoReturn


class NumberedFuture(asyncio.Future[Any]):
    """A future whose place in a set is the same in every process."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set is the same in every process."""

    def __init__(self, coroutine: Any, number: int, **options: Any) -> None:
        self.number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self.number


class IsolatedLoop(asyncio.BaseEventLoop):
    """A call that reaches out of a simulation fails at once, with an error that says what to do instead."""

    async def getaddrinfo(self, *_: Any, **__: Any) -> NoReturn:
        raise OSError("there is no network in a simulation: give the agent a stand-in for what it talks to")

    create_connection = create_server = create_datagram_endpoint = getaddrinfo

    async def subprocess_exec(self, *_: Any, **__: Any) -> NoReturn:
        raise OSError(
            "there are no processes in a simulation: give the agent a stand-in for what it starts"
        )

    subprocess_shell = subprocess_exec
