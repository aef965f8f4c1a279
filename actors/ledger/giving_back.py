"""Taking a turn back that has not ended: its run is queued again."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...persistence.records import (
    SetRun,
)
from ...types import (
    Address,
)
from ..effects import Effect, Send
from . import solo
from .agent_runs import AgentRuns, OpenRun
from .replies import (
    NothingToRun,
    RunBegun,
)

if TYPE_CHECKING:
    from .ledger import Ledger


def has_begun(ledger: "Ledger", run: OpenRun) -> bool:
    """Whether the session was told to execute the code of the run that it took."""
    assert run.before is not None
    if run.row.attempt == run.before.attempt:  # the outcomes that it goes on with are being read
        return False
    return run.beginning is None or ledger.commit_log.is_written(run.begun_by)


def call_off(ledger: "Ledger", desk: AgentRuns, run: OpenRun) -> None:
    """A turn that has not begun is not to."""
    if run.beginning is not None:
        begun: RunBegun = run.beginning.message  # type: ignore[assignment]
        ledger.commit_log.call_off(run.begun_by, run.beginning)
        desk.mail = [*begun.inbox, *desk.mail]


def put_back(ledger: "Ledger", desk: AgentRuns, run: OpenRun, *, begun: bool = True) -> list[Effect]:
    """Queue a run again whose turn is over without an end; it counts only if its code has `begun`."""
    assert run.before is not None
    if not has_begun(ledger, run):
        call_off(ledger, desk, run)
        begun = False
    now, before = run.row, run.row if begun else run.before
    run.row = replace(before, at_work=False, alone=False, crashes=now.crashes, doubts=now.doubts)
    run.before = run.beginning = None
    run.begun_by, run.state = 0, "queued"
    desk.stops()
    desk.put_back(run)
    desk.called = False
    effects = ledger.commit((SetRun.of(run.row),), (), run.durability)
    return [*effects, *solo.no_longer_alone(ledger, run)]


def postpone(ledger: "Ledger", desk: AgentRuns, session: Address) -> list[Effect]:
    desk.called = False
    ledger.postponed.add(desk.agent_id)
    return [Send(session, NothingToRun(desk.agent_id))]
