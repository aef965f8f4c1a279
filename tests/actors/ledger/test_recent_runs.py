"""The runs that ended lately: bounded, and only what is certainly still there."""

from greenroom.actors.ledger.recent_runs import LARGEST_RUN_BYTES, MOST_RUNS, RecentRuns
from greenroom.persistence.rows import RunRow
from greenroom.types import AgentId, RunId


def ended(number: int, result: bytes = b"") -> RunRow:
    return RunRow(RunId(f"r{number}"), number, AgentId(1), "/a", b"", 0.0, "completed", result=result)


def test_the_newest_are_kept_with_their_commits() -> None:
    lately = RecentRuns()
    for number in range(MOST_RUNS + 2):
        lately.add(ended(number), number)
    assert [lately.get(RunId(f"r{number}")) for number in (0, 1)] == [None, None]
    assert lately.get(RunId("r2")) == (ended(2), 2)
    assert lately.get(RunId(f"r{MOST_RUNS + 1}")) == (ended(MOST_RUNS + 1), MOST_RUNS + 1)


def test_what_is_large_is_left_to_the_store() -> None:
    lately = RecentRuns()
    lately.add(ended(1, bytes(LARGEST_RUN_BYTES)), 1)
    lately.add(ended(2, bytes(LARGEST_RUN_BYTES + 1)), 2)
    assert lately.get(RunId("r1")) is not None
    assert lately.get(RunId("r2")) is None


def test_nothing_outlives_what_was_erased() -> None:
    lately = RecentRuns()
    lately.add(ended(1), 1)
    lately.forget()
    assert lately.get(RunId("r1")) is None


def test_a_run_that_had_the_id_of_an_accepted_one_is_not_told_for_it() -> None:
    lately = RecentRuns()
    lately.add(ended(1), 1)
    lately.accepted(RunId("r1"))
    assert lately.get(RunId("r1")) is None
    lately.add(ended(1, bytes(LARGEST_RUN_BYTES + 1)), 2)
    assert lately.get(RunId("r1")) is None, "the store has the newer one"
