"""The reports of a turn between two messages to the ledger.

A turn may report thousands of times before it lets others have their turn: all of that is one message.
Reports that it makes without ever doing so are bounded.
"""

from msgspec import Struct

from ...types import AgentId, Incarnation, RunId
from ..ledger.protocol import EVENT_BYTES, MOST_TOLD_BYTES, ReportProgress


class SendReports(Struct, frozen=True):
    """To itself: the turn has reported something, and others have their turn."""


class Reports:
    """Reports in, one message out."""

    __slots__ = ("_dropped", "_size", "_told")

    def __init__(self) -> None:
        self._told: list[bytes] = []
        self._size = self._dropped = 0

    def add(self, told: bytes) -> None:
        """One more; counted as dropped if there is no room for it."""
        size = self._size + EVENT_BYTES + len(told)
        if self._dropped or size > MOST_TOLD_BYTES:
            self._dropped += 1
        else:
            self._told.append(told)
            self._size = size

    def as_message(self, agent_id: AgentId, incarnation: Incarnation, run_id: RunId) -> ReportProgress:
        """The reports for the ledger."""
        return ReportProgress(agent_id, incarnation, run_id, tuple(self._told), self._size, self._dropped)
