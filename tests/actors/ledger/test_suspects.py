"""Who is suspected of a crash, and when: the core against a list, and what becomes of a run."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from greenroom.actors.ledger.suspects import (
    MARGIN,
    UNKNOWN,
    Suspects,
    cut_off,
    longest_solo,
    lost,
    verdict,
)
from greenroom.persistence.rows import RunRow

ROW = RunRow("r", 1, 1, "/t/a", b"", 5.0)
AT_WORK = replace(ROW, attempt=1, started_at=10.0, at_work=True)
serials = st.integers(1, 6)


class SuspectsAgainstAList(RuleBasedStateMachine):
    """Each suspect is out, ready to begin or to go on, or alone at work."""

    def __init__(self) -> None:
        super().__init__()
        self.suspects = Suspects()
        self.to_begin: list[int] = []
        self.to_go_on: list[int] = []
        self.at_work: int | None = None

    def is_out(self, serial: int) -> bool:
        return serial not in (*self.to_begin, *self.to_go_on, self.at_work)

    @rule(serial=serials)
    def one_could_begin(self, serial: int) -> None:
        if self.is_out(serial) or serial in self.to_begin:
            self.to_begin = sorted({*self.to_begin, serial})
            its_turn = self.at_work is None and self.to_begin[0] == serial
            assert self.suspects.queues(f"r{serial}", serial) == its_turn

    @rule(serial=serials)
    def one_takes_its_run(self, serial: int) -> None:
        if serial not in self.to_begin:
            return
        its_turn = self.at_work is None and self.to_begin[0] == serial
        assert self.suspects.begins(f"r{serial}", serial) == its_turn
        if its_turn:
            self.to_begin.remove(serial)
            self.at_work = serial

    @rule(serial=serials)
    def one_could_go_on(self, serial: int) -> None:
        if self.is_out(serial):
            self.to_go_on = sorted([*self.to_go_on, serial])
            self.suspects.resumes(f"r{serial}", serial)
            self.the_next_goes_on()

    @precondition(lambda self: self.at_work is not None)
    @rule()
    def the_one_at_work_is_over(self) -> None:
        assert self.suspects.over(f"r{self.at_work}")
        self.at_work = None
        self.the_next_goes_on()

    @rule(serial=serials)
    def one_of_the_others_is_over(self, serial: int) -> None:
        if serial != self.at_work:
            assert not self.suspects.over(f"r{serial}")
            self.to_begin = [other for other in self.to_begin if other != serial]
            self.to_go_on = [other for other in self.to_go_on if other != serial]

    def the_next_goes_on(self) -> None:
        """Whoever can go on comes before whoever begins, the oldest first."""
        expected = self.to_go_on[0] if self.at_work is None and self.to_go_on else None
        assert self.suspects.goes_on() == (None if expected is None else f"r{expected}")
        if expected is not None:
            self.to_go_on.remove(expected)
            self.at_work = expected

    @invariant()
    def at_most_one_is_at_work_and_the_others_know_whom_they_wait_for(self) -> None:
        assert self.suspects.solo == (None if self.at_work is None else f"r{self.at_work}")
        assert bool(self.suspects) == (self.at_work is not None or bool(self.to_begin or self.to_go_on))
        first = self.at_work or (self.to_begin[0] if self.to_begin else None)
        for serial in (*self.to_begin, *self.to_go_on):
            expected = None if first in (None, serial) else f"r{first}"
            assert self.suspects.before(f"r{serial}") == expected


TestSuspectsAgainstAList = SuspectsAgainstAList.TestCase
TestSuspectsAgainstAList.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def after_a_crash(row: RunRow, **how: Any) -> RunRow:
    return cut_off(row, **{"crashed": True, "died": 14.0, "now": 100.0, **how})


def test_a_crash_is_held_against_nobody_who_was_not_alone() -> None:
    row = after_a_crash(AT_WORK)
    assert (row.cuts, row.crashes, row.ran, row.at_work) == (1, 0, 4.0, False)
    assert row.attempt == 1, "beginnings are counted when they begin"


def test_a_crash_is_held_against_the_one_that_was_alone() -> None:
    row = after_a_crash(replace(AT_WORK, cuts=2, alone=True, ran=9.0))
    assert (row.cuts, row.crashes, row.ran, row.alone) == (3, 1, 9.0, False)


def test_what_was_not_at_work_is_not_touched() -> None:
    assert after_a_crash(ROW) is ROW


def test_closing_is_no_crash() -> None:
    row = after_a_crash(replace(AT_WORK, alone=True), crashed=False)
    assert (row.cuts, row.crashes, row.ran, row.at_work, row.alone) == (0, 0, None, False, False)


@pytest.mark.parametrize(
    ("died", "now", "ran"),
    [
        (None, 15.0, 5.0),  # nobody knows when it died: by now at the latest
        (20.0, 15.0, 5.0),  # the next sign of life was not due yet
        (12.0, 15.0, 2.0),
        (3.0, 15.0, 0.0),  # a clock was set
    ],
)
def test_how_long_it_ran_is_counted_to_the_latest_moment_that_may_be(
    died: float | None, now: float, ran: float
) -> None:
    assert after_a_crash(AT_WORK, died=died, now=now).ran == ran


def test_the_loss_of_a_session_is_held_against_its_run() -> None:
    row = lost(AT_WORK)
    assert (row.cuts, row.crashes, row.at_work) == (0, 1, False)


@pytest.mark.parametrize(
    ("row", "attempts", "error_type"),
    [
        (ROW, 1, None),
        (replace(ROW, cuts=9), 3, None),
        (replace(ROW, attempt=1, cuts=1), 1, "CutOff"),
        (replace(ROW, attempt=2, crashes=1), 2, None),
        (replace(ROW, attempt=4, crashes=2), 2, "Crashed"),
        (replace(ROW, attempt=9, crashes=2), 3, None),
    ],
)
def test_the_verdict(row: RunRow, attempts: int, error_type: str | None) -> None:
    failure = verdict(row, attempts)
    assert (failure and failure.error_type) == error_type


def test_a_solo_lasts_longer_than_the_turn_that_was_cut_off() -> None:
    assert longest_solo(replace(ROW, ran=3.0)) == 3.0 + MARGIN
    assert longest_solo(ROW) == UNKNOWN + MARGIN
