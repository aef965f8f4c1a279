"""A running set of actors and the way in: what `Runtime` and `AsyncRuntime` have in common.

Owns the system base, the actor system and who waits for answers. `post` may be called on any thread;
callbacks come on the loop's.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, get_args

from thespian.actors import ActorSystem

from ...borders import plain, plain_int, shown
from ...errors import GreenroomError, RuntimeClosing, StoreError
from ...retention import DEFAULT, Retention
from ...seconds import checked_seconds
from ...types import Address, Durability, RequestId, Role
from ..agent.executing import in_child, session_method, slot_holder
from ..agent.kind import attempts_of, is_registered, kind_of, kinds_of_module, listeners, register
from ..environment import REAL_ENVIRONMENT, Environment
from ..ledger.protocol import KindRegistered
from ..shell import log
from ..supervisor.actor import Supervisor
from ..supervisor.protocol import CloseRuntime, StartRuntime
from ..systems.local import LocalSystemBase
from ..watchdog import Watchdog
from .replies import Gateway, Relay, ServeReplies, new_pending_replies
from .requests import Request


class Settings:
    """The checked settings of a runtime."""

    def __init__(
        self,
        store: object,
        *,
        slots: object,
        residents: object,
        backlog: object,
        durability: object,
        drain: object,
        kinds: object,
        retention: object = DEFAULT,
    ) -> None:
        self.store = _place(store)
        self.slots = _at_least_one("slots", slots)
        self.residents = _at_least_one("residents", residents)
        self.backlog = _at_least_one("backlog", backlog)
        if not isinstance(durability, str) or plain(durability) not in get_args(Durability):
            levels = ", ".join(get_args(Durability))
            raise ValueError(f"durability= is one of {levels}, not {shown(durability)}")
        self.durability: Durability = plain(durability)  # type: ignore[assignment]
        self.drain = checked_drain(drain)
        if not isinstance(retention, Retention):
            raise TypeError(f"retention= is a Retention, not {shown(retention)}")
        self.retention = retention
        for kind in _kinds(kinds):
            register(kind)


class Engine:
    """The actors, from the outside."""

    def __init__(
        self,
        settings: Settings,
        loop: asyncio.AbstractEventLoop | None,
        world: Environment = REAL_ENVIRONMENT,
    ) -> None:
        self.settings = settings
        self.world = world
        self.callers = new_pending_replies()
        self.callers.failure = self._unstarted = RuntimeClosing("the runtime was not started")
        self._pid = 0  # of the process that has the actors, once there are any
        self._loop = loop
        self._base: LocalSystemBase
        self._system: ActorSystem
        self._supervisor: Address
        self._gateway: Address
        self._roles: dict[Role, Address] = {}
        self._watchdog: Watchdog | None = None
        self._closing = False

    def create(self, callback: Callable[[Any], None]) -> None:
        """Create the actors and have them open the store; `callback` gets what the supervisor says."""
        refuse_green_threads()
        self._pid = os.getpid()

        def begun(answer: Any) -> None:
            self._ready(answer)
            callback(answer)

        self._base = self.world.base(self._loop)
        self._system = ActorSystem(systemBase=self._base, transientUnique=True)
        self._gateway = self._system.createActor(Gateway)
        self._supervisor = self._system.createActor(Supervisor)
        self._base.post(self._gateway, ServeReplies(self.callers))
        settings = self.settings
        start = StartRuntime(
            self.callers.expect(begun),
            self._gateway,
            settings.store,
            settings.slots,
            settings.residents,
            settings.backlog,
            settings.durability,
            is_registered,
            attempts_of,
            self.world.clock,
            self.world.monotonic,
            {"retention": settings.retention, "opener": self.world.store_opener},
            self.world.reader_opener,
        )
        self._base.post(self._supervisor, start)

    def _ready(self, answer: Any) -> None:
        """On the loop's thread, where failures come too: take calls, unless it has failed since."""
        if failure_of(answer) is None and self.callers.failure is self._unstarted:
            self._roles = answer.roles
            self.callers.failure = None

    def started(self) -> None:
        """The caller knows that the actors are ready."""
        listeners[self._kind_registered] = None
        if self.world.watchdog is not None:
            self._watchdog = self.world.watchdog(self._base.loop)
            self._watchdog.start()

    def post(self, call: Request, callback: Callable[[Any], None]) -> RequestId:
        """Ask; `callback` gets the answer, on the loop's thread. Raises if nothing can be asked."""
        if self.forked:
            raise RuntimeClosing("this process was forked from the one that has the runtime")
        if self.callers.failure is not None:
            raise self.callers.failure
        if self._closing and not call.reads:
            raise RuntimeClosing("the runtime is closing")
        request = self.callers.expect(callback)
        if self.callers.failure is not None and self.callers.waiting.pop(request, None) is not None:
            raise self.callers.failure  # it came between the two, and nobody would answer any more
        command = call.make(request, self._gateway)
        if call.relayed:
            self._base.post(self._gateway, Relay(self._roles[call.to], command))
        else:
            self._base.post(self._roles[call.to], command)
        return request

    def tell(self, to: Role, message: object) -> None:
        """Say something that is not answered; of a runtime that is over, nothing."""
        if self._roles and self.callers.failure is None and not self.forked:
            self._base.post(self._roles[to], message)

    def forget(self, request: RequestId) -> None:
        """Nobody waits for this answer any more."""
        self.callers.waiting.pop(request, None)

    def begin_to_close(self, drain: float, *, interrupt: bool, callback: Callable[[Any], None]) -> None:
        """Refuse new work from now on, drain, and have `callback` told when all is written."""
        self._closing = True
        request = self.callers.expect(callback)
        self._base.post(self._supervisor, CloseRuntime(request, self._gateway, drain, interrupt))

    def closed(self, answer: Any) -> None:
        """Say what was left behind; `StoreError` if that is anything accepted."""
        for left in getattr(answer, "unfinished", ()):
            log.warning("%s was closed and left behind: %s", self.settings.store, left)
        error = failure_of(answer)
        if error is not None:
            raise error

    @property
    def forked(self) -> bool:
        """Whether this is another process than the one that has the actors: they did not come along."""
        return self._pid != 0 and in_child(self._pid)

    def on_loop(self) -> bool:
        """Whether this is the thread on which the actors run."""
        return self._base.thread_id == threading.get_ident() and self._base.loop.is_running()

    def refuse_in_turn(self) -> None:
        """Raise in the code of a turn that holds one of these slots: the answer may wait for that one."""
        path = slot_holder(self._roles["supervisor"]) if self._roles else None
        if path is not None:
            raise GreenroomError(
                f"the runtime was called in the turn of {path}, whose slot may be the one that the answer "
                "waits for: use the turn's own methods (turn.spawn, turn.followup, turn.wait), which give "
                "the slot back, or call it within a block of turn.paused()"
            )

    def refuse_to_wait_in_session(self) -> None:
        """Raise in the `open` or `close` of an agent of this runtime, whose place the run may need."""
        session = session_method(self._roles["supervisor"]) if self._roles else None
        if session is not None:
            raise GreenroomError(
                f"the {session.name}() of {session.path} waits for a run, which may need that agent's "
                "place in memory: start the run there and wait for it in a turn"
            )

    def refuse_to_close_within(self) -> None:
        """Raise in a turn that holds a slot and in an agent's `open` or `close`: closing waits for them."""
        supervisor = self._roles["supervisor"] if self._roles else None
        session = session_method(supervisor)
        path = slot_holder(supervisor) if session is None else session.path
        if path is not None:
            where = "turn" if session is None else f"{session.name}()"
            raise GreenroomError(
                f"the runtime was closed in the {where} of {path}, which closing waits for: close it where "
                "it was started"
            )

    def refuse_other_loops(self) -> None:
        """Raise unless the caller is on the actors' own loop."""
        if asyncio.get_running_loop() is not self._base.loop:
            raise GreenroomError(
                "an AsyncRuntime was called on another loop than the one it was started on, where its "
                "answer would never come: call it there (asyncio.run_coroutine_threadsafe does), or use a "
                "Runtime, which any thread may call"
            )

    def _kind_registered(self, name: str) -> None:
        if self._base.loop.is_closed():  # the program around it ended, and has not closed it
            listeners.pop(self._kind_registered, None)
        else:
            self.tell("ledger", KindRegistered(name))

    def _over(self) -> None:
        listeners.pop(self._kind_registered, None)
        if self._watchdog is not None:
            self._watchdog.stop()
        self.callers.give_up(self.callers.failure or RuntimeClosing("the runtime is closed"))

    def end(self) -> None:
        """End the actors, from another thread than theirs."""
        self._over()
        self._system.shutdown()

    async def aend(self) -> None:
        """End the actors, on their own loop."""
        self._over()
        await self._base.aclose()


def refuse_green_threads() -> None:
    """Raise if threads are greenlets: the loop of all agents would keep its thread, and so all of them."""
    for library, name, asked, about in (
        ("gevent", "gevent.monkey", "is_module_patched", "threading"),
        ("eventlet", "eventlet.patcher", "is_monkey_patched", "thread"),
    ):
        module: Any = sys.modules.get(name)
        if module is not None and getattr(module, asked)(about):
            raise GreenroomError(
                f"{library} has put greenlets in the place of threads, on which no runtime can work: start "
                "it in a process without that, and talk to it over HTTP (`greenroom serve`)"
            )


def checked_drain(drain: object) -> float:
    """`drain` as seconds, or what is wrong with it."""
    return checked_seconds("drain", drain)


def failure_of(answer: object) -> GreenroomError | None:
    """The error that an answer brings, if it brings one."""
    return getattr(answer, "error", None)


def granted(answer: Any) -> Any:
    """The answer, or the error that it brings."""
    error = failure_of(answer)
    if error is not None:
        raise error
    return answer


def _place(store: object) -> str:
    """Where a store is, whatever the working directory is by the time it is opened."""
    if not isinstance(store, str | os.PathLike):
        raise TypeError(f"a store is a path or ':memory:', not {shown(store)}")
    path = plain(os.fsdecode(store))
    if not path:
        raise ValueError("a store is a path or ':memory:', not an empty string")
    try:
        return path if path == ":memory:" else os.path.abspath(path)
    except FileNotFoundError:
        raise StoreError(path, "the working directory is gone. Give an absolute path.") from None


def _at_least_one(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or plain_int(value) < 1:
        raise ValueError(f"{name}= is an int from 1 on, not {shown(value)}")
    return plain_int(value)


def _kinds(kinds: object) -> Iterable[Any]:
    """The kinds of `kinds=`: decorated objects, names of kinds, or modules that hold some."""
    if not isinstance(kinds, Iterable) or isinstance(kinds, str):
        raise TypeError(f"kinds= is a list of kinds or modules, not {shown(kinds)}")
    for kind in kinds:
        if type(kind) is type(os):
            found = kinds_of_module(kind)
            if not found:
                raise ValueError(f"kinds= names the module {kind.__name__}, in which no kind stands")
            yield from found
        else:
            yield kind_of(kind)
