"""A continuation that was taken while the outcomes it waited for are still being read from the disk."""

from typing import Any

import pytest

from greenroom.actors.ledger import closing, disk, recovery, spawning, turns
from greenroom.actors.ledger.ledger import Ledger
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.protocol import InterruptTurns, RecordClose, StopBeginning, TakeRun
from greenroom.actors.ledger.replies import NothingToRun, RunBegun
from greenroom.actors.storage.protocol import Answer, BatchWritten, Read, WriteBatch
from greenroom.persistence.records import AddEvent
from greenroom.persistence.rows import AgentRow, RunRow, Unfinished

AGENT = AgentRow(1, "/t/a", "kind", 1, b"", 1.0, 1.0)
CONTINUATION = RunRow("next", 5, 1, "/t/a", b"", 1.0, awaits=("first",))
OUTCOME = RunRow("first", 4, 1, "/t/a", b"", 1.0, "completed", 1, result=b"x", started_at=1.0, ended_at=1.0)


@pytest.fixture
def taken() -> tuple[Ledger, int]:
    """A ledger that has asked for the outcomes, and under which number."""
    unfinished = Unfinished(1, 2, 6, 1, (CONTINUATION,), (AGENT,), 1)
    commit_log = CommitLog(durability="process", next_seq=1)
    ledger = Ledger(commit_log, unfinished, backlog=10, attempts_of=lambda _: 3)
    ledger.now = 2.0
    recovery.recover(ledger, unfinished)
    effects = turns.take_run(ledger, TakeRun(1, 1), "session")
    (read,) = (effect.message for effect in effects if isinstance(effect.message, Read))
    return ledger, read.request


def written(ledger: Ledger, effects: list[Any]) -> tuple[list[Any], list[str]]:
    """What goes to the session once all is on disk, and the types of the events there."""
    sent, events = list(effects), []
    effects = ledger.commit_log.take_batch()
    while batches := [e.message for e in effects if isinstance(e.message, WriteBatch)]:
        events += [r.row.type for b in batches for r in b.records if type(r) is AddEvent]
        effects = disk.written(ledger, BatchWritten(batches[0].number, 0.0))
        sent += effects
    return [effect.message for effect in sent if effect.to == "session"], events


def test_it_begins_with_them(taken: tuple[Ledger, int]) -> None:
    ledger, request = taken
    messages, events = written(ledger, ledger.commit_log.answered(Answer(request, (OUTCOME,))))
    assert [type(message) for message in messages] == [RunBegun]
    assert messages[0].results == (OUTCOME,)
    assert events == ["run.started"]


def test_it_does_not_begin_after_its_agent_was_closed(taken: tuple[Ledger, int]) -> None:
    ledger, request = taken
    spawning.record_close(ledger, RecordClose(1, None, ((1, "/t/a"),), erase=False))
    messages, events = written(ledger, ledger.commit_log.answered(Answer(request, (OUTCOME,))))
    assert [type(message) for message in messages] == [NothingToRun]
    assert events == ["run.interrupted", "agent.closed"]


@pytest.mark.parametrize("end", [False, True])
def test_it_does_not_begin_once_the_runtime_closes_and_stays_accepted(
    taken: tuple[Ledger, int], end: bool
) -> None:
    """Not even one that is to interrupt what is under way: none of its code was executed."""
    ledger, request = taken
    closing.stop_beginning(ledger, StopBeginning("the runtime is closing"), "supervisor")
    closing.interrupt_turns(ledger, InterruptTurns(end=end))
    closing.interrupt_turns(ledger, InterruptTurns(end=end, final=True))
    messages, events = written(ledger, ledger.commit_log.answered(Answer(request, (OUTCOME,))))
    assert [type(message) for message in messages] == [NothingToRun]
    assert events == []
    assert ledger.runs["next"].row == CONTINUATION
