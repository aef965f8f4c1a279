"""The SlotAllocator's manual: who may execute a turn, and who waits for it.

A *lease* is one request for a slot, from the asking to the giving back. It is named by whoever asks
and is never used again.
"""

from typing import TypeAlias

from msgspec import Struct

from ...types import AgentId, Incarnation, RequestId, Timestamp


class Lease(Struct, frozen=True, gc=False):
    """The name of one request for a slot."""

    agent_id: AgentId
    incarnation: Incarnation
    number: int


# Commands


class ConfigureSlots(Struct, frozen=True, gc=False):
    """Sent once, before anything else."""

    slots: int


class AcquireSlot(Struct, frozen=True, gc=False):
    """Ask for a slot. Answered once, now or later, by `SlotGranted`; never, if released before.

    Granted first come, first served within a tree and in turn between the trees that wait; what
    `goes_on` (a turn that waited, a continuation) comes before what is new. Repeating it changes nothing.
    """

    lease: Lease
    path: str
    goes_on: bool = False


class ReleaseSlot(Struct, frozen=True, gc=False):
    """End a lease, whether it holds a slot or waits for one. Repeating it changes nothing."""

    lease: Lease


class EndHolder(Struct, frozen=True, gc=False):
    """End every lease of a session that is gone. Repeating it changes nothing."""

    agent_id: AgentId
    incarnation: Incarnation


class DescribeSlots(Struct, frozen=True, gc=False):
    """Answered by `SlotReport`. With `agent_id`, `place` tells where that agent waits."""

    request: RequestId
    agent_id: AgentId | None = None


# Events and replies


class SlotGranted(Struct, frozen=True, gc=False):
    lease: Lease


class SlotReport(Struct, frozen=True, gc=False):
    """`holders` are the paths that hold a slot, longest first; at most the first 100 are named."""

    request: RequestId
    slots: int
    granted: int
    waiting: int
    holders: tuple[str, ...]
    place: int | None = None  # how many grants come before the agent's own
    since: Timestamp | None = None  # when the agent began to wait


SlotCommand: TypeAlias = ConfigureSlots | AcquireSlot | ReleaseSlot | EndHolder | DescribeSlots
SlotEvent: TypeAlias = SlotGranted | SlotReport
