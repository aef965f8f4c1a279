"""The door: where work that is handed in waits while the disk is far behind.

Requests that wait for the disk alone are soon accepted, so none is refused for it: an answer that comes
later has its caller hand in the next piece later, and memory stays bounded. Asks are let in as they came.
Decision 0035 says why, and when one is refused all the same.
"""

from collections import deque
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from ...types import AgentId, Seconds
from .protocol import AcceptMessage, AcceptRun, RecordSpawn

MOST_HANDED_IN = 50_000
"""Records that are not on disk, beyond which nobody outside may hand in more: 25,000 pieces of work."""

REQUESTS_IN_PORTION = 64
"""Asks that are let in at a time, with others' turn in between."""

STALLED: Seconds = 2.0
"""After as long without a batch on disk, it is not waited for any more."""

Ask: TypeAlias = RecordSpawn | AcceptRun | AcceptMessage


class AdmitNext(Struct, frozen=True):
    """To the ledger, from itself: this ask waited at the door and is to be decided now."""

    ask: Ask


class CheckAdmission(Struct, frozen=True, gc=False):
    """To the ledger, from a timer: is the disk still at the batch of this number?"""

    batches: int


class Admission:
    """Asks in, those whose time has come out, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Ask] = deque()
        self._let_in = 0  # that were not decided yet
        self._closed: set[AgentId] = set()  # while somebody waited here

    def __bool__(self) -> bool:
        """Whether anybody waits, or was let in and is to be decided."""
        return bool(self._waiting) or self._let_in > 0

    def comes(self, ask: Ask, *, shut: bool) -> bool:
        """Whether it has to wait: the door is shut, or somebody came before."""
        if not shut and not self:
            return False
        self._waiting.append(ask)
        return True

    def open(self, room: int) -> list[AdmitNext]:
        """The next ones, at most `room`, once those before them were decided."""
        count = 0 if self._let_in else min(room, REQUESTS_IN_PORTION, len(self._waiting))
        self._let_in += count
        return [AdmitNext(self._waiting.popleft()) for _ in range(count)]

    def closes(self, agents: tuple[tuple[AgentId, str], ...]) -> None:
        """These agents are closed: what waits here for them comes too late."""
        if self:
            self._closed.update(agent_id for agent_id, _ in agents)

    def entered(self, news: AdmitNext) -> Ask:
        """The request that is to be decided, as it is by now."""
        ask = news.ask
        if not isinstance(ask, RecordSpawn) and ask.agent_id in self._closed:
            ask = replace(ask, closed=True)
        self._let_in -= 1
        if not self:
            self._closed.clear()
        return ask
