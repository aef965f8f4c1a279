"""Stores with many agents, made without a runtime; and what is in one afterwards."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from greenroom import Stats
from greenroom.persistence.codec import dumps
from greenroom.persistence.records import AddAgent, AddRun, PutSnapshot, Record
from greenroom.persistence.rows import AgentRow, RunRow, Snapshot
from greenroom.persistence.state_codec import encode_state
from greenroom.persistence.store import Store
from greenroom.types import AgentId, RunId

BATCH = 20_000


def path_of(number: int) -> str:
    """Where the agent with this number stands: a thousand in a tree."""
    return f"/t{number // 1_000}/a{number % 1_000}"


def fill(path: Path, known: int, *, kind: str, state: Any, unfinished: int = 0) -> None:
    """Write that many agents as the runtime does; the first ones have a run that has not begun."""
    store, _ = Store.open(str(path), "memory")
    config, seven = dumps(None, "a config"), dumps(7, "an input")
    data = encode_state(state, "cloudpickle", "a state")
    for first in range(0, known, BATCH):
        records: list[Record] = []
        for number in range(first, min(first + BATCH, known)):
            agent_id, where = AgentId(number + 1), path_of(number)
            records.append(AddAgent(AgentRow(agent_id, where, kind, 1, config, 1.0, 1.0)))
            records.append(PutSnapshot(agent_id, Snapshot("cloudpickle", 1, data)))
            if number < unfinished:
                run_id = RunId(f"left-{number}")
                records.append(AddRun(RunRow(run_id, number + 1, agent_id, where, seven, 1.0)))
        store.write(records)
        store.tidy()
    store.close()


async def all_written(stats: Callable[[], Awaitable[Stats]]) -> None:
    """Wait until all that a runtime has accepted is in its file."""
    while (await stats()).unwritten:
        await asyncio.sleep(0.01)


def counted(path: Path, question: str) -> int:
    """The number that a SELECT finds in a file that nobody has open."""
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute(question).fetchone()[0])
    finally:
        connection.close()
