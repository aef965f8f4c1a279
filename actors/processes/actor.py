"""The processes' room: the actor around the table, with the reaper for its hands.

The supervisor makes it when a program is first to be started, or when the store has records of processes;
a runtime without such agents does not have it. It needs an asyncio loop, as a session does.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from ...persistence.lease import file_of, instant, this_process
from ...types import Address
from ..agent.threads import run_in_thread
from ..shell import ActorShell, log
from ..storage.protocol import ProcessesKept
from . import orphan_records
from .entry import EndDeadline, LookAgain, Say
from .orphans import end_left
from .protocol import (
    CloseStreams,
    ConfigureProcesses,
    DescribePermits,
    DismissReaper,
    EndAllProcesses,
    EndErased,
    EndOrphans,
    EndProcess,
    EndSession,
    Exited,
    Failed,
    Forked,
    ForkProcess,
    Gone,
    LiftStartBarrier,
    NotSignalled,
    OrphansEnded,
    ReaperLost,
    Running,
    SetProcessIdle,
    SignalProcess,
    StartProcess,
)
from .reaper_client import ReaperClient, close_streams
from .records import WriteAgain
from .table import ProcessTable


class ProcessManager(ActorShell):
    """Told once which opening of the store this is; then commands, and news of processes."""

    role = "processes"

    def __init__(self) -> None:
        super().__init__()
        self.table = ProcessTable()
        self.token = secrets.token_hex(8)
        self.hands: ReaperClient
        self.file = ""
        self.tasks: set[asyncio.Task[None]] = set()

    def decide(self, message: object, sender: Address) -> Iterable[Any]:
        table = self.table
        match message:
            case StartProcess():
                return table.start(message, self.clock())
            case Forked():
                return table.forked(message, instant())
            case ProcessesKept():
                return table.kept(message)
            case Running():
                return table.running(message.number)
            case SetProcessIdle():
                return table.rest(message)
            case Exited():
                return table.exited(message.number, message.code)
            case EndProcess():
                return table.end(message)
            case Gone():
                return table.gone(message.number)
            case Failed():
                return table.failed(message)
            case NotSignalled():
                return table.stuck(message)
            case EndSession():
                return table.end_session(message.agent_id, message.incarnation)
            case EndErased():
                return table.end_erased(message.agent_ids)
            case OrphansEnded():
                return orphan_records.left_ended(table, message)
            case ReaperLost():
                return table.warden_lost(message)
            case EndDeadline():
                return table.time_is_up(message)
            case WriteAgain():
                return table.write_again()
            case LookAgain():
                return orphan_records.look_again(table)
            case DescribePermits():
                return table.describe(message)
            case EndAllProcesses():
                return table.end_all(sender)
            case ConfigureProcesses():
                self.file = file_of(message.store)
                self.hands = ReaperClient(self.token, self.tell_myself)
                return table.configure(message, this_process(), self.token, self.file)
            case _:
                raise TypeError(f"the processes' room knows no {type(message).__name__}")

    def tell_myself(self, news: object) -> None:
        self.send(self.myAddress, news)

    def perform(self, effect: Any) -> None:
        match effect:
            case DismissReaper():
                self.start(self.farewell(effect))
            case ForkProcess():
                self.hands.fork(effect)
            case LiftStartBarrier():
                self.hands.go(effect.number)
            case SignalProcess():
                self.hands.signal(effect.number, effect.signal)
            case CloseStreams():
                close_streams(effect.streams)
            case EndOrphans():
                self.start(self.end_left(effect))
            case Say():
                (log.error if effect.grave else log.warning)("%s", effect.text)
            case _:
                super().perform(effect)

    def start(self, work: Any) -> None:
        """Do something that takes long beside the actor."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self.fail(work, error)

        task = asyncio.get_running_loop().create_task(guarded())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def end_left(self, effect: EndOrphans) -> None:
        call: Callable[[], OrphansEnded] = lambda: end_left(effect.rows, self.file, owned=effect.owned)  # noqa: E731
        self.tell_myself(await run_in_thread(call, "ends what is left"))

    async def farewell(self, effect: DismissReaper) -> None:
        await self.hands.gone()
        self.send(effect.to, effect.message)

    def ended(self) -> None:
        if hasattr(self, "hands"):
            self.hands.dismiss()
