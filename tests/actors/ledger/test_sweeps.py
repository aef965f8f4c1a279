"""Long interrupts, failed starts and closings go in portions: what they cover, what may begin meanwhile.

The test is the ledger's mailbox: it decides what comes between two portions.
"""

from collections.abc import Iterable

import pytest

from greenroom.actors.effects import Effect, Send
from greenroom.actors.ledger import accepting, disk, interrupting, sessions, spawning, turns, waiting
from greenroom.actors.ledger.errands import STEPS_IN_PORTION, NextPortion
from greenroom.actors.ledger.ledger import Ledger
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.protocol import (
    AcceptRun,
    AwaitRuns,
    EndTurn,
    ForgetRuns,
    InterruptRuns,
    InterruptTree,
    RecordClose,
    SessionFailed,
    TakeRun,
)
from greenroom.actors.ledger.replies import (
    AgentsClosed,
    CloseRecorded,
    NothingToRun,
    RunBegun,
    RunOutcome,
    RunsInterrupted,
    RunsSought,
)
from greenroom.actors.residency.protocol import ActivateAgent
from greenroom.persistence.rows import Unfinished

MANY = 5 * STEPS_IN_PORTION


class Room:
    """A ledger, and the errands that go on in it."""

    def __init__(self) -> None:
        unfinished = Unfinished(1, 2, 1, 1, (), (), 1)
        commit_log = CommitLog(durability="memory", next_seq=1)
        self.ledger = Ledger(commit_log, unfinished, backlog=100_000, attempts_of=lambda _: 3)
        self.under_way: list[int] = []
        self.said: list[object] = []

    def take(self, effects: Iterable[Effect]) -> list[object]:
        """What was said, but for what the ledger says to itself."""
        said = []
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, NextPortion):
                self.under_way.append(effect.message.number)
            elif isinstance(effect, Send):
                said.append(effect.message)
        self.said += said
        return said

    def accept(self, count: int, path: str = "/t/a", agent_id: int = 1) -> list[str]:
        names = [f"{path}-{len(self.ledger.runs)}-{number}" for number in range(count)]
        for name in names:
            ask = AcceptRun(1, "caller", agent_id, path, "kind", b"", name, fresh=True)  # type: ignore[arg-type]
            self.take(accepting.accept_run(self.ledger, ask))
        return names

    def go_on(self) -> list[object]:
        """The next portion of the oldest errand."""
        return self.take(disk.go_on(self.ledger, self.under_way.pop(0)))

    def finish(self) -> None:
        while self.under_way:
            self.go_on()

    def begins(self, agent_id: int = 1, incarnation: int = 1) -> bool:
        """A session holds a slot and asks for a run."""
        said = self.take(turns.take_run(self.ledger, TakeRun(agent_id, incarnation), "session"))  # type: ignore[arg-type]
        assert {type(message) for message in said} <= {RunBegun, NothingToRun} or said
        return any(isinstance(message, RunBegun) for message in said)

    @property
    def replies(self) -> list[object]:
        kinds = RunsInterrupted | AgentsClosed | CloseRecorded | RunsSought
        return [message for message in self.said if isinstance(message, kinds)]

    @property
    def open(self) -> set[str]:
        return set(self.ledger.runs)


def stop(path: str = "/t/a", *, cascade: bool = False) -> InterruptRuns:
    return InterruptRuns(7, "caller", 1, path, None, cascade, "stop")  # type: ignore[arg-type]


INTERRUPTS = {
    "of an agent": lambda room: interrupting.interrupt(room.ledger, stop()),
    "of an agent and those below": lambda room: interrupting.interrupt(room.ledger, stop(cascade=True)),
    "of a part of the tree": lambda room: interrupting.interrupt_tree(
        room.ledger, InterruptTree(7, "caller", "/t")
    ),
    "of all": lambda room: interrupting.interrupt_tree(room.ledger, InterruptTree(7, "caller", "/")),
}


@pytest.mark.parametrize("which", INTERRUPTS)
def test_it_covers_what_was_accepted_before_and_nothing_later(which: str) -> None:
    room = Room()
    room.accept(MANY)
    room.take(INTERRUPTS[which](room))
    assert not room.replies, "it is answered when all of them have ended"
    later: set[str] = set()
    while room.under_way:
        later |= set(room.accept(1))
        room.go_on()
    assert room.open == later
    assert room.replies == [RunsInterrupted(7, MANY)]


@pytest.mark.parametrize("which", INTERRUPTS)
def test_what_it_covers_does_not_begin_meanwhile(which: str) -> None:
    room = Room()
    room.accept(MANY)
    room.take(INTERRUPTS[which](room))
    assert room.under_way
    assert not room.begins()
    (later,) = room.accept(1)
    room.finish()
    assert any(isinstance(message, ActivateAgent) for message in room.said), (
        "it is called for what came later"
    )
    assert room.begins()
    assert room.open == {later}


def test_it_leaves_others_alone_meanwhile() -> None:
    room = Room()
    room.accept(MANY)
    (other,) = room.accept(1, "/t/other", 2)
    room.take(interrupting.interrupt(room.ledger, stop()))
    assert room.under_way
    assert room.begins(2)
    room.finish()
    assert room.open == {other}


def test_a_turn_under_way_is_told_at_once() -> None:
    room = Room()
    room.accept(MANY)
    assert room.begins()
    said = room.take(interrupting.interrupt(room.ledger, stop()))
    assert [type(message).__name__ for message in said].count("InterruptTurn") == 1
    room.finish()
    assert len(room.open) == 1, "its code ends it"
    assert room.replies == [RunsInterrupted(7, MANY)]


def test_two_at_once_each_end_their_own() -> None:
    room = Room()
    room.accept(MANY)
    room.take(interrupting.interrupt(room.ledger, stop()))
    room.accept(MANY)
    room.take(interrupting.interrupt(room.ledger, stop()))
    (last,) = room.accept(1)
    room.finish()
    assert room.open == {last}
    counts = [reply.count for reply in room.replies if isinstance(reply, RunsInterrupted)]
    assert sum(counts) == 2 * MANY


def test_a_failed_start_fails_what_waited_for_it_and_nothing_later() -> None:
    room = Room()
    room.accept(MANY)
    failed = SessionFailed(1, 1, "no room", "OSError")  # type: ignore[arg-type]
    room.take(sessions.session_failed(room.ledger, failed))
    assert room.under_way
    later = set(room.accept(2))
    assert not room.begins(incarnation=2)
    room.finish()
    assert room.open == later
    assert room.begins(incarnation=2)


def test_closing_ends_all_runs_before_the_agent_is_gone() -> None:
    room = Room()
    room.accept(MANY)
    assert room.begins()
    close = RecordClose(7, "caller", ((1, "/t/a"),), erase=False, closing="/t/a", count=1)  # type: ignore[arg-type]
    room.take(spawning.record_close(room.ledger, close))
    assert room.under_way
    assert not room.replies
    assert not room.begins()
    end = EndTurn(1, 1, next(iter(room.open)), "completed", b"", None, 1.0, 2.0)  # type: ignore[arg-type]
    room.take(turns.end_turn(room.ledger, end, "session"))
    room.finish()
    assert not room.open
    assert 1 not in room.ledger.desks
    assert room.replies == [AgentsClosed(7, 1), CloseRecorded("/t/a")]


# Waiting for many


def test_waiting_for_many_goes_in_portions_and_ends_when_nobody_waits_any_more() -> None:
    room = Room()
    names = tuple(room.accept(100 * STEPS_IN_PORTION))
    room.take(waiting.await_runs(room.ledger, AwaitRuns(9, "caller", names, tell_sought=True)))  # type: ignore[arg-type]
    assert room.under_way
    asked = sum(1 for name in names if room.ledger.runs[name].asked)  # type: ignore[index]
    assert 0 < asked < len(names)
    room.take(waiting.forget_runs(room.ledger, ForgetRuns(9, names)))  # type: ignore[arg-type]
    room.finish()
    assert not any(run.asked for run in room.ledger.runs.values())
    assert not room.replies


def test_those_that_end_meanwhile_are_told_once() -> None:
    room = Room()
    names = tuple(room.accept(100 * STEPS_IN_PORTION))
    room.take(waiting.await_runs(room.ledger, AwaitRuns(9, "caller", names, tell_sought=True)))  # type: ignore[arg-type]
    room.take(interrupting.interrupt(room.ledger, stop()))
    room.finish()
    told = [message.run.run_id for message in room.said if isinstance(message, RunOutcome)]
    assert sorted(told) == sorted(names)
    assert RunsSought(9, 0) in room.replies
