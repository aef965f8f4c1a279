"""`Runtime`: the blocking way to use greenroom, from any thread."""

import os
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import Any, Literal, Self

from ...errors import GreenroomError, RuntimeClosing
from ...persistence.comparing import difference
from ...retention import DEFAULT, Retention
from ...types import AgentStatus, Durability
from ..handle import Handle
from ..models import AgentInfo, AgentInfos, Stats
from . import requests
from .engine import Engine, Settings, checked_drain, failure_of
from .event_stream import EventStream
from .handles import AgentRef, Run, Runs
from .replies import Standing
from .requests import UNSET, Request
from .waiting import AwaitedRuns

END_MARGIN = 120.0
"""Seconds that `close` waits for the actors beyond the drain time; they bound themselves below that."""


class Runtime(Handle):
    """Durable agents on one store; at most `residents` of them in memory, `slots` of them at work.

    Args:
        store: the file, made if it is not there; ":memory:" keeps nothing.
        slots: how many turns may execute at a time.
        residents: how many agents may be in memory.
        backlog: how many pieces of accepted work may wait; more from outside are refused with
            `BacklogFull`. Work that turns start counts, and is never refused for it.
        durability: what survives once a call has returned: "memory" nothing, "process" the death of
            this process, "power" that of the machine.
        drain: seconds that turns under way get when the runtime is closed.
        kinds: kinds, or modules with kinds, to register.
        retention: how long finished runs, events and closed agents are kept.

    Use it as a context manager, or call `start` and `close`. Its methods may be called on any thread but
    not in a turn, which has its own, unless that is paused. A program whose threads call it while it is
    busy hears sooner with `sys.setswitchinterval(0.0005)`. Raises `ValueError` or `TypeError` for a bad
    argument.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] = ":memory:",
        *,
        slots: int = 8,
        residents: int = 64,
        backlog: int = 100_000,
        durability: Durability = "process",
        drain: float = 10.0,
        kinds: Iterable[Any] = (),
        retention: Retention = DEFAULT,
    ) -> None:
        self._settings = Settings(
            store,
            slots=slots,
            residents=residents,
            backlog=backlog,
            durability=durability,
            drain=drain,
            kinds=kinds,
            retention=retention,
        )
        self._engine = Engine(self._settings, None)
        self._state: Literal["new", "up", "closed"] = "new"

    def start(self) -> Self:
        """Open the store and go on with what it holds. Raises a `StoreError`."""
        if self._state != "new":
            raise RuntimeClosing("this runtime was started before, and starts once")
        answers: SimpleQueue[Any] = self._engine.world.answers()
        self._engine.create(answers.put)
        try:
            answer = answers.get()
        except BaseException:  # Ctrl-C, most of all: no actors are left behind
            self._state = "closed"
            self._engine.end()
            raise
        error = failure_of(answer)
        if error is not None:
            self._state = "closed"
            self._engine.end()
            raise error
        self._engine.started()
        self._state = "up"
        return self

    def close(self, drain: float | None = None, *, interrupt: bool = False) -> None:
        """Refuse new work, give turns under way `drain` seconds, cut off the rest, write, close.

        Runs that were cut off begin again with the next runtime on the store, and those that have not
        begun wait for it. With `interrupt`, and for kinds with `attempts=1`, the former end as interrupted.
        Repeating it does nothing.
        """
        seconds = self._settings.drain if drain is None else checked_drain(drain)
        if self._state != "up" or self._engine.forked:
            self._state = "closed"
            return
        self._refuse_in_turn()
        self._engine.refuse_to_close_within()
        self._state = "closed"
        answers: SimpleQueue[Any] = self._engine.world.answers()
        self._engine.begin_to_close(seconds, interrupt=bool(interrupt), callback=answers.put)
        try:
            self._engine.closed(answers.get(timeout=seconds + END_MARGIN))
        except Empty:
            raise GreenroomError("the runtime did not close within its bounds; please report") from None
        finally:
            self._engine.end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Agents

    def spawn(
        self,
        kind: Any,
        path: str,
        *,
        config: Any = None,
        input: Any = UNSET,
        run_id: str | None = None,
        durability: Durability | None = None,
    ) -> AgentRef:
        """Make an agent, and with `input` its first run, `ref.run`. Its session opens in the background.

        A `run_id` given twice, with the same path and input, is the same agent and run. Raises
        `UnknownKind`, `InvalidPath`, `PathTaken`, `CannotStore`, `BacklogFull`, `RunIdTaken`.
        """
        call = requests.spawn(kind, path, config=config, input=input, run_id=run_id, durability=durability)
        answer = self._accepted(call)
        run = Run(self, answer.run_id, answer.path) if answer.run_id else None
        return AgentRef(self, answer.path, run)

    def agent(self, path: str) -> AgentRef:
        """The agent at `path`, open or closed. Raises `AgentNotFound`."""
        return AgentRef(self, self._ask(requests.locate(path)).path)

    def list(
        self,
        under: str = "/",
        *,
        status: AgentStatus | None = None,
        resident: bool = False,
        limit: int = 1000,
        after: str | None = None,
    ) -> AgentInfos:
        """Agents at or below `under` by path, at most `limit`, with paths greater than `after`.

        Open ones, or those with `status`; closed ones only with `status="closed"`. With `resident=True`
        those in memory alone.
        """
        requests.checked_list(under, status, limit, after, resident=resident)
        agents: list[AgentInfo] = []
        after_id = None
        while len(agents) < limit:
            left = limit - len(agents)
            call = requests.page(under, status, after, left, resident=resident, after_id=after_id)
            page = self._ask(call)
            agents += [AgentInfo.of(agent) for agent in page.agents]
            after, after_id = page.next, page.next_id
            if after is None:
                break
        return agents[:limit]

    # Many at once

    def interrupt_many(self, under: str) -> int:
        """End all runs that agents at or below `under` ("/": all) have accepted; how many there were.

        `under` need not be an agent. A run that is accepted later is not touched.
        """
        count: int = self._ask(requests.interrupt_many(under)).count
        return count

    def close_many(self, under: str) -> int:
        """End all agents at or below `under` ("/": all) for good; how many there were.

        `under` need not be an agent. An agent that is spawned there meanwhile is closed as well, or comes
        after all of them have gone.
        """
        count: int = self._ask(requests.close_many(under, erase=False)).count
        return count

    def delete_many(self, under: str) -> int:
        """As `close_many`, and erase what is stored, also of agents that were closed before."""
        count: int = self._ask(requests.close_many(under, erase=True)).count
        return count

    # Runs

    def run(self, run_id: str) -> Run:
        """The run with this id. Raises `RunNotFound`."""
        row = self._ask(requests.find_run(run_id)).run
        return Run(self, row.run_id, row.path)

    def wait(
        self,
        runs: Iterable[Run],
        *,
        timeout: float | None = None,
        until: Literal["all", "any"] = "all",
    ) -> Runs:
        """Wait until all (or any) of `runs` have ended, or `timeout` seconds; those that have.

        A time-out of 0, or one that has passed, looks and does not wait. Several handles of one run end
        together, and a run that is given twice is returned twice. Raises `ValueError` for a run of another
        runtime.
        """
        listed, seconds = requests.checked_wait(runs, timeout, until, Run)
        awaited: AwaitedRuns[Run] = AwaitedRuns(self, until, seconds)
        awaited.add(listed)
        if awaited.over:
            return awaited.ended
        self._engine.refuse_to_wait_in_session()
        answers: SimpleQueue[Any] = self._engine.world.answers()
        request = self._post(awaited.call, Standing(answers.put))
        now = self._engine.world.monotonic
        deadline = now() + seconds if seconds else None
        try:
            while awaited.goes_on:
                awaited.hear(answers.get(timeout=None if deadline is None else max(0.0, deadline - now())))
        except Empty:
            pass
        finally:
            awaited.leave(request, lambda: answers.get(timeout=0.0))
        return awaited.ended

    # Looking

    def events(self, under: str = "/", *, since: int | None = None, follow: bool = True) -> EventStream:
        """An iterator over the events at or below `under` with numbers greater than `since`.

        Without `since`, those from this call on; without `follow` it ends with the newest event there
        is (and begins, without `since`, with the oldest). It ends when the runtime closes. Events that
        are not kept any more have an event `events.missed` in their place, which names their numbers.
        """
        requests.checked_events(under, since, follow)
        return EventStream(self, under, since, follow=follow)

    def stats(self) -> Stats:
        """The runtime in numbers, as of now."""
        ledger = self._ask(requests.describe_ledger())
        residency = self._ask(requests.describe_residency())
        slots = self._ask(requests.describe_slots())
        return stats_of(ledger, residency, slots)

    # The way in

    def _accepted(self, call: Request) -> Any:
        """The answer to a call that gives a run; refused if its id names one with another input."""
        answer = self._ask(call)
        inputs = requests.recorded_input(call, answer)
        if inputs is not None:
            requests.refuse_other_input(answer, difference(*inputs))
        return answer

    def _ask(self, call: Request, timeout: float | None = None) -> Any:
        answers: SimpleQueue[Any] = self._engine.world.answers()
        request = self._post(call, answers.put)
        try:
            answer = answers.get(timeout=timeout)
        except Empty:
            self._engine.forget(request)
            raise TimeoutError from None
        error = failure_of(answer)
        if error is not None:
            raise error
        return answer

    def _post(self, call: Request, callback: Any) -> Any:
        self._refuse_in_turn()
        return self._engine.post(call, callback)

    def _refuse_in_turn(self) -> None:
        if self._state == "up" and self._engine.on_loop():
            raise GreenroomError(
                "the runtime was called on the loop of all agents, which would wait for itself: in a turn "
                "use the turn's own methods (turn.spawn, turn.followup, turn.wait)"
            )
        if self._state == "up":
            self._engine.refuse_in_turn()


def stats_of(ledger: Any, residency: Any, slots: Any) -> Stats:
    """Three reports as one."""
    return Stats(
        agents=ledger.agents,
        resident=residency.resident,
        running=ledger.running,
        queued=ledger.queued,
        slots=slots.slots,
        residents=residency.residents,
        slots_taken=slots.granted,
        evictions=residency.evictions,
        reloads=residency.reloads,
        commits=ledger.commits,
        unwritten=ledger.unwritten,
        waiting=residency.in_wait,
        events_dropped=ledger.events_dropped,
        latencies=ledger.latencies,
        store_problem=ledger.store_problem,
        holders=slots.holders,
    )
