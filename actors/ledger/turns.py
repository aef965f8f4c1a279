"""Turns: a session takes a run, reports, checkpoints, and brings back its end."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from ...errors import (
    GreenroomError,
    RuntimeClosing,
)
from ...persistence.queries import FindRuns
from ...persistence.records import (
    AddRun,
    BeginRun,
    DivideRun,
    DropMessages,
    PutSnapshot,
    Record,
)
from ...persistence.rows import MessageRow, RunRow
from ...run_ids import stem_of
from ...types import (
    Address,
    AgentId,
    RunId,
    Seconds,
)
from ..effects import Effect, Send, StartTimer
from ..storage.protocol import Answer
from . import accepting, giving_back, solo, verdicts
from .agent_runs import AgentRuns, OpenRun
from .closing import CLOSED
from .event_data import event_data
from .log.commits import NewEvent
from .protocol import (
    Checkpoint,
    EndTurn,
    GoOnTelling,
    ReportDivergence,
    ReportProgress,
    TakeRun,
)
from .replies import (
    CheckpointRecorded,
    NothingToRun,
    RequestRefused,
    RunBegun,
    TurnSettled,
)

if TYPE_CHECKING:
    from .ledger import Ledger

RESTART_DELAY: Seconds = 1.0
"""After a turn or an opening was cancelled from outside of greenroom: mostly the program is ending."""

CANCELLED = "its turn was cancelled from outside of greenroom, as if the program around it ended"


class ActivateAgain(Struct, frozen=True):
    """To the ledger, from a timer: what was cancelled from outside may begin again."""

    agent_id: AgentId


def take_run(ledger: "Ledger", ask: TakeRun, session: Address) -> list[Effect]:
    """Begin the agent's next run in this session, or say that none begins. See decision 0019."""
    desk = ledger.desks.get(ask.agent_id)
    if desk is None or desk.running or ask.incarnation < desk.incarnation:
        return [Send(session, NothingToRun(ask.agent_id))]
    desk.incarnation = ask.incarnation
    effects: list[Effect] = []
    if desk.queue and (desk.queue[0].row.attempt or desk.queue[0].row.cuts):  # Its kind may be new here.
        effects += verdicts.judge_next(ledger, desk)
    refusal = _none_begins(ledger, desk, session)
    if refusal is not None:
        return [*effects, *refusal]
    solo.may_begin(ledger, desk, now=True)
    run = desk.pull()
    run.before, run.outran = run.row, False
    run.state, desk.running, desk.executor = "running", run, session
    ledger.turns.begun(desk)
    ledger.latencies.add("queue", ledger.now - run.row.accepted_at)
    if not run.row.awaits:
        return [*effects, *_begin(ledger, desk, run, ())]
    then = partial(_begin_with_results, ledger, desk, run, session)
    return [*effects, *ledger.commit_log.ask(run.row.run_id, then, FindRuns(run.row.awaits))]


def _none_begins(ledger: "Ledger", desk: AgentRuns, session: Address) -> list[Effect] | None:
    """The answer to a session for which no run may begin now; None if the next one may."""
    nothing = Send(session, NothingToRun(desk.agent_id))
    if not desk.queue or desk.ends or ledger.closing_reason is not None or not solo.may_begin(ledger, desk):
        desk.called = False
        return [nothing]
    for sweep in ledger.sweeps:
        if sweep.covers(desk.queue[0].row):
            desk.called = False
            sweep.held[desk.agent_id] = None
            return [nothing]
    if ledger.health.problem is not None and desk.queue[0].durability != "memory":
        return giving_back.postpone(ledger, desk, session)
    return None


def _begin(ledger: "Ledger", desk: AgentRuns, run: OpenRun, results: tuple[RunRow, ...]) -> list[Effect]:
    """Record that a turn begins, and have the session execute it when that is durable.

    The code may end the process: this attempt counts from before its first line on.
    """
    row = run.row
    run.suspect = alone = ledger.suspects.solo == row.run_id
    run.asks = alone or ledger.cautious
    attempt = row.attempt + 1
    run.row = replace(row, attempt=attempt, started_at=ledger.now, at_work=True, alone=alone)
    begun = BeginRun(row.run_id, desk.agent_id, attempt, ledger.now, alone)
    data = event_data(attempt=attempt, **({"recovered": True} if run.recovered else {}))
    fact = NewEvent(ledger.now, "run.started", desk.path, row.run_id, data)
    told = replace(run.row, stem=row.stem or stem_of(ledger.nonce, row.serial, row.accepted_at))
    erased = ledger.erasures.since(desk.erasures)
    mail = tuple(message for message in _mail(desk) if message.sender_id not in erased)
    desk.erasures = ledger.erasures.count
    news = RunBegun(desk.agent_id, told, attempt > 1, mail, results, suspect=run.asks, erased=tuple(erased))
    go = Send(desk.executor, news)
    begins = ledger.commit((begun,), (fact,), run.durability, go)
    if run.durability != "memory":
        run.begun_by, run.beginning = ledger.commit_log.last, go
    return [*begins, solo.time_solo(ledger, run)] if alone else begins


def _begin_with_results(
    ledger: "Ledger", desk: AgentRuns, run: OpenRun, session: Address, answer: Answer
) -> Iterable[Effect]:
    """Begin a continuation: the store has answered with the outcomes that it goes on with."""
    if desk.running is not run or desk.executor is not session:  # It ended, or lost its session.
        yield Send(session, NothingToRun(desk.agent_id))
    elif answer.error is not None:
        problem = f"the outcomes that it goes on with cannot be read: {answer.error}"
        desk.called = False
        error_type = type(answer.error).__qualname__
        yield from ledger.end(desk, run, "failed", problem, error_type=error_type)
        yield Send(session, NothingToRun(desk.agent_id))
        yield from ledger.activate(desk)
    else:
        found: tuple[RunRow | None, ...] = answer.value  # type: ignore[assignment]
        ids = zip(run.row.awaits, found, strict=True)
        results = tuple(ended or _erased(ledger, run_id) for run_id, ended in ids)
        yield from _begin(ledger, desk, run, results)


def _erased(ledger: "Ledger", run_id: RunId) -> RunRow:
    """Stands for a run whose agent was deleted, so that the outcomes around it keep their places."""
    reason = "its agent was deleted"
    return RunRow(
        run_id, 0, AgentId(0), "", b"", ledger.now, "interrupted", error=reason, ended_at=ledger.now
    )


def _mail(desk: AgentRuns) -> tuple[MessageRow, ...]:
    mail, desk.mail = tuple(desk.mail), ()
    return mail


def end_turn(ledger: "Ledger", ask: EndTurn, session: Address) -> list[Effect]:
    desk = ledger.desks.get(ask.agent_id)
    run = desk.running if desk else None
    if desk is None or run is None or run.row.run_id != ask.run_id or ask.incarnation != desk.incarnation:
        return [Send(session, TurnSettled(ask.agent_id, more=False))]
    if ledger.told.hold(ask, session):
        return record_progress(ledger)
    if ask.status in ("suspended", "cancelled"):
        if run.interrupted is None and (not ask.begun or ledger.attempts_of(desk.kind) != 1):
            return _cut_off(ledger, ask, desk, run, session)
        # somebody had interrupted it, or it may not begin again
        reason = run.interrupted or (CLOSED if ask.status == "suspended" else CANCELLED)
        ask = replace(ask, status="interrupted", error=reason, error_type=None)
    ledger.latencies.add("turn", ask.ended_at - ask.started_at)
    records, facts = _changes(ledger, ask, desk)
    continuation: OpenRun | None = None
    if ask.after is not None:
        after = ask.after
        row = ledger.run_row(desk, after.input, after.run_id, after.awaits, started_by=run.row.serial)
        records += (AddRun(row),)
        facts += (
            NewEvent(ledger.now, "run.accepted", desk.path, row.run_id, event_data(after=run.row.run_id)),
        )
        continuation = OpenRun(row, (), ledger.commit_log.durability)
        ledger.runs[row.run_id] = continuation
    effects = ledger.end(
        desk, run, ask.status, ask.error, ask.result, records, facts, error_type=ask.error_type
    )
    if continuation is not None:  # behind those that this end lets go: they were accepted before it
        ledger.join(desk, continuation)
    more = bool(desk.queue) and not desk.ends and ledger.closing_reason is None
    desk.called = more
    settled = Send(session, TurnSettled(ask.agent_id, more, desk.goes_on))
    return [*effects, settled, *ledger.count_turns()]


def _cut_off(
    ledger: "Ledger", ask: EndTurn, desk: AgentRuns, run: OpenRun, session: Address
) -> list[Effect]:
    """A turn was cut off, and by no crash: its run begins again, with the next runtime or soon.

    A turn that was cancelled from outside mostly ends with its program, and is not begun once more just
    to be cut off again. If the program goes on, so does the run; but not for ever.
    """
    settled = Send(session, TurnSettled(ask.agent_id, more=False))
    effects = giving_back.put_back(ledger, desk, run, begun=ask.begun)
    if ask.status == "cancelled":
        run.cancelled += 1
        if run.cancelled >= (ledger.attempts_of(desk.kind) or 1):
            effects += ledger.end(desk, run, "failed", ask.error, error_type=ask.error_type)
        effects += call_again_later(ledger, desk)
    return [*effects, settled, *ledger.count_turns()]


def call_again_later(ledger: "Ledger", desk: AgentRuns) -> list[Effect]:
    """Have the agent's next run begin in a while."""
    return (
        [StartTimer(RESTART_DELAY, ActivateAgain(desk.agent_id))] if ledger.closing_reason is None else []
    )


def call_again(ledger: "Ledger", news: ActivateAgain) -> list[Effect]:
    desk = ledger.desks.get(news.agent_id)
    return [] if desk is None or desk.running else ledger.activate(desk)


def checkpoint(ledger: "Ledger", ask: Checkpoint, session: Address) -> list[Effect]:
    desk = ledger.desk_of_turn(ask)
    if desk is None:
        over: GreenroomError = RuntimeClosing()
        if ledger.closing_reason is None:
            over = GreenroomError(f"run {ask.run_id} is over: nothing more of its turn is kept")
        return [Send(session, RequestRefused(ask.request, over))]  # code on a thread would wait for ever
    records, facts = _changes(ledger, ask, desk)
    if ask.divides and desk.running is not None:
        run = desk.running
        run.row = replace(run.row, divided_at=ledger.serial)
        records += (DivideRun(run.row.run_id, desk.agent_id, ledger.serial),)
    reply = Send(session, CheckpointRecorded(ask.request))
    return ledger.commit(records, facts, ledger.unless_crowded(), reply)


def _changes(
    ledger: "Ledger", ask: EndTurn | Checkpoint, desk: AgentRuns
) -> tuple[tuple[Record, ...], tuple[NewEvent, ...]]:
    records, facts = accepting.post(ledger, ask.outbox, desk.path, desk.agent_id)
    if ask.snapshot is not None:
        records += (PutSnapshot(desk.agent_id, ask.snapshot),)
    if ask.read_upto is not None:
        records += (DropMessages(desk.agent_id, ask.read_upto),)
    return records, facts


def progress(ledger: "Ledger", ask: ReportProgress) -> list[Effect]:
    desk = ledger.desk_of_turn(ask)
    if desk is None or desk.running is None:
        return []
    ledger.told.add(desk.running, ask, ledger.now)
    return record_progress(ledger)


def record_progress(ledger: "Ledger") -> list[Effect]:
    """Record what turns have told: a portion, and no more than the disk keeps up with.

    Where nobody would be served by waiting for the disk, it is not waited for: what is too much then
    is dropped.
    """
    told, debt = ledger.told, ledger.commit_log.debt
    waits = (
        ledger.commit_log.durability != "memory" and ledger.health.problem is None and not ledger.closing
    )
    effects: list[Effect] = []
    while (line := told.next) is not None:
        room = told.room(waits=waits)
        if debt.crowded and not waits:
            told.drop(line)
        elif debt.crowded or room <= 0:
            break
        else:
            facts = told.take(line, room)
            if not line.reports:
                facts += ledger.dropped(line.run)
            effects += ledger.commit((), facts)
            told.recorded(ledger.commit_log.last, len(facts))
        if not line.reports and line.end is not None:
            effects += end_turn(ledger, *line.end)
    if told.pause():
        effects.append(StartTimer(0.0, GoOnTelling()))
    return effects


def others_had_their_turn(ledger: "Ledger") -> list[Effect]:
    ledger.told.go_on()
    return record_progress(ledger)


def diverged(ledger: "Ledger", ask: ReportDivergence) -> list[Effect]:
    desk = ledger.desk_of_turn(ask)
    if desk is None:
        return []
    fact = NewEvent(ledger.now, "run.diverged", desk.path, ask.run_id, ask.data)
    return ledger.commit((), (fact,), ledger.unless_crowded())
