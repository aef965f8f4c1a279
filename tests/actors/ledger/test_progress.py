"""What turns tell: in portions, each in its turn, in order, before its end; dropped only if counted."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.actors.agent.reports import Reports
from greenroom.actors.effects import StartTimer
from greenroom.actors.events.protocol import Publish
from greenroom.actors.ledger import accepting, disk, sessions, turns
from greenroom.actors.ledger import progress as progress_module
from greenroom.actors.ledger.agent_runs import OpenRun
from greenroom.actors.ledger.ledger import Ledger
from greenroom.actors.ledger.log import write_backlog
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.progress import EVENTS_IN_PORTION, MOST_UNWRITTEN, SHARE, Progress, size_of
from greenroom.actors.ledger.protocol import AcceptRun, EndTurn, GoOnTelling, ReportProgress, TakeRun
from greenroom.actors.ledger.replies import RunBegun, RunOutcome, TurnSettled
from greenroom.actors.residency.protocol import AgentPassivated
from greenroom.actors.storage.protocol import BatchWritten, WriteBatch
from greenroom.persistence.rows import RunRow, Unfinished


def report(run_id: str, told: range, dropped: int = 0) -> ReportProgress:
    data = tuple(b"%d" % number for number in told)
    return ReportProgress(1, 1, run_id, data, size_of(data), dropped)  # type: ignore[arg-type]


def opened(run_id: str) -> OpenRun:
    row = RunRow(run_id, 1, 1, f"/t/{run_id}", b"", 0.0)  # type: ignore[arg-type]
    return OpenRun(row, set(), "process")


class ProgressAgainstLists(RuleBasedStateMachine):
    """Each run tells its own numbers, one after another."""

    @initialize()
    def begin(self) -> None:
        self.progress = Progress()
        self.runs = [opened(f"r{number}") for number in range(4)]
        self.reported = [0] * 4
        self.recorded: list[list[int]] = [[] for _ in self.runs]
        self.ends: dict[int, str] = {}
        self.ended: set[int] = set()
        self.commits: list[int] = []
        self.portion = 0
        self.since: dict[int, int] = {}  # how many others had theirs since a run had its turn

    @rule(
        who=st.integers(0, 3), count=st.sampled_from([1, 3, 250, 1_500]), dropped=st.sampled_from([0, 0, 2])
    )
    def somebody_tells(self, who: int, count: int, dropped: int) -> None:
        if who in self.ends or who in self.ended:
            return
        first = self.reported[who]
        self.reported[who] += count + dropped
        news = report(self.runs[who].row.run_id, range(first, first + count), dropped)
        self.progress.add(self.runs[who], news, 1.0)

    @rule(who=st.integers(0, 3))
    def somebodys_turn_ends(self, who: int) -> None:
        if who in self.ends or who in self.ended:
            return
        end: Any = EndTurn(1, 1, self.runs[who].row.run_id, "completed", None, None, 0.0, 0.0)  # type: ignore[arg-type]
        if self.progress.hold(end, "session"):
            self.ends[who] = "held"
        else:
            assert self.known(who) == self.reported[who]
            self.ended.add(who)

    @rule(waits=st.booleans())
    def what_can_be_is_recorded(self, waits: bool) -> None:
        while (line := self.progress.next) is not None:
            room = self.progress.room(waits=waits)
            if room <= 0:
                assert self.progress.unwritten >= MOST_UNWRITTEN
                break
            who = self.runs.index(line.run)
            facts = self.progress.take(line, room)
            assert 0 < len(facts) <= min(room, SHARE)
            self.portion += len(facts)
            self.recorded[who] += [int(fact.data) for fact in facts]
            self.commits.append(len(facts))
            self.progress.recorded(len(self.commits), len(facts))
            self.over(who, line)
        assert self.portion < EVENTS_IN_PORTION + SHARE
        if self.progress.pause():
            assert self.progress.pausing

    @rule(who=st.integers(0, 3))
    def there_is_no_room_for_it(self, who: int) -> None:
        line = self.progress.next
        if line is not None:
            self.progress.drop(line)
            self.over(self.runs.index(line.run), line)

    def over(self, who: int, line: Any) -> None:
        if not line.reports and line.end is not None:
            assert self.ends.pop(who) == "held"
            assert self.known(who) == self.reported[who], "the end comes behind all that was told"
            self.ended.add(who)

    @precondition(lambda self: self.progress.pausing)
    @rule()
    def others_had_their_turn(self) -> None:
        self.progress.go_on()
        self.portion = 0

    @rule()
    def the_disk_has_all(self) -> None:
        self.progress.written(len(self.commits))
        assert self.progress.unwritten == 0

    def known(self, who: int) -> int:
        return len(self.recorded[who]) + self.runs[who].untold

    @invariant()
    def what_is_recorded_is_in_order_and_the_rest_is_counted(self) -> None:
        if not hasattr(self, "progress"):
            return
        lines = {line.run.row.run_id: line for line in self.progress._lines.values()}
        for who, run in enumerate(self.runs):
            assert self.recorded[who] == sorted(set(self.recorded[who]))
            line = lines.get(run.row.run_id)
            waiting = line.count if line else 0
            assert self.known(who) + waiting == self.reported[who]
            assert (line is None) == (waiting == 0)
        assert self.progress._bytes == sum(line.bytes for line in lines.values())
        assert self.progress.waiting or self.progress._bytes == 0
        assert self.progress.dropped == sum(run.untold for run in self.runs)


TestProgressAgainstLists = ProgressAgainstLists.TestCase
TestProgressAgainstLists.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_each_turn_has_its_turn() -> None:
    progress = Progress()
    flood, other = opened("flood"), opened("other")
    progress.add(flood, report("flood", range(10_000)), 1.0)
    progress.add(other, report("other", range(150)), 2.0)
    order = []
    for _ in range(5):
        line = progress.next
        assert line is not None
        facts = progress.take(line, EVENTS_IN_PORTION)
        order.append((line.run.row.run_id, len(facts), facts[0].at))
    assert order == [
        ("flood", 100, 1.0),
        ("other", 100, 2.0),
        ("flood", 100, 1.0),
        ("other", 50, 2.0),
        ("flood", 100, 1.0),
    ]


def test_what_waits_is_bounded_for_each_turn_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "MOST_TOLD_BYTES", 1_010)
    monkeypatch.setattr(progress_module, "MOST_PROGRESS_BYTES", 1_515)
    progress = Progress()
    one, two = opened("one"), opened("two")
    progress.add(one, report("one", range(20)), 1.0)
    progress.add(two, report("two", range(20)), 1.0)
    progress.add(one, report("one", range(20, 21)), 1.0)
    assert (one.untold, two.untold, progress.dropped) == (11, 15, 26)
    line = progress.next
    assert line is not None
    assert [fact.data for fact in progress.take(line, 99)] == [b"%d" % number for number in range(10)]


def test_a_turn_that_reports_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.actors.agent.reports.MOST_TOLD_BYTES", 1_010)
    reports = Reports()
    for number in range(15):
        reports.add(b"%d" % number)
    message = reports.as_message(1, 1, "r")  # type: ignore[arg-type]
    assert message.told == tuple(b"%d" % number for number in range(10))
    assert (message.size, message.dropped) == (1_010, 5)
    assert message.size == size_of(message.told)


# In the ledger


class Room:
    """A ledger with runs under way, and a disk that writes when it is told to."""

    def __init__(self, durability: Any = "process") -> None:
        self.commit_log = CommitLog(durability=durability, next_seq=1)
        unfinished = Unfinished(1, 2, 1, 1, (), (), 1)
        self.ledger = Ledger(self.commit_log, unfinished, backlog=1_000, attempts_of=lambda _: 3)
        self.sent: list[Any] = []  # what was told to others
        self.events: list[Any] = []  # that were published
        self.batches: list[WriteBatch] = []

    def take(self, effects: Any) -> None:
        for effect in [*effects, *self.commit_log.take_batch()]:
            if isinstance(effect, StartTimer):
                self.sent.append(effect)
            elif isinstance(effect.message, Publish):
                self.events += effect.message.events
            elif isinstance(effect.message, WriteBatch):
                self.batches.append(effect.message)
            else:
                self.sent.append(effect)

    def begin(self, agent_id: int) -> str:
        run_id = f"r{agent_id}"
        path = f"/t/{agent_id}"
        ask = AcceptRun(1, "caller", agent_id, path, "kind", b"", run_id, fresh=True)  # type: ignore[arg-type]
        self.take(accepting.accept_run(self.ledger, ask))
        self.take(turns.take_run(self.ledger, TakeRun(agent_id, 1), f"session {agent_id}"))  # type: ignore[arg-type]
        return run_id

    def tell(self, agent_id: int, told: range, dropped: int = 0) -> None:
        news = report(f"r{agent_id}", told, dropped)
        self.take(
            turns.progress(
                self.ledger, ReportProgress(agent_id, 1, news.run_id, news.told, news.size, dropped)
            )
        )  # type: ignore[arg-type]

    def end(self, agent_id: int) -> None:
        end = EndTurn(agent_id, 1, f"r{agent_id}", "completed", b"", None, 0.0, 1.0)  # type: ignore[arg-type]
        self.take(turns.end_turn(self.ledger, end, f"session {agent_id}"))

    def write(self) -> int:
        """The disk writes a batch; how many records."""
        batch = self.batches.pop(0)
        self.take(disk.written(self.ledger, BatchWritten(batch.number, 0.01)))
        return len(batch.records)

    def write_all(self) -> None:
        while self.batches or GoOnTelling() in self.timers():
            if self.batches:
                self.write()
            if GoOnTelling() in self.timers():
                self.go_on()

    def timers(self) -> list[Any]:
        return [effect.message for effect in self.sent if isinstance(effect, StartTimer)]

    def go_on(self) -> None:
        self.sent = [effect for effect in self.sent if not isinstance(effect, StartTimer)]
        self.take(turns.others_had_their_turn(self.ledger))

    def told(self, what: type) -> list[Any]:
        sends = [effect for effect in self.sent if not isinstance(effect, StartTimer)]
        return [effect.message for effect in sends if isinstance(effect.message, what)]

    def progress(self, run_id: str) -> list[int]:
        return [int(e.data) for e in self.events if e.type == "run.progress" and e.run_id == run_id]


def test_what_others_do_is_behind_a_bounded_number_of_one_turns_events() -> None:
    room = Room()
    room.begin(1)
    room.write_all()
    room.tell(1, range(100_000))
    for _ in range(20):
        if GoOnTelling() in room.timers():
            room.go_on()
    room.begin(2)
    before = 0
    while not [begun for begun in room.told(RunBegun) if begun.agent_id == 2]:
        before += room.write()
        room.take(turns.record_progress(room.ledger))
    assert before <= 2 * MOST_UNWRITTEN + 10
    room.write_all()
    assert room.progress("r1") == list(range(100_000))
    assert room.ledger.told.dropped == 0


def test_a_turns_end_comes_behind_what_it_told_and_its_session_is_answered_then() -> None:
    room = Room()
    room.begin(1)
    room.write_all()
    room.tell(1, range(5_000))
    room.end(1)
    assert not room.told(TurnSettled)
    room.write_all()
    assert [event.type for event in room.events][-1] == "run.completed"
    assert room.progress("r1") == list(range(5_000))
    assert len(room.told(TurnSettled)) == 1
    assert not room.ledger.runs


def test_nobody_waits_for_the_disk_whose_runs_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_backlog, "MOST_UNWRITTEN_RECORDS", 3_000)
    room = Room("memory")
    room.begin(1)
    room.tell(1, range(5_000))
    room.end(1)
    while GoOnTelling() in room.timers():
        room.go_on()
    assert len(room.told(TurnSettled)) == 1, "nothing was written meanwhile"
    (gap,) = [event for event in room.events if event.type == "events.missed"]
    told = room.progress("r1")
    assert told == list(range(len(told)))
    assert gap.data == b'{"dropped":%d}' % (5_000 - len(told))
    assert room.ledger.told.dropped == 5_000 - len(told)
    assert room.events[-1].type == "run.completed"


def test_while_the_store_cannot_be_written_a_turn_ends_all_the_same() -> None:
    room = Room()
    room.begin(1)
    room.write_all()
    room.tell(1, range(5_000))
    room.end(1)
    while GoOnTelling() in room.timers():
        room.go_on()
    assert not room.told(TurnSettled)
    room.commit_log.rejected()
    room.ledger.health.failed("the disk is full", 1.0)
    room.take(disk.store_failed(room.ledger))
    while GoOnTelling() in room.timers():
        room.go_on()
    assert len(room.told(TurnSettled)) == 1
    assert not room.told(RunOutcome)


def test_what_was_dropped_on_the_way_is_told_by_an_event() -> None:
    room = Room()
    room.begin(1)
    room.tell(1, range(3), dropped=7)
    room.tell(1, range(10, 11))
    room.end(1)
    room.write_all()
    types = [(event.type, event.data) for event in room.events[2:]]
    assert types == [
        ("run.progress", b"0"),
        ("run.progress", b"1"),
        ("run.progress", b"2"),
        ("events.missed", b'{"dropped":7}'),
        ("run.progress", b"10"),
        ("run.completed", b"{}"),
    ]
    assert room.ledger.told.dropped == 7


def test_an_end_that_waits_is_not_forgotten_with_its_session() -> None:
    room = Room()
    room.begin(1)
    room.write_all()
    room.tell(1, range(50_000))
    room.end(1)
    left: Any = AgentPassivated(1, 1, evicted=False, orderly=False)  # type: ignore[arg-type]
    room.take(sessions.left(room.ledger, left))
    room.write_all()
    ends = [event.type for event in room.events if event.run_id == "r1" and event.type.startswith("run.c")]
    assert ends == ["run.completed"]
    told = room.progress("r1")
    assert told == list(range(len(told)))
    assert len(told) + room.ledger.told.dropped == 50_000
