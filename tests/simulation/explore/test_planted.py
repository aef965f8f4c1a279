"""Mistakes, planted one at a time: the windows in which they do harm show each of them."""

from collections.abc import Callable
from typing import Any

import pytest

from greenroom.actors.agent import lifecycle
from greenroom.actors.agent.session import Session
from greenroom.actors.ledger import interrupting, sessions
from greenroom.actors.ledger.agent_runs import AgentRuns
from greenroom.actors.ledger.ledger import Ledger
from greenroom.actors.residency import session_facts
from greenroom.actors.residency.table import ResidencyTable
from greenroom.actors.slots.table import SlotTable

from .. import mistakes
from ..mistakes import wrap
from . import windows
from .explorer import Wrong, explore

Patch = Callable[[pytest.MonkeyPatch], None]
PLANTED: dict[Patch, windows.Make] = {}
MARKED: list[Any] = []


def planted(window: windows.Make, *, long: bool = False) -> Callable[[Patch], Patch]:
    """Register a mistake, with the window that should show it; `long` if that takes seconds."""

    def register(patch: Patch) -> Patch:
        PLANTED[patch] = window
        mark = pytest.mark.long if long else pytest.mark.slow
        MARKED.append(pytest.param(patch, id=patch.__name__, marks=mark))
        return patch

    return register


# A slot is handed over


@planted(windows.the_holder_may_crash)
def a_slot_is_released_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(original: Any, self: SlotTable, lease: Any) -> Any:
        self._slots += lease in self._holding  # what counting free slots up twice comes to
        return original(self, lease)

    wrap(monkeypatch, SlotTable, "release", release)


planted(windows.one_of_two_is_interrupted)(mistakes.a_slot_asked_for_and_no_longer_wanted_is_kept)


@planted(windows.the_only_one_may_crash)
def a_crashed_holder_keeps_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlotTable, "end_holder", lambda *_: ())


@planted(windows.the_only_one_may_crash)
def who_asked_for_a_slot_and_crashed_is_granted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def end_holder(original: Any, self: SlotTable, agent_id: Any, incarnation: Any) -> Any:
        effects = original(self, agent_id, incarnation)
        self._ended.clear()
        return effects

    wrap(monkeypatch, SlotTable, "end_holder", end_holder)


@planted(windows.the_only_one_may_crash)
def a_session_that_crashed_still_takes_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was, until an exploration showed it."""

    def left(original: Any, self: Ledger, news: Any) -> Any:
        effects = original(self, news)
        desk = self.desks.get(news.agent_id)
        if desk is not None and not news.orderly:
            desk.incarnation = news.incarnation
        return effects

    wrap(monkeypatch, sessions, "left", left)


@planted(windows.what_it_asked_before_it_crashed_comes_late, long=True)
def a_desk_does_not_remember_that_its_session_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_rest(self: AgentRuns) -> bool:
        return not (self.present or self.opening or self.running or self.queue or self.waiting)

    monkeypatch.setattr(AgentRuns, "at_rest", property(at_rest))


@planted(windows.a_turn_waits_for_another)
def a_turn_that_waits_keeps_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def waits(original: Any, self: Session, **named: Any) -> Any:
        return [action for action in original(self, **named) if getattr(action, "to", None) != "slots"]

    wrap(monkeypatch, Session, "waits", waits)


# An eviction meets a delivery


planted(windows.more_comes_for_who_is_to_go)(mistakes.an_agent_is_evicted_though_work_is_on_its_way)


@planted(windows.it_is_asked_to_leave, long=True)
def work_for_one_that_unloads_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def summon(original: Any, self: ResidencyTable, agent_id: Any, path: str, **named: Any) -> Any:
        entry = self.entries.get(agent_id)
        return (
            ()
            if entry is not None and entry.stage == "unloading"
            else original(self, agent_id, path, **named)
        )

    wrap(monkeypatch, ResidencyTable, "summon", summon)


@planted(windows.room_is_needed_for_another, long=True)
def a_place_is_given_away_before_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def unload(original: Any, self: ResidencyTable, entry: Any, now: Any, **named: Any) -> Any:
        effects = original(self, entry, now, **named)
        del self.residents[entry.agent_id]
        return effects

    wrap(monkeypatch, ResidencyTable, "unload", unload)


@planted(windows.it_is_asked_to_leave)
def mail_is_kept_at_hand_only_once_the_session_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(original: Any, self: Ledger, news: Any) -> Any:
        desk = self.desks.get(news.agent_id)
        if desk is not None:
            desk.mail = []
        return original(self, news)

    wrap(monkeypatch, sessions, "session_started", started)


# A place is given up and taken again


@planted(windows.a_turn_waits_where_there_is_one_place)
def a_turn_that_goes_on_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def place(original: Any, self: ResidencyTable, entry: Any, now: Any) -> Any:
        effects = original(self, entry, now)
        del self.residents[entry.agent_id]
        return effects

    wrap(monkeypatch, ResidencyTable, "_place", place)


@planted(windows.a_turn_waits_where_there_is_one_place)
def a_turn_goes_on_without_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def resumes(original: Any, self: Session) -> Any:
        actions = original(self)
        if self.state == "returning":
            self.state, self._has_place = "regaining", True
            return self._ask_for_slot()
        return actions

    wrap(monkeypatch, Session, "resumes", resumes)


@planted(windows.more_comes_for_who_waits_and_is_interrupted)
def who_was_interrupted_while_it_waited_takes_its_next_run_without_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def settled(original: Any, self: Session, news: Any) -> Any:
        self._has_place = True
        return original(self, news)

    wrap(monkeypatch, Session, "settled", settled)


@planted(windows.who_has_run_after_run_gives_way)
def who_gives_way_is_not_called_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(original: Any, self: ResidencyTable, agent_id: Any, number: Any, **named: Any) -> Any:
        self.entries[agent_id].has_work = False
        return original(self, agent_id, number, **named)

    wrap(monkeypatch, session_facts, "session_asks", asks)


@planted(windows.who_waits_may_crash, long=True)
def the_queue_keeps_a_turn_whose_session_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(original: Any, self: ResidencyTable, entry: Any) -> Any:
        stage, entry.stage = entry.stage, "unloading"
        original(self, entry)
        entry.stage = stage

    wrap(monkeypatch, ResidencyTable, "_leave", leave)


# An interrupt meets a completion


@planted(windows.the_code_returns_or_raises)
def a_run_that_is_interrupted_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(original: Any, self: Ledger, desk: Any, run: Any, reason: str) -> Any:
        effects = original(self, desk, run, reason)
        return [*effects, *self.end(desk, run, "interrupted", reason)] if run is desk.running else effects

    wrap(monkeypatch, interrupting, "interrupt_run", interrupt)


@planted(windows.the_code_may_not_have_begun)
def who_finds_nothing_to_run_keeps_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(original: Any, self: Session) -> Any:
        return [action for action in original(self) if getattr(action, "to", None) != "slots"]

    wrap(monkeypatch, Session, "nothing", nothing)


@planted(windows.the_code_may_not_have_begun)
def who_has_nothing_to_run_any_more_keeps_asking_for_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def rest(original: Any, self: Session) -> Any:
        return [action for action in original(self) if getattr(action, "to", None) != "slots"]

    wrap(monkeypatch, Session, "rest", rest)


@planted(windows.the_code_may_not_have_begun)
def a_rest_that_comes_late_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {event: state for event, state in lifecycle.TABLE["ending"].items() if event != "rest"}
    monkeypatch.setitem(lifecycle.TABLE, "ending", row)


# A close meets an opening


@planted(windows.its_turn_is_under_way)
def a_session_that_has_ended_is_not_to_hear_of_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was, until an exploration showed it."""
    row = {
        event: state
        for event, state in lifecycle.TABLE["ended"].items()
        if event not in ("settled", "more")
    }
    monkeypatch.setitem(lifecycle.TABLE, "ended", row)


planted(windows.its_turn_is_under_way)(mistakes.a_closed_agent_keeps_its_runs)


@planted(windows.it_was_just_spawned)
def an_agent_that_is_closed_while_it_opens_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def dismiss(original: Any, self: ResidencyTable, agent_id: Any, *, gone: bool, now: Any) -> Any:
        entry = self.entries.get(agent_id)
        opening = entry is not None and entry.stage == "opening"
        return () if opening else original(self, agent_id, gone=gone, now=now)

    wrap(monkeypatch, ResidencyTable, "dismiss", dismiss)


@planted(windows.it_is_on_its_way_from_disk)
def a_load_that_was_called_off_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(original: Any, self: ResidencyTable, entry: Any) -> None:
        request = entry.request
        original(self, entry)
        if request is not None:
            self.loads[request] = entry

    wrap(monkeypatch, ResidencyTable, "forget", forget)


planted(windows.two_want_its_path)(mistakes.spawns_of_one_path_do_not_wait_for_each_other)


# `after` meets the last outcome


planted(windows.one_of_two_is_interrupted_meanwhile)(mistakes.a_continuation_does_not_wait_for_the_last_run)


@planted(windows.one_of_two_is_interrupted_meanwhile)
def only_runs_that_complete_let_a_continuation_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(
        original: Any, self: Ledger, desk: Any, run: Any, status: str, *given: Any, **named: Any
    ) -> Any:
        if status != "completed":
            run.continuations = []
        return original(self, desk, run, status, *given, **named)

    wrap(monkeypatch, Ledger, "end", end)


@planted(windows.one_of_two_is_interrupted_meanwhile, long=True)
def each_end_starts_the_continuation(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(original: Any, self: Ledger, desk: Any, run: Any, *given: Any, **named: Any) -> Any:
        for continuation in run.continuations:
            continuation.waiting_for.clear()
        return original(self, desk, run, *given, **named)

    wrap(monkeypatch, Ledger, "end", end)


@planted(windows.who_asked_is_evicted)
def a_continuation_goes_on_and_nobody_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def go_on(original: Any, self: Ledger, run: Any) -> Any:
        original(self, run)
        return []

    wrap(monkeypatch, Ledger, "_continue", go_on)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("patch", MARKED)
def test_a_planted_mistake_is_found(patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch)
    seen: list[None] = []
    # it may show while the window is prepared
    with pytest.raises((Wrong, AssertionError)) as found:
        explore(PLANTED[patch](), visit=lambda house: seen.append(None))
    what = str(found.value).strip().splitlines()[0][:120]
    print(f"\n{patch.__name__}: {len(seen)} states; {what}")


def test_each_nasty_moment_has_a_mistake() -> None:
    shown = set(PLANTED.values())
    moments = {window.name.partition(":")[0] for window in windows.WINDOWS if window.make in shown}
    assert moments == {window.name.partition(":")[0] for window in windows.WINDOWS}
