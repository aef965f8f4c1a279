"""A request that the store refuses to record, taken back as if it had never come; and when that is sound.

It would be a bug that something is accepted which cannot be stored. If nobody was told of it, and it breaks
none of the ledger's own numbers, its requester is refused and everybody else goes on. Otherwise the ledger
cannot be trusted any more, and `broken_by` says which invariant does not hold. See decision 0043.
"""

from typing import TYPE_CHECKING, Any

from ...errors import InternalError
from ...persistence.records import AddAgent, AddEvent, AddMessage, AddRun, Record
from ...persistence.rows import AgentRow, MessageRow, RunRow
from ..effects import Effect, Send
from ..residency.protocol import CancelActivation
from .agent_runs import AgentRuns, OpenRun
from .replies import (
    AgentSpawned,
    MessageAccepted,
    NothingToRun,
    RequestRefused,
    RunAccepted,
    RunBegun,
    SpawnWithdrawn,
)

if TYPE_CHECKING:
    from .ledger import Ledger

NUMBERS = {
    "agents.agent_id": "an agent's number is given once",
    "agents.path": "one open agent stands at a path (G7)",
    "runs.serial": "a run's serial is given once",
    "inbox.serial": "a message's serial is given once",
    "events.seq": "an event's number is given once",
}
"""Invariants of the ledger and the directory, by the columns that SQLite names."""


def broken_by(problem: str) -> str | None:
    """The invariant that does not hold, if SQLite's words name one."""
    return next((broken for column, broken in NUMBERS.items() if column in problem), None)


def withdraw(ledger: "Ledger", problem: str) -> list[Effect] | None:
    """Take back the oldest commit that is not on disk, and refuse its request. None if that is unsound."""
    if broken_by(problem) is not None:
        return None
    match [record for record in ledger.commit_log.oldest if type(record) is not AddEvent]:
        case [AddRun(row)]:
            return _run(ledger, row, problem)
        case [AddAgent(row)] | [AddAgent(row), AddRun()]:
            return _agent(ledger, row, problem)
        case [AddMessage(row)]:
            return _message(ledger, row, problem)
        case _:
            return None


def _run(ledger: "Ledger", row: RunRow, problem: str) -> list[Effect] | None:
    desk, run = ledger.desks.get(row.agent_id), ledger.runs.get(row.run_id)
    if desk is None or run is None or run.row.serial != row.serial or not _untold(ledger, desk, run):
        return None
    news = ledger.commit_log.withdraw(lambda record: _is_of_run(record, row), _is_told_at_once)
    if news is None:
        return None
    error = _error("run", problem)
    return [*_refused(news, error), *_waiters(run, error), *_unrecord(ledger, desk, run)]


def _agent(ledger: "Ledger", row: AgentRow, problem: str) -> list[Effect] | None:
    desk = ledger.desks.get(row.agent_id)
    runs = [] if desk is None else desk.open_runs()
    if desk is None or not all(_untold(ledger, desk, run) for run in runs):
        return None
    news = ledger.commit_log.withdraw(lambda record: _is_of_agent(record, row), _is_told_at_once)
    if news is None:
        return None
    error = _error("agent", problem)
    waiters = [effect for run in runs for effect in _waiters(run, error)]
    return [*_refused(news, error), *waiters, *_unspawn(ledger, desk)]


def _message(ledger: "Ledger", row: MessageRow, problem: str) -> list[Effect] | None:
    desk = ledger.desks.get(row.agent_id)
    if desk is not None and (desk.present or desk.offered) and row not in desk.mail:
        return None  # a session has it
    news = ledger.commit_log.withdraw(lambda record: record == AddMessage(row), _is_told_at_once)
    if news is None:
        return None
    if desk is not None:
        desk.mail = [other for other in desk.mail if other != row] or ()
    return _refused(news, _error("message", problem))


def _untold(ledger: "Ledger", desk: AgentRuns, run: OpenRun) -> bool:
    """Whether nothing goes on with this run but what waits for the disk."""
    if run.continuations or run.row.awaits:
        return False
    begins = run.beginning is not None and not ledger.commit_log.is_written(run.begun_by)
    return begins if run is desk.running else True


def _is_of_run(record: Record, row: RunRow) -> bool:
    if type(record) is AddRun or type(record) is AddEvent:
        return record.row.run_id == row.run_id
    return getattr(record, "run_id", None) == row.run_id


def _is_of_agent(record: Record, row: AgentRow) -> bool:
    if type(record) is AddEvent:
        return record.row.path == row.path
    of: Any = getattr(record, "row", record)
    return bool(of.agent_id == row.agent_id)


def _is_told_at_once(news: Send) -> bool:
    """Whether these news are of what is withdrawn, where all of a commit is."""
    return isinstance(news.message, AgentSpawned | RunAccepted | MessageAccepted | RunBegun)


def _refused(news: list[Send], error: InternalError) -> list[Effect]:
    answers = (send for send in news if not isinstance(send.message, RunBegun))
    return [Send(send.to, RequestRefused(send.message.request, error)) for send in answers]  # type: ignore[attr-defined]


def _waiters(run: OpenRun, error: InternalError) -> list[Effect]:
    return [
        Send(to, RequestRefused(request, error)) for request, to in (run.asked.items() if run.asked else ())
    ]


def _error(what: str, problem: str) -> InternalError:
    return InternalError(
        f"the store refused to record this {what}, nothing of it is kept: {problem}", False
    )


def _unrecord(ledger: "Ledger", desk: AgentRuns, run: OpenRun) -> list[Effect]:
    """The store refused to record this run, which nobody was told of: as if it had never come."""
    effects: list[Effect] = []
    del ledger.runs[run.row.run_id]
    run.state = "ended"
    for request in run.asked:
        ledger.awaits_no_more(request)
    if run is desk.running:
        begun: RunBegun = run.beginning.message  # type: ignore[assignment, union-attr]
        desk.mail = [*begun.inbox, *desk.mail]
        effects.append(Send(desk.executor, NothingToRun(desk.agent_id)))
        desk.called = False
        desk.stops()
    else:
        desk.drop(run)
    return [*effects, *ledger.settle(desk), *ledger.activate(desk), *ledger.count_turns()]


def _unspawn(ledger: "Ledger", desk: AgentRuns) -> list[Effect]:
    """The same for an agent, with its runs."""
    for run in desk.open_runs():
        del ledger.runs[run.row.run_id]
        run.state = "ended"
        for request in run.asked:
            ledger.awaits_no_more(request)
    desk.stops()
    if desk.opening and not desk.present:
        ledger.spawning -= 1
    ledger.known -= 1
    ledger.desks.pop(desk.agent_id, None)
    return [
        Send("residency", CancelActivation(desk.agent_id, gone=True)),
        Send("directory", SpawnWithdrawn(desk.agent_id, desk.path)),
        *ledger.count_turns(),
    ]
