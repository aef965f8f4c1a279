"""The ledger as it is seen: rows from the store, and over them what is going on at the desks.

Reads the ledger's tables and changes nothing.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nsmallest

from msgspec.structs import replace

from ...errors import AgentNotFound, RunNotFound
from ...paths import is_under
from ...persistence.queries import FindAgent, FindAgents, FindRuns, ListAgents, LoadAgent
from ...persistence.rows import AgentImage, AgentRow
from ...types import AgentId, RunId
from ..effects import Effect, Send
from ..storage.protocol import Answer
from .agent_runs import AgentRuns, OpenRun
from .descriptions import (
    AgentDescribed,
    AgentsDescribed,
    AwaitedRun,
    DescribeAgent,
    DescribeAgents,
    DescribeRun,
    DescribeState,
    LiveAgent,
    RunDescribed,
    StateDescribed,
)
from .errands import LIGHT_STEPS
from .log.commit_log import CommitLog
from .log.memtable import PageOfAgents
from .replies import RequestRefused
from .suspects import Suspects

LIVE = frozenset({"starting", "queued", "running", "waiting", "interrupting"})
"""Statuses that only an agent with a desk can have."""


class LedgerQueries:
    """Answers questions about agents and runs."""

    def __init__(
        self,
        commit_log: CommitLog,
        desks: Mapping[AgentId, AgentRuns],
        runs: Mapping[RunId, OpenRun],
        suspects: Suspects,
        held_back: Callable[[OpenRun], OpenRun | None] = lambda _: None,
    ) -> None:
        self._held_back = held_back
        self._journal, self._desks, self._runs, self._suspects = commit_log, desks, runs, suspects

    def agent(self, ask: DescribeAgent) -> list[Effect]:
        def found(answer: Answer) -> Iterable[Effect]:
            row: AgentRow | None = answer.value  # type: ignore[assignment]
            if answer.error or row is None:
                yield Send(
                    ask.reply_to, RequestRefused(ask.request, answer.error or AgentNotFound(ask.path))
                )
            else:
                agent = self._live(row)
                if agent.running:
                    agent = replace(agent, awaits=self._awaited_in_turn(self._desks[row.agent_id]))
                yield Send(ask.reply_to, AgentDescribed(ask.request, agent))

        return self._journal.ask(ask.request, found, FindAgent(ask.path), asked=ask)

    def _awaited_in_turn(self, desk: AgentRuns) -> tuple[AwaitedRun, ...]:
        """The open runs whose end its turn waits for."""
        return self._awaited(desk.awaited.values() if desk.awaited else ())

    def _awaited(self, run_ids: Iterable[RunId]) -> tuple[AwaitedRun, ...]:
        runs = [self._runs[run_id] for run_id in dict.fromkeys(run_ids) if run_id in self._runs]
        return tuple(AwaitedRun(run.row.run_id, run.row.path) for run in runs)

    def agents(self, ask: DescribeAgents) -> list[Effect]:
        """A status that only busy agents have is looked for among these, any other in the store."""
        if self.is_live(ask):
            return [effect for step in self.live_agents(ask) for effect in step]

        def listed(answer: Answer) -> Iterable[Effect]:
            if answer.error is not None:
                yield Send(ask.reply_to, RequestRefused(ask.request, answer.error))
            else:
                yield self._page(ask, answer.value)  # type: ignore[arg-type]

        closed = ask.status == "closed"
        query = ListAgents(ask.under, ask.after, ask.limit, closed, ask.after_id)
        return self._journal.ask(ask.request, listed, query, asked=ask)

    @staticmethod
    def is_live(ask: DescribeAgents) -> bool:
        """Whether only agents with a desk can be meant."""
        return ask.status in LIVE or ask.resident

    def live_agents(self, ask: DescribeAgents) -> Iterator[list[Effect]]:
        """The same for those, in steps: all desks are looked at."""
        desks = deque(self._desks.values())
        first: list[tuple[str, AgentId]] = []
        while desks:
            some = [desks.popleft() for _ in range(min(LIGHT_STEPS, len(desks)))]
            matching = [
                (desk.path, desk.agent_id)
                for desk in some
                if (ask.status not in LIVE or desk.live_status == ask.status)
                and (desk.present or not ask.resident)
                and is_under(desk.path, ask.under)
                and (ask.after is None or desk.path > ask.after)
            ]
            if matching:
                first = nsmallest(ask.limit + 1, [*first, *matching])
            yield []
        edge = first[ask.limit - 1][0] if len(first) > ask.limit else None
        ids = tuple(agent_id for _, agent_id in first[: ask.limit])

        def found(answer: Answer) -> Iterable[Effect]:
            if answer.error is not None:
                yield Send(ask.reply_to, RequestRefused(ask.request, answer.error))
                return
            rows: tuple[AgentRow, ...] = answer.value  # type: ignore[assignment]
            yield self._page(ask, PageOfAgents(rows, edge))

        yield self._journal.ask(ask.request, found, FindAgents(ids), asked=ask)

    def _page(self, ask: DescribeAgents, page: PageOfAgents) -> Send:
        agents = tuple(self._live(row) for row in page.rows)
        if ask.status is not None:
            agents = tuple(agent for agent in agents if agent.status == ask.status)
        if ask.resident:
            agents = tuple(agent for agent in agents if agent.resident and agent.status != "closed")
        return Send(ask.reply_to, AgentsDescribed(ask.request, agents, page.next, page.next_id))

    def _live(self, row: AgentRow) -> LiveAgent:
        desk = self._desks.get(row.agent_id)
        if desk is None:
            unwritten = self._journal.unwritten_of(row.agent_id)
            status = row.status if row.status in ("failed", "closed") else "idle"
            return LiveAgent(row, status, False, row.incarnation, 0, unwritten=unwritten)
        first = desk.first
        return LiveAgent(
            row,
            desk.status(row),
            desk.present,
            max(row.incarnation, desk.incarnation),
            desk.length + len(desk.waiting),
            running=desk.running.row.run_id if desk.running else None,
            beginning=desk.running is not None and not self._journal.is_written(desk.running.begun_by),
            awaits=self._awaited(sorted(next(iter(desk.waiting.values())).waiting_for))
            if desk.waiting
            else (),
            behind=self._behind(first),
            since=None if first is None else first.row.accepted_at,
            kind_missing=desk.kind_missing,
            unwritten=self._journal.unwritten_of(row.agent_id),
        )

    def _behind(self, first: OpenRun | None) -> AwaitedRun | None:
        if first is None:
            return None
        before = self._suspects.before(first.row.run_id)
        if before is None and (first.state == "queued" or first.resuming is not None):
            other = self._held_back(first)
            before = None if other is None else other.row.run_id
        return next(iter(self._awaited((before,))), None) if before else None

    def state(self, ask: DescribeState) -> list[Effect]:
        def loaded(answer: Answer) -> Iterable[Effect]:
            image: AgentImage | None = answer.value  # type: ignore[assignment]
            if answer.error or image is None:
                yield Send(
                    ask.reply_to, RequestRefused(ask.request, answer.error or AgentNotFound(ask.path))
                )
            else:
                yield Send(ask.reply_to, StateDescribed(ask.request, image))

        def found(answer: Answer) -> Iterable[Effect]:
            row: AgentRow | None = answer.value  # type: ignore[assignment]
            if answer.error or row is None:
                yield Send(
                    ask.reply_to, RequestRefused(ask.request, answer.error or AgentNotFound(ask.path))
                )
            else:
                yield from self._journal.ask(ask.request, loaded, LoadAgent(row.agent_id), asked=ask)

        return self._journal.ask(ask.request, found, FindAgent(ask.path), asked=ask)

    def run(self, ask: DescribeRun) -> list[Effect]:
        run = self._runs.get(ask.run_id)
        if run is not None:
            status = {"waiting": "accepted", "interrupting": "running"}.get(run.state, run.state)
            return [Send(ask.reply_to, RunDescribed(ask.request, replace(run.row, status=status)))]

        def found(answer: Answer) -> Iterable[Effect]:
            row = answer.value[0] if answer.error is None else None  # type: ignore[index]
            if row is None:
                error = answer.error or RunNotFound(ask.run_id)
                yield Send(ask.reply_to, RequestRefused(ask.request, error))
            else:
                yield Send(ask.reply_to, RunDescribed(ask.request, row))

        return self._journal.ask(ask.request, found, FindRuns((ask.run_id,)), asked=ask)
