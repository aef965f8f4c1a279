"""`AsyncRuntime`: the same names as `Runtime`'s, as coroutines on the caller's loop.

Agents, actors and caller share the loop that runs when the runtime is started; nothing here may be called
on another thread.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal, Self

from ...errors import GreenroomError, RuntimeClosing
from ...paths import check_path
from ...retention import DEFAULT, Retention
from ...types import AgentStatus, Durability, RequestId
from ..agent.aside import infos_of, outcomes_of
from ..agent.divergence import compared
from ..agent.kind import kind_of
from ..handle import Handle
from ..ledger.replies import RunOutcome
from ..models import AgentInfo, AgentInfos, Outcome, Stats
from . import requests
from .async_event_stream import AsyncEventStream
from .async_handles import AsyncAgentRef, AsyncRun, AsyncRuns, encoded_input
from .engine import Engine, Settings, checked_drain, failure_of, granted
from .replies import Standing
from .requests import UNSET, Request
from .runtime import END_MARGIN, stats_of
from .waiting import AwaitedRuns

SORTED_AT_ONCE = 1_000
"""Handles of runs that are looked at before the loop gets its turn."""


async def heard(awaited: AwaitedRuns[Any], answer: Any) -> None:
    """An answer that may bring a large result. Raises the error that it brings."""
    outcome: Outcome | None = None
    try:
        if isinstance(answer, RunOutcome):
            (outcome,) = await outcomes_of([answer.run])
    finally:  # also when nobody waits any more: then it has ended all the same
        awaited.hear(answer, outcome)


class AsyncRuntime(Handle):
    """`Runtime` for asyncio: see there for the arguments. `async with` it, or await `start` and `close`."""

    def __init__(
        self,
        store: str | os.PathLike[str] = ":memory:",
        *,
        slots: int = 8,
        residents: int = 64,
        backlog: int = 100_000,
        durability: Durability = "process",
        drain: float = 10.0,
        kinds: Iterable[Any] = (),
        retention: Retention = DEFAULT,
    ) -> None:
        self._settings = Settings(
            store,
            slots=slots,
            residents=residents,
            backlog=backlog,
            durability=durability,
            drain=drain,
            kinds=kinds,
            retention=retention,
        )
        self._engine: Engine | None = None
        self._state: Literal["new", "up", "closed"] = "new"

    async def start(self) -> Self:
        """Open the store and go on with what it holds. Raises a `StoreError`."""
        if self._state != "new":
            raise RuntimeClosing("this runtime was started before, and starts once")
        loop = asyncio.get_running_loop()
        engine = self._engine = Engine(self._settings, loop)
        answered: asyncio.Future[Any] = loop.create_future()
        engine.create(_setter(answered))
        try:
            answer = await answered
        except BaseException:  # it was cancelled, most of all: no actors are left behind
            self._state = "closed"
            await engine.aend()
            raise
        error = failure_of(answer)
        if error is not None:
            self._state = "closed"
            await engine.aend()
            raise error
        engine.started()
        self._state = "up"
        return self

    async def close(self, drain: float | None = None, *, interrupt: bool = False) -> None:
        """See `Runtime.close`."""
        seconds = self._settings.drain if drain is None else checked_drain(drain)
        if self._state != "up" or self._engine is None:
            self._state = "closed"
            return
        self._engine.refuse_other_loops()
        self._engine.refuse_to_close_within()
        self._state = "closed"
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._engine.begin_to_close(seconds, interrupt=bool(interrupt), callback=_setter(answered))
        try:
            async with asyncio.timeout(seconds + END_MARGIN):
                answer = await answered
            self._engine.closed(answer)
        except TimeoutError:
            raise GreenroomError("the runtime did not close within its bounds; please report") from None
        finally:
            await self._engine.aend()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    # Agents

    async def spawn(
        self,
        kind: Any,
        path: str,
        *,
        config: Any = None,
        input: Any = UNSET,
        run_id: str | None = None,
        durability: Durability | None = None,
    ) -> AsyncAgentRef:
        """See `Runtime.spawn`."""
        where = check_path(path)
        kind_of(kind, where)
        first = await encoded_input(input, f"the input for {where}")
        settings = await encoded_input(config, f"the config of {where}")
        call = requests.spawn(
            kind, path, config=settings, input=first, run_id=run_id, durability=durability
        )
        answer = await self._accepted(call)
        run = AsyncRun(self, answer.run_id, answer.path) if answer.run_id else None
        return AsyncAgentRef(self, answer.path, run)

    async def agent(self, path: str) -> AsyncAgentRef:
        """See `Runtime.agent`."""
        return AsyncAgentRef(self, (await self._ask(requests.locate(path))).path)

    async def list(
        self,
        under: str = "/",
        *,
        status: AgentStatus | None = None,
        resident: bool = False,
        limit: int = 1000,
        after: str | None = None,
    ) -> AgentInfos:
        """See `Runtime.list`."""
        requests.checked_list(under, status, limit, after, resident=resident)
        agents: list[AgentInfo] = []
        after_id = None
        while len(agents) < limit:
            left = limit - len(agents)
            call = requests.page(under, status, after, left, resident=resident, after_id=after_id)
            page = await self._ask(call)
            agents += await infos_of(page.agents)
            after, after_id = page.next, page.next_id
            if after is None:
                break
        return agents[:limit]

    # Many at once

    async def interrupt_many(self, under: str) -> int:
        """See `Runtime.interrupt_many`."""
        count: int = (await self._ask(requests.interrupt_many(under))).count
        return count

    async def close_many(self, under: str) -> int:
        """See `Runtime.close_many`."""
        count: int = (await self._ask(requests.close_many(under, erase=False))).count
        return count

    async def delete_many(self, under: str) -> int:
        """See `Runtime.delete_many`."""
        count: int = (await self._ask(requests.close_many(under, erase=True))).count
        return count

    # Runs

    async def run(self, run_id: str) -> AsyncRun:
        """See `Runtime.run`."""
        row = (await self._ask(requests.find_run(run_id))).run
        return AsyncRun(self, row.run_id, row.path)

    async def wait(
        self,
        runs: Iterable[AsyncRun],
        *,
        timeout: float | None = None,
        until: Literal["all", "any"] = "all",
    ) -> AsyncRuns:
        """See `Runtime.wait`."""
        listed, seconds = requests.checked_wait(runs, timeout, until, AsyncRun)
        self._refuse_to_wait()
        awaited: AwaitedRuns[AsyncRun] = AwaitedRuns(self, until, seconds)
        for begin in range(0, len(listed), SORTED_AT_ONCE):
            awaited.add(listed[begin : begin + SORTED_AT_ONCE])
            if begin:
                await asyncio.sleep(0)
        if awaited.over:
            return awaited.ended
        answers: asyncio.Queue[Any] = asyncio.Queue()
        request = self._call(awaited.call, Standing(answers.put_nowait))
        try:
            async with asyncio.timeout(seconds or None):
                while awaited.goes_on:
                    await heard(awaited, await answers.get())
        except TimeoutError:
            pass
        finally:
            awaited.leave(request, answers.get_nowait)
        return awaited.ended

    # Looking

    def events(
        self, under: str = "/", *, since: int | None = None, follow: bool = True
    ) -> "AsyncEventStream":
        """See `Runtime.events`; to be read with `async for`. Begins with this call."""
        requests.checked_events(under, since, follow)
        return AsyncEventStream(self, under, since, follow=follow)

    async def stats(self) -> Stats:
        """See `Runtime.stats`."""
        ledger = await self._ask(requests.describe_ledger())
        residency = await self._ask(requests.describe_residency())
        slots = await self._ask(requests.describe_slots())
        return stats_of(ledger, residency, slots)

    # The way in

    def _call(self, call: Request, callback: Callable[[Any], None]) -> RequestId:
        if self._engine is None:
            raise RuntimeClosing("the runtime was not started")
        self._engine.refuse_other_loops()
        return self._engine.post(call, callback)

    def _post(self, call: Request) -> tuple[RequestId, "asyncio.Future[Any]"]:
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return self._call(call, _setter(answered)), answered

    def _refuse_to_wait(self) -> None:
        """Only for ends of runs: all else is answered without a slot."""
        if self._engine is not None:
            self._engine.refuse_in_turn()
            self._engine.refuse_to_wait_in_session()

    async def _accepted(self, call: Request) -> Any:
        """See `Runtime._accepted`."""
        answer = await self._ask(call)
        inputs = requests.recorded_input(call, answer)
        if inputs is not None:
            requests.refuse_other_input(answer, await compared(*inputs))
        return answer

    async def _ask(self, call: Request) -> Any:
        _, answered = self._post(call)
        return granted(await answered)


def _setter(future: "asyncio.Future[Any]") -> Any:
    def set_result(answer: Any) -> None:
        if not future.done():
            future.set_result(answer)

    return set_result
