"""A store that no process owns, changed: a runtime owns it for as long as a command takes.

Without `--kinds` it executes nothing: runs of kinds that are not registered wait for who has their code.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..actors.face.runtime import Runtime
from ..errors import StoreError, StoreInUse
from .answers import RunAnswer, in_json
from .client import Unavailable

DRAIN = 3.0
"""Seconds that turns under way get to end when the command does; then they begin again next time."""


class StoreWriter:
    """Changing, by a runtime of this process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def send(self, path: str, body: object) -> None:
        self._runtime.agent(path).send(body)

    def followup(self, path: str, given: object, *, run_id: str | None) -> str:
        return self._runtime.agent(path).followup(given, run_id=run_id).run_id

    def wait(self, run_id: str, seconds: float) -> RunAnswer:
        run = self._runtime.run(run_id)
        with suppress(TimeoutError):  # then it is told as it is
            run.outcome(seconds)
        info = run.info()
        given, described = in_json(info.input, "/input")
        ended = info.outcome
        result, there = in_json(ended.result if ended else None, "/result")
        return RunAnswer(
            run_id=info.run_id,
            path=info.path,
            status=info.status,
            input=given,
            awaits=info.awaits,
            attempt=info.attempt,
            accepted_at=info.accepted_at,
            started_at=info.started_at,
            ended_at=ended.ended_at if ended else None,
            result=result,
            error=ended.error if ended else None,
            error_type=ended.error_type if ended else None,
            crashes=info.crashes,
            described=described + there,
        )

    def left(self) -> int:
        """How many runs have not ended."""
        stats = self._runtime.stats()
        return stats.running + stats.queued

    def interrupt(self, path: str, *, run_id: str | None, cascade: bool) -> bool:
        return self._runtime.agent(path).interrupt(run_id, cascade=cascade)

    def close_agent(self, path: str, *, delete: bool) -> None:
        agent = self._runtime.agent(path)
        if delete:
            agent.delete()
        else:
            agent.close()


@contextmanager
def owning(store: str, *, slots: int = 8, residents: int = 64) -> Iterator[StoreWriter]:
    """Own `store`, which must be there, for a block."""
    if not os.path.lexists(store):
        raise StoreError(store, "there is no such file.")
    runtime = Runtime(store, slots=slots, residents=residents)
    try:
        runtime.start()
    except StoreInUse as error:
        raise in_use(error) from error
    try:
        yield StoreWriter(runtime)
    finally:
        runtime.close(DRAIN)


def in_use(error: StoreInUse) -> Unavailable:
    """Advice on a store that another process has."""
    return Unavailable(
        f"{error.problem.rstrip('.')}. To change something while it runs, ask it: --server URL, if it is "
        "`greenroom serve`. (Looking needs no server: ls, show, events, stats, export.)"
    )
