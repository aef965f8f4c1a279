"""The function that handles each message of the ledger, and what a bug in it ends."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from ...types import Address
from ..effects import Effect
from ..residency.protocol import AgentActivated, AgentPassivated, LoadFailed, OpeningDeferred
from ..storage.protocol import (
    Answer,
    Ask,
    BatchFailed,
    BatchWritten,
    StoreClosed,
    StoreMisplaced,
)
from . import closing, describing, disk, interrupting, sessions, solo, spawning, turns, verdicts, waiting
from .admission import AdmitNext, CheckAdmission
from .descriptions import DescribeAgent, DescribeAgents, DescribeLedger, DescribeRun, DescribeState
from .errands import NextPortion
from .ledger import Ledger
from .log.questions import ReadAgain
from .protocol import (
    AcceptMessage,
    AcceptRun,
    AwaitRun,
    AwaitRuns,
    Checkpoint,
    CloseLedger,
    EndTurn,
    ForgetRequest,
    ForgetRuns,
    GoOnTelling,
    InterruptRuns,
    InterruptTree,
    InterruptTurns,
    KindRegistered,
    OpeningRecorded,
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
from .suspects import Outran
from .turns import ActivateAgain

if TYPE_CHECKING:
    from .actor import LedgerActor


class RetryBatch(Struct, frozen=True):
    """To the ledger, from a timer: try again to write."""

    tries: int  # The number of tries when the timer was set.


class GiveUp(Struct, frozen=True):
    """To the ledger, from a timer: a closing waits no longer for a store that cannot be written."""


Handler: TypeAlias = Callable[["LedgerActor", Any, Address], Iterable[Effect]]

HANDLERS: dict[type, Handler] = {
    # callers, through the directory or by run id
    RecordSpawn: lambda actor, ask, _: actor.hand_in(ask),
    AcceptRun: lambda actor, ask, _: actor.hand_in(ask),
    AcceptMessage: lambda actor, ask, _: actor.hand_in(ask),
    AdmitNext: lambda actor, news, _: actor.let_in(news),
    CheckAdmission: lambda actor, timer, _: actor.look_at_door(timer),
    RecordClose: lambda actor, ask, _: actor.record_close(ask),
    InterruptRuns: lambda actor, ask, _: interrupting.interrupt(actor.ledger, ask),
    InterruptTree: lambda actor, ask, _: interrupting.interrupt_tree(actor.ledger, ask),
    AwaitRun: lambda actor, ask, _: waiting.await_run(actor.ledger, ask),
    AwaitRuns: lambda actor, ask, _: waiting.await_runs(actor.ledger, ask),
    ForgetRequest: lambda actor, news, _: waiting.forget(actor.ledger, news),
    ForgetRuns: lambda actor, news, _: waiting.forget_runs(actor.ledger, news),
    NextPortion: lambda actor, news, _: disk.go_on(actor.ledger, news.number),
    DescribeAgent: lambda actor, ask, _: actor.ledger.view.agent(ask),
    DescribeAgents: lambda actor, ask, _: describing.describe_agents(actor.ledger, ask),
    DescribeState: lambda actor, ask, _: actor.ledger.view.state(ask),
    DescribeRun: lambda actor, ask, _: actor.ledger.view.run(ask),
    DescribeLedger: lambda actor, ask, _: describing.describe(actor.ledger, ask),
    Ask: lambda actor, ask, sender: actor.ask(ask, sender),
    OpeningRecorded: lambda actor, news, _: sessions.load_now(actor.ledger, news.ask, news.residency),
    # sessions, and the residency about them
    AgentActivated: lambda actor, news, _: sessions.entered(actor.ledger, news),
    SessionStarted: lambda actor, news, _: sessions.session_started(actor.ledger, news),
    SessionFailed: lambda actor, news, _: sessions.session_failed(actor.ledger, news),
    OpeningDeferred: lambda actor, news, _: sessions.opening_deferred(actor.ledger, news),
    SessionCancelled: lambda actor, news, _: sessions.session_cancelled(actor.ledger, news),
    LoadFailed: lambda actor, news, _: sessions.load_failed(actor.ledger, news),
    AgentPassivated: lambda actor, news, _: sessions.left(actor.ledger, news),
    TakeRun: lambda actor, ask, session: actor.take_run(ask, session),
    Checkpoint: lambda actor, ask, session: turns.checkpoint(actor.ledger, ask, session),
    ReportDivergence: lambda actor, news, _: turns.diverged(actor.ledger, news),
    ReportProgress: lambda actor, news, _: turns.progress(actor.ledger, news),
    GoOnTelling: lambda actor, _, __: turns.others_had_their_turn(actor.ledger),
    EndTurn: lambda actor, end, session: turns.end_turn(actor.ledger, end, session),
    TurnWaits: lambda actor, news, _: solo.turn_waits(actor.ledger, news),
    TurnResumes: lambda actor, ask, session: solo.turn_resumes(actor.ledger, ask, session),
    Outran: lambda actor, timer, _: solo.outran(actor.ledger, timer),
    ActivateAgain: lambda actor, timer, _: turns.call_again(actor.ledger, timer),
    KindRegistered: lambda actor, news, _: verdicts.kind_registered(actor.ledger, news),
    # the disks
    BatchWritten: lambda actor, news, _: actor.batch_written(news),
    BatchFailed: lambda actor, news, _: actor.batch_failed(news),
    StoreMisplaced: lambda actor, news, _: actor.misplaced(news),
    RetryBatch: lambda actor, timer, _: actor.retry(timer),
    Answer: lambda actor, answer, _: actor.commit_log.answered(answer),
    ReadAgain: lambda actor, timer, _: actor.commit_log.questions.read_again(timer),
    # the end, from the supervisor
    StopBeginning: lambda actor, ask, sender: actor.stop_beginning(ask, sender),
    InterruptTurns: lambda actor, ask, _: closing.interrupt_turns(actor.ledger, ask),
    CloseLedger: lambda actor, ask, sender: actor.close(ask, sender),
    GiveUp: lambda actor, _, __: actor.give_up(),
    StoreClosed: lambda actor, news, _: actor.store_closed(news),
}
"""By the type of the message."""

ASKED: dict[type, Callable[[Ledger, Any], Iterable[Effect]]] = {
    **dict.fromkeys(
        (
            AcceptRun,
            AcceptMessage,
            Ask,
            DescribeAgent,
            DescribeAgents,
            DescribeState,
            DescribeRun,
            DescribeLedger,
            AwaitRun,
            Checkpoint,
        ),
        lambda *_: (),
    ),
    **dict.fromkeys((InterruptRuns, InterruptTree), interrupting.not_swept),
    AwaitRuns: lambda ledger, ask: waiting.forget_runs(ledger, ForgetRuns(ask.request, ask.run_ids)),
    RecordSpawn: lambda _, ask: spawning.not_spawned(ask),
}
"""Requests that a bug refuses, and what else is told then."""

OF_AN_AGENT = (
    AgentActivated,
    SessionStarted,
    SessionFailed,
    LoadFailed,
    TakeRun,
    ReportDivergence,
    ReportProgress,
    EndTurn,
)
"""News of one agent: a bug ends the runs of that agent."""
