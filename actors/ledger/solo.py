"""Suspects of a crash: which of them may begin or go on alone, and what the ends of others say of them.

See decisions 0028 and 0044. `suspects` holds the rules as functions of plain values.
"""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...persistence.records import (
    SetRun,
)
from ...persistence.rows import RunRow
from ...types import (
    Address,
)
from ..effects import Effect, Send, StartTimer
from . import verdicts
from .agent_runs import AgentRuns, OpenRun
from .protocol import (
    TurnResumes,
    TurnWaits,
)
from .replies import (
    TurnMayResume,
)
from .suspects import (
    NEVER_KNOWN,
    NOT_KNOWN_HERE,
    SUSPECT_FROM,
    Outran,
    cleared,
    doubted,
    guilty,
    longest_solo,
    never_known,
)
from .suspects import (
    place as place_of,
)

if TYPE_CHECKING:
    from .ledger import Ledger


def may_begin(ledger: "Ledger", desk: AgentRuns, *, now: bool = False) -> bool:
    """Whether the agent's next run may begin (`now`: it does), as far as suspects go.

    One that may not is called when its time has come.
    """
    run = desk.first
    if run is None or run is desk.running or (run.row.cuts < SUSPECT_FROM and not desk.suspected):
        return True
    if held_back(ledger, run) is not None:
        return False
    take = ledger.suspects.begins if now else ledger.suspects.queues
    return take(run.row.run_id, _place_in_line(ledger, run))


def _place_in_line(ledger: "Ledger", run: OpenRun) -> int:
    return place_of(run.row, ledger.attempts_of(ledger.desks[run.row.agent_id].kind))


def next_suspect(ledger: "Ledger") -> list[Effect]:
    """Have the next suspect go on or begin, if none is at it."""
    suspects = ledger.suspects
    while suspects.solo is None:
        run_id = suspects.first_to_go_on or suspects.first
        if run_id is None:
            break
        run = ledger.runs[run_id]
        if held_back(ledger, run) is not None:
            suspects.over(run_id)  # until it is not any more: see `_judge_again`
        elif suspects.goes_on() is not None:
            return _go_on(ledger, run)
        else:
            return ledger.activate(ledger.desks[run.row.agent_id])
    return []


def _go_on(ledger: "Ledger", run: OpenRun) -> list[Effect]:
    """A suspect's turn may go on, alone from now on."""
    assert run.resuming is not None
    session = ledger.desks[run.row.agent_id].executor
    run.row = replace(run.row, alone=True, at_work=True)
    go = Send(session, TurnMayResume(run.row.run_id, run.resuming))
    run.resuming = None
    return ledger.commit((SetRun.of(run.row),), (), run.durability, go)


def time_solo(ledger: "Ledger", run: OpenRun) -> Effect:
    return StartTimer(longest_solo(run.row), Outran(ledger.suspects.number))


def outran(ledger: "Ledger", news: Outran) -> list[Effect]:
    """A solo took long enough: what ends the process from here on is not held against it."""
    run = ledger.runs.get(ledger.suspects.solo) if ledger.suspects.solo is not None else None
    if run is None or news.solo != ledger.suspects.number or not run.row.alone:
        return []
    run.outran = True
    return no_longer_alone(ledger, run)


def no_longer_alone(ledger: "Ledger", run: OpenRun, *, waits: bool = False) -> list[Effect]:
    """Record that no crash from now on is held against it.

    A turn that waits is not even beside it, if it asks before it goes on.
    """
    run.resuming = None
    over = ledger.suspects.over(run.row.run_id)
    at_work = run.row.at_work and not (waits and run.asks)
    effects: list[Effect] = []
    if run.row.alone or at_work != run.row.at_work:
        run.row = replace(run.row, alone=False, at_work=at_work)
        effects += ledger.commit((SetRun.of(run.row),), (), run.durability)
    return effects + next_suspect(ledger) if over else effects


def turn_waits(ledger: "Ledger", news: TurnWaits) -> list[Effect]:
    desk = ledger.desks.get(news.agent_id)
    if desk is None or desk.running is None or desk.incarnation != news.incarnation:
        return []
    desk.in_wait, run = news.waits, desk.running
    if news.waits:
        return [*no_longer_alone(ledger, run, waits=True), *judge_again(ledger, _concerned(ledger, run))]
    return [time_solo(ledger, run)] if run.row.alone else []  # from here: before, it waited for a slot


def turn_resumes(ledger: "Ledger", ask: TurnResumes, session: Address) -> list[Effect]:
    desk = ledger.desk_of_turn(ask)
    run = desk.running if desk else None
    if run is None:
        return [Send(session, TurnMayResume(ask.run_id, ask.number))]
    if run.outran or not run.suspect:
        run.row = replace(run.row, at_work=True)
        go = Send(session, TurnMayResume(ask.run_id, ask.number))
        return ledger.commit((SetRun.of(run.row),), (), run.durability, go)
    run.resuming = ask.number
    ledger.suspects.resumes(run.row.run_id, _place_in_line(ledger, run))
    return next_suspect(ledger)


def held_back(ledger: "Ledger", run: OpenRun) -> OpenRun | None:
    """One that executes and may have caused the crashes that this suspect would fail for."""
    row = run.row
    if not doubted(row, ledger.attempts_of(ledger.desks[row.agent_id].kind)):
        return None
    others = (ledger.witnesses.get(serial) for doubt in row.doubts for serial in doubt)
    return next((other for other in others if other is not None and _executes(ledger, other)), None)


def _executes(ledger: "Ledger", run: OpenRun) -> bool:
    desk = ledger.desks.get(run.row.agent_id)
    return desk is not None and desk.running is run and not desk.in_wait


def note_doubts(ledger: "Ledger", row: RunRow) -> None:
    for serial in {serial for doubt in row.doubts for serial in doubt} - {NEVER_KNOWN}:
        ledger.beside.setdefault(serial, set()).add(row.run_id)


def clear_up(ledger: "Ledger", ended: OpenRun, *, was_at_work: bool, crashed: bool) -> list[OpenRun]:
    """Apply the end of a run to the suspects that it was beside; returns these."""
    serial = ended.row.serial
    runs = _concerned(ledger, ended)
    ledger.beside.pop(serial, None)
    ledger.witnesses.pop(serial, None)
    for run in runs:
        if crashed:
            run.row = guilty(run.row, serial)
        elif was_at_work:
            attempts = ledger.attempts_of(ledger.desks[run.row.agent_id].kind)
            run.row = cleared(run.row, serial, attempts or NOT_KNOWN_HERE)
        else:
            run.row = never_known(run.row, serial)
        ledger.suspects.moves(run.row.run_id, _place_in_line(ledger, run))
    return runs


def _concerned(ledger: "Ledger", run: OpenRun) -> list[OpenRun]:
    """The suspects that are in doubt about this run."""
    return [ledger.runs[other] for other in ledger.beside.get(run.row.serial, ()) if other in ledger.runs]


def judge_again(ledger: "Ledger", runs: list[OpenRun]) -> list[Effect]:
    """More is known of the crashes of these suspects."""
    effects: list[Effect] = []
    for run in runs:
        desk = ledger.desks.get(run.row.agent_id)
        if desk is None:
            continue
        if run.resuming is not None:
            ledger.suspects.resumes(run.row.run_id, _place_in_line(ledger, run))
            effects += next_suspect(ledger)
        elif run.state == "queued":
            effects += [*verdicts.judge_next(ledger, desk), *ledger.settle(desk), *ledger.activate(desk)]
    return effects
