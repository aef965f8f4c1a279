"""The actor around the ledger and its commit log: the only one that talks to the two disk actors."""

from collections.abc import Iterable

from ...errors import InternalError, StoreError
from ...persistence.queries import LoadAgent
from ...types import Address, Seconds
from ..containing import bug_in, refused
from ..effects import Effect, Send, StartTimer
from ..events.protocol import Announce
from ..shell import ActorShell, Contained, log
from ..storage.protocol import (
    Answer,
    Ask,
    BatchFailed,
    BatchWritten,
    CloseStore,
    StoreClosed,
    StoreMisplaced,
)
from . import accepting, closing, disk, recovery, sessions, spawning, turns
from .admission import REQUESTS_IN_PORTION, STALLED, Admission, AdmitNext, CheckAdmission
from .audit import Mark, broken_invariant, mark_of
from .errands import NextPortion
from .handlers import ASKED, HANDLERS, OF_AN_AGENT, GiveUp, RetryBatch
from .ledger import Ledger
from .log.commit_log import CommitLog, first_seq
from .protocol import (
    AcceptMessage,
    AcceptRun,
    CloseLedger,
    ConfigureLedger,
    RecordClose,
    RecordSpawn,
    StopBeginning,
    TakeRun,
)
from .replies import (
    AgentsClosed,
    AgentSpawned,
    LedgerClosed,
    MessageAccepted,
    RequestRefused,
    RunAccepted,
    RunsInterrupted,
    StoreFailing,
)
from .withdrawal import broken_by, withdraw

ANSWERS = (AgentSpawned, AgentsClosed, MessageAccepted, RunAccepted, RunsInterrupted)
"""That something is recorded."""


class LedgerActor(ActorShell):
    """Told once what the store holds; then commits, questions, and the disk's answers."""

    role = "ledger"
    ledger: Ledger
    commit_log: CommitLog
    closing: Address | None = None
    closed_stores = 0
    patience_ends: Seconds = 0.0  # with a store that cannot be written, while closing
    mark: Mark = (0, 0, 0, 0)  # where the ledger stood before the message that is being handled

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[TakeRun, Address]] = []  # until the disk has caught up
        self.door = Admission()
        self.batches = 0  # that were written
        self.stalled = False  # none was, for long

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:
        if type(message) is ConfigureLedger:
            return self.configure(message)
        self.ledger.now = self.clock()
        self.mark = mark_of(self.ledger)
        handler = HANDLERS.get(type(message))
        if handler is None:
            raise TypeError(f"the ledger does not know {message!r}")
        effects = handler(self, message, sender)
        if self.closed_stores:
            return effects
        commit_log = self.commit_log
        batch = commit_log.take_batch() if commit_log.urgent > commit_log.sent else []
        ledger = self.ledger
        if self.closing is not None and not (self.writes or ledger.errands or self.door):
            batch = [*batch, *self.close_stores()]
        return [*effects, *batch] if batch else effects

    @property
    def writes(self) -> bool:
        """Whether something is not written, asked or recorded yet."""
        return bool(self.commit_log.unwritten or self.commit_log.asking or self.ledger.told.waiting)

    def contain(self, message: object, sender: Address, error: BaseException) -> Contained:
        """A request is refused; the runs of an agent whose session's news cannot be handled fail."""
        if isinstance(message, AdmitNext):
            message = message.ask
        elif isinstance(message, NextPortion):
            message = self.ledger.errands.broken
        elif isinstance(message, Answer):
            message = self.commit_log.broken
        kind = type(message)
        if kind not in ASKED and kind not in OF_AN_AGENT:
            return super().contain(message, sender, error)
        broken = broken_invariant(self.ledger, self.mark)
        if broken is not None:
            return Contained(broken=broken)
        if kind in OF_AN_AGENT:
            problem = str(bug_in(message, self.role, error))
            return Contained(tuple(sessions.abandon(self.ledger, message.agent_id, problem)))  # type: ignore[attr-defined]
        if isinstance(message, Ask):
            return Contained(
                (Send(sender, Answer(message.request, None, bug_in(message, self.role, error))),)
            )
        return Contained((*ASKED[kind](self.ledger, message), refused(message, sender, self.role, error)))

    def configure(self, message: ConfigureLedger) -> list[Effect]:
        unfinished = message.unfinished
        self.commit_log = CommitLog(durability=message.durability, next_seq=first_seq(unfinished))
        self.ledger = Ledger(
            self.commit_log,
            unfinished,
            backlog=message.backlog,
            attempts_of=message.attempts_of,
            store=message.store,
        )
        self.ledger.now = self.clock()
        return [*recovery.recover(self.ledger, unfinished), *self.commit_log.take_batch()]

    def take_run(self, message: TakeRun, sender: Address) -> Iterable[Effect]:
        """Begin a turn, or hold it up until the disk has caught up."""
        if self.commit_log.debt.crowded and not self.ledger.closing:
            self.held.append((message, sender))
            return ()
        return turns.take_run(self.ledger, message, sender)

    def hand_in(self, ask: RecordSpawn | AcceptRun | AcceptMessage) -> Iterable[Effect]:
        """Accept it, or have it wait until the disk has caught up. The requests of turns do not wait."""
        if isinstance(ask.request, tuple):
            return self.accept(ask)
        shut = not self.stalled and self.ledger.far_behind
        nobody = not self.door
        if not self.door.comes(ask, shut=shut):
            return self.accept(ask)
        return [StartTimer(STALLED, CheckAdmission(self.batches))] if nobody else []

    def accept(self, ask: RecordSpawn | AcceptRun | AcceptMessage) -> Iterable[Effect]:
        if type(ask) is AcceptRun:
            return accepting.accept_run(self.ledger, ask)
        if type(ask) is AcceptMessage:
            return accepting.accept_message(self.ledger, ask)
        assert type(ask) is RecordSpawn
        return spawning.record_spawn(self.ledger, ask)

    def open_door(self) -> list[Effect]:
        """Let in whom there is room for, or everybody, if the disk is not to be waited for."""
        if not self.door:
            return []
        everybody = self.stalled or self.ledger.sealed or self.ledger.health.problem is not None
        if not everybody and self.ledger.far_behind:
            return []
        return [
            Send("ledger", news)
            for news in self.door.open(REQUESTS_IN_PORTION if everybody else self.ledger.room)
        ]

    def let_in(self, news: AdmitNext) -> list[Effect]:
        effects = [*self.accept(self.door.entered(news))]
        return effects + self.open_door()

    def look_at_door(self, news: CheckAdmission) -> list[Effect]:
        """A disk that has written nothing for long is not waited for."""
        if not self.door:
            return []
        self.stalled = news.batches == self.batches
        return [*self.open_door(), StartTimer(STALLED, CheckAdmission(self.batches))]

    def record_close(self, ask: RecordClose) -> list[Effect]:
        self.door.closes(ask.agents)
        return spawning.record_close(self.ledger, ask)

    def ask(self, message: Ask, sender: Address) -> Iterable[Effect]:
        if type(message.query) is LoadAgent:
            return sessions.load(self.ledger, message, sender)
        return self.commit_log.ask(message.request, sender, message.query)

    # The writer's answers

    def batch_written(self, message: BatchWritten) -> list[Effect]:
        """Let the news of it go, and if it could not be written before, tell that it can be again."""
        self.batches, self.stalled = self.batches + 1, False
        effects = disk.written(self.ledger, message)
        over = self.ledger.health.succeeded()
        if over is not None:
            seconds = self.clock() - over.began
            log.warning("the store can be written again, after %.1f s and %d tries", seconds, over.tries)
            effects += disk.store_healed(self.ledger, over)
        return [*effects, *self.open_door(), *([] if self.commit_log.debt.crowded else self.release())]

    def release(self) -> list[Effect]:
        """Let the turns begin that were held up."""
        held, self.held = self.held, []
        return [effect for ask, session in held for effect in turns.take_run(self.ledger, ask, session)]

    def batch_failed(self, message: BatchFailed) -> list[Effect]:
        """Keep everything, say so, try again: nobody hears "durable" of what is not."""
        if message.of_record:
            return self.record_failed(message)
        self.commit_log.rejected()
        if message.fatal:
            return [Send("supervisor", StoreFailing(message.problem, True, message.error))]
        return [*self.failing(message.problem), *(self.nobody_waits() if message.misplaced else ())]

    def nobody_waits(self) -> list[Effect]:
        """Somebody has to put the store's files back, which may be never: callers hear so."""
        health = self.ledger.health
        error = StoreError(
            health.store,
            f"what was asked for was accepted, and cannot be recorded: {health.told} It is recorded if "
            "that is put right while this runtime lives, and lost if not.",
        )
        waiting = self.commit_log.give_up_waiting(ANSWERS)
        return [Send(send.to, RequestRefused(send.message.request, error)) for send in waiting]  # type: ignore[attr-defined]

    def misplaced(self, message: StoreMisplaced) -> list[Effect]:
        """The writer has seen it with nothing to write; a batch that fails for it says so by itself."""
        return [] if self.closed_stores or self.ledger.health.episode else self.failing(message.problem)

    def failing(self, problem: str) -> list[Effect]:
        """Tell of it once, and try again later."""
        health = self.ledger.health
        effects: list[Effect] = []
        if health.failed(problem, self.clock()):
            log.error(
                "the store %s cannot be written: %s All that was accepted is kept in memory, and it is "
                "tried again until it succeeds; work that asks to be durable is refused meanwhile.",
                health.store,
                health.told,
            )
            effects.append(Send("events", Announce("store.failing", self.clock(), problem)))
        episode = health.episode
        assert episode is not None
        effects += [*disk.store_failed(self.ledger), *self.open_door()]
        if self.closing is not None and self.uptime() >= self.patience_ends:
            return [*effects, *self.give_up()]
        return [*effects, StartTimer(health.pause, RetryBatch(episode.tries))]

    def record_failed(self, message: BatchFailed) -> list[Effect]:
        """A bug: something was accepted that cannot be stored. Refuse that, once all before it is written.

        If its place in the books is not sound, or somebody was told of it, stop.
        """
        records = self.commit_log.narrow_down()
        if records is None:
            return []
        what = ", ".join(sorted({type(record).__name__ for record in records}))
        problem = f"a commit of {what} cannot be stored: {message.problem}"
        withdrawn = withdraw(self.ledger, message.problem)
        if withdrawn is not None:
            log.error("%s. Its request is refused and all else goes on. Please report this", problem)
            return [*withdrawn, *self.commit_log.resume()]
        broken = broken_by(message.problem)
        problem = f"{problem} ({broken} does not hold)" if broken else problem
        return [Send("supervisor", StoreFailing(problem, True, InternalError(problem)))]

    def retry(self, message: RetryBatch) -> list[Effect]:
        episode = self.ledger.health.episode
        if episode is None or episode.tries != message.tries:
            return []
        return self.commit_log.resume() or self.commit_log.probe()

    # The end

    def stop_beginning(self, message: StopBeginning, sender: Address) -> list[Effect]:
        return [*closing.stop_beginning(self.ledger, message, sender), *self.release()]

    def close(self, message: CloseLedger, sender: Address) -> list[Effect]:
        """Write all that is left, then close the stores; give up when patience ends."""
        self.closing = sender
        self.patience_ends = self.uptime() + message.patience
        self.ledger.sealed = True
        refused = self.open_door()
        self.commit_log.flush()
        return [*refused, *self.commit_log.resume(), StartTimer(message.patience, GiveUp())]

    def give_up(self) -> list[Effect]:
        """While closing: what cannot be written by now is left behind."""
        return [] if self.ledger.health.problem is None else self.close_stores()

    def close_stores(self) -> list[Effect]:
        """All is on disk: the reader closes before the writer, which tidies the file up."""
        if self.closed_stores:
            return []
        self.closed_stores = 1
        return [Send("reader", CloseStore())]

    def store_closed(self, message: StoreClosed) -> list[Effect]:
        self.closed_stores += 1
        if self.closed_stores == 2:  # the reader's
            return [Send("writer", CloseStore())]
        lost = self.commit_log.unwritten
        problem = message.problem
        if lost:
            problem = f"{lost} commits could not be written: {problem or self.ledger.health.told}"
        return [Send(self.closing, LedgerClosed(problem, lost))]
