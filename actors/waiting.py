"""Whose end is waited for: handles of runs and the ends of runs in, who has ended out.

What `Runtime.wait` and `AsyncRuntime.wait` decide with. Ends are told by run id, and handles are found by
it: several handles of one run end together, and a run that is given twice is one run.
"""

from collections.abc import Iterable
from typing import Any, Generic, Literal, Protocol, TypeVar

from .views import Outcome

Until = Literal["all", "any"]


class Handle(Protocol):
    """A run as its caller holds it; `_ended` is how it ended, once that was seen."""

    run_id: str
    _ended: Outcome | None
    _runtime: Any


H = TypeVar("H", bound=Handle)


class Awaited(Generic[H]):
    """The handles of one wait, in the order given."""

    def __init__(self, runtime: Any, until: Until) -> None:
        self._runtime, self._until = runtime, until
        self._runs: list[H] = []
        self._seen: dict[str, Outcome] = {}
        self._open: dict[str, list[H]] = {}

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
            else:
                self._open.setdefault(run.run_id, []).append(run)

    @property
    def open(self) -> tuple[str, ...]:
        """The ids of the runs whose end was not seen, each once."""
        return tuple(self._open)

    @property
    def over(self) -> bool:
        """Whether enough of them have ended."""
        return not self._open or (self._until == "any" and bool(self._seen))

    def end(self, row: Any) -> None:
        """A run has ended: all its handles know it from now on."""
        if row.run_id in self._open:
            self._end(Outcome.of(row))

    def _end(self, outcome: Outcome) -> None:
        self._seen[outcome.run_id] = outcome
        for run in self._open.pop(outcome.run_id, ()):
            run._ended = outcome

    @property
    def ended(self) -> list[H]:
        """Those that have ended, in the order given."""
        return [run for run in self._runs if run._ended is not None]
