"""The floor: the same work by hand, in bare asyncio and raw sqlite3, with no runtime at all.

A task with a queue for each agent, its state pickled at the end of each turn, five rows a turn (the run,
its end, the state, two events), and one thread that writes whatever is queued in one transaction. It
recovers from nothing, limits nothing, and knows of no kinds, paths, slots, trees, interrupts or retention.
"""

import asyncio
import pickle
import sqlite3
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self, TypeAlias

from .work import advance, new_state

TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS agents (agent_id INTEGER PRIMARY KEY, path TEXT UNIQUE, at REAL);
CREATE TABLE IF NOT EXISTS runs
    (serial INTEGER PRIMARY KEY, agent_id INTEGER, input BLOB, status TEXT, result BLOB);
CREATE TABLE IF NOT EXISTS snapshots (agent_id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, type TEXT, agent_id INTEGER, serial INTEGER);
"""

ADD_AGENT = "INSERT INTO agents VALUES (?, ?, ?)"
ADD_RUN = "INSERT INTO runs VALUES (?, ?, ?, 'accepted', NULL)"
END_RUN = "UPDATE runs SET status = 'completed', result = ? WHERE serial = ?"
PUT = "INSERT INTO snapshots VALUES (?, ?) ON CONFLICT (agent_id) DO UPDATE SET data = excluded.data"
ADD_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?)"
ORDER = (ADD_AGENT, ADD_RUN, END_RUN, PUT, ADD_EVENT)

MOST = 1_000
"""Commits in one transaction."""

Rows: TypeAlias = list[tuple[str, tuple[Any, ...]]]
Then: TypeAlias = Callable[[], None]


class Writer:
    """One thread with one connection. `then` of what was put is called on the loop once it is committed."""

    def __init__(self, path: Path, *, flush: bool = False) -> None:
        self.path, self._flush = path, flush
        self._queue: SimpleQueue[tuple[Rows, Then] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="floor's writer", daemon=True)
        self._failure: BaseException | None = None
        connection = sqlite3.connect(path, isolation_level=None)
        connection.executescript(TABLES)
        connection.close()
        self._thread.start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        if self._failure is not None:
            raise self._failure

    def put(self, rows: Rows, then: Then) -> None:
        """Have these rows in the next transaction."""
        self._queue.put((rows, then))

    async def all_written(self) -> None:
        """Wait for the transaction of what was put last."""
        written: asyncio.Future[None] = self._loop.create_future()
        self.put([], lambda: written.set_result(None))
        await written

    def _work(self) -> None:
        try:
            self._write_all()
        except BaseException as error:  # raised to whoever closes
            self._failure = error

    def _write_all(self) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._flush else 'NORMAL'}")
        over = False
        while not over:
            batch = []
            item = self._queue.get()
            while item is not None:
                batch.append(item)
                if len(batch) == MOST:
                    break
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
            over = item is None
            if batch:
                self._commit(connection, [rows for rows, _ in batch])
                self._loop.call_soon_threadsafe(_tell, [then for _, then in batch])
        connection.close()

    def _commit(self, connection: sqlite3.Connection, rows: list[Rows]) -> None:
        by_statement: dict[str, list[tuple[Any, ...]]] = {statement: [] for statement in ORDER}
        for some in rows:
            for statement, values in some:
                by_statement[statement].append(values)
        connection.execute("BEGIN IMMEDIATE")
        for statement, many in by_statement.items():
            if many:
                connection.executemany(statement, many)
        connection.execute("COMMIT")


def _tell(thens: list[Then]) -> None:
    for then in thens:
        then()


class Floor:
    """Agents by hand. `durable` answers once the turn is committed, else once it is done."""

    def __init__(self, writer: Writer, *, durable: bool = True) -> None:
        self.writer, self.durable = writer, durable
        self._serials, self._seqs = count(1), count(1)
        self._loop = asyncio.get_running_loop()

    def next_serial(self) -> int:
        return next(self._serials)

    def next_seq(self) -> int:
        return next(self._seqs)

    def rows_of(self, agent_id: int, input: Any, result: Any, state: Any) -> Rows:
        """The five rows of a turn."""
        serial = self.next_serial()
        return [
            (ADD_RUN, (serial, agent_id, pickle.dumps(input, 5))),
            (ADD_EVENT, (self.next_seq(), "run.accepted", agent_id, serial)),
            (PUT, (agent_id, pickle.dumps(state, 5))),
            (END_RUN, (pickle.dumps(result, 5), serial)),
            (ADD_EVENT, (self.next_seq(), "run.completed", agent_id, serial)),
        ]

    def settle(self, rows: Rows, answer: "asyncio.Future[Any]", result: Any) -> None:
        """Have the rows written, and answer when that was promised."""
        if self.durable:
            self.writer.put(rows, lambda: answer.set_result(result))
        else:
            self.writer.put(rows, _nothing)
            answer.set_result(result)


class Agents:
    """A task with a queue each, as of now. `work` makes a result of state and input, and changes the
    state."""

    def __init__(
        self,
        floor: Floor,
        number: int,
        *,
        work: Callable[[Any, Any], Any] = advance,
        state: Callable[[], Any] = new_state,
    ) -> None:
        self._floor, self._work = floor, work
        self.states = [state() for _ in range(number)]
        self._queues: list[asyncio.Queue[Any]] = [asyncio.Queue() for _ in range(number)]
        self._tasks = [asyncio.create_task(self._live(each)) for each in range(number)]

    async def _live(self, number: int) -> None:
        queue, state, floor = self._queues[number], self.states[number], self._floor
        while True:
            given, answer = await queue.get()
            result = self._work(state, given)
            floor.settle(floor.rows_of(number, given, result, state), answer, result)

    def ask(self, number: int, input: Any) -> "asyncio.Future[Any]":
        """Have an agent do a turn."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queues[number].put_nowait((input, answer))
        return answer

    async def close(self) -> None:
        """End the tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _nothing() -> None:
    """Nobody waits for this commit."""
