"""Recording agents: they are spawned, closed and deleted."""

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from ...errors import (
    GreenroomError,
    PathTaken,
    RunIdTaken,
)
from ...persistence.records import (
    AddAgent,
    AddRun,
    EraseAgent,
    Record,
    SetAgent,
)
from ...persistence.rows import AgentImage, RunRow
from ..effects import Effect, Send
from ..residency.protocol import (
    CancelActivation,
)
from . import refusals
from .event_data import event_data
from .log.commits import NewEvent
from .lookups import close_lookups, look_up, tell_accepted
from .protocol import (
    RecordClose,
    RecordSpawn,
)
from .replies import (
    AgentsClosed,
    AgentSpawned,
    CloseRecorded,
    RequestRefused,
    SpawnSettled,
)

if TYPE_CHECKING:
    from .ledger import Ledger


def record_spawn(ledger: "Ledger", ask: RecordSpawn) -> list[Effect]:
    if ask.run_id is not None and ask.run_id in ledger.runs:
        return _same_spawn(ledger, ask, ledger.runs[ask.run_id].row)
    refusal = refusals.why_refused(ledger, ask)
    if refusal is None and ask.run_id is not None:
        return look_up(ledger, ask.run_id, ask, partial(_known_or_new, ledger))
    return _refuse_spawn(ask, refusal) if refusal else _spawn(ledger, ask)


def _refuse_spawn(ask: RecordSpawn, error: GreenroomError) -> list[Effect]:
    return [*not_spawned(ask), Send(ask.reply_to, RequestRefused(ask.request, error))]


def not_spawned(ask: RecordSpawn) -> list[Effect]:
    """Tell the directory of a spawn that is not recorded."""
    if ask.taken is not None:
        return []
    return [Send("directory", SpawnSettled(ask.row.agent_id, ask.row.path, recorded=False))]


def _same_spawn(ledger: "Ledger", ask: RecordSpawn, row: RunRow) -> list[Effect]:
    """The run id is known: its run and agent are the answer, if they are at this path."""
    if row.path != ask.row.path:
        return _refuse_spawn(ask, RunIdTaken(row.run_id, row.path))
    if ask.taken is not None and ask.taken != ask.row.kind:
        problem = f"whose agent is of the kind {ask.taken!r}, and not {ask.row.kind!r}"
        return _refuse_spawn(ask, RunIdTaken(row.run_id, row.path, problem))
    reply = AgentSpawned(ask.request, row.agent_id, row.path, row.run_id, known=row)
    return [
        *not_spawned(ask),
        *tell_accepted(ledger, row, ask.durability, Send(ask.reply_to, reply)),
    ]


def _spawn(ledger: "Ledger", ask: RecordSpawn) -> list[Effect]:
    row = ask.row
    desk = ledger.agent_runs(row.agent_id, row.path, row.kind)
    desk.opening = True
    ledger.known += 1
    ledger.spawning += 1
    records: tuple[Record, ...] = (AddAgent(row),)
    facts: tuple[NewEvent, ...] = (
        NewEvent(ledger.now, "agent.spawned", row.path, None, event_data(kind=row.kind)),
    )
    run_id = None
    if ask.input is not None:
        run = ledger.new_run(desk, ask.input, ask.run_id, ask.durability)
        run_id = run.row.run_id
        records += (AddRun(run.row),)
        facts += (NewEvent(ledger.now, "run.accepted", row.path, run_id),)
    reply = AgentSpawned(ask.request, row.agent_id, row.path, run_id)
    effects = [
        *ledger.commit(records, facts, refusals.level_of_answer(ledger, ask), Send(ask.reply_to, reply)),
        Send("directory", SpawnSettled(row.agent_id, row.path, recorded=True)),
    ]
    if not ledger.cautious:
        return [*effects, *ledger.activate(desk, open_only=run_id is None, image=AgentImage(row, None, ()))]
    if run_id is not None:
        return [*effects, *ledger.activate(desk)]
    ledger.spawning -= 1  # Its first run opens its session.
    desk.opening = False
    ledger.tidy(desk)
    return effects


def record_close(ledger: "Ledger", ask: RecordClose) -> list[Effect]:
    """End the runs of these agents, in portions, and then the agents, in one commit."""
    for agent_id, _ in ask.agents:
        desk = ledger.desks.get(agent_id)
        if desk is not None:
            desk.ends = True
    if ledger.lookups:
        close_lookups(ledger, {agent_id for agent_id, _ in ask.agents})
    return ledger.errands.begin(_closing_agents(ledger, ask), records=True)


def _closing_agents(ledger: "Ledger", ask: RecordClose) -> Iterator[list[Effect]]:
    reason = "its agent was deleted" if ask.erase else "its agent was closed"
    for agent_id, _ in ask.agents:
        desk = ledger.desks.get(agent_id)
        if desk is None:
            continue
        runs = deque(desk.open_runs())
        if desk.running:  # Its session is about to end, and its reports do not count any more.
            yield [*ledger.end(desk, desk.running, "interrupted", reason), *ledger.count_turns()]
        yield [Send("residency", CancelActivation(agent_id, gone=True))]
        while runs:
            run = runs.popleft()
            if run.state != "ended":
                yield ledger.end(desk, run, "interrupted", reason)
        if ledger.desks.get(agent_id) is desk:
            if desk.opening and not desk.present:
                ledger.spawning -= 1
            del ledger.desks[agent_id]
    records: list[Record] = []
    facts: list[NewEvent] = []
    for agent_id, path in ask.agents:
        records.append(
            EraseAgent(agent_id, path)
            if ask.erase
            else SetAgent(agent_id, "closed", None, ledger.now, path)
        )
        facts.append(NewEvent(ledger.now, "agent.deleted" if ask.erase else "agent.closed", path))
    ledger.known -= 0 if ask.over else len(ask.agents)
    if ask.erase:
        ledger.recent.forget()
        told = (desk.erasures for desk in ledger.desks.values() if desk.present or desk.offered)
        ledger.erasures.add((agent_id for agent_id, _ in ask.agents), told)
    then = (Send(ask.reply_to, AgentsClosed(ask.request, ask.count)),) if ask.reply_to else ()
    recorded = ledger.commit(tuple(records), tuple(facts), ledger.unless_crowded(), *then)
    done = Send("directory", CloseRecorded(ask.closing))
    yield [
        *recorded,
        *ledger.commit_log.tell(ledger.commit_log.urgent, "process" if ask.written else "memory", done),
    ]


def _known_or_new(
    ledger: "Ledger", ask: RecordSpawn, row: RunRow | None, error: GreenroomError | None
) -> list[Effect]:
    """The store has said whether it knows the run."""
    if error is not None:
        return _refuse_spawn(ask, error)
    if row is not None:
        return _same_spawn(ledger, ask, row)
    refusal = refusals.why_refused(ledger, ask) or (None if ask.taken is None else PathTaken(ask.row.path))
    return _refuse_spawn(ask, refusal) if refusal else _spawn(ledger, ask)
