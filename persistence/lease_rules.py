"""The owner of a store, who alone may write it: whether the owner that a store names is respected, or taken
over and why.

Owns the rules, the record's shape and the words about owners. Reads no clock and no process table: `claim`
does, and writes the record. A wrong answer costs somebody a store, never its contents: whoever was taken
over is found out by the epoch in its next transaction.

Two clocks, because no single one can be compared everywhere. On one running system it is the monotonic
clock, the same for all its processes: nobody sets it, and it stands still while the machine sleeps. So a
laptop that wakes up does not find its owner overdue (CLOCK_BOOTTIME would go on). Elsewhere (another host,
another container) only the wall clock means the same on both sides.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ..types import Seconds, Timestamp

LEASE_SECONDS: Seconds = 10.0
"""An owner that gave no sign of life for so long may be taken over. Long enough for a slow disk, a swapped
machine or an extension that keeps Python's lock; short enough to wait for."""

BEATS = 5
"""Signs of life in each lease, so that single ones may fail. One every two seconds is a page in the log."""

Reason: TypeAlias = Literal["free", "torn", "reboot", "gone", "reused", "abandoned", "expired"]

TAKEOVER_TEXTS: dict[Reason, str] = {
    "free": "nobody had it open",
    "torn": "its record of an owner is no record",
    "reboot": "that machine has started anew since",
    "gone": "that process has ended",
    "reused": "another process has that number now",
    "abandoned": "the runtime of this process that had it open is gone",
    "expired": "that process gave no sign of life for longer than its lease",
}


class Process(Struct, frozen=True):
    """A process, told from all others there are and were."""

    host: Annotated[str, Meta(min_length=1)]
    boot_id: str  # of the running kernel; "" where there is none to be had
    pid_namespace: str  # within which `pid` means something
    pid: Annotated[int, Meta(ge=1)]
    started: Annotated[int, Meta(ge=0)]  # ticks from boot to its start; 0 where that is not known

    @property
    def system(self) -> tuple[str, str, str]:
        """Where its pid can be looked up."""
        return self.host, self.boot_id, self.pid_namespace

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Instant(Struct, frozen=True):
    """A moment on both clocks."""

    wall: Timestamp
    uptime: Seconds  # monotonic; comparable among the processes of one running system


class Owner(Struct, frozen=True):
    """The owner of a store, or the last one if `released`."""

    process: Process
    epoch: Annotated[int, Meta(ge=1)]
    lease: Annotated[Seconds, Meta(ge=0)]
    heartbeat: Instant
    released: bool


class Torn(Struct, frozen=True):
    """A record that names nobody."""

    problem: str


class Respected(Struct, frozen=True):
    """The store is in use."""

    owner: Owner
    left: Seconds | None  # of its lease, where nothing else tells whether it lives

    def __str__(self) -> str:
        problem = f"{self.owner.process} has it open. Use that one, or end it first"
        if self.left is None:
            return problem
        return f"{problem}; if it has ended, the store is free in {self.left:.0f} s at the latest"


class TakenOver(Struct, frozen=True):
    """The store is anybody's. `owner` is who had it."""

    reason: Reason
    owner: Owner | None = None

    @property
    def crashed(self) -> bool:
        """Whether the owner's process ended, or was given up, with the store open."""
        return self.reason not in ("free", "abandoned")

    @property
    def died(self) -> Timestamp | None:
        """When a process that crashed had ended at the latest, by the wall clock.

        It gave signs of life at intervals, so it may have lived for an interval longer than the last one
        says; two, as one may have come late.
        """
        if self.owner is None or not self.crashed:
            return None
        return self.owner.heartbeat.wall + 2 * self.owner.lease / BEATS

    def __str__(self) -> str:
        of = f" from {self.owner.process}" if self.owner and self.reason != "free" else ""
        return f"taken over{of}: {TAKEOVER_TEXTS[self.reason]}"


def owner_of(row: Mapping[str, Any] | None) -> Owner | Torn | None:
    """The content of a row of the table `owner` says."""
    if row is None:
        return None
    heartbeat = {"wall": row["heartbeat"], "uptime": row["uptime"]}
    released = row["released_at"] is not None
    try:
        return msgspec.convert({**row, "process": row, "heartbeat": heartbeat, "released": released}, Owner)
    except msgspec.ValidationError as error:
        return Torn(str(error))


def decide(
    record: Owner | Torn | None, me: Process, *, seen: int | None, held: bool, now: Instant
) -> Respected | TakenOver:
    """Whether `me` may take the store.

    `seen` is what the system says about the record's pid: when that process started, 0 if it does not
    say, None if there is none. `held`: whether `me` itself has the store open, in the record's epoch.
    """
    if record is None:
        return TakenOver("free")
    if isinstance(record, Torn):
        return TakenOver("torn")
    if record.released:
        return TakenOver("free", record)
    them = record.process
    if them.system == me.system:
        if them == me:
            if not held:
                return TakenOver("abandoned", record)
        elif seen is None:
            return TakenOver("gone", record)
        elif seen != them.started and seen and them.started:
            return TakenOver("reused", record)
        left = record.lease - abs(now.uptime - record.heartbeat.uptime)
        certain = True
    elif them.host == me.host and them.boot_id != me.boot_id:
        return TakenOver("reboot", record)
    else:
        left = record.lease - abs(now.wall - record.heartbeat.wall)
        certain = False
    # abs(): a sign of life from the future is none either, or a wrong clock would keep a store for ever
    if left < 0:
        return TakenOver("expired", record)
    return Respected(record, None if certain else left)
