"""What is kept and what goes: the rule by itself, and the store against a naive model of it."""

import itertools
import math
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

import greenroom
from greenroom import Retention
from greenroom.actors.effects import Send
from greenroom.actors.storage import writer as writer_actor
from greenroom.actors.storage.protocol import BatchWritten, OpenStore, WriteBatch
from greenroom.actors.storage.writer import PersistenceActor
from greenroom.errors import SnapshotUnreadable, StoreLost
from greenroom.persistence import erasing, pruning
from greenroom.persistence import store as store_module
from greenroom.persistence.codec import dumps
from greenroom.persistence.queries import EventPage, FindAgent, FindAgents, FindRuns, ListAgents, LoadAgent
from greenroom.persistence.reader import Reader
from greenroom.persistence.records import (
    AddAgent,
    AddEvent,
    AddMessage,
    AddRun,
    BeginRun,
    EndRun,
    EraseAgent,
    PutSnapshot,
    Record,
    SetAgent,
)
from greenroom.persistence.retention import (
    NO_FENCE,
    SPARE_PAGES,
    VACUUM_STEP,
    AwaitedIds,
    Fence,
    Horizon,
    affordable,
    horizon,
    pages_to_give_back,
    past_of,
)
from greenroom.persistence.rows import AgentRow, EventRow, MessageRow, RunRow, Snapshot
from greenroom.persistence.store import Store
from greenroom.persistence.write_failures import WriteFailed

from .model import PATHS, NaiveStore, next_records, questions

GOOD = dumps({"a": 1}, "it")
FOR_EVER = {
    "run_age": None,
    "runs": None,
    "event_age": None,
    "events": None,
    "closed_age": None,
    "closed": None,
}
NOTHING = Retention(runs=0, events=0, closed=0, least_age=0.0)


# What a user says


@pytest.mark.parametrize("name", ["run_age", "event_age", "closed_age", "least_age"])
@pytest.mark.parametrize("bad", [-1, math.inf, math.nan, True, "1"])
def test_an_age_is_a_number_of_seconds(name: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}= is a number of seconds from 0 on"):
        Retention(**{name: bad})


def test_a_huge_age_is_as_good_as_for_ever(store: Store) -> None:
    huge = Retention(run_age=10**400, event_age=1e300, closed_age=1e10, least_age=10**400)
    store.write([spawned(1), *ended_runs(1, 1, 4)])
    before = left(store)
    prune(store, huge, 9e8)
    assert left(store) == before != []


@pytest.mark.parametrize("name", ["runs", "events", "closed"])
@pytest.mark.parametrize("bad", [-1, 1.5, True, "1"])
def test_a_number_is_an_int(name: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}= is an int from 0 on or None"):
        Retention(**{name: bad})


def test_only_the_least_age_must_be_given() -> None:
    assert Retention(**FOR_EVER).runs is None
    with pytest.raises(ValueError, match="least_age= is a number of seconds from 0 on, not None"):
        Retention(least_age=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", [greenroom.Runtime, greenroom.AsyncRuntime])
def test_a_runtime_takes_a_retention_and_nothing_else(runtime: Any) -> None:
    with pytest.raises(TypeError, match="retention= is a Retention, not 30"):
        runtime(retention=30)


# The rule by itself

moments = st.integers(0, 30).map(float)
entries = st.lists(st.tuples(moments, st.integers(0, 12))).map(
    lambda found: [(number, at, serial) for number, (at, serial) in enumerate(found, 1)]
)
limits = st.none() | st.integers(0, 12)


@given(entries, limits, limits, moments, moments, st.none() | st.tuples(st.integers(0, 12), moments))
def test_what_goes_is_a_beginning_of_the_queue_that_is_past_and_not_held(
    queue: list[Any],
    age: float | None,
    count: int | None,
    least: float,
    now: float,
    begun: tuple[int, float] | None,
) -> None:
    past = horizon(age, count, least=least, newest=len(queue), now=now)
    fence = NO_FENCE if begun is None else Fence(*begun)
    going = past_of(queue, past, fence)

    def may_go(number: int, at: float, serial: int) -> bool:
        newer = len(queue) - number
        old = age is not None and now - at >= age
        crowded = count is not None and newer >= count and now - at >= least
        needed = begun is not None and (serial >= begun[0] or at >= begun[1])
        return (old or crowded) and not needed

    assert all(may_go(*entry) for entry in queue[:going])
    assert going == len(queue) or not may_go(*queue[going])


@given(entries, limits, limits, moments, moments, st.integers(1, 20))
def test_step_by_step_all_goes_that_goes_at_once(
    queue: list[Any], age: float | None, count: int | None, least: float, now: float, rows: int
) -> None:
    past = horizon(age, count, least=least, newest=len(queue), now=now)
    gone = 0
    while gone < len(queue) and (span := past.span(*queue[gone][:2], rows)):
        assert 0 < span <= rows
        gone += past_of(queue[gone : gone + span], past, NO_FENCE)
    assert gone == past_of(queue, past, NO_FENCE)


@given(moments, limits, limits, moments, moments, st.integers(1, 9))
def test_after_its_wait_the_oldest_entry_is_past_and_not_before(
    at: float, age: float | None, count: int | None, least: float, now: float, newest: int
) -> None:
    def past_at(when: float) -> bool:
        return horizon(age, count, least=least, newest=newest, now=when).behind(1, at)

    wait = horizon(age, count, least=least, newest=newest, now=now).wait(1, at)
    if wait is None:
        assert not past_at(now + 10_000)
    else:
        assert past_at(now + wait)
        assert wait == 0 or not past_at(now + wait - 0.5)


def test_without_limits_nothing_is_ever_past() -> None:
    assert horizon(None, None, least=0.0, newest=10**9, now=1e12) == Horizon(-math.inf, 1e12, -math.inf)


@given(st.data())
def test_awaited_are_the_runs_of_open_continuations(data: st.DataObject) -> None:
    model = NaiveStore()
    awaited = AwaitedIds()
    for _ in range(3):
        records = data.draw(next_records(model))
        model.write(records)
        awaited.committed(records)
        after = _awaited_in(model)
        assert {run_id for run_id in ("r1", "r2", "r9") if run_id in awaited} == after
        for run_id in after:
            keeper = awaited.keeper(run_id)
            (run,) = (run for run in model.unfinished().runs if keeper and run.serial == keeper.serial)
            assert run_id in run.awaits
    reopened = AwaitedIds(model.unfinished().runs)
    assert all((run_id in reopened) == (run_id in awaited) for run_id in ("r1", "r2"))


def _awaited_in(model: NaiveStore) -> set[str]:
    return {run_id for run in model.unfinished().runs for run_id in run.awaits}


@given(st.lists(st.integers(1, 9)), st.integers(1, 20))
def test_a_step_takes_what_it_can_afford_and_always_one(weights: list[int], rows: int) -> None:
    count = affordable(weights, rows)
    assert sum(weights[:count]) <= rows or count == 1
    assert count == len(weights) or sum(weights[: count + 1]) > rows


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_file_keeps_room_to_grow_into(free: int, rest: int) -> None:
    given_back = pages_to_give_back(free, free + rest)
    assert given_back in (0, VACUUM_STEP)
    assert given_back == 0 or free - given_back >= max(SPARE_PAGES, (free + rest) // 8)


# The store against a naive model


class NaiveRetention(NaiveStore):
    """Forgets what the rule says, in the plainest way: by leaving out its records."""

    def __init__(self, retention: Retention) -> None:
        super().__init__()
        self.retention = retention
        self.queue: list[dict[str, Any]] = []  # of runs that are no longer their agent's last
        self.superseded = self.pruned_at_most = 0
        self.passed: set[int] = set()  # agents that are past, and needed
        self._last: dict[int, str] = {}
        self._floor = (1, 1, 1)

    def write(self, records: Iterable[Record]) -> None:
        for record in records:
            self.records.append(record)
            if isinstance(record, EndRun):
                if record.agent_id in self._last:
                    run = self.runs()[self._last[record.agent_id]]
                    self.superseded += 1
                    self.queue.append(
                        {"place": self.superseded, "at": record.ended_at, "run": run, "passed": False}
                    )
                self._last[record.agent_id] = record.run_id
            elif isinstance(record, EraseAgent):
                self._last.pop(record.agent_id, None)

    def unfinished(self) -> Any:
        found = super().unfinished()
        numbers = (found.next_agent_id, found.next_serial, found.next_seq)
        self._floor = a, s, e = tuple(map(max, numbers, self._floor))  # type: ignore[assignment]
        return replace(found, next_agent_id=a, next_serial=s, next_seq=e)

    def prune(self, now: float) -> None:
        keep = self.retention
        last_seq = self.unfinished().next_seq - 1
        open_runs = {run.serial for run in self.unfinished().runs}
        awaited = _awaited_in(self)

        def past(newer: int, at: float, age: float | None, count: int | None) -> bool:
            old = age is not None and now - at >= age
            return old or (count is not None and newer >= count and now - at >= keep.least_age)

        def needed(run: RunRow) -> bool:
            return run.run_id in awaited or run.started_by in open_runs

        gone: set[object] = set()
        kept = [r.row for r in self.left() if isinstance(r, AddEvent)]
        for event in sorted((r.row for r in self.records if isinstance(r, AddEvent)), key=lambda e: e.seq):
            if not past(last_seq - event.seq, event.at, keep.event_age, keep.events):
                break
            gone.add(event.seq)
            self.pruned_at_most = event.seq
            if event in kept:  # of one that was erased it makes no difference
                self.pruned = event.seq

        left = []
        stopped = False
        for entry in self.queue:
            newer = self.superseded - entry["place"]
            stopped = stopped or not (entry["passed"] or past(newer, entry["at"], keep.run_age, keep.runs))
            entry["passed"] = not stopped
            if stopped or needed(entry["run"]):
                left.append(entry)
            else:
                gone.add(entry["run"].run_id)
        self.queue = left

        closed = [row for row in self.agents().values() if row.status == "closed"]
        closed.sort(key=lambda row: (row.updated_at, row.agent_id))
        for place, row in enumerate(closed, 1):
            runs = [run for run in self.runs().values() if run.agent_id == row.agent_id]
            if row.agent_id not in self.passed and not past(
                len(closed) - place, row.updated_at, keep.closed_age, keep.closed
            ):
                break
            self.passed.add(row.agent_id)
            if row.started_by not in open_runs and not any(
                run.status == "accepted" or needed(run) for run in runs
            ):
                gone |= {EraseAgent(row.agent_id), *(run.run_id for run in runs)}

        self.records = [
            record
            for record in self.records
            if not (
                (isinstance(record, AddEvent) and record.row.seq in gone)
                or (isinstance(record, AddRun) and record.row.run_id in gone)
                or (isinstance(record, BeginRun | EndRun) and record.run_id in gone)
            )
        ]
        for erased in gone:
            if isinstance(erased, EraseAgent):
                self.records.append(erased)
                self._last.pop(erased.agent_id, None)


ages = st.sampled_from([None, None, 0.0, 2.0, 5.0])
numbers = st.sampled_from([None, 0, 0, 1, 2])
retentions = st.builds(
    Retention,
    run_age=ages,
    runs=numbers,
    event_age=ages,
    events=numbers,
    closed_age=ages,
    closed=numbers,
    least_age=st.sampled_from([0.0, 0.0, 2.0]),
)


class RetentionAgainstModel(RuleBasedStateMachine):
    """Writes, moments and reopenings go to both; what is left is the same."""

    @initialize(retention=retentions)
    def begin(self, retention: Retention) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = str(self.folder / "agents.db")
        self.model = NaiveRetention(retention)
        self.now = 1.0
        self.open()

    def open(self) -> None:
        self.store, unfinished = Store.open(self.path, "process")
        self.reader = Reader.open(self.path)
        self.model.epoch += 1
        self.model.nonce = self.model.nonce or unfinished.nonce  # drawn once, and never again
        assert unfinished == self.model.unfinished()

    def close(self) -> None:
        self.reader.close()
        self.store.close()

    def write(self, *records: Record) -> None:
        self.store.write(records)
        self.model.write(records)

    @rule(later=st.integers(1, 4))
    def time_passes(self, later: int) -> None:
        self.now += later

    @rule(data=st.data(), path=st.sampled_from(PATHS))
    def spawn(self, data: st.DataObject, path: str) -> None:
        if all(row.path != path or row.status == "closed" for row in self.model.agents().values()):
            number = self.model.unfinished().next_agent_id
            starter = data.draw(st.none() | st.sampled_from(self.starters()))
            row = AgentRow(number, path, "kind", 1, GOOD, self.now, self.now, started_by=starter)
            seq = self.model.unfinished().next_seq
            self.write(AddAgent(row, seq), AddEvent(EventRow(seq, self.now, "agent.spawned", path)))

    def starters(self) -> list[int | None]:
        """Runs whose turns may be under way, by serial."""
        begun = (run for run in self.model.unfinished().runs if run.started_at is not None)
        return [None, *(run.serial for run in begun)]

    @precondition(lambda self: self.model.agents())
    @rule(data=st.data(), begin=st.booleans())
    def accept(self, data: st.DataObject, begin: bool) -> None:
        row = data.draw(st.sampled_from(list(self.model.agents().values())))
        starter = data.draw(st.sampled_from(self.starters()))
        self.accepted(row, awaits=self.some_runs(data), begin=begin, starter=starter)

    def some_runs(self, data: st.DataObject) -> tuple[str, ...]:
        if not self.model.runs():
            return ()
        return tuple(data.draw(st.lists(st.sampled_from(list(self.model.runs())), max_size=3, unique=True)))

    def accepted(
        self,
        row: AgentRow,
        *,
        awaits: tuple[str, ...] = (),
        begin: bool = False,
        starter: int | None = None,
    ) -> RunRow:
        numbers = self.model.unfinished()
        run_id = f"r{numbers.next_serial}"
        run = RunRow(
            run_id, numbers.next_serial, row.agent_id, row.path, GOOD, self.now,
            awaits=awaits, started_by=starter,
        )  # fmt: skip
        event = AddEvent(EventRow(numbers.next_seq, self.now, "run.accepted", row.path, run_id))
        self.write(AddRun(run), event)
        if begin:
            self.write(BeginRun(run_id, row.agent_id, 1, self.now))
        return run

    def ended(self, run: RunRow, status: str = "completed") -> None:
        snapshot = PutSnapshot(run.agent_id, Snapshot("json", 1, b"{}"))
        result = GOOD if status == "completed" else None
        end = EndRun(run.run_id, run.agent_id, status, result, None, 1, self.now, self.now)
        self.write(snapshot, end)

    @precondition(lambda self: self.model.agents())
    @rule(data=st.data(), count=st.integers(1, 4))
    def turns(self, data: st.DataObject, count: int) -> None:
        row = data.draw(st.sampled_from(list(self.model.agents().values())))
        starter = data.draw(st.sampled_from(self.starters()))
        for _ in range(count):
            self.ended(self.accepted(row, starter=starter))

    @precondition(lambda self: self.model.unfinished().runs)
    @rule(data=st.data(), begin=st.booleans())
    def end_or_begin(self, data: st.DataObject, begin: bool) -> None:
        run = data.draw(st.sampled_from(self.model.unfinished().runs))
        if begin:
            self.write(BeginRun(run.run_id, run.agent_id, run.attempt + 1, self.now))
        else:
            self.ended(run, data.draw(st.sampled_from(["completed", "failed"])))

    @precondition(lambda self: self.model.agents())
    @rule(data=st.data(), orderly=st.booleans())
    def close_an_agent(self, data: st.DataObject, orderly: bool) -> None:
        row = data.draw(st.sampled_from(list(self.model.agents().values())))
        for run in self.model.unfinished().runs:
            if orderly and run.agent_id == row.agent_id:
                self.ended(run, "interrupted")
        self.write(SetAgent(row.agent_id, "closed", None, self.now))

    @precondition(lambda self: self.model.agents())
    @rule(data=st.data())
    def erase_an_agent(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(list(self.model.agents().values())))
        self.write(EraseAgent(row.agent_id, row.path, self.model.unfinished().next_seq))

    @precondition(lambda self: self.model.agents())
    @rule(data=st.data())
    def send_a_message(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(list(self.model.agents().values())))
        serial = self.model.unfinished().next_serial
        sender = data.draw(st.none() | st.sampled_from(list(self.model.agents())))
        self.write(AddMessage(MessageRow(serial, row.agent_id, GOOD, None, self.now, sender)))

    @rule(rows=st.sampled_from([1, 2, 250]))
    def prune(self, rows: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store_module, "rows_of_a_step", lambda _written: rows)
            prune(self.store, self.model.retention, self.now)
        self.model.prune(self.now)

    @rule()
    def fail_to_prune(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.store, "commit", self._refuse)
            with suppress(WriteFailed):
                self.store.prune(self.model.retention, self.now)
        self.prune(250)

    def _refuse(self) -> None:
        raise sqlite3.OperationalError("no luck")

    @rule()
    def close_and_open(self) -> None:
        self.close()
        self.open()

    @invariant()
    def every_question_has_the_models_answer(self) -> None:
        asked = (q for q in questions(self.model) if getattr(q, "under", "/") == "/")
        for question in asked:
            try:
                found: object = self.reader.read(question)
            except SnapshotUnreadable:
                found = SnapshotUnreadable
            if isinstance(found, EventPage):
                assert self.model.pruned <= found.pruned <= self.model.pruned_at_most
                found = replace(found, pruned=self.model.pruned)
            assert found == self.model.read(question), question

    @invariant()
    def every_finished_run_is_its_agents_last_or_in_the_queue_once(self) -> None:
        found = self.store._connection.execute(
            "SELECT serial, (SELECT count(*) FROM superseded AS s WHERE s.serial = r.serial)"
            " + (SELECT count(*) FROM kept AS k WHERE k.serial = r.serial)"
            " + EXISTS (SELECT 1 FROM agents AS a WHERE a.last_run_id = r.run_id)"
            " FROM runs AS r WHERE status <> 'accepted' AND agent_id IN (SELECT agent_id FROM agents)"
        )
        assert [row for row in found if row[1] != 1] == []

    @invariant()
    def the_counts_are_right(self) -> None:
        counts = self.store._connection.execute(
            "SELECT known, closed, (SELECT count(*) FROM agents WHERE status <> 'closed'),"
            " (SELECT count(*) FROM agents WHERE status = 'closed') FROM meta"
        ).fetchone()
        assert counts[:2] == counts[2:]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.close()
            shutil.rmtree(self.folder)


TestRetentionAgainstModel = RetentionAgainstModel.TestCase
TestRetentionAgainstModel.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# What the store promises about it


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened, _ = Store.open(str(tmp_path / "agents.db"), "process")
    yield opened
    opened.close()


def ended_runs(
    agent_id: int, first: int, count: int, at: float = 1.0, starter: int | None = None
) -> list[Record]:
    """`count` runs of an agent, one after another, each with its events."""
    path = f"/t/a{agent_id}"
    records: list[Record] = []
    for serial in range(first, first + count):
        run_id = f"r{serial}"
        records += [
            AddRun(RunRow(run_id, serial, agent_id, path, GOOD, at, started_by=starter)),
            EndRun(run_id, agent_id, "completed", GOOD, None, 1, at, at),
            AddEvent(EventRow(serial, at, "run.completed", path, run_id)),
        ]
    return records


def spawned(agent_id: int, *, at: float = 1.0) -> AddAgent:
    return AddAgent(AgentRow(agent_id, f"/t/a{agent_id}", "kind", 1, GOOD, at, at))


def prune(store: Store, retention: Retention, now: float) -> int:
    """Steps until nothing more can go; how many."""
    for steps in range(10_000):
        step = store.prune(retention, now)
        if not step.more and not step.rows:
            return steps
    raise AssertionError("it never comes to an end")


def count(store: Store, table: str) -> int:
    found: int = store._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return found


def test_the_last_outcome_stays_and_so_do_status_and_state(store: Store) -> None:
    snapshot = PutSnapshot(1, Snapshot("json", 1, b"{}"))
    store.write([spawned(1), *ended_runs(1, 1, 3), snapshot, *ended_runs(1, 4, 2)])
    reader = Reader.open(store.path)
    before = reader.read(LoadAgent(1))
    prune(store, NOTHING, 1e9)
    assert reader.read(LoadAgent(1)) == before
    assert [run and run.run_id for run in reader.read(FindRuns(("r4", "r5")))] == [None, "r5"]  # type: ignore[attr-defined]
    assert count(store, "events") == count(store, "superseded") == 0
    reader.close()


def left(store: Store) -> list[int]:
    """The serials of the runs that are left."""
    return [serial for (serial,) in store._connection.execute("SELECT serial FROM runs ORDER BY serial")]


def begun(serial: int, agent_id: int, at: float) -> list[Record]:
    run = RunRow(f"r{serial}", serial, agent_id, f"/t/a{agent_id}", GOOD, at)
    return [AddRun(run), BeginRun(run.run_id, agent_id, 1, at)]


def over(serial: int, agent_id: int, at: float) -> EndRun:
    return EndRun(f"r{serial}", agent_id, "completed", None, None, 1, at, at)


def test_what_an_open_run_started_stays_until_that_has_ended_and_holds_up_nobody(store: Store) -> None:
    store.write([spawned(1), spawned(2), *ended_runs(1, 1, 3, at=1.0)])
    store.write(
        [*begun(4, 2, at=5.0), *ended_runs(1, 5, 2, at=6.0, starter=4), *ended_runs(1, 7, 2, at=7.0)]
    )
    prune(store, NOTHING, 1e9)
    assert left(store) == [4, 5, 6, 8]  # 3 was there when 4 was accepted, and nothing more
    store.write(ended_runs(1, 9, 3, at=8.0))
    prune(store, NOTHING, 1e9)
    assert left(store) == [4, 5, 6, 11]
    store.write([over(4, 2, at=9.0)])
    prune(store, NOTHING, 1e9)
    assert left(store) == [4, 11]


def test_what_two_open_runs_need_stays_until_both_have_ended(tmp_path: Path) -> None:
    path = str(tmp_path / "agents.db")
    opened, _ = Store.open(path, "process")
    opened.write([spawned(1), spawned(2), spawned(3), *begun(4, 2, at=1.0)])
    opened.write(ended_runs(1, 5, 3, starter=4))
    opened.write([AddRun(RunRow("c", 9, 3, "/t/a3", GOOD, 1.0, awaits=("r5",)))])
    prune(opened, NOTHING, 1e9)
    assert left(opened) == [4, 5, 6, 7, 9]
    opened.write([over(4, 2, at=2.0)])
    opened.close()  # it is known after a restart whose sake it is kept for
    opened, _ = Store.open(path, "process")
    prune(opened, NOTHING, 1e9)
    assert left(opened) == [4, 5, 7, 9]
    opened.write([EraseAgent(3)])
    prune(opened, NOTHING, 1e9)
    assert left(opened) == [4, 7]
    opened.close()


def test_an_open_run_from_before_its_runs_told_what_started_them_holds_all_that_came_since(
    store: Store,
) -> None:
    store.write([spawned(1), spawned(2), *ended_runs(1, 1, 3, at=1.0)])
    store.write([*begun(4, 2, at=5.0), *ended_runs(1, 5, 3, at=6.0)])
    store._connection.execute("UPDATE meta SET first_origin = 5")
    prune(store, NOTHING, 1e9)
    assert left(store) == [3, 4, 5, 6, 7]  # 3 was the last outcome when 4 was accepted
    store.write([over(4, 2, at=7.0)])
    prune(store, NOTHING, 1e9)
    assert left(store) == [4, 7]


def test_a_run_that_waits_holds_nothing(store: Store) -> None:
    waiting = AddRun(RunRow("r1", 1, 2, "/t/a2", GOOD, 1.0))
    store.write([spawned(1), spawned(2), waiting, *ended_runs(1, 2, 3, at=2.0)])
    prune(store, NOTHING, 1e9)
    assert left(store) == [1, 4]


def test_thousands_that_are_kept_for_one_run_cost_no_look(store: Store) -> None:
    """They stand apart from those that may go, in the file and not in memory."""
    store.write([spawned(1), spawned(2), spawned(3), *begun(1, 2, at=1.0)])
    store.write(ended_runs(1, 10, 3_000, starter=1))
    prune(store, NOTHING, 1e9)
    assert count(store, "kept") == 2_999
    store.write(ended_runs(3, 5_000, 300))
    store.unpruned = 0
    ticks = [0]

    def tick() -> None:
        ticks[0] += 1

    store._connection.set_progress_handler(tick, 100)
    step = store.prune(NOTHING, 1e9)
    store._connection.set_progress_handler(None, 0)
    assert len(step.runs) == 250
    assert ticks[0] < 500
    store.write([over(1, 2, at=2.0)])
    prune(store, NOTHING, 1e9)
    assert count(store, "runs") == 3


def test_awaited_runs_stay_and_hold_up_no_others(store: Store) -> None:
    def continuation(serial: int, *awaits: str) -> AddRun:
        return AddRun(RunRow(f"r{serial}", serial, 2, "/t/a2", GOOD, 1.0, awaits=awaits))

    store.write([spawned(1), spawned(2), *ended_runs(1, 1, 6), continuation(10, "r2", "r4")])
    store.write([continuation(11, "r2")])
    prune(store, NOTHING, 1e9)
    assert left(store) == [2, 4, 6, 10, 11]
    store.write([over(10, 2, at=3.0)])
    prune(store, NOTHING, 1e9)
    assert left(store) == [2, 6, 10, 11]
    store.write(ended_runs(1, 12, 2))  # at numbers of the queue that were used before
    prune(store, NOTHING, 1e9)
    assert left(store) == [2, 10, 11, 13]
    store.write([over(11, 2, at=3.0), continuation(14, "r2")])  # at once awaited again
    prune(store, NOTHING, 1e9)
    assert left(store) == [2, 11, 13, 14]
    store.write([*begun(17, 1, at=4.0), over(14, 2, at=5.0)])
    prune(store, NOTHING, 5.0)
    assert left(store) == [13, 14, 17]  # nothing is kept for a turn that neither started it nor awaits it


def test_a_run_awaited_when_the_store_is_opened_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "agents.db")
    opened, _ = Store.open(path, "process")
    awaiting = AddRun(RunRow("c", 99, 2, "/t/a2", GOOD, 1.0, awaits=("r2",)))
    opened.write([spawned(1), spawned(2), *ended_runs(1, 1, 4), awaiting])
    opened.close()
    opened, _ = Store.open(path, "process")
    prune(opened, NOTHING, 1e9)
    assert left(opened) == [2, 4, 99]
    opened.close()


def test_closed_agents_that_are_needed_stay_and_hold_up_no_others(store: Store) -> None:
    for number in range(1, 5):
        store.write(
            [spawned(number), *ended_runs(number, number, 1), SetAgent(number, "closed", None, 2.0)]
        )
    store.write([spawned(5), AddRun(RunRow("c", 9, 5, "/t/a5", GOOD, 3.0, awaits=("r1",)))])
    store.write([AddRun(RunRow("open", 10, 2, "/t/a2", GOOD, 3.0))])  # a closed agent has none; but if
    prune(store, Retention(closed=1, least_age=0.0), 10.0)
    assert left(store) == [1, 2, 4, 9, 10]  # 3 is gone, 4 is the newest
    store.write([EndRun("c", 5, "completed", None, None, 1, 4.0, 4.0)])
    prune(store, Retention(closed=1, least_age=0.0), 10.0)
    assert left(store) == [2, 4, 9, 10]
    store.write([EndRun("open", 2, "failed", None, "late", 1, 2.0, 2.0)])
    prune(store, Retention(closed=1, least_age=0.0), 10.0)
    assert left(store) == [4, 9]


def test_a_closed_agent_that_an_open_run_spawned_stays(store: Store) -> None:
    store.write([spawned(2), spawned(3), *begun(1, 2, at=5.0)])
    started = AgentRow(1, "/t/a1", "kind", 1, GOOD, 5.0, 5.0, started_by=1)
    store.write([AddAgent(started), SetAgent(1, "closed", None, 6.0), SetAgent(3, "closed", None, 7.0)])
    prune(store, NOTHING, 1e9)
    assert count(store, "agents") == 2  # 3 is gone
    store.write([over(1, 2, at=7.0)])
    prune(store, NOTHING, 1e9)
    assert count(store, "agents") == 1


def test_scenario_23_a_lost_snapshot_is_missed_when_the_runs_that_left_it_are_gone(store: Store) -> None:
    failed = EndRun("r2", 1, "failed", None, "no luck", 1, 1.0, 1.0)
    store.write([spawned(1), *ended_runs(1, 1, 1), PutSnapshot(1, Snapshot("json", 1, b"{}"))])
    store.write([AddRun(RunRow("r2", 2, 1, "/t/a1", GOOD, 1.0)), failed])
    prune(store, NOTHING, 1e9)
    assert count(store, "runs") == 1
    store._connection.execute("DELETE FROM snapshots")
    reader = Reader.open(store.path)
    with pytest.raises(SnapshotUnreadable, match="missing"):
        reader.read(LoadAgent(1))
    reader.close()


def test_a_closed_agent_goes_in_small_steps_with_all_that_is_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = [AddMessage(MessageRow(1000 + n, 1, GOOD, None, 1.0)) for n in range(25)]
    slow = AddRun(RunRow("r1", 1, 1, "/t/a1", GOOD, 1.0))
    store.write([spawned(1), spawned(2), slow, *ended_runs(1, 2, 25), over(1, 1, 2.0), *mail])
    store.write([PutSnapshot(1, Snapshot("json", 1, b"x" * 9)), SetAgent(1, "closed", None, 5.0)])
    keep = Retention(**{**FOR_EVER, "closed_age": 10.0})  # type: ignore[arg-type]
    reader = Reader.open(store.path)
    assert store.prune(keep, 14.9).rows == 0
    assert [row.agent_id for row in reader.read(ListAgents("/", None, 9, True))] == [1]  # type: ignore[attr-defined]
    monkeypatch.setattr(store_module, "rows_of_a_step", lambda _written: 10)
    steps = 0
    while found := reader.read(ListAgents("/", None, 9, True)):
        steps += 1
        assert found[0].last.run_id == "r1"  # type: ignore[index]
        store.prune(keep, 15.0)
    assert steps >= 5
    assert reader.read(ListAgents("/", None, 9, True)) == ()
    assert (count(store, "agents"), count(store, "runs"), count(store, "inbox")) == (1, 0, 0)
    assert count(store, "snapshots") == 0
    assert reader.read(FindAgent("/t/a2")).agent_id == 2  # type: ignore[attr-defined]
    reader.close()


def test_large_values_make_a_step_shorter(store: Store) -> None:
    big = b"x" * (1 << 20)
    store.write([spawned(1), *ended_runs(1, 1, 1)])
    for serial in range(2, 42):
        run = RunRow(f"r{serial}", serial, 1, "/t/a1", big, 1.0)
        store.write([AddRun(run), EndRun(run.run_id, 1, "completed", None, None, 1, 1.0, 1.0)])
    store.unpruned = 0
    assert 0 < len(store.prune(NOTHING, 1e9).runs) < 20
    prune(store, NOTHING, 1e9)
    assert count(store, "runs") == 1


def test_looking_costs_the_same_however_much_is_kept(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine, which no other load changes."""

    def steps_of_a_look(runs: int) -> int:
        path = tmp_path / f"{runs}.db"
        opened, _ = Store.open(str(path), "process")
        records: list[Record] = [spawned(n) for n in range(1, runs + 1)]
        records += [SetAgent(n, "closed", None, 1.0) for n in range(1, runs + 1, 2)]
        opened.write(records)
        for serial in range(1, 2 * runs + 1):
            records += ended_runs(1 + serial % runs, serial, 1)
        opened.write(records[len(records) - 6 * runs :])
        opened.unpruned = 0
        ticks = [0]

        def tick() -> None:
            ticks[0] += 1

        opened._connection.set_progress_handler(tick, 10)
        keep = Retention(runs=runs - 100, events=2 * runs - 100, closed=runs // 2 - 20, least_age=0.0)
        assert len(opened.prune(keep, 2.0).runs) >= 100
        opened._connection.set_progress_handler(None, 0)
        opened.close()
        return ticks[0]

    few, many = steps_of_a_look(1_000), steps_of_a_look(10_000)
    assert many < 1.5 * few, (few, many)


STATEMENTS = {
    name: text
    for module in (pruning, erasing)
    for name, text in vars(module).items()
    if name.isupper() and isinstance(text, str) and not name.startswith("_")
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_nothing_is_sorted_or_searched_through(store: Store, name: str) -> None:
    statement = STATEMENTS[name]
    marks = [None] * (1 if "?1" in statement else statement.count("?"))
    plan = [row[3] for row in store._connection.execute(f"EXPLAIN QUERY PLAN {statement}", marks)]
    assert not any("TEMP B-TREE" in step for step in plan), plan
    for step in plan:
        # read from its old end as far as LIMIT goes, or one row, or what holds nothing else
        by_row = step in ("SCAN events", "SCAN meta", "SCAN CONSTANT ROW", "SCAN superseded", "SCAN q")
        own = any(index in step for index in ("runs_begun", "agents_closed_at", "json_each", "erased"))
        assert not step.startswith("SCAN") or by_row or own, plan


def test_an_owner_that_was_followed_prunes_nothing_more(store: Store) -> None:
    store.write([spawned(1), *ended_runs(1, 1, 9)])
    other = sqlite3.connect(store.path)
    with other:
        other.execute("UPDATE meta SET epoch = epoch + 1")
    other.close()
    with pytest.raises(StoreLost):
        store.prune(NOTHING, 1e9)
    assert count(store, "runs") == 9


def test_a_step_that_cannot_be_written_changes_nothing_and_is_done_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    awaiting = AddRun(RunRow("c", 99, 2, "/t/a2", GOOD, 1.0, awaits=("r4",)))
    store.write([spawned(1), spawned(2), *ended_runs(1, 1, 9), awaiting])

    def refuse() -> None:
        raise sqlite3.OperationalError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", refuse)
        with pytest.raises(WriteFailed, match="no luck"):
            store.prune(NOTHING, 1e9)
    assert count(store, "runs") == 10
    prune(store, NOTHING, 1e9)
    reader = Reader.open(store.path)
    found = reader.read(FindRuns(("r3", "r4", "r5", "r9", "c")))
    assert [run is not None for run in found] == [False, True, False, True, True]  # type: ignore[attr-defined]
    store.write([EndRun("c", 2, "completed", None, None, 1, 1.0, 1.0)])
    prune(store, NOTHING, 1e9)
    assert reader.read(FindRuns(("r4",))) == (None,)
    reader.close()


def test_what_nobody_waits_for_is_flushed_with_the_next_commit(tmp_path: Path) -> None:
    opened, _ = Store.open(str(tmp_path / "agents.db"), "power")
    seen: list[int] = []

    class Watching(Store):
        def commit(self) -> None:
            seen.append(self._connection.execute("PRAGMA synchronous").fetchone()[0])
            super().commit()

    opened.__class__ = Watching
    opened.write([spawned(1), *ended_runs(1, 1, 3)])
    opened.prune(NOTHING, 1e9)
    opened.write([])
    assert seen == [2, 1, 2]
    opened.close()


def test_free_pages_beyond_the_spare_ones_are_given_back(store: Store) -> None:
    store.write([spawned(1)])
    for _ in range(3):
        store.write([PutSnapshot(1, Snapshot("json", 1, b"x" * (32 << 20)))])
        store.write([PutSnapshot(1, Snapshot("json", 1, b"x"))])
    store.tidy()
    before = Path(store.path).stat().st_size
    steps = 0
    while store.give_back():
        steps += 1
    store.tidy()
    after = Path(store.path).stat().st_size
    assert before - after >= steps * VACUUM_STEP * 4096 > 0  # and what SQLite needed to manage them
    assert after <= (SPARE_PAGES + VACUUM_STEP + 64) * 4096


# The actor


class Desk(PersistenceActor):
    """A writer outside any actor system: its messages are handed to it one by one."""

    myAddress = "the writer"  # noqa: N815


def test_what_a_closed_agent_has_sent_is_kept_when_retention_removes_the_agent(store: Store) -> None:
    """It was accepted by somebody else; only a deletion takes it back."""
    store.write(
        [
            spawned(1),
            spawned(2),
            AddMessage(MessageRow(1, 2, GOOD, "/t/a1", 1.0, 1)),
            SetAgent(1, "closed", None, 2.0),
        ]
    )
    prune(store, Retention(**{**FOR_EVER, "closed_age": 0.0, "least_age": 0.0}), 10.0)
    reader = Reader.open(store.path)
    try:
        assert reader.read(FindAgents((1, 2))) == (replace(spawned(2).row, unread=(1,)),)
    finally:
        reader.close()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Desk]:
    actor = Desk()
    yield actor
    actor.close()


def sent(effects: Iterable[Any], to: str) -> list[Any]:
    return [effect.message for effect in effects if isinstance(effect, Send) and effect.to == to]


def test_a_batch_waits_for_one_step_at_most(writer: Desk, tmp_path: Path) -> None:
    """After each batch and each step there is one message to itself at most, for one small transaction."""
    effects = list(writer.decide(OpenStore(str(tmp_path / "a.db"), "process", None, NOTHING), "me"))
    own = sent(effects, "the writer")
    assert len(own) == 1  # what is past from before
    assert list(writer.decide(own[0], "the writer")) == []
    commits = 0

    class Counting(Store):
        def commit(self) -> None:
            nonlocal commits
            commits += 1
            super().commit()

    assert writer.store is not None
    writer.store.__class__ = Counting
    for number in range(4):
        records = [*([spawned(1)] if number == 0 else []), *ended_runs(1, 1 + 900 * number, 900)]
        effects = list(writer.decide(WriteBatch(number, tuple(records)), "me"))
        (answer,) = sent(effects, "me")
        assert isinstance(answer, BatchWritten)
        first = next(iter(effects))
        assert isinstance(first, Send)
        assert first.to == "me"  # its answer comes first
        own += sent(effects, "the writer")
        assert len(own) - 1 == 1, "only one step is on its way, whatever else comes"
    steps = 0
    own = own[1:]
    while own:
        steps += 1
        before = commits
        own = sent(writer.decide(own[0], "the writer"), "the writer")
        assert len(own) <= 1
        assert commits - before <= 1
    assert steps > 1
    assert count(writer.store, "runs") == 1


def test_what_is_past_with_time_alone_goes_without_a_commit(writer: Desk, tmp_path: Path) -> None:
    now = 100.0
    writer.clock = writer.uptime = lambda: now
    keep = Retention(**{**FOR_EVER, "run_age": 1_000.0})  # type: ignore[arg-type]
    list(writer.decide(OpenStore(str(tmp_path / "a.db"), "process", None, keep), "me"))
    list(writer.decide(writer_actor._Tidy(), "the writer"))
    effects = writer.decide(WriteBatch(1, (spawned(1), *ended_runs(1, 1, 3, at=now))), "me")
    assert sent(effects, "the writer") == []  # too few for a look

    def pass_time(until: float) -> None:
        nonlocal now
        now = until
        own = sent(writer.untidy(), "the writer")
        while own:
            own = sent(writer.decide(own[0], "the writer"), "the writer")

    assert writer.store is not None
    pass_time(161.0)  # looks, and sees when it will be time
    assert (count(writer.store, "runs"), writer.look_at) == (3, 1_100.0)
    pass_time(1_099.0)
    assert count(writer.store, "runs") == 3
    pass_time(1_100.0)
    assert count(writer.store, "runs") == 1


def test_a_turn_that_holds_everything_for_a_day_is_told_once(
    writer: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    writer.clock = writer.uptime = lambda: now
    list(writer.decide(OpenStore(str(tmp_path / "a.db"), "process", None, NOTHING), "me"))
    begun = [AddRun(RunRow("slow", 1, 2, "/t/a2", GOOD, 50.0)), BeginRun("slow", 2, 1, 60.0)]
    records = (spawned(1), spawned(2), *begun, *ended_runs(1, 2, 3))
    list(writer.decide(WriteBatch(1, records), "me"))
    assert writer.store is not None
    writer.store._connection.execute("UPDATE meta SET first_origin = 2")
    for now in (200.0, 80_000.0, 100_000.0, 200_000.0):  # noqa: B007
        writer.make_room(writer.store)
    assert [record.message[:40] for record in caplog.records] == [
        "run slow was accepted 28 hours ago and ha"[:40]
    ]
    assert count(writer.store, "runs") == 4
    list(writer.decide(WriteBatch(2, (EndRun("slow", 2, "completed", None, None, 1, 60.0, now),)), "me"))
    while writer.make_room(writer.store):
        pass
    assert count(writer.store, "runs") == 2


def without_a_gap(path: Path, over: threading.Event, begun: threading.Event) -> None:
    """Three readers, of which two are at work at any time."""
    readers = [sqlite3.connect(path, isolation_level=None) for _ in range(3)]
    for reader in itertools.cycle(readers):
        if reader.in_transaction:
            reader.execute("ROLLBACK")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchall()
        begun.set()
        if over.wait(0.001):
            break
    for reader in readers:
        reader.close()


def test_readers_without_a_gap_between_them_do_not_make_the_log_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LONG_LOG", 50)
    monkeypatch.setattr(store_module, "CHECKPOINT_AFTER", 50)
    path = tmp_path / "a.db"
    store, _ = Store.open(str(path), "process")
    over, begun = threading.Event(), threading.Event()
    readers = threading.Thread(target=without_a_gap, args=(path, over, begun))
    readers.start()
    begun.wait()
    longest = 0
    try:
        store.write([spawned(1)])
        for number in range(300):
            store.write(ended_runs(1, 1 + 20 * number, 20))
            if store.untidy:
                store.tidy()
            longest = max(longest, path.with_name("a.db-wal").stat().st_size // 4096)
    finally:
        over.set()
        readers.join()
        store.close()
    assert longest < 1_500, "without a wait for the readers it has 3,800 pages"


def test_a_log_that_a_reader_made_long_is_cut_when_that_has_gone(
    writer: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LONG_LOG", 200)
    monkeypatch.setattr(store_module, "CHECKPOINT_AFTER", 50)
    path = tmp_path / "a.db"
    log = path.with_name("a.db-wal")
    list(writer.decide(OpenStore(str(path), "process", None, NOTHING), "me"))
    store = writer.store
    assert store is not None
    store.write([spawned(1)])
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM runs").fetchall()
    for number in range(60):
        store.write(ended_runs(1, 1 + 20 * number, 20))
        store.tidy()
        prune(store, NOTHING, 1e9)
    assert store.log_held
    assert log.stat().st_size > 200 * 4096
    reader.close()
    writer.tidying = False  # what the opening sent to itself is not delivered here
    (again,) = sent(writer.untidy(log=store.log_held), "the writer")  # as with each sign of life
    writer.decide(again, "the writer")
    assert (store.log_held, log.stat().st_size) == (False, 0)
    assert store._connection.execute("PRAGMA busy_timeout").fetchone()[0] > 0
