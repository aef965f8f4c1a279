"""The PersistenceActor: the only writer of the store, on a thread of its own.

It opens its connection in the thread that handles its messages. A batch is answered when its
transaction is committed, never before.
"""

import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

from msgspec import Struct

from ...errors import GreenroomError, StoreError, StoreLost
from ...persistence.lease import this_process
from ...persistence.lease_rules import Instant
from ...persistence.pruning import LOOK_AGAIN
from ...persistence.retention import PRUNE_AFTER
from ...persistence.rows import Unfinished
from ...persistence.store import Store
from ...persistence.trusted_time import TrustedTime, last_known
from ...persistence.write_failures import Misplaced, WriteFailed
from ...retention import DAY, DEFAULT
from ...types import Address, Durability, RunId, Timestamp
from ..effects import Effect, Send, StartTimer
from ..shell import ActorShell, log
from .protocol import (
    BatchFailed,
    BatchWritten,
    CloseStore,
    KeepProcesses,
    OpenStore,
    ProcessesKept,
    StoreClosed,
    StoreMisplaced,
    StoreOpened,
    StoreRefused,
    StoreTaken,
    WriteBatch,
)

Opener: TypeAlias = Callable[[str, Durability], tuple[Store, Unfinished]]

HELD_LONG = DAY
"""Seconds after which a turn that holds back retention is told about."""


class _Tidy(Struct, frozen=True):
    """To itself, behind the answer to a batch: one small step that is in nobody's commit."""

    log: bool = False  # copy the log, whatever else there is to do


class _Renew(Struct, frozen=True):
    """To itself, by timer: give a sign of life for this opening of a store."""

    opening: int


class PersistenceActor(ActorShell):
    """The only writer of the store."""

    role = "writer"
    trusted: TrustedTime  # of the store that is open

    def __init__(self) -> None:
        super().__init__()
        self.store: Store | None = None
        self.opener: Address = None  # who opened it, and hears if it is lost
        self.openings = 0
        self.names = 1  # of the store's file
        self.silent = False  # no sign of life could be written the last time
        self.retention = DEFAULT
        self.look_at: Timestamp = math.inf  # when something may be past that is not yet
        self.tidying = False  # a `_Tidy` is on its way
        self.told: RunId | None = None  # the run that was said to hold back retention

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:
        match message:
            case OpenStore():
                return self.open(message, sender)
            case WriteBatch():
                answer = Send(sender, self.write(message))
                return (*self.loss(), answer, *self.untidy())
            case _Renew():
                return self.renew(message)
            case _Tidy():
                self.tidying = False
                return self.tidy(message)
            case KeepProcesses():
                return (Send(sender, self.keep_processes(message)), *self.loss())
            case CloseStore():
                return (Send(sender, StoreClosed(self.close())),)
            case _:
                raise TypeError(f"the writer knows no {type(message).__name__}")

    def open(self, message: OpenStore, sender: Address) -> Iterable[Effect]:
        opener: Opener = message.opener or Store.open
        self.close()
        try:
            store, unfinished = opener(message.store, message.durability)
        except GreenroomError as error:
            return (Send(sender, StoreRefused(error)),)
        self.store, self.opener = store, sender
        self.retention, self.look_at = message.retention, -math.inf
        before, now = store.claim.taken.owner, self.instant()
        self.trusted = TrustedTime(last_known(before, this_process(), now) if before else now)
        self.openings += 1
        if store.claim.taken.reason != "free":
            log.warning("%s was %s", store.path, store.claim.taken)
        return Send(sender, StoreOpened(unfinished, store.path)), self.renewal(store), *self.untidy()

    def instant(self) -> Instant:
        return Instant(self.clock(), self.uptime())

    def now(self) -> Timestamp:
        """The time that retention goes by."""
        return self.trusted.at(self.instant())

    def renewal(self, store: Store) -> StartTimer:
        return StartTimer(store.claim.renew_after, _Renew(self.openings))

    def renew(self, message: _Renew) -> Iterable[Effect]:
        """Give a sign of life; one that cannot be written now is followed by another try."""
        store = self.store
        if store is None or message.opening != self.openings or store.lost is not None:
            return ()
        try:
            store.renew()
        except StoreLost:
            return self.loss()
        except Misplaced as error:
            self.silent = True
            told = Send(self.opener, StoreMisplaced(error.problem))
            return (*([told] if self.opener is not None else []), self.renewal(store))
        except StoreError as error:
            if not self.silent:
                log.warning("the lease cannot be renewed for now: %s", error)
            self.silent = True
        else:
            self.silent = False
            self.count_names(store)
        return (self.renewal(store), *self.untidy(log=store.log_held))

    def count_names(self, store: Store) -> None:
        names, self.names = self.names, store.names
        if self.names > 1 and names == 1:
            log.warning(
                "%s has %d names (hard links) now: it cannot be opened again before the others are removed",
                store.path,
                self.names,
            )

    def loss(self) -> Iterable[Effect]:
        """The news that the store was lost, once."""
        if self.store is None or self.store.lost is None or self.opener is None:
            return ()
        opener, self.opener = self.opener, None
        return (Send(opener, StoreTaken(self.store.lost)),)

    def untidy(self, *, log: bool = False) -> Iterable[Effect]:
        """Have a step done behind whatever came meanwhile, if there is something to do."""
        store = self.store
        if store is None or self.tidying:
            return ()
        late = self.now() >= self.look_at or store.erasing
        return self.again(log=log) if log or late or store.untidy or store.unpruned >= PRUNE_AFTER else ()

    def again(self, *, log: bool = False) -> Iterable[Effect]:
        self.tidying = True
        return (Send(self.myAddress, _Tidy(log)),)

    def write(self, batch: WriteBatch) -> BatchWritten | BatchFailed:
        if self.store is None:
            return BatchFailed(batch.number, "the store is not open", True)
        begun = self.uptime()
        try:
            self.store.write(batch.records, sync=batch.sync)
        except WriteFailed as error:
            means = error.means if error.fatal and not error.of_record else None
            misplaced = isinstance(error, Misplaced)
            return BatchFailed(batch.number, error.problem, error.fatal, means, error.of_record, misplaced)
        except StoreLost as error:
            return BatchFailed(batch.number, error.problem, True, error)
        self.look_at = min(self.look_at, self.now() + LOOK_AGAIN)
        return BatchWritten(batch.number, self.uptime() - begun)

    def keep_processes(self, keep: KeepProcesses) -> ProcessesKept:
        if self.store is None:
            return ProcessesKept(keep.number, StoreError("", "the store is not open"), True)
        try:
            self.store.keep_processes(keep.add, keep.drop)
        except WriteFailed as error:
            return ProcessesKept(keep.number, error, error.fatal)
        except StoreLost as error:
            return ProcessesKept(keep.number, error, True)
        return ProcessesKept(keep.number)

    def tidy(self, message: _Tidy) -> Iterable[Effect]:
        """Do one step. The next one comes behind a batch that came meanwhile: it waits for one at most."""
        store = self.store
        if store is None or store.lost is not None:
            return ()  # closed meanwhile
        try:
            if message.log or store.untidy:
                store.tidy()
                return self.untidy()
            return self.again() if self.make_room(store) else ()
        except StoreError as error:  # nothing is lost, and there will be another step
            log.warning("%s could not be tidied: %s", store.path, error.problem)
            self.look_at = self.now() + LOOK_AGAIN
        return self.loss()

    def make_room(self, store: Store) -> bool:
        """Delete a little of what is not kept, else make the file a little shorter; whether it did."""
        now = self.now()
        step = store.prune(self.retention, now)
        self.look_at = math.inf if step.wait is None else now + step.wait
        held = step.held
        if held is not None and held.at < now - HELD_LONG and held.run_id != self.told:
            self.told = held.run_id
            log.warning(
                "run %s was accepted %.0f hours ago and has not ended: until it does, nothing that was "
                "accepted since is removed from %s",
                held.run_id,
                (now - held.at) / 3600,
                store.path,
            )
        return step.more or step.rows > 0 or store.give_back()

    def close(self) -> str | None:
        """Let go of the store; what to say if its contents will not be found."""
        store, self.store = self.store, None
        try:
            if store is not None:
                store.close()
        except Misplaced as error:
            log.error("%s", error)
            return error.problem
        except StoreError as error:  # committed all the same: the next opening takes the log up
            log.error("the log was not copied into its file: %s", error)
        return None

    def ended(self) -> None:
        self.close()
