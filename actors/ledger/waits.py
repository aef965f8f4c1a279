"""Which run waits for which, and whether one more wait would close a circle.

Reads the ledger's desks and runs, and changes nothing. A run needs another one to end when

- its turn waits for the outcome of that one,
- it is a continuation of that one, or
- it can begin only then, as that one is under way at the same agent: one turn at a time.
"""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import TypeVar

from ...errors import WouldDeadlock
from ...types import AgentId, RequestId, RunId
from .agent_runs import AgentRuns, OpenRun

N = TypeVar("N", bound=Hashable)
WAITS_FOR, GOES_ON_AFTER, BEGINS_AFTER = "waits for", "goes on after", "begins after"


class WaitsForGraph:
    """The graph of waits. Its edges are looked up, not kept: they change with nearly every message."""

    def __init__(self, desks: Mapping[AgentId, AgentRuns], runs: Mapping[RunId, OpenRun]) -> None:
        self._desks, self._runs = desks, runs

    def refusal(self, request: RequestId, awaited: OpenRun) -> WouldDeadlock | None:
        """Why the turn that asks may not wait for this run: the circle that its wait would close."""
        desk = self.asker(request)
        waiter = desk.running if desk is not None else None
        if waiter is None:
            return None
        path = find_path(awaited, waiter, self._needs, self._needed_by)
        if path is None:
            return None
        circle = [(WAITS_FOR, waiter), *((self._how(run, other), run) for run, other in pairwise(path))]
        return WouldDeadlock(tuple((how, run.row.run_id, run.row.path) for how, run in circle))

    def asker(self, request: RequestId) -> AgentRuns | None:
        """Where the turn is under way that asks by this request; None for somebody outside."""
        if not isinstance(request, tuple):
            return None
        agent_id, incarnation, *_ = request
        desk = self._desks.get(agent_id)
        return desk if desk is not None and desk.incarnation == incarnation else None

    def _how(self, run: OpenRun, other: OpenRun) -> str:
        """In which way an open run needs another one."""
        if self._desks[run.row.agent_id].running is run:
            return WAITS_FOR
        return GOES_ON_AFTER if other.row.run_id in run.waiting_for else BEGINS_AFTER

    def _needs(self, run: OpenRun) -> Iterator[OpenRun]:
        """The open runs that must end before this one can."""
        desk = self._desks[run.row.agent_id]
        if desk.running is run:
            needed: Iterable[RunId] = desk.awaited.values() if desk.awaited else ()
            yield from (self._runs[run_id] for run_id in needed if run_id in self._runs)
            return
        yield from (self._runs[run_id] for run_id in run.waiting_for if run_id in self._runs)
        if desk.running is not None:
            yield desk.running

    def _needed_by(self, run: OpenRun) -> Iterator[OpenRun]:
        """The open runs that can end only after this one: `_needs`, the other way round."""
        for request in run.asked:
            desk = self.asker(request)
            if desk is not None and desk.running is not None and desk.awaited and request in desk.awaited:
                yield desk.running
        yield from (other for other in run.continuations if other.state == "waiting")
        desk = self._desks[run.row.agent_id]
        if desk.running is run:
            yield from (other for other in desk.queue if other.state != "ended")
            yield from desk.waiting.values()


def find_path(
    start: N, goal: N, after: Callable[[N], Iterable[N]], before: Callable[[N], Iterable[N]]
) -> list[N] | None:
    """The nodes from `start` to `goal`, both included, along `after`; None if there is no way.

    Searches from both ends in turn, and is done when either knows: the cost is twice that of the cheaper
    search. As a rule few wait for the one that waits (its ancestors), and the awaited one waits for few.
    """
    if start == goal:
        return [start]
    searches = (_search(start, goal, after), False), (_search(goal, start, before), True)
    while True:
        for search, backwards in searches:
            try:
                next(search)
            except StopIteration as end:
                found: list[N] | None = end.value
                return found[::-1] if found is not None and backwards else found


def _search(
    start: N, goal: N, following: Callable[[N], Iterable[N]]
) -> Generator[None, None, list[N] | None]:
    """A step for each edge; returns the way, or None."""
    came_from: dict[N, N] = {}
    border = deque([start])
    while border:
        node = border.popleft()
        for other in following(node):
            yield
            if other == goal:
                way = [goal, node]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if other != start and other not in came_from:
                came_from[other] = node
                border.append(other)
    return None
