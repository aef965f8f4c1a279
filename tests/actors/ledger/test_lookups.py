"""A run id from outside is looked up on disk, and its agent closes before the disk has answered."""

from greenroom.actors.effects import Send
from greenroom.actors.ledger import accepting, spawning
from greenroom.actors.ledger.ledger import Ledger
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.protocol import AcceptRun, RecordClose
from greenroom.actors.ledger.replies import RequestRefused, RunAccepted
from greenroom.actors.storage.protocol import Answer, Read
from greenroom.errors import AgentClosed
from greenroom.persistence.rows import RunRow, Unfinished

ASK = AcceptRun(1, "caller", 1, "/t/a", "kind", b"", "invoice")


def answer_after_the_closing(found: RunRow | None) -> object:
    """What the caller is told."""
    unfinished = Unfinished(1, 2, 1, 1, (), (), 1)
    ledger = Ledger(
        CommitLog(durability="process", next_seq=1), unfinished, backlog=10, attempts_of=lambda _: 3
    )
    (asked,) = accepting.accept_run(ledger, ASK)
    assert isinstance(asked.message, Read)
    spawning.record_close(ledger, RecordClose(2, "closer", ((1, "/t/a"),), erase=False))
    answered = ledger.commit_log.answered(Answer(asked.message.request, (found,)))
    assert not ledger.runs
    (told,) = (effect.message for effect in answered if isinstance(effect, Send) and effect.to == "caller")
    return told


def test_it_is_not_accepted_for_a_closed_agent() -> None:
    told = answer_after_the_closing(None)
    assert isinstance(told, RequestRefused)
    assert isinstance(told.error, AgentClosed)


def test_it_is_the_run_that_there_was() -> None:
    row = RunRow(
        "invoice", 1, 1, "/t/a", b"", 1.0, "completed", 1, result=b"x", started_at=1.0, ended_at=1.0
    )
    told = answer_after_the_closing(row)
    assert isinstance(told, RunAccepted)
    assert told.run_id == "invoice"
