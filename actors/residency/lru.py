"""The LRU: told which residents are at rest, it answers whom to evict. It never evicts.

Another policy would be told the same facts and give the same answers.
"""

from collections import OrderedDict

from ...types import AgentId


class LRU:
    """The residents at rest, by last use, and the pins. Every operation is O(1).

    A resident is used from `busy` to `idle`. One that is in use, starting or leaving is not in
    here, so whatever `victim` answers can go at once. Pins are kept by agent id, whether it is
    resident or not.
    """

    __slots__ = ("_idle", "_kept", "_pins")

    def __init__(self) -> None:
        self._idle: OrderedDict[AgentId, None] = OrderedDict()  # may go, least recently used first
        self._kept: set[AgentId] = set()  # idle but pinned
        self._pins: set[AgentId] = set()

    def __contains__(self, agent_id: AgentId) -> bool:
        """Whether the agent may be evicted now."""
        return agent_id in self._idle

    def idle(self, agent_id: AgentId) -> None:
        """The agent came to rest (or was touched at rest): nobody was used later."""
        if agent_id in self._pins:
            self._kept.add(agent_id)
        else:
            self._idle[agent_id] = None
            self._idle.move_to_end(agent_id)

    def busy(self, agent_id: AgentId) -> None:
        """The agent is in use, or it leaves."""
        self._idle.pop(agent_id, None)
        self._kept.discard(agent_id)

    def pin(self, agent_id: AgentId) -> None:
        """Never answer this agent."""
        self._pins.add(agent_id)
        if agent_id in self._idle:
            del self._idle[agent_id]
            self._kept.add(agent_id)

    def unpin(self, agent_id: AgentId) -> None:
        """Answer this agent again, after all others: to unpin it is to use it."""
        self._pins.discard(agent_id)
        if agent_id in self._kept:
            self._kept.remove(agent_id)
            self._idle[agent_id] = None

    def pinned(self, agent_id: AgentId) -> bool:
        return agent_id in self._pins

    def victim(self) -> AgentId | None:
        """Whom to evict next, if anybody: the one at rest that was used least recently."""
        return next(iter(self._idle), None)
