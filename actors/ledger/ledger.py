"""Which runs there are, who executes them, how they ended: decided here and nowhere else.

Owns the desks of the agents that anything is going on with, the open runs and who waits for them, and
the order of acceptance. Writes through the `CommitLog` that it is given. Does not know slots, sessions or
how a turn is executed: a session that holds a slot *takes* its run here, and brings back its end.

That every run gets exactly one outcome (G2) is this: an outcome is written by `_end` alone, which takes
the run out of `runs`; a turn's end counts only if its run is still there, under way, in that incarnation.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ...errors import (
    AgentClosed,
    BacklogFull,
    GreenroomError,
    PathTaken,
    RunIdTaken,
    RunNotFound,
    RuntimeClosing,
)
from ...persistence.queries import FindRuns, LoadAgent
from ...persistence.records import (
    AddAgent,
    AddMessage,
    AddRun,
    BeginRun,
    DivideRun,
    DropMessages,
    EndRun,
    EraseAgent,
    InterruptRun,
    PutSnapshot,
    Record,
    SetAgent,
    SetIncarnation,
    SetRun,
)
from ...persistence.rows import AgentImage, AgentRow, MessageRow, RunRow, Unfinished
from ...run_ids import plain_id, stem_of
from ...stored_text import storable_text
from ...types import (
    Address,
    AgentId,
    Durability,
    Incarnation,
    Payload,
    RequestId,
    RunId,
    Seconds,
    Timestamp,
)
from ..effects import Effect, Send, StartTimer
from ..events.protocol import MISSED
from ..residency.protocol import (
    ActivateAgent,
    AgentActivated,
    AgentPassivated,
    CancelActivation,
    LoadFailed,
    OpeningDeferred,
)
from ..storage.protocol import Answer, Ask, BatchWritten
from .admission import MOST_HANDED_IN
from .agent_runs import AgentRuns, OpenRun
from .descriptions import DescribeAgents, DescribeLedger, LedgerReport
from .erasures import Erasures
from .errands import LIGHT_STEPS, Portions
from .latencies import Latencies
from .log.commit_log import CommitLog
from .log.commits import Commit, NewEvent
from .progress import Progress
from .protocol import (
    AcceptMessage,
    AcceptRun,
    AwaitRun,
    AwaitRuns,
    Checkpoint,
    EndTurn,
    ForgetRequest,
    ForgetRuns,
    GoOnTelling,
    InterruptRuns,
    InterruptTree,
    InterruptTurns,
    KindRegistered,
    OpeningRecorded,
    OutgoingMessage,
    RecordClose,
    RecordSpawn,
    ReportDivergence,
    ReportProgress,
    SessionCancelled,
    SessionFailed,
    SessionStarted,
    StopBeginning,
    TakeRun,
    TurnResumes,
    TurnWaits,
)
from .queries import LedgerQueries
from .recent_runs import RecentRuns
from .replies import (
    AgentsClosed,
    AgentSpawned,
    CheckpointRecorded,
    CloseRecorded,
    InterruptTurn,
    LedgerReady,
    MessageAccepted,
    NothingToRun,
    RequestRefused,
    RunAccepted,
    RunBegun,
    RunOutcome,
    RunPending,
    RunsInterrupted,
    RunsSought,
    SpawnSettled,
    SpawnWithdrawn,
    TurnMayResume,
    TurnsEnded,
    TurnSettled,
)
from .store_outage import Episode, StoreOutage
from .suspects import (
    CRASHED,
    NEVER_KNOWN,
    NOT_KNOWN_HERE,
    SUSPECT_FROM,
    Outran,
    Suspects,
    cleared,
    cut_off,
    doubted,
    guilty,
    longest_solo,
    lost,
    never_known,
    verdict,
)
from .suspects import (
    place as place_of,
)
from .sweep import InterruptSweep
from .underway import RunningTurns
from .waits import WaitsForGraph

RESTART_DELAY: Seconds = 1.0
"""After a turn or an opening was cancelled from outside of greenroom: mostly the program is ending."""

CLOSED = "the runtime closed before its turn ended"
CANCELLED = "its turn was cancelled from outside of greenroom, as if the program around it ended"

_Row = TypeVar("_Row")


class ActivateAgain(Struct, frozen=True):
    """To the ledger, from a timer: what was cancelled from outside may begin again."""

    agent_id: AgentId


RUNS_IN_LOOKUP = 64
"""Runs in one question to the disk, of those that somebody waits for."""

RECORDS_OF_A_PIECE = 2
"""Of one that is handed in: itself, and an event."""

MOST_AHEAD = 10_000
"""Records that are not on disk, beyond which an errand waits: the disk is kept busy with half of them."""

LOOKS_IN_STEP = 16
"""Open runs that are waited for, or taken over from the store, in one step."""


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
        self._beside: dict[int, set[RunId]] = {}  # by serial: the suspects whose doubts name this run
        self._witnesses: dict[int, OpenRun] = {}  # these runs
        # open runs that are older than the crash before this opening, if there was one
        self._older = len(unfinished.runs) if unfinished.crashed else 0
        self.view = LedgerQueries(commit_log, self.desks, self.runs, self.suspects, self._held_back)
        self.waits = WaitsForGraph(self.desks, self.runs)
        self.known = unfinished.known
        self._backlog = backlog
        self._attempts_of = attempts_of  # of a kind by name; None if it is not registered here
        self._nonce, self._epoch = unfinished.nonce, unfinished.epoch
        self._serial = unfinished.next_serial
        self._spawning = 0  # agents recorded whose session was not loaded yet
        self._lookups: dict[RunId, deque[AcceptRun | RecordSpawn]] = {}
        self._looked_for: set[RequestId] = set()  # who waits for a run that is being looked up
        self._postponed: set[AgentId] = set()  # their next run begins when the store can be written again
        self._sweeps: list[InterruptSweep] = []  # interrupts under way
        self._swept_last: InterruptSweep | None = None
        self.errands = Portions()
        self._turns = RunningTurns()
        self._lately = RecentRuns()
        self._erasures = Erasures()
        self._latencies = Latencies()  # of commits, of runs until they begin, of turns
        self._closing: str | None = None
        self.sealed = False  # the store is about to be closed: nothing more is accepted
        self._drained: Address | None = None  # who waits for the turns to end
        self.now: Timestamp = 0.0  # told before each command

    # Recovery

    def recover(self, unfinished: Unfinished) -> list[Effect]:
        """Take over what the store holds without an outcome, in portions; then say `LedgerReady`."""
        return self.errands.begin(self._recovering(unfinished))

    def _recovering(self, unfinished: Unfinished) -> Iterator[list[Effect]]:
        """Queue again what was accepted and has no outcome; fail what may not begin again.

        No session is asked for before all of this is done: the first suspect begins, and not the first
        that happens to be looked at. Callers are let in after it.
        """
        agents: dict[AgentId, AgentRow] = {}
        for rows in _slices(unfinished.agents):
            agents.update((row.agent_id, row) for row in rows)
            yield []
        at_work: list[int] = []
        for runs in _slices(unfinished.runs):
            at_work += (row.serial for row in runs if row.at_work)
            yield []
        cuts: list[Record] = []
        for place, was in enumerate(unfinished.runs, 1):
            row = self._take_over(was, agents[was.agent_id], unfinished, at_work)
            if row is not was:
                cuts.append(SetRun.of(row))
            if place % LOOKS_IN_STEP == 0:
                yield []
        if self._beside:
            for place, run in enumerate(list(self.runs.values()), 1):
                if run.row.serial in self._beside:
                    self._witnesses[run.row.serial] = run
                if place % LOOKS_IN_STEP == 0:
                    yield []
        # They are in the store before any run begins: the next opening does not count this crash again.
        held = self._commit(tuple(cuts), (), "process") if cuts else []
        for place, run in enumerate(list(self.runs.values()), 1):
            if run.state == "queued":
                held += self._end_or_keep(run)
            if place % LOOKS_IN_STEP == 0:
                yield []
        for place, desk in enumerate(list(self.desks.values()), 1):
            if desk.queue and not desk.kind_missing:
                self._may_begin(desk)
            if place % LOOKS_IN_STEP == 0:
                yield []
        for begin in range(0, len(held), LOOKS_IN_STEP):
            yield held[begin : begin + LOOKS_IN_STEP]
        for desk in list(self.desks.values()):
            yield self._call(desk)
        unfinished = replace(unfinished, runs=(), agents=())
        while agents:  # Freeing the rows of many agents at once would hold the loop as well.
            for _ in range(min(len(agents), LIGHT_STEPS)):
                agents.popitem()
            yield []
        yield [Send("supervisor", LedgerReady())]

    def _take_over(
        self, was: RunRow, agent: AgentRow, unfinished: Unfinished, at_work: list[int]
    ) -> RunRow:
        """Queue a run of the store's, or have it wait; its row as it is from here on."""
        row = cut_off(
            was,
            crashed=unfinished.crashed,
            died=unfinished.died,
            now=self.now,
            beside=at_work,
            attempts=self._attempts_of(agent.kind) or NOT_KNOWN_HERE,
        )
        self._note_doubts(row)
        # "process": the beginning of its turn is on disk before the turn runs, as it may end the process.
        run = OpenRun(row, (), "process", recovered=True)
        desk = self._desk(row.agent_id, agent.path, agent.kind)
        desk.suspected = agent.last is not None and agent.last.error_type == CRASHED
        desk.kind_missing = self._attempts_of(desk.kind) is None
        self.runs[row.run_id] = run
        self._join(desk, run)
        return row

    def _end_or_keep(self, run: OpenRun) -> list[Effect]:
        """End a queued run of the store's that was interrupted, or that was cut off too often."""
        desk = self.desks[run.row.agent_id]
        if run.row.error is not None:
            return self._end(desk, run, "interrupted", run.row.error, data={"recovered": True})
        return self._judge(desk, run)

    def kind_registered(self, news: KindRegistered) -> list[Effect]:
        """Let go on what waited for this kind, in portions."""

        def calls() -> Iterator[list[Effect]]:
            for place, desk in enumerate(list(self.desks.values())):
                if desk.kind_missing and desk.kind == news.name:
                    yield from self._judge_all(desk)
                    yield self._call(desk)
                elif place % LIGHT_STEPS == 0:
                    yield []

        return self.errands.begin(calls())

    def _judge_all(self, desk: AgentRuns) -> Iterator[list[Effect]]:
        """Fail the queued runs that were cut off and may not begin again."""
        for place, run in enumerate(desk.queued, 1):
            if run.state == "queued":  # The end of a run before it may have ended it.
                effects = self._judge(desk, run)
                if effects or place % LOOKS_IN_STEP == 0:
                    yield effects

    def _judge_next(self, desk: AgentRuns) -> list[Effect]:
        """Fail the queued runs that were cut off and may not begin again, up to one that may."""
        effects: list[Effect] = []
        for run in desk.upcoming():
            if run.state != "ended":
                effects += self._judge(desk, run)
            if run.state != "ended":
                break
        return effects

    def _judge(self, desk: AgentRuns, run: OpenRun) -> list[Effect]:
        """Fail a queued run if it was cut off and may not begin again."""
        attempts = self._attempts_of(desk.kind)
        if attempts is None or not (run.row.attempt or run.row.cuts):
            return []
        failure = verdict(run.row, attempts)
        if failure is None:
            return []
        data: dict[str, object] | None = {"recovered": True} if run.recovered else None
        return self._end(desk, run, "failed", failure.text, data=data, error_type=failure.error_type)

    # Suspects

    def _may_begin(self, desk: AgentRuns, *, now: bool = False) -> bool:
        """Whether the agent's next run may begin (`now`: it does), as far as suspects go.

        One that may not is called when its time has come.
        """
        run = desk.first
        if run is None or run is desk.running or (run.row.cuts < SUSPECT_FROM and not desk.suspected):
            return True
        if self._held_back(run) is not None:
            return False
        take = self.suspects.begins if now else self.suspects.queues
        return take(run.row.run_id, self._place(run))

    def _place(self, run: OpenRun) -> int:
        return place_of(run.row, self._attempts_of(self.desks[run.row.agent_id].kind))

    def _next_suspect(self) -> list[Effect]:
        """Have the next suspect go on or begin, if none is at it."""
        suspects = self.suspects
        while suspects.solo is None:
            run_id = suspects.first_to_go_on or suspects.first
            if run_id is None:
                break
            run = self.runs[run_id]
            if self._held_back(run) is not None:
                suspects.over(run_id)  # until it is not any more: see `_judge_again`
            elif suspects.goes_on() is not None:
                return self._go_on(run)
            else:
                return self._call(self.desks[run.row.agent_id])
        return []

    def _go_on(self, run: OpenRun) -> list[Effect]:
        """A suspect's turn may go on, alone from now on."""
        assert run.resuming is not None
        session = self.desks[run.row.agent_id].executor
        run.row = replace(run.row, alone=True, at_work=True)
        go = Send(session, TurnMayResume(run.row.run_id, run.resuming))
        run.resuming = None
        return self._commit((SetRun.of(run.row),), (), run.durability, go)

    def _time_solo(self, run: OpenRun) -> Effect:
        return StartTimer(longest_solo(run.row), Outran(self.suspects.number))

    def outran(self, news: Outran) -> list[Effect]:
        """A solo took long enough: what ends the process from here on is not held against it."""
        run = self.runs.get(self.suspects.solo) if self.suspects.solo is not None else None
        if run is None or news.solo != self.suspects.number or not run.row.alone:
            return []
        run.outran = True
        return self._no_longer_alone(run)

    def _no_longer_alone(self, run: OpenRun, *, waits: bool = False) -> list[Effect]:
        """What ends the process from now on is not held against it, and that is recorded.

        A turn that waits is not even beside it, if it asks before it goes on.
        """
        run.resuming = None
        over = self.suspects.over(run.row.run_id)
        at_work = run.row.at_work and not (waits and run.asks)
        effects: list[Effect] = []
        if run.row.alone or at_work != run.row.at_work:
            run.row = replace(run.row, alone=False, at_work=at_work)
            effects += self._commit((SetRun.of(run.row),), (), run.durability)
        return effects + self._next_suspect() if over else effects

    def turn_waits(self, news: TurnWaits) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None or desk.running is None or desk.incarnation != news.incarnation:
            return []
        desk.in_wait, run = news.waits, desk.running
        if news.waits:
            return [*self._no_longer_alone(run, waits=True), *self._judge_again(self._concerned(run))]
        return [self._time_solo(run)] if run.row.alone else []  # from here: before, it waited for a slot

    def turn_resumes(self, ask: TurnResumes, session: Address) -> list[Effect]:
        desk = self._desk_of(ask)
        run = desk.running if desk else None
        if run is None:
            return [Send(session, TurnMayResume(ask.run_id, ask.number))]
        if run.outran or not run.suspect:
            run.row = replace(run.row, at_work=True)
            go = Send(session, TurnMayResume(ask.run_id, ask.number))
            return self._commit((SetRun.of(run.row),), (), run.durability, go)
        run.resuming = ask.number
        self.suspects.resumes(run.row.run_id, self._place(run))
        return self._next_suspect()

    def _held_back(self, run: OpenRun) -> OpenRun | None:
        """One that executes and may have caused the crashes that this suspect would fail for."""
        row = run.row
        if not doubted(row, self._attempts_of(self.desks[row.agent_id].kind)):
            return None
        others = (self._witnesses.get(serial) for doubt in row.doubts for serial in doubt)
        return next((other for other in others if other is not None and self._executes(other)), None)

    def _executes(self, run: OpenRun) -> bool:
        desk = self.desks.get(run.row.agent_id)
        return desk is not None and desk.running is run and not desk.in_wait

    def _note_doubts(self, row: RunRow) -> None:
        for serial in {serial for doubt in row.doubts for serial in doubt} - {NEVER_KNOWN}:
            self._beside.setdefault(serial, set()).add(row.run_id)

    def _clear_up(self, ended: OpenRun, *, was_at_work: bool, crashed: bool) -> list[OpenRun]:
        """What the end of a run says of the suspects that it was beside; those that it concerns."""
        serial = ended.row.serial
        runs = self._concerned(ended)
        self._beside.pop(serial, None)
        self._witnesses.pop(serial, None)
        for run in runs:
            if crashed:
                run.row = guilty(run.row, serial)
            elif was_at_work:
                attempts = self._attempts_of(self.desks[run.row.agent_id].kind)
                run.row = cleared(run.row, serial, attempts or NOT_KNOWN_HERE)
            else:
                run.row = never_known(run.row, serial)
            self.suspects.moves(run.row.run_id, self._place(run))
        return runs

    def _concerned(self, run: OpenRun) -> list[OpenRun]:
        """The suspects that are in doubt about this run."""
        return [self.runs[other] for other in self._beside.get(run.row.serial, ()) if other in self.runs]

    def _judge_again(self, runs: list[OpenRun]) -> list[Effect]:
        """More is known of the crashes of these suspects."""
        effects: list[Effect] = []
        for run in runs:
            desk = self.desks.get(run.row.agent_id)
            if desk is None:
                continue
            if run.resuming is not None:
                self.suspects.resumes(run.row.run_id, self._place(run))
                effects += self._next_suspect()
            elif run.state == "queued":
                effects += [*self._judge_next(desk), *self._settle(desk), *self._call(desk)]
        return effects

    # Openings, which may end the process as well

    @property
    def cautious(self) -> bool:
        """Whether it is recorded for which run a session opens: a crash may come again.

        It is so from a crash on, until all runs have ended that were open then.
        """
        return self._older > 0

    def _may_open(self, desk: AgentRuns) -> bool:
        """Whether the agent's session may open now; from here on it does."""
        return not self.cautious or (bool(desk.queue) and self._may_begin(desk, now=True))

    def _opens(self, desk: AgentRuns, then: Send) -> list[Effect]:
        """Record that the session opens for the run that is next: it is at work from here on."""
        assert desk.queue
        run = desk.opens_for = desk.queue[0]
        alone = self.suspects.solo == run.row.run_id
        run.outran = False
        run.row = replace(run.row, at_work=True, alone=alone, started_at=self.now)
        effects = self._commit((SetRun.of(run.row),), (), run.durability, then)
        return [*effects, self._time_solo(run)] if alone else effects

    def _opening_over(self, desk: AgentRuns) -> list[Effect]:
        """The session is open, or is not to be: its run is not at work before its turn begins."""
        run, desk.opens_for = desk.opens_for, None
        if run is None or run.state != "queued":
            return []
        row = run.row
        started_at = row.started_at if row.attempt else None
        run.row = replace(row, at_work=False, alone=False, started_at=started_at)
        effects = self._commit((SetRun.of(run.row),), (), run.durability)
        if self.suspects.over(row.run_id):
            self.suspects.queues(row.run_id, self._place(run))
            effects += self._next_suspect()
        return effects

    # Agents

    def record_spawn(self, ask: RecordSpawn) -> list[Effect]:
        if ask.run_id is not None and ask.run_id in self.runs:
            return self._same_spawn(ask, self.runs[ask.run_id].row)
        refusal = self._refusal(ask)
        if refusal is None and ask.run_id is not None:
            return self._look_up(ask.run_id, ask)
        return self._refuse_spawn(ask, refusal) if refusal else self._spawn(ask)

    def _refuse_spawn(self, ask: RecordSpawn, error: GreenroomError) -> list[Effect]:
        return [*self.not_spawned(ask), Send(ask.reply_to, RequestRefused(ask.request, error))]

    def not_spawned(self, ask: RecordSpawn) -> list[Effect]:
        """What the directory is told of a spawn that is not recorded."""
        if ask.taken is not None:
            return []
        return [Send("directory", SpawnSettled(ask.row.agent_id, ask.row.path, recorded=False))]

    def _same_spawn(self, ask: RecordSpawn, row: RunRow) -> list[Effect]:
        """The run id is known: that run and its agent are meant, if they stand at this path."""
        if row.path != ask.row.path:
            return self._refuse_spawn(ask, RunIdTaken(row.run_id, row.path))
        if ask.taken is not None and ask.taken != ask.row.kind:
            problem = f"whose agent is of the kind {ask.taken!r}, and not {ask.row.kind!r}"
            return self._refuse_spawn(ask, RunIdTaken(row.run_id, row.path, problem))
        reply = AgentSpawned(ask.request, row.agent_id, row.path, row.run_id, known=row)
        return [
            *self.not_spawned(ask),
            *self._tell_accepted(row, ask.durability, Send(ask.reply_to, reply)),
        ]

    def _spawn(self, ask: RecordSpawn) -> list[Effect]:
        row = ask.row
        desk = self._desk(row.agent_id, row.path, row.kind)
        desk.opening = True
        self.known += 1
        self._spawning += 1
        records: tuple[Record, ...] = (AddAgent(row),)
        facts: tuple[NewEvent, ...] = (
            NewEvent(self.now, "agent.spawned", row.path, None, _json(kind=row.kind)),
        )
        run_id = None
        if ask.input is not None:
            run = self._new_run(desk, ask.input, ask.run_id, ask.durability)
            run_id = run.row.run_id
            records += (AddRun(run.row),)
            facts += (NewEvent(self.now, "run.accepted", row.path, run_id),)
        reply = AgentSpawned(ask.request, row.agent_id, row.path, run_id)
        effects = [
            *self._commit(records, facts, self._level(ask), Send(ask.reply_to, reply)),
            Send("directory", SpawnSettled(row.agent_id, row.path, recorded=True)),
        ]
        if not self.cautious:
            return [*effects, *self._call(desk, open_only=run_id is None, image=AgentImage(row, None, ()))]
        if run_id is not None:
            return [*effects, *self._call(desk)]
        self._spawning -= 1  # its first run opens its session
        desk.opening = False
        self._tidy(desk)
        return effects

    def record_close(self, ask: RecordClose) -> list[Effect]:
        """End the runs of these agents, in portions, and then the agents, in one commit."""
        for agent_id, _ in ask.agents:
            desk = self.desks.get(agent_id)
            if desk is not None:
                desk.ends = True
        if self._lookups:
            self._close_lookups({agent_id for agent_id, _ in ask.agents})
        return self.errands.begin(self._closing_agents(ask), records=True)

    def _closing_agents(self, ask: RecordClose) -> Iterator[list[Effect]]:
        reason = "its agent was deleted" if ask.erase else "its agent was closed"
        for agent_id, _ in ask.agents:
            desk = self.desks.get(agent_id)
            if desk is None:
                continue
            runs = deque(desk.open_runs())
            if desk.running:  # its session is about to go, and nothing that it reports counts any more
                yield [*self._end(desk, desk.running, "interrupted", reason), *self._count_turns()]
            yield [Send("residency", CancelActivation(agent_id, gone=True))]
            while runs:
                run = runs.popleft()
                if run.state != "ended":
                    yield self._end(desk, run, "interrupted", reason)
            if self.desks.get(agent_id) is desk:
                if desk.opening and not desk.present:
                    self._spawning -= 1
                del self.desks[agent_id]
        records: list[Record] = []
        facts: list[NewEvent] = []
        for agent_id, path in ask.agents:
            records.append(
                EraseAgent(agent_id, path)
                if ask.erase
                else SetAgent(agent_id, "closed", None, self.now, path)
            )
            facts.append(NewEvent(self.now, "agent.deleted" if ask.erase else "agent.closed", path))
        self.known -= 0 if ask.over else len(ask.agents)
        if ask.erase:
            self._lately.forget()
            told = (desk.erasures for desk in self.desks.values() if desk.present or desk.offered)
            self._erasures.add((agent_id for agent_id, _ in ask.agents), told)
        then = (Send(ask.reply_to, AgentsClosed(ask.request, ask.count)),) if ask.reply_to else ()
        recorded = self._commit(tuple(records), tuple(facts), self._unless_crowded(), *then)
        done = Send("directory", CloseRecorded(ask.closing))
        yield [
            *recorded,
            *self.commit_log.tell(self.commit_log.urgent, "process" if ask.written else "memory", done),
        ]

    # Accepting

    def accept_run(self, ask: AcceptRun) -> list[Effect]:
        if ask.run_id is not None and ask.run_id in self.runs:
            return self._same_run(ask, self.runs[ask.run_id].row)
        refusal = self._refusal(ask)
        if refusal:
            return [Send(ask.reply_to, RequestRefused(ask.request, refusal))]
        if ask.run_id is not None and not ask.fresh:
            return self._look_up(ask.run_id, ask)
        if ask.closed:
            return [Send(ask.reply_to, RequestRefused(ask.request, AgentClosed(ask.path)))]
        return self._accept(ask)

    def _accept(self, ask: AcceptRun) -> list[Effect]:
        desk = self._desk(ask.agent_id, ask.path, ask.kind)
        run = self._new_run(desk, ask.input, ask.run_id, ask.durability, ask.started_by)
        run_id = run.row.run_id
        facts = (NewEvent(self.now, "run.accepted", ask.path, run_id),)
        reply = RunAccepted(ask.request, run_id, ask.path)
        return [
            *self._commit((AddRun(run.row),), facts, self._level(ask), Send(ask.reply_to, reply)),
            *self._call(desk),
        ]

    def _same_run(self, ask: AcceptRun, row: RunRow) -> list[Effect]:
        """The run id is known. What a turn started before is its own, whoever has the path by now."""
        if ask.started_by is None and row.agent_id != ask.agent_id:
            return [Send(ask.reply_to, RequestRefused(ask.request, RunIdTaken(row.run_id, row.path)))]
        reply = RunAccepted(ask.request, row.run_id, row.path, row)
        return self._tell_accepted(row, ask.durability, Send(ask.reply_to, reply))

    def _tell_accepted(self, row: RunRow, durability: Durability | None, reply: Send) -> list[Effect]:
        """Tell of a run that was accepted before, once that is as durable as it is to be now."""
        level = durability or self.commit_log.durability
        return self.commit_log.tell(self.commit_log.accepted_by(row.run_id), level, reply)

    def _look_up(self, run_id: RunId, ask: AcceptRun | RecordSpawn) -> list[Effect]:
        """A run id from outside: find out whether it names a run already, once for all who ask."""
        waiting = self._lookups.get(run_id)
        if waiting is not None:
            waiting.append(ask)
            return []
        self._lookups[run_id] = deque([ask])
        return self.commit_log.ask(run_id, self._looked_up, FindRuns((run_id,)))

    def _looked_up(self, answer: Answer) -> Iterable[Effect]:
        found: RunRow | None = answer.value[0] if answer.error is None else None  # type: ignore[index]
        run_id: RunId = answer.request  # type: ignore[assignment]
        for ask in self._lookups.pop(run_id):
            if answer.error is not None:
                yield from self._refuse(ask, answer.error)
                continue
            row = self.runs[run_id].row if run_id in self.runs else found
            if isinstance(ask, RecordSpawn):
                yield from self._same_spawn(ask, row) if row else self._spawn_anew(ask)
            elif row is not None:
                yield from self._same_run(ask, row)
            else:
                yield from self.accept_run(replace(ask, fresh=True))

    def _spawn_anew(self, ask: RecordSpawn) -> list[Effect]:
        """The run id is free."""
        error = self._refusal(ask) or (None if ask.taken is None else PathTaken(ask.row.path))
        return self._refuse_spawn(ask, error) if error else self._spawn(ask)

    def _close_lookups(self, agents: set[AgentId]) -> None:
        """What waits for the disk in order to be accepted by these agents comes too late."""
        for waiting in self._lookups.values():
            for place, ask in enumerate(waiting):
                if isinstance(ask, AcceptRun) and ask.agent_id in agents:
                    waiting[place] = replace(ask, closed=True)

    def _refuse(self, ask: AcceptRun | RecordSpawn, error: GreenroomError) -> list[Effect]:
        if isinstance(ask, RecordSpawn):
            return self._refuse_spawn(ask, error)
        return [Send(ask.reply_to, RequestRefused(ask.request, error))]

    def accept_message(self, ask: AcceptMessage) -> list[Effect]:
        refusal = self._refusal(ask) or (AgentClosed(ask.path) if ask.closed else None)
        if refusal:
            return [Send(ask.reply_to, RequestRefused(ask.request, refusal))]
        reply = Send(ask.reply_to, MessageAccepted(ask.request))
        message = OutgoingMessage(ask.agent_id, ask.path, ask.body)
        records, facts = self._post((message,), ask.sender)
        return self._commit(records, facts, ask.durability, reply)

    def _post(
        self, messages: tuple[OutgoingMessage, ...], sender: str | None, sender_id: AgentId | None = None
    ) -> tuple[tuple[Record, ...], tuple[NewEvent, ...]]:
        """Put messages into inboxes: on disk, and at once where the agent is in memory."""
        records: list[Record] = []
        facts: list[NewEvent] = []
        for message in messages:
            serial = self._next_serial()
            row = MessageRow(serial, message.agent_id, message.body, sender, self.now, sender_id)
            records.append(AddMessage(row))
            facts.append(NewEvent(self.now, "message.accepted", message.path, None, _json(sender=sender)))
            desk = self.desks.get(message.agent_id)
            if desk is not None and (desk.present or desk.offered):
                desk.post(row)
        return tuple(records), tuple(facts)

    def _refusal(self, ask: RecordSpawn | AcceptRun | AcceptMessage) -> GreenroomError | None:
        """Why this cannot be accepted now; what a turn asks for is a part of what was accepted before."""
        path = ask.row.path if isinstance(ask, RecordSpawn) else ask.path
        if self.sealed:
            return RuntimeClosing()
        of_a_turn = isinstance(ask.request, tuple)
        # The door is for those outside: what was accepted never fails because others wait.
        if not of_a_turn and (self._pieces() >= self._backlog or self.commit_log.debt.heavy):
            return BacklogFull(path, self._backlog)
        if of_a_turn and not self._under_way(*ask.request[:2]):  # type: ignore[index]
            # its turn was ended meanwhile, with the runtime or with its agent
            return RuntimeClosing() if self._closing is not None else AgentClosed(path)
        if of_a_turn or (ask.durability or self.commit_log.durability) == "memory":
            return None
        return self.health.refusal(path)

    def _under_way(self, agent_id: AgentId, incarnation: Incarnation) -> bool:
        """Whether a turn of this session is under way."""
        desk = self.desks.get(agent_id)
        return desk is not None and desk.running is not None and desk.incarnation == incarnation

    def _pieces(self) -> int:
        """What was accepted and is not both done and on disk: runs, messages, agents, each once.

        So a writer that has fallen behind holds up what is accepted, and memory is bounded.
        """
        unwritten = self.commit_log.debt
        return len(self.runs) + unwritten.pieces + max(self._spawning, unwritten.agents)

    @property
    def far_behind(self) -> bool:
        """Whether the disk alone is what new work would have to wait for."""
        debt = self.commit_log.debt
        if self.sealed or self.health.problem is not None:
            return False
        if len(self.runs) + self._spawning >= self._backlog:  # then other work is, too
            return False
        return debt.records >= MOST_HANDED_IN or debt.heavy or self._pieces() >= self._backlog

    @property
    def room(self) -> int:
        """How many pieces of work may be handed in before the disk is far behind."""
        debt = self.commit_log.debt
        left = min(self._backlog - self._pieces(), (MOST_HANDED_IN - debt.records) // RECORDS_OF_A_PIECE)
        return max(1, left)

    def _level(self, ask: RecordSpawn | AcceptRun) -> Durability | None:
        """The level that the answer waits for: a turn is held back where the disk is far behind."""
        return self._unless_crowded() if isinstance(ask.request, tuple) else ask.durability

    def _unless_crowded(self) -> Durability | None:
        """The level of what may come as often as somebody likes: beyond the bound it waits for the disk."""
        return (
            "process" if self.commit_log.debt.crowded and self.commit_log.durability == "memory" else None
        )

    def unrecord(self, desk: AgentRuns, run: OpenRun) -> list[Effect]:
        """The store refused to record this run, which nobody was told of: as if it had never come."""
        effects: list[Effect] = []
        del self.runs[run.row.run_id]
        run.state = "ended"
        for request in run.asked:
            self._awaits_no_more(request)
        if run is desk.running:
            begun: RunBegun = run.beginning.message  # type: ignore[assignment, union-attr]
            desk.mail = [*begun.inbox, *desk.mail]
            effects.append(Send(desk.executor, NothingToRun(desk.agent_id)))
            desk.called = False
            desk.stops()
        else:
            desk.drop(run)
        return [*effects, *self._settle(desk), *self._call(desk), *self._count_turns()]

    def unspawn(self, desk: AgentRuns) -> list[Effect]:
        """The same for an agent, with its runs."""
        for run in desk.open_runs():
            del self.runs[run.row.run_id]
            run.state = "ended"
            for request in run.asked:
                self._awaits_no_more(request)
        desk.stops()
        if desk.opening and not desk.present:
            self._spawning -= 1
        self.known -= 1
        self.desks.pop(desk.agent_id, None)
        return [
            Send("residency", CancelActivation(desk.agent_id, gone=True)),
            Send("directory", SpawnWithdrawn(desk.agent_id, desk.path)),
            *self._count_turns(),
        ]

    # Turns

    def take_run(self, ask: TakeRun, session: Address) -> list[Effect]:
        desk = self.desks.get(ask.agent_id)
        if desk is None or desk.running or ask.incarnation < desk.incarnation:
            return [Send(session, NothingToRun(ask.agent_id))]
        desk.incarnation = ask.incarnation
        effects: list[Effect] = []
        if desk.queue and (desk.queue[0].row.attempt or desk.queue[0].row.cuts):  # its kind may be new here
            effects += self._judge_next(desk)
        if not desk.queue or desk.ends or self._closing is not None or not self._may_begin(desk):
            desk.called = False
            return [*effects, Send(session, NothingToRun(ask.agent_id))]
        for sweep in self._sweeps:
            if sweep.covers(desk.queue[0].row):
                desk.called = False
                sweep.held[ask.agent_id] = None
                return [*effects, Send(session, NothingToRun(ask.agent_id))]
        if self.health.problem is not None and desk.queue[0].durability != "memory":
            return [*effects, *self._postpone(desk, session)]
        self._may_begin(desk, now=True)
        run = desk.pull()
        row = run.before = run.row
        run.outran = False
        run.state, desk.running, desk.executor = "running", run, session
        self._turns.begun(desk)
        self._latencies.add("queue", self.now - row.accepted_at)

        def begin(results: tuple[RunRow, ...]) -> list[Effect]:
            run.suspect = alone = self.suspects.solo == row.run_id
            run.asks = alone or self.cautious
            attempt = row.attempt + 1
            run.row = replace(run.row, attempt=attempt, started_at=self.now, at_work=True, alone=alone)
            begun = BeginRun(row.run_id, desk.agent_id, attempt, self.now, alone)
            data = _json(attempt=attempt, **({"recovered": True} if run.recovered else {}))
            fact = NewEvent(self.now, "run.started", desk.path, row.run_id, data)
            told = replace(run.row, stem=row.stem or stem_of(self._nonce, row.serial, row.accepted_at))
            erased = self._erasures.since(desk.erasures)
            mail = tuple(message for message in self._mail(desk) if message.sender_id not in erased)
            desk.erasures = self._erasures.count
            news = RunBegun(
                desk.agent_id, told, attempt > 1, mail, results, suspect=run.asks, erased=tuple(erased)
            )
            go = Send(session, news)
            # The code may end the process: this attempt counts from before its first line on.
            begins = self._commit((begun,), (fact,), run.durability, go)
            if run.durability != "memory":
                run.begun_by, run.beginning = self.commit_log.last, go
            return [*begins, self._time_solo(run)] if alone else begins

        if not row.awaits:
            return [*effects, *begin(())] if effects else begin(())

        def with_results(answer: Answer) -> Iterable[Effect]:
            # it ended meanwhile, or lost its session
            if desk.running is not run or desk.executor is not session:
                yield Send(session, NothingToRun(desk.agent_id))
                return
            if answer.error is not None:
                problem = f"the outcomes that it goes on with cannot be read: {answer.error}"
                desk.called = False
                error_type = type(answer.error).__qualname__
                yield from self._end(desk, run, "failed", problem, error_type=error_type)
                yield Send(session, NothingToRun(desk.agent_id))
                yield from self._call(desk)
                return
            found: tuple[RunRow | None, ...] = answer.value  # type: ignore[assignment]
            ids = zip(row.awaits, found, strict=True)
            yield from begin(tuple(ended or self._erased(run_id) for run_id, ended in ids))

        return [*effects, *self.commit_log.ask(row.run_id, with_results, FindRuns(row.awaits))]

    def _erased(self, run_id: RunId) -> RunRow:
        """Stands for a run whose agent was deleted, so that the outcomes around it keep their places."""
        reason = "its agent was deleted"
        return RunRow(
            run_id, 0, AgentId(0), "", b"", self.now, "interrupted", error=reason, ended_at=self.now
        )

    # A store that cannot be written

    def store_failed(self) -> list[Effect]:
        """Nothing can be written for now: turns that would wait for it to begin give back their slots."""
        effects: list[Effect] = []
        for desk in self._turns:
            run = desk.running
            if run is None or run.beginning is None or self.commit_log.is_written(run.begun_by):
                continue
            session = desk.executor
            if run.interrupted is not None:
                self._call_off(desk, run)
                effects += self._end(desk, run, "interrupted", run.interrupted)
            else:
                effects += self._put_back(desk, run)
            effects += self._postpone(desk, session)
        return [*effects, *self.record_progress(), *self.errands.release(), *self._count_turns()]

    def _has_begun(self, run: OpenRun) -> bool:
        """Whether the session was told to execute the code of the run that it took."""
        assert run.before is not None
        if run.row.attempt == run.before.attempt:  # the outcomes that it goes on with are being read
            return False
        return run.beginning is None or self.commit_log.is_written(run.begun_by)

    def _call_off(self, desk: AgentRuns, run: OpenRun) -> None:
        """A turn that has not begun is not to."""
        if run.beginning is not None:
            begun: RunBegun = run.beginning.message  # type: ignore[assignment]
            self.commit_log.call_off(run.begun_by, run.beginning)
            desk.mail = [*begun.inbox, *desk.mail]

    def _put_back(self, desk: AgentRuns, run: OpenRun, *, begun: bool = True) -> list[Effect]:
        """Queue a run again whose turn is over without an end; it counts only if its code has `begun`."""
        assert run.before is not None
        if not self._has_begun(run):
            self._call_off(desk, run)
            begun = False
        now, before = run.row, run.row if begun else run.before
        run.row = replace(before, at_work=False, alone=False, crashes=now.crashes, doubts=now.doubts)
        run.before = run.beginning = None
        run.begun_by, run.state = 0, "queued"
        desk.stops()
        desk.put_back(run)
        desk.called = False
        effects = self._commit((SetRun.of(run.row),), (), run.durability)
        return [*effects, *self._no_longer_alone(run)]

    def _postpone(self, desk: AgentRuns, session: Address) -> list[Effect]:
        desk.called = False
        self._postponed.add(desk.agent_id)
        return [Send(session, NothingToRun(desk.agent_id))]

    def store_healed(self, over: Episode) -> list[Effect]:
        """It can be written again: record that, and let go on what waited for it."""
        data = _json(problem=over.problem, since=over.began, tries=over.tries)
        effects = self._commit((), (NewEvent(self.now, "store.healed", "/", None, data),))
        postponed, self._postponed = self._postponed, set()
        calls = (self._call(self.desks[each]) for each in sorted(postponed) if each in self.desks)
        return effects + self.errands.begin(calls)

    @staticmethod
    def _mail(desk: AgentRuns) -> tuple[MessageRow, ...]:
        mail, desk.mail = tuple(desk.mail), ()
        return mail

    def end_turn(self, ask: EndTurn, session: Address) -> list[Effect]:
        desk = self.desks.get(ask.agent_id)
        run = desk.running if desk else None
        if (
            desk is None
            or run is None
            or run.row.run_id != ask.run_id
            or ask.incarnation != desk.incarnation
        ):
            return [Send(session, TurnSettled(ask.agent_id, more=False))]
        if self.told.hold(ask, session):
            return self.record_progress()
        if ask.status in ("suspended", "cancelled"):
            if run.interrupted is None and (not ask.begun or self._attempts_of(desk.kind) != 1):
                return self._cut_off(ask, desk, run, session)
            # somebody had interrupted it, or it may not begin again
            reason = run.interrupted or (CLOSED if ask.status == "suspended" else CANCELLED)
            ask = replace(ask, status="interrupted", error=reason, error_type=None)
        self._latencies.add("turn", ask.ended_at - ask.started_at)
        records, facts = self._changes(ask, desk)
        continuation: OpenRun | None = None
        if ask.after is not None:
            after = ask.after
            row = self._run_row(desk, after.input, after.run_id, after.awaits, started_by=run.row.serial)
            records += (AddRun(row),)
            facts += (
                NewEvent(self.now, "run.accepted", desk.path, row.run_id, _json(after=run.row.run_id)),
            )
            continuation = OpenRun(row, (), self.commit_log.durability)
            self.runs[row.run_id] = continuation
        effects = self._end(
            desk, run, ask.status, ask.error, ask.result, records, facts, error_type=ask.error_type
        )
        if continuation is not None:  # behind those that this end lets go: they were accepted before it
            self._join(desk, continuation)
        more = bool(desk.queue) and not desk.ends and self._closing is None
        desk.called = more
        settled = Send(session, TurnSettled(ask.agent_id, more, desk.goes_on))
        return [*effects, settled, *self._count_turns()]

    def _cut_off(self, ask: EndTurn, desk: AgentRuns, run: OpenRun, session: Address) -> list[Effect]:
        """A turn was cut off, and by no crash: its run begins again, with the next runtime or soon.

        A turn that was cancelled from outside mostly ends with its program, and is not begun once more just
        to be cut off again. If the program goes on, so does the run; but not for ever.
        """
        settled = Send(session, TurnSettled(ask.agent_id, more=False))
        effects = self._put_back(desk, run, begun=ask.begun)
        if ask.status == "cancelled":
            run.cancelled += 1
            if run.cancelled >= (self._attempts_of(desk.kind) or 1):
                effects += self._end(desk, run, "failed", ask.error, error_type=ask.error_type)
            effects += self._call_again(desk)
        return [*effects, settled, *self._count_turns()]

    def _call_again(self, desk: AgentRuns) -> list[Effect]:
        """Have the agent's next run begin in a while."""
        return [StartTimer(RESTART_DELAY, ActivateAgain(desk.agent_id))] if self._closing is None else []

    def call_again(self, news: ActivateAgain) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        return [] if desk is None or desk.running else self._call(desk)

    def checkpoint(self, ask: Checkpoint, session: Address) -> list[Effect]:
        desk = self._desk_of(ask)
        if desk is None:
            over: GreenroomError = RuntimeClosing()
            if self._closing is None:
                over = GreenroomError(f"run {ask.run_id} is over: nothing more of its turn is kept")
            return [
                Send(session, RequestRefused(ask.request, over))
            ]  # code on a thread would wait for ever
        records, facts = self._changes(ask, desk)
        if ask.divides and desk.running is not None:
            run = desk.running
            run.row = replace(run.row, divided_at=self._serial)
            records += (DivideRun(run.row.run_id, desk.agent_id, self._serial),)
        reply = Send(session, CheckpointRecorded(ask.request))
        return self._commit(records, facts, self._unless_crowded(), reply)

    def _desk_of(
        self, ask: Checkpoint | ReportDivergence | ReportProgress | TurnResumes
    ) -> AgentRuns | None:
        """Where the turn that says this is under way; None if it is over, or was begun again since."""
        desk = self.desks.get(ask.agent_id)
        if desk is None or desk.running is None or desk.incarnation != ask.incarnation:
            return None
        return desk if desk.running.row.run_id == ask.run_id else None

    def _changes(
        self, ask: EndTurn | Checkpoint, desk: AgentRuns
    ) -> tuple[tuple[Record, ...], tuple[NewEvent, ...]]:
        records, facts = self._post(ask.outbox, desk.path, desk.agent_id)
        if ask.snapshot is not None:
            records += (PutSnapshot(desk.agent_id, ask.snapshot),)
        if ask.read_upto is not None:
            records += (DropMessages(desk.agent_id, ask.read_upto),)
        return records, facts

    def progress(self, ask: ReportProgress) -> list[Effect]:
        desk = self._desk_of(ask)
        if desk is None or desk.running is None:
            return []
        self.told.add(desk.running, ask, self.now)
        return self.record_progress()

    def record_progress(self) -> list[Effect]:
        """Record what turns have told: a portion, and no more than the disk keeps up with.

        Where nobody would be served by waiting for the disk, it is not waited for: what is too much then
        is dropped.
        """
        told, debt = self.told, self.commit_log.debt
        waits = self.commit_log.durability != "memory" and self.health.problem is None and not self.closing
        effects: list[Effect] = []
        while (line := told.next) is not None:
            room = told.room(waits=waits)
            if debt.crowded and not waits:
                told.drop(line)
            elif debt.crowded or room <= 0:
                break
            else:
                facts = told.take(line, room)
                if not line.reports:
                    facts += self._dropped(line.run)
                effects += self._commit((), facts)
                told.recorded(self.commit_log.last, len(facts))
            if not line.reports and line.end is not None:
                effects += self.end_turn(*line.end)
        if told.pause():
            effects.append(StartTimer(0.0, GoOnTelling()))
        return effects

    def others_had_their_turn(self) -> list[Effect]:
        self.told.go_on()
        return self.record_progress()

    def _dropped(self, run: OpenRun) -> tuple[NewEvent, ...]:
        """Say how much of what a run told was not recorded."""
        if not run.untold:
            return ()
        count, run.untold = run.untold, 0
        return (NewEvent(self.now, MISSED, run.row.path, run.row.run_id, _json(dropped=count)),)

    def diverged(self, ask: ReportDivergence) -> list[Effect]:
        desk = self._desk_of(ask)
        if desk is None:
            return []
        fact = NewEvent(self.now, "run.diverged", desk.path, ask.run_id, ask.data)
        return self._commit((), (fact,), self._unless_crowded())

    # Interrupting

    def interrupt(self, ask: InterruptRuns) -> list[Effect]:
        """End the runs that are open now and are meant, in portions (decision 0034)."""
        desk = self.desks.get(ask.agent_id)
        named = self.runs.get(ask.run_id) if ask.run_id is not None else None
        if ask.cascade:
            runs = deque(self.runs.values())
        elif ask.run_id is None:
            runs = deque() if desk is None else deque(desk.open_runs())
        else:
            runs = deque() if named is None else deque([named])
        sweep = InterruptSweep(ask.reason, self._serial, ask.path, ask.agent_id, ask.run_id, ask.cascade)
        return self._sweep(sweep, runs, ask)

    def interrupt_tree(self, ask: InterruptTree) -> list[Effect]:
        """End the runs that are open now of all agents at or below a path, in portions."""
        sweep = InterruptSweep(ask.reason, self._serial, ask.under, cascade=True)
        return self._sweep(sweep, deque(self.runs.values()), ask)

    def _sweep(
        self, sweep: InterruptSweep, runs: deque[OpenRun], ask: InterruptRuns | InterruptTree
    ) -> list[Effect]:
        """End those of these runs that the sweep covers. None of them begins from now on."""

        def interrupt(desk: AgentRuns, run: OpenRun) -> list[Effect]:
            before = self.commit_log.last
            effects = [*self._interrupt(desk, run, sweep.reason), *self._settle(desk)]
            if self.commit_log.last > before:
                sweep.recorded = self.commit_log.last
            return effects

        def steps() -> Iterator[list[Effect]]:
            yield from self._swept(sweep, runs, interrupt)
            reply = Send(ask.reply_to, RunsInterrupted(ask.request, sweep.count))
            yield self.commit_log.tell(sweep.recorded, self.commit_log.durability, reply)

        return self.errands.begin(steps(), records=True, asked=ask)

    def _swept(
        self, sweep: InterruptSweep, runs: deque[OpenRun], end: Callable[[AgentRuns, OpenRun], list[Effect]]
    ) -> Iterator[list[Effect]]:
        """End those of these runs that the sweep covers. Until it is over none of them begins."""
        self._sweeps.append(sweep)
        looked_at = 0
        try:
            while runs:  # let go of one by one: to forget all of them at once takes long as well
                run = runs.popleft()
                if run.state != "ended" and sweep.covers(run.row):
                    sweep.count += 1
                    yield end(self.desks[run.row.agent_id], run)
                    continue
                looked_at += 1
                if looked_at % LIGHT_STEPS == 0:
                    yield []
        finally:
            self._sweeps.remove(sweep)
            self._swept_last = sweep
        for agent_id in sweep.held:
            yield self._call_held(agent_id)

    def _call_held(self, agent_id: AgentId) -> list[Effect]:
        return self._call(self.desks[agent_id]) if agent_id in self.desks else []

    def not_swept(self, _: object) -> list[Effect]:
        """A bug ended an interrupt: the runs that it held back begin."""
        held = self._swept_last.held if self._swept_last is not None else {}
        return [effect for agent_id in held for effect in self._call_held(agent_id)]

    def _interrupt(self, desk: AgentRuns, run: OpenRun, reason: str) -> list[Effect]:
        if run is not desk.running:
            return self._end(desk, run, "interrupted", reason)
        if run.interrupted is not None:
            return []
        run.state, run.interrupted = "interrupting", reason
        stop = Send(desk.executor, InterruptTurn(run.row.run_id, reason))
        return [*self._commit((InterruptRun(run.row.run_id, desk.agent_id, reason),), ()), stop]

    # Sessions

    def load(self, ask: Ask, residency: Address) -> list[Effect]:
        """Fetch an agent's image for the residency: from here on its mail is kept at hand."""
        query: LoadAgent = ask.query  # type: ignore[assignment]
        desk = self._desk(query.agent_id, "", "")
        if desk.opening and not desk.present:
            self._spawning -= 1
        if not self._may_open(desk):
            desk.offered = desk.opening = desk.called = False
            self._tidy(desk)
            return [Send(residency, Answer(ask.request, None))]  # it is called when its time has come
        desk.offered, desk.present, desk.opening, desk.mail = False, True, True, ()
        desk.erasures = self._erasures.count
        if self.cautious:
            return self._opens(desk, Send("ledger", OpeningRecorded(ask, residency)))
        return self.load_now(ask, residency)

    def load_now(self, ask: Ask, residency: Address) -> list[Effect]:
        query: LoadAgent = ask.query  # type: ignore[assignment]
        desk = self._desk(query.agent_id, "", "")

        def found(answer: Answer) -> Iterable[Effect]:
            image: AgentImage | None = answer.value  # type: ignore[assignment]
            if image is not None and image.row.status != "closed":
                desk.path, desk.kind = image.row.path, image.row.kind
                last = image.row.last
                desk.suspected = last is not None and last.error_type == CRASHED
            elif answer.error is None:  # closed meanwhile: the residency forgets it as well
                self.desks.pop(query.agent_id, None)
            yield Send(residency, replace(answer, request=ask.request))

        return self.commit_log.ask(ask.request, found, query)

    def entered(self, news: AgentActivated) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None:
            return []
        if news.incarnation >= desk.incarnation:
            self._met(desk, news.incarnation)
        return []

    def _met(self, desk: AgentRuns, incarnation: Incarnation) -> None:
        """There is such a session."""
        if desk.offered:
            desk.offered, desk.present = False, True
            self._spawning -= 1
        desk.incarnation, desk.haunted = incarnation, False

    @staticmethod
    def _incarnation(desk: AgentRuns, incarnation: Incarnation) -> tuple[Record, ...]:
        """Record a session's number, with the first of its news that are recorded."""
        if incarnation <= desk.recorded:
            return ()
        desk.recorded = incarnation
        return (SetIncarnation(desk.agent_id, incarnation),)

    def session_started(self, news: SessionStarted) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None or news.incarnation < desk.incarnation:
            return []
        self._met(desk, news.incarnation)
        desk.opening = False
        first = news.incarnation == 1 or news.healed
        kind = "agent.started" if first else "agent.reloaded"
        fact = NewEvent(self.now, kind, desk.path, None, _json(incarnation=news.incarnation))
        records = self._incarnation(desk, news.incarnation)
        if news.healed:
            records += (SetAgent(desk.agent_id, "idle", None, self.now),)
        return [*self._commit(records, (fact,), lazy=not first), *self._opening_over(desk)]

    def session_failed(self, news: SessionFailed) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None or news.incarnation < desk.incarnation:
            return []
        self._met(desk, news.incarnation)
        records = self._incarnation(desk, news.incarnation)
        return self._fail_start(desk, news.error, records, error_type=news.error_type)

    def session_cancelled(self, news: SessionCancelled) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None or news.incarnation < desk.incarnation:
            return []
        self._met(desk, news.incarnation)
        desk.opening = desk.called = False
        return [*self._opening_over(desk), *self._call_again(desk)]

    def opening_deferred(self, news: OpeningDeferred) -> list[Effect]:
        """There is no free room for a new agent; what mail it was kept at hand for is in the store."""
        desk = self.desks.get(news.agent_id)
        if desk is None:
            return []
        if desk.offered:
            desk.offered, desk.mail = False, ()
            self._spawning -= 1
        desk.opening = False
        self._tidy(desk)
        return []

    def load_failed(self, news: LoadFailed) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None:
            return []
        desk.present = False
        error_type = type(news.error).__qualname__
        effects = self._fail_start(desk, storable_text(str(news.error)), error_type=error_type)
        self._tidy(desk)
        return effects

    def abandon(self, agent_id: AgentId, problem: str) -> list[Effect]:
        """A bug in handling news of this agent: its runs fail, its session goes, nobody else notices."""
        desk = self.desks.get(agent_id)
        if desk is None:
            return []
        effects: list[Effect] = []
        for run in desk.open_runs():
            effects += self._end(desk, run, "failed", problem, error_type="InternalError")
        desk.called = False  # a run that comes from here on has a session of its own
        return [*effects, Send("residency", CancelActivation(agent_id, gone=True)), *self._count_turns()]

    def _fail_start(
        self, desk: AgentRuns, error: str, records: tuple[Record, ...] = (), *, error_type: str | None
    ) -> list[Effect]:
        """No session: the runs that wait for one fail, the next one tries again."""
        desk.opening, desk.called, desk.opens_for = False, False, None
        records += (SetAgent(desk.agent_id, "failed", error, self.now),)
        facts = (NewEvent(self.now, "agent.start_failed", desk.path, None, _json(error=error)),)
        effects = self._commit(records, facts)
        sweep = InterruptSweep(
            f"its agent could not start: {error}", self._serial, desk.path, desk.agent_id
        )

        def fail(desk: AgentRuns, run: OpenRun) -> list[Effect]:
            return self._end(desk, run, "failed", sweep.reason, error_type=error_type)

        return effects + self.errands.begin(self._swept(sweep, deque(desk.queued), fail), records=True)

    def left(self, news: AgentPassivated) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None or news.incarnation != desk.incarnation:
            return []
        desk.present = desk.opening = False
        desk.mail = ()
        effects = self._opening_over(desk)
        records = self._incarnation(desk, news.incarnation)
        facts = (NewEvent(self.now, "agent.evicted", desk.path),) if news.evicted else ()
        if records or facts:
            effects += self._commit(records, facts, lazy=True)
        ended = self.told.end_of(desk.running.row.run_id) if desk.running else None
        if ended is not None:  # it was over before its session was
            effects += self.end_turn(*ended)
        if not news.orderly:  # then what it asked for may still be on its way here
            desk.incarnation, desk.haunted = Incarnation(news.incarnation + 1), True
        run = desk.running
        if run is not None and news.orderly and self._closing is not None:
            return effects  # its end is on its way here, or there will be none: see `interrupt_turns`
        if run is not None and run.interrupted is not None:
            effects += self._end(desk, run, "interrupted", run.interrupted)
        elif run is not None:
            if not news.orderly and self._has_begun(run):
                run.row = lost(run.row)
            effects += self._put_back(desk, run)
            effects += self._judge_next(desk)
        if run is not None or ended is not None or not news.orderly:
            desk.called = False
            effects += self._call(desk)
        self._tidy(desk)
        return effects + self._count_turns()

    # Waiting

    def await_run(self, ask: AwaitRun) -> list[Effect]:
        run = self.runs.get(ask.run_id)
        if run is not None:
            refusal = self.waits.refusal(ask.request, run)
            if refusal is not None:
                return [Send(ask.reply_to, RequestRefused(ask.request, refusal))]
            run.waiters[ask.request] = ask.reply_to
            asker = self.waits.asker(ask.request)
            if asker is not None:
                asker.awaits(ask.request, ask.run_id)
            return [Send(ask.reply_to, RunPending(ask.request))] if ask.tell_pending else []
        lately = self._lately.get(ask.run_id)
        if lately is not None:
            return self._tell_end(ask, *lately)

        def found(answer: Answer) -> Iterable[Effect]:
            row = answer.value[0] if answer.error is None else None  # type: ignore[index]
            if ask.request not in self._looked_for:
                return  # nobody waits any more
            self._looked_for.discard(ask.request)
            if ask.run_id in self.runs:
                yield from self.await_run(ask)
            elif row is None:
                error = answer.error or RunNotFound(ask.run_id)
                yield Send(ask.reply_to, RequestRefused(ask.request, error))
            else:
                yield from self._tell_end(ask, row, self.commit_log.ended_by(ask.run_id))

        self._looked_for.add(ask.request)
        return self.commit_log.ask(ask.request, found, FindRuns((ask.run_id,)), asked=ask)

    def _tell_end(self, ask: AwaitRun | AwaitRuns, row: RunRow, commit: int) -> list[Effect]:
        """Tell of a run that has ended, once its end is as durable as was promised."""
        news = Send(ask.reply_to, RunOutcome(ask.request, row))
        told = self.commit_log.tell(commit, self.commit_log.level_of(commit), news)
        pending = isinstance(ask, AwaitRun) and ask.tell_pending and not told
        return [Send(ask.reply_to, RunPending(ask.request))] if pending else told

    def await_runs(self, ask: AwaitRuns) -> list[Effect]:
        """The same for many runs, in portions; those that are on disk alone are looked up together."""
        self._looked_for.add(ask.request)
        return self.errands.begin(self._awaiting(ask), asked=ask)

    def _awaiting(self, ask: AwaitRuns) -> Iterator[list[Effect]]:
        unread: list[RunId] = []
        for place, run_id in enumerate(ask.run_ids):
            if ask.request not in self._looked_for:
                return  # nobody waits any more
            run, lately = self.runs.get(run_id), self._lately.get(run_id)
            if lately is not None:
                yield self._tell_end(ask, *lately)
                continue
            if run is None:
                unread.append(run_id)
            elif not ask.look:
                run.waiters[ask.request] = ask.reply_to
            if place % LOOKS_IN_STEP == 0:
                yield []
        if ask.tell_sought or ask.look:
            yield [Send(ask.reply_to, RunsSought(ask.request, len(unread)))]
        yield self._read_awaited(ask, unread)

    def _read_awaited(self, ask: AwaitRuns, unread: list[RunId]) -> list[Effect]:
        """Look up the last of these."""
        if not unread:
            self._looked_for.discard(ask.request)
            return []
        some = tuple(unread[-RUNS_IN_LOOKUP:])
        del unread[-RUNS_IN_LOOKUP:]

        def found(answer: Answer) -> list[Effect]:
            return self.errands.begin(self._tell_awaited(ask, some, answer, unread), asked=ask)

        return self.commit_log.ask(ask.request, found, FindRuns(some), asked=ask)

    def _tell_awaited(
        self, ask: AwaitRuns, some: tuple[RunId, ...], answer: Answer, unread: list[RunId]
    ) -> Iterator[list[Effect]]:
        rows: tuple[RunRow | None, ...] = answer.value or (None,) * len(some)  # type: ignore[assignment]
        for run_id, row in zip(some, rows, strict=True):
            if ask.request not in self._looked_for:
                return
            if run_id in self.runs:
                if not ask.look:
                    self.runs[run_id].waiters[ask.request] = ask.reply_to
            elif row is None:
                error = answer.error or RunNotFound(run_id)
                yield [Send(ask.reply_to, RequestRefused(ask.request, error))]
            else:
                yield self._tell_end(ask, row, self.commit_log.ended_by(run_id))
        if not unread and ask.look:
            yield [Send(ask.reply_to, RunsSought(ask.request, 0))]
        yield self._read_awaited(ask, unread)

    def forget_runs(self, ask: ForgetRuns) -> list[Effect]:
        self._looked_for.discard(ask.request)
        self.commit_log.forget(ask.request)

        def steps() -> Iterator[list[Effect]]:
            for place, run_id in enumerate(ask.run_ids):
                run = self.runs.get(run_id)
                if run is not None and run.asked:
                    run.asked.pop(ask.request, None)
                if place % LIGHT_STEPS == 0:
                    yield []

        return self.errands.begin(steps())

    def forget(self, ask: ForgetRequest) -> list[Effect]:
        run = self.runs.get(ask.run_id)
        if run is not None and run.asked:
            run.asked.pop(ask.request, None)
            self._awaits_no_more(ask.request)
        self._looked_for.discard(ask.request)
        self.commit_log.forget(ask.request)
        return []

    def _awaits_no_more(self, request: RequestId) -> None:
        desk = self.waits.asker(request)
        if desk is not None:
            desk.awaits_no_more(request)

    # Describing

    def describe_agents(self, ask: DescribeAgents) -> list[Effect]:
        if self.view.is_live(ask):
            return self.errands.begin(self.view.live_agents(ask), asked=ask)
        return self.view.agents(ask)

    def describe(self, ask: DescribeLedger) -> list[Effect]:
        running = sum(1 for _ in self._turns)
        report = LedgerReport(
            ask.request,
            agents=self.known,
            running=running,
            queued=len(self.runs) - running,
            commits=self.commit_log.commits,
            unwritten=self.commit_log.unwritten,
            events_dropped=self.told.dropped,
            store_problem=self.health.problem,
            latencies=self._latencies.percentiles(),
        )
        return [Send(ask.reply_to, report)]

    # Closing

    @property
    def closing(self) -> bool:
        """Whether no turn begins any more."""
        return self._closing is not None

    def stop_beginning(self, ask: StopBeginning, supervisor: Address) -> list[Effect]:
        self._closing, self._drained = ask.reason, supervisor
        return self._count_turns()

    def interrupt_turns(self, ask: InterruptTurns) -> list[Effect]:
        effects: list[Effect] = []
        for desk in self._turns:
            run = desk.running
            if run is None:
                continue
            session = desk.executor
            if run.interrupted is None and not self._has_begun(run):
                if run.beginning is not None:
                    effects.append(Send(session, NothingToRun(desk.agent_id)))
                effects += self._put_back(desk, run)
                continue
            if run.interrupted is None and (ask.end or self._attempts_of(desk.kind) == 1):
                effects += self._interrupt(desk, run, CLOSED)
            elif run.interrupted is None and not ask.final:
                run.state = "interrupting"
                # on disk before its code has returned: whoever ends the process now, it is no crash
                run.row = replace(run.row, at_work=False, alone=False)
                effects += self._commit((SetRun.of(run.row),), (), run.durability)
                effects.append(Send(session, InterruptTurn(run.row.run_id, CLOSED, suspend=True)))
            if ask.final and run.interrupted is not None:
                effects += self._end(desk, run, "interrupted", run.interrupted)
            elif ask.final:
                effects += self._put_back(desk, run)
        return effects + self._count_turns()

    def written(self, news: BatchWritten) -> list[Effect]:
        """A batch is on disk."""
        self._latencies.add("commit", news.seconds)
        effects = self.commit_log.written(news.number)
        self.told.written(news.number)
        return [*effects, *self.record_progress(), *self.errands.release()]

    def go_on(self, number: int) -> list[Effect]:
        """Do the next portion of an errand; one that records waits if the disk is far behind.

        A disk that cannot be written holds up none: what it cannot take is bounded by what was accepted.
        """
        behind = self.commit_log.debt.records >= MOST_AHEAD and self.health.problem is None
        return self.errands.go_on(number, behind=behind)

    def _count_turns(self) -> list[Effect]:
        if self._drained is None or self._turns:
            return []
        supervisor, self._drained = self._drained, None
        return [Send(supervisor, TurnsEnded())]

    # What all of the above is made of

    def _desk(self, agent_id: AgentId, path: str, kind: str) -> AgentRuns:
        desk = self.desks.get(agent_id)
        if desk is None:
            desk = self.desks[agent_id] = AgentRuns(agent_id, path, kind)
            desk.erasures = self._erasures.count
        elif not desk.path:
            desk.path, desk.kind = path, kind
        return desk

    def _tidy(self, desk: AgentRuns) -> None:
        if desk.at_rest and not desk.called:
            self.desks.pop(desk.agent_id, None)

    def _settle(self, desk: AgentRuns) -> list[Effect]:
        """After runs were taken away: call off a call that has lost its reason."""
        effects: list[Effect] = []
        if desk.called and not desk.queue and not desk.running:
            desk.called = False
            effects.append(Send("residency", CancelActivation(desk.agent_id)))
        self._tidy(desk)
        return effects

    def _new_run(
        self,
        desk: AgentRuns,
        input: Payload,
        run_id: RunId | None,
        durability: Durability | None,
        started_by: int | None = None,
    ) -> OpenRun:
        row = self._run_row(desk, input, run_id, started_by=started_by)
        run = OpenRun(row, (), durability or self.commit_log.durability)
        self.runs[row.run_id] = run
        self._lately.accepted(row.run_id)
        desk.push(run)
        return run

    def _run_row(
        self,
        desk: AgentRuns,
        input: Payload,
        run_id: RunId | None,
        awaits: tuple[RunId, ...] = (),
        *,
        started_by: int | None = None,
    ) -> RunRow:
        serial = self._next_serial()
        return RunRow(
            run_id or plain_id(self._nonce, self._epoch, serial),
            serial,
            desk.agent_id,
            desk.path,
            input,
            self.now,
            awaits=awaits,
            started_by=started_by,
        )

    def _next_serial(self) -> int:
        serial = self._serial
        self._serial += 1
        return serial

    def _join(self, desk: AgentRuns, run: OpenRun) -> None:
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

    def _call(
        self, desk: AgentRuns, *, open_only: bool = False, image: AgentImage | None = None
    ) -> list[Effect]:
        """Have the agent brought into memory; with a run waiting, have its session take it.

        `image` is what it is opened from, if that is known here.
        """
        if desk.kind_missing:  # it may have been registered since
            desk.kind_missing = self._attempts_of(desk.kind) is None
        if desk.kind_missing or desk.ends or self._closing is not None:
            return []
        if not open_only and (desk.called or not desk.queue or not self._may_begin(desk)):
            return []
        desk.called = desk.called or not open_only
        desk.offered = desk.offered or image is not None
        goes_on = desk.goes_on and not open_only
        return [Send("residency", ActivateAgent(desk.agent_id, desk.path, not open_only, image, goes_on))]

    def _end(
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
        row = run.row
        effects: list[Effect] = []
        line = self.told.over(row.run_id)
        if line is not None and line.end is not None:
            effects.append(Send(line.end[1], TurnSettled(row.agent_id, more=False)))
        facts += self._dropped(run)
        was_at_work, crashed = run is desk.running, error_type == CRASHED
        concerned = self._clear_up(run, was_at_work=was_at_work, crashed=crashed)
        del self.runs[row.run_id]
        run.state = "ended"
        self._older -= run.recovered and self._older > 0
        if was_at_work:
            desk.stops()
        elif desk.waiting.pop(row.run_id, None) is None:
            desk.drop(run)
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
        row = replace(
            row, status=status, result=result, error=error, ended_at=self.now, error_type=error_type
        )
        if crashed or was_at_work:
            desk.suspected = crashed
        told = {"error": error} if error else {}
        fact = NewEvent(self.now, f"run.{status}", row.path, row.run_id, _json(**told, **(data or {})))
        waiters = run.asked.items() if run.asked else ()
        news = tuple([Send(to, RunOutcome(request, row)) for request, to in waiters])
        for request in run.asked:
            self._awaits_no_more(request)
        known = tuple(SetRun.of(other.row) for other in concerned)
        effects += self._commit((*records, ended, *known), (*facts, fact), run.durability, *news)
        self._lately.add(row, self.commit_log.last)
        for continuation in run.continuations:
            if isinstance(continuation.waiting_for, set):
                continuation.waiting_for.discard(row.run_id)
            if not continuation.waiting_for and continuation.state == "waiting":
                effects += self._continue(continuation)
        if self.suspects:
            self.suspects.over(row.run_id)
            effects += self._next_suspect()
        return effects + self._judge_again(concerned)

    def _continue(self, run: OpenRun) -> list[Effect]:
        desk = self.desks[run.row.agent_id]
        del desk.waiting[run.row.run_id]
        run.state = "queued"
        desk.push(run)
        return self._call(desk)

    def _commit(
        self,
        records: tuple[Record, ...],
        facts: tuple[NewEvent, ...],
        durability: Durability | None = None,
        *then: Send,
        lazy: bool = False,
    ) -> list[Effect]:
        level = durability or self.commit_log.durability
        return self.commit_log.commit(Commit(records, facts, level, then, lazy))


def _slices(rows: tuple[_Row, ...]) -> Iterator[tuple[_Row, ...]]:
    """The rows, some at a time."""
    return (rows[begin : begin + LIGHT_STEPS] for begin in range(0, len(rows), LIGHT_STEPS))


def _json(**data: object) -> bytes:
    try:
        return msgspec.json.encode(data)
    except UnicodeEncodeError:  # a text of somebody's holds halves of characters
        return msgspec.json.encode(
            {k: storable_text(v) if isinstance(v, str) else v for k, v in data.items()}
        )
