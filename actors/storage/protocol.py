"""How the ledger and the two disk actors talk."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ...errors import GreenroomError, StoreError, StoreLost
from ...persistence.processes import ProcessRow
from ...persistence.queries import Query
from ...persistence.records import Record
from ...persistence.rows import Unfinished
from ...retention import DEFAULT, Retention
from ...types import AgentId, Durability, RequestId


class Ask(Struct, frozen=True, gc=False):
    """To the ledger: answer `query` as if everything committed so far were on disk.

    Answered once, by `Answer` to the sender.
    """

    request: RequestId
    query: Query


class Answer(Struct, frozen=True):
    """The value that the query's docstring names, or why it could not be read."""

    request: RequestId
    value: object
    error: GreenroomError | None = None


class OpenStore(Struct, frozen=True):
    """Open for writing, making or migrating the schema. Answered by `StoreOpened` or `StoreRefused`.

    The owner's lease is renewed from then on; if the store is lost all the same, `StoreTaken` follows.
    """

    store: str
    durability: Durability
    opener: Callable[..., Any] | None = None  # instead of `Store.open`, to inject faults
    retention: Retention = DEFAULT


class OpenReader(Struct, frozen=True):
    """Open for reading. Answered by `ReaderOpened` or `StoreRefused`."""

    store: str
    opener: Callable[..., Any] | None = None  # instead of `Reader.open`


class WriteBatch(Struct, frozen=True, gc=False):
    """Write in one transaction, in this order. Answered by `BatchWritten` or `BatchFailed`.

    `sync` asks for an fsync before the answer, whatever the store's own level.
    """

    number: int
    records: tuple[Record, ...]
    sync: bool = False


class KeepProcesses(Struct, frozen=True):
    """Record processes and forget others, in one transaction. Answered by `ProcessesKept`.

    They belong to no run's commit, so they do not go through the commit log.
    """

    number: int
    add: tuple[ProcessRow, ...] = ()
    drop: tuple[int, ...] = ()


class CloseStore(Struct, frozen=True, gc=False):
    """Answered by `StoreClosed`."""


class Read(Struct, frozen=True, gc=False):
    """Answered by `Answer`, in the order asked.

    `erasing`: agents that are deleted, and on disk perhaps not yet, each with its `EraseAgent.upto`.
    """

    request: RequestId
    query: Query
    erasing: tuple[tuple[AgentId, int], ...] = ()


class StoreOpened(Struct, frozen=True):
    unfinished: Unfinished
    file: str = ""  # what the reader opens: the store, or where `:memory:` lies


class ReaderOpened(Struct, frozen=True, gc=False):
    pass


class StoreRefused(Struct, frozen=True):
    error: GreenroomError


class BatchWritten(Struct, frozen=True, gc=False):
    number: int
    seconds: float


class BatchFailed(Struct, frozen=True):
    """Nothing of the batch was written. `fatal` says that no later try can succeed, by `error`.

    `of_record`: that holds for one of its records, and others can be written. `misplaced`: somebody has to
    put the store's files back.
    """

    number: int
    problem: str
    fatal: bool
    error: StoreError | None = None
    of_record: bool = False
    misplaced: bool = False


class ProcessesKept(Struct, frozen=True):
    """Done, as durable as `process`; or not, by `error`. `fatal`: no later try can succeed."""

    number: int
    error: StoreError | None = None
    fatal: bool = False


class StoreTaken(Struct, frozen=True):
    """To who opened the store, at most once, unasked: another process has taken it over.

    Batches are refused from here on, as `fatal`.
    """

    error: StoreLost


class StoreMisplaced(Struct, frozen=True):
    """To who opened the store, unasked, for as long as it is so: its files are not at its path any more.

    Batches fail meanwhile; one that is written says that it is over.
    """

    problem: str


class StoreClosed(Struct, frozen=True, gc=False):
    """`problem`: why what is in the store will not be found where it was."""

    problem: str | None = None
