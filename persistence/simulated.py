"""A disk that can be lost: the real store and reader on a database in memory, with a crash in between.

The schema, the SQL and the seals are the real ones. A write is atomic, as it is on a real disk, and what
of it is left after a crash is exact: with the process gone all that was committed, with the power gone all
that was flushed, and of what was committed since any first part. Whether a write fails is asked before it.
"""

import os
import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

from ..errors import StoreError, StoreLost
from ..types import AgentId, Durability, Seconds
from . import schema, sqlite_errors
from .keys import KEY_SIZE, Signer, key_path
from .lease_rules import TakenOver
from .queries import Query
from .reader import Reader
from .rows import Unfinished
from .store import FULL, Store

KEY = b"the key of each simulated store."
assert len(KEY) == KEY_SIZE
NONCE = "simulated"
MOST_UNFLUSHED = 8
"""Images kept of what was committed since the last flush: each is one that a power cut may leave."""

FOREVER: Seconds = 1e12


class _SimulatedLease:
    """The claim to a store that nobody else can reach."""

    renew_after = FOREVER
    taken = TakenOver("free")

    def __init__(self, store: str, epoch: int) -> None:
        self.store, self.epoch = store, epoch

    def renew(self) -> None:
        """Nobody looks for signs of life."""

    def release(self) -> None:
        """Nobody waits for it."""

    def drop(self) -> None:
        """Nobody holds it."""

    def lost(self) -> StoreLost:
        return StoreLost(self.store, "another runtime has taken it over")


class _Home:
    """The place of a store's file, which somebody may take away: see `Disk.take_away`."""

    names = 1

    def __init__(self, disk: "Disk") -> None:
        self._disk = disk

    def problem(self) -> str | None:
        if not self._disk.is_away:
            return None
        return f"another file is at {self._disk.name}: put the store back, and work goes on."


class Disk:
    """The file as it is when no process has it open. `name` stands in messages.

    `write_problem` is asked before each transaction, `read_problem` before each question: a code of
    SQLite's (`sqlite3.SQLITE_FULL`), or None.
    """

    def __init__(
        self,
        name: str,
        *,
        write_problem: Callable[[], int | None] = lambda: None,
        read_problem: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.name = name
        self.write_problem, self.read_problem = write_problem, read_problem
        self.commits = 0
        self._flushed = empty()
        self._since: list[bytes] = []  # committed and not flushed, oldest first
        self._there: tuple[bytes, list[bytes]] | None = None  # instead, since the file was taken away
        self._connection: sqlite3.Connection | None = None
        self._released = True  # whoever had it open last has closed it

    # In use

    def open_store(self, path: str, durability: Durability) -> tuple[Store, Unfinished]:
        """Instead of `Store.open`."""
        self.crash()  # whoever had it open is gone
        connection = self._connection = _connect(self.image())
        connection.execute(f"PRAGMA synchronous = {schema.SYNCHRONOUS[durability]}")
        # the nonce is given and not drawn, so that a simulation repeats to the byte
        opening = "UPDATE meta SET epoch = epoch + 1, nonce = ? RETURNING epoch"
        epoch = connection.execute(opening, (NONCE,)).fetchall()[0][0]
        self.committed(flushed=True)
        sealer = Signer(KEY)
        taken = TakenOver("free" if self._released else "gone")
        self._released = False
        unfinished = Reader(path, connection, sealer).unfinished(taken)
        claim: Any = _SimulatedLease(self.name, epoch)
        home: Any = _Home(self)
        store = _Store(path, connection, sealer, claim=claim, open_runs=unfinished.runs, home=home)
        store.disk = self
        return store, unfinished

    def open_reader(self, path: str) -> Reader:
        """Instead of `Reader.open`: it sees what is committed, as no transaction is ever half done."""
        if self._connection is None:
            raise StoreError(path, "it is not open for writing")
        reader = _Reader(path, self._connection, Signer(KEY))
        reader.disk = self
        return reader

    def committed(self, *, flushed: bool) -> None:
        """A transaction is through."""
        assert self._connection is not None
        self.commits += 1
        image = self._connection.serialize()
        if flushed:
            self._flushed, self._since = image, []
        else:
            self._since.append(image)
            if len(self._since) > MOST_UNFLUSHED:
                del self._since[0]

    # Out of its place

    @property
    def is_away(self) -> bool:
        """Whether another file is where the store's was."""
        return self._there is not None

    def take_away(self) -> None:
        """Move the file that is open to where nobody finds it, and put a copy in its place."""
        if self._there is None:
            self._there = self._flushed, list(self._since)

    def put_back(self) -> None:
        """Move it back over the copy. Does nothing once the process is gone that has it open."""
        self._there = None

    # Out of use

    def image(self) -> bytes:
        """The database file as of the last commit."""
        flushed, since = self._there or (self._flushed, self._since)
        return since[-1] if since else flushed

    def crash(self) -> None:
        """The process is gone: what was committed stays, in the file that is in its place now."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._there is not None:
            (self._flushed, self._since), self._there = self._there, None

    def power_cut(self, choose: Callable[[int], int]) -> None:
        """The machine is gone: what was flushed stays, and of the rest as much as `choose` keeps.

        It is asked for a number below that of the possibilities; 0 is to lose nothing.
        """
        self.crash()
        images = [*reversed(self._since), self._flushed]
        self._flushed, self._since = images[choose(len(images))], []

    def save(self, path: str) -> None:
        """Write the file as of the last commit and its key, for whoever wants to look into it."""
        for name, data in ((path, self.image()), (key_path(path), KEY)):
            with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)


class _Store(Store):
    disk: Disk

    def begin(self) -> None:
        _raise(self.disk.write_problem())
        super().begin()

    def commit(self) -> None:
        super().commit()
        self.disk.committed(flushed=self._level >= FULL)

    def close(self) -> None:
        if self.disk._connection is self._connection:
            self.disk.committed(flushed=True)
            self.disk._connection, self.disk._released = None, True
        super().close()


class _Reader(Reader):
    disk: Disk

    def read(self, query: Query, erasing: tuple[tuple[AgentId, int], ...] = ()) -> object:
        try:
            _raise(self.disk.read_problem())
        except sqlite3.Error as error:
            raise sqlite_errors.explain(self.path, error) from error
        return super().read(query, erasing)

    def close(self) -> None:
        """The connection is the store's."""


def _raise(code: int | None) -> None:
    if code is not None:
        _fail(code)


def _fail(code: int) -> NoReturn:
    words = {sqlite3.SQLITE_FULL: "database or disk is full", sqlite3.SQLITE_IOERR: "disk I/O error"}
    error = sqlite3.OperationalError(words.get(code, f"simulated error {code}"))
    error.sqlite_errorcode, error.sqlite_errorname = code, "SIMULATED"
    raise error


def _connect(image: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
    connection.deserialize(image)
    return connection


@cache
def empty() -> bytes:
    """The file of a store that holds nothing; made once in a process."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute("PRAGMA page_size = 1024")  # smaller than the real one: it is copied often
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        schema._migrate(connection, "a simulated store", lambda _: None)
        return connection.serialize()
    finally:
        connection.close()
