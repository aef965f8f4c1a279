"""Run ids of callers: whether the store knows such a run, asked once for all requests that name it."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec.structs import replace

from ...errors import (
    GreenroomError,
)
from ...persistence.queries import FindRuns
from ...persistence.rows import RunRow
from ...types import (
    AgentId,
    Durability,
    RunId,
)
from ..effects import Effect, Send
from ..storage.protocol import Answer
from .protocol import (
    AcceptRun,
    RecordSpawn,
)

if TYPE_CHECKING:
    from .ledger import Ledger


Then: TypeAlias = Callable[[Any, RunRow | None, GreenroomError | None], Iterable[Effect]]
"""Goes on with a request: with the run that has its id, or with the error of the question, or with none."""


def look_up(ledger: "Ledger", run_id: RunId, ask: AcceptRun | RecordSpawn, then: Then) -> list[Effect]:
    """Ask the store for the run of this id, and go on with the request when it has answered."""
    waiting = ledger.lookups.get(run_id)
    if waiting is not None:
        waiting.append((ask, then))
        return []
    ledger.lookups[run_id] = deque([(ask, then)])
    return ledger.commit_log.ask(run_id, lambda answer: _looked_up(ledger, answer), FindRuns((run_id,)))


def _looked_up(ledger: "Ledger", answer: Answer) -> Iterable[Effect]:
    found: RunRow | None = answer.value[0] if answer.error is None else None  # type: ignore[index]
    run_id: RunId = answer.request  # type: ignore[assignment]
    for ask, then in ledger.lookups.pop(run_id):
        row = ledger.runs[run_id].row if run_id in ledger.runs else found
        yield from then(ask, row, answer.error)


def close_lookups(ledger: "Ledger", agents: set[AgentId]) -> None:
    """The requests for these agents that wait for the store come too late: the agents are closed."""
    for waiting in ledger.lookups.values():
        for place, (ask, then) in enumerate(waiting):
            if isinstance(ask, AcceptRun) and ask.agent_id in agents:
                waiting[place] = replace(ask, closed=True), then


def tell_accepted(
    ledger: "Ledger", row: RunRow, durability: Durability | None, reply: Send
) -> list[Effect]:
    """Answer for a run that was accepted before, when it is as durable as this request asks for."""
    level = durability or ledger.commit_log.durability
    return ledger.commit_log.tell(ledger.commit_log.accepted_by(row.run_id), level, reply)
