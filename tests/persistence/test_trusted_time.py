"""The time that retention goes by: no jump of the wall clock takes anything before it has lasted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import Retention
from greenroom.actors.effects import Send
from greenroom.actors.storage.protocol import CloseStore, OpenStore, WriteBatch
from greenroom.actors.storage.writer import PersistenceActor
from greenroom.persistence.lease import this_process
from greenroom.persistence.lease_rules import Instant, Owner, Process
from greenroom.persistence.records import AddEvent
from greenroom.persistence.rows import EventRow
from greenroom.persistence.trusted_time import LASTING, TrustedTime, last_known

DAY = 86_400.0
BEGIN = Instant(1e9, 100.0)


def after(seconds: float, off: float = 0.0) -> Instant:
    """So many seconds later, with the wall clock so far off."""
    return Instant(BEGIN.wall + seconds + off, BEGIN.uptime + seconds)


def test_a_clock_that_goes_on_is_followed() -> None:
    time = TrustedTime(BEGIN)
    assert [time.at(after(s)) - BEGIN.wall for s in (0, 2, 5_000, 9e6)] == [0, 2, 5_000, 9e6]


def test_a_drift_is_followed() -> None:
    time = TrustedTime(BEGIN)
    for n in range(1, 100):
        now = after(60.0 * n, off=30.0 * n)  # half a minute in each
        assert time.at(now) == now.wall


def test_a_jump_forward_that_goes_back_was_none() -> None:
    time = TrustedTime(BEGIN)
    assert time.at(after(10, off=40 * DAY)) == BEGIN.wall + 10
    assert time.at(after(13, off=40 * DAY)) == BEGIN.wall + 13
    assert time.at(after(20)) == BEGIN.wall + 20


def test_a_jump_forward_that_lasts_is_believed() -> None:
    time = TrustedTime(BEGIN)
    assert time.at(after(10, off=40 * DAY)) == BEGIN.wall + 10
    assert time.at(after(LASTING + 9, off=40 * DAY)) == BEGIN.wall + LASTING + 9
    assert time.at(after(LASTING + 10, off=40 * DAY)) == BEGIN.wall + LASTING + 10 + 40 * DAY


def test_a_clock_that_jumps_about_is_never_believed() -> None:
    time = TrustedTime(BEGIN)
    for n in range(1, 50):
        assert time.at(after(n * 600.0, off=n * DAY)) == BEGIN.wall + n * 600.0


def test_a_clock_that_is_set_back_is_followed_at_once() -> None:
    """Nothing goes too early for it."""
    time = TrustedTime(BEGIN)
    assert time.at(after(10, off=-40 * DAY)) == BEGIN.wall + 10 - 40 * DAY
    assert time.at(after(20)) == BEGIN.wall + 20
    time.at(after(30, off=-40 * DAY))
    late = after(LASTING + 100, off=-40 * DAY)
    assert time.at(late) == late.wall  # from here on forward again is a jump
    assert time.at(after(LASTING + 110)) == late.wall + 10


offs = st.sampled_from([0.0, 0.0, DAY, 40 * DAY, -DAY])


@given(st.lists(st.tuples(st.floats(0.1, LASTING / 3), offs), max_size=40))
def test_it_is_the_earlier_of_what_is_shown_and_what_was_shown_for_an_hour(
    steps: list[tuple[float, float]],
) -> None:
    time, seconds = TrustedTime(BEGIN), 0.0
    believed = shown = since = 0.0
    for passed, off in steps:
        seconds += passed
        if off != shown:
            shown, since = off, seconds
        if seconds - since >= LASTING:
            believed = off
        assert time.at(after(seconds, off)) == pytest.approx(BEGIN.wall + seconds + min(off, believed))


def owner(process: Process, heartbeat: Instant) -> Owner:
    return Owner(process, 1, 10.0, heartbeat, True)


def test_a_stop_on_a_running_system_is_told_from_a_jump() -> None:
    me = this_process()
    before = owner(me, BEGIN)
    assert TrustedTime(last_known(before, me, after(9_000))).at(after(9_000)) == BEGIN.wall + 9_000
    jumped = after(9_000, off=40 * DAY)
    assert TrustedTime(last_known(before, me, jumped)).at(jumped) == BEGIN.wall + 9_000


@pytest.mark.parametrize("uptime", [5.0, 500.0])
def test_a_stop_over_a_restart_of_the_machine_counts_when_it_has_lasted(uptime: float) -> None:
    me = this_process()
    before = owner(Process(me.host, "another boot", "", 7, 7), BEGIN)
    now = Instant(BEGIN.wall + 40 * DAY, uptime)
    time = TrustedTime(last_known(before, me, now))
    assert time.at(now) == BEGIN.wall
    assert time.at(Instant(now.wall + LASTING, uptime + LASTING)) == now.wall + LASTING


# The actor


class Desk(PersistenceActor):
    myAddress = "the writer"  # noqa: N815


@pytest.fixture
def writer() -> Iterator[Desk]:
    actor = Desk()
    yield actor
    actor.close()


def pruned(writer: Desk, *commands: object) -> int:
    """Let it do all that it wants to, after some commands; how many events are left."""
    own: list[Any] = [effect for command in commands for effect in writer.decide(command, "me")]
    own += writer.untidy()
    while own:
        effect = own.pop()
        if isinstance(effect, Send) and effect.to == "the writer":
            own += writer.decide(effect.message, "the writer")
    assert writer.store is not None
    found: int = writer.store._connection.execute("SELECT count(*) FROM events").fetchone()[0]
    return found


def test_forty_days_for_three_seconds_prune_nothing_and_for_an_hour_they_do(
    writer: Desk, tmp_path: Path
) -> None:
    off = seconds = 0.0
    writer.clock = lambda: BEGIN.wall + seconds + off
    writer.uptime = lambda: BEGIN.uptime + seconds
    pruned(writer, OpenStore(str(tmp_path / "a.db"), "process", None, Retention()))
    events = tuple(AddEvent(EventRow(n, BEGIN.wall, "run.progress", "/t/a")) for n in range(1, 9))
    pruned(writer, WriteBatch(1, events))
    for seconds, off, left in (
        (100.0, 40 * DAY, 8),
        (103.0, 0.0, 8),
        (200.0, -40 * DAY, 8),
        (300.0, 0.0, 8),
        (400.0, 40 * DAY, 8),
        (500.0, 40 * DAY, 8),
        (400.0 + LASTING, 40 * DAY, 0),
    ):
        assert pruned(writer) == left, (seconds, off)
    list(writer.decide(CloseStore(), "me"))
