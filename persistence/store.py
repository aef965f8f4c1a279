"""The store: the only writer of a file, one transaction at a time, in the thread that opened it.

The epoch fences: every transaction touches the row that counts how often the file was taken for writing. It
is given up if somebody else took the file since (`lease` says when that may be).
"""

import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import StoreError, StoreLost
from ..retention import Retention
from ..types import Durability, Seconds, Timestamp
from . import schema, sqlite_errors
from .home import Home
from .keys import ColumnPlace, Signer, key_path, make_key
from .lease import StoreLease, admit
from .processes import PROCESS_COLUMNS, ProcessRow, columns_of
from .pruning import Pruner, Step
from .reader import Reader
from .record_groups import grouped
from .records import AddAgent, AddEvent, AddMessage, AddRun, EraseAgent, Record
from .retention import pages_to_give_back, rows_of_a_step
from .rows import RunRow, Unfinished
from .sql_writes import WRITES, statements
from .write_failures import Misplaced, WriteFailed, failure_of, is_failed_flush

log = logging.getLogger("greenroom")

CHECKPOINT_AFTER = 2_000
"""Rows written (and 4 KiB pieces of their values) before the log is copied into the file."""

PAGES_IN_SLICE = 256
"""Records that are encoded at once: about a millisecond of the interpreter, which all threads share."""

ADD_PROCESS = f"INSERT OR REPLACE INTO processes ({PROCESS_COLUMNS}) VALUES ({', '.join('?' * 18)})"
DROP_PROCESS = "DELETE FROM processes WHERE number = ?"
SIGN_OF_LIFE = "UPDATE processes SET heartbeat = ?, uptime = ? WHERE epoch = ?"
"""The record of a process shows whether its owner lives."""

STEPS_AT_THE_END = 500
"""Of what is left of deleted agents, when the store is closed: a second, or two."""
NOTHING_ELSE = Retention(run_age=None, runs=None, event_age=None, events=None, closed_age=None, closed=None)

LONG_LOG = 16_384
"""Pages: 64 MiB, a log that a reader made longer than it has to be."""

LOG_PATIENCE = 100
"""Milliseconds that the writer waits for the readers of a long log, so that it can begin anew."""

NORMAL, FULL = 1, 2  # of `PRAGMA synchronous`: an fsync at checkpoints only, in every commit


class Store:
    """A file opened for writing. `path` is the file, also for a store `:memory:`."""

    def __init__(
        self,
        path: str,
        connection: sqlite3.Connection,
        sealer: Signer,
        *,
        claim: StoreLease,
        folder: TemporaryDirectory[str] | None = None,
        open_runs: Iterable[RunRow] = (),
        home: Home | None = None,
    ) -> None:
        self.path, self.claim, self.epoch = path, claim, claim.epoch
        self.lost: StoreLost | None = None  # from then on nothing is written
        self._connection, self._sealer, self._folder, self._home = connection, sealer, folder, home
        self._misplaced: str | None = None  # what is wrong with its files
        self._synchronous = self._level = connection.execute("PRAGMA synchronous").fetchone()[0]
        self._unchecked = 0  # rows, about, since the last checkpoint
        self._doubtful = False  # a flush failed: see `_flush_again`
        self._pruner = Pruner(connection, open_runs)
        self.unpruned = 0  # records since the last look at what may go
        self.log_held = False  # a reader kept a long log from being copied as a whole
        self._cut_at = LONG_LOG  # the length at which the writer waits for the readers of the log

    @classmethod
    def open(
        cls, path: str, durability: Durability, *, lease: Seconds | None = None
    ) -> "tuple[Store, Unfinished]":
        """Open the file in this thread, take the next epoch, and say what is unfinished in it.

        Raises a `StoreError`; `StoreInUse` if it has a live owner. `renew` has to be called within every
        `lease` (default: `ownership.LEASE`). Costs as much as is unfinished, however many agents are known.
        `:memory:` is an ordinary file in a directory of its own, gone when the store is closed, so that a
        second connection can read it.
        """
        # the object, and not mkdtemp: gone with the interpreter, too, if nobody closes the store
        folder = TemporaryDirectory(prefix="greenroom-") if path == ":memory:" else None
        file = path if folder is None else os.path.join(folder.name, "store.db")
        try:
            had_key = os.path.exists(key_path(file))
            if had_key and not os.path.lexists(file):
                log.warning("%s is not there, but its key is: a new store is made. Was it moved?", file)
            connection = schema.open_for_writing(
                file, durability, private=folder is not None, admit=lambda known: admit(file, known)
            )
            try:
                with sqlite_errors.explained(file), _flushing(connection):
                    if not had_key and connection.execute("SELECT 1 FROM agents LIMIT 1").fetchone():
                        log.warning(
                            "%s has no key: what it holds is refused until its own one is put back", file
                        )
                    # not before the file is a store: an empty file beside a key has lost what it held
                    sealer = Signer(make_key(file))
                    claim = StoreLease.take(file, connection, lease)
                    unfinished = Reader(file, connection, sealer).unfinished(claim.taken)
                home = Home(file) if folder is None else None  # nobody looks for the others
                runs = unfinished.runs
                store = cls(file, connection, sealer, claim=claim, folder=folder, open_runs=runs, home=home)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            if folder is not None:
                folder.cleanup()
            raise
        return store, unfinished

    def write(self, records: Sequence[Record], *, sync: bool = False) -> None:
        """Write all of `records` in this order, or nothing and raise `WriteFailed` or `StoreLost`.

        `sync` has the log on the disk itself, with all before it, when this returns.
        """
        with self._transaction(max(self._synchronous, FULL if sync else 0)):
            self.apply(records)
        self.unpruned += len(records)
        self._pruner.committed(records)

    @contextmanager
    def _transaction(self, level: int) -> Iterator[None]:
        """All of it or nothing, flushed by `level` of `PRAGMA synchronous`."""
        try:
            self._look_home()
            if level != self._level:  # between transactions only
                self._connection.execute(f"PRAGMA synchronous = {level}")
                self._level = level
            self._roll_back()  # what could not be before
            if self._doubtful:
                self._flush_again()
            self.begin()
            yield
            self.commit()
            if self.erasing:
                self._connection.execute(f"PRAGMA {schema.OVERWRITE_IF_CHEAP}")
        except Exception as error:
            failure = self._failure(error)
            with suppress(sqlite3.Error):  # what matters was told; the next try begins with this
                self._roll_back()
            if failure is error:
                raise
            raise failure from error

    @property
    def names(self) -> int:
        """How many names its file has; each by which it is opened would make another store of it."""
        return self._home.names if self._home is not None else 1

    def _look_home(self) -> None:
        """Raise `Misplaced` if the files at the store's path are not those that are open here.

        The first time, what is in the log is copied into the file, wherever that is by now: the log stays
        at the old path, where it would be taken for that of another file.
        """
        if self._home is None:
            return
        problem = self._home.problem()
        if problem is not None and self._misplaced is None:
            with suppress(sqlite3.Error):
                self._cut_log()
        self._misplaced = problem
        if problem is not None:
            raise Misplaced(self.path, problem, False)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite itself may have done it
            self._connection.execute("ROLLBACK")

    def _flush_again(self) -> None:
        """After a flush that failed: what it was for may be lost, though a second flush would succeed.

        The kernel drops what it could not write and calls it clean. So all that is committed is copied
        from the log, as this process still sees it, into the file, and that is flushed.
        """
        busy = self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0]
        if busy:
            raise WriteFailed(self.path, "the log cannot be copied into the file: it is being read.", False)
        self._doubtful = False

    # The steps of a transaction, each a method so that a test can fail or stall it

    def begin(self) -> None:
        if self.lost is not None:
            raise self.lost
        self._connection.execute("BEGIN IMMEDIATE")

    def apply(self, records: Sequence[Record]) -> None:
        groups = list(grouped(records))
        self._count(groups)
        for kind, group in groups:
            if kind is EraseAgent:
                self._connection.execute("PRAGMA secure_delete = ON")
            if kind is AddRun:
                self._pruner.eraser.make_way([record.row.run_id for record in group])
            for write in WRITES[kind]:
                for begin in range(0, len(group), PAGES_IN_SLICE):
                    rows = [write.encode(self, record) for record in group[begin : begin + PAGES_IN_SLICE]]
                    for statement, values in statements(write, rows):
                        self._connection.execute(statement, values)
        self._unchecked += len(records)

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def seal(self, data: bytes, place: ColumnPlace) -> bytes:
        self._unchecked += len(data) >> 12
        return self._sealer.seal(data, place)

    @property
    def untidy(self) -> bool:
        """Whether `tidy` has something to do."""
        return self._unchecked >= CHECKPOINT_AFTER

    def tidy(self) -> None:
        """Copy the log into the file, between commits: milliseconds.

        A log begins anew only when no reader uses it. Readers that follow each other without a gap would
        make it grow for ever, so the writer waits for those of a long log; new ones read the file alone.
        If a reader stays for longer, the writer waits again when the log is twice as long.
        """
        self._unchecked = 0
        try:
            _, length, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self.log_held = copied < length and length >= LONG_LOG
            if length >= self._cut_at:
                emptied = self._cut_log(LOG_PATIENCE)
                self._cut_at = LONG_LOG if emptied else 2 * length
                self.log_held = self.log_held and not emptied
            elif copied == length and length >= LONG_LOG and self._cut_log():
                self._cut_at = LONG_LOG
        except sqlite3.Error as error:
            raise sqlite_errors.explain(self.path, error) from error

    def prune(self, retention: Retention, now: Timestamp) -> Step:
        """Delete a little of what `retention` does not keep, in a transaction of its own.

        Raises `WriteFailed` or `StoreLost`, and then nothing has changed.
        """
        rows, self.unpruned = rows_of_a_step(self.unpruned), 0
        try:
            step = self._pruner.look(retention, now, rows)
        except sqlite3.Error as error:
            raise self._failure(error) from error
        if step.rows:
            with self._aside():
                self._pruner.delete(step)
            self._unchecked += step.rows // 4  # neighbours, most of them: they share their pages
        self._pruner.deleted(step)
        if step.erased:
            self._cut_log()  # which has what was deleted, too
        return step

    def _erase(self) -> None:
        """Remove what is left of deleted agents, if that is not too much: the next opening goes on with it.

        Whoever deletes an agent and closes the store does not expect its words to stay in the file.
        """
        for _ in range(STEPS_AT_THE_END):
            if not self.erasing:
                return
            self.prune(NOTHING_ELSE, 0.0)

    @property
    def erasing(self) -> bool:
        """Whether something is left of deleted agents, for `prune` to remove."""
        return self._pruner.eraser.pending

    def give_back(self) -> bool:
        """Give a few of many free pages back to the system; whether there were many.

        Raises `WriteFailed` or `StoreLost`. The file is shorter once the log has been copied.
        """
        try:
            free, pages = (
                self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("freelist_count", "page_count")
            )
        except sqlite3.Error as error:
            raise self._failure(error) from error
        count = pages_to_give_back(free, pages)
        if count:
            with self._aside():
                for _ in range(count):  # the sqlite3 module ends this pragma after its first page
                    self._connection.execute("PRAGMA incremental_vacuum(1)")
            self._unchecked += count
        return count > 0

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """A transaction that nobody waits for: under the epoch like any, flushed with the next one."""
        with self._transaction(min(self._synchronous, NORMAL)):
            self._count(())
            yield

    def _cut_log(self, milliseconds: int = 0) -> bool:
        """Make the log's file empty; False if its readers were not done within so many milliseconds."""
        patience = self._connection.execute("PRAGMA busy_timeout").fetchone()[0]
        self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}").fetchall()
        try:
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {patience}").fetchall()

    def close(self) -> None:
        """Copy the log into the file and let go of it; close readers first.

        The log of a file that could not be copied stays beside it, for the next opening. Raises a
        `StoreError`; `Misplaced` if what is in it will not be found by its path.
        """
        try:
            if self.lost is None:
                self._look_home()
                self._erase()
                self.tidy()
                with sqlite_errors.explained(self.path):
                    self.claim.release()
        finally:
            self.claim.drop()
            self._connection.close()  # the last connection removes the log
            if self._folder is not None:
                self._folder.cleanup()

    def renew(self) -> None:
        """Give a sign of life. Raises `StoreLost`, or `WriteFailed` if it cannot be written now."""
        with self._aside():
            self.claim.put()
            now = self.claim.owner.heartbeat
            self._connection.execute(SIGN_OF_LIFE, (now.wall, now.uptime, self.epoch))
        self._unchecked += 1

    def keep_processes(self, add: Sequence[ProcessRow], drop: Sequence[int]) -> None:
        """Record processes, forget others. Raises `WriteFailed` or `StoreLost`, and then nothing changed.

        Of a power cut no process is left, so nobody waits for a flush.
        """
        with self._aside():
            self._connection.executemany(ADD_PROCESS, map(columns_of, add))
            self._connection.executemany(DROP_PROCESS, [(number,) for number in drop])
        self._unchecked += len(add) + len(drop)

    def _count(self, groups: Iterable[tuple[type[Any], list[Any]]]) -> None:
        """Note the numbers that are used up; fails if this epoch is over."""
        agent_id = serial = seq = 0
        for kind, group in groups:
            if kind is AddEvent:
                seq = max(seq, *(record.row.seq for record in group))
            elif kind is AddRun or kind is AddMessage:
                serial = max(serial, *(record.row.serial for record in group))
            elif kind is AddAgent:
                agent_id = max(agent_id, *(record.row.agent_id for record in group))
        cursor = self._connection.execute(
            "UPDATE meta SET next_agent_id = max(next_agent_id, ?), next_serial = max(next_serial, ?),"
            " next_seq = max(next_seq, ?) WHERE epoch = ?",
            (agent_id + 1, serial + 1, seq + 1, self.epoch),
        )
        if cursor.rowcount != 1:
            self.lost = self.claim.lost()
            raise self.lost

    def _failure(self, error: Exception) -> StoreError:
        self._doubtful = self._doubtful or is_failed_flush(error)
        return failure_of(self.path, error)


@contextmanager
def _flushing(connection: sqlite3.Connection) -> Iterator[None]:
    """Have an opening survive a power cut: ids of runs hold its number, which must not come again."""
    level = connection.execute("PRAGMA synchronous").fetchone()[0]
    if level:  # not for a file that nobody opens again
        connection.execute(f"PRAGMA synchronous = {max(level, FULL)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA synchronous = {level}")
