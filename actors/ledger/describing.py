"""Describing what goes on: numbers, and agents."""

from typing import TYPE_CHECKING

from ..effects import Effect, Send
from .descriptions import DescribeAgents, DescribeLedger, LedgerReport

if TYPE_CHECKING:
    from .ledger import Ledger


def describe_agents(ledger: "Ledger", ask: DescribeAgents) -> list[Effect]:
    """Agents in the order of their paths; those that something goes on with are described in portions."""
    if ledger.view.is_live(ask):
        return ledger.errands.begin(ledger.view.live_agents(ask), asked=ask)
    return ledger.view.agents(ask)


def describe(ledger: "Ledger", ask: DescribeLedger) -> list[Effect]:
    """Numbers of all that goes on."""
    running = sum(1 for _ in ledger.turns)
    report = LedgerReport(
        ask.request,
        agents=ledger.known,
        running=running,
        queued=len(ledger.runs) - running,
        commits=ledger.commit_log.commits,
        unwritten=ledger.commit_log.unwritten,
        events_dropped=ledger.told.dropped,
        store_problem=ledger.health.problem,
        latencies=ledger.latencies.percentiles(),
    )
    return [Send(ask.reply_to, report)]
