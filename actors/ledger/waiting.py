"""Waiting for the ends of runs, of one or of many."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ...errors import (
    RunNotFound,
)
from ...persistence.queries import FindRuns
from ...persistence.rows import RunRow
from ...types import (
    RunId,
)
from ..effects import Effect, Send
from ..storage.protocol import Answer
from .errands import LIGHT_STEPS, LOOKS_IN_STEP
from .protocol import (
    AwaitRun,
    AwaitRuns,
    ForgetRequest,
    ForgetRuns,
)
from .replies import (
    RequestRefused,
    RunOutcome,
    RunPending,
    RunsSought,
)

if TYPE_CHECKING:
    from .ledger import Ledger

RUNS_IN_LOOKUP = 64
"""Runs in one question to the disk, of those that somebody waits for."""


def await_run(ledger: "Ledger", ask: AwaitRun) -> list[Effect]:
    run = ledger.runs.get(ask.run_id)
    if run is not None:
        refusal = ledger.waits.refusal(ask.request, run)
        if refusal is not None:
            return [Send(ask.reply_to, RequestRefused(ask.request, refusal))]
        run.waiters[ask.request] = ask.reply_to
        asker = ledger.waits.asker(ask.request)
        if asker is not None:
            asker.awaits(ask.request, ask.run_id)
        return [Send(ask.reply_to, RunPending(ask.request))] if ask.tell_pending else []
    lately = ledger.recent.get(ask.run_id)
    if lately is not None:
        return _tell_end(ledger, ask, *lately)

    def found(answer: Answer) -> Iterable[Effect]:
        row = answer.value[0] if answer.error is None else None  # type: ignore[index]
        if ask.request not in ledger.looked_for:
            return  # nobody waits any more
        ledger.looked_for.discard(ask.request)
        if ask.run_id in ledger.runs:
            yield from await_run(ledger, ask)
        elif row is None:
            error = answer.error or RunNotFound(ask.run_id)
            yield Send(ask.reply_to, RequestRefused(ask.request, error))
        else:
            yield from _tell_end(ledger, ask, row, ledger.commit_log.ended_by(ask.run_id))

    ledger.looked_for.add(ask.request)
    return ledger.commit_log.ask(ask.request, found, FindRuns((ask.run_id,)), asked=ask)


def _tell_end(ledger: "Ledger", ask: AwaitRun | AwaitRuns, row: RunRow, commit: int) -> list[Effect]:
    """Tell of a run that has ended, once its end is as durable as was promised."""
    news = Send(ask.reply_to, RunOutcome(ask.request, row))
    told = ledger.commit_log.tell(commit, ledger.commit_log.level_of(commit), news)
    pending = isinstance(ask, AwaitRun) and ask.tell_pending and not told
    return [Send(ask.reply_to, RunPending(ask.request))] if pending else told


def await_runs(ledger: "Ledger", ask: AwaitRuns) -> list[Effect]:
    """The same for many runs, in portions; those that are on disk alone are looked up together."""
    ledger.looked_for.add(ask.request)
    return ledger.errands.begin(_awaiting(ledger, ask), asked=ask)


def _awaiting(ledger: "Ledger", ask: AwaitRuns) -> Iterator[list[Effect]]:
    unread: list[RunId] = []
    for place, run_id in enumerate(ask.run_ids):
        if ask.request not in ledger.looked_for:
            return  # nobody waits any more
        run, lately = ledger.runs.get(run_id), ledger.recent.get(run_id)
        if lately is not None:
            yield _tell_end(ledger, ask, *lately)
            continue
        if run is None:
            unread.append(run_id)
        elif not ask.look:
            run.waiters[ask.request] = ask.reply_to
        if place % LOOKS_IN_STEP == 0:
            yield []
    if ask.tell_sought or ask.look:
        yield [Send(ask.reply_to, RunsSought(ask.request, len(unread)))]
    yield _read_awaited(ledger, ask, unread)


def _read_awaited(ledger: "Ledger", ask: AwaitRuns, unread: list[RunId]) -> list[Effect]:
    """Look up the last of these."""
    if not unread:
        ledger.looked_for.discard(ask.request)
        return []
    some = tuple(unread[-RUNS_IN_LOOKUP:])
    del unread[-RUNS_IN_LOOKUP:]

    def found(answer: Answer) -> list[Effect]:
        return ledger.errands.begin(_tell_awaited(ledger, ask, some, answer, unread), asked=ask)

    return ledger.commit_log.ask(ask.request, found, FindRuns(some), asked=ask)


def _tell_awaited(
    ledger: "Ledger", ask: AwaitRuns, some: tuple[RunId, ...], answer: Answer, unread: list[RunId]
) -> Iterator[list[Effect]]:
    rows: tuple[RunRow | None, ...] = answer.value or (None,) * len(some)  # type: ignore[assignment]
    for run_id, row in zip(some, rows, strict=True):
        if ask.request not in ledger.looked_for:
            return
        if run_id in ledger.runs:
            if not ask.look:
                ledger.runs[run_id].waiters[ask.request] = ask.reply_to
        elif row is None:
            error = answer.error or RunNotFound(run_id)
            yield [Send(ask.reply_to, RequestRefused(ask.request, error))]
        else:
            yield _tell_end(ledger, ask, row, ledger.commit_log.ended_by(run_id))
    if not unread and ask.look:
        yield [Send(ask.reply_to, RunsSought(ask.request, 0))]
    yield _read_awaited(ledger, ask, unread)


def forget_runs(ledger: "Ledger", ask: ForgetRuns) -> list[Effect]:
    ledger.looked_for.discard(ask.request)
    ledger.commit_log.forget(ask.request)

    def steps() -> Iterator[list[Effect]]:
        for place, run_id in enumerate(ask.run_ids):
            run = ledger.runs.get(run_id)
            if run is not None and run.asked:
                run.asked.pop(ask.request, None)
            if place % LIGHT_STEPS == 0:
                yield []

    return ledger.errands.begin(steps())


def forget(ledger: "Ledger", ask: ForgetRequest) -> list[Effect]:
    run = ledger.runs.get(ask.run_id)
    if run is not None and run.asked:
        run.asked.pop(ask.request, None)
        ledger.awaits_no_more(ask.request)
    ledger.looked_for.discard(ask.request)
    ledger.commit_log.forget(ask.request)
    return []
