"""The agents that were deleted lately: sessions may hold messages of theirs that nobody has read."""

from collections.abc import Iterable

from ...types import AgentId

MOST_ERASURES = 4_096
"""How many are kept before it is looked for some that no session needs to hear of any more."""


class Erasures:
    """Deletions in their order. A session hears, with its next turn, of those since it was last told."""

    def __init__(self) -> None:
        self._ids: list[AgentId] = []
        self._forgotten = 0

    @property
    def count(self) -> int:
        """How many there have been."""
        return self._forgotten + len(self._ids)

    def add(self, agents: Iterable[AgentId], told: Iterable[int]) -> None:
        """These were deleted; `told` are the counts of which the sessions in memory know."""
        if len(self._ids) >= MOST_ERASURES:
            all_know = min(told, default=self.count)
            del self._ids[: max(0, all_know - self._forgotten)]
            self._forgotten = max(self._forgotten, all_know)
        self._ids.extend(agents)

    def since(self, count: int) -> frozenset[AgentId]:
        """Those after the first `count`."""
        return frozenset(self._ids[max(0, count - self._forgotten) :])
