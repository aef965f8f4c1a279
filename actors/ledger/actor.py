"""The actor around the ledger and its journal: the only one that talks to the two disk actors."""

from collections.abc import Iterable

from msgspec import Struct

from ...persistence.journal import MOST_LAZY, Journal, ReadAgain
from ...persistence.protocol import (
    Answer,
    Ask,
    BatchFailed,
    BatchWritten,
    CloseStore,
    LoadAgent,
    StoreClosed,
)
from ..effects import Effect, Send, StartTimer
from ..errors import InternalError
from ..events.protocol import Announce
from ..residency.protocol import AgentEntered, AgentLeft, LoadFailed
from ..shell import ActorShell, log
from ..vocabulary import Address, Timestamp
from .ledger import Ledger
from .protocol import (
    AcceptMessage,
    AcceptRun,
    AwaitRun,
    Checkpoint,
    CloseLedger,
    ConfigureLedger,
    DescribeAgent,
    DescribeAgents,
    DescribeLedger,
    DescribeRun,
    DescribeState,
    EndTurn,
    ForgetRequest,
    InterruptRuns,
    InterruptTurns,
    KindRegistered,
    LedgerClosed,
    RecordClose,
    RecordSpawn,
    ReportProgress,
    SessionFailed,
    SessionStarted,
    StopBeginning,
    StoreFailing,
    TakeRun,
)


class _RetryBatch(Struct, frozen=True):
    tries: int  # how many there had been when the timer was set


class _GiveUp(Struct, frozen=True):
    """The runtime has waited long enough for a store that cannot be written."""


class LedgerActor(ActorShell):
    """Told once what the store holds; then commits, questions, and the disk's answers."""

    role = "ledger"
    ledger: Ledger
    journal: Journal
    closing: Address | None = None
    closed_stores = 0
    patience_ends: Timestamp = 0.0  # with a store that cannot be written, while closing

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[TakeRun, Address]] = []  # until the disk has caught up

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:
        if isinstance(message, ConfigureLedger):
            return self.configure(message)
        self.ledger.now = self.clock()
        effects = self.handle(message, sender)
        if self.closed_stores:
            return effects
        batch = self.journal.take_batch()
        if self.closing is not None and not self.journal.unwritten and not self.journal.asking:
            batch = [*batch, *self.close_stores()]
        return [*effects, *batch] if batch else effects

    def configure(self, message: ConfigureLedger) -> list[Effect]:
        unfinished = message.unfinished
        # numbers that were told and never written are not used again, not even after several crashes
        gap = MOST_LAZY * (unfinished.epoch - 1)
        self.journal = Journal(durability=message.durability, next_seq=unfinished.next_seq + gap)
        self.ledger = Ledger(
            self.journal,
            unfinished,
            backlog=message.backlog,
            attempts_of=message.attempts_of,
            store=message.store,
        )
        self.ledger.now = self.clock()
        return [*self.ledger.recover(unfinished), *self.journal.take_batch()]

    def handle(self, message: object, sender: Address) -> Iterable[Effect]:
        ledger = self.ledger
        match message:
            case TakeRun():
                if self.journal.size.crowded and not ledger.closing:
                    self.held.append((message, sender))
                    return ()
                return ledger.take_run(message, sender)
            case EndTurn():
                return ledger.end_turn(message, sender)
            case BatchWritten():
                return self.batch_written(message)
            case AcceptRun():
                return ledger.accept_run(message)
            case AwaitRun():
                return ledger.await_run(message)
            case Ask(query=LoadAgent()):
                return ledger.load(message, sender)
            case Ask():
                return self.journal.ask(message.request, sender, message.query)
            case Answer():
                return self.journal.answered(message)
            case AgentEntered():
                return ledger.entered(message)
            case SessionStarted():
                return ledger.session_started(message)
            case AgentLeft():
                return ledger.left(message)
            case RecordSpawn():
                return ledger.record_spawn(message)
            case AcceptMessage():
                return ledger.accept_message(message)
            case ReportProgress():
                return ledger.progress(message)
            case Checkpoint():
                return ledger.checkpoint(message, sender)
            case ForgetRequest():
                ledger.forget(message)
            case InterruptRuns():
                return ledger.interrupt(message)
            case RecordClose():
                return ledger.record_close(message)
            case SessionFailed():
                return ledger.session_failed(message)
            case LoadFailed():
                return ledger.load_failed(message)
            case DescribeAgent():
                return ledger.view.agent(message)
            case DescribeAgents():
                return ledger.view.agents(message)
            case DescribeState():
                return ledger.view.state(message)
            case DescribeRun():
                return ledger.view.run(message)
            case DescribeLedger():
                return ledger.describe(message)
            case BatchFailed():
                return self.batch_failed(message)
            case _RetryBatch():
                episode = ledger.health.episode
                if episode is not None and episode.tries == message.tries:
                    return self.journal.resume()
            case _GiveUp():
                return self.give_up()
            case ReadAgain():
                return self.journal.read_again(message)
            case KindRegistered():
                return ledger.kind_registered(message)
            case StopBeginning():
                return [*ledger.stop_beginning(message, sender), *self.release()]
            case InterruptTurns():
                return ledger.interrupt_turns(message)
            case CloseLedger():
                self.closing = sender
                self.patience_ends = self.clock() + message.patience
                ledger.sealed = True
                self.journal.flush()
                return [*self.journal.resume(), StartTimer(message.patience, _GiveUp())]
            case StoreClosed():
                return self.store_closed()
            case _:
                raise TypeError(f"the ledger does not know {message!r}")
        return ()

    # The writer's answers

    def batch_written(self, message: BatchWritten) -> list[Effect]:
        """Let the news of it go, and if it could not be written before, tell that it can be again."""
        effects = self.ledger.written(message)
        over = self.ledger.health.succeeded()
        if over is not None:
            seconds = self.clock() - over.began
            log.warning("the store can be written again, after %.1f s and %d tries", seconds, over.tries)
            effects += self.ledger.store_healed(over)
        return effects + ([] if self.journal.size.crowded else self.release())

    def release(self) -> list[Effect]:
        """Let the turns begin that were held up."""
        held, self.held = self.held, []
        return [effect for ask, session in held for effect in self.ledger.take_run(ask, session)]

    def batch_failed(self, message: BatchFailed) -> list[Effect]:
        """Keep everything, say so, try again: nobody hears "durable" of what is not."""
        if message.of_record:
            return self.record_failed(message)
        self.journal.rejected()
        if message.fatal:
            return [Send("supervisor", StoreFailing(message.problem, True, message.error))]
        health = self.ledger.health
        effects: list[Effect] = []
        if health.failed(message.problem, self.clock()):
            log.error(
                "the store %s cannot be written: %s All that was accepted is kept in memory, and it is "
                "tried again until it succeeds; work that asks to be durable is refused meanwhile.",
                health.store,
                health.told,
            )
            effects.append(Send("events", Announce("store.failing", self.clock(), message.problem)))
        episode = health.episode
        assert episode is not None
        effects += self.ledger.store_failed()
        if self.closing is not None and self.clock() >= self.patience_ends:
            return [*effects, *self.give_up()]
        return [*effects, StartTimer(health.pause, _RetryBatch(episode.tries))]

    def record_failed(self, message: BatchFailed) -> list[Effect]:
        """A bug: something was accepted that cannot be stored. Write all that came before it, then stop."""
        records = self.journal.narrow_down()
        if records is None:
            return []
        what = ", ".join(sorted({type(record).__name__ for record in records}))
        problem = f"a commit of {what} cannot be stored: {message.problem}"
        return [Send("supervisor", StoreFailing(problem, True, InternalError(problem)))]

    # The end

    def give_up(self) -> list[Effect]:
        """While closing: what cannot be written by now is left behind."""
        return [] if self.ledger.health.problem is None else self.close_stores()

    def close_stores(self) -> list[Effect]:
        """All is on disk: the reader closes before the writer, which tidies the file up."""
        if self.closed_stores:
            return []
        self.closed_stores = 1
        return [Send("reader", CloseStore())]

    def store_closed(self) -> list[Effect]:
        self.closed_stores += 1
        if self.closed_stores == 2:  # the reader's
            return [Send("writer", CloseStore())]
        lost = self.journal.unwritten
        problem = f"{lost} commits could not be written: {self.ledger.health.told}" if lost else None
        return [Send(self.closing, LedgerClosed(problem))]
