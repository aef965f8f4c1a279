"""`AsyncRuntime` and its handles: the same names as `Runtime`'s, as coroutines on the caller's loop.

Agents, actors and caller share the loop that runs when the runtime is started; nothing here may be called
on another thread.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
from contextlib import nullcontext
from typing import Any, Literal, Self, TypeAlias

from ...errors import GreenroomError, RuntimeClosing
from ...paths import check_path
from ...persistence.rows import EventRow
from ...retention import DEFAULT, Retention
from ...seconds import checked_timeout
from ...types import AgentStatus, Durability, RequestId, RunId
from ..agent.aside import encoded, infos_of, made, outcomes_of
from ..agent.divergence import compared
from ..agent.kind import find_kind, kind_of
from ..agent.turn_handles import result_of
from ..events.buffer import cursor_of
from ..events.protocol import Cursor, ForgetPull
from ..handle import Handle
from ..ledger.protocol import ForgetRequest
from ..ledger.replies import RunOutcome
from ..models import AgentInfo, AgentInfos, Event, Explanation, Outcome, RunInfo, Stats, weight_of_run
from . import requests
from .engine import Engine, Settings, checked_drain, failure_of
from .explain import explain
from .replies import Standing
from .requests import UNSET, Encoded, Request
from .runtime import END_MARGIN, stats_of
from .state_view import decode_aside
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


async def _encoded(value: object, what: str) -> object:
    return value if value is UNSET else Encoded(await encoded(value, what))


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
    ) -> "AsyncAgentRef":
        """See `Runtime.spawn`."""
        where = check_path(path)
        kind_of(kind, where)
        first = await _encoded(input, f"the input for {where}")
        settings = await _encoded(config, f"the config of {where}")
        call = requests.spawn(
            kind, path, config=settings, input=first, run_id=run_id, durability=durability
        )
        answer = await self._accepted(call)
        run = AsyncRun(self, answer.run_id, answer.path) if answer.run_id else None
        return AsyncAgentRef(self, answer.path, run)

    async def agent(self, path: str) -> "AsyncAgentRef":
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

    async def run(self, run_id: str) -> "AsyncRun":
        """See `Runtime.run`."""
        row = (await self._ask(requests.find_run(run_id))).run
        return AsyncRun(self, row.run_id, row.path)

    async def wait(
        self,
        runs: "Iterable[AsyncRun]",
        *,
        timeout: float | None = None,
        until: Literal["all", "any"] = "all",
    ) -> "AsyncRuns":
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
        return _granted(await answered)


class AsyncAgentRef(Handle):
    """An agent, by its path. `run` is the run that `spawn` was given, if any."""

    def __init__(self, runtime: AsyncRuntime, path: str, run: "AsyncRun | None" = None) -> None:
        self.path, self.run, self._runtime = path, run, runtime

    def __repr__(self) -> str:
        return f"<agent {self.path}>"

    async def followup(
        self, input: Any, *, run_id: str | None = None, durability: Durability | None = None
    ) -> "AsyncRun":
        """See `AgentRef.followup`."""
        given = await _encoded(input, f"the input for {self.path}")
        call = requests.followup(self.path, given, run_id=run_id, durability=durability)
        answer = await self._runtime._accepted(call)
        return AsyncRun(self._runtime, answer.run_id, self.path)

    async def send(self, body: Any, *, durability: Durability | None = None) -> None:
        """See `AgentRef.send`."""
        body = await _encoded(body, f"the message to {self.path}")
        await self._runtime._ask(requests.send(self.path, body, durability=durability))

    async def info(self) -> AgentInfo:
        """See `AgentRef.info`."""
        (info,) = await infos_of([(await self._runtime._ask(requests.info(self.path))).agent])
        return info

    async def state(self) -> Any:
        """See `AgentRef.state`."""
        return await decode_aside((await self._runtime._ask(requests.state(self.path))).image, find_kind)

    async def interrupt(self, run_id: str | None = None, *, cascade: bool = False) -> bool:
        """See `AgentRef.interrupt`."""
        call = requests.interrupt(self.path, run_id, cascade=cascade)
        return bool((await self._runtime._ask(call)).count)

    async def close(self) -> None:
        """See `AgentRef.close`."""
        await self._runtime._ask(requests.close(self.path, erase=False))

    async def delete(self) -> None:
        """See `AgentRef.delete`."""
        await self._runtime._ask(requests.close(self.path, erase=True))

    async def evict(self) -> bool:
        """See `AgentRef.evict`."""
        return bool((await self._runtime._ask(requests.evict(self.path))).evicted)

    async def pin(self) -> None:
        """See `AgentRef.pin`."""
        await self._runtime._ask(requests.pin(self.path, pinned=True))

    async def unpin(self) -> None:
        """See `AgentRef.unpin`."""
        await self._runtime._ask(requests.pin(self.path, pinned=False))

    async def explain(self) -> Explanation:
        """See `AgentRef.explain`."""
        ask = self._runtime._ask
        described = await ask(requests.info(self.path))
        agent_id = described.agent.row.agent_id
        residency = await ask(requests.describe_residency(agent_id))
        slots = await ask(requests.describe_slots(agent_id))
        places = await ask(requests.describe_places(agent_id))
        return explain(described, residency, slots, places)


class AsyncRun(Handle):
    """One accepted piece of work; await it for its result."""

    def __init__(self, runtime: AsyncRuntime, run_id: str, path: str) -> None:
        self.run_id, self.path, self._runtime = run_id, path, runtime
        self._ended: Outcome | None = None

    def __repr__(self) -> str:
        return f"<run {self.run_id} of {self.path}>"

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> Any:
        """See `Run.result`."""
        return result_of(await self.outcome(timeout))

    async def outcome(self, timeout: float | None = None) -> Outcome:
        """See `Run.outcome`."""
        seconds = checked_timeout(timeout)
        if self._ended is None and seconds == 0.0:
            await self._runtime.wait([self], timeout=0.0)
            if self._ended is None:
                raise TimeoutError(f"run {self.run_id} of {self.path} has not ended")
        if self._ended is None:
            self._runtime._refuse_to_wait()
            request, answered = self._runtime._post(requests.await_run(self.run_id))
            try:
                async with asyncio.timeout(seconds) if seconds is not None else nullcontext():
                    answer = await answered
            except TimeoutError:
                problem = f"run {self.run_id} of {self.path} has not ended within {timeout} s"
                raise TimeoutError(problem) from None
            finally:
                if not answered.done() or answered.cancelled():
                    self._forget(request)
            (self._ended,) = await outcomes_of([_granted(answer).run])
        return self._ended

    def _forget(self, request: RequestId) -> None:
        engine = self._runtime._engine
        if engine is not None:
            engine.forget(request)
            engine.tell("ledger", ForgetRequest(request, RunId(self.run_id)))

    @property
    def status(self) -> Coroutine[Any, Any, str]:
        """To be awaited; see `Run.status`."""
        return self._status()

    async def _status(self) -> str:
        if self._ended is not None:
            return self._ended.status
        return str((await self._runtime._ask(requests.find_run(self.run_id))).run.status)

    async def info(self) -> RunInfo:
        """See `Run.info`."""
        run = (await self._runtime._ask(requests.find_run(self.run_id))).run
        return await made(weight_of_run(run), lambda: RunInfo.of(run), f"read of {self.run_id}")

    async def done(self) -> bool:
        """See `Run.done`."""
        return await self._status() in ("completed", "failed", "interrupted")

    async def interrupt(self) -> bool:
        """See `Run.interrupt`."""
        call = requests.interrupt(self.path, self.run_id, cascade=False)
        return bool((await self._runtime._ask(call)).count)


class AsyncEventStream(AsyncIterator[Event]):
    """Events as they happen; `aclose` ends it. `page` is how many are asked for at a time."""

    page: int = requests.AGENTS_IN_PAGE

    def __init__(
        self, runtime: AsyncRuntime, under: str, since: int | Cursor | None, *, follow: bool
    ) -> None:
        self._runtime, self._under, self._follow = runtime, under, follow
        self._ready: deque[EventRow] = deque()
        self._over = False
        self._since: int | Cursor = since or 0
        self._request: RequestId = None
        self._begin: asyncio.Future[Any] | None = None
        self._awaited: asyncio.Future[Any] | None = None
        if since is None and follow:
            _, self._begin = runtime._post(requests.pull(under, None, wait=False))

    def __aiter__(self) -> "AsyncEventStream":
        return self

    async def begin(self) -> int:
        """Wait until it is settled where the stream begins: the number of the event before its first."""
        if self._begin is not None:
            self._since = _granted(await self._begin).last
            self._begin = None
        return cursor_of(self._since)[0]

    async def __anext__(self) -> Event:
        try:
            await self.begin()
            while not self._ready and not self._over:
                await self._pull()
        except RuntimeClosing:
            self._over = True
        if not self._ready:
            raise StopAsyncIteration
        return Event.of(self._ready.popleft())  # as late as this: a whole page would hold the loop

    async def _pull(self) -> None:
        call = requests.pull(self._under, self._since, wait=self._follow, limit=self.page)
        self._request, self._awaited = self._runtime._post(call)
        try:
            answer = _granted(await self._awaited)
        finally:
            self._forget()
        if answer is None:
            return
        self._since = answer.last
        self._ready.extend(answer.events)
        if not self._ready and not self._follow:
            self._over = True

    def _forget(self) -> None:
        engine, request = self._runtime._engine, self._request
        self._request = None
        if engine is not None and request is not None and request in engine.callers.waiting:
            engine.forget(request)
            engine.tell("events", ForgetPull(request))

    async def aclose(self) -> None:
        """End the stream, also for a task that waits for the next event."""
        self._over = True
        self._ready.clear()
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)


def _setter(future: "asyncio.Future[Any]") -> Any:
    def set_result(answer: Any) -> None:
        if not future.done():
            future.set_result(answer)

    return set_result


def _granted(answer: Any) -> Any:
    """The answer, or the error that it brings."""
    error = failure_of(answer)
    if error is not None:
        raise error
    return answer


AsyncRuns: TypeAlias = list[AsyncRun]
