"""Faults that there were, as mistakes to plant again, and which net finds each.

`ROWS` has a row for each fault that lost work, did it twice or stopped everybody. What no simulation can
express (a hard link, an import) has a test of its own, by its name in `NETS`; the model finds the others.
`test_old_faults.py` shows that each of them is found.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from greenroom import borders
from greenroom.actors.agent.turn import Turn
from greenroom.actors.agent.turn_clock import TurnClock
from greenroom.actors.face import requests
from greenroom.actors.fair_queue import FairQueue
from greenroom.actors.ledger import actor as ledger_actor
from greenroom.actors.ledger import solo
from greenroom.actors.ledger.waits import WaitsForGraph
from greenroom.actors.residency import session_facts
from greenroom.actors.residency.entry import ToSession
from greenroom.actors.residency.protocol import Room
from greenroom.errors import StoreError
from greenroom.persistence import schema
from greenroom.persistence.store import Store
from greenroom.persistence.transfer import importing
from greenroom.types import AgentId

from . import mistakes
from .mistakes import Patch, planted, wrap

PLANTED = mistakes.PLANTED
"""All mistakes that the model finds, these among them."""

NETS: dict[str, tuple[Patch, str]] = {}
"""Mistakes with a test of their own: how each is planted, and the test."""


def caught_by(test: str) -> Callable[[Patch], Patch]:
    """Register a mistake with the test that finds it."""

    def register(patch: Patch) -> Patch:
        NETS[patch.__name__] = patch, test
        return patch

    return register


# Ids


@planted
def a_caller_may_choose_an_id_of_the_runtimes_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "is_reserved", lambda _: False)


@caught_by(
    "tests/contract/test_run_ids.py::test_an_id_that_is_given_again_once_its_run_is_gone_harms_nothing"
)
def ids_are_derived_from_an_id_that_can_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(original: Any, self: Turn, *given: Any, **named: Any) -> None:
        original(self, *given, **named)
        self._stem = f"{self._stem.partition('.')[0]}.{self.run_id}"

    wrap(monkeypatch, Turn, "__init__", init)


@caught_by(
    "tests/durability/disks/test_refused_records.py::test_43_a_run_that_the_store_refuses_is_refused_alone"
)
def one_record_that_is_refused_stops_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_actor, "withdraw", lambda *_: None)


@planted
def an_id_reaches_the_core_as_the_object_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "plain", lambda text: text)


@caught_by(
    "tests/persistence/test_transfer.py::"
    "test_two_stores_become_one_though_greenroom_made_the_same_ids_in_both"
)
def ids_that_two_stores_have_made_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "OF_ANOTHER_RUN", f"{importing.OF_ANOTHER_RUN} LIMIT 0")


# Files


@planted
def commits_go_on_in_a_file_that_is_not_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "_look_home", lambda _: None)


@caught_by("tests/persistence/test_schema.py::test_scenario_42_a_second_name_is_refused")
def nobody_looks_for_a_second_name(monkeypatch: pytest.MonkeyPatch) -> None:
    look = schema._check_plain

    def check_plain(store: str, name: str) -> None:
        try:
            look(store, name)
        except StoreError as error:
            if "hard links" not in str(error):
                raise

    monkeypatch.setattr(schema, "_check_plain", check_plain)


# Waiting


@caught_by("tests/contract/test_waiting.py::test_one_run_of_an_idle_tree_begins_within_three_seconds")
def who_has_waited_longest_is_first_whatever_its_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    def push(original: Any, self: Any, key: Any, value: Any, tree: str, *, goes_on: bool) -> None:
        original(self, key, value, "any", goes_on=False)

    wrap(monkeypatch, FairQueue, "push", push)


@caught_by("tests/contract/test_waiting.py::test_turns_that_wait_for_people_stop_nobody")
def a_waiting_turn_keeps_its_place_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_facts, "session_waits", lambda *_, **__: ())
    monkeypatch.setattr(session_facts, "session_returns", go_on_at_once)


def go_on_at_once(_: object, agent_id: AgentId, __: object, number: int, **___: object) -> Any:
    """Answer an agent that has its place all the time."""
    return (ToSession(agent_id, Room(number)),)


@caught_by("tests/contract/test_waiting.py::test_time_on_a_thread_stands_still_as_well")
def the_time_that_a_turn_waits_counts_into_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TurnClock, "stop", lambda _: None)


@caught_by("tests/simulation/test_poison.py::test_no_innocent_fails_and_poison_does[after a wait]")
def a_crash_while_a_turn_waits_counts_as_one_while_it_executes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solo, "turn_waits", lambda *_: [])


@planted
def a_wait_may_close_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WaitsForGraph, "refusal", lambda *_: None)


# Borders


@planted
def an_error_may_end_the_program_when_it_is_asked_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def text_of(error: BaseException) -> str:
        try:
            return str(error)
        except Exception:
            return "its text could not be made"

    monkeypatch.setattr(borders.error_text, "__code__", text_of.__code__)  # who imported it has it, too


ROWS: dict[int, Iterable[str]] = {
    1: (
        a_caller_may_choose_an_id_of_the_runtimes_own.__name__,
        ids_are_derived_from_an_id_that_can_come_again.__name__,
        one_record_that_is_refused_stops_the_runtime.__name__,
    ),
    2: (mistakes.a_checkpoint_forgets_that_the_inbox_was_read.__name__,),
    3: (commits_go_on_in_a_file_that_is_not_in_its_place.__name__,),
    4: (mistakes.a_reader_is_answered_from_the_ring_whatever_has_left_it.__name__,),
    5: (mistakes.a_crash_is_held_against_all_that_were_at_work.__name__,),
    6: (mistakes.a_turn_executes_in_the_context_of_the_one_before.__name__,),
    7: (mistakes.closing_ends_what_it_cuts_off.__name__,),
    8: (who_has_waited_longest_is_first_whatever_its_tree.__name__,),
    9: (mistakes.a_full_backlog_refuses_what_turns_ask_for.__name__,),
    10: (a_wait_may_close_a_circle.__name__,),
    11: (
        mistakes.a_waiting_turn_keeps_its_slot.__name__,
        a_waiting_turn_keeps_its_place_in_memory.__name__,
        the_time_that_a_turn_waits_counts_into_its_timeout.__name__,
        a_crash_while_a_turn_waits_counts_as_one_while_it_executes.__name__,
    ),
    12: (an_error_may_end_the_program_when_it_is_asked_what_it_says.__name__,),
    13: (an_id_reaches_the_core_as_the_object_that_was_given.__name__,),
    14: (nobody_looks_for_a_second_name.__name__,),
    15: (ids_that_two_stores_have_made_stay_as_they_are.__name__,),
}
"""The numbered faults, and the mistakes that bring each back."""
