"""Whether a run that was cut off may begin again; if not, it fails. See decision 0044."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..effects import Effect
from .agent_runs import AgentRuns, OpenRun
from .errands import LIGHT_STEPS, LOOKS_IN_STEP
from .protocol import (
    KindRegistered,
)
from .suspects import (
    verdict,
)

if TYPE_CHECKING:
    from .ledger import Ledger


def kind_registered(ledger: "Ledger", news: KindRegistered) -> list[Effect]:
    """Let go on what waited for this kind, in portions."""

    def calls() -> Iterator[list[Effect]]:
        for place, desk in enumerate(list(ledger.desks.values())):
            if desk.kind_missing and desk.kind == news.name:
                yield from _judge_all(ledger, desk)
                yield ledger.activate(desk)
            elif place % LIGHT_STEPS == 0:
                yield []

    return ledger.errands.begin(calls())


def _judge_all(ledger: "Ledger", desk: AgentRuns) -> Iterator[list[Effect]]:
    """Fail the queued runs that were cut off and may not begin again."""
    for place, run in enumerate(desk.queued, 1):
        if run.state == "queued":  # The end of a run before it may have ended it.
            effects = judge(ledger, desk, run)
            if effects or place % LOOKS_IN_STEP == 0:
                yield effects


def judge_next(ledger: "Ledger", desk: AgentRuns) -> list[Effect]:
    """Fail the queued runs that were cut off and may not begin again, up to one that may."""
    effects: list[Effect] = []
    for run in desk.upcoming():
        if run.state != "ended":
            effects += judge(ledger, desk, run)
        if run.state != "ended":
            break
    return effects


def judge(ledger: "Ledger", desk: AgentRuns, run: OpenRun) -> list[Effect]:
    """Fail a queued run if it was cut off and may not begin again."""
    attempts = ledger.attempts_of(desk.kind)
    if attempts is None or not (run.row.attempt or run.row.cuts):
        return []
    failure = verdict(run.row, attempts)
    if failure is None:
        return []
    data: dict[str, object] | None = {"recovered": True} if run.recovered else None
    return ledger.end(desk, run, "failed", failure.text, data=data, error_type=failure.error_type)
