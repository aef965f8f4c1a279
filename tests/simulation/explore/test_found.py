"""What explorations found, or led to: each as short as it can be told."""

from greenroom.actors.ledger.protocol import Checkpoint, OutgoingMessage, ReportProgress
from greenroom.persistence.rows import Snapshot
from greenroom.types import AgentId, Incarnation, RunId

from .house import House
from .windows import house, under_way


def crashed_and_begun_again() -> House:
    """The turn of r1 was cut off, and is executed by the agent's next session."""
    made = house("/a/x")
    under_way(made, ("run", "/a/x", "r1"))
    made.may_crash = ("agent 1.1",)
    made.take(("agent 1.1", "crashes"))
    made.settle(hold=("returns",))
    assert ("agent 1.2", "returns") in made.ways()
    return made


def test_a_checkpoint_of_a_session_that_crashed_changes_nothing() -> None:
    """It may come after the next session has taken the same run."""
    made = crashed_and_begun_again()
    late = Checkpoint(
        ("late", 1, 1),
        AgentId(1),
        Incarnation(1),
        RunId("r1"),
        Snapshot("plain", 1, b"from the dead"),
        7,
        (OutgoingMessage(AgentId(1), "/a/x", b"from the dead"),),
    )
    made.tell("ledger", late, "agent 1.1")
    made.settle()
    made.check_at_rest()
    image = made.look("disk").agents[1]
    assert image.inbox == ()
    assert image.snapshot.data == b"r1"


def test_progress_of_a_session_that_crashed_is_not_told() -> None:
    made = crashed_and_begun_again()
    before = made.look("ledger").commit_log.last
    made.tell("ledger", ReportProgress(AgentId(1), Incarnation(1), RunId("r1"), (b"{}",), 102), "agent 1.1")
    assert made.look("ledger").commit_log.last == before
