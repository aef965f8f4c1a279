"""The actor around the ledger and its journal: the only one that talks to the two disk actors."""

from collections.abc import Iterable

from msgspec import Struct

from ...persistence.journal import Journal
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
from ..residency.protocol import AgentEntered, AgentLeft, LoadFailed
from ..shell import ActorShell
from ..vocabulary import Address
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

RETRY_AFTER = 0.5
"""Seconds until a batch that could not be written is tried again."""


LAZY = 0.05
"""Seconds that a lazy commit waits for company, before it is written by itself."""


class _RetryBatch(Struct, frozen=True):
    pass


class _WriteLazy(Struct, frozen=True):
    pass


class LedgerActor(ActorShell):
    """Told once what the store holds; then commits, questions, and the disk's answers."""

    role = "ledger"
    ledger: Ledger
    journal: Journal
    closing: Address | None = None
    closed_stores = 0
    dawdling = False  # a timer runs for the lazy commits

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:
        if isinstance(message, ConfigureLedger):
            return self.configure(message)
        self.ledger.now = self.clock()
        effects = self.handle(message, sender)
        batch = self.journal.take_batch()
        if self.journal.lazy and not self.dawdling:
            self.dawdling = True
            batch = [*batch, StartTimer(LAZY, _WriteLazy())]
        if self.closing is not None and not self.journal.unwritten and not self.journal.asking:
            batch = [*batch, *self.close_stores()]
        return [*effects, *batch]

    def configure(self, message: ConfigureLedger) -> list[Effect]:
        unfinished = message.unfinished
        self.journal = Journal(durability=message.durability, next_seq=unfinished.next_seq)
        self.ledger = Ledger(
            self.journal, unfinished, backlog=message.backlog, attempts_of=message.attempts_of
        )
        self.ledger.now = self.clock()
        return [*self.ledger.recover(unfinished), *self.journal.take_batch()]

    def handle(self, message: object, sender: Address) -> Iterable[Effect]:
        ledger = self.ledger
        match message:
            case TakeRun():
                return ledger.take_run(message, sender)
            case EndTurn():
                return ledger.end_turn(message, sender)
            case BatchWritten():
                return ledger.written(message)
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
                return ledger.describe_agent(message)
            case DescribeAgents():
                return ledger.describe_agents(message)
            case DescribeState():
                return ledger.describe_state(message)
            case DescribeRun():
                return ledger.describe_run(message)
            case DescribeLedger():
                return ledger.describe(message)
            case BatchFailed():
                return self.batch_failed(message)
            case _WriteLazy():
                self.dawdling = False
                self.journal.flush()
            case _RetryBatch():
                return self.journal.resume()
            case StopBeginning():
                return ledger.stop_beginning(message, sender)
            case InterruptTurns():
                return ledger.interrupt_turns(message)
            case CloseLedger():
                self.closing = sender
                ledger.sealed = True
                self.journal.flush()
            case StoreClosed():
                return self.store_closed()
            case _:
                raise TypeError(f"the ledger does not know {message!r}")
        return ()

    def batch_failed(self, message: BatchFailed) -> list[Effect]:
        """Keep everything, say so, try again: nobody hears "durable" of what is not."""
        self.journal.rejected()
        news: list[Effect] = [Send("supervisor", StoreFailing(message.problem, message.fatal))]
        return news if message.fatal else [*news, StartTimer(RETRY_AFTER, _RetryBatch())]

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
        return [Send(self.closing, LedgerClosed())]
