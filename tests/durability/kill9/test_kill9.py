"""Workers are killed at any instant and started again on the same store: nothing may be off.

One trial for all of it (`trial.py`): each test holds one promise against what the store said after every
death and at the end. GREENROOM_KILLS=100 makes it a long one, GREENROOM_SEED repeats a plan.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

from .audit import CHECKS
from .facts import copied, read
from .record import read_record
from .trial import KILLS, PHASES, Trial, plan

pytestmark = pytest.mark.timeout(1800 + 150 * KILLS)


def test_the_worker_came_to_its_end_and_saw_nothing_odd(trial: Trial) -> None:
    trial.holds("worker")


def test_the_file_is_whole_after_every_death(trial: Trial) -> None:
    trial.holds("file")


def test_what_was_acknowledged_is_there_and_what_was_refused_is_not(trial: Trial) -> None:
    trial.holds("accepted")


def test_there_are_the_agents_that_were_spawned_and_none_that_was_closed(trial: Trial) -> None:
    trial.holds("agents")


def test_nothing_is_open_below_an_agent_that_was_closed(trial: Trial) -> None:
    trial.holds("descendants")


def test_every_accepted_run_has_one_outcome_and_one_terminal_event(trial: Trial) -> None:
    trial.holds("outcomes")


def test_what_somebody_was_told_stays_so(trial: Trial) -> None:
    trial.holds("told")


def test_no_run_fails_or_is_interrupted_without_a_reason(trial: Trial) -> None:
    trial.holds("reasons")


def test_every_counter_equals_the_completed_inputs_of_its_agent(trial: Trial) -> None:
    trial.holds("counts")


def test_every_acknowledged_message_was_read_once_by_a_committed_turn(trial: Trial) -> None:
    trial.holds("messages")


def test_turns_begun_again_spawn_and_start_nothing_twice(trial: Trial) -> None:
    trial.holds("families")


def test_every_continuation_ran_once_with_all_outcomes(trial: Trial) -> None:
    trial.holds("continuations")


def test_nothing_is_shown_running_after_a_death(trial: Trial) -> None:
    trial.holds("shown")


def test_at_the_end_the_runtime_shows_what_is_stored(trial: Trial) -> None:
    trial.holds("report")


def test_no_run_begins_more_often_than_its_attempts(trial: Trial) -> None:
    trial.holds("attempts")


def test_events_tell_which_beginnings_are_recovered_ones(trial: Trial) -> None:
    trial.holds("beginnings")


def test_a_run_whose_interrupt_was_acknowledged_does_not_begin_again(trial: Trial) -> None:
    trial.holds("interrupts")


def test_no_crash_is_held_against_an_innocent_run(trial: Trial) -> None:
    trial.holds("blame")


def test_every_check_of_the_audit_has_a_test_above() -> None:
    tested = re.findall(r'trial\.holds\("(\w+)"\)', Path(__file__).read_text())
    assert {*tested} == {*CHECKS, "shown", "report"}


def test_a_trial_has_deaths_in_all_phases_and_work_of_all_sorts(trial: Trial) -> None:
    assert {death.phase for death in plan(trial.seed, 10)} == set(PHASES)
    facts = read(copied(trial.store, trial.folder / "copy"))
    events = Counter(event.type for event in facts.events)
    assert all(events[f"run.{end}"] for end in ("completed", "failed", "interrupted"))
    assert events["agent.evicted"]
    assert events["agent.closed"] + events["agent.deleted"]
    assert read_record(trial.folder).doubted, "no death came while the store was moved away"
    assert any(event.data.get("recovered") for event in facts.events), "no death cut a turn off"
    kinds = {agent.kind for agent in facts.agents.values() if agent.state}
    assert {f"kill-{kind}" for kind in ("tally", "clerk", "parent", "fan")} <= kinds
