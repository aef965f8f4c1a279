"""The blocking handles of an agent and of a run. Each asks the runtime that it came from."""

import asyncio
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from ...seconds import checked_timeout
from ...types import Durability, RunId
from ..agent.aside import outcomes_of
from ..agent.kind import find_kind
from ..agent.turn_handles import result_of
from ..handle import Handle
from ..ledger.protocol import ForgetRequest
from ..models import AgentInfo, Explanation, Outcome, RunInfo
from . import requests
from .engine import failure_of
from .explain import explain
from .state_view import decode

if TYPE_CHECKING:
    from .runtime import Runtime


class AgentRef(Handle):
    """An agent, by its path. `run` is the run that `spawn` was given, if any."""

    def __init__(self, runtime: "Runtime", path: str, run: "Run | None" = None) -> None:
        self.path, self.run, self._runtime = path, run, runtime

    def __repr__(self) -> str:
        return f"<agent {self.path}>"

    def followup(
        self, input: Any, *, run_id: str | None = None, durability: Durability | None = None
    ) -> "Run":
        """Have the agent work on `input`: accepted now, executed in its turn.

        A `run_id` given twice is the same run; with another input it is refused. Ids that begin with `run-`
        are the runtime's own. Raises `AgentNotFound`, `AgentClosed`, `UnknownKind`, `CannotStore`,
        `BacklogFull`, `RunIdTaken`.
        """
        call = requests.followup(self.path, input, run_id=run_id, durability=durability)
        answer = self._runtime._accepted(call)
        return Run(self._runtime, answer.run_id, self.path)

    def send(self, body: Any, *, durability: Durability | None = None) -> None:
        """Put `body` in the agent's inbox, for its next turn; starts none."""
        self._runtime._ask(requests.send(self.path, body, durability=durability))

    def info(self) -> AgentInfo:
        """The agent as it is now. Raises `AgentNotFound`."""
        return AgentInfo.of(self._runtime._ask(requests.info(self.path)).agent)

    def state(self) -> Any:
        """A copy of the agent's state as of its last commit. Raises `SnapshotUnreadable`."""
        return decode(self._runtime._ask(requests.state(self.path)).image, find_kind)

    def interrupt(self, run_id: str | None = None, *, cascade: bool = False) -> bool:
        """End a run, or all that the agent has accepted so far; whether there was one.

        `cascade`: the runs of its descendants as well.
        """
        return bool(self._runtime._ask(requests.interrupt(self.path, run_id, cascade=cascade)).count)

    def close(self) -> None:
        """End the agent and its descendants for good; their paths are free again."""
        self._runtime._ask(requests.close(self.path, erase=False))

    def delete(self) -> None:
        """As `close`, and erase what is stored."""
        self._runtime._ask(requests.close(self.path, erase=True))

    def evict(self) -> bool:
        """Move the agent out of memory; False if it is not there, busy, starting or pinned."""
        return bool(self._runtime._ask(requests.evict(self.path)).evicted)

    def pin(self) -> None:
        """Keep the agent in memory once it is there, until `unpin` or the runtime's end."""
        self._runtime._ask(requests.pin(self.path, pinned=True))

    def unpin(self) -> None:
        """Let the agent be evicted again."""
        self._runtime._ask(requests.pin(self.path, pinned=False))

    def explain(self) -> Explanation:
        """The reason why the agent waits: for what, since when, and who holds it."""
        described = self._runtime._ask(requests.info(self.path))
        agent_id = described.agent.row.agent_id
        ask_residency = requests.describe_residency(agent_id)
        ask_slots = requests.describe_slots(agent_id)
        residency, slots = self._runtime._ask(ask_residency), self._runtime._ask(ask_slots)
        return explain(described, residency, slots, self._runtime._ask(requests.describe_places(agent_id)))


class Run(Handle):
    """One accepted piece of work. It belongs to the runtime: nobody needs to wait for it."""

    def __init__(self, runtime: "Runtime", run_id: str, path: str) -> None:
        self.run_id, self.path, self._runtime = run_id, path, runtime
        self._ended: Outcome | None = None

    def __repr__(self) -> str:
        return f"<run {self.run_id} of {self.path}>"

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the result. Raises `RunFailed`, `RunInterrupted`, `TimeoutError`."""
        return result_of(self.outcome(timeout))

    def outcome(self, timeout: float | None = None) -> Outcome:
        """Wait for the end and return how it was. Raises `TimeoutError`."""
        checked_timeout(timeout)
        if self._ended is None:
            self._runtime.wait([self], timeout=timeout)
        if self._ended is None:
            raise TimeoutError(f"run {self.run_id} of {self.path} has not ended within {timeout} s")
        return self._ended

    @property
    def status(self) -> str:
        """`accepted`, `queued`, `running`, or how it ended."""
        if self._ended is not None:
            return self._ended.status
        return str(self._runtime._ask(requests.find_run(self.run_id)).run.status)

    def info(self) -> RunInfo:
        """The run as it is now."""
        return RunInfo.of(self._runtime._ask(requests.find_run(self.run_id)).run)

    def done(self) -> bool:
        """Whether it has ended."""
        return self.status in ("completed", "failed", "interrupted")

    def interrupt(self) -> bool:
        """End this run; False if it has ended."""
        return bool(self._runtime._ask(requests.interrupt(self.path, self.run_id, cascade=False)).count)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        """The result, for whoever awaits it on any loop; who is cancelled leaves nothing behind."""
        if self._ended is None:
            loop = asyncio.get_running_loop()
            answered: asyncio.Future[Any] = loop.create_future()

            def hand_over(answer: Any) -> None:
                if not answered.done():
                    answered.set_result(answer)

            def answer_came(answer: Any) -> None:
                with suppress(RuntimeError):  # their loop is closed: nobody awaits it any more
                    loop.call_soon_threadsafe(hand_over, answer)

            request = self._runtime._post(requests.await_run(self.run_id), answer_came)
            try:
                answer = await answered
            finally:
                if not answered.done() or answered.cancelled():
                    self._runtime._engine.forget(request)
                    self._runtime._engine.tell("ledger", ForgetRequest(request, RunId(self.run_id)))
            error = failure_of(answer)
            if error is not None:
                raise error
            (self._ended,) = await outcomes_of([answer.run])
        return result_of(self._ended)


Runs: TypeAlias = list[Run]
