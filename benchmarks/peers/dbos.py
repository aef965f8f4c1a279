"""DBOS on SQLite: a workflow for each run, with one step, whose input and output it stores.

An agent is what its last workflow returned: the caller gives the state to the next one. Asynchronous
workflows run on the loop; a caller waits for the handle it got, with no polling. SQLite is as greenroom has
it, WAL with `synchronous=NORMAL` for "process" and FULL for "power"; as shipped it has neither, and does
less. Workflows that live on and wait for messages (`recv`) would poll the database for each; it keeps no
agent in memory, so there is nothing to reload, and it exchanges no messages that are not stored.
"""

import asyncio
import logging
import sqlite3
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from dbos import DBOS

from peers.contest import (
    PAUSE,
    SLOTS,
    Contest,
    Values,
    advance,
    microseconds,
    new_state,
    pick,
    right,
    squares,
    to_ideal,
)

contest = Contest("dbos", note="an async workflow a run, SQLite in WAL mode")


class Normal(sqlite3.Connection):
    """Waits for the disk as greenroom's `process` does."""

    level = "NORMAL"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode = WAL")
        self.execute(f"PRAGMA synchronous = {self.level}")


class Full(Normal):
    """As `power` does."""

    level = "FULL"


@DBOS.step()
async def work(state: dict[str, Any], given: int) -> dict[str, Any]:
    return advance(state, given)


@DBOS.workflow()
async def turn(state: dict[str, Any], given: int) -> dict[str, Any]:
    return await work(state, given)


@DBOS.step()
async def sleep(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 1


@DBOS.workflow()
async def wait(seconds: float) -> int:
    return await sleep(seconds)


@DBOS.workflow()
async def square(number: int) -> int:
    return number * number


@DBOS.workflow()
async def parent(children: int) -> int:
    handles = [await DBOS.start_workflow_async(square, number) for number in range(children)]
    return sum([await handle.get_result() for handle in handles])


@asynccontextmanager
async def launched(connection: type[Normal] = Normal) -> AsyncGenerator[None, None]:
    with tempfile.TemporaryDirectory(prefix="peers-bench-") as folder:
        DBOS(
            config={
                "name": "peers-bench",
                "system_database_url": f"sqlite:///{Path(folder) / 'dbos.db'}",
                "db_engine_kwargs": {"connect_args": {"factory": connection}},
                "log_level": "ERROR",
                "run_admin_server": False,
            }
        )
        DBOS.launch()
        logging.getLogger("dbos").setLevel(logging.ERROR)
        yield
        DBOS.destroy()


@contest.does(
    "wait, stored", pick(100, 10), note="synchronous=NORMAL; until the workflow is stored and begun"
)
async def waits(number: int) -> Values:
    async with launched():
        while True:
            times, handles = [], []
            for _ in range(number):
                begun = time.perf_counter()
                handles.append(await DBOS.start_workflow_async(turn, new_state(), 1))
                times.append(time.perf_counter() - begun)
            told = [(await handle.get_result())["n"] for handle in handles]
            right("first turns", told, [1] * number)
            yield microseconds(times)


@contest.does("turns process", pick(200, 10), Normal, note="synchronous=NORMAL; 200 agents")
@contest.does("turns power", pick(200, 10), Full, note="synchronous=FULL; 200 agents")
async def turns(number: int, connection: type[Normal]) -> Values:
    states = [new_state() for _ in range(number)]

    async def one(agent: int, given: int) -> int:
        handle = await DBOS.start_workflow_async(turn, states[agent], given)
        states[agent] = await handle.get_result()
        return int(states[agent]["n"])

    async with launched(connection):
        for done in count(1):
            begun = time.perf_counter()
            told = await asyncio.gather(*(one(agent, done) for agent in range(number)))
            seconds = time.perf_counter() - begun
            right("turns", told, [done] * number)
            yield [number / seconds]


@contest.does("runs 1,000, stored", pick(200, 10), note="synchronous=NORMAL; 200 child workflows")
async def runs(number: int) -> Values:
    async with launched():
        while True:
            begun = time.perf_counter()
            handle = await DBOS.start_workflow_async(parent, number)
            right("the sum of squares", await handle.get_result(), squares(number))
            yield [(number + 1) / (time.perf_counter() - begun)]


@contest.does("io", pick(256, 64), note="synchronous=NORMAL; 256 turns, started by 64 callers")
async def io(number: int) -> Values:
    async with launched():
        slots = asyncio.Semaphore(SLOTS)

        async def one() -> int:
            async with slots:
                handle = await DBOS.start_workflow_async(wait, PAUSE)
                return int(await handle.get_result())

        while True:
            begun = time.perf_counter()
            told = await asyncio.gather(*(one() for _ in range(number)))
            seconds = time.perf_counter() - begun
            right("turns", told, [1] * number)
            yield [to_ideal(seconds, number)]


if __name__ == "__main__":
    contest.main()
