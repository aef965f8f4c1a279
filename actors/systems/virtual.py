"""An asyncio loop on which nothing happens but what was chosen: virtual time, no threads, no sockets.

The next possible steps lie on an agenda: steps of tasks, messages between actors, calls handed to threads.
The loop chooses one, does it, and looks again; when nothing can happen, time jumps to the next timer.
Callbacks of asyncio itself (a future wakes its waiters, a timer rings) keep their order and come before the
next choice, as `call_soon` promises. When a task goes on is promised to nobody.

A step may take some time: a timer that is due within `haste` seconds may ring although there are things
to do. Longer than that, nobody is slow for no reason.
"""

import asyncio
import gc
import itertools
import logging
import sys
import threading
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future as ThreadFuture
from contextlib import contextmanager, suppress
from contextvars import Context
from heapq import heappop
from typing import Any, TypeVar, TypeVarTuple

from ...borders import is_a
from ...persistence import chunked_pickle
from .choices import Choices
from .isolated import IsolatedLoop, NumberedFuture, NumberedTask
from .lockstep_thread import Abandoned, LockstepThread
from .timers import TimerQueue
from .trace import Trace

log = logging.getLogger("greenroom")

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

TIMER_SLACK = 0.01
SPANS = (0.0, 0.001, 0.01, 0.1, 1.0)
"""Seconds that a call on a thread may take."""

MOST_STEPS = 1_000_000
"""Of one drive: what takes longer goes round in circles."""


class NothingCanHappen(RuntimeError):
    """The awaited thing cannot happen any more, or does not within a reasonable number of steps."""


class VirtualLoop(IsolatedLoop):
    """A loop that is driven, by `drive`, from the thread that made it.

    `now` is where its clock stands at the beginning. `before_step` is called before each choice and may
    raise, which ends the drive. `watch_turn` gets each coroutine that is a turn, and returns what is
    awaited in its place.
    """

    crew_size = 2
    """Threads for large states, whatever the machine: a seed is the same simulation on each."""

    refuses_divergence = True
    """A turn begun again that asks for something else than before fails its run: here it is a finding."""

    _thread_id: int | None
    _scheduled: list[Any]  # a heap of timers
    _check_closed: Callable[[], None]
    _check_running: Callable[[], None]

    def __init__(self, choices: Choices, trace: Trace, *, now: float = 0.0) -> None:
        super().__init__()
        self.choices, self.trace = choices, trace
        self.agenda = TimerQueue()
        self.steps = 0
        self.before_step: Callable[[], None] = _nothing
        self.watch_turn: Callable[[Any], Any] = _as_it_is
        self._now = now
        self._plain: deque[asyncio.Handle] = deque()
        self._numbers = itertools.count(1)
        self._batons: dict[int | None, LockstepThread] = {}
        self._home = threading.get_ident()
        self.tasks: dict[int, NumberedTask] = {}  # strongly: nothing that is under way ends by chance

    # Time

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._now

    def _next_timer(self) -> float | None:
        timers = self._scheduled
        while timers and timers[0]._cancelled:
            heappop(timers)._scheduled = False
        return timers[0]._when if timers else None

    def _ring(self, at: float) -> None:
        """Let it be `at` seconds, and everything ring that is due."""
        self._now = max(self._now, at)
        timers = self._scheduled
        while timers and timers[0]._when <= self._now:
            timer = heappop(timers)
            timer._scheduled = False
            if not timer._cancelled:
                self._plain.append(timer)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is skipped when its time comes."""

    # Possible steps

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """The next step of a task goes on the agenda; anything else comes before the next choice."""
        self._check_closed()
        handle = asyncio.Handle(callback, args, self, context)
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, NumberedTask):
            self.agenda.add(owner.number, _Step(self, owner, handle))
        else:
            self._plain.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """The same: threads of a simulation never run at the same time as its loop."""
        here = threading.get_ident()
        if here != self._home and here not in self._batons:
            raise RuntimeError(
                "a real thread came into the simulation, where nothing it does can be repeated"
            )
        return self.call_soon(callback, *args, context=context)

    def after(self, seconds: float, channel: Hashable, item: Callable[[], None]) -> None:
        """Put `item` on the agenda, now or when that time has passed."""
        if seconds > 0.0:
            self.call_later(seconds, self.agenda.add, channel, item)
        else:
            self.agenda.add(channel, item)

    def span(self, spans: tuple[float, ...] = SPANS) -> float:
        """How long something takes that nobody can say beforehand."""
        return spans[self.choices.choose(len(spans))]

    def create_future(self) -> asyncio.Future[Any]:
        return NumberedFuture(next(self._numbers), self)

    def create_task(self, coro: Any, *, name: object = None, **options: Any) -> Any:
        self._check_closed()
        number = next(self._numbers)
        task = NumberedTask(coro, number, loop=self, name=str(name or f"task {number}"), **options)
        self.tasks[number] = task
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: Any) -> None:
        self.tasks.pop(task.number, None)

    # Threads

    def run_in_executor(self, executor: Any, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """Call `func` here, at a chosen time, in one step: what it does is seen as a whole or not."""
        del executor
        future = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except BaseException as error:
                if not future.done():
                    failed = is_a(error, StopIteration, SystemExit, KeyboardInterrupt)
                    future.set_exception(RuntimeError(repr(error)) if failed else error)
            else:
                if not future.done():
                    future.set_result(result)

        self.start_thread(work, getattr(func, "__name__", "call"))
        return future

    def start_thread(self, work: Callable[[], None], name: str, *, waits: bool = False) -> None:
        """Do what production does on a new thread: `work` comes at a chosen time.

        If it `waits` for the loop in the middle (by `wait_on_thread`), it has a thread, under the baton.
        """
        begin = self._begin_baton if waits else self._call_inline
        number = next(self._numbers)
        self.after(self.span(), ("thread", number), lambda: begin(work, name))

    def _call_inline(self, work: Callable[[], None], name: str) -> None:
        self.trace.add(self._now, "thread %s", name)
        events._set_running_loop(None)  # as on any other thread
        try:
            work()
        finally:
            events._set_running_loop(self)

    def _begin_baton(self, work: Callable[[], None], name: str) -> None:
        self.trace.add(self._now, "thread %s begins", name)

        def tracked() -> None:
            self._batons[baton.ident] = baton
            chunked_pickle.here.shared = False
            try:
                work()
            finally:
                del self._batons[baton.ident]

        baton = LockstepThread(tracked, name)
        baton.start()

    def wait_on_thread(self, future: "ThreadFuture[Any]") -> None:
        """On a thread of ours: return when `future` is done and this thread was chosen to go on."""
        baton = self._batons[threading.get_ident()]
        channel = ("thread", next(self._numbers))

        def go_on() -> None:
            self.trace.add(self._now, "thread %s goes on", baton.name)
            baton.resume()

        future.add_done_callback(lambda _: self.agenda.add(channel, go_on))
        baton.wait()

    # Driving

    def drive(self, done: Callable[[], bool], *, until: float) -> bool:
        """Have things happen until `done`, or until nothing is left that would by then; whether it is done.

        Time stands at `until` only if something happened then: see `pass_to`.
        """
        with self._running():
            first = self.steps
            while not done():
                if self.steps - first > MOST_STEPS:
                    raise NothingCanHappen(
                        f"{MOST_STEPS:,} steps, and no end of it: something goes round in circles"
                    )
                if not self._step(until):
                    return done()
        return True

    def pass_to(self, at: float) -> None:
        """Let it be `at` seconds, when nothing is left to happen before."""
        self._now = max(self._now, at)

    @contextmanager
    def _running(self) -> Iterator[None]:
        """As `run_forever` does; and what is garbage is not found at some odd moment."""
        self._check_closed()
        self._check_running()
        collects, hooks = gc.isenabled(), sys.get_asyncgen_hooks()
        gc.disable()
        chunked_pickle.here.shared = False
        self._thread_id = self._home
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook,  # type: ignore[attr-defined]
            finalizer=self._asyncgen_finalizer_hook,  # type: ignore[attr-defined]
        )
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)
            self._thread_id = None
            chunked_pickle.here.shared = True
            if collects:
                gc.enable()

    def _run_once(self) -> None:
        """For `run_until_complete`."""
        if not self._step(float("inf")) and not self._stopping:  # type: ignore[attr-defined]
            raise NothingCanHappen("nothing can happen any more")

    def _step(self, until: float) -> bool:
        """Do what comes next; False if nothing does before `until`."""
        self.steps += 1
        self.before_step()
        plain = self._plain
        for _ in range(len(plain)):
            handle = plain.popleft()
            if not handle._cancelled:
                self._do(handle._run)
        ways, due = len(self.agenda), self._next_timer()
        if not ways:
            if plain:
                return True
            if due is None or due > until:
                return False
            self._ring(due)
            return True
        soon = due is not None and due <= min(self._now + TIMER_SLACK, until)
        choice = self.choices.choose(ways + soon)
        if choice == ways and due is not None:
            self._ring(due)
        else:
            self._do(self.agenda.take(choice))
        return True

    def _do(self, item: Callable[[], None]) -> None:
        try:
            item()
        except SystemExit as error:
            log.error("a task raised %r, which does not end the actors", error)

    # The end

    def abandon(self) -> None:
        """The process has died: nothing that was under way goes on, not even to tidy up."""
        self.agenda.clear()
        self._plain.clear()
        self._scheduled.clear()

    def to_dead_letters(self) -> None:
        """Let go of what was abandoned. Its code unwinds now, when nothing it does is seen any more."""
        self.abandon()
        batons = list(self._batons.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what never began was never awaited
            for baton in batons:
                baton.abandon()
            for task in list(self.tasks.values()):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(BaseException):
                    task.get_coro().close()
            self.tasks.clear()
            if batons:
                gc.collect(
                    1
                )  # their frames are parts of cycles: they are gone before the warnings are back
        self.abandon()
        if not self.is_closed():
            self.close()


class _Step:
    """The next step of a task."""

    __slots__ = ("_handle", "_loop", "_task")

    def __init__(self, loop: VirtualLoop, task: NumberedTask, handle: asyncio.Handle) -> None:
        self._loop, self._task, self._handle = loop, task, handle

    def __call__(self) -> None:
        if not self._handle._cancelled:
            self._loop.trace.add(self._loop._now, "%s", self._task.get_name())
            self._handle._run()


def _nothing() -> None:
    pass


def _as_it_is(code: Any) -> Any:
    return code


__all__ = ["Abandoned", "NothingCanHappen", "VirtualLoop"]
