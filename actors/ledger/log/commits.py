"""The content of a commit."""

from msgspec import Struct

from ....persistence.records import Record
from ....types import Durability, RunId, Timestamp
from ...effects import Send


class NewEvent(Struct, frozen=True, gc=False):
    """An event that has no number yet."""

    at: Timestamp
    type: str
    path: str
    run_id: RunId | None = None
    data: bytes = b"{}"


class Commit(Struct, frozen=True):
    """Record all of this or nothing, after everything committed before.

    `then` is sent once the records are as durable as `durability` says: at once for `memory`. A lazy
    commit waits for the next one that is not, so that news which nobody waits for costs no write.
    """

    records: tuple[Record, ...] = ()
    facts: tuple[NewEvent, ...] = ()
    durability: Durability = "process"
    then: tuple[Send, ...] = ()
    lazy: bool = False
