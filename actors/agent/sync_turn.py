"""The turn of a plain `def` kind: a turn whose methods block its thread."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError as _Cancelled
from contextlib import contextmanager
from threading import current_thread
from typing import Any

from ...errors import GreenroomError, RunInterrupted
from ..handle import Handle
from ..models import AgentInfos, Outcome, Outcomes
from .executing import in_child
from .threads import wait_for_loop
from .turn import FORKED, T, Turn
from .turn_handles import TurnRun


class SyncTurnRun(Handle):
    """A run that this turn started."""

    def __init__(self, turn: "SyncTurn", run: TurnRun) -> None:
        self.run_id, self.path, self._turn, self._run = run.run_id, run.path, turn, run

    def __repr__(self) -> str:
        return repr(self._run)

    def done(self) -> bool:
        """Whether this turn has seen its outcome."""
        return self._run.done()

    def outcome(self, timeout: float | None = None) -> Outcome:
        """Wait for the end, without a slot, and return how it was. Raises `TimeoutError`."""
        return self._turn._on_loop(lambda: self._run.outcome(timeout), waits=True)

    def result(self, timeout: float | None = None) -> Any:
        """The result; raises `RunFailed`, `RunInterrupted` or `TimeoutError`."""
        return self._turn._on_loop(lambda: self._run.result(timeout), waits=True)


class SyncTurnAgent(Handle):
    """An agent that this turn spawned."""

    def __init__(self, turn: "SyncTurn", path: str) -> None:
        self.path, self._turn = path, turn

    def __repr__(self) -> str:
        return f"<agent {self.path}>"

    def followup(self, input: Any, *, key: str | int | None = None) -> SyncTurnRun:
        """`SyncTurn.followup` for this agent."""
        return self._turn.followup(self.path, input, key=key)

    def send(self, body: Any) -> None:
        """`SyncTurn.send` to this agent."""
        self._turn.send(self.path, body)

    def interrupt(self) -> bool:
        """`SyncTurn.interrupt` of this agent."""
        return self._turn.interrupt(self.path)


class SyncTurn(Handle):
    """A `Turn` for code on a thread: the same names, blocking.

    Interrupted, `interrupted` is True and the calls that wait raise `RunInterrupted`; the slot is free
    when the code has returned. Cut off by the end of the runtime, `suspended` is True and all calls raise
    `RuntimeClosing`.
    """

    def __init__(self, turn: Turn, loop: asyncio.AbstractEventLoop) -> None:
        self._turn, self._loop = turn, loop
        self.input, self.config = turn.input, turn.config
        self.inbox, self.results = turn.inbox, turn.results
        self._calls: set[asyncio.Task[Any]] = set()  # on the loop, of the call under way

    @property
    def path(self) -> str:
        """See `Turn.path`."""
        return self._turn.path

    @property
    def run_id(self) -> str:
        """See `Turn.run_id`."""
        return self._turn.run_id

    @property
    def attempt(self) -> int:
        """See `Turn.attempt`."""
        return self._turn.attempt

    @property
    def state(self) -> Any:
        """The agent's own state, kept from turn to turn if this one completes."""
        return self._turn.state

    @state.setter
    def state(self, value: Any) -> None:
        self._turn.state = value

    @property
    def interrupted(self) -> bool:
        """Whether the turn should end: look at it now and then."""
        return self._turn.interrupted

    @property
    def suspended(self) -> bool:
        """Whether the runtime closes and cuts the turn off: its run begins again with the next one."""
        return self._turn.suspended

    def spawn(self, kind: Any, name: str, *, config: Any = None) -> SyncTurnAgent:
        """See `Turn.spawn`."""
        return SyncTurnAgent(self, self._on_loop(lambda: self._turn.spawn(kind, name, config=config)).path)

    def followup(self, path: Any, input: Any, *, key: str | int | None = None) -> SyncTurnRun:
        """See `Turn.followup`."""
        caller = current_thread()
        run = self._on_loop(lambda: self._turn._followup_by(caller, path, input, key))
        return SyncTurnRun(self, run)

    def send(self, path: Any, body: Any) -> None:
        """See `Turn.send`."""
        self._on_loop(lambda: self._turn.send(path, body))

    def interrupt(self, path: Any) -> bool:
        """See `Turn.interrupt`."""
        return self._on_loop(lambda: self._turn.interrupt(path))

    def list(self) -> AgentInfos:
        """See `Turn.list`."""
        return self._on_loop(self._turn.list)

    def wait(self, *runs: Any, timeout: float | None = None) -> Outcomes:
        """See `Turn.wait`."""
        inner = [run._run if isinstance(run, SyncTurnRun) else run for run in runs]
        return self._on_loop(lambda: self._turn.wait(*inner, timeout=timeout), waits=True)

    def after(self, *runs: Any, input: Any = None) -> SyncTurnRun:
        """See `Turn.after`."""
        return SyncTurnRun(self, self._on_loop(lambda: self._turn.after(*runs, input=input)))

    def checkpoint(self) -> None:
        """See `Turn.checkpoint`."""
        self._on_loop(self._turn.checkpoint)

    def emit(self, name: str, data: Any = None) -> None:
        """See `Turn.emit`."""

        async def emit() -> None:
            self._turn.emit(name, data)

        self._on_loop(emit)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """See `Turn.paused`."""
        block = self._turn.paused()
        self._on_loop(block.__aenter__)
        try:
            yield
        finally:
            self._on_loop(lambda: block.__aexit__(None, None, None))

    def _on_loop(self, call: Callable[[], Coroutine[Any, Any, T]], *, waits: bool = False) -> T:
        """Do `call` on the loop and wait for it here; one that `waits` is not begun once interrupted."""

        async def tracked() -> T:
            task = asyncio.current_task()
            assert task is not None
            if waits and self._turn._is_to_end:
                raise asyncio.CancelledError
            self._calls.add(task)
            try:
                return await call()
            finally:
                self._calls.discard(task)

        if in_child(self._turn._pid):
            raise GreenroomError(FORKED)
        if asyncio._get_running_loop() is self._loop:
            raise GreenroomError(
                f"a call of {self.path}'s turn, which waits, was made on the loop of all agents: make it "
                "on the turn's own thread, or have the kind be an async def"
            )
        try:
            return wait_for_loop(tracked, self._loop)
        except (asyncio.CancelledError, _Cancelled):
            if self._turn.suspended:
                _ = self._turn._live  # raises
            if not self._turn.interrupted:
                raise
            reason = "interrupted while it waited"
            raise RunInterrupted(self.run_id, self.path, reason) from None

    def _become(self, turn: Turn) -> None:
        """Be a `Turn` from now on: a coroutine that was made with this goes on on the loop."""
        self.__class__ = Turn  # type: ignore[assignment]
        self.__dict__ = turn.__dict__

    def _cancel_calls(self) -> None:
        """The turn was interrupted: end the calls that wait, on the loop."""
        for task in list(self._calls):
            task.cancel()
