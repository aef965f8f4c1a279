"""The desks where a turn is under way, so that nobody has to look at all desks for them.

It is told when a turn begins and looks for itself whether it is over: there are several ways to end.
"""

from collections import OrderedDict
from collections.abc import Iterator

from ...types import AgentId
from .agent_runs import AgentRuns

FIRST_BOUND = 64


class RunningTurns:
    """Desks in, those where a turn is under way out. Each operation is O(1) amortised, or O(turns)."""

    def __init__(self) -> None:
        self._desks: OrderedDict[AgentId, AgentRuns] = OrderedDict()  # and some where it is over
        self._bound = FIRST_BOUND

    def begun(self, desk: AgentRuns) -> None:
        """A turn of this agent begins."""
        self._desks[desk.agent_id] = desk
        if len(self._desks) > self._bound:
            self._bound = 2 * sum(1 for _ in self) + FIRST_BOUND

    def __iter__(self) -> Iterator[AgentRuns]:
        running = [(agent_id, desk) for agent_id, desk in self._desks.items() if desk.running is not None]
        if len(running) < len(self._desks):
            self._desks = OrderedDict(running)
        return iter([desk for _, desk in running])

    def __bool__(self) -> bool:
        while self._desks:
            if next(iter(self._desks.values())).running is not None:
                return True
            self._desks.popitem(last=False)
        return False
