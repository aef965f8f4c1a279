"""Mistakes to plant in the runtime, one at a time: those that others have made, and those we could make.

`test_planted.py` shows that the model finds each of them; `tests.simulation.driver --mistake NAME` tells
stories of a runtime that makes one.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from greenroom.actors.agent import naming
from greenroom.actors.agent.actor import AgentActor
from greenroom.actors.agent.session import Session
from greenroom.actors.agent.states import StateKeeper
from greenroom.actors.directory.paths import PathTable
from greenroom.actors.effects import Send
from greenroom.actors.events import buffer
from greenroom.actors.events.buffer import EventBuffer
from greenroom.actors.ledger import (
    accepting,
    closing,
    describing,
    giving_back,
    interrupting,
    recovery,
    refusals,
    spawning,
    suspects,
    turns,
)
from greenroom.actors.ledger.actor import LedgerActor
from greenroom.actors.ledger.ledger import Ledger
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.log.memtable import Memtable
from greenroom.actors.ledger.protocol import RecordSpawn
from greenroom.actors.residency import session_facts
from greenroom.actors.residency.lru import LRU
from greenroom.actors.residency.table import ResidencyTable
from greenroom.actors.slots.table import SlotTable
from greenroom.actors.storage.protocol import BatchWritten, WriteBatch
from greenroom.errors import BacklogFull
from greenroom.persistence import pruning, retention
from greenroom.persistence.records import EndRun

Patch = Callable[[pytest.MonkeyPatch], None]
PLANTED: dict[str, Patch] = {}


def planted(patch: Patch) -> Patch:
    """Register a mistake by its function's name."""
    PLANTED[patch.__name__] = patch
    return patch


def wrap(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Have `wrapper(original, self, …)` called instead of a method."""
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given, **named: wrapper(original, *given, **named))


@planted
def one_slot_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    def resize(original: Any, self: SlotTable, slots: int) -> Any:
        return original(self, slots + 1)

    wrap(monkeypatch, SlotTable, "resize", resize)


@planted
def a_slot_is_released_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(original: Any, self: SlotTable, lease: Any) -> Any:
        held = lease in self._holding
        effects = original(self, lease)
        if held and self._holding and self._waiting:
            self._slots += 1  # what counting free slots up twice comes to
            effects = [*effects, *self._fill()]
            self._slots -= 1
        return effects

    wrap(monkeypatch, SlotTable, "release", release)


@planted
def a_slot_asked_for_and_no_longer_wanted_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(original: Any, self: SlotTable, lease: Any) -> Any:
        claim = self._agents.get(lease.agent_id, {}).get(lease)
        return () if claim is not None and claim.tree is not None else original(self, lease)

    wrap(monkeypatch, SlotTable, "release", release)


@planted
def a_waiting_turn_keeps_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def waits(original: Any, self: Session, **named: Any) -> Any:
        lease = self._lease
        return [a for a in original(self, **named) if getattr(a, "to", None) != "slots" or lease is None]

    wrap(monkeypatch, Session, "waits", waits)


@planted
def a_turn_goes_on_before_it_has_its_slot_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def regain_slot(original: Any, self: AgentActor) -> Any:
        original(self)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    wrap(monkeypatch, AgentActor, "regain_slot", regain_slot)


@planted
def acceptance_is_answered_before_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(original: Any, self: CommitLog, commit: Any) -> Any:
        return [*original(self, replace(commit, then=())), *commit.then]

    wrap(monkeypatch, CommitLog, "commit", commit)


@planted
def events_are_told_before_their_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(original: Any, self: CommitLog, commit: Any) -> Any:
        durability, self.durability = self.durability, "memory"
        try:
            return original(self, commit)
        finally:
            self.durability = durability

    wrap(monkeypatch, CommitLog, "commit", commit)


@planted
def numbers_that_were_told_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for actor in ("ledger", "supervisor"):
        module = f"greenroom.actors.{actor}.actor"
        monkeypatch.setattr(f"{module}.first_seq", lambda unfinished: unfinished.next_seq)


@planted
def a_batch_that_failed_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def rejected(original: Any, self: CommitLog) -> None:
        unsent = self._unsent.copy()
        original(self)
        self._unsent = unsent

    wrap(monkeypatch, CommitLog, "rejected", rejected)


@planted
def a_batch_is_called_written_though_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch_failed(original: Any, self: LedgerActor, message: Any) -> Any:
        return self.batch_written(BatchWritten(message.number, 0.0))

    wrap(monkeypatch, LedgerActor, "batch_failed", batch_failed)


@planted
def what_is_not_on_disk_yet_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memtable, "known", lambda *_: None)
    wrap(
        monkeypatch,
        Memtable,
        "merge",
        lambda merge, self, query, value, also=(): merge(Memtable(), query, value),
    )


@planted
def the_outbox_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def changes(original: Any, self: Ledger, ask: Any, desk: Any) -> Any:
        records, facts = original(self, ask, desk)
        return tuple(r for r in records if type(r).__name__ != "AddMessage"), facts

    wrap(monkeypatch, turns, "_changes", changes)


@planted
def what_was_read_stays_in_the_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    def changes(original: Any, self: Ledger, ask: Any, desk: Any) -> Any:
        records, facts = original(self, ask, desk)
        return tuple(r for r in records if type(r).__name__ != "DropMessages"), facts

    wrap(monkeypatch, turns, "_changes", changes)


@planted
def a_failed_turn_leaves_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    async def take(original: Any, self: StateKeeper) -> Any:
        first = self._state is None
        if first:
            return await original(self)
        return self._state

    wrap(monkeypatch, StateKeeper, "take", take)


@planted
def the_state_is_committed_apart_from_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_batch(original: Any, self: CommitLog) -> Any:
        """One commit of a batch is torn: its outcome is in this transaction, its state in none yet."""
        effects = original(self)
        for effect in effects:
            batch: WriteBatch = effect.message
            if any(isinstance(record, EndRun) for record in batch.records):
                kept = [r for r in batch.records if type(r).__name__ != "PutSnapshot"]
                return [Send(effect.to, replace(batch, records=tuple(kept)))]
        return effects

    wrap(monkeypatch, CommitLog, "take_batch", take_batch)


@planted
def an_interrupt_covers_the_whole_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(original: Any, self: Ledger, ask: Any) -> Any:
        return original(self, replace(ask, cascade=True, path=ask.path.rpartition("/")[0] or ask.path))

    wrap(monkeypatch, interrupting, "interrupt", interrupt)


@planted
def the_end_of_a_run_that_was_interrupted_ends_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(original: Any, self: Ledger, desk: Any, run: Any, reason: str) -> Any:
        effects = original(self, desk, run, reason)
        if run is desk.running:
            facts = self.commit((), (self_fact(self, desk, run),))
            effects = [*effects, *facts]
        return effects

    def self_fact(self: Ledger, desk: Any, run: Any) -> Any:
        from greenroom.actors.ledger.log.commits import NewEvent

        return NewEvent(self.now, "run.interrupted", desk.path, run.row.run_id)

    wrap(monkeypatch, interrupting, "interrupt_run", interrupt)


@planted
def accepted_runs_are_not_taken_up_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def recover(original: Any, self: Ledger, unfinished: Any) -> Any:
        return original(self, replace(unfinished, runs=unfinished.runs[:-1]))

    wrap(monkeypatch, recovery, "recover", recover)


@planted
def a_continuation_does_not_wait_for_the_last_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def join(original: Any, self: Ledger, desk: Any, run: Any) -> None:
        last = run.row.awaits[-1:]
        hidden = {run_id: self.runs.pop(run_id) for run_id in last if run_id in self.runs}
        original(self, desk, run)
        self.runs.update(hidden)

    wrap(monkeypatch, Ledger, "join", join)


@planted
def spawns_of_one_path_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def spawn(original: Any, self: PathTable, command: Any, _known: Any) -> Any:
        effects = original(self, command, None)
        del self._lines[command.path]
        return effects

    def settled(original: Any, self: PathTable, news: Any) -> Any:
        if news.path not in self._spawning:
            return []
        self._lines.setdefault(news.path)
        return original(self, news)

    wrap(monkeypatch, PathTable, "_spawn", spawn)
    wrap(monkeypatch, PathTable, "settled", settled)


@planted
def the_limit_of_residents_is_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(original: Any, self: ResidencyTable, entry: Any, now: float) -> Any:
        self.limit += len(self.residents) == self.limit - 1  # counted before and after
        return original(self, entry, now)

    wrap(monkeypatch, ResidencyTable, "_load", load)


@planted
def an_agent_is_evicted_though_work_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def idle(original: Any, self: ResidencyTable, agent_id: Any, number: Any, seen: int, **now: Any) -> Any:
        return original(self, agent_id, number, 1 << 30, **now)

    wrap(monkeypatch, session_facts, "session_idle", idle)


@planted
def a_closed_agent_keeps_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def record_close(original: Any, self: Ledger, ask: Any) -> Any:
        kept = {agent_id: self.desks.pop(agent_id) for agent_id, _ in ask.agents if agent_id in self.desks}
        effects = original(self, ask)
        self.desks.update(kept)
        return effects

    wrap(monkeypatch, spawning, "record_close", record_close)


@planted
def code_reaches_other_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "tree_of", lambda path: "any")


@planted
def a_run_id_given_twice_is_two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def accept_run(original: Any, self: Ledger, ask: Any) -> Any:
        if ask.run_id is not None and ask.run_id in self.runs:
            return accepting._accept(self, replace(ask, run_id=f"{ask.run_id}-again"))
        return original(self, ask)

    wrap(monkeypatch, accepting, "accept_run", accept_run)


@planted
def closing_ends_what_it_cuts_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt_turns(original: Any, self: Ledger, ask: Any) -> Any:
        return original(self, replace(ask, end=True))

    wrap(monkeypatch, closing, "interrupt_turns", interrupt_turns)


@planted
def a_beginning_that_was_cut_off_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def put_back(original: Any, self: Ledger, desk: Any, run: Any, *, begun: bool = True) -> Any:
        return original(self, desk, run, begun=False)

    wrap(monkeypatch, giving_back, "put_back", put_back)


@planted
def a_crash_is_held_against_all_that_were_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(row: Any, **how: Any) -> Any:
        after = suspects.cut_off(row, **how)
        return replace(after, crashes=after.cuts)

    monkeypatch.setattr("greenroom.actors.ledger.recovery.cut_off", cut_off)


@planted
def a_run_that_may_begin_once_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(row: Any, attempts: int) -> Any:
        return suspects.verdict(row, max(attempts, 2))

    monkeypatch.setattr("greenroom.actors.ledger.verdicts.verdict", verdict)


@planted
def closing_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from greenroom.actors.supervisor import shutdown

    monkeypatch.setitem(shutdown.BOUNDS, "interrupting", 10_000.0)
    monkeypatch.setattr(closing, "interrupt_turns", lambda *_: [])


@planted
def a_pinned_agent_is_chosen_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LRU, "pin", lambda *_: None)


@planted
def what_is_promised_for_a_power_cut_is_not_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    def append(original: Any, self: CommitLog, records: Any, level: Any) -> Any:
        entry = original(self, records, level)
        entry.sync = False
        return entry

    wrap(monkeypatch, CommitLog, "_append", append)


@planted
def a_run_is_pruned_while_somebody_may_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def horizon(*given: Any, least: float, **named: Any) -> Any:
        return retention.horizon(*given, least=0.0, **named)

    monkeypatch.setattr(pruning, "horizon", horizon)


@planted
def an_interrupt_does_not_reach_the_descendants(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(original: Any, self: Ledger, ask: Any) -> Any:
        return original(self, replace(ask, cascade=False))

    wrap(monkeypatch, interrupting, "interrupt", interrupt)


@planted
def an_interrupt_names_a_run_and_ends_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(original: Any, self: Ledger, ask: Any) -> Any:
        return original(self, replace(ask, run_id=None))

    wrap(monkeypatch, interrupting, "interrupt", interrupt)


@planted
def an_older_session_is_taken_for_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The incarnation check of the residency is gone."""

    def current(original: Any, self: ResidencyTable, agent_id: Any, incarnation: Any) -> Any:
        return self.entries.get(agent_id)

    wrap(monkeypatch, ResidencyTable, "current", current)


@planted
def a_queued_run_counts_as_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(original: Any, self: Ledger, ask: Any) -> Any:
        (send,) = original(self, ask)
        report = send.message
        return [Send(send.to, replace(report, running=report.running + report.queued, queued=0))]

    wrap(monkeypatch, describing, "describe", describe)


@planted
def a_checkpoint_forgets_that_the_inbox_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def checkpoint(original: Any, self: Ledger, ask: Any, session: Any) -> Any:
        return original(self, replace(ask, read_upto=None), session)

    wrap(monkeypatch, turns, "checkpoint", checkpoint)


@planted
def a_full_backlog_refuses_what_turns_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(original: Any, self: Ledger, ask: Any) -> Any:
        if self.pieces() >= self.backlog:
            path = ask.row.path if isinstance(ask, RecordSpawn) else ask.path
            return BacklogFull(path, self.backlog)
        return original(self, ask)

    wrap(monkeypatch, refusals, "why_refused", refusal)


@planted
def a_turn_executes_in_the_context_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shared:
        """A context that its copies are."""

        def __init__(self, context: Any) -> None:
            self.context = context

        def copy(self) -> Any:
            return self.context

    def open_(original: Any, self: AgentActor, message: Any) -> Any:
        original(self, message)
        self.context = Shared(self.context)  # type: ignore[assignment]

    wrap(monkeypatch, AgentActor, "open", open_)


@planted
def a_reader_is_answered_from_the_ring_whatever_has_left_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "BUFFER_BYTES", 1)
    monkeypatch.setattr(EventBuffer, "_is_behind", lambda self, pull: False)
