"""Opening a store: taking over what it holds without an outcome."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from ...persistence.records import (
    Record,
    SetRun,
)
from ...persistence.rows import AgentRow, RunRow, Unfinished
from ...types import (
    AgentId,
)
from ..effects import Effect, Send
from . import solo, verdicts
from .agent_runs import OpenRun
from .errands import LIGHT_STEPS, LOOKS_IN_STEP
from .replies import (
    LedgerReady,
)
from .suspects import (
    CRASHED,
    NOT_KNOWN_HERE,
    cut_off,
)

if TYPE_CHECKING:
    from .ledger import Ledger

_Row = TypeVar("_Row")


def recover(ledger: "Ledger", unfinished: Unfinished) -> list[Effect]:
    """Take over what the store holds without an outcome, in portions; then say `LedgerReady`."""
    return ledger.errands.begin(_recovering(ledger, unfinished))


def _recovering(ledger: "Ledger", unfinished: Unfinished) -> Iterator[list[Effect]]:
    """Queue again what was accepted and has no outcome; fail what may not begin again.

    No session is asked for before all of this is done: the first suspect begins, and not the first
    that happens to be looked at. Callers are let in after it.
    """
    agents: dict[AgentId, AgentRow] = {}
    for rows in _slices(unfinished.agents):
        agents.update((row.agent_id, row) for row in rows)
        yield []
    at_work: list[int] = []
    for runs in _slices(unfinished.runs):
        at_work += (row.serial for row in runs if row.at_work)
        yield []
    cuts: list[Record] = []
    for place, was in enumerate(unfinished.runs, 1):
        row = _take_over(ledger, was, agents[was.agent_id], unfinished, at_work)
        if row is not was:
            cuts.append(SetRun.of(row))
        if place % LOOKS_IN_STEP == 0:
            yield []
    if ledger.beside:
        for place, run in enumerate(list(ledger.runs.values()), 1):
            if run.row.serial in ledger.beside:
                ledger.witnesses[run.row.serial] = run
            if place % LOOKS_IN_STEP == 0:
                yield []
    # They are in the store before any run begins: the next opening does not count this crash again.
    held = ledger.commit(tuple(cuts), (), "process") if cuts else []
    for place, run in enumerate(list(ledger.runs.values()), 1):
        if run.state == "queued":
            held += _end_or_keep(ledger, run)
        if place % LOOKS_IN_STEP == 0:
            yield []
    for place, desk in enumerate(list(ledger.desks.values()), 1):
        if desk.queue and not desk.kind_missing:
            solo.may_begin(ledger, desk)
        if place % LOOKS_IN_STEP == 0:
            yield []
    for begin in range(0, len(held), LOOKS_IN_STEP):
        yield held[begin : begin + LOOKS_IN_STEP]
    for desk in list(ledger.desks.values()):
        yield ledger.activate(desk)
    unfinished = replace(unfinished, runs=(), agents=())
    while agents:  # Freeing the rows of many agents at once would hold the loop as well.
        for _ in range(min(len(agents), LIGHT_STEPS)):
            agents.popitem()
        yield []
    yield [Send("supervisor", LedgerReady())]


def _take_over(
    ledger: "Ledger", was: RunRow, agent: AgentRow, unfinished: Unfinished, at_work: list[int]
) -> RunRow:
    """Queue a run of the store's, or have it wait; its row as it is from here on."""
    row = cut_off(
        was,
        crashed=unfinished.crashed,
        died=unfinished.died,
        now=ledger.now,
        beside=at_work,
        attempts=ledger.attempts_of(agent.kind) or NOT_KNOWN_HERE,
    )
    solo.note_doubts(ledger, row)
    # "process": the beginning of its turn is on disk before the turn runs, as it may end the process.
    run = OpenRun(row, (), "process", recovered=True)
    desk = ledger.agent_runs(row.agent_id, agent.path, agent.kind)
    desk.suspected = agent.last is not None and agent.last.error_type == CRASHED
    desk.kind_missing = ledger.attempts_of(desk.kind) is None
    ledger.runs[row.run_id] = run
    ledger.join(desk, run)
    return row


def _end_or_keep(ledger: "Ledger", run: OpenRun) -> list[Effect]:
    """End a queued run of the store's that was interrupted, or that was cut off too often."""
    desk = ledger.desks[run.row.agent_id]
    if run.row.error is not None:
        return ledger.end(desk, run, "interrupted", run.row.error, data={"recovered": True})
    return verdicts.judge(ledger, desk, run)


def _slices(rows: tuple[_Row, ...]) -> Iterator[tuple[_Row, ...]]:
    """The rows, some at a time."""
    return (rows[begin : begin + LIGHT_STEPS] for begin in range(0, len(rows), LIGHT_STEPS))
