"""The ledger: which runs there are, in which order, who executes them, how they ended.

`Ledger` holds the state, and what all commands are made of: runs are accepted, queued and given their
outcome, and all of it is committed through the `CommitLog`. The commands are functions over it, in a module
for each part of a run's life: `spawning`, `accepting`, `sessions`, `turns`, `waiting`, `interrupting`; for
an opening `recovery`; for a closing `closing`; for the writer's answers `disk`; for crashes `verdicts` and
`solo`.

Every run gets exactly one outcome (G2): `Ledger.end` alone writes it and takes the run out of `runs`. The
end of a turn counts only if its run is still there, under way, in the same incarnation of its session.
"""

from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from ...persistence.records import (
    EndRun,
    Record,
    SetRun,
)
from ...persistence.rows import AgentImage, RunRow, Unfinished
from ...run_ids import plain_id
from ...types import (
    Address,
    AgentId,
    Durability,
    Payload,
    RequestId,
    RunId,
    Timestamp,
)
from ..effects import Effect, Send
from ..events.protocol import MISSED
from ..residency.protocol import (
    ActivateAgent,
    CancelActivation,
)
from . import solo
from .admission import MOST_HANDED_IN
from .agent_runs import AgentRuns, OpenRun
from .erasures import Erasures
from .errands import Portions
from .event_data import event_data
from .latencies import Latencies
from .log.commit_log import CommitLog
from .log.commits import Commit, NewEvent
from .lookups import Then
from .progress import Progress
from .protocol import (
    AcceptRun,
    Checkpoint,
    RecordSpawn,
    ReportDivergence,
    ReportProgress,
    TurnResumes,
)
from .queries import LedgerQueries
from .recent_runs import RecentRuns
from .replies import (
    RunOutcome,
    TurnsEnded,
    TurnSettled,
)
from .store_outage import StoreOutage
from .suspects import (
    CRASHED,
    Suspects,
)
from .sweep import InterruptSweep
from .underway import RunningTurns
from .waits import WaitsForGraph

RECORDS_OF_A_PIECE = 2
"""Records of one request that is accepted: itself, and an event."""


class Ledger:
    """The open runs of all agents, in order of acceptance."""

    def __init__(
        self,
        commit_log: CommitLog,
        unfinished: Unfinished,
        *,
        backlog: int,
        attempts_of: Callable[[str], int | None],
        store: str = "",
    ) -> None:
        self.commit_log = commit_log
        self.health = StoreOutage(store)
        self.told = Progress()
        self.desks: dict[AgentId, AgentRuns] = {}
        self.runs: dict[RunId, OpenRun] = {}
        self.suspects = Suspects()
        self.beside: dict[int, set[RunId]] = {}  # by serial: the suspects in doubt about this run
        self.witnesses: dict[int, OpenRun] = {}  # these runs
        # open runs that are older than the crash before this opening, if there was one
        self.older = len(unfinished.runs) if unfinished.crashed else 0
        self.view = LedgerQueries(commit_log, self.desks, self.runs, self.suspects, self._held_back)
        self.waits = WaitsForGraph(self.desks, self.runs)
        self.known = unfinished.known
        self.backlog = backlog
        self.attempts_of = attempts_of  # of a kind by name; None if it is not registered here
        self.nonce, self.epoch = unfinished.nonce, unfinished.epoch
        self.serial = unfinished.next_serial
        self.spawning = 0  # agents recorded whose session was not loaded yet
        self.lookups: dict[RunId, deque[tuple[AcceptRun | RecordSpawn, Then]]] = {}
        self.looked_for: set[RequestId] = set()  # who waits for a run that is being looked up
        self.postponed: set[AgentId] = set()  # their next run begins when the store can be written again
        self.sweeps: list[InterruptSweep] = []  # interrupts under way
        self.swept_last: InterruptSweep | None = None
        self.errands = Portions()
        self.turns = RunningTurns()
        self.recent = RecentRuns()
        self.erasures = Erasures()
        self.latencies = Latencies()  # of commits, of runs until they begin, of turns
        self.closing_reason: str | None = None
        self.sealed = False  # the store is about to be closed: nothing more is accepted
        self.drained: Address | None = None  # who waits for the turns to end
        self.now: Timestamp = 0.0  # told before each command

    def _held_back(self, run: OpenRun) -> OpenRun | None:
        return solo.held_back(self, run)

    # Where it stands

    @property
    def cautious(self) -> bool:
        """Whether it is recorded for which run a session opens, because a crash may come again.

        That is so from a crash on, until all runs have ended that were open then.
        """
        return self.older > 0

    @property
    def closing(self) -> bool:
        """Whether no turn begins any more."""
        return self.closing_reason is not None

    def pieces(self) -> int:
        """The runs, messages and agents that were accepted and are not both done and on disk.

        They are counted against the backlog, so a slow writer holds up callers and memory is bounded.
        """
        unwritten = self.commit_log.debt
        return len(self.runs) + unwritten.pieces + max(self.spawning, unwritten.agents)

    @property
    def far_behind(self) -> bool:
        """Whether new work would wait for the disk alone."""
        debt = self.commit_log.debt
        if self.sealed or self.health.problem is not None:
            return False
        if len(self.runs) + self.spawning >= self.backlog:  # It would wait for other work as well.
            return False
        return debt.records >= MOST_HANDED_IN or debt.heavy or self.pieces() >= self.backlog

    @property
    def room(self) -> int:
        """How many requests may be accepted before the disk is far behind."""
        debt = self.commit_log.debt
        left = min(self.backlog - self.pieces(), (MOST_HANDED_IN - debt.records) // RECORDS_OF_A_PIECE)
        return max(1, left)

    def unless_crowded(self) -> Durability | None:
        """The durability of records that user code can make without limit.

        They wait for the disk while too much is unwritten.
        """
        crowded = self.commit_log.debt.crowded and self.commit_log.durability == "memory"
        return "process" if crowded else None

    def count_turns(self) -> list[Effect]:
        """Tell the supervisor, if it waits for that, that no turn is under way any more."""
        if self.drained is None or self.turns:
            return []
        supervisor, self.drained = self.drained, None
        return [Send(supervisor, TurnsEnded())]

    # The open runs of an agent

    def agent_runs(self, agent_id: AgentId, path: str, kind: str) -> AgentRuns:
        """The entry of an agent, made if there is none."""
        desk = self.desks.get(agent_id)
        if desk is None:
            desk = self.desks[agent_id] = AgentRuns(agent_id, path, kind)
            desk.erasures = self.erasures.count
        elif not desk.path:
            desk.path, desk.kind = path, kind
        return desk

    def desk_of_turn(
        self, ask: Checkpoint | ReportDivergence | ReportProgress | TurnResumes
    ) -> AgentRuns | None:
        """The agent whose turn says this; None if that turn is over, or has begun again since."""
        desk = self.desks.get(ask.agent_id)
        if desk is None or desk.running is None or desk.incarnation != ask.incarnation:
            return None
        return desk if desk.running.row.run_id == ask.run_id else None

    def tidy(self, desk: AgentRuns) -> None:
        """Forget an agent that nothing is going on with."""
        if desk.at_rest and not desk.called:
            self.desks.pop(desk.agent_id, None)

    def settle(self, desk: AgentRuns) -> list[Effect]:
        """Cancel the activation of an agent whose runs were taken away."""
        effects: list[Effect] = []
        if desk.called and not desk.queue and not desk.running:
            desk.called = False
            effects.append(Send("residency", CancelActivation(desk.agent_id)))
        self.tidy(desk)
        return effects

    def new_run(
        self,
        desk: AgentRuns,
        input: Payload,
        run_id: RunId | None,
        durability: Durability | None,
        started_by: int | None = None,
    ) -> OpenRun:
        """Accept a run and queue it."""
        row = self.run_row(desk, input, run_id, started_by=started_by)
        run = OpenRun(row, (), durability or self.commit_log.durability)
        self.runs[row.run_id] = run
        self.recent.accepted(row.run_id)
        desk.push(run)
        return run

    def run_row(
        self,
        desk: AgentRuns,
        input: Payload,
        run_id: RunId | None,
        awaits: tuple[RunId, ...] = (),
        *,
        started_by: int | None = None,
    ) -> RunRow:
        """The row of a run that is accepted now."""
        serial = self.next_serial()
        return RunRow(
            run_id or plain_id(self.nonce, self.epoch, serial),
            serial,
            desk.agent_id,
            desk.path,
            input,
            self.now,
            awaits=awaits,
            started_by=started_by,
        )

    def next_serial(self) -> int:
        """The next number in the order of acceptance."""
        serial = self.serial
        self.serial += 1
        return serial

    def join(self, desk: AgentRuns, run: OpenRun) -> None:
        """Queue a run, or have it wait for those that it continues."""
        waiting_for: set[RunId] = set()
        for awaited in run.row.awaits:
            other = self.runs.get(awaited)
            if other is not None and other is not run:
                waiting_for.add(awaited)
                other.continuations = [*other.continuations, run]
        if waiting_for:
            run.waiting_for = waiting_for
            run.state = "waiting"
            desk.waiting[run.row.run_id] = run
        else:
            run.state = "queued"
            desk.push(run)

    def activate(
        self, desk: AgentRuns, *, open_only: bool = False, image: AgentImage | None = None
    ) -> list[Effect]:
        """Have the agent loaded, and its session take a run if one is queued.

        `image` is what its session opens from, if that is known here.
        """
        if desk.kind_missing:  # It may have been registered since.
            desk.kind_missing = self.attempts_of(desk.kind) is None
        if desk.kind_missing or desk.ends or self.closing_reason is not None:
            return []
        if not open_only and (desk.called or not desk.queue or not solo.may_begin(self, desk)):
            return []
        desk.called = desk.called or not open_only
        desk.offered = desk.offered or image is not None
        goes_on = desk.goes_on and not open_only
        return [Send("residency", ActivateAgent(desk.agent_id, desk.path, not open_only, image, goes_on))]

    # Ends

    def end(
        self,
        desk: AgentRuns,
        run: OpenRun,
        status: str,
        error: str | None,
        result: Payload | None = None,
        records: tuple[Record, ...] = (),
        facts: tuple[NewEvent, ...] = (),
        *,
        data: dict[str, object] | None = None,
        error_type: str | None = None,
    ) -> list[Effect]:
        """Give a run its outcome, once: record it, tell who waits, let its continuations go on."""
        effects: list[Effect] = []
        line = self.told.over(run.row.run_id)
        if line is not None and line.end is not None:
            effects.append(Send(line.end[1], TurnSettled(run.row.agent_id, more=False)))
        facts += self.dropped(run)
        was_at_work, crashed = run is desk.running, error_type == CRASHED
        concerned = solo.clear_up(self, run, was_at_work=was_at_work, crashed=crashed)
        self._take_out(desk, run)
        if crashed or was_at_work:
            desk.suspected = crashed
        row = replace(
            run.row, status=status, result=result, error=error, ended_at=self.now, error_type=error_type
        )
        ended = EndRun(
            row.run_id,
            row.agent_id,
            status,
            result,
            error,
            row.attempt,
            row.started_at,
            self.now,
            error_type,
        )
        told = {"error": error} if error else {}
        fact = NewEvent(self.now, f"run.{status}", row.path, row.run_id, event_data(**told, **(data or {})))
        waiters = run.asked.items() if run.asked else ()
        news = tuple([Send(to, RunOutcome(request, row)) for request, to in waiters])
        for request in run.asked:
            self.awaits_no_more(request)
        known = tuple(SetRun.of(other.row) for other in concerned)
        effects += self.commit((*records, ended, *known), (*facts, fact), run.durability, *news)
        self.recent.add(row, self.commit_log.last)
        effects += self._continue(run)
        if self.suspects:
            self.suspects.over(row.run_id)
            effects += solo.next_suspect(self)
        return effects + solo.judge_again(self, concerned)

    def _take_out(self, desk: AgentRuns, run: OpenRun) -> None:
        """An open run is none any more, wherever it stands."""
        del self.runs[run.row.run_id]
        run.state = "ended"
        self.older -= run.recovered and self.older > 0
        if run is desk.running:
            desk.stops()
        elif desk.waiting.pop(run.row.run_id, None) is None:
            desk.drop(run)

    def _continue(self, ended: OpenRun) -> list[Effect]:
        """Queue the continuations that wait for no other run."""
        effects: list[Effect] = []
        for run in ended.continuations:
            if isinstance(run.waiting_for, set):
                run.waiting_for.discard(ended.row.run_id)
            if not run.waiting_for and run.state == "waiting":
                desk = self.desks[run.row.agent_id]
                del desk.waiting[run.row.run_id]
                run.state = "queued"
                desk.push(run)
                effects += self.activate(desk)
        return effects

    def dropped(self, run: OpenRun) -> tuple[NewEvent, ...]:
        """The event that says how many reports of a run were not recorded, if any."""
        if not run.untold:
            return ()
        count, run.untold = run.untold, 0
        return (NewEvent(self.now, MISSED, run.row.path, run.row.run_id, event_data(dropped=count)),)

    def awaits_no_more(self, request: RequestId) -> None:
        """A request is answered: the turn that made it, if one did, waits for that run no more."""
        desk = self.waits.asker(request)
        if desk is not None:
            desk.awaits_no_more(request)

    def commit(
        self,
        records: tuple[Record, ...],
        facts: tuple[NewEvent, ...],
        durability: Durability | None = None,
        *then: Send,
        lazy: bool = False,
    ) -> list[Effect]:
        level = durability or self.commit_log.durability
        return self.commit_log.commit(Commit(records, facts, level, then, lazy))
