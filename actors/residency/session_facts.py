"""News of sessions: they are loaded, open, idle, wait, return, end or are lost."""

from typing import TYPE_CHECKING

from ...errors import GreenroomError
from ...persistence.rows import AgentImage
from ...types import AgentId, Incarnation, RequestId, Timestamp
from ..effects import Send, StartTimer
from ..slots.protocol import EndHolder
from .entry import (
    GO_ON,
    Effects,
    PatienceEnded,
    ToSession,
)
from .protocol import (
    AgentPassivated,
    LoadFailed,
    Room,
)

if TYPE_CHECKING:
    from .table import ResidencyTable


def loaded(
    table: "ResidencyTable",
    request: RequestId,
    value: object,
    error: GreenroomError | None,
    *,
    now: Timestamp,
) -> Effects:
    """The ledger's answer: start the session, if there is an agent to start."""
    entry = table.loads.pop(request, None)
    if entry is None:
        return ()
    agent_id = entry.agent_id
    if error is not None:
        table.forget(entry)
        return [Send("ledger", LoadFailed(agent_id, error)), *table.settle(now)]
    if not isinstance(value, AgentImage) or value.row.status == "closed":
        table.forget(entry)
        return table.settle(now)
    return table.start(entry, value, now)


def session_opened(
    table: "ResidencyTable", agent_id: AgentId, incarnation: Incarnation, *, now: Timestamp
) -> Effects:
    """The session is open; it is busy until it says that it is idle."""
    entry = table.current(agent_id, incarnation)
    if entry is not None and entry.stage == "opening":
        entry.stage, entry.since = "open", now
    return ()


def session_idle(
    table: "ResidencyTable", agent_id: AgentId, incarnation: Incarnation, seen: int, *, now: Timestamp
) -> Effects:
    """The session is open and has nothing to do, unless there is Work on its way to it."""
    entry = table.current(agent_id, incarnation)
    if entry is None or entry.stage == "unloading":
        return ()
    if entry.stage == "opening":
        entry.stage, entry.since = "open", now
    table.queue.remove(agent_id)
    if seen < entry.sent:
        return table.settle(now)
    entry.has_work = False
    if not entry.away:
        entry.idle = True
        table.lru.idle(agent_id)
    elif table.has_room or table.lru.pinned(agent_id):
        entry.idle = entry.goes_on = True  # in memory, so it is to be counted soon
        table.requeue(entry, None, now)
    else:
        return [*table.unload(entry, now, evicted=True), *table.settle(now)]
    return table.settle(now)


def session_waits(
    table: "ResidencyTable", agent_id: AgentId, incarnation: Incarnation, *, now: Timestamp
) -> Effects:
    """The session's turn waits: its place is for others."""
    entry = table.current(agent_id, incarnation)
    if entry is None or entry.stage != "open" or entry.idle:
        return ()
    if not entry.away:
        del table.residents[agent_id]
        table.away[agent_id] = entry
        entry.away = True
    table.queue.remove(agent_id)
    return table.settle(now)


def session_returns(
    table: "ResidencyTable", agent_id: AgentId, incarnation: Incarnation, number: int, *, now: Timestamp
) -> Effects:
    """The wait is over: the turn goes on when its session has a place."""
    entry = table.current(agent_id, incarnation)
    if entry is None or entry.stage != "open" or not entry.away:
        return ()
    entry.goes_on = True
    table.requeue(entry, Room(number), now)
    return table.settle(now)


def session_asks(
    table: "ResidencyTable", agent_id: AgentId, incarnation: Incarnation, *, goes_on: bool, now: Timestamp
) -> Effects:
    """The session has more work: it goes on in its place, or gives way to those that wait for room."""
    entry = table.current(agent_id, incarnation)
    if entry is None or entry.stage != "open":
        return ()
    entry.goes_on = goes_on
    stays = table.lru.pinned(agent_id)
    if entry.away:
        table.queue.remove(agent_id)
        if table.has_room or stays:
            table.requeue(entry, GO_ON, now)
            return table.settle(now)
    elif stays or table.needed <= 0 or now - entry.placed < table.share:
        return (ToSession(agent_id, table.permission_to_go_on(entry)),)
    entry.wants_work = entry.has_work
    effects = table.unload(entry, now, evicted=True)
    if entry.wants_work and not entry.away:
        table.claim(entry, now)
    return [*effects, *table.settle(now)]


def session_ended(
    table: "ResidencyTable", agent_id: AgentId, incarnation: Incarnation, seen: int, *, now: Timestamp
) -> Effects:
    """The session closed in order: its place is free."""
    entry = table.current(agent_id, incarnation)
    if entry is None:
        return ()
    if seen < entry.sent and entry.stage != "unloading":
        # It gave up by itself, and was summoned after that. Its older Work went with it: the
        # ledger heard of the failed opening from the session itself, so to reload for that has
        # no end.
        entry.wants_work = True
    left = AgentPassivated(agent_id, incarnation, orderly=True, evicted=entry.evicted)
    return [Send("ledger", left), *table.end(entry, now)]


def session_lost(
    table: "ResidencyTable", agent_id: AgentId, incarnation: Incarnation, *, now: Timestamp
) -> Effects:
    """The session's actor is gone. If it did not say so itself, it crashed."""
    entry = table.current(agent_id, incarnation)
    if entry is None:
        return ()
    # Only here: a session that goes in order has given back its slot itself.
    ended = EndHolder(agent_id, incarnation)
    left = AgentPassivated(agent_id, incarnation, orderly=False, evicted=entry.evicted)
    return [Send("slots", ended), Send("ledger", left), *table.end(entry, now)]


def patience_ended(table: "ResidencyTable", *, now: Timestamp) -> Effects:
    """A victim that still unloads is joined by another one, if its place is waited for."""
    slow, younger = table.victims_in_time or ([], [])
    for agent_id, incarnation in slow:
        entry = table.current(agent_id, incarnation)
        if entry is not None:
            entry.slow = True
            table.set_coming(entry, False)
    younger = [victim for victim in younger if table.current(*victim) is not None]
    table.victims_in_time = (younger, []) if younger else None
    timer = (StartTimer(table.patience, PatienceEnded()),) if younger else ()
    return [*timer, *table.settle(now)]
