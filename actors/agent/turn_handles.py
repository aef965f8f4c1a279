"""The handles of runs and agents that a turn started."""

from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from ...errors import RunFailed, RunInterrupted, SnapshotUnreadable
from ...persistence.rows import RunRow
from ...types import RunId
from ..handle import Handle
from ..models import Outcome, UnreadableValue

if TYPE_CHECKING:
    from .turn import Turn


class TurnRun(Handle):
    """A run that this turn started; await it for its result."""

    def __init__(self, turn: "Turn", run_id: RunId, path: str) -> None:
        self.run_id, self.path, self._turn = run_id, path, turn
        self._ended: RunRow | None = None

    def __repr__(self) -> str:
        return f"<run {self.run_id} of {self.path}>"

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    def done(self) -> bool:
        """Whether this turn has seen its outcome."""
        return self._ended is not None

    async def outcome(self, timeout: float | None = None) -> Outcome:
        """Wait for the end, without a slot, and return how it was. Raises `TimeoutError`."""
        (outcome,) = await self._turn.wait(self, timeout=timeout)
        return outcome

    async def result(self, timeout: float | None = None) -> Any:
        """The result; raises `RunFailed`, `RunInterrupted` or `TimeoutError`."""
        return result_of(await self.outcome(timeout))


class TurnAgent(Handle):
    """An agent that this turn spawned."""

    def __init__(self, turn: "Turn", path: str) -> None:
        self.path, self._turn = path, turn

    def __repr__(self) -> str:
        return f"<agent {self.path}>"

    def followup(self, input: Any, *, key: str | int | None = None) -> Coroutine[Any, Any, TurnRun]:
        """`Turn.followup` for this agent."""
        return self._turn.followup(self.path, input, key=key)

    async def send(self, body: Any) -> None:
        """`Turn.send` to this agent."""
        await self._turn.send(self.path, body)

    async def interrupt(self) -> bool:
        """`Turn.interrupt` of this agent."""
        return await self._turn.interrupt(self.path)


def result_of(outcome: Outcome) -> Any:
    """The result of a completed run; raises what another one means."""
    if outcome.status == "completed":
        if isinstance(outcome.result, UnreadableValue):
            what = f"result of run {outcome.run_id}"
            raise SnapshotUnreadable.of_value(what, outcome.path, outcome.result.problem)
        return outcome.result
    reason = outcome.error or "no reason was given"
    if outcome.status == "failed":
        raise RunFailed(outcome.run_id, outcome.path, reason, outcome.error_type)
    raise RunInterrupted(outcome.run_id, outcome.path, reason)
