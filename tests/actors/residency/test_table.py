"""The residency table by example: one rule of it in each test.

Agents are numbers here and effects are words: `load 1` asks for agent 1's image, `start 1.2` starts
its session of incarnation 2, `work 1` and `unload 1` go to that session, the rest is told to
others.
"""

from collections.abc import Iterable
from functools import partial

import pytest
from msgspec.structs import replace

from greenroom.actors.effects import Send, StartTimer
from greenroom.actors.residency import reporting, session_facts, unloading
from greenroom.actors.residency.entry import PatienceEnded, ResidencyEffect, StartSession, ToSession
from greenroom.actors.residency.protocol import (
    AgentActivated,
    AgentPassivated,
    AllUnloaded,
    AskFirst,
    EvictionAnswered,
    LoadFailed,
    NextEviction,
    OpeningDeferred,
    PinAnswered,
    Residence,
    ResidencyReport,
    Room,
    RunsAvailable,
    RunsCancelled,
    Unload,
    UnloadMore,
)
from greenroom.actors.residency.table import ResidencyTable
from greenroom.actors.slots.protocol import EndHolder
from greenroom.actors.storage.protocol import Ask
from greenroom.errors import GreenroomError, SnapshotTampered
from greenroom.persistence.queries import LoadAgent
from greenroom.persistence.rows import AgentImage, AgentRow
from greenroom.types import AgentId, Incarnation

SHARE = 0.5


class House:
    """A table, told by numbers and read by words."""

    def __init__(self, residents: int, patience: float = 1.0) -> None:
        self.table = ResidencyTable(residents, patience, SHARE)
        self.now = 0.0
        self.requests: dict[int, object] = {}  # the last question for an agent's image
        self.incarnations: dict[int, int] = {}
        self.report = ResidencyReport(0, 0, 0, 0, 0, 0, 0)

    def words(self, effects: Iterable[ResidencyEffect]) -> list[str]:
        return [self.word(effect) for effect in effects]

    def word(self, effect: ResidencyEffect) -> str:
        match effect:
            case Send("ledger", Ask(request, LoadAgent(agent_id))):
                self.requests[agent_id] = request
                return f"load {agent_id}"
            case StartSession(agent_id, incarnation, image, work, asks):
                assert (image.row.agent_id, image.row.incarnation + 1) == (agent_id, incarnation)
                what = "" if work is None else " to go on" if work.goes_on else " with work"
                return f"start {agent_id}.{incarnation}{what}" + ", ask first" * asks
            case ToSession(agent_id, RunsAvailable(goes_on)):
                return f"work {agent_id}" + " that goes on" * goes_on
            case ToSession(agent_id, Room(number)):
                return f"room {agent_id}.{number}"
            case ToSession(agent_id, AskFirst()):
                return f"ask first {agent_id}"
            case ToSession(agent_id, NextEviction(again)):
                return f"go on {agent_id}" + " and ask again" * again
            case Send("ledger", OpeningDeferred(agent_id)):
                return f"deferred {agent_id}"
            case ToSession(agent_id, RunsCancelled()):
                return f"rest {agent_id}"
            case ToSession(agent_id, Unload(gone)):
                return f"unload {agent_id}" + " gone" * gone
            case StartTimer(after, PatienceEnded()):
                return f"patience {after}"
            case Send("ledger", AgentActivated(agent_id, incarnation)):
                self.incarnations[agent_id] = incarnation
                return f"entered {agent_id}.{incarnation}"
            case Send("ledger", AgentPassivated(agent_id, incarnation, orderly, evicted)):
                how = " crashed" * (not orderly) + " evicted" * evicted
                return f"left {agent_id}.{incarnation}{how}"
            case Send("ledger", LoadFailed(agent_id, error)):
                return f"failed {agent_id}: {type(error).__name__}"
            case Send("slots", EndHolder(agent_id, incarnation)):
                return f"end holder {agent_id}.{incarnation}"
            case Send(to, EvictionAnswered(request, evicted)):
                return f"{to} {request}: {'evicted' if evicted else 'not evicted'}"
            case Send(to, PinAnswered(request)):
                return f"{to} {request}: done"
            case Send(to, AllUnloaded()):
                return f"{to}: all unloaded"
            case Send("residency", UnloadMore()):
                return "more"
            case Send(_, ResidencyReport() as report):
                self.report = report
                return "report"
        raise AssertionError(effect)

    # What happens to agent n; each answers in words what the table does about it.

    def summon(
        self, n: int, *, work: bool = True, image: bool = False, goes_on: bool = False, tree: str = "t"
    ) -> list[str]:
        path = f"/{tree}/{n}"
        given = AgentImage(AgentRow(AgentId(n), path, "kind", 1, b"", 0, 0)) if image else None
        summon = self.table.summon
        effects = summon(AgentId(n), path, work=work, image=given, goes_on=goes_on, now=self.now)
        return self.words(effects)

    def dismiss(self, n: int, *, gone: bool = False) -> list[str]:
        return self.words(self.table.dismiss(AgentId(n), gone=gone, now=self.now))

    def loaded(
        self,
        n: int,
        *,
        status: str = "idle",
        missing: bool = False,
        error: GreenroomError | None = None,
    ) -> list[str]:
        incarnation = Incarnation(self.incarnations.get(n, 0))
        row = AgentRow(AgentId(n), f"/t/{n}", "kind", 1, b"", 0, 0, status, incarnation=incarnation)
        image = None if missing or error else AgentImage(row)
        return self.words(session_facts.loaded(self.table, self.requests[n], image, error, now=self.now))

    def news(self, n: int, incarnation: int | None) -> tuple[AgentId, Incarnation]:
        return AgentId(n), Incarnation(incarnation or self.incarnations[n])

    def opened(self, n: int, of: int | None = None) -> list[str]:
        return self.words(session_facts.session_opened(self.table, *self.news(n, of), now=self.now))

    def idle(self, n: int, seen: int = 1, of: int | None = None) -> list[str]:
        return self.words(session_facts.session_idle(self.table, *self.news(n, of), seen, now=self.now))

    def waits(self, n: int, of: int | None = None) -> list[str]:
        return self.words(session_facts.session_waits(self.table, *self.news(n, of), now=self.now))

    def returns(self, n: int, number: int = 1, of: int | None = None) -> list[str]:
        return self.words(
            session_facts.session_returns(self.table, *self.news(n, of), number, now=self.now)
        )

    def asks(self, n: int, *, goes_on: bool = False, of: int | None = None) -> list[str]:
        asks = partial(session_facts.session_asks, self.table)
        return self.words(asks(*self.news(n, of), goes_on=goes_on, now=self.now))

    def ended(self, n: int, seen: int = 1, of: int | None = None) -> list[str]:
        return self.words(session_facts.session_ended(self.table, *self.news(n, of), seen, now=self.now))

    def lost(self, n: int, of: int | None = None) -> list[str]:
        return self.words(session_facts.session_lost(self.table, *self.news(n, of), now=self.now))

    def patience_ended(self) -> list[str]:
        return self.words(session_facts.patience_ended(self.table, now=self.now))

    def evict(self, n: int, request: int = 5) -> list[str]:
        return self.words(self.table.evict(AgentId(n), request, "user", now=self.now))

    def pin(self, n: int, *, pinned: bool = True) -> list[str]:
        table, now = self.table, self.now
        return self.words(table.pin(AgentId(n), 6, "user", pinned=pinned, now=now))

    def unload_all(self) -> list[str]:
        return self.words(unloading.unload_all(self.table, "supervisor", now=self.now))

    def unload_more(self) -> list[str]:
        return self.words(unloading.unload_more(self.table, now=self.now))

    def describe(self, *agents: int) -> ResidencyReport:
        self.words(reporting.describe(self.table, 7, "user", [AgentId(n) for n in agents]))
        return self.report

    def stage(self, n: int) -> str:
        return self.describe(n).agents[0].stage

    # Shorthands

    def busy(self, *agents: int) -> "House":
        """Bring agents in; each takes up the work it was summoned for."""
        for n in agents:
            self.summon(n)
            self.loaded(n)
            self.opened(n)
        return self

    def rest(self, *agents: int) -> "House":
        """Bring agents in and let them come to rest, in this order."""
        for n in agents:
            self.busy(n).idle(n)
        return self


# Coming in


def test_an_agent_is_loaded_then_opened_then_told_of_its_work() -> None:
    room = House(1)
    assert room.summon(1) == ["load 1"]
    assert room.loaded(1) == ["entered 1.1", "start 1.1 with work"]
    assert room.opened(1) == []
    assert room.idle(1) == []
    assert room.describe(1).agents == (Residence(AgentId(1), "open", Incarnation(1), True, since=0),)


def test_a_spawned_agent_is_opened_without_work_while_there_is_free_room() -> None:
    room = House(2)
    assert room.summon(1, work=False) == ["load 1"]
    assert room.loaded(1) == ["entered 1.1", "start 1.1"]
    room.rest(2)
    assert room.summon(3, work=False, image=True) == ["deferred 3"], "nobody leaves for it, idle or not"
    assert room.stage(3) == "absent"
    assert room.describe().evictions == 0
    assert room.summon(3) == ["unload 2", "patience 1.0"], "its first run opens it"


def test_a_place_that_others_wait_for_is_not_free() -> None:
    room = House(1).busy(1)
    room.summon(2)
    assert room.summon(3, work=False) == ["deferred 3"]
    assert room.idle(1) == ["unload 1", "patience 1.0"]
    assert room.summon(4, work=False) == ["deferred 4"]


def test_summoning_again_while_loading_loads_and_starts_once() -> None:
    room = House(1)
    room.summon(1, work=False)
    assert room.summon(1) == []
    assert room.summon(1) == []
    assert room.loaded(1) == ["entered 1.1", "start 1.1 with work"]


def test_a_resident_that_is_summoned_gets_its_work_at_once() -> None:
    room = House(1).rest(1)
    assert room.summon(1) == ["work 1"]
    assert room.summon(1, work=False) == []


def test_an_opening_agent_gets_its_work_at_once() -> None:
    room = House(1)
    room.summon(1, work=False)
    room.loaded(1)
    assert room.summon(1) == ["work 1"]


def test_each_session_has_a_greater_incarnation_than_the_one_before() -> None:
    room = House(1)
    room.incarnations[1] = 6
    room.summon(1)
    assert room.loaded(1) == ["entered 1.7", "start 1.7 with work"]
    assert room.describe().reloads == 1


def test_before_it_is_configured_everybody_waits() -> None:
    room = House(0)
    assert room.summon(1) == []
    assert room.words(room.table.configure(1, 1.0, SHARE, now=0)) == ["load 1"]


def test_an_agent_that_is_not_there_is_forgotten_and_its_room_given_on() -> None:
    room = House(1)
    room.summon(1)
    room.summon(2)
    assert room.loaded(1, missing=True) == ["load 2"]
    assert room.loaded(2, status="closed") == []
    assert (room.stage(1), room.stage(2)) == ("absent", "absent")


def test_an_agent_that_cannot_be_read_is_reported_and_its_room_given_on() -> None:
    room = House(1)
    room.summon(1)
    room.summon(2)
    error = SnapshotTampered("/t/1", "the signature is wrong")
    assert room.loaded(1, error=error) == ["failed 1: SnapshotTampered", "load 2"]
    assert room.stage(1) == "absent"


def test_an_answer_to_a_forgotten_question_changes_nothing() -> None:
    room = House(1)
    room.summon(1)
    room.dismiss(1, gone=True)
    assert room.loaded(1) == []
    assert room.stage(1) == "absent"


# Room


def test_without_room_agents_wait_in_order() -> None:
    room = House(1).busy(1)
    assert room.summon(2) == ["ask first 1"]
    assert room.summon(3) == []
    assert [each.place for each in room.describe(2, 3).agents] == [0, 1]
    assert room.idle(1) == ["unload 1", "patience 1.0"]
    assert room.ended(1) == ["left 1.1 evicted", "load 2"]


def test_the_least_recently_used_idle_resident_goes() -> None:
    room = House(3).rest(1, 2).busy(3)
    room.summon(1)
    room.idle(1, seen=2)
    assert room.summon(4)[0] == "unload 2"


def test_one_that_waits_takes_one_victim_and_no_more() -> None:
    room = House(3).rest(1, 2, 3)
    assert room.summon(4) == ["unload 1", "patience 1.0"]
    assert room.summon(4) == []
    assert room.summon(5) == ["unload 2"]


def test_free_room_takes_no_victim() -> None:
    assert House(2).rest(1).summon(2) == ["load 2"]


def test_a_starting_agent_is_never_a_victim() -> None:
    room = House(1)
    room.summon(1)
    assert room.summon(2) == []
    assert room.loaded(1) == ["entered 1.1", "start 1.1 with work, ask first"]
    assert room.opened(1) == []
    assert room.idle(1) == ["unload 1", "patience 1.0"]


def test_a_resident_with_work_on_its_way_is_not_idle() -> None:
    room = House(1).busy(1)
    room.summon(1)
    room.summon(2)
    assert room.idle(1, seen=1) == []
    assert room.idle(1, seen=2) == ["unload 1", "patience 1.0"]


def test_work_reaches_an_idle_resident_before_it_can_be_chosen() -> None:
    room = House(1).rest(1)
    assert room.summon(1) == ["work 1"]
    assert room.summon(2) == ["ask first 1"]


def test_with_all_residents_idle_the_oldest_goes() -> None:  # scenario 6
    assert House(3).rest(3, 1, 2).summon(4)[0] == "unload 3"


def test_finished_agents_never_use_up_the_room() -> None:  # scenario 4
    room = House(2)
    for n in range(1, 100):
        room.summon(n)
        if n > 2:
            room.ended(n - 2)
        room.loaded(n)
        room.opened(n)
        room.idle(n)
    assert room.describe().resident == 2
    assert room.describe().evictions == 97


def test_a_victim_that_takes_too_long_is_joined_by_another() -> None:  # scenario 7
    room = House(2).rest(1, 2)
    assert room.summon(3)[0] == "unload 1"
    assert room.patience_ended() == ["unload 2", "patience 1.0"]
    assert room.ended(2) == ["left 2.1 evicted", "load 3"]
    assert room.describe().resident == 2
    assert room.ended(1) == ["left 1.1 evicted"]
    assert room.describe().resident == 1


def test_a_victim_that_takes_too_long_is_joined_by_the_next_that_becomes_idle() -> None:
    room = House(2).rest(1).busy(2)
    room.summon(3)
    assert room.patience_ended() == ["ask first 2"]
    assert room.idle(2) == ["unload 2", "patience 1.0"]


def test_one_timer_does_for_all_victims_and_each_has_its_whole_time() -> None:
    room = House(3).rest(1, 2, 3)
    assert room.summon(4) == ["unload 1", "patience 1.0"]
    assert room.summon(5) == ["unload 2"]
    assert room.patience_ended() == ["patience 1.0", "unload 3"]  # for 1 alone: 2 came later
    room.ended(3)
    assert room.patience_ended() == []
    assert room.describe().resident == 3  # 1 and 2 still unload, and 4 has the place of 3


def test_an_image_that_comes_with_the_summons_saves_the_question_for_it() -> None:
    room = House(1)
    assert room.summon(1, image=True) == ["entered 1.1", "start 1.1 with work"]
    room.opened(1)
    room.idle(1)
    assert room.summon(2, image=True) == ["unload 1", "patience 1.0"]
    assert room.summon(2) == []
    assert room.ended(1) == ["left 1.1 evicted", "entered 2.1", "start 2.1 with work"]
    room.opened(2)
    room.idle(2)
    assert room.summon(1)[0] == "unload 2"
    assert room.ended(2) == ["left 2.1 evicted", "load 1"]  # what it was made with is an old one by now


def test_patience_that_ends_after_the_victim_changes_nothing() -> None:
    room = House(2).rest(1, 2)
    room.summon(3)
    room.ended(1)
    assert room.patience_ended() == []


def test_when_who_needed_the_room_gives_up_the_victim_is_wholly_gone() -> None:  # scenario 8
    room = House(1).rest(1)
    room.summon(2)
    assert room.dismiss(2) == []
    assert room.ended(1) == ["left 1.1 evicted"]
    assert room.describe(1, 2).resident == 0
    assert room.summon(3) == ["load 3"]


def test_a_run_for_an_agent_that_unloads_is_executed_by_its_next_session() -> None:  # scenario 1
    room = House(1).rest(1)
    assert room.summon(2)[0] == "unload 1"
    assert room.summon(1) == []
    assert room.ended(1) == ["left 1.1 evicted", "load 2"]
    room.loaded(2)
    room.opened(2)
    assert room.idle(2) == ["unload 2"]
    assert room.ended(2) == ["left 2.1 evicted", "load 1"]
    assert room.loaded(1) == ["entered 1.2", "start 1.2 with work"]


def test_an_agent_called_back_gets_its_own_place_if_nobody_is_before_it() -> None:
    room = House(2).rest(1, 2)
    room.evict(1)
    assert room.summon(1) == []
    assert room.summon(3) == ["unload 2"]
    assert room.ended(2) == ["left 2.1 evicted", "load 3"]
    assert room.ended(1) == ["left 1.1 evicted", "user 5: evicted", "load 1"]


def test_nobody_behind_an_agent_called_back_gets_its_place() -> None:
    room = House(2).rest(1).busy(2)
    room.evict(1)
    room.summon(1)
    room.summon(3)
    room.summon(1)
    assert room.describe().waiting == 1
    assert room.ended(1)[-1] == "load 1"


def test_a_slow_victim_called_back_in_vain_is_still_slow() -> None:
    room = House(2).rest(1, 2)
    room.evict(1)
    room.patience_ended()
    room.summon(1)
    room.dismiss(1)
    assert room.summon(3)[0] == "unload 2"


def test_an_agent_called_back_does_not_hold_up_those_behind_it() -> None:
    room = House(2).rest(1)
    room.evict(1)
    room.summon(1)
    assert room.summon(2) == ["load 2"]


def test_an_agent_called_back_in_vain_leaves_its_place_to_others() -> None:
    room = House(1).rest(1)
    room.evict(1)
    room.summon(1)
    assert room.summon(2) == []
    assert room.dismiss(1) == []
    assert room.ended(1) == ["left 1.1 evicted", "user 5: evicted", "load 2"]
    assert room.stage(1) == "absent"


# Giving up


def test_dismissed_work_that_waits_for_room_is_never_loaded() -> None:  # scenario 31
    room = House(1).busy(1)
    room.summon(2)
    assert room.dismiss(2) == []
    assert room.stage(2) == "absent"
    assert room.idle(1) == []


def test_a_load_that_has_begun_goes_on_without_the_dismissed_work() -> None:
    room = House(1)
    room.summon(1)
    room.dismiss(1)
    assert room.loaded(1) == ["entered 1.1", "start 1.1"]


def test_a_resident_whose_work_is_dismissed_is_told_and_is_busy_until_it_says_it_is_idle() -> None:
    room = House(1).busy(1)
    room.summon(2)
    assert room.dismiss(1) == ["rest 1"]
    assert room.stage(1) == "open"
    assert room.idle(1)[0] == "unload 1"


def test_dismissing_an_unknown_agent_changes_nothing() -> None:
    room = House(1)
    assert room.dismiss(2) == []
    assert room.dismiss(2, gone=True) == []


def test_a_closed_agent_that_waits_or_loads_is_forgotten_at_once() -> None:
    room = House(1)
    room.summon(1)
    room.summon(2)
    room.summon(3)
    assert room.dismiss(2, gone=True) == []
    assert room.dismiss(1, gone=True) == ["load 3"]


def test_a_closed_agent_is_unloaded_whatever_it_does() -> None:
    room = House(4).rest(1).busy(2, 3)
    room.waits(3)
    room.summon(4)
    room.loaded(4)
    for n in (1, 2, 3, 4):
        assert room.dismiss(n, gone=True)[0] == f"unload {n} gone"
        assert room.dismiss(n, gone=True) == []
    assert room.ended(2, seen=0) == ["left 2.1"]
    assert room.describe().evictions == 0


def test_a_closed_agent_that_unloads_is_not_loaded_again() -> None:
    room = House(1).rest(1)
    room.evict(1)
    room.summon(1)
    room.dismiss(1, gone=True)
    assert room.ended(1) == ["left 1.1", "user 5: evicted"]


# Sessions that end by themselves


def test_a_session_that_cannot_be_opened_is_not_started_again_by_itself() -> None:
    room = House(1)
    room.summon(1)
    room.summon(2)
    room.loaded(1)
    assert room.ended(1, seen=1) == ["left 1.1", "load 2"]
    assert room.stage(1) == "absent"


def test_a_summons_that_came_after_the_failed_opening_starts_another_session() -> None:
    room = House(1)
    room.summon(1)
    room.loaded(1)
    room.summon(1)
    assert room.ended(1, seen=1) == ["left 1.1", "load 1"]
    assert room.loaded(1) == ["entered 1.2", "start 1.2 with work"]


def test_a_crashed_session_frees_its_room_and_its_slot() -> None:  # scenario 13
    room = House(1).busy(1)
    room.summon(2)
    assert room.lost(1) == ["end holder 1.1", "left 1.1 crashed", "load 2"]


def test_a_victim_that_crashes_is_a_victim_that_ended() -> None:
    room = House(1).rest(1)
    room.summon(2)
    assert room.lost(1) == ["end holder 1.1", "left 1.1 crashed evicted", "load 2"]


def test_the_exit_of_a_session_that_ended_in_order_changes_nothing() -> None:
    room = House(1).rest(1)
    room.evict(1)
    room.ended(1)
    assert room.lost(1) == []


def test_late_news_of_an_older_incarnation_changes_nothing() -> None:  # G6
    room = House(1).busy(1)
    room.lost(1)
    room.busy(1)
    before = room.describe(1)
    assert room.opened(1, of=1) == []
    assert room.waits(1, of=1) == []
    assert room.idle(1, seen=9, of=1) == []
    assert room.ended(1, seen=0, of=1) == []
    assert room.lost(1, of=1) == []
    assert room.patience_ended() == []
    assert room.describe(1) == before


# Pins and evictions on request


def test_a_pinned_resident_is_never_a_victim_until_unpinned() -> None:
    room = House(1).rest(1)
    assert room.pin(1) == ["user 6: done"]
    assert room.summon(2) == ["ask first 1"]
    assert room.describe(2).agents[0].kept_by == ("/t/1",)
    assert room.stage(2) == "waiting", "nothing gives way to pins"
    assert room.pin(1, pinned=False) == ["user 6: done", "unload 1", "patience 1.0"]


def test_a_pin_of_an_absent_agent_holds_when_it_comes_and_does_not_load_it() -> None:
    room = House(1)
    assert room.pin(1) == ["user 6: done"]
    assert room.describe(1).agents == (Residence(AgentId(1), "absent", pinned=True),)
    room.rest(1)
    room.summon(2)
    assert room.stage(2) == "waiting"


def test_an_eviction_on_request_is_answered_when_the_agent_is_out() -> None:
    room = House(2).rest(1)
    assert room.evict(1, 5) == ["unload 1", "patience 1.0"]
    assert room.evict(1, 6) == []
    assert room.ended(1) == ["left 1.1 evicted", "user 5: evicted", "user 6: evicted"]
    assert room.describe().evictions == 1


def test_an_eviction_is_answered_once_also_when_the_agent_was_called_back() -> None:
    room = House(1).rest(1)
    room.evict(1, 5)
    room.summon(1)
    assert room.ended(1) == ["left 1.1 evicted", "user 5: evicted", "load 1"]
    room.loaded(1)
    room.opened(1)
    room.idle(1)
    room.evict(1, 6)
    assert room.ended(1) == ["left 1.2 evicted", "user 6: evicted"]


def test_an_agent_that_cannot_leave_is_not_evicted_on_request() -> None:
    room = House(4).rest(1).busy(2)
    room.pin(1)
    room.summon(3)
    room.summon(4)
    room.loaded(4)
    for n in (1, 2, 3, 4, 99):
        assert room.evict(n) == ["user 5: not evicted"]


# Turns that wait


def test_a_turn_that_waits_leaves_its_place_to_others_and_gets_one_again() -> None:
    room = House(1).busy(1)
    room.summon(2)
    assert room.waits(1) == ["load 2"]
    room.loaded(2)
    room.opened(2)
    assert (room.describe().resident, room.describe().in_wait) == (1, 1)
    assert room.returns(1) == ["ask first 2"]
    assert room.describe(1).agents[0].place == 0
    assert room.idle(2) == ["unload 2", "patience 1.0"]
    assert room.ended(2) == ["left 2.1 evicted", "room 1.1"]
    assert (room.describe().resident, room.describe().in_wait) == (1, 0)


def test_a_turn_that_waits_is_placed_at_once_where_there_is_room() -> None:
    room = House(1).busy(1)
    room.waits(1)
    assert room.returns(1, 7) == ["room 1.7"]


def test_a_tree_of_any_depth_completes_with_one_resident() -> None:  # scenario 11
    room = House(1).busy(1)
    for child in range(2, 6):
        room.summon(child)
        assert room.waits(child - 1) == [f"load {child}"]
        room.loaded(child)
        room.opened(child)
    assert (room.describe().in_wait, room.describe().resident) == (4, 1)
    for child in range(5, 1, -1):
        room.returns(child - 1)
        assert room.idle(child)[0] == f"unload {child}"
        assert room.ended(child) == [f"left {child}.1 evicted", f"room {child - 1}.1"]
    assert (room.describe().in_wait, room.describe().resident) == (0, 1)


def test_a_turn_that_has_waited_comes_before_what_is_new_and_continuations_of_its_tree() -> None:
    room = House(1).busy(1)
    room.summon(2)
    room.waits(1)
    room.loaded(2)
    for n in (3, 4, 5):
        room.summon(n)
    room.returns(1)
    room.summon(6, goes_on=True)
    assert [each.place for each in room.describe(1, 6, 3).agents] == [0, 1, 2]


def test_a_turn_that_waits_again_before_it_is_placed_wants_no_place() -> None:
    room = House(1).busy(1)
    room.waits(1)
    room.busy(2)
    room.returns(1, 1)
    assert room.waits(1) == []
    assert room.describe().waiting == 0
    assert room.idle(2) == []
    assert room.returns(1, 2) == ["unload 2", "patience 1.0"]


def test_a_turn_that_waits_again_as_it_is_placed_gives_its_place_back() -> None:
    room = House(1).busy(1)
    room.waits(1)
    assert room.returns(1) == ["room 1.1"]
    room.summon(2)
    assert room.waits(1) == ["load 2"]


def test_who_ends_its_turn_while_it_waits_has_a_place_only_if_one_is_free() -> None:
    room = House(1).busy(1)
    room.waits(1)
    assert room.idle(1) == []
    assert room.describe(1).agents == (Residence(AgentId(1), "open", Incarnation(1), True, since=0),)
    room.summon(1)
    room.waits(1)
    room.busy(2)
    assert room.idle(1, seen=2) == ["unload 1", "patience 1.0"]
    assert room.ended(1) == ["left 1.1 evicted"]
    assert room.describe().resident == 1


def test_its_place_is_not_one_that_somebody_gets() -> None:
    room = House(1).busy(1)
    room.waits(1)
    room.busy(2)
    room.idle(1)
    assert room.summon(3) == ["ask first 2"]
    assert room.ended(1) == ["left 1.1 evicted"]
    assert room.stage(3) == "waiting"
    assert room.idle(2) == ["unload 2"]


def test_one_that_is_called_back_when_it_leaves_without_a_place_waits_like_others() -> None:
    room = House(1).busy(1)
    room.waits(1)
    room.busy(2)
    room.idle(1)
    assert room.summon(1) == []
    assert room.describe().waiting == 0
    assert room.ended(1) == ["left 1.1 evicted", "ask first 2"]
    assert room.idle(2) == ["unload 2"]
    assert room.ended(2) == ["left 2.1 evicted", "load 1"]


def test_who_ends_its_turn_while_it_waits_and_is_pinned_stays() -> None:
    room = House(1).busy(1)
    room.waits(1)
    room.busy(2)
    room.pin(1)
    room.idle(1)
    assert (room.describe().resident, room.describe().in_wait) == (1, 1)
    assert room.idle(2) == ["unload 2", "patience 1.0"]
    assert room.ended(2) == ["left 2.1 evicted"]
    assert (room.describe().resident, room.describe().in_wait) == (1, 0)
    assert room.describe(1).agents[0].idle


def test_it_comes_with_new_work_behind_those_that_waited_before_that_work() -> None:
    room = House(1).busy(1)
    room.waits(1)
    room.busy(2)
    room.pin(1)
    room.idle(1)  # without work it is only to be counted, and that comes first
    assert room.summon(3) == []
    assert room.summon(1) == ["work 1"]
    assert room.describe().waiting == 1
    assert room.asks(1) == []
    assert room.idle(2) == ["unload 2", "patience 1.0"]
    assert room.ended(2) == ["left 2.1 evicted", "load 3"]


def test_who_goes_on_asks_again_if_others_came_while_it_waited_for_its_place() -> None:
    room = House(1).busy(1)
    room.waits(1)
    room.pin(1)
    room.busy(2)
    assert room.asks(1) == ["ask first 1", "ask first 2"]
    assert room.summon(3) == []
    assert room.idle(2) == ["unload 2", "patience 1.0"]
    assert room.ended(2) == ["left 2.1 evicted", "go on 1 and ask again"]


def test_unpinned_it_leaves_if_it_still_has_no_place() -> None:
    room = House(1).busy(1)
    room.waits(1)
    room.busy(2)
    room.pin(1)
    room.idle(1)
    assert room.pin(1, pinned=False) == ["user 6: done", "unload 1", "patience 1.0"]
    assert room.describe().waiting == 0


def test_a_closed_agent_whose_turn_waits_frees_no_place() -> None:
    room = House(1).busy(1)
    room.waits(1)
    room.busy(2)
    room.returns(1)
    assert room.dismiss(1, gone=True)[0] == "unload 1 gone"
    assert room.summon(3) == []
    assert room.ended(1) == ["left 1.1"]
    assert room.stage(3) == "waiting"


def test_a_session_that_crashes_while_its_turn_waits_leaves_nothing() -> None:
    room = House(1).busy(1)
    room.waits(1)
    room.busy(2)
    room.returns(1)
    assert room.lost(1) == ["end holder 1.1", "left 1.1 crashed"]
    assert (room.describe().waiting, room.describe().in_wait, room.describe().resident) == (0, 0, 1)


# Sharing a place


def test_while_nobody_waits_for_room_nobody_asks() -> None:
    room = House(2).busy(1)
    assert room.summon(1) == ["work 1"]
    assert room.summon(2) == ["load 2"]


def test_who_has_had_its_share_gives_way_to_who_waits_for_room_and_comes_back() -> None:
    room = House(1).busy(1)
    assert room.summon(2, tree="other") == ["ask first 1"]
    room.now = SHARE / 2
    assert room.asks(1) == ["go on 1 and ask again"]
    room.now = SHARE
    assert room.asks(1) == ["unload 1", "patience 1.0"]
    assert room.ended(1) == ["left 1.1 evicted", "load 2"]
    assert room.loaded(2) == ["entered 2.1", "start 2.1 with work, ask first"]
    room.opened(2)
    room.now = 2 * SHARE
    assert room.asks(2) == ["unload 2"]
    assert room.ended(2) == ["left 2.1 evicted", "load 1"]
    assert room.loaded(1) == ["entered 1.2", "start 1.2 with work, ask first"]


def test_who_asks_when_nobody_waits_any_more_goes_on_and_need_not_ask_again() -> None:
    room = House(1).busy(1)
    room.summon(2)
    room.dismiss(2)
    room.now = 10 * SHARE
    assert room.asks(1) == ["go on 1"]
    assert room.summon(2) == ["ask first 1"]


def test_who_is_pinned_keeps_its_place() -> None:
    room = House(1).busy(1)
    room.pin(1)
    room.summon(2)
    room.now = 10 * SHARE
    assert room.asks(1) == ["go on 1 and ask again"]


def test_work_that_was_dismissed_while_it_asked_is_not_loaded_for() -> None:
    room = House(1).busy(1)
    room.summon(2)
    room.now = SHARE
    room.dismiss(1)
    assert room.asks(1) == ["unload 1", "patience 1.0"]
    assert room.ended(1) == ["left 1.1 evicted", "load 2"]
    assert room.stage(1) == "absent"


def test_who_asks_without_a_place_goes_on_only_if_one_is_free() -> None:
    room = House(1).busy(1)
    room.waits(1)
    assert room.asks(1) == ["go on 1"]
    room.waits(1)
    room.busy(2)
    assert room.asks(1, goes_on=True) == ["unload 1", "patience 1.0"]
    assert room.ended(1) == ["left 1.1 evicted", "ask first 2"]
    assert room.idle(2) == ["unload 2"]
    assert room.ended(2) == ["left 2.1 evicted", "load 1"]
    assert room.loaded(1) == ["entered 1.2", "start 1.2 to go on"]


@pytest.mark.parametrize("residents", [1, 4])
def test_one_run_of_an_idle_tree_gets_room_with_the_second_place_that_becomes_free(residents: int) -> None:
    room = House(residents).busy(*range(residents))
    for n in range(100, 400):
        room.summon(n, tree="many")
    room.idle(0)
    assert room.ended(0)[-1] == "load 100"
    room.summon(7, tree="one")
    assert room.describe(7).agents[0].place <= 1


# Closing, and questions


def test_all_sessions_end_and_nobody_is_admitted_when_the_runtime_closes() -> None:
    room = House(4).rest(1).busy(2, 3)
    room.summon(4)
    room.summon(5)
    room.ended(1)
    assert room.unload_all() == ["unload 2", "unload 3"]
    assert room.summon(6) == []
    assert room.summon(2) == []
    assert room.loaded(4) == []
    assert room.ended(2, seen=0) == ["left 2.1"]
    assert room.ended(3) == ["left 3.1", "supervisor: all unloaded"]
    assert room.describe().evictions == 1


def test_many_that_wait_are_forgotten_in_portions_and_none_is_admitted_meanwhile() -> None:
    room = House(1).busy(0)
    for n in range(1, 2 * unloading.UNLOADS_IN_PORTION):
        room.summon(n)
    assert room.unload_all() == ["unload 0", "more"]
    assert len(room.table.entries) == unloading.UNLOADS_IN_PORTION + 1, "0 unloads"
    assert room.ended(0) == ["left 0.1"], "its place is for nobody, and not all are looked at"
    assert room.unload_more() == ["supervisor: all unloaded"]
    assert not room.table.entries


def test_with_nobody_in_memory_all_is_unloaded_at_once() -> None:
    room = House(1)
    room.summon(1)
    assert room.unload_all() == ["supervisor: all unloaded"]


def test_an_agent_called_back_stays_out_when_the_runtime_closes() -> None:
    room = House(1).rest(1)
    room.evict(1)
    room.summon(1)
    assert room.unload_all() == []
    assert room.ended(1) == [
        "left 1.1 evicted",
        "user 5: evicted",
        "supervisor: all unloaded",
    ]


def test_a_report_says_what_an_agent_waits_for_since_when_and_who_holds_it() -> None:  # scenario 14
    room = House(2).busy(1).rest(2)
    room.pin(2)
    room.now = 3.0
    room.summon(3)
    room.now = 4.0
    room.summon(4)
    report = room.describe(4, 1)
    assert replace(report, agents=()) == ResidencyReport(
        7, residents=2, resident=2, in_wait=0, waiting=2, evictions=0, reloads=0
    )
    assert report.agents == (
        Residence(AgentId(4), "waiting", place=1, since=4.0, kept_by=("/t/1", "/t/2")),
        Residence(AgentId(1), "open", Incarnation(1), since=0.0),
    )


def test_a_report_names_at_most_ten_that_cannot_leave() -> None:
    room = House(50).busy(*range(1, 51))
    room.summon(51)
    assert len(room.describe(51).agents[0].kept_by) == 10


def test_nothing_is_kept_of_an_agent_that_is_gone() -> None:
    room = House(1)
    for n in range(1, 50):
        room.rest(n)
        room.evict(n)
        room.ended(n)
    table, lru = room.table, room.table.lru
    kept = [*table.entries, *table.residents, *table.away, *table.unasked, *table.loads]
    assert len(table.queue) == 0
    assert [*kept, *lru._idle, *lru._kept, *lru._pins] == []
