"""The handles of an agent and of a run as coroutines. Each asks the runtime that it came from."""

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

from ...seconds import checked_timeout
from ...types import Durability, RequestId, RunId
from ..agent.aside import encoded, infos_of, made, outcomes_of
from ..agent.kind import find_kind
from ..agent.turn_handles import result_of
from ..handle import Handle
from ..ledger.protocol import ForgetRequest
from ..models import AgentInfo, Explanation, Outcome, RunInfo, weight_of_run
from . import requests
from .engine import granted
from .explain import explain
from .requests import UNSET, Encoded
from .state_view import decode_aside

if TYPE_CHECKING:
    from .async_runtime import AsyncRuntime


async def encoded_input(value: object, what: str) -> object:
    return value if value is UNSET else Encoded(await encoded(value, what))


class AsyncAgentRef(Handle):
    """An agent, by its path. `run` is the run that `spawn` was given, if any."""

    def __init__(self, runtime: "AsyncRuntime", path: str, run: "AsyncRun | None" = None) -> None:
        self.path, self.run, self._runtime = path, run, runtime

    def __repr__(self) -> str:
        return f"<agent {self.path}>"

    async def followup(
        self, input: Any, *, run_id: str | None = None, durability: Durability | None = None
    ) -> "AsyncRun":
        """See `AgentRef.followup`."""
        given = await encoded_input(input, f"the input for {self.path}")
        call = requests.followup(self.path, given, run_id=run_id, durability=durability)
        answer = await self._runtime._accepted(call)
        return AsyncRun(self._runtime, answer.run_id, self.path)

    async def send(self, body: Any, *, durability: Durability | None = None) -> None:
        """See `AgentRef.send`."""
        body = await encoded_input(body, f"the message to {self.path}")
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

    def __init__(self, runtime: "AsyncRuntime", run_id: str, path: str) -> None:
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
            (self._ended,) = await outcomes_of([granted(answer).run])
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


AsyncRuns: TypeAlias = list[AsyncRun]
