"""Which runs there are, who executes them, how they ended: decided here and nowhere else.

Owns the desks of the agents that anything is going on with, the open runs and who waits for them, and
the order of acceptance. Writes through the `Journal` that it is given. Does not know slots, sessions or
how a turn is executed: a session that holds a slot *takes* its run here, and brings back its end.

That every run gets exactly one outcome (G2) is this: an outcome is written by `_end` alone, which takes
the run out of `runs`; a turn's end counts only if its run is still there, under way, in that incarnation.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec.structs import replace

from ...persistence.journal import Journal
from ...persistence.protocol import (
    AddAgent,
    AddMessage,
    AddRun,
    AgentImage,
    Answer,
    Ask,
    BatchWritten,
    BeginRun,
    Commit,
    DropMessages,
    EndRun,
    EraseAgent,
    Fact,
    FindRuns,
    InterruptRun,
    LoadAgent,
    MessageRow,
    PutSnapshot,
    Record,
    RunRow,
    SetAgent,
    SetIncarnation,
    Unfinished,
)
from ..effects import Effect, Send
from ..errors import (
    AgentClosed,
    BacklogFull,
    GreenroomError,
    RunIdTaken,
    RunNotFound,
    RuntimeClosing,
)
from ..residency.protocol import AgentEntered, AgentLeft, DismissAgent, LoadFailed, SummonAgent
from ..vocabulary import (
    Address,
    AgentId,
    Durability,
    Incarnation,
    Payload,
    RequestId,
    RunId,
    Timestamp,
    tellable,
)
from .desk import Desk, OpenRun
from .errands import LIGHT, Errands
from .health import Episode, Health
from .lately import Lately
from .latencies import Latencies
from .protocol import (
    AcceptMessage,
    AcceptRun,
    AgentsClosed,
    AgentSpawned,
    AwaitRun,
    AwaitRuns,
    Checkpoint,
    CheckpointRecorded,
    CloseRecorded,
    DescribeLedger,
    EndTurn,
    ForgetRequest,
    ForgetRuns,
    InterruptRuns,
    InterruptTree,
    InterruptTurn,
    InterruptTurns,
    KindRegistered,
    LedgerReport,
    MessageAccepted,
    NothingToRun,
    OutgoingMessage,
    RecordClose,
    RecordSpawn,
    Refused,
    ReportProgress,
    RunAccepted,
    RunBegun,
    RunEnded,
    RunPending,
    RunsInterrupted,
    RunsSought,
    SessionFailed,
    SessionStarted,
    SpawnSettled,
    StopBeginning,
    TakeRun,
    TurnsEnded,
    TurnSettled,
)
from .sweep import Sweep
from .underway import UnderWay
from .view import View

LOOKED_UP = 64
"""Runs in one question to the disk, of those that somebody waits for."""

MOST_AHEAD = 10_000
"""Records that are not on disk, beyond which an errand waits: the disk is kept busy with half of them."""

WAITERS = 16
"""Open runs that are waited for in one step."""


class Ledger:
    """The open runs of all agents, in order of acceptance."""

    def __init__(
        self,
        journal: Journal,
        unfinished: Unfinished,
        *,
        backlog: int,
        attempts_of: Callable[[str], int | None],
        store: str = "",
    ) -> None:
        self.journal = journal
        self.health = Health(store)
        self.events_dropped = 0
        self.desks: dict[AgentId, Desk] = {}
        self.runs: dict[RunId, OpenRun] = {}
        self.view = View(journal, self.desks, self.runs)
        self.known = unfinished.known
        self._backlog = backlog
        self._attempts_of = attempts_of  # of a kind by name; None if it is not registered here
        self._epoch = unfinished.epoch
        self._made = 0  # run ids
        self._serial = unfinished.next_serial
        self._spawning = 0  # agents recorded whose session was not loaded yet
        self._lookups: dict[RunId, deque[AcceptRun | RecordSpawn]] = {}
        self._looked_for: set[RequestId] = set()  # who waits for a run that is being looked up
        self._postponed: set[AgentId] = set()  # their next run begins when the store can be written again
        self._sweeps: list[Sweep] = []  # interrupts under way
        self.errands = Errands()
        self._turns = UnderWay()
        self._lately = Lately()
        self._latencies = Latencies()  # of commits, of runs until they begin, of turns
        self._closing: str | None = None
        self.sealed = False  # the store is about to be closed: nothing more is accepted
        self._drained: Address | None = None  # who waits for the turns to end
        self.now: Timestamp = 0.0  # told before each command

    # Recovery

    def recover(self, unfinished: Unfinished) -> list[Effect]:
        """Queue again what was accepted and has no outcome; fail what was cut off too often."""
        rows = {row.agent_id: row for row in unfinished.agents}
        for row in unfinished.runs:
            agent = rows[row.agent_id]
            # "process": it may be what ended the last one
            run = OpenRun(row, (), "process", recovered=True)
            desk = self._desk(row.agent_id, agent.path, agent.kind)
            self.runs[row.run_id] = run
            self._join(desk, run)
        effects: list[Effect] = []
        for desk in self.desks.values():
            desk.kind_missing = self._attempts_of(desk.kind) is None
        for desk in list(self.desks.values()):
            attempts = self._attempts_of(desk.kind)
            for run in desk.queued:
                if run.row.error is not None:
                    effects += self._end(desk, run, "interrupted", run.row.error, data={"recovered": True})
                elif attempts is not None and run.row.attempt >= attempts:
                    reason = f"its turn was cut off {run.row.attempt} times, which is all its attempts"
                    effects += self._end(desk, run, "failed", reason, data={"recovered": True})
            effects += self._call(desk)
        return effects

    def kind_registered(self, news: KindRegistered) -> list[Effect]:
        """Let go on what waited for this kind."""

        def calls() -> Iterator[list[Effect]]:
            for place, desk in enumerate(list(self.desks.values())):
                if desk.kind_missing and desk.kind == news.name:
                    yield self._call(desk)
                elif place % LIGHT == 0:
                    yield []

        return self.errands.begin(calls())

    # Agents

    def record_spawn(self, ask: RecordSpawn) -> list[Effect]:
        refusal = self._refusal(ask)
        if refusal is None and ask.input is not None and ask.run_id is not None:
            return self._look_up(ask.run_id, ask)
        return self._refuse_spawn(ask, refusal) if refusal else self._spawn(ask)

    def _refuse_spawn(self, ask: RecordSpawn, error: GreenroomError) -> list[Effect]:
        return [
            Send("directory", SpawnSettled(ask.row.agent_id, ask.row.path, recorded=False)),
            Send(ask.reply_to, Refused(ask.request, error)),
        ]

    def _spawn(self, ask: RecordSpawn) -> list[Effect]:
        row = ask.row
        desk = self._desk(row.agent_id, row.path, row.kind)
        desk.opening = True
        self.known += 1
        self._spawning += 1
        records: tuple[Record, ...] = (AddAgent(row),)
        facts: tuple[Fact, ...] = (Fact(self.now, "agent.spawned", row.path, None, _json(kind=row.kind)),)
        run_id = None
        if ask.input is not None:
            run = self._new_run(desk, ask.input, ask.run_id, ask.durability)
            run_id = run.row.run_id
            records += (AddRun(run.row),)
            facts += (Fact(self.now, "run.accepted", row.path, run_id),)
        reply = AgentSpawned(ask.request, row.agent_id, row.path, run_id)
        return [
            *self._commit(records, facts, ask.durability, Send(ask.reply_to, reply)),
            Send("directory", SpawnSettled(row.agent_id, row.path, recorded=True)),
            *self._call(desk, open_only=ask.input is None, image=AgentImage(row, None, ())),
        ]

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
            yield [Send("residency", DismissAgent(agent_id, gone=True))]
            while runs:
                run = runs.popleft()
                if run.state != "ended":
                    yield self._end(desk, run, "interrupted", reason)
            if self.desks.get(agent_id) is desk:
                if desk.opening and not desk.present:
                    self._spawning -= 1
                del self.desks[agent_id]
        records: list[Record] = []
        facts: list[Fact] = []
        for agent_id, path in ask.agents:
            records.append(
                EraseAgent(agent_id) if ask.erase else SetAgent(agent_id, "closed", None, self.now, path)
            )
            facts.append(Fact(self.now, "agent.deleted" if ask.erase else "agent.closed", path))
        self.known -= 0 if ask.over else len(ask.agents)
        if ask.erase:
            self._lately.forget()
        then = (Send(ask.reply_to, AgentsClosed(ask.request, ask.count)),) if ask.reply_to else ()
        recorded = self._commit(tuple(records), tuple(facts), self._unless_crowded(), *then)
        done = Send("directory", CloseRecorded(ask.closing))
        yield [
            *recorded,
            *self.journal.tell(self.journal.urgent, "process" if ask.written else "memory", done),
        ]

    # Accepting

    def accept_run(self, ask: AcceptRun) -> list[Effect]:
        if ask.run_id is not None and ask.run_id in self.runs:
            return self._same_run(ask, self.runs[ask.run_id].row)
        refusal = self._refusal(ask)
        if refusal:
            return [Send(ask.reply_to, Refused(ask.request, refusal))]
        if ask.run_id is not None and not ask.fresh:
            return self._look_up(ask.run_id, ask)
        if ask.closed:
            return [Send(ask.reply_to, Refused(ask.request, AgentClosed(ask.path)))]
        return self._accept(ask)

    def _accept(self, ask: AcceptRun) -> list[Effect]:
        desk = self._desk(ask.agent_id, ask.path, ask.kind)
        run = self._new_run(desk, ask.input, ask.run_id, ask.durability)
        run_id = run.row.run_id
        facts = (Fact(self.now, "run.accepted", ask.path, run_id),)
        reply = RunAccepted(ask.request, run_id, ask.path)
        return [
            *self._commit((AddRun(run.row),), facts, ask.durability, Send(ask.reply_to, reply)),
            *self._call(desk),
        ]

    def _same_run(self, ask: AcceptRun, row: RunRow) -> list[Effect]:
        if row.agent_id != ask.agent_id:
            return [Send(ask.reply_to, Refused(ask.request, RunIdTaken(row.run_id, row.path)))]
        reply = RunAccepted(ask.request, row.run_id, row.path)
        level = ask.durability or self.journal.durability
        return self.journal.tell(self.journal.accepted_by(row.run_id), level, Send(ask.reply_to, reply))

    def _look_up(self, run_id: RunId, ask: AcceptRun | RecordSpawn) -> list[Effect]:
        """A run id from outside: find out whether it names a run already, once for all who ask."""
        waiting = self._lookups.get(run_id)
        if waiting is not None:
            waiting.append(ask)
            return []
        self._lookups[run_id] = deque([ask])
        return self.journal.ask(run_id, self._looked_up, FindRuns((run_id,)))

    def _looked_up(self, answer: Answer) -> Iterable[Effect]:
        found: RunRow | None = answer.value[0] if answer.error is None else None  # type: ignore[index]
        run_id: RunId = answer.request  # type: ignore[assignment]
        for ask in self._lookups.pop(run_id):
            if answer.error is not None:
                yield from self._refuse(ask, answer.error)
                continue
            row = self.runs[run_id].row if run_id in self.runs else found
            if isinstance(ask, RecordSpawn):
                error = RunIdTaken(run_id, row.path) if row else self._refusal(ask)
                yield from self._refuse_spawn(ask, error) if error else self._spawn(ask)
            elif row is not None:
                yield from self._same_run(ask, row)
            else:
                yield from self.accept_run(replace(ask, fresh=True))

    def _close_lookups(self, agents: set[AgentId]) -> None:
        """What waits for the disk in order to be accepted by these agents comes too late."""
        for waiting in self._lookups.values():
            for place, ask in enumerate(waiting):
                if isinstance(ask, AcceptRun) and ask.agent_id in agents:
                    waiting[place] = replace(ask, closed=True)

    def _refuse(self, ask: AcceptRun | RecordSpawn, error: GreenroomError) -> list[Effect]:
        if isinstance(ask, RecordSpawn):
            return self._refuse_spawn(ask, error)
        return [Send(ask.reply_to, Refused(ask.request, error))]

    def accept_message(self, ask: AcceptMessage) -> list[Effect]:
        refusal = self._refusal(ask)
        if refusal:
            return [Send(ask.reply_to, Refused(ask.request, refusal))]
        reply = Send(ask.reply_to, MessageAccepted(ask.request))
        message = OutgoingMessage(ask.agent_id, ask.path, ask.body)
        records, facts = self._post((message,), ask.sender)
        return self._commit(records, facts, ask.durability, reply)

    def _post(
        self, messages: tuple[OutgoingMessage, ...], sender: str | None
    ) -> tuple[tuple[Record, ...], tuple[Fact, ...]]:
        """Put messages into inboxes: on disk, and at once where the agent is in memory."""
        records: list[Record] = []
        facts: list[Fact] = []
        for message in messages:
            row = MessageRow(self._next_serial(), message.agent_id, message.body, sender, self.now)
            records.append(AddMessage(row))
            facts.append(Fact(self.now, "message.accepted", message.path, None, _json(sender=sender)))
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
        if self._pieces() >= self._backlog or (self.journal.debt.heavy and not of_a_turn):
            return BacklogFull(path, self._backlog)
        if of_a_turn and not self._under_way(*ask.request[:2]):  # type: ignore[index]
            return AgentClosed(path)  # its turn was ended meanwhile, with its agent
        if of_a_turn or (ask.durability or self.journal.durability) == "memory":
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
        unwritten = self.journal.debt
        return len(self.runs) + unwritten.pieces + max(self._spawning, unwritten.agents)

    def _unless_crowded(self) -> Durability | None:
        """The level of what may come as often as somebody likes: beyond the bound it waits for the disk."""
        return "process" if self.journal.debt.crowded and self.journal.durability == "memory" else None

    # Turns

    def take_run(self, ask: TakeRun, session: Address) -> list[Effect]:
        desk = self.desks.get(ask.agent_id)
        if desk is None or desk.running or ask.incarnation < desk.incarnation:
            return [Send(session, NothingToRun(ask.agent_id))]
        desk.incarnation = ask.incarnation
        if not desk.queue or desk.ends or self._closing is not None:
            desk.called = False
            return [Send(session, NothingToRun(ask.agent_id))]
        for sweep in self._sweeps:
            if sweep.covers(desk.queue[0].row):
                desk.called = False
                sweep.held[ask.agent_id] = None
                return [Send(session, NothingToRun(ask.agent_id))]
        if self.health.problem is not None and desk.queue[0].durability != "memory":
            return self._postpone(desk, session)
        run = desk.pull()
        again = run.row.started_at is not None
        run.row = replace(run.row, attempt=run.row.attempt + 1, started_at=self.now)
        run.state, desk.running, desk.executor = "running", run, session
        self._turns.begun(desk)
        self._latencies.add("queue", self.now - run.row.accepted_at)
        row = run.row
        data = _json(attempt=row.attempt, **({"recovered": True} if run.recovered else {}))
        begun = BeginRun(row.run_id, desk.agent_id, row.attempt, self.now)
        fact = Fact(self.now, "run.started", desk.path, row.run_id, data)

        def begin(results: tuple[RunRow, ...]) -> list[Effect]:
            go = Send(session, RunBegun(desk.agent_id, row, again, self._mail(desk), results))
            # The code may end the process: this attempt counts from before its first line on.
            effects = self._commit((begun,), (fact,), run.durability, go)
            if run.durability != "memory":
                run.begun_by, run.beginning = self.journal.last, go
            return effects

        if not row.awaits:
            return begin(())

        def with_results(answer: Answer) -> Iterable[Effect]:
            if desk.running is not run or run.row is not row:  # it ended meanwhile, or lost its session
                yield Send(session, NothingToRun(desk.agent_id))
                return
            if answer.error is not None:
                problem = f"the outcomes that it goes on with cannot be read: {answer.error}"
                desk.called = False
                yield from self._end(desk, run, "failed", problem)
                yield Send(session, NothingToRun(desk.agent_id))
                yield from self._call(desk)
                return
            found: tuple[RunRow | None, ...] = answer.value  # type: ignore[assignment]
            ids = zip(row.awaits, found, strict=True)
            yield from begin(tuple(ended or self._erased(run_id) for run_id, ended in ids))

        return self.journal.ask(row.run_id, with_results, FindRuns(row.awaits))

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
            if run is None or run.beginning is None or self.journal.is_written(run.begun_by):
                continue
            begun: RunBegun = run.beginning.message  # type: ignore[assignment]
            self.journal.call_off(run.begun_by, run.beginning)
            session, desk.mail = desk.executor, [*begun.inbox, *desk.mail]
            if run.interrupted is not None:
                effects += self._end(desk, run, "interrupted", run.interrupted)
            else:
                desk.stops()
                effects += self._suspend(desk, run)
                if run.row.attempt == 0:
                    run.row = replace(run.row, started_at=None)
            run.begun_by, run.beginning = 0, None
            effects += self._postpone(desk, session)
        return [*effects, *self.errands.release(), *self._count_turns()]

    def _postpone(self, desk: Desk, session: Address) -> list[Effect]:
        desk.called = False
        self._postponed.add(desk.agent_id)
        return [Send(session, NothingToRun(desk.agent_id))]

    def store_healed(self, over: Episode) -> list[Effect]:
        """It can be written again: record that, and let go on what waited for it."""
        data = _json(problem=over.problem, since=over.began, tries=over.tries)
        effects = self._commit((), (Fact(self.now, "store.healed", "/", None, data),))
        postponed, self._postponed = self._postponed, set()
        calls = (self._call(self.desks[each]) for each in sorted(postponed) if each in self.desks)
        return effects + self.errands.begin(calls)

    @staticmethod
    def _mail(desk: Desk) -> tuple[MessageRow, ...]:
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
        if ask.status == "suspended" and run.interrupted is None:
            desk.stops()
            settled = Send(session, TurnSettled(ask.agent_id, more=False))
            return [*self._suspend(desk, run), settled, *self._count_turns()]
        if ask.status == "suspended":  # by the runtime's end, after somebody had interrupted it
            ask = replace(ask, status="interrupted", error=run.interrupted)
        self._latencies.add("turn", ask.ended_at - ask.started_at)
        records, facts = self._changes(ask, desk)
        effects: list[Effect] = []
        if ask.after is not None:
            row = self._run_row(desk, ask.after.input, ask.after.run_id, ask.after.awaits)
            records += (AddRun(row),)
            facts += (Fact(self.now, "run.accepted", desk.path, row.run_id, _json(after=run.row.run_id)),)
            continuation = OpenRun(row, (), self.journal.durability)
            self.runs[row.run_id] = continuation
            self._join(desk, continuation)
        effects += self._end(desk, run, ask.status, ask.error, ask.result, records, facts)
        more = bool(desk.queue) and not desk.ends and self._closing is None
        desk.called = more
        return [*effects, Send(session, TurnSettled(ask.agent_id, more)), *self._count_turns()]

    def checkpoint(self, ask: Checkpoint, session: Address) -> list[Effect]:
        desk = self._desk_of(ask)
        if desk is None:
            over = GreenroomError(f"run {ask.run_id} is over: nothing more of its turn is kept")
            return [Send(session, Refused(ask.request, over))]  # code on a thread would wait for ever
        records, facts = self._changes(ask, desk)
        reply = Send(session, CheckpointRecorded(ask.request))
        return self._commit(records, facts, self._unless_crowded(), reply)

    def _desk_of(self, ask: Checkpoint | ReportProgress) -> Desk | None:
        """Where the turn that says this is under way; None if it is over, or was begun again since."""
        desk = self.desks.get(ask.agent_id)
        if desk is None or desk.running is None or desk.incarnation != ask.incarnation:
            return None
        return desk if desk.running.row.run_id == ask.run_id else None

    def _changes(
        self, ask: EndTurn | Checkpoint, desk: Desk
    ) -> tuple[tuple[Record, ...], tuple[Fact, ...]]:
        records, facts = self._post(ask.outbox, desk.path)
        if ask.snapshot is not None:
            records += (PutSnapshot(desk.agent_id, ask.snapshot),)
        if isinstance(ask, EndTurn) and ask.read_upto is not None:
            records += (DropMessages(desk.agent_id, ask.read_upto),)
        return records, facts

    def progress(self, ask: ReportProgress) -> list[Effect]:
        desk = self._desk_of(ask)
        if desk is None:
            return []
        if self.journal.debt.crowded:  # nobody waits for these, so nobody could be held up
            self.events_dropped += 1
            return []
        return self._commit((), (Fact(self.now, "run.progress", desk.path, ask.run_id, ask.data),))

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
        sweep = Sweep(ask.reason, self._serial, ask.path, ask.agent_id, ask.run_id, ask.cascade)
        return self._sweep(sweep, runs, ask.request, ask.reply_to)

    def interrupt_tree(self, ask: InterruptTree) -> list[Effect]:
        """End the runs that are open now of all agents at or below a path, in portions."""
        sweep = Sweep(ask.reason, self._serial, ask.under, cascade=True)
        return self._sweep(sweep, deque(self.runs.values()), ask.request, ask.reply_to)

    def _sweep(
        self, sweep: Sweep, runs: deque[OpenRun], request: RequestId, reply_to: Address
    ) -> list[Effect]:
        """End those of these runs that the sweep covers. None of them begins from now on."""

        def interrupt(desk: Desk, run: OpenRun) -> list[Effect]:
            before = self.journal.last
            effects = [*self._interrupt(desk, run, sweep.reason), *self._settle(desk)]
            if self.journal.last > before:
                sweep.recorded = self.journal.last
            return effects

        def steps() -> Iterator[list[Effect]]:
            yield from self._swept(sweep, runs, interrupt)
            reply = Send(reply_to, RunsInterrupted(request, sweep.count))
            yield self.journal.tell(sweep.recorded, self.journal.durability, reply)

        return self.errands.begin(steps(), records=True)

    def _swept(
        self, sweep: Sweep, runs: deque[OpenRun], end: Callable[[Desk, OpenRun], list[Effect]]
    ) -> Iterator[list[Effect]]:
        """End those of these runs that the sweep covers. Until it is over none of them begins."""
        self._sweeps.append(sweep)
        looked_at = 0
        while runs:  # let go of one by one: to forget all of them at once takes long as well
            run = runs.popleft()
            if run.state != "ended" and sweep.covers(run.row):
                sweep.count += 1
                yield end(self.desks[run.row.agent_id], run)
                continue
            looked_at += 1
            if looked_at % LIGHT == 0:
                yield []
        self._sweeps.remove(sweep)
        for agent_id in sweep.held:
            if agent_id in self.desks:
                yield self._call(self.desks[agent_id])

    def _interrupt(self, desk: Desk, run: OpenRun, reason: str) -> list[Effect]:
        if run is not desk.running:
            return self._end(desk, run, "interrupted", reason)
        if run.state == "interrupting":
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
        desk.offered, desk.present, desk.opening, desk.mail = False, True, True, ()

        def found(answer: Answer) -> Iterable[Effect]:
            image: AgentImage | None = answer.value  # type: ignore[assignment]
            if image is not None and image.row.status != "closed":
                desk.path, desk.kind = image.row.path, image.row.kind
            elif answer.error is None:  # closed meanwhile: the residency forgets it as well
                self.desks.pop(query.agent_id, None)
            yield Send(residency, replace(answer, request=ask.request))

        return self.journal.ask(ask.request, found, query)

    def entered(self, news: AgentEntered) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None:
            return []
        if news.incarnation >= desk.incarnation:
            self._met(desk, news.incarnation)
        return []

    def _met(self, desk: Desk, incarnation: Incarnation) -> None:
        """There is such a session."""
        if desk.offered:
            desk.offered, desk.present = False, True
            self._spawning -= 1
        desk.incarnation, desk.haunted = incarnation, False

    @staticmethod
    def _incarnation(desk: Desk, incarnation: Incarnation) -> tuple[Record, ...]:
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
        fact = Fact(self.now, kind, desk.path, None, _json(incarnation=news.incarnation))
        records = self._incarnation(desk, news.incarnation)
        if news.healed:
            records += (SetAgent(desk.agent_id, "idle", None, self.now),)
        return self._commit(records, (fact,), lazy=not first)

    def session_failed(self, news: SessionFailed) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None or news.incarnation < desk.incarnation:
            return []
        self._met(desk, news.incarnation)
        return self._fail_start(desk, news.error, self._incarnation(desk, news.incarnation))

    def load_failed(self, news: LoadFailed) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None:
            return []
        desk.present = False
        effects = self._fail_start(desk, tellable(str(news.error)))
        self._tidy(desk)
        return effects

    def _fail_start(self, desk: Desk, error: str, records: tuple[Record, ...] = ()) -> list[Effect]:
        """No session: the runs that wait for one fail, the next one tries again."""
        desk.opening = desk.called = False
        records += (SetAgent(desk.agent_id, "failed", error, self.now),)
        facts = (Fact(self.now, "agent.start_failed", desk.path, None, _json(error=error)),)
        effects = self._commit(records, facts)
        sweep = Sweep(f"its agent could not start: {error}", self._serial, desk.path, desk.agent_id)

        def fail(desk: Desk, run: OpenRun) -> list[Effect]:
            return self._end(desk, run, "failed", sweep.reason)

        return effects + self.errands.begin(self._swept(sweep, deque(desk.queued), fail), records=True)

    def left(self, news: AgentLeft) -> list[Effect]:
        desk = self.desks.get(news.agent_id)
        if desk is None or news.incarnation != desk.incarnation:
            return []
        desk.present = desk.opening = False
        desk.mail = ()
        effects: list[Effect] = []
        records = self._incarnation(desk, news.incarnation)
        facts = (Fact(self.now, "agent.evicted", desk.path),) if news.evicted else ()
        if records or facts:
            effects += self._commit(records, facts, lazy=True)
        if not news.orderly:  # then what it asked for may still be on its way here
            desk.incarnation, desk.haunted = Incarnation(news.incarnation + 1), True
        run = desk.running
        if run is not None and run.interrupted is not None:
            effects += self._end(desk, run, "interrupted", run.interrupted)
        elif run is not None:
            desk.running, desk.executor, run.state = None, None, "queued"
            desk.put_back(run)
            if run.row.attempt >= (self._attempts_of(desk.kind) or 1):
                reason = f"its session was lost {run.row.attempt} times, which is all its attempts"
                effects += self._end(desk, run, "failed", reason)
        if run is not None or not news.orderly:
            desk.called = False
            effects += self._call(desk)
        self._tidy(desk)
        return effects + self._count_turns()

    # Waiting

    def await_run(self, ask: AwaitRun) -> list[Effect]:
        run = self.runs.get(ask.run_id)
        if run is not None:
            run.waiters[ask.request] = ask.reply_to
            asker = self.desks.get(ask.request[0]) if isinstance(ask.request, tuple) else None
            if asker is not None:
                asker.awaits(ask.run_id)
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
                yield Send(ask.reply_to, Refused(ask.request, error))
            else:
                yield from self._tell_end(ask, row, self.journal.ended_by(ask.run_id))

        self._looked_for.add(ask.request)
        return self.journal.ask(ask.request, found, FindRuns((ask.run_id,)))

    def _tell_end(self, ask: AwaitRun | AwaitRuns, row: RunRow, commit: int) -> list[Effect]:
        """Tell of a run that has ended, once its end is as durable as was promised."""
        news = Send(ask.reply_to, RunEnded(ask.request, row))
        told = self.journal.tell(commit, self.journal.level_of(commit), news)
        pending = isinstance(ask, AwaitRun) and ask.tell_pending and not told
        return [Send(ask.reply_to, RunPending(ask.request))] if pending else told

    def await_runs(self, ask: AwaitRuns) -> list[Effect]:
        """The same for many runs, in portions; those that are on disk alone are looked up together."""
        self._looked_for.add(ask.request)
        return self.errands.begin(self._awaiting(ask))

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
            if place % WAITERS == 0:
                yield []
        if ask.tell_sought or ask.look:
            yield [Send(ask.reply_to, RunsSought(ask.request, len(unread)))]
        yield self._read_awaited(ask, unread)

    def _read_awaited(self, ask: AwaitRuns, unread: list[RunId]) -> list[Effect]:
        """Look up the last of these."""
        if not unread:
            self._looked_for.discard(ask.request)
            return []
        some = tuple(unread[-LOOKED_UP:])
        del unread[-LOOKED_UP:]

        def found(answer: Answer) -> list[Effect]:
            return self.errands.begin(self._tell_awaited(ask, some, answer, unread))

        return self.journal.ask(ask.request, found, FindRuns(some))

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
                yield [Send(ask.reply_to, Refused(ask.request, error))]
            else:
                yield self._tell_end(ask, row, self.journal.ended_by(run_id))
        if not unread and ask.look:
            yield [Send(ask.reply_to, RunsSought(ask.request, 0))]
        yield self._read_awaited(ask, unread)

    def forget_runs(self, ask: ForgetRuns) -> list[Effect]:
        self._looked_for.discard(ask.request)
        self.journal.forget(ask.request)

        def steps() -> Iterator[list[Effect]]:
            for place, run_id in enumerate(ask.run_ids):
                run = self.runs.get(run_id)
                if run is not None and run.asked:
                    run.asked.pop(ask.request, None)
                if place % LIGHT == 0:
                    yield []

        return self.errands.begin(steps())

    def forget(self, ask: ForgetRequest) -> list[Effect]:
        run = self.runs.get(ask.run_id)
        if run is not None and run.asked:
            run.asked.pop(ask.request, None)
        self._looked_for.discard(ask.request)
        self.journal.forget(ask.request)
        return []

    # Describing

    def describe(self, ask: DescribeLedger) -> list[Effect]:
        running = sum(1 for _ in self._turns)
        report = LedgerReport(
            ask.request,
            agents=self.known,
            running=running,
            queued=len(self.runs) - running,
            commits=self.journal.commits,
            unwritten=self.journal.unwritten,
            events_dropped=self.events_dropped,
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
        reason = "the runtime closed before its turn ended"
        effects: list[Effect] = []
        for desk in self._turns:
            run = desk.running
            if run is None:
                continue
            if ask.final and (run.interrupted or not ask.suspend):
                effects += self._end(desk, run, "interrupted", run.interrupted or reason)
            elif ask.final:
                desk.stops()
                effects += self._suspend(desk, run)
            else:
                run.state = "interrupting"
                stop = InterruptTurn(run.row.run_id, reason, ask.suspend)
                effects.append(Send(desk.executor, stop))
        return effects

    def _suspend(self, desk: Desk, run: OpenRun) -> list[Effect]:
        """Queue a run again that the runtime itself cut off: that is no attempt."""
        run.state, run.row = "queued", replace(run.row, attempt=run.row.attempt - 1)
        desk.put_back(run)
        desk.called = False
        row = run.row
        begun = BeginRun(row.run_id, desk.agent_id, row.attempt, row.started_at or self.now)
        return self._commit((begun,), ())

    def written(self, news: BatchWritten) -> list[Effect]:
        """A batch is on disk."""
        self._latencies.add("commit", news.seconds)
        return [*self.journal.written(news.number), *self.errands.release()]

    def go_on(self, number: int) -> list[Effect]:
        """Do the next portion of an errand; one that records waits if the disk is far behind.

        A disk that cannot be written holds up none: what it cannot take is bounded by what was accepted.
        """
        behind = self.journal.debt.records >= MOST_AHEAD and self.health.problem is None
        return self.errands.go_on(number, behind=behind)

    def _count_turns(self) -> list[Effect]:
        if self._drained is None or self._turns:
            return []
        supervisor, self._drained = self._drained, None
        return [Send(supervisor, TurnsEnded())]

    # What all of the above is made of

    def _desk(self, agent_id: AgentId, path: str, kind: str) -> Desk:
        desk = self.desks.get(agent_id)
        if desk is None:
            desk = self.desks[agent_id] = Desk(agent_id, path, kind)
        elif not desk.path:
            desk.path, desk.kind = path, kind
        return desk

    def _tidy(self, desk: Desk) -> None:
        if desk.at_rest and not desk.called:
            self.desks.pop(desk.agent_id, None)

    def _settle(self, desk: Desk) -> list[Effect]:
        """After runs were taken away: call off a call that has lost its reason."""
        effects: list[Effect] = []
        if desk.called and not desk.queue and not desk.running:
            desk.called = False
            effects.append(Send("residency", DismissAgent(desk.agent_id)))
        self._tidy(desk)
        return effects

    def _new_run(
        self, desk: Desk, input: Payload, run_id: RunId | None, durability: Durability | None
    ) -> OpenRun:
        if run_id is None:
            self._made += 1
            run_id = RunId(f"run-{self._epoch}-{self._made}")
        run = OpenRun(self._run_row(desk, input, run_id), (), durability or self.journal.durability)
        self.runs[run_id] = run
        desk.push(run)
        return run

    def _run_row(
        self,
        desk: Desk,
        input: Payload,
        run_id: RunId,
        awaits: tuple[RunId, ...] = (),
    ) -> RunRow:
        return RunRow(run_id, self._next_serial(), desk.agent_id, desk.path, input, self.now, awaits=awaits)

    def _next_serial(self) -> int:
        serial = self._serial
        self._serial += 1
        return serial

    def _join(self, desk: Desk, run: OpenRun) -> None:
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
        self, desk: Desk, *, open_only: bool = False, image: AgentImage | None = None
    ) -> list[Effect]:
        """Have the agent brought into memory; with a run waiting, have its session take it.

        `image` is what it is opened from, if that is known here.
        """
        if desk.kind_missing:  # it may have been registered since
            desk.kind_missing = self._attempts_of(desk.kind) is None
        if desk.kind_missing or desk.ends or self._closing is not None:
            return []
        if not open_only and (desk.called or not desk.queue):
            return []
        desk.called = desk.called or not open_only
        desk.offered = desk.offered or image is not None
        return [Send("residency", SummonAgent(desk.agent_id, desk.path, not open_only, image))]

    def _end(
        self,
        desk: Desk,
        run: OpenRun,
        status: str,
        error: str | None,
        result: Payload | None = None,
        records: tuple[Record, ...] = (),
        facts: tuple[Fact, ...] = (),
        *,
        data: dict[str, object] | None = None,
    ) -> list[Effect]:
        """Give a run its outcome, once: record it, tell who waits, let its continuations go on."""
        row = run.row
        del self.runs[row.run_id]
        run.state = "ended"
        if run is desk.running:
            desk.stops()
        elif desk.waiting.pop(row.run_id, None) is None:
            desk.drop(run)
        ended = EndRun(
            row.run_id, row.agent_id, status, result, error, row.attempt, row.started_at, self.now
        )
        row = replace(row, status=status, result=result, error=error, ended_at=self.now)
        told = {"error": error} if error else {}
        fact = Fact(self.now, f"run.{status}", row.path, row.run_id, _json(**told, **(data or {})))
        waiters = run.asked.items() if run.asked else ()
        news = tuple([Send(to, RunEnded(request, row)) for request, to in waiters])
        effects = self._commit((*records, ended), (*facts, fact), run.durability, *news)
        self._lately.add(row, self.journal.last)
        for continuation in run.continuations:
            if isinstance(continuation.waiting_for, set):
                continuation.waiting_for.discard(row.run_id)
            if not continuation.waiting_for and continuation.state == "waiting":
                effects += self._continue(continuation)
        return effects

    def _continue(self, run: OpenRun) -> list[Effect]:
        desk = self.desks[run.row.agent_id]
        del desk.waiting[run.row.run_id]
        run.state = "queued"
        desk.push(run)
        return self._call(desk)

    def _commit(
        self,
        records: tuple[Record, ...],
        facts: tuple[Fact, ...],
        durability: Durability | None = None,
        *then: Send,
        lazy: bool = False,
    ) -> list[Effect]:
        level = durability or self.journal.durability
        return self.journal.commit(Commit(records, facts, level, then, lazy))


def _json(**data: object) -> bytes:
    try:
        return msgspec.json.encode(data)
    except UnicodeEncodeError:  # a text of somebody's holds halves of characters
        return msgspec.json.encode({k: tellable(v) if isinstance(v, str) else v for k, v in data.items()})
