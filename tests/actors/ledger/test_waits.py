"""Waits that would close a circle: the search against reachability, the ledger against what can end."""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom.actors.ledger import accepting, interrupting, turns, waiting
from greenroom.actors.ledger.ledger import Ledger
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.protocol import (
    AcceptRun,
    AwaitRun,
    Continuation,
    EndTurn,
    ForgetRequest,
    InterruptRuns,
    TakeRun,
)
from greenroom.actors.ledger.replies import RequestRefused, RunPending
from greenroom.actors.ledger.waits import find_path
from greenroom.errors import WouldDeadlock
from greenroom.persistence.rows import Unfinished
from greenroom.types import AgentId, Incarnation, RunId

NODES = range(8)
graphs = st.sets(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES)), max_size=20)


@given(graphs, st.sampled_from(NODES), st.sampled_from(NODES))
def test_a_way_is_found_if_there_is_one(edges: set[tuple[int, int]], start: int, goal: int) -> None:
    reached = {start}
    for _ in NODES:
        reached |= {b for a, b in edges if a in reached}
    found = find_path(
        start, goal, lambda n: [b for a, b in edges if a == n], lambda n: [a for a, b in edges if b == n]
    )
    assert (found is not None) == (goal in reached)
    if found is not None:
        assert (found[0], found[-1]) == (start, goal)
        assert all(edge in edges for edge in pairwise(found))
        assert len(set(found)) == len(found)


def test_the_search_costs_what_the_cheaper_end_costs() -> None:
    """A coordinator that waits for ten thousand is waited for by few, and the other way round."""
    looked_at = 0

    def counted(edges: dict[int, list[int]]) -> Any:
        def following(node: int) -> Any:
            nonlocal looked_at
            for other in edges.get(node, []):
                looked_at += 1
                yield other

        return following

    wide = {0: list(range(1, 10_001))}
    for after, before in ((wide, {}), ({}, wide)):
        assert (
            find_path(0 if after else 99, 99_999 if after else 0, counted(after), counted(before)) is None
        )
    assert looked_at < 10


def test_continuations_that_one_end_lets_go_come_in_the_order_of_their_acceptance() -> None:
    """As they do after a crash, when they are queued by that order."""
    model = WaitsAgainstWhatCanEnd()
    agent_id = AgentId(1)
    for awaits in (("r2",), ()):
        model.a_run_is_accepted(agent_id)
        model.a_run_is_accepted(agent_id)
        model.a_run_begins(agent_id)
        run_id = model.running.pop(agent_id)
        after = Continuation(RunId(f"after {run_id}"), tuple(map(RunId, awaits)), b"")
        ended = EndTurn(agent_id, Incarnation(1), run_id, "completed", b"", None, 1.0, 1.0, after=after)
        turns.end_turn(model.ledger, ended, model.session(agent_id))
    queue = [run.row.run_id for run in model.ledger.desks[agent_id].queue]
    assert queue == ["r3", "r4", "after r1", "after r2"]


Where = tuple[AgentId, Incarnation]


class WaitsAgainstWhatCanEnd(RuleBasedStateMachine):
    """The model: which run needs which, all of it, and by rounds what can end if nothing else happens.

    A wait must be refused exactly if its run could not end with it; so everything can always end.
    """

    agents = st.sampled_from([AgentId(n) for n in range(1, 5)])

    def __init__(self) -> None:
        super().__init__()
        unfinished = Unfinished(1, 9, 1, 1, (), (), 0)
        self.ledger = Ledger(
            CommitLog(durability="memory", next_seq=1), unfinished, backlog=1_000, attempts_of=lambda _: 3
        )
        self.ledger.now = 1.0
        self.made = 0
        self.queued: dict[AgentId, list[RunId]] = {AgentId(n): [] for n in range(1, 5)}
        self.running: dict[AgentId, RunId] = {}
        self.continuing: dict[RunId, tuple[AgentId, set[RunId]]] = {}
        self.waiting: dict[tuple[Any, ...], tuple[RunId, RunId]] = {}  # who waits for whom, by request

    def open_runs(self) -> list[RunId]:
        queued = [run_id for line in self.queued.values() for run_id in line]
        return [*queued, *self.running.values(), *self.continuing]

    def can_end(self) -> set[RunId]:
        """The open runs that can end, one after the other; naive: as many rounds as there are runs."""
        able: set[RunId] = set()
        open_ = set(self.open_runs())
        for _ in open_:
            for run_id in self.running.values():
                needed = {other for waiter, other in self.waiting.values() if waiter == run_id}
                if needed <= able:
                    able.add(run_id)
            for agent_id, line in self.queued.items():
                if self.running.get(agent_id) in able | {None}:
                    able.update(line)
            for run_id, (agent_id, awaits) in self.continuing.items():
                if awaits <= able and self.running.get(agent_id) in able | {None}:
                    able.add(run_id)
        return able

    def session(self, agent_id: AgentId) -> str:
        return f"session of {agent_id}"

    def ended(self, run_id: RunId) -> None:
        """A run has ended: nobody waits for it any more, and its continuations may be due."""
        self.waiting = {request: pair for request, pair in self.waiting.items() if run_id not in pair}
        for other, (agent_id, awaits) in list(self.continuing.items()):
            awaits.discard(run_id)
            if not awaits:
                del self.continuing[other]
                self.queued[agent_id].append(other)

    @rule(agent_id=agents)
    def a_run_is_accepted(self, agent_id: AgentId) -> None:
        self.made += 1
        run_id = RunId(f"r{self.made}")
        path = f"/t/{agent_id}"
        accepting.accept_run(
            self.ledger, AcceptRun(self.made, "caller", agent_id, path, "kind", b"", run_id, fresh=True)
        )
        self.queued[agent_id].append(run_id)

    @rule(agent_id=agents)
    def a_run_begins(self, agent_id: AgentId) -> None:
        if self.queued[agent_id] and agent_id not in self.running:
            turns.take_run(self.ledger, TakeRun(agent_id, Incarnation(1)), self.session(agent_id))
            self.running[agent_id] = self.queued[agent_id].pop(0)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_turn_waits(self, data: st.DataObject) -> None:
        agent_id = data.draw(st.sampled_from(sorted(self.running)))
        awaited = data.draw(st.sampled_from(self.open_runs()))
        waiter = self.running[agent_id]
        self.made += 1
        request = (agent_id, Incarnation(1), self.made)
        ask = AwaitRun(request, self.session(agent_id), awaited, tell_pending=True)
        (answer,) = (effect.message for effect in waiting.await_run(self.ledger, ask))
        self.waiting[request] = (waiter, awaited)
        if waiter in self.can_end():
            assert isinstance(answer, RunPending), "a wait that can end was refused"
            return
        assert isinstance(answer, RequestRefused), "a wait that cannot end was not refused"
        assert isinstance(answer.error, WouldDeadlock)
        self.check_circle(answer.error.circle, waiter, awaited)
        del self.waiting[request]

    def check_circle(self, circle: tuple[Any, ...], waiter: RunId, awaited: RunId) -> None:
        run_ids = [run_id for _, run_id, _ in circle]
        assert run_ids[0] == waiter
        assert (*run_ids[1:], waiter)[0] == awaited
        for (how, run_id, path), other in zip(circle, [*run_ids[1:], waiter], strict=True):
            agent_id = AgentId(int(path.rpartition("/")[2]))
            match how:
                case "waits for":
                    assert (run_id, other) in self.waiting.values()
                case "goes on after":
                    assert other in self.continuing[run_id][1]
                case "begins after":
                    assert self.running[agent_id] == other
                    assert run_id in self.queued[agent_id] or run_id in self.continuing

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_wait_is_given_up(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.waiting)))
        waiting.forget(self.ledger, ForgetRequest(request, self.waiting.pop(request)[1]))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), continues=st.booleans())
    def a_turn_ends(self, data: st.DataObject, continues: bool) -> None:
        agent_id = data.draw(st.sampled_from(sorted(self.running)))
        run_id = self.running.pop(agent_id)
        others = [each for each in self.open_runs() if each != run_id]
        after = None
        if continues:
            self.made += 1
            awaits = data.draw(st.sets(st.sampled_from(others), max_size=2)) if others else set()
            after = Continuation(RunId(f"c{self.made}"), tuple(sorted(awaits)), b"")
            self.continuing[after.run_id] = (agent_id, set(awaits))
        turns.end_turn(
            self.ledger,
            EndTurn(agent_id, Incarnation(1), run_id, "completed", b"", None, 1.0, 1.0, after=after),
            self.session(agent_id),
        )
        self.ended(run_id)

    @precondition(lambda self: self.queued)
    @rule(agent_id=agents, data=st.data())
    def a_run_that_has_not_begun_is_interrupted(self, agent_id: AgentId, data: st.DataObject) -> None:
        continuing = [run_id for run_id, (other, _) in self.continuing.items() if other == agent_id]
        candidates = [*self.queued[agent_id], *continuing]
        if not candidates:
            return
        run_id = data.draw(st.sampled_from(candidates))
        path = f"/t/{agent_id}"
        interrupting.interrupt(self.ledger, InterruptRuns(0, "caller", agent_id, path, run_id, False, "so"))
        if run_id in self.continuing:
            del self.continuing[run_id]
        else:
            self.queued[agent_id].remove(run_id)
        self.ended(run_id)

    @invariant()
    def everything_can_end(self) -> None:
        assert set(self.open_runs()) == set(self.ledger.runs)
        assert self.can_end() == set(self.open_runs())

    @invariant()
    def both_directions_know_the_same_edges(self) -> None:
        waits, runs = self.ledger.waits, self.ledger.runs.values()
        forwards = {(run.row.run_id, other.row.run_id) for run in runs for other in waits._needs(run)}
        backwards = {(other.row.run_id, run.row.run_id) for run in runs for other in waits._needed_by(run)}
        assert forwards == backwards

    @invariant()
    def no_wait_is_kept_that_is_over(self) -> None:
        kept = {
            request: awaited
            for desk in self.ledger.desks.values()
            for request, awaited in (desk.awaited.items() if desk.awaited else ())
        }
        assert kept == {request: awaited for request, (_, awaited) in self.waiting.items()}


TestWaitsAgainstWhatCanEnd = WaitsAgainstWhatCanEnd.TestCase
TestWaitsAgainstWhatCanEnd.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
