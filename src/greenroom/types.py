"""The types that every component shares: ids, units, statuses and roles. Plain values only."""

from collections.abc import Hashable
from typing import Any, Literal, NewType, TypeAlias

AgentId = NewType("AgentId", int)
"""Number of an agent, unique in its store for ever: a path can be used again, an agent id cannot."""
Incarnation = NewType("Incarnation", int)
"""Number of an agent's session, growing by one each time it gets a new one."""
RunId = NewType("RunId", str)
RequestId: TypeAlias = Hashable
"""Number that a requester chose for one question; the answer repeats it."""
Seconds: TypeAlias = float
Timestamp: TypeAlias = float
"""Seconds since the epoch, as of `time.time()`."""
Payload: TypeAlias = bytes
"""A user's value (input, config, message body, result) as bytes, see `persistence.codec`."""
Address: TypeAlias = Any
"""An actor's address. Cores hand it on and never look into it."""

Durability = Literal["memory", "process", "power"]
AgentStatus = Literal[
    "starting", "idle", "queued", "running", "waiting", "interrupting", "failed", "closed"
]
RunStatus = Literal["accepted", "queued", "running", "completed", "failed", "interrupted"]
OutcomeStatus = Literal["completed", "failed", "interrupted"]

Role: TypeAlias = Literal[
    "directory",
    "ledger",
    "residency",
    "slots",
    "writer",
    "reader",
    "events",
    "processes",
    "supervisor",
]
