"""Checks of the runs and of the events that tell of them."""

from collections.abc import Iterator

import msgspec

from ...types import RunId
from .agent_checks import OF_NOBODY, SET_ASIDE
from .check import BACKUP, CheckProblem, check
from .inspection import Inspection

TERMINAL = "('run.completed', 'run.failed', 'run.interrupted')"


@check(
    "one-run-per-id",
    "A run id given twice is the same run.",
    advice=BACKUP,
)
def one_run_per_id(store: Inspection) -> Iterator[str]:
    for run_id, count in store.rows(
        "SELECT run_id, count(*) AS n FROM runs NOT INDEXED GROUP BY run_id HAVING n > 1"
    ):
        yield f"{count} runs have the id {run_id}"


@check(
    "runs-of-agents",
    "Every run belongs to an agent that is there (G3): nobody would execute it.",
    advice=SET_ASIDE,
    repairable=True,
)
def runs_of_agents(store: Inspection) -> Iterator[str]:
    for run_id, agent_id, status in store.rows(
        f"SELECT run_id, agent_id, status FROM runs WHERE {OF_NOBODY}"
    ):
        yield f"run {run_id} ({status}) is of agent {agent_id}, which is not there"


@check(
    "runs-of-closed-agents",
    "A closed agent has no run without an outcome (G2).",
    advice="--repair gives it the outcome that closing gives: interrupted.",
    repairable=True,
)
def runs_of_closed_agents(store: Inspection) -> Iterator[str]:
    for run_id, path in store.rows(
        "SELECT r.run_id, a.path FROM runs AS r JOIN agents AS a USING (agent_id)"
        " WHERE r.status = 'accepted' AND a.status = 'closed'"
    ):
        yield f"run {run_id} waits for {path}, which is closed"


@check(
    "outcomes",
    "A run is accepted and has no outcome, or has exactly one and all that belongs to it (G2).",
    advice=BACKUP,
)
def outcomes(store: Inspection) -> Iterator[str]:
    for run_id, problem in store.rows("""
        SELECT run_id, CASE
            WHEN status NOT IN ('accepted', 'completed', 'failed', 'interrupted')
                THEN 'has the status ' || status
            WHEN attempt < 0 THEN 'has begun ' || attempt || ' times'
            WHEN attempt > 0 AND started_at IS NULL THEN 'has begun, but at no time'
            -- an error it may have: an interrupt that was answered, and is not carried out yet
            WHEN status = 'accepted' AND coalesce(result, ended_at) IS NOT NULL
                THEN 'is accepted, and has some of an outcome'
            WHEN status <> 'accepted' AND ended_at IS NULL THEN 'has ended, but at no time'
            WHEN status = 'completed' AND result IS NULL THEN 'completed without a result'
            WHEN status = 'completed' AND attempt < 1 THEN 'completed without having begun'
            WHEN status = 'completed' AND error IS NOT NULL THEN 'completed with an error'
            WHEN status IN ('failed', 'interrupted') AND error IS NULL THEN 'does not say why it ended'
            WHEN status IN ('failed', 'interrupted') AND result IS NOT NULL
                THEN 'has not completed, and has a result'
        END AS problem FROM runs WHERE problem IS NOT NULL"""):
        yield f"run {run_id} {problem}"


@check(
    "terminal-events",
    "Every run that has ended has exactly one terminal event, its last one, and no other run has any (G2).",
    advice="Nothing can tell which of the two is right: the outcome that the run has counts.",
)
def terminal_events(store: Inspection) -> Iterator[CheckProblem]:
    for run_id, status, last, count, kind, final in store.ticking(
        "events of runs", store.rows(TERMINAL_EVENTS_OF_RUNS)
    ):
        problem = _told_wrongly(f"run {run_id}", status, last, count, kind, final)
        if problem is not None:
            yield problem


def _told_wrongly(
    run: str, status: str, last: int | None, count: int | None, kind: str | None, final: int | None
) -> CheckProblem | None:
    """`count` terminal events, `kind` among them; `final` is the number of the last, `last` of any."""
    if not count and status != "accepted":
        advice = "--repair adds the event."
        return CheckProblem(f"{run} {status}, and no event tells of it", None, advice, repairable=True)
    if not count:
        return None
    if status == "accepted":
        advice = "It is executed again when the store is opened."
        return CheckProblem(f"{run} has no outcome, and an event {kind}", None, advice)
    if count > 1:
        advice = "--repair keeps the first that is right, and sets the others aside."
        return CheckProblem(
            f"{run} {status}, and {count} events tell of its end", None, advice, repairable=True
        )
    if kind != f"run.{status}":
        return CheckProblem(f"{run} {status}, and its event is {kind}")
    if final != last:
        return CheckProblem(f"{run} has an event after its {kind}", "warning", "Nothing has to be done.")
    return None


TERMINAL_EVENTS_OF_RUNS = f"""
    SELECT r.run_id, r.status, e.last, e.count, e.kind, e.final
    FROM runs AS r NOT INDEXED LEFT JOIN (
        SELECT run_id, max(seq) AS last, count(*) FILTER (WHERE type IN {TERMINAL}) AS count,
               min(type) FILTER (WHERE type IN {TERMINAL}) AS kind,
               max(seq) FILTER (WHERE type IN {TERMINAL}) AS final
        FROM events WHERE run_id IS NOT NULL GROUP BY run_id
    ) AS e ON e.run_id = r.run_id
    WHERE r.agent_id NOT IN (SELECT agent_id FROM erased)
        AND (e.run_id IS NOT NULL OR (r.status <> 'accepted' AND (SELECT min(seq) FROM events) = 1))
"""
"""With what the kept events say of each run: the oldest are forgotten, a run's terminal one never before
its others. So a run without any is no finding, unless nothing was forgotten yet."""


@check(
    "superseded",
    "A run that has ended is its agent's last outcome, or waits for retention to take it, and never both.",
    advice="--repair puts it where it belongs.",
    repairable=True,
)
def superseded(store: Inspection) -> Iterator[CheckProblem | str]:
    for (run_id,) in store.rows(f"SELECT run_id FROM runs WHERE serial IN ({QUEUED_TOO_EARLY})"):
        yield f"run {run_id} waits for retention, and is still needed"
    for (run_id,) in store.rows(f"SELECT run_id FROM runs WHERE serial IN ({NEVER_QUEUED})"):
        yield CheckProblem(f"run {run_id} is nobody's last outcome, and is kept for ever", "warning")


QUEUED_TOO_EARLY = """
    SELECT s.serial FROM (SELECT serial FROM superseded UNION SELECT serial FROM kept) AS s
    CROSS JOIN runs AS r USING (serial) JOIN agents AS a USING (agent_id)
    WHERE r.status = 'accepted' OR a.last_run_id = r.run_id
"""
NEVER_QUEUED = """
    SELECT r.serial FROM runs AS r NOT INDEXED JOIN agents AS a USING (agent_id)
    WHERE r.status <> 'accepted' AND a.last_run_id <> r.run_id
    AND r.serial NOT IN (SELECT serial FROM superseded) AND r.serial NOT IN (SELECT serial FROM kept)
"""


@check(
    "awaits",
    "A continuation names the runs that it waits for.",
    advice=f"The store cannot be opened like this. {BACKUP}",
)
def awaits(store: Inspection) -> Iterator[str]:
    for run_id, text in store.rows("SELECT run_id, awaits FROM runs WHERE awaits IS NOT NULL"):
        if _awaited(text) is None:
            yield f"run {run_id} waits for {text!r}, which is no list of runs"


@check(
    "awaited-runs",
    "The runs that a continuation waits for are there.",
    severity="note",
    advice="It starts without their outcomes. That is right if their agents were deleted.",
)
def awaited_runs(store: Inspection) -> Iterator[str]:
    for run_id, awaited in store.rows("""
        SELECT r.run_id, j.value FROM runs AS r, json_each(r.awaits) AS j
        WHERE r.status = 'accepted' AND json_valid(r.awaits)
        AND NOT EXISTS (SELECT 1 FROM runs AS w WHERE w.run_id = j.value)"""):
        yield f"run {run_id} waits for {awaited}, which is not there"


@check(
    "after-cycles",
    "No continuation waits for itself, by whatever detour: it would never start.",
    advice="Open the store and interrupt() one of these runs.",
)
def after_cycles(store: Inspection) -> Iterator[str]:
    waiting: dict[str, tuple[RunId, ...]] = {}
    for run_id, text in store.rows(
        "SELECT run_id, awaits FROM runs WHERE status = 'accepted' AND awaits IS NOT NULL"
    ):
        waiting[run_id] = tuple(awaited for awaited in _awaited(text) or () if awaited != run_id)
    for cycle in cycles(waiting):
        yield f"these runs wait for each other: {', '.join(cycle)}"


def cycles(waiting: dict[str, tuple[RunId, ...]]) -> Iterator[tuple[str, ...]]:
    """One cycle for every knot of runs that wait for each other, each run looked at once."""
    done: set[str] = set()
    for start in waiting:
        trail: dict[str, Iterator[RunId]] = {}  # in the order in which they were entered
        here: str | None = start if start not in done else None
        while here is not None:
            trail.setdefault(here, iter(waiting.get(here, ())))
            following = next(trail[here], None)
            if following is None:
                done.add(here)
                trail.popitem()
                here = next(reversed(trail), None)
            elif following in trail:
                names = list(trail)
                yield tuple(names[names.index(following) :])
            elif following in waiting and following not in done:
                here = following


def _awaited(text: str) -> tuple[RunId, ...] | None:
    try:
        return msgspec.json.decode(text, type=tuple[RunId, ...])
    except (msgspec.DecodeError, UnicodeError):
        return None


@check(
    "events",
    "Events are numbered from 1 on, in order, and each can be shown.",
    advice=BACKUP,
)
def events(store: Inspection) -> Iterator[str]:
    before = 0
    rows = store.rows("SELECT seq, type, path, json_valid(CAST(data AS TEXT)) FROM events NOT INDEXED")
    for seq, kind, path, readable in store.ticking("events", rows):
        if seq <= before:
            yield f"event {seq} comes after event {before}"
        before = seq
        if kind not in EVENT_TYPES:
            yield f"event {seq} is of no known type, {kind}"
        elif not readable or not path.startswith("/"):
            yield f"event {seq} cannot be shown"


EVENT_TYPES = frozenset(
    f"agent.{fact}"
    for fact in ("spawned", "started", "start_failed", "evicted", "reloaded", "closed", "deleted")
) | {
    *(f"run.{fact}" for fact in ("accepted", "started", "progress", "diverged")),
    *(f"run.{fact}" for fact in ("completed", "failed", "interrupted")),
    "message.accepted",
    "store.healed",
}

CHECKS = (
    one_run_per_id,
    runs_of_agents,
    runs_of_closed_agents,
    outcomes,
    terminal_events,
    superseded,
    awaits,
    awaited_runs,
    after_cycles,
    events,
)
