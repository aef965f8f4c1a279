"""Checks of the agents, their inboxes and their snapshots."""

from collections.abc import Iterator

from ...errors import InvalidPath
from ...paths import check_path
from .check import BACKUP, CheckProblem, check
from .inspection import Inspection

AHEAD = 86_400.0
"""Seconds that a time may lie in the future: clocks differ, but not by a day."""
SET_ASIDE = "--repair sets it aside, in the table lost_found."
OF_NOBODY = """agent_id NOT IN (SELECT agent_id FROM agents)
    AND agent_id NOT IN (SELECT agent_id FROM erased)"""
"""Of what is left of a deleted agent, the owner sees to it."""


@check(
    "one-agent-per-path",
    "One open agent per path (G7).",
    advice="Open the store and close() the agent at this path: the other one is there then.",
)
def one_agent_per_path(store: Inspection) -> Iterator[str]:
    for path, count in store.rows(  # the index that forbids it may be the one that is broken
        "SELECT path, count(*) AS n FROM agents NOT INDEXED WHERE status <> 'closed'"
        " GROUP BY path HAVING n > 1"
    ):
        yield f"{count} open agents have the path {path}"


@check(
    "paths",
    "Every path is one that an agent can have.",
    advice=f"Nobody can reach this agent. {BACKUP}",
)
def paths(store: Inspection) -> Iterator[str]:
    rows = store.rows("SELECT agent_id, path FROM agents NOT INDEXED")
    for agent_id, path in store.ticking("paths", rows):
        try:
            check_path(path)
        except InvalidPath as error:
            yield f"agent {agent_id}: {error}"


@check(
    "agents-at-rest",
    "An agent at rest is idle, failed or closed, and has a kind, versions and an incarnation.",
    advice=BACKUP,
)
def agents_at_rest(store: Inspection) -> Iterator[str]:
    for path, problem in store.rows("""
        SELECT path, CASE
            WHEN status NOT IN ('idle', 'failed', 'closed') THEN 'has the status ' || status
            WHEN kind = '' THEN 'has no kind'
            WHEN incarnation IS NULL OR incarnation < 0 THEN
                'has the incarnation ' || coalesce(incarnation, 'NULL')
            WHEN status = 'failed' AND error IS NULL THEN 'failed and does not say why'
        END AS problem FROM agents WHERE problem IS NOT NULL"""):
        yield f"{path} {problem}"


@check(
    "last-outcome",
    "An agent's last outcome stays readable (G5): it names a run of its own that has ended.",
    advice="--repair names the run of the agent that ended last.",
    repairable=True,
)
def last_outcome(store: Inspection) -> Iterator[str]:
    for path, last_run_id, problem, _ in store.rows(BAD_LAST_RUNS):
        yield f"{path}: its last run {last_run_id or ''} {problem}"


BAD_LAST_RUNS = """
    SELECT a.path, a.last_run_id, CASE
        WHEN a.last_run_id IS NULL THEN 'is not named, though runs of it have ended'
        WHEN r.run_id IS NULL THEN 'is not there'
        WHEN r.agent_id <> a.agent_id THEN 'is of another agent'
        WHEN r.status = 'accepted' THEN 'has not ended'
    END AS problem, a.agent_id
    FROM agents AS a LEFT JOIN runs AS r ON r.run_id = a.last_run_id
    WHERE CASE WHEN a.last_run_id IS NULL
        THEN EXISTS (SELECT 1 FROM runs WHERE runs.agent_id = a.agent_id AND status <> 'accepted')
        ELSE r.run_id IS NULL OR r.agent_id <> a.agent_id OR r.status = 'accepted' END
"""


@check(
    "failed-starts",
    "An agent whose session could not be opened says why; its next run tries again.",
    severity="note",
    advice="See what its error asks for, then give it a run.",
)
def failed_starts(store: Inspection) -> Iterator[str]:
    for path, error in store.rows("SELECT path, error FROM agents WHERE status = 'failed'"):
        yield f"{path} could not start: {error}"


@check(
    "inbox-of-agents",
    "Every message is in the inbox of an agent that is there.",
    advice=SET_ASIDE,
    repairable=True,
)
def inbox_of_agents(store: Inspection) -> Iterator[str]:
    for serial, agent_id in store.rows(f"SELECT serial, agent_id FROM inbox WHERE {OF_NOBODY}"):
        yield f"message {serial} is for agent {agent_id}, which is not there"


@check(
    "snapshots-of-agents",
    "Every snapshot is of an agent that is there.",
    advice=SET_ASIDE,
    repairable=True,
)
def snapshots_of_agents(store: Inspection) -> Iterator[str]:
    for (agent_id,) in store.rows(f"SELECT agent_id FROM snapshots WHERE {OF_NOBODY}"):
        yield f"there is a snapshot of agent {agent_id}, which is not there"


@check(
    "snapshots-there",
    "An agent that had a state has a snapshot (G3): it must not silently begin anew.",
    advice=f"{BACKUP} Without one, delete() the agent.",
)
def snapshots_there(store: Inspection) -> Iterator[str]:
    for (path,) in store.rows("""
        SELECT path FROM agents AS a
        WHERE NOT EXISTS (SELECT 1 FROM snapshots AS s WHERE s.agent_id = a.agent_id)
        AND (a.stateful = 1 OR EXISTS
            (SELECT 1 FROM runs AS r WHERE r.agent_id = a.agent_id AND r.status = 'completed'))"""):
        yield f"{path} had a state, and has no snapshot"


@check(
    "stateful",
    "An agent that has a snapshot says so: if it is lost one day, that is found.",
    severity="warning",
    advice="--repair has it say so.",
    repairable=True,
)
def stateful(store: Inspection) -> Iterator[str]:
    for (path,) in store.rows(
        "SELECT path FROM agents JOIN snapshots USING (agent_id) WHERE stateful IS NOT 1"
    ):
        yield f"{path} has a snapshot, and does not say so"


@check(
    "times",
    "Every time lies between 1970 and tomorrow.",
    severity="warning",
    advice="See whether this machine's clock is right. What is kept by age is kept too long or too short.",
)
def times(store: Inspection) -> Iterator[CheckProblem | str]:
    for table, (name, columns) in TIMES.items():
        for column in columns:
            for which, at in store.rows(
                f"SELECT {name}, {column} FROM {table} WHERE NOT ({column} > 0 AND {column} < ?)",
                store.now + AHEAD,
            ):
                yield f"{column} of {table} {which} is {at}"


TIMES = {
    "agents": ("path", ("created_at", "updated_at")),
    "runs": ("run_id", ("accepted_at", "started_at", "ended_at")),
    "inbox": ("serial", ("at",)),
    "events": ("seq", ("at",)),
}

CHECKS = (
    one_agent_per_path,
    paths,
    agents_at_rest,
    last_outcome,
    failed_starts,
    inbox_of_agents,
    snapshots_of_agents,
    snapshots_there,
    stateful,
    times,
)
