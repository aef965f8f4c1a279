"""One run of one agent, from opening the store to closing it: what `greenroom run` does.

Works on the main thread, which signals call away from whatever it waits for. Closing may wait for ever if
an agent's code does not return, so it is done on a thread, within bounds.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

import click
from msgspec import Struct

from ..actors.agent.kind import Kind
from ..actors.agent.turn_handles import result_of
from ..actors.face.handles import AgentRef
from ..actors.face.runtime import Runtime
from ..actors.models import AgentInfo, Outcome
from ..errors import GreenroomError, PathTaken
from . import stores
from .progress import Beginning, Ending, Lines
from .signals import STOPPED, Stopped, StopSignals
from .watch import Moment, Watch

log = logging.getLogger("greenroom")

DRAIN = 3.0
"""Seconds that turns under way get to end when the command does."""

LATECOMERS = 1.0
"""Seconds of these that are left for turns of other agents which began in the others."""

CLOSE_GRACE_SECONDS = 7.0
"""Seconds that closing may take beyond that. By then it is recorded which turns were cut off."""

POLL_SECONDS_AT_REST = 2.0
"""Seconds after which the agent is looked at without an event as the reason."""

QUIET = 5.0
"""Seconds without an event or a turn after which the user is told what the agent waits for."""

T = TypeVar("T")


class TreeEnded(click.ClickException):
    """The run ended without a result; everything else was told."""


class Order(Struct, frozen=True):
    """The work to run, and its path."""

    kind: Kind
    path: str
    input: str | None
    store: str
    passing: bool  # the store is there for this run alone
    slots: int
    residents: int


class TreeRun:
    """One run of one agent, from opening the store to closing it."""

    def __init__(self, order: Order, progress: Lines, signals: StopSignals) -> None:
        self.order = order
        self.progress = progress
        self.signals = signals
        self.runtime = Runtime(order.store, slots=order.slots, residents=order.residents)
        self.opened = 0.0
        self.watch: Watch | None = None
        self.moment: Moment | None = None  # the last one that was shown

    def conduct(self) -> int:
        """Do it, and return the exit status."""
        try:
            self.opened = time.time()
            self.runtime.start()
            self.watch = Watch(self.runtime, self.order.path)
            outcome = self._await_end(self._begin(), self.watch)
            moment = self.watch.moment(self.runtime.stats(), overall=True)
            self.signals.over(STOPPED)  # until the result is out
        except Stopped:
            return self._stop()
        except BaseException:
            self.progress.close()
            _bounded(lambda: self.runtime.close(0), CLOSE_GRACE_SECONDS)
            raise
        return self._end(outcome, moment)

    # Beginning

    def _begin(self) -> AgentRef:
        """Spawn the agent, or find it; see that it has a run, and say so."""
        order = self.order
        try:
            agent = self.runtime.spawn(order.kind.name, order.path, input=order.input)
        except PathTaken:
            agent = self.runtime.agent(order.path)
        else:
            self._tell_begun(f"Running {order.kind.name} at {order.path}, {self._kept()}")
            return agent
        info = agent.info()
        if info.kind != order.kind.name:
            raise click.ClickException(
                f"the agent {order.path} in {order.store} is of kind {info.kind!r}, not "
                f"{order.kind.name!r}. Choose another --path or --store."
            )
        if at_rest(info) and not self._ended_here(info):
            agent.followup(order.input)
            self._tell_begun(f"Running {order.kind.name} once more at {order.path}, {self._kept()}")
        else:
            unused = "" if order.passing or order.input is None else "; --input is not used"
            anew = f" (to begin anew, remove {Path(order.store).parent})" if order.passing else ""
            going_on = f"Going on with the run of {order.path} that is in {order.store}{unused}{anew}"
            self._tell_begun(going_on, resumed=True)
        return agent

    def _kept(self) -> str:
        if self.order.store == stores.MEMORY:
            return "not kept (:memory:)"
        until = " until it has ended" if self.order.passing else ""
        return f"kept{until} in {self.order.store}"

    def _ended_here(self, info: AgentInfo) -> bool:
        """Whether the run that ended last is what this command is about.

        It is if it was under way when the store was opened, and has ended since; or if the store is
        there for this run alone, and whoever began it did not live to tell its end.
        """
        last = info.last_outcome
        if last is None:
            return False
        return self.order.passing or self.opened <= last.ended_at <= time.time()

    def _tell_begun(self, text: str, *, resumed: bool = False) -> None:
        order = self.order
        self.progress.began(Beginning(order.kind.name, order.path, order.store, resumed, text))

    # Waiting

    def _await_end(self, agent: AgentRef, watch: Watch) -> Outcome:
        """Show how it is getting on until the agent has no open run; the outcome of the last one."""
        show_at = time.monotonic() + self.progress.first
        look_at = 0.0
        seen, quiet_since = -1, time.monotonic()
        while True:
            self.signals.check()
            now = time.monotonic()
            if now >= look_at:
                info = agent.info()
                if at_rest(info) and info.last_outcome is not None:
                    return self._outcome(info.last_outcome.run_id, watch)
                look_at = _later(now, POLL_SECONDS_AT_REST)
            if now >= show_at:
                stats = self.runtime.stats()
                if watch.seen != seen or stats.running:
                    seen, quiet_since = watch.seen, now
                note = self._reason(agent) if now - quiet_since >= QUIET else None
                self.moment = watch.moment(stats)
                self.progress.show(self.moment, note)
                show_at = _later(now, self.progress.every)
            if watch.wait(max(0.0, min(show_at, look_at) - time.monotonic())):
                look_at = 0.0

    def _reason(self, agent: AgentRef) -> str:
        """Why nothing happens: what the agent waits for, and what that waits for."""
        explanation = agent.explain()
        if explanation.waits_for != "run" or not explanation.held_by:
            return explanation.text
        try:
            return f"{explanation.text} {self.runtime.agent(explanation.held_by[0]).explain().text}"
        except LookupError:  # it has ended and is gone by now
            return explanation.text

    def _outcome(self, run_id: str, watch: Watch) -> Outcome:
        """The outcome, once it is on disk and was counted."""
        outcome = self.runtime.run(run_id).outcome()
        if outcome.status == "completed":
            result_of(outcome)  # raises if it cannot be read
        watch.catch_up(run_id)
        return outcome

    # Ending

    def _end(self, outcome: Outcome, moment: Moment) -> int:
        """The run has ended: tell, and close."""
        order = self.order
        self.progress.close()
        ending = Ending(outcome.status, outcome.result, outcome.error, outcome.path, outcome.run_id)
        try:
            self.progress.ended(ending, moment)
            self.signals.over(0 if outcome.status == "completed" else 1)
        finally:
            under_way, left = moment.stats.running, moment.stats.running + moment.stats.queued
            if under_way:
                self.progress.say(f"{under_way:,} turns of other agents get {DRAIN:g} s to end")
            closed = _bounded(lambda: self.runtime.close(DRAIN), DRAIN + CLOSE_GRACE_SECONDS) is not None
            kept = Path(order.store)
            if order.passing:
                kept = stores.put_away(kept, keep=left > 0 or not closed)
        if left and order.store != stores.MEMORY:
            self.progress.say(f"{left:,} runs of other agents have not ended; they are kept in {kept}")
        if outcome.status != "completed":
            how = "failed" if outcome.status == "failed" else "was interrupted"
            raise TreeEnded(f"run {outcome.run_id} of {outcome.path} {how}: {outcome.error}")
        return 0

    def _stop(self) -> int:
        """Told to stop: let turns end that can, have the others begin again next time."""
        order, progress = self.order, self.progress
        progress.close()
        progress.say(f"Stopping; turns under way get {DRAIN:g} s. Ctrl-C again stops at once.")
        ended = _bounded(self._wind_down, DRAIN + CLOSE_GRACE_SECONDS)
        if ended is not None and ended[0] is not None:
            outcome, moment = ended[0]
            return self._end(outcome, moment)
        progress.ended(Ending("stopped", path=order.path), self.moment)
        if order.store == stores.MEMORY:
            said = "Nothing is kept of what it did: the store was in memory. --store FILE would keep it."
        else:
            said = f"The same command goes on from here; the agents are in {order.store}"
        cut_off = " Code that did not return was cut off." if ended is None else ""
        progress.say(f"Stopped.{cut_off} {said}")
        return STOPPED

    def _wind_down(self) -> tuple[Outcome, Moment] | None:
        """Close; the outcome if the agent itself came to its end, which is waited for first.

        A runtime that closes tells nothing any more, and an end that nobody was told would be followed
        by another run the next time.
        """
        order, watch = self.order, self.watch
        until = time.monotonic() + DRAIN - LATECOMERS
        if watch is not None:
            with suppress(GreenroomError):
                agent = self.runtime.agent(order.path)  # it may be there before `spawn` has returned
                info = agent.info()
                while info.status in ("running", "waiting") and time.monotonic() < until:
                    watch.wait(max(0.0, min(POLL_SECONDS_AT_REST, until - time.monotonic())))
                    info = agent.info()
                last = info.last_outcome
                ours = info.kind == order.kind.name and self._ended_here(info)
                if ours and at_rest(info) and last is not None:
                    outcome = self._outcome(last.run_id, watch)
                    return outcome, watch.moment(self.runtime.stats(), overall=True)
        self.runtime.close(max(0.0, until - time.monotonic()) + LATECOMERS)
        return None


def at_rest(info: AgentInfo) -> bool:
    """Whether the agent has no open run: none under way, none waiting for a turn or for other runs."""
    return info.queued_runs == 0 and info.status not in ("running", "waiting", "interrupting")


def _later(began: float, pause: float) -> float:
    """When to do again what was begun at `began`: in `pause` seconds, or more if it took long."""
    now = time.monotonic()
    return now + max(pause, 20 * (now - began))


def _bounded(work: Callable[[], T], seconds: float) -> tuple[T] | None:
    """The result of `work`, in a tuple; None if it takes longer, or raises an error."""
    done: SimpleQueue[tuple[T] | None] = SimpleQueue()

    def do() -> None:
        result = None
        try:
            result = (work(),)
        except GreenroomError as error:  # it is closed as far as it can be
            log.warning("%s", error)
        finally:
            done.put(result)

    Thread(target=do, name="greenroom closing", daemon=True).start()
    with suppress(Empty):
        return done.get(timeout=seconds)
    return None
