"""The table of processes, driven by hand: lists of effects, no process, no clock."""

import signal
from typing import Any

import pytest

from greenroom.actors.effects import Send, StartTimer
from greenroom.actors.processes import orphan_records
from greenroom.actors.processes.entry import EndDeadline, LookAgain, Say
from greenroom.actors.processes.protocol import (
    AllProcessesEnded,
    CloseStreams,
    ConfigureProcesses,
    DescribePermits,
    DismissReaper,
    EndOrphans,
    EndProcess,
    Failed,
    Forked,
    ForkProcess,
    LiftStartBarrier,
    OrphansEnded,
    PermitsReport,
    PermitWanted,
    ProcessExited,
    ProcessGone,
    ProcessRefused,
    ProcessStarted,
    ProgramToStart,
    ReaperLost,
    SetProcessIdle,
    SignalProcess,
    StartProcess,
)
from greenroom.actors.processes.records import WriteAgain
from greenroom.actors.processes.table import ProcessTable
from greenroom.actors.storage.protocol import KeepProcesses, ProcessesKept
from greenroom.errors import RuntimeClosing, StoreError
from greenroom.persistence.lease_rules import LEASE_SECONDS, Instant, Owner, Process
from greenroom.persistence.processes import ProcessRow

ME = Process("host", "boot", "pid:[1]", 100, 1000)
NOW = Instant(10_000.0, 500.0)
PROGRAM = ProgramToStart(("secret-program",), {"KEY": "hunter2"}, None, {})


def table(*left: Any) -> ProcessTable:
    made = ProcessTable()
    made.configure(ConfigureProcesses(5, "store", tuple(left)), ME, "token", "8:15")
    return made


def left_over(number: int, agent_id: int) -> ProcessRow:
    process = Process("host", "boot", "pid:[1]", 300 + number, 3000)
    return ProcessRow(
        number,
        agent_id,
        1,
        f"/t/{agent_id}",
        "kind",
        process,
        Owner(ME, 4, LEASE_SECONDS, NOW, False),
        "tokentoken",
        "8:15",
    )


def ask(number: int, agent_id: int = 1, **options: Any) -> StartProcess:
    key = (agent_id, 1, number)
    return StartProcess(key, f"session-{agent_id}", f"/t/{agent_id}", "kind", PROGRAM, (3, 4, 5), **options)


def of(effects: list[Any], kind: type) -> list[Any]:
    """Effects of a kind, and messages of it, without their timers."""
    direct = [effect for effect in effects if isinstance(effect, kind)]
    return direct + [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


def started(made: ProcessTable, request: StartProcess) -> int:
    """Take a process through all steps until it runs; its number."""
    (fork,) = of(made.start(request, 0.0), ForkProcess)
    return run(made, fork.number)


def run(made: ProcessTable, number: int) -> int:
    (keep,) = of(made.forked(Forked(number, 1000 + number, 77), NOW), KeepProcesses)
    assert of(made.kept(ProcessesKept(keep.number)), LiftStartBarrier) == [LiftStartBarrier(number)]
    assert of(made.running(number), ProcessStarted)
    return number


def written(made: ProcessTable, effects: list[Any]) -> list[Any]:
    """Have what was handed to the writer be written; what follows."""
    (keep,) = of(effects, KeepProcesses)
    return made.kept(ProcessesKept(keep.number))


def test_nothing_is_executed_before_it_is_recorded() -> None:
    made = table()
    (fork,) = of(made.start(ask(1), 0.0), ForkProcess)
    assert fork.mark == "token.1"
    effects = made.forked(Forked(1, 1234, 77), NOW)
    (keep,) = of(effects, KeepProcesses)
    assert not of(effects, LiftStartBarrier)
    (row,) = keep.add
    assert (row.process.pid, row.process.started, row.owner.process, row.owner.epoch) == (1234, 77, ME, 5)
    assert made.kept(ProcessesKept(keep.number)) == [LiftStartBarrier(1)]
    assert made.running(1) == [Send("session-1", ProcessStarted((1, 1, 1), 1234))]


def test_a_record_that_cannot_be_written_is_tried_again_and_the_gate_stays_closed() -> None:
    made = table()
    made.start(ask(1), 0.0)
    (keep,) = of(made.forked(Forked(1, 1234, 77), NOW), KeepProcesses)
    again = made.kept(ProcessesKept(keep.number, StoreError("s", "the disk is full")))
    assert again == [StartTimer(0.2, WriteAgain())]
    (keep,) = of(made.write_again(), KeepProcesses)
    assert len(keep.add) == 1
    assert made.kept(ProcessesKept(keep.number)) == [LiftStartBarrier(1)]


def test_a_store_that_was_lost_has_nothing_started_any_more() -> None:
    made = table()
    made.start(ask(1), 0.0)
    (keep,) = of(made.forked(Forked(1, 1234, 77), NOW), KeepProcesses)
    effects = made.kept(ProcessesKept(keep.number, StoreError("s", "lost"), True))
    assert of(effects, ProcessRefused)
    assert of(effects, SignalProcess) == [SignalProcess(1, signal.SIGKILL)]
    assert of(made.start(ask(2), 0.0), ProcessRefused)
    assert of(made.start(ask(3), 0.0), CloseStreams)
    made.end_all("supervisor")
    made.exited(1, -9)
    assert of(made.gone(1), DismissReaper)  # without a word to the store


def test_a_process_that_ends_frees_its_place_then_its_record_goes() -> None:
    made = table()
    started(made, ask(1, 1, places=1))
    assert not of(made.start(ask(2, 2, places=1), 0.0), ForkProcess)
    effects = made.exited(1, 3)
    assert of(effects, ProcessExited) == [ProcessExited((1, 1, 1), 3)]
    assert of(effects, SignalProcess) == [SignalProcess(1, signal.SIGTERM)]  # what it left behind
    effects = made.gone(1)
    assert [fork.number for fork in of(effects, ForkProcess)] == [2]
    (keep,) = of(effects, KeepProcesses)
    assert keep.drop == (1,)


def test_ending_is_asked_for_then_enforced_then_complained_of() -> None:
    made = table()
    number = started(made, ask(1))
    effects = made.end(EndProcess((1, 1, 1), "session-1"))
    assert effects == [SignalProcess(number, signal.SIGTERM), StartTimer(2.0, EndDeadline(number, 1))]
    assert made.end(EndProcess((1, 1, 1), "session-1")) == []
    effects = made.time_is_up(EndDeadline(number, 1))
    assert effects == [SignalProcess(number, signal.SIGKILL), StartTimer(4.0, EndDeadline(number, 2))]
    assert made.time_is_up(EndDeadline(number, 1)) == []  # late
    assert of(made.time_is_up(EndDeadline(number, 2)), Say)
    assert of(made.gone(number), ProcessGone) == [ProcessGone((1, 1, 1)), ProcessGone((1, 1, 1))]


@pytest.mark.parametrize("stage", ["queued", "forking", "recording", "opening"])
def test_what_is_not_wanted_any_more_is_never_executed(stage: str) -> None:
    made = table()
    number = started(made, ask(9, 9, places=1)) if stage == "queued" else 0
    made.start(ask(1, places=1), 0.0)
    number += 1
    if stage in ("recording", "opening"):
        (keep,) = of(made.forked(Forked(number, 1234, 77), NOW), KeepProcesses)
    if stage == "opening":
        made.kept(ProcessesKept(keep.number))
    effects = made.end(EndProcess((1, 1, 1), "session-1"))
    match stage:
        case "queued":
            assert of(effects, CloseStreams)
            assert of(effects, ProcessGone)
        case "forking":
            effects = made.forked(Forked(number, 1234, 77), NOW)
            assert effects == [
                SignalProcess(number, signal.SIGKILL),
                StartTimer(2.0, EndDeadline(number, 1)),
            ]
            assert of(made.time_is_up(EndDeadline(number, 1)), SignalProcess)  # again, should that not help
        case "recording":
            assert of(effects, SignalProcess) == [SignalProcess(number, signal.SIGKILL)]
            assert not of(made.kept(ProcessesKept(keep.number)), LiftStartBarrier)
        case "opening":
            assert of(effects, SignalProcess) == [SignalProcess(number, signal.SIGTERM)]
    if stage != "queued":
        made.exited(number, -9)
        assert of(made.gone(number), ProcessGone) == [ProcessGone((1, 1, 1))]


def test_one_that_cannot_be_executed_is_refused_once() -> None:
    made = table()
    made.start(ask(1), 0.0)
    (keep,) = of(made.forked(Forked(1, 1234, 77), NOW), KeepProcesses)
    made.kept(ProcessesKept(keep.number))
    (refused,) = of(made.failed(Failed(1, "no such file")), ProcessRefused)
    assert str(refused.error) == "no such file"
    assert not of(made.exited(1, 127), ProcessRefused)
    assert not of(made.gone(1), ProcessRefused)


def test_the_end_of_a_session_ends_its_own_alone() -> None:
    made = table()
    mine, other = started(made, ask(1, 1)), started(made, ask(2, 2))
    effects = made.end_session(1, 1)
    assert [effect.number for effect in of(effects, SignalProcess)] == [mine]
    assert made.end_session(1, 2) == []  # a later one has none
    assert other != mine


def test_a_place_is_asked_of_the_one_that_has_been_idle_longest() -> None:
    made = table()
    started(made, ask(1, 1, places=2))
    started(made, ask(2, 2, places=2))
    made.rest(SetProcessIdle((2, 1, 2), True))
    made.rest(SetProcessIdle((1, 1, 1), True))
    effects = made.start(ask(3, 3, places=2), 0.0)
    assert effects == [Send("session-2", PermitWanted((2, 1, 2)))]
    assert made.rest(SetProcessIdle((2, 1, 2), False)) == [Send("session-1", PermitWanted((1, 1, 1)))]


def test_who_does_not_want_to_wait_is_told_that_all_places_are_taken() -> None:
    made = table()
    started(made, ask(1, 1, places=1))
    effects = made.start(ask(2, 2, places=1, wait=False), 0.0)
    (refused,) = of(effects, ProcessRefused)
    assert refused.full
    assert of(effects, CloseStreams)


def test_who_waits_for_a_place_is_told_by_whom_and_since_when() -> None:
    made = table(left_over(1, 9))
    busy = [started(made, ask(n, n, places=2)) for n in (1, 2)]
    made.start(ask(3, 3, places=2), 7.0)
    made.start(ask(4, 4, places=2), 8.0)
    made.start(ask(9, 9, places=2), 9.0)

    def told(agent_id: int) -> PermitsReport:
        (send,) = made.describe(DescribePermits("q", "caller", agent_id))  # type: ignore[arg-type]
        assert isinstance(send, Send)
        assert send.to == "caller"
        assert isinstance(send.message, PermitsReport)
        return send.message

    assert told(4) == PermitsReport("q", 2, 1, 8.0, ("/t/1", "/t/2"))  # type: ignore[arg-type]
    assert told(9) == PermitsReport("q", since=9.0, haunted=True)  # type: ignore[arg-type]
    assert told(1) == told(77) == PermitsReport("q")  # type: ignore[arg-type]
    made.exited(busy[0], 0)
    made.gone(busy[0])
    assert told(3) == PermitsReport("q")  # type: ignore[arg-type]
    assert told(4).place == 0


def test_what_a_dead_owner_left_is_ended_before_its_agent_starts_anything() -> None:
    made = ProcessTable()
    told = ConfigureProcesses(5, "store", (left_over(3, 1), left_over(4, 2)))
    assert made.configure(told, ME, "token", "8:15") == [EndOrphans(told.left)]
    assert made.start(ask(1, 1), 0.0) == []
    assert of(made.start(ask(1, 7), 0.0), ForkProcess)  # others are not held up
    effects = orphan_records.left_ended(made, OrphansEnded({3: "there"}, {4: "it cannot be ended"}))
    assert len(of(effects, ForkProcess)) == 1
    assert of(effects, KeepProcesses)[0].drop == (3,)
    assert StartTimer(1.0, LookAgain()) in effects
    assert any(say.grave for say in of(effects, Say))
    assert orphan_records.look_again(made) == [EndOrphans((left_over(4, 2),))]
    assert made.start(ask(1, 2), 0.0) == []  # its past is still there
    assert of(made.start(ask(2, 2, wait=False), 0.0), ProcessRefused)


def test_what_is_spared_stays_until_its_agent_is_deleted() -> None:
    made = table(left_over(3, 1))
    effects = orphan_records.left_ended(made, OrphansEnded({3: "spared"}, {}))
    assert not of(effects, KeepProcesses)
    assert of(made.start(ask(1, 1), 0.0), ForkProcess)
    assert made.end_erased([2]) == []
    assert of(made.end_erased([1]), EndOrphans) == [EndOrphans((left_over(3, 1),), owned=True)]
    effects = orphan_records.left_ended(made, OrphansEnded({3: "there"}, {}))
    assert of(effects, KeepProcesses)[0].drop == (3,)


def test_what_was_deleted_is_ended_again_whoever_owns_it() -> None:
    made = table(left_over(3, 1), left_over(4, 2))
    assert made.end_erased([1]) == [EndOrphans((left_over(3, 1),), owned=True)]
    orphan_records.left_ended(
        made, OrphansEnded({3: "spared", 4: "spared"}, {})
    )  # of the look at the start
    orphan_records.left_ended(made, OrphansEnded({}, {3: "it cannot be ended"}))
    assert orphan_records.look_again(made) == [EndOrphans((left_over(3, 1),), owned=True)]
    assert of(orphan_records.left_ended(made, OrphansEnded({3: "there"}, {})), KeepProcesses)[0].drop == (
        3,
    )
    assert orphan_records.look_again(made) == []


def test_without_its_warden_everything_is_looked_for_by_what_is_known_of_it() -> None:
    made = table()
    running = started(made, ask(1, 1))
    made.start(ask(2, 2), 0.0)  # it is being forked
    effects = made.warden_lost(ReaperLost((running, 2)))
    assert of(effects, ProcessExited) == [ProcessExited((1, 1, 1), None)]
    assert of(effects, ProcessRefused)[0].request == (2, 1, 2)
    (look,) = of(effects, EndOrphans)
    assert [row.number for row in look.rows] == [running]
    assert look.owned
    assert any(say.grave for say in of(effects, Say))
    effects = orphan_records.left_ended(made, OrphansEnded({running: "there"}, {}))
    assert of(effects, KeepProcesses)[0].drop == (running,)


def test_the_news_of_a_lost_warden_is_not_about_those_of_the_next_one() -> None:
    """It waited behind a start, for which there was another reaper by then."""
    made = table()
    lost = started(made, ask(1, 1))
    (fork,) = of(made.start(ask(2, 2), 0.0), ForkProcess)
    effects = made.warden_lost(ReaperLost((lost,)))
    assert of(effects, ProcessExited) == [ProcessExited((1, 1, 1), None)]
    assert not of(effects, ProcessRefused)
    assert run(made, fork.number) == fork.number


def test_all_have_ended_when_their_records_are_gone() -> None:
    made = table()
    number = started(made, ask(1, 1, places=1))
    made.start(ask(2, 2, places=1), 0.0)
    effects = made.end_all("supervisor")
    assert isinstance(of(effects, ProcessRefused)[0].error, RuntimeClosing)
    assert of(effects, SignalProcess)
    assert of(made.start(ask(3, 3), 0.0), ProcessRefused)
    assert not of(made.exited(number, -15), DismissReaper)
    effects = made.gone(number)
    assert not of(effects, DismissReaper)
    assert written(made, effects) == [DismissReaper("supervisor", AllProcessesEnded())]


def test_nothing_of_a_program_is_told() -> None:
    assert "hunter2" not in repr(ask(1)) + repr(ForkProcess(1, "m", PROGRAM, (1, 2, 3)))
    assert "secret-program" not in repr(ask(1))
