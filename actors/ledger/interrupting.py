"""Interrupting runs, in portions. See decision 0034."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ...persistence.records import (
    InterruptRun,
)
from ...types import (
    AgentId,
)
from ..effects import Effect, Send
from .agent_runs import AgentRuns, OpenRun
from .errands import LIGHT_STEPS
from .protocol import (
    InterruptRuns,
    InterruptTree,
)
from .replies import (
    InterruptTurn,
    RunsInterrupted,
)
from .sweep import InterruptSweep

if TYPE_CHECKING:
    from .ledger import Ledger


def interrupt(ledger: "Ledger", ask: InterruptRuns) -> list[Effect]:
    """End the runs that are open now and are meant, in portions (decision 0034)."""
    desk = ledger.desks.get(ask.agent_id)
    named = ledger.runs.get(ask.run_id) if ask.run_id is not None else None
    if ask.cascade:
        runs = deque(ledger.runs.values())
    elif ask.run_id is None:
        runs = deque() if desk is None else deque(desk.open_runs())
    else:
        runs = deque() if named is None else deque([named])
    sweep = InterruptSweep(ask.reason, ledger.serial, ask.path, ask.agent_id, ask.run_id, ask.cascade)
    return _sweep(ledger, sweep, runs, ask)


def interrupt_tree(ledger: "Ledger", ask: InterruptTree) -> list[Effect]:
    """End the runs that are open now of all agents at or below a path, in portions."""
    sweep = InterruptSweep(ask.reason, ledger.serial, ask.under, cascade=True)
    return _sweep(ledger, sweep, deque(ledger.runs.values()), ask)


def _sweep(
    ledger: "Ledger", sweep: InterruptSweep, runs: deque[OpenRun], ask: InterruptRuns | InterruptTree
) -> list[Effect]:
    """End those of these runs that the sweep covers. None of them begins from now on."""

    def interrupt(desk: AgentRuns, run: OpenRun) -> list[Effect]:
        before = ledger.commit_log.last
        effects = [*interrupt_run(ledger, desk, run, sweep.reason), *ledger.settle(desk)]
        if ledger.commit_log.last > before:
            sweep.recorded = ledger.commit_log.last
        return effects

    def steps() -> Iterator[list[Effect]]:
        yield from swept(ledger, sweep, runs, interrupt)
        reply = Send(ask.reply_to, RunsInterrupted(ask.request, sweep.count))
        yield ledger.commit_log.tell(sweep.recorded, ledger.commit_log.durability, reply)

    return ledger.errands.begin(steps(), records=True, asked=ask)


def swept(
    ledger: "Ledger",
    sweep: InterruptSweep,
    runs: deque[OpenRun],
    end: Callable[[AgentRuns, OpenRun], list[Effect]],
) -> Iterator[list[Effect]]:
    """End those of these runs that the sweep covers. Until it is over none of them begins."""
    ledger.sweeps.append(sweep)
    looked_at = 0
    try:
        while runs:  # let go of one by one: to forget all of them at once takes long as well
            run = runs.popleft()
            if run.state != "ended" and sweep.covers(run.row):
                sweep.count += 1
                yield end(ledger.desks[run.row.agent_id], run)
                continue
            looked_at += 1
            if looked_at % LIGHT_STEPS == 0:
                yield []
    finally:
        ledger.sweeps.remove(sweep)
        ledger.swept_last = sweep
    for agent_id in sweep.held:
        yield _call_held(ledger, agent_id)


def _call_held(ledger: "Ledger", agent_id: AgentId) -> list[Effect]:
    return ledger.activate(ledger.desks[agent_id]) if agent_id in ledger.desks else []


def not_swept(ledger: "Ledger", _: object) -> list[Effect]:
    """A bug ended an interrupt: the runs that it held back begin."""
    held = ledger.swept_last.held if ledger.swept_last is not None else {}
    return [effect for agent_id in held for effect in _call_held(ledger, agent_id)]


def interrupt_run(ledger: "Ledger", desk: AgentRuns, run: OpenRun, reason: str) -> list[Effect]:
    if run is not desk.running:
        return ledger.end(desk, run, "interrupted", reason)
    if run.interrupted is not None:
        return []
    run.state, run.interrupted = "interrupting", reason
    stop = Send(desk.executor, InterruptTurn(run.row.run_id, reason))
    return [*ledger.commit((InterruptRun(run.row.run_id, desk.agent_id, reason),), ()), stop]
