"""The answers of the disk: batches are written, or the store cannot be written for a while."""

from typing import TYPE_CHECKING

from ..effects import Effect
from ..storage.protocol import BatchWritten
from . import giving_back, turns
from .event_data import event_data
from .log.commits import NewEvent
from .store_outage import Episode

if TYPE_CHECKING:
    from .ledger import Ledger

MOST_AHEAD = 10_000
"""Records that are not on disk, beyond which an errand waits: the disk is kept busy with half of them."""


def store_failed(ledger: "Ledger") -> list[Effect]:
    """Nothing can be written for now: turns that would wait for it to begin give back their slots."""
    effects: list[Effect] = []
    for desk in ledger.turns:
        run = desk.running
        if run is None or run.beginning is None or ledger.commit_log.is_written(run.begun_by):
            continue
        session = desk.executor
        if run.interrupted is not None:
            giving_back.call_off(ledger, desk, run)
            effects += ledger.end(desk, run, "interrupted", run.interrupted)
        else:
            effects += giving_back.put_back(ledger, desk, run)
        effects += giving_back.postpone(ledger, desk, session)
    return [*effects, *turns.record_progress(ledger), *ledger.errands.release(), *ledger.count_turns()]


def store_healed(ledger: "Ledger", over: Episode) -> list[Effect]:
    """It can be written again: record that, and let go on what waited for it."""
    data = event_data(problem=over.problem, since=over.began, tries=over.tries)
    effects = ledger.commit((), (NewEvent(ledger.now, "store.healed", "/", None, data),))
    postponed, ledger.postponed = ledger.postponed, set()
    calls = (ledger.activate(ledger.desks[each]) for each in sorted(postponed) if each in ledger.desks)
    return effects + ledger.errands.begin(calls)


def written(ledger: "Ledger", news: BatchWritten) -> list[Effect]:
    """A batch is on disk."""
    ledger.latencies.add("commit", news.seconds)
    effects = ledger.commit_log.written(news.number)
    ledger.told.written(news.number)
    return [*effects, *turns.record_progress(ledger), *ledger.errands.release()]


def go_on(ledger: "Ledger", number: int) -> list[Effect]:
    """Do the next portion of an errand; one that records waits if the disk is far behind.

    A disk that cannot be written holds up none: what it cannot take is bounded by what was accepted.
    """
    behind = ledger.commit_log.debt.records >= MOST_AHEAD and ledger.health.problem is None
    return ledger.errands.go_on(number, behind=behind)
