"""The processes that agents started, as the store knows them, and what becomes of those of dead owners.

Owns the rules and the record's shape, as `ownership` does for the store's own owner. Reads no clock and no
process table. A wrong answer here ends a stranger's process or leaves one of ours, so each rule names the
one thing that it goes by:

- A pid alone is nobody: a process is its pid *and* its start, on one running system. - A store has one
owner. Nobody owns the processes that an earlier opening of *this file* left: whoever opened it then has
ended, or has lost the store. - A copy of a store names processes that a live runtime may own in the
original. They are let be.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ..types import AgentId, Incarnation
from .lease_rules import Instant, Owner, Process, Respected, decide

OrphanVerdict: TypeAlias = Literal["spared", "there", "gone", "reused", "torn", "elsewhere"]
"""`spared`: its owner lives, leave it alone. `there`: end it. The others: there is no process (any more)
that the record could be held against; end only what carries its mark."""

VERDICT_TEXTS: dict[OrphanVerdict, str] = {
    "spared": "its owner is alive",
    "there": "its owner is gone",
    "gone": "it has ended",
    "reused": "its number belongs to another process now",
    "torn": "its record is no record",
    "elsewhere": "it was started on another machine or in another container, and its owner's lease is over",
}


class ProcessRow(Struct, frozen=True):
    """A process, recorded before it can do work and for as long as anything of it is there."""

    number: int  # in this store
    agent_id: Annotated[AgentId, Meta(ge=1)]
    incarnation: Incarnation
    path: str
    kind: str
    process: Process  # the leader of its own group and session
    owner: Owner  # who started it, with the last sign of life
    token: Annotated[str, Meta(min_length=8)]  # of that opening: in the environment of all that it started
    file: str  # device and inode of the store when it was written

    @property
    def mark(self) -> str:
        """The mark that its processes carry in their environment."""
        return f"{self.token}.{self.number}"


class TornRow(Struct, frozen=True):
    """A record that names no process; what is legible of it."""

    number: int
    problem: str
    agent_id: int | None = None
    token: str | None = None
    path: str = ""

    @property
    def mark(self) -> str | None:
        return f"{self.token}.{self.number}" if self.token else None


OrphanRecord: TypeAlias = ProcessRow | TornRow

PROCESS_COLUMNS = (
    "number, agent_id, incarnation, path, kind, host, boot_id, pid_namespace, pid, started,"
    " owner_pid, owner_started, epoch, lease, heartbeat, uptime, token, file"
)


def columns_of(row: ProcessRow) -> tuple[object, ...]:
    """The values of `PROCESS_COLUMNS`."""
    them, owner = row.process, row.owner
    return (
        row.number, row.agent_id, row.incarnation, row.path, row.kind,
        them.host, them.boot_id, them.pid_namespace, them.pid, them.started,
        owner.process.pid, owner.process.started, owner.epoch, owner.lease,
        owner.heartbeat.wall, owner.heartbeat.uptime, row.token, row.file,
    )  # fmt: skip


def row_of(found: Mapping[str, Any]) -> OrphanRecord:
    """The content of a row of the table `processes` says."""
    owner = {
        "process": {**found, "pid": found["owner_pid"], "started": found["owner_started"]},
        "epoch": found["epoch"],
        "lease": found["lease"],
        "heartbeat": {"wall": found["heartbeat"], "uptime": found["uptime"]},
        "released": False,
    }
    try:
        return msgspec.convert({**found, "process": found, "owner": owner}, ProcessRow)
    except msgspec.ValidationError as error:
        agent_id, token, path = found["agent_id"], found["token"], found["path"]
        return TornRow(
            found["number"],
            str(error),
            agent_id if isinstance(agent_id, int) else None,
            token if isinstance(token, str) and len(token) >= 8 else None,
            path if isinstance(path, str) else "",
        )


def judge(
    row: OrphanRecord,
    me: Process,
    *,
    here: bool,
    seen: int | None,
    owner_seen: int | None,
    held: bool,
    now: Instant,
) -> OrphanVerdict:
    """The verdict on a process that an earlier opening of the store recorded.

    `here`: the record was written to this very file, and not to one that this is a copy of. `seen` and
    `owner_seen` are what the system says about the two pids: when that process started, 0 if it does not
    say, None if there is none. `held`: whether the owner is `me`, with that store open at this moment.
    """
    if isinstance(row, TornRow):
        return "torn"
    them = row.process
    if not here:
        owner = decide(row.owner, me, seen=owner_seen, held=held, now=now)
        # in a copy nobody renews the sign of life: that it is old says nothing
        if isinstance(owner, Respected) or owner.reason == "expired":
            return "spared"
    if them.system != me.system:
        if them.host == me.host and them.boot_id != me.boot_id:
            return "gone"  # with the system on which it ran
        lease = row.owner.lease - abs(now.wall - row.owner.heartbeat.wall)
        return "spared" if lease >= 0 else "elsewhere"
    if seen is None:
        return "gone"
    # a start that is not known could be anybody's
    return "there" if seen == them.started and seen else "reused"
