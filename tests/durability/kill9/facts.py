"""What a store's file says while nobody has it open."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from greenroom import Runtime
from greenroom.persistence.codec import loads
from greenroom.persistence.queries import FindRuns, LoadAgent
from greenroom.persistence.reader import Reader
from greenroom.persistence.rows import EventRow
from greenroom.persistence.state_codec import decode_state

ALL = 10_000_000


class AgentFact(Struct):
    """One agent. `state` is None if no turn of it was ever committed."""

    agent_id: int
    path: str
    kind: str
    open: bool
    config: Any
    state: dict[str, Any] | None
    inbox: list[str]


class RunFact(Struct):
    """One run; `status` is `accepted` until it has an outcome."""

    run_id: str
    agent_id: int
    path: str
    serial: int
    input: dict[str, Any]
    status: str
    attempt: int
    awaits: tuple[str, ...]
    result: Any
    error: str | None
    error_type: str | None = None
    crashes: int = 0


class EventFact(Struct):
    seq: int
    at: float
    type: str
    path: str
    run_id: str | None
    data: dict[str, Any]


class Facts(Struct):
    """All of a store. `wrong` says what SQL alone can tell to be wrong."""

    agents: dict[int, AgentFact]
    runs: dict[str, RunFact]
    events: list[EventFact]
    wrong: list[str]


RUNS = "SELECT run_id FROM runs WHERE agent_id NOT IN (SELECT agent_id FROM erased)"
EVENTS = """SELECT seq, at, type, path, run_id, data FROM events AS o WHERE NOT EXISTS (
    SELECT 1 FROM erased AS e WHERE e.path = o.path AND o.seq >= e.low AND o.seq < e.high) ORDER BY seq"""
"""What is left of deleted agents is removed in small steps. It counts as gone from the deletion on."""

QUESTIONS = {
    "the file is damaged": "SELECT * FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
    "a run has an impossible status": """SELECT run_id, status FROM runs
        WHERE status NOT IN ('accepted', 'completed', 'failed', 'interrupted')""",
    "an agent has an impossible status": """SELECT path, status FROM agents
        WHERE status NOT IN ('idle', 'failed', 'closed')""",
    "two open agents have one path": """SELECT path, count(*) FROM agents
        WHERE status <> 'closed' GROUP BY path HAVING count(*) > 1""",
    "a run has no agent": """SELECT run_id FROM runs
        WHERE agent_id NOT IN (SELECT agent_id FROM agents UNION SELECT agent_id FROM erased)""",
    "a message has no agent": """SELECT serial, agent_id FROM inbox
        WHERE agent_id NOT IN (SELECT agent_id FROM agents UNION SELECT agent_id FROM erased)""",
    "a snapshot has no agent": """SELECT agent_id FROM snapshots
        WHERE agent_id NOT IN (SELECT agent_id FROM agents)""",
    "the number of known agents is wrong": """SELECT known FROM meta
        WHERE known <> (SELECT count(*) FROM agents WHERE status <> 'closed')""",
    "a closed agent has an open run": """SELECT run_id FROM runs JOIN agents USING (agent_id)
        WHERE runs.status = 'accepted' AND agents.status = 'closed'""",
    "an outcome lacks its time": """SELECT run_id FROM runs
        WHERE (status <> 'accepted') <> (ended_at IS NOT NULL)""",
}


def copied(store: Path, to: Path) -> Path:
    """A copy of the store with its log and its key, which looking at it may change."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for suffix in ("", "-wal", ".key"):
        source = store.with_name(store.name + suffix)
        if source.exists():
            shutil.copy(source, to / source.name)
    return to / store.name


def read(store: Path) -> Facts:
    """All that there is in a store that nobody has open."""
    with sqlite3.connect(store) as database:
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return Facts({}, {}, [], [])  # its maker was killed before it had made the tables
        wrong = [
            f"{what}: {rows[:5]}"
            for what, question in QUESTIONS.items()
            if (rows := database.execute(question).fetchall())
        ]
        agent_ids = [row[0] for row in database.execute("SELECT agent_id FROM agents")]
        run_ids = tuple(row[0] for row in database.execute(RUNS))
        events = [_event(EventRow(*row)) for row in database.execute(EVENTS)]
        reader = Reader.open(str(store))
        try:
            agents = {agent_id: _agent(reader, agent_id) for agent_id in agent_ids}
            runs = {run_id: _run(reader, run_id) for run_id in run_ids}
        finally:
            reader.close()
    database.close()
    return Facts(agents, runs, events, wrong)


def shown(store: Path) -> list[str]:
    """What a runtime without any of the kinds shows as under way: nothing may be."""
    with Runtime(store) as runtime:
        busy = ("starting", "running", "interrupting")
        found = [f"{i.path} is shown {i.status}" for i in runtime.list(limit=ALL) if i.status in busy]
        if running := runtime.stats().running:
            found.append(f"{running} runs are shown running")
    return found


def _agent(reader: Reader, agent_id: int) -> AgentFact:
    image: Any = reader.read(LoadAgent(agent_id))  # type: ignore[arg-type]
    row, snapshot = image.row, image.snapshot
    return AgentFact(
        agent_id,
        row.path,
        row.kind,
        row.status != "closed",
        loads(row.config),
        decode_state(snapshot.data, snapshot.codec) if snapshot else None,  # type: ignore[arg-type]
        [loads(message.body).strip() for message in image.inbox],  # type: ignore[attr-defined],
    )


def _run(reader: Reader, run_id: str) -> RunFact:
    (row,) = reader.read(FindRuns((run_id,)))  # type: ignore[arg-type,misc]
    return RunFact(
        run_id,
        row.agent_id,
        row.path,
        row.serial,
        loads(row.input),  # type: ignore[arg-type]
        row.status,
        row.attempt,
        row.awaits,
        None if row.result is None else loads(row.result),
        row.error,
        row.error_type,
        row.crashes,
    )


def _event(row: EventRow) -> EventFact:
    return EventFact(row.seq, row.at, row.type, row.path, row.run_id, msgspec.json.decode(row.data))
