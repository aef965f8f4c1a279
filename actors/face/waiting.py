"""The runs that are waited for: handles of runs and the ledger's answers in, who has ended out.

The state of `Runtime.wait` and `AsyncRuntime.wait`. Ends are told by run id, and handles are found by
it: several handles of one run end together, and a run that is given twice is one run.
"""

from asyncio import QueueEmpty
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty
from typing import Any, Generic, Literal, Protocol, TypeVar

from ...types import RequestId, Seconds
from ..ledger.protocol import ForgetRuns
from ..ledger.replies import RunOutcome, RunsSought
from ..models import Outcome
from . import requests
from .engine import failure_of
from .replies import Standing
from .requests import Request

Until = Literal["all", "any"]


class RunHandle(Protocol):
    """A run as its caller holds it; `_ended` is how it ended, once that was seen."""

    run_id: str
    _ended: Outcome | None
    _runtime: Any


H = TypeVar("H", bound=RunHandle)


class AwaitedRuns(Generic[H]):
    """The handles of one wait, in the order given. `timeout` 0: it looks, and does not wait."""

    def __init__(self, runtime: Any, until: Until, timeout: Seconds | None) -> None:
        self._runtime, self._until, self._looks = runtime, until, timeout == 0.0
        self._sought = False  # all was told that needs no disk
        self._unread = 0  # runs that are being looked up on the disk
        self._runs: list[H] = []
        self._seen: dict[str, Outcome] = {}
        self._open: dict[str, H | list[H]] = {}  # a list only where a run has several handles

    def add(self, runs: Iterable[H]) -> None:
        """These are waited for as well. Raises `ValueError` for one of another runtime."""
        engine = self._runtime._engine
        for run in runs:
            if run._runtime is not self._runtime and run._runtime._engine is not engine:
                raise ValueError(
                    f"{run!r} is of another runtime, which alone can wait for it. If both have its store, "
                    f"one after the other, wait for run({run.run_id!r}) of this one"
                )
            self._runs.append(run)
            ended = run._ended or self._seen.get(run.run_id)
            if ended is not None:
                run._ended = ended
                self._end(ended)
                continue
            known = self._open.setdefault(run.run_id, run)
            if isinstance(known, list):
                known.append(run)
            elif known is not run:
                self._open[run.run_id] = [known, run]

    @property
    def over(self) -> bool:
        """Whether enough of them have ended."""
        return not self._open or (self._until == "any" and bool(self._seen))

    @property
    def call(self) -> Request:
        """Asks for the ends of those that are open. Some are told at once; for one run that is all."""
        self._sought = not self._looks and (self._until == "all" or len(self._open) == 1)
        return requests.await_runs(tuple(self._open), tell_sought=not self._sought, look=self._looks)

    @property
    def goes_on(self) -> bool:
        """Whether there is more to wait for."""
        if self._open and not self._sought:
            return True
        return not (self.over or self._looks)

    def hear(self, answer: Any, outcome: Outcome | None = None) -> None:
        """An answer to the call, and what was made of it, if it was. Raises the error that it brings."""
        error = failure_of(answer)
        if error is not None:
            raise error
        if isinstance(answer, RunsSought):
            self._sought, self._unread = True, answer.unread
        elif isinstance(answer, RunOutcome) and answer.run.run_id in self._open:
            self._end(outcome or Outcome.of(answer.run))

    def leave(self, request: RequestId, next_answer: Callable[[], Any]) -> None:
        """Nobody waits any more; `next_answer` raises when there is none yet.

        A look did not wait for the disk. The handles hear what it says all the same: the next look knows.
        """
        engine = self._runtime._engine
        if not (self._looks and self._unread):
            engine.forget(request)
            if self._open and not self._looks:
                engine.tell("ledger", ForgetRuns(request, tuple(self._open)))  # type: ignore[arg-type]
            return

        def hear(answer: Any) -> None:
            if failure_of(answer) is None:
                self.hear(answer)
            if not self._unread:
                engine.forget(request)

        engine.callers.waiting[request] = Standing(hear)
        with suppress(Empty, QueueEmpty):
            while True:
                hear(next_answer())

    def _end(self, outcome: Outcome) -> None:
        self._seen[outcome.run_id] = outcome
        handles = self._open.pop(outcome.run_id, [])
        for run in handles if isinstance(handles, list) else (handles,):
            run._ended = outcome

    @property
    def ended(self) -> list[H]:
        """The runs that have ended, in the order given."""
        return [run for run in self._runs if run._ended is not None]
