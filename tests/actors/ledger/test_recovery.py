"""Opening a store with much that is not done: in portions, nothing begins early, nobody is let in early."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from greenroom.actors.effects import Effect, Send
from greenroom.actors.ledger import disk, recovery
from greenroom.actors.ledger.errands import LOOKS_IN_STEP, STEPS_IN_PORTION, NextPortion
from greenroom.actors.ledger.ledger import Ledger
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.replies import LedgerReady
from greenroom.actors.residency.protocol import ActivateAgent
from greenroom.persistence.rows import AgentRow, RunRow, Unfinished

MOST_IN_PORTION = STEPS_IN_PORTION * LOOKS_IN_STEP
MANY = 10 * MOST_IN_PORTION


def open_runs(agents: int, runs: int, *, crashes: int = 0) -> Unfinished:
    """A store in which so many runs are queued; so many crashes are held against each."""
    rows = tuple(AgentRow(1 + n, f"/t/a{n}", "kind", 1, b"", 1.0, 1.0) for n in range(agents))
    queued = tuple(
        RunRow(
            f"r{n}",
            n,
            1 + n % agents,
            f"/t/a{n % agents}",
            b"",
            1.0,
            attempt=crashes,
            started_at=1.0 if crashes else None,
            cuts=crashes,
            crashes=crashes,
        )
        for n in range(runs)
    )
    return Unfinished(1, 1 + agents, runs, 1, queued, rows, agents)


def portions(unfinished: Unfinished) -> Iterator[tuple[Ledger, list[object]]]:
    """The ledger after each portion, and what was said in that portion."""
    commit_log = CommitLog(durability="process", next_seq=1)
    ledger = Ledger(commit_log, unfinished, backlog=10, attempts_of=lambda _: 3)
    effects: Iterable[Effect] | None = recovery.recover(ledger, unfinished)
    while effects is not None:
        said = [effect.message for effect in effects if isinstance(effect, Send)]
        following = [message.number for message in said if isinstance(message, NextPortion)]
        yield ledger, [message for message in said if not isinstance(message, NextPortion)]
        effects = disk.go_on(ledger, following[0]) if following else None


def largest_change(unfinished: Unfinished) -> tuple[int, list[int]]:
    """By how many open runs one portion changes their number at most, and how many there are in between."""
    counts = [len(ledger.runs) for ledger, _ in portions(unfinished)]
    return max(abs(after - before) for before, after in pairwise([0, *counts])), counts


def test_no_portion_takes_over_more_runs_than_are_looked_at_in_one() -> None:
    change, counts = largest_change(open_runs(7, MANY))
    assert change <= MOST_IN_PORTION
    assert counts[-1] == MANY


def test_many_runs_that_crashed_too_often_fail_in_portions() -> None:
    change, counts = largest_change(open_runs(1, MANY, crashes=3))
    assert change <= MOST_IN_PORTION
    assert max(counts) > MANY - MOST_IN_PORTION
    assert counts[-1] == 0


def test_no_agent_is_activated_before_all_runs_are_taken_over() -> None:
    for ledger, said in portions(open_runs(MANY, MANY)):
        assert len(ledger.runs) == MANY or not said


def test_every_agent_is_activated_once_in_order_and_callers_are_let_in_after_it() -> None:
    said = [message for _, some in portions(open_runs(MANY, 2 * MANY)) for message in some]
    activated = [message.agent_id for message in said if isinstance(message, ActivateAgent)]
    assert activated == list(range(1, MANY + 1))
    assert isinstance(said[-1], LedgerReady)
    assert sum(isinstance(message, LedgerReady) for message in said) == 1
