"""News of the residency and of sessions: an agent is loaded, opened, failed to start, or left memory."""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...persistence.queries import LoadAgent
from ...persistence.records import (
    Record,
    SetAgent,
    SetIncarnation,
    SetRun,
)
from ...persistence.rows import AgentImage
from ...stored_text import storable_text
from ...types import (
    Address,
    AgentId,
    Incarnation,
)
from ..effects import Effect, Send
from ..residency.protocol import (
    AgentActivated,
    AgentPassivated,
    CancelActivation,
    LoadFailed,
    OpeningDeferred,
)
from ..storage.protocol import Answer, Ask
from . import (
    giving_back,
    interrupting,
    solo,
    turns,
    verdicts,
)
from .agent_runs import AgentRuns, OpenRun
from .event_data import event_data
from .log.commits import NewEvent
from .protocol import (
    OpeningRecorded,
    SessionCancelled,
    SessionFailed,
    SessionStarted,
)
from .suspects import (
    CRASHED,
    lost,
)
from .sweep import InterruptSweep

if TYPE_CHECKING:
    from .ledger import Ledger


def _may_open(ledger: "Ledger", desk: AgentRuns) -> bool:
    """Whether the agent's session may open now; from here on it does."""
    return not ledger.cautious or (bool(desk.queue) and solo.may_begin(ledger, desk, now=True))


def _opens(ledger: "Ledger", desk: AgentRuns, then: Send) -> list[Effect]:
    """Record that the session opens for the run that is next: it is at work from here on."""
    assert desk.queue
    run = desk.opens_for = desk.queue[0]
    alone = ledger.suspects.solo == run.row.run_id
    run.outran = False
    run.row = replace(run.row, at_work=True, alone=alone, started_at=ledger.now)
    effects = ledger.commit((SetRun.of(run.row),), (), run.durability, then)
    return [*effects, solo.time_solo(ledger, run)] if alone else effects


def _opening_over(ledger: "Ledger", desk: AgentRuns) -> list[Effect]:
    """The session is open, or is not to be: its run is not at work before its turn begins."""
    run, desk.opens_for = desk.opens_for, None
    if run is None or run.state != "queued":
        return []
    row = run.row
    started_at = row.started_at if row.attempt else None
    run.row = replace(row, at_work=False, alone=False, started_at=started_at)
    effects = ledger.commit((SetRun.of(run.row),), (), run.durability)
    if ledger.suspects.over(row.run_id):
        ledger.suspects.queues(row.run_id, solo._place_in_line(ledger, run))
        effects += solo.next_suspect(ledger)
    return effects


def load(ledger: "Ledger", ask: Ask, residency: Address) -> list[Effect]:
    """Fetch an agent's image for the residency: from here on its mail is kept at hand."""
    query: LoadAgent = ask.query  # type: ignore[assignment]
    desk = ledger.agent_runs(query.agent_id, "", "")
    if desk.opening and not desk.present:
        ledger.spawning -= 1
    if not _may_open(ledger, desk):
        desk.offered = desk.opening = desk.called = False
        ledger.tidy(desk)
        return [Send(residency, Answer(ask.request, None))]  # it is called when its time has come
    desk.offered, desk.present, desk.opening, desk.mail = False, True, True, ()
    desk.erasures = ledger.erasures.count
    if ledger.cautious:
        return _opens(ledger, desk, Send("ledger", OpeningRecorded(ask, residency)))
    return load_now(ledger, ask, residency)


def load_now(ledger: "Ledger", ask: Ask, residency: Address) -> list[Effect]:
    query: LoadAgent = ask.query  # type: ignore[assignment]
    desk = ledger.agent_runs(query.agent_id, "", "")

    def found(answer: Answer) -> Iterable[Effect]:
        image: AgentImage | None = answer.value  # type: ignore[assignment]
        if image is not None and image.row.status != "closed":
            desk.path, desk.kind = image.row.path, image.row.kind
            last = image.row.last
            desk.suspected = last is not None and last.error_type == CRASHED
        elif answer.error is None:  # closed meanwhile: the residency forgets it as well
            ledger.desks.pop(query.agent_id, None)
        yield Send(residency, replace(answer, request=ask.request))

    return ledger.commit_log.ask(ask.request, found, query)


def entered(ledger: "Ledger", news: AgentActivated) -> list[Effect]:
    desk = ledger.desks.get(news.agent_id)
    if desk is None:
        return []
    if news.incarnation >= desk.incarnation:
        _met(ledger, desk, news.incarnation)
    return []


def _met(ledger: "Ledger", desk: AgentRuns, incarnation: Incarnation) -> None:
    """There is such a session."""
    if desk.offered:
        desk.offered, desk.present = False, True
        ledger.spawning -= 1
    desk.incarnation, desk.haunted = incarnation, False


def _incarnation(desk: AgentRuns, incarnation: Incarnation) -> tuple[Record, ...]:
    """Record a session's number, with the first of its news that are recorded."""
    if incarnation <= desk.recorded:
        return ()
    desk.recorded = incarnation
    return (SetIncarnation(desk.agent_id, incarnation),)


def session_started(ledger: "Ledger", news: SessionStarted) -> list[Effect]:
    desk = ledger.desks.get(news.agent_id)
    if desk is None or news.incarnation < desk.incarnation:
        return []
    _met(ledger, desk, news.incarnation)
    desk.opening = False
    first = news.incarnation == 1 or news.healed
    kind = "agent.started" if first else "agent.reloaded"
    fact = NewEvent(ledger.now, kind, desk.path, None, event_data(incarnation=news.incarnation))
    records = _incarnation(desk, news.incarnation)
    if news.healed:
        records += (SetAgent(desk.agent_id, "idle", None, ledger.now),)
    return [*ledger.commit(records, (fact,), lazy=not first), *_opening_over(ledger, desk)]


def session_failed(ledger: "Ledger", news: SessionFailed) -> list[Effect]:
    desk = ledger.desks.get(news.agent_id)
    if desk is None or news.incarnation < desk.incarnation:
        return []
    _met(ledger, desk, news.incarnation)
    records = _incarnation(desk, news.incarnation)
    return _fail_start(ledger, desk, news.error, records, error_type=news.error_type)


def session_cancelled(ledger: "Ledger", news: SessionCancelled) -> list[Effect]:
    desk = ledger.desks.get(news.agent_id)
    if desk is None or news.incarnation < desk.incarnation:
        return []
    _met(ledger, desk, news.incarnation)
    desk.opening = desk.called = False
    return [*_opening_over(ledger, desk), *turns.call_again_later(ledger, desk)]


def opening_deferred(ledger: "Ledger", news: OpeningDeferred) -> list[Effect]:
    """There is no free room for a new agent; what mail it was kept at hand for is in the store."""
    desk = ledger.desks.get(news.agent_id)
    if desk is None:
        return []
    if desk.offered:
        desk.offered, desk.mail = False, ()
        ledger.spawning -= 1
    desk.opening = False
    ledger.tidy(desk)
    return []


def load_failed(ledger: "Ledger", news: LoadFailed) -> list[Effect]:
    desk = ledger.desks.get(news.agent_id)
    if desk is None:
        return []
    desk.present = False
    error_type = type(news.error).__qualname__
    effects = _fail_start(ledger, desk, storable_text(str(news.error)), error_type=error_type)
    ledger.tidy(desk)
    return effects


def abandon(ledger: "Ledger", agent_id: AgentId, problem: str) -> list[Effect]:
    """A bug in handling news of this agent: its runs fail, its session goes, nobody else notices."""
    desk = ledger.desks.get(agent_id)
    if desk is None:
        return []
    effects: list[Effect] = []
    for run in desk.open_runs():
        effects += ledger.end(desk, run, "failed", problem, error_type="InternalError")
    desk.called = False  # a run that comes from here on has a session of its own
    return [*effects, Send("residency", CancelActivation(agent_id, gone=True)), *ledger.count_turns()]


def _fail_start(
    ledger: "Ledger",
    desk: AgentRuns,
    error: str,
    records: tuple[Record, ...] = (),
    *,
    error_type: str | None,
) -> list[Effect]:
    """No session: the runs that wait for one fail, the next one tries again."""
    desk.opening, desk.called, desk.opens_for = False, False, None
    records += (SetAgent(desk.agent_id, "failed", error, ledger.now),)
    facts = (NewEvent(ledger.now, "agent.start_failed", desk.path, None, event_data(error=error)),)
    effects = ledger.commit(records, facts)
    sweep = InterruptSweep(f"its agent could not start: {error}", ledger.serial, desk.path, desk.agent_id)

    def fail(desk: AgentRuns, run: OpenRun) -> list[Effect]:
        return ledger.end(desk, run, "failed", sweep.reason, error_type=error_type)

    return effects + ledger.errands.begin(
        interrupting.swept(ledger, sweep, deque(desk.queued), fail), records=True
    )


def left(ledger: "Ledger", news: AgentPassivated) -> list[Effect]:
    desk = ledger.desks.get(news.agent_id)
    if desk is None or news.incarnation != desk.incarnation:
        return []
    desk.present = desk.opening = False
    desk.mail = ()
    effects = _opening_over(ledger, desk)
    records = _incarnation(desk, news.incarnation)
    facts = (NewEvent(ledger.now, "agent.evicted", desk.path),) if news.evicted else ()
    if records or facts:
        effects += ledger.commit(records, facts, lazy=True)
    ended = ledger.told.end_of(desk.running.row.run_id) if desk.running else None
    if ended is not None:  # it was over before its session was
        effects += turns.end_turn(ledger, *ended)
    if not news.orderly:  # then what it asked for may still be on its way here
        desk.incarnation, desk.haunted = Incarnation(news.incarnation + 1), True
    run = desk.running
    if run is not None and news.orderly and ledger.closing_reason is not None:
        return effects  # its end is on its way here, or there will be none: see `interrupt_turns`
    if run is not None and run.interrupted is not None:
        effects += ledger.end(desk, run, "interrupted", run.interrupted)
    elif run is not None:
        if not news.orderly and giving_back.has_begun(ledger, run):
            run.row = lost(run.row)
        effects += giving_back.put_back(ledger, desk, run)
        effects += verdicts.judge_next(ledger, desk)
    if run is not None or ended is not None or not news.orderly:
        desk.called = False
        effects += ledger.activate(desk)
    ledger.tidy(desk)
    return effects + ledger.count_turns()
