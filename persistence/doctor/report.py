"""The findings of an examination: plain values, for a table, for JSON and for tests."""

from typing import Literal, TypeAlias

from msgspec import Struct

from ...types import Seconds, Timestamp

Severity: TypeAlias = Literal["error", "warning", "note"]
"""error: a promise is broken or bytes cannot be read. warning: nothing is lost yet, but something has to
be done. note: worth knowing, and nothing is wrong with the store."""


class Finding(Struct, frozen=True):
    """One thing that is not as it should be."""

    check: str
    severity: Severity
    what: str
    advice: str = ""
    repairable: bool = False


class OwnerSeen(Struct, frozen=True):
    """The process that has the store open, or had it last. Without a pid the record names nobody."""

    alive: bool
    released: bool  # it gave the store back
    host: str
    pid: int
    epoch: int
    heartbeat: Timestamp  # its last sign of life, by the wall clock
    said: str


class Sizes(Struct, frozen=True):
    """In bytes, but for the two numbers of pages."""

    file: int
    wal: int
    page: int
    pages: int
    free_pages: int
    tables: dict[str, int] = {}  # each with its indexes; empty where nobody measured


class SnapshotCount(Struct, frozen=True):
    kind: str
    codec: str
    count: int
    bytes: int


class Counts(Struct, frozen=True):
    """How many there are of what."""

    agents: dict[str, int] = {}  # by status at rest
    runs: dict[str, int] = {}  # by status
    inbox: int = 0
    events: int = 0
    first_event: int | None = None
    last_event: int | None = None
    snapshots: tuple[SnapshotCount, ...] = ()
    set_aside: int = 0  # rows in `lost_found`


class DoctorReport(Struct, frozen=True):
    """One examination."""

    store: str
    at: Timestamp
    seconds: Seconds
    quick: bool
    schema: int  # its version
    owner: OwnerSeen | None
    sizes: Sizes
    counts: Counts
    checks: tuple[str, ...]  # those that were done
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is nothing above a note."""
        return all(finding.severity == "note" for finding in self.findings)


class Repair(Struct, frozen=True):
    """The result of a repair: `steps` in order, each a sentence, and the store before and after."""

    before: DoctorReport
    after: DoctorReport
    steps: tuple[str, ...]
    backup: str | None  # the copy of the store as it was; None if nothing was written into it
