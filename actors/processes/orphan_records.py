"""Processes that earlier openings left: they are ended, and tried again if they would not go."""

from typing import TYPE_CHECKING

from ...persistence.processes import VERDICT_TEXTS
from ..effects import StartTimer
from .entry import START_TIMEOUT_SECONDS, Effects, LookAgain, Say
from .protocol import (
    EndOrphans,
    OrphansEnded,
)

if TYPE_CHECKING:
    from .table import ProcessTable


def look_at_left(table: "ProcessTable") -> Effects:
    erased = tuple(row for row in table.left.values() if row.number in table.erased)
    others = tuple(row for row in table.left.values() if row.number not in table.erased)
    return [EndOrphans(rows, owned) for rows, owned in ((others, False), (erased, True)) if rows]


def left_ended(table: "ProcessTable", news: OrphansEnded) -> Effects:
    """Some are gone, some are not ours, some would not go: those are tried again."""
    effects: Effects = []
    freed: set[int | None] = set()
    for number, verdict in news.verdicts.items():
        if number in table.entries:
            effects += table.gone(number)
        if verdict == "spared" and number in table.erased:
            continue  # its agent was deleted while this was looked at
        row = table.left.pop(number, None)
        if row is None:
            continue
        table.erased.discard(number)
        freed.add(row.agent_id)
        if verdict == "spared":
            table.spared[number] = row
            continue
        table.records.drop(number)
        if verdict in ("torn", "elsewhere", "there"):
            why = VERDICT_TEXTS[verdict]  # type: ignore[index]
            said = "ended what was left of it" if verdict != "elsewhere" else "it cannot be looked for here"
            effects.append(Say(f"a process of {row.path or 'some agent'} is forgotten: {why}; {said}"))
    for number, problem in news.problems.items():
        row = table.left.get(number)
        if row is None and number in table.entries:
            row = table.entries[number].row
        if row is not None and table.looks == 0:
            said = f"what a dead owner left of {row.path or 'some agent'} could not be ended: {problem}"
            effects.append(Say(f"{said}. It is tried again", grave=True))
    if news.problems and not table.looking:
        table.looking = True
        table.looks += 1
        effects.append(StartTimer(min(2.0 ** (table.looks - 1), START_TIMEOUT_SECONDS), LookAgain()))
    agents_with_orphans = {row.agent_id for row in table.left.values()}
    for entry in list(table.entries.values()):
        waits = entry.stage == "queued" and entry.number not in table.places_of(entry.ask).waiting
        if waits and entry.agent_id in freed - agents_with_orphans:
            effects += table.queue(entry)
    return [*effects, *table.write(), *table.all_ended()]


def look_again(table: "ProcessTable") -> Effects:
    table.looking = False
    ours = [
        entry.row for entry in table.entries.values() if entry.stage == "ending" and entry.row is not None
    ]
    effects = look_at_left(table)
    return [*effects, EndOrphans(tuple(ours), owned=True)] if ours else effects
