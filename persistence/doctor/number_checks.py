"""Checks of who owns the store, and of the numbers that must never go back."""

from collections.abc import Iterator

from ..processes import TornRow, row_of
from .check import CheckProblem, check
from .inspection import Inspection
from .owner import look_for_owner

USED_NUMBERS = {
    "next_agent_id": "SELECT max(agent_id) FROM agents",
    "next_serial": "SELECT max(n) FROM"
    " (SELECT max(serial) AS n FROM runs UNION ALL SELECT max(serial) FROM inbox)",
    "next_seq": "SELECT max(seq) FROM events",
}
COUNTED = {
    "known": "SELECT count(*) FROM agents NOT INDEXED WHERE status <> 'closed'",
    "closed": "SELECT count(*) FROM agents NOT INDEXED WHERE status = 'closed'",
}
HIGHEST_EPOCH = """SELECT max(n) FROM (
    SELECT max(epoch) AS n FROM agents UNION ALL SELECT max(epoch) FROM runs
    UNION ALL SELECT max(epoch) FROM snapshots UNION ALL SELECT max(epoch) FROM owner)"""


@check(
    "owner",
    "The record of the owner names nobody, one that is alive, or one that gave the store back (G10).",
    severity="note",
    advice="Whoever opens the store next takes it over.",
)
def owner(store: Inspection) -> Iterator[CheckProblem | str]:
    seen = look_for_owner(store.store, store.connection)
    if seen is not None and not seen.pid:
        yield CheckProblem(seen.said, "warning", "--repair clears it.", repairable=True)
    elif seen is not None and not seen.alive and not seen.released:
        yield seen.said


@check(
    "meta",
    "One row says where the numbers go on.",
    advice="--repair writes it again from the rows there are.",
    repairable=True,
)
def meta(store: Inspection) -> Iterator[str]:
    found = list(store.rows("SELECT id, nonce FROM meta LIMIT 3"))
    ids = [row[0] for row in found]
    if ids != [1]:
        yield f"meta has {'no row' if not found else f'rows {ids}'}"
    elif not found[0][1]:
        yield "meta has no nonce, which the ids of runs begin with"


@check(
    "counts",
    "The numbers of open and of closed agents are kept right, so that nobody has to count them.",
    advice="--repair counts them.",
    repairable=True,
)
def counts(store: Inspection) -> Iterator[str]:
    for column, counted in COUNTED.items():
        for kept, number in store.rows(f"SELECT {column}, ({counted}) FROM meta"):
            if kept != number:
                yield f"{column} is {kept:,}, and there are {number:,} such agents"


@check(
    "next-numbers",
    "No number of an agent, run, message or event is used twice.",
    advice="--repair goes on after the highest one.",
    repairable=True,
)
def next_numbers(store: Inspection) -> Iterator[str]:
    for column, used in USED_NUMBERS.items():
        for kept, highest in store.rows(f"SELECT {column}, ({used}) FROM meta"):
            if highest is not None and kept <= highest:
                yield f"{column} is {kept}, and {highest} is used already"


@check(
    "epochs",
    "Nothing is from an opening of the store that is still to come: run ids hold its number.",
    advice="--repair raises the number.",
    repairable=True,
)
def epochs(store: Inspection) -> Iterator[str]:
    for epoch, highest in store.rows(f"SELECT epoch, ({HIGHEST_EPOCH}) FROM meta"):
        if highest is not None and highest > epoch:
            yield f"the store was opened {epoch} times, and there are rows of opening {highest}"


@check(
    "processes",
    "A record names the process that it is of, and nobody's process is left behind.",
    severity="note",
    advice="Whoever opens the store next ends what is left of them, and forgets them.",
)
def processes(store: Inspection) -> Iterator[CheckProblem | str]:
    cursor = store.connection.execute("SELECT * FROM processes ORDER BY number")
    names = [column[0] for column in cursor.description]
    rows = [row_of(dict(zip(names, found, strict=True))) for found in cursor]
    seen = look_for_owner(store.store, store.connection) if rows else None
    epoch = seen.epoch if seen is not None and seen.alive else None
    left = 0
    for row in rows:
        if isinstance(row, TornRow):
            yield CheckProblem(f"the record of process {row.number} names none: {row.problem}", "warning")
        elif row.owner.epoch != epoch:
            left += 1
    if left:
        yield f"{left:,} processes are recorded that nobody has any more: they may still be there"


CHECKS = (owner, meta, counts, next_numbers, epochs, processes)
