"""The actor of one session: it does what the session decides, with the user's code.

One AgentActor is one session of one agent, made by the ResidencyLRU and gone with it. It needs an
asyncio loop, so it runs on `LocalSystemBase`.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from msgspec.structs import replace
from thespian.actors import ActorExitRequest

from ...borders import causes_of, is_a, left_behind, members_of
from ...errors import RuntimeClosing, UnknownKind
from ...persistence.rows import MessageRow, Snapshot
from ...stored_text import storable_text
from ...types import Address, AgentId, Incarnation, RequestId, Role, RunId
from ..effects import Send, StartTimer
from ..ledger.descriptions import LiveAgent
from ..ledger.protocol import EndTurn, ForgetRequest
from ..ledger.replies import (
    InterruptTurn,
    NothingToRun,
    RequestRefused,
    RunBegun,
    RunPending,
    TurnMayResume,
    TurnSettled,
)
from ..processes.protocol import ProcessNews
from ..residency.protocol import (
    AskFirst,
    NextEviction,
    OpenSession,
    Room,
    RunsAvailable,
    RunsCancelled,
    Unload,
)
from ..shell import ActorShell
from ..slots.protocol import SlotGranted
from .aside import infos_of
from .behaviour import Behaviour, explain_error, type_of
from .executing import enter, enter_session
from .kind import find_kind
from .process_client import ProcessClient, offer
from .reports import Reports, SendReports
from .session import (
    Action,
    DoCancelOpen,
    DoClose,
    DoInterrupt,
    DoLeave,
    DoResume,
    DoTurn,
    Session,
)
from .turn import Turn
from .turn_clock import TurnClock
from .turn_host import Pending
from .turn_input import Given


class AgentActor(ActorShell):
    """Told once who it is; then work, slots, runs, and the end."""

    __slots__ = (
        "agent_id",
        "asked",
        "behaviour",
        "called_off",
        "clock_of_turn",
        "context",
        "gone",
        "healed",
        "inbox",
        "incarnation",
        "interruption",
        "is_lost",
        "link",
        "opening",
        "regaining",
        "reports",
        "requests",
        "session",
        "tasks",
        "turn",
        "turn_task",
    )

    agent_id: AgentId
    incarnation: Incarnation
    session: Session
    behaviour: Behaviour
    context: contextvars.Context

    def __init__(self) -> None:
        super().__init__()
        self.inbox: tuple[MessageRow, ...] = ()
        self.healed = self.is_lost = False
        self.asked: dict[RequestId, asyncio.Future[Any]] = {}
        self.requests = 0
        self.opening: asyncio.Task[None] | None = None  # once it has begun
        self.called_off = False  # the opening, which looks for itself before it begins
        self.gone = False  # the actor has ended
        self.turn: Turn | None = None
        self.turn_task: asyncio.Task[None] | None = None
        self.interruption: DoInterrupt | None = None
        self.regaining: asyncio.Future[None] | None = None
        self.clock_of_turn: TurnClock | None = None
        self.reports: Reports | None = None  # that the ledger was not told of
        self.tasks: tuple[asyncio.Task[None], ...] = ()  # beside turns: opening, closing
        self.link: ProcessClient | None = None  # to its processes, if it started any

    @property
    def role(self) -> str:  # type: ignore[override]
        """For what is told of it."""
        session = getattr(self, "session", None)  # none before it was told who it is
        return "an agent" if session is None else f"agent {session.path}"

    @property
    def address(self) -> Address:
        """Where answers for this session go."""
        return self.myAddress

    def decide(self, message: object, sender: Address) -> Iterable[Any]:  # noqa: ARG002
        match message:
            case RunsAvailable():
                return self.session.work(message)
            case SlotGranted():
                return self.session.granted(message)
            case RunBegun():
                return self.session.begun(message)
            case TurnSettled():
                return self.session.settled(message)
            case NothingToRun():
                return self.session.nothing()
            case InterruptTurn():
                return self.session.interrupt(message)
            case Room():
                return self.session.placed(message)
            case NextEviction():
                return self.session.goes_on(message)
            case AskFirst():
                self.session.ask_first()
            case RunsCancelled():
                return self.session.rest()
            case TurnMayResume():
                return self.session.may_resume(message)
            case Unload():
                return self.session.unload(gone=message.gone)
            case OpenSession():
                self.open(message)
            case SendReports():
                self.send_reports()
            case _:
                self.answered(message)
        return ()

    def perform(self, effect: Action) -> None:
        match effect:
            case Send() | StartTimer():
                super().perform(effect)
            case DoTurn():
                self.begin_turn(effect)
            case DoResume():
                if self.clock_of_turn is not None:
                    self.clock_of_turn.go_on()
                if self.regaining is not None and not self.regaining.done():
                    self.regaining.set_result(None)
            case DoInterrupt():
                self.interrupt_turn(effect)
            case DoCancelOpen():
                self.called_off = True
                if self.opening is not None:
                    self.opening.cancel()
            case DoClose():
                behaviour = getattr(self, "behaviour", None)
                if behaviour is not None and behaviour.kind.is_class:
                    self.start(self.close, f"close {self.role}", behaviour.context)
                else:
                    self.act(self.session.closed())
            case DoLeave():
                self.send(self.myAddress, ActorExitRequest())

    def act(self, actions: Iterable[Action]) -> None:
        """Perform what was decided outside of a message: in a task, on the loop."""
        for action in actions:
            self.perform(action)

    async def guarded(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Have a bug in a coroutine beside the actor end the actor, as in a message."""
        loop = asyncio.get_running_loop()
        try:
            await work()
        except asyncio.CancelledError:
            raise  # the actor is gone, or the loop
        except BaseException as error:
            if left_behind(error, loop):
                raise
            self.fail(name, error)

    def start(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        name: str,
        context: contextvars.Context,
    ) -> None:
        """Run a coroutine beside the actor, in `context`."""

        async def listed() -> None:
            try:
                await self.guarded(work, name)
            finally:
                self.tasks = tuple(other for other in self.tasks if other is not task)

        task = asyncio.get_running_loop().create_task(listed(), name=name, context=context)
        self.tasks += (task,)

    # Opening and closing

    def open(self, message: OpenSession) -> None:
        self.roles, self.clock = message.roles, message.clock
        # A session and each turn have copies of it: what their code sets there is theirs alone.
        self.context = contextvars.copy_context()  # the runtime's, in which messages are handled
        image = message.image
        row = image.row
        self.agent_id, self.incarnation = row.agent_id, message.incarnation
        self.inbox = image.inbox
        self.healed = row.status == "failed"
        self.session = Session(row.agent_id, row.path, message.incarnation)
        if message.ask_first:
            self.session.ask_first()
        if message.work is not None:
            self.act(self.session.work(message.work))
        kind = find_kind(row.kind)
        if kind is None:
            unknown = UnknownKind(row.kind, row.path)
            self.start(lambda: self.open_failed(unknown), f"open {self.role}", self.context)
            return
        context = self.context.copy()
        context.run(enter_session, row.path, self.roles["supervisor"])
        self.behaviour = Behaviour(kind, row.path, row.config, image.snapshot, context, self.lost)
        live = LiveAgent(row, "starting", True, message.incarnation, 0)
        if kind.is_class or self.behaviour.states.takes_long:
            self.start(lambda: self.open_kind(live), f"open {row.path} ({kind.name})", context)
        else:
            context.run(self.open_function)

    def open_function(self) -> None:
        """A function has nothing to open but its state."""
        try:
            self.behaviour.states.restore_at_once()
        except BaseException as error:
            self.act(self.session.failed(explain_error(error), type_of(error)))
        else:
            self.act(self.session.opened(healed=self.healed))

    async def open_kind(self, live: LiveAgent) -> None:
        loop = asyncio.get_running_loop()
        offer(self)
        try:
            if self.called_off:
                raise asyncio.CancelledError
            self.opening = asyncio.current_task()
            (info,) = await infos_of([live])
            await self.behaviour.open(info)
        except asyncio.CancelledError as error:
            if self.called_off or cancelled_from_outside():
                self.act(self.session.cancelled())
            else:
                self.act(self.session.failed(explain_error(error), type_of(error)))
        except BaseException as error:
            if left_behind(error, loop):
                raise
            self.act(self.session.failed(explain_error(error), type_of(error)))
        else:
            self.act(self.session.opened(healed=self.healed))

    async def open_failed(self, error: Exception) -> None:
        self.act(self.session.failed(storable_text(str(error)), type_of(error)))

    async def close(self) -> None:
        await self.behaviour.close()
        self.act(self.session.closed())

    def lost(self) -> None:
        """The kind's object has ended by itself, and so does the session, after the turn under way."""
        self.is_lost = True
        if self.turn_task is None:
            self.leave()

    def leave(self) -> None:
        """Go without a word: whoever finds the actor gone has the agent opened again for what is to do."""
        self.behaviour.abandon()
        self.send(self.myAddress, ActorExitRequest())

    # Turns

    def begin_turn(self, do: DoTurn) -> None:
        if self.is_lost:
            return  # the run is given to the next session
        if do.erased:
            self.inbox = tuple(message for message in self.inbox if message.sender_id not in do.erased)
        if do.inbox:
            known = {message.serial: message for message in (*self.inbox, *do.inbox)}
            self.inbox = tuple(known[serial] for serial in sorted(known))
        self.interruption = None
        name = f"turn {self.behaviour.path} ({self.behaviour.kind.name})"
        self.turn_task = asyncio.get_running_loop().create_task(
            self.guarded(lambda: self.execute(do), name), name=name, context=self.context.copy()
        )

    async def execute(self, do: DoTurn) -> None:
        """Execute a turn and tell how it ended; nothing that the user's code does gets past here."""
        begun_at, loop = self.clock(), asyncio.get_running_loop()
        turn: Turn | None = None
        status, error, error_type, begun = "failed", None, None, False
        result: bytes | None = None
        snapshot: Snapshot | None = None
        try:
            state = await self.behaviour.states.take()
            given = await Given.read(do.run, self.behaviour.config, self.inbox, do.results)
            turn = self.turn = Turn(self, do.run, given, again=do.again, state=state)
            enter(turn)
            if self.interruption is not None:
                raise asyncio.CancelledError
            begun = True
            result = await self.run_in_time(turn)
            turn._over = True  # what goes on of its code changes nothing any more
            snapshot = await self.store(turn, aside=lambda: self.act(self.session.stores()))
            status = "completed"
        except BaseException as raised:
            if left_behind(raised, loop):
                raise
            error, error_type = explain_error(raised), type_of(raised)
            if was_cut(raised):
                if self.interruption is not None:
                    status = self.interruption.means
                elif cancelled_from_outside():
                    status = "cancelled"
        if self.gone:
            return  # the session is lost, and with it its turn
        over = self.interruption
        if over is not None and over.means != "suspended":  # whatever the code made of it
            status, error, error_type = over.means, over.reason, over.error_type
        elif over is not None and status == "suspended":
            error, error_type = over.reason, None
        self.end_turn(do, turn, status, result, error, snapshot, begun_at, error_type, begun=begun)

    async def run_in_time(self, turn: Turn) -> bytes:
        """The turn's result. When its time is over, waits aside, it is interrupted, and fails."""
        seconds = self.behaviour.kind.turn_timeout
        if seconds is None:
            return await self.behaviour.run(turn)
        over = DoInterrupt(f"its turn took longer than {seconds:g} s", "failed", TimeoutError.__name__)
        clock = self.clock_of_turn = TurnClock(seconds, lambda: self.interrupt_turn(over))
        clock.go_on()
        try:
            return await self.behaviour.run(turn)
        finally:
            clock.stop()
            self.clock_of_turn = None

    def end_turn(
        self,
        do: DoTurn,
        turn: Turn | None,
        status: str,
        result: bytes | None,
        error: str | None,
        snapshot: Snapshot | None,
        begun_at: float,
        error_type: str | None,
        *,
        begun: bool,
    ) -> None:
        """Hand the turn's end to the ledger: all that it changes if it completed, else nothing."""
        self.send_reports()
        end = EndTurn(
            self.agent_id,
            self.incarnation,
            do.run.run_id,
            status,
            None,
            error,
            begun_at,
            self.clock(),
            error_type=error_type,
            begun=begun,
        )
        if status == "completed" and turn is not None:
            read_upto = self.read_mail()
            self.behaviour.states.keep(turn.state, snapshot)
            outbox, after = tuple(turn._outbox), turn._continuation
            end = replace(
                end,
                result=result,
                snapshot=snapshot,
                read_upto=read_upto,
                outbox=outbox,
                after=after,
            )
        if turn is not None:
            turn._over = True
        self.turn = self.turn_task = self.regaining = None
        self.asked.clear()
        self.act(self.session.returned(end))
        if self.is_lost:
            self.leave()

    def interrupt_turn(self, do: DoInterrupt) -> None:
        """Cancel the turn's code; a turn whose task has not begun looks for itself."""
        if self.interruption is not None and do.means != "interrupted":
            return  # it is on its way out, though that takes longer than its time
        turn = self.turn
        if do.means == "suspended" and turn is not None and turn._over:
            return  # its code has returned, and what it comes to is being stored
        self.interruption = do
        if turn is not None and self.turn_task is not None:
            turn._interrupted = do.means != "suspended"
            turn._suspended = do.means == "suspended"
            self.turn_task.cancel()

    # The requests of a turn

    def ask(self, to: Role, make: Callable[[RequestId], object]) -> asyncio.Future[Any]:
        if self.reports is not None:
            self.send_reports()
        self.requests += 1
        request = (self.agent_id, self.incarnation, self.requests)
        future = self.asked[request] = asyncio.get_running_loop().create_future()
        self.send(self.roles[to], make(request))
        return future

    def answered(self, message: Any) -> None:
        """An answer for the turn; one that came after the turn's end is nobody's."""
        future = self.asked.pop(message.request, None)
        if future is None or future.done():
            if self.link is not None and isinstance(message, ProcessNews):
                self.link.heard(message)
            return
        match message:
            case RequestRefused():
                future.set_exception(message.error)
            case RunPending():
                end = self.asked[message.request] = Pending(message.request)
                future.set_result(end)
            case _:
                future.set_result(message)

    def tell(self, to: Role, message: object) -> None:
        self.send(self.roles[to], message)

    def report(self, told: bytes) -> None:
        if self.reports is None:
            self.reports = Reports()
            self.send(self.myAddress, SendReports())
        self.reports.add(told)

    def send_reports(self) -> None:
        """Tell the ledger what the turn has reported since this was done last, in one message."""
        reports, self.reports = self.reports, None
        if reports is not None and self.turn is not None:
            run_id = RunId(self.turn.run_id)
            self.tell("ledger", reports.as_message(self.agent_id, self.incarnation, run_id))

    def forget(self, pending: Pending, run_id: RunId) -> None:
        if self.asked.pop(pending.request, None) is not None:
            self.tell("ledger", ForgetRequest(pending.request, run_id))

    def give_slot(self) -> None:
        if self.clock_of_turn is not None:
            self.clock_of_turn.stop()
        self.act(self.session.waits())

    def regain_slot(self) -> asyncio.Future[None]:
        # One future for all tasks of the turn: another one may have waited again before it had its slot.
        if self.regaining is None or self.regaining.done():
            self.regaining = asyncio.get_running_loop().create_future()
        self.act(self.session.resumes())
        return self.regaining

    async def snapshot(self) -> Snapshot | None:
        return await self.store(self.turn) if self.turn else None

    def recorded(self, snapshot: Snapshot | None) -> None:
        self.behaviour.states.recorded(snapshot)

    def read_mail(self) -> int | None:
        read_upto = self.inbox[-1].serial if self.inbox else None
        self.inbox = ()
        return read_upto

    async def store(self, turn: Turn, aside: Callable[[], None] | None = None) -> Snapshot | None:
        """The turn's state as bytes; the messages that it has sent belong to the same moment."""
        return await self.behaviour.states.snapshot(lambda: (turn.state, len(turn._outbox)), aside=aside)

    def ended(self) -> None:
        self.gone = True
        if self.link is not None:
            self.link.cut()
        for task in (*self.tasks, self.turn_task):
            if task is not None and task is not asyncio.current_task():
                task.cancel()


def cancelled_from_outside() -> bool:
    """Whether the task that runs was told to end, and not just met the end of something it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def was_cut(error: BaseException) -> bool:
    """Whether code that was told to end ended with this because of it: nothing was lost but time."""
    met, left = set(), [error]
    while left:
        one = left.pop()
        if is_a(one, RuntimeClosing) or (one is error and is_a(one, asyncio.CancelledError)):
            return True
        if id(one) in met:
            continue
        met.add(id(one))
        left += causes_of(one)
        left += members_of(one) if is_a(one, BaseExceptionGroup) else ()
    return False
