"""Closing the runtime: no turn begins any more, and those under way are cut off or interrupted."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...persistence.records import (
    SetRun,
)
from ...types import (
    Address,
)
from ..effects import Effect, Send
from . import giving_back, interrupting
from .protocol import (
    InterruptTurns,
    StopBeginning,
)
from .replies import (
    InterruptTurn,
    NothingToRun,
)

if TYPE_CHECKING:
    from .ledger import Ledger

CLOSED = "the runtime closed before its turn ended"


def stop_beginning(ledger: "Ledger", ask: StopBeginning, supervisor: Address) -> list[Effect]:
    ledger.closing_reason, ledger.drained = ask.reason, supervisor
    return ledger.count_turns()


def interrupt_turns(ledger: "Ledger", ask: InterruptTurns) -> list[Effect]:
    effects: list[Effect] = []
    for desk in ledger.turns:
        run = desk.running
        if run is None:
            continue
        session = desk.executor
        if run.interrupted is None and not giving_back.has_begun(ledger, run):
            if run.beginning is not None:
                effects.append(Send(session, NothingToRun(desk.agent_id)))
            effects += giving_back.put_back(ledger, desk, run)
            continue
        if run.interrupted is None and (ask.end or ledger.attempts_of(desk.kind) == 1):
            effects += interrupting.interrupt_run(ledger, desk, run, CLOSED)
        elif run.interrupted is None and not ask.final:
            run.state = "interrupting"
            # on disk before its code has returned: whoever ends the process now, it is no crash
            run.row = replace(run.row, at_work=False, alone=False)
            effects += ledger.commit((SetRun.of(run.row),), (), run.durability)
            effects.append(Send(session, InterruptTurn(run.row.run_id, CLOSED, suspend=True)))
        if ask.final and run.interrupted is not None:
            effects += ledger.end(desk, run, "interrupted", run.interrupted)
        elif ask.final:
            effects += giving_back.put_back(ledger, desk, run)
    return effects + ledger.count_turns()
