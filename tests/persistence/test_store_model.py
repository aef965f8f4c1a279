"""The store against the naive model: any history, any closing, any kill."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from greenroom.errors import SnapshotUnreadable
from greenroom.persistence import store as store_module
from greenroom.persistence.projections import apply_to_run
from greenroom.persistence.reader import Reader
from greenroom.persistence.record_groups import grouped
from greenroom.persistence.records import AddRun, BeginRun, EndRun, InterruptRun, PutSnapshot, Record
from greenroom.persistence.rows import RunRow
from greenroom.persistence.sql_writes import (
    ROWS_IN_STATEMENT,
    STATEMENT_BYTES,
    LastRunColumns,
    Write,
    statements,
)
from greenroom.persistence.store import Store
from greenroom.types import RunId

from .model import FOR_EVER, NaiveStore, next_records, questions


class StoreAgainstModel(RuleBasedStateMachine):
    """Writes go to both; whatever happens to the file, both answer alike."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "agents.db"
        self.model = NaiveStore()
        self.open()

    def open(self) -> None:
        self.store, unfinished = Store.open(str(self.path), "process")
        self.reader = Reader.open(str(self.path))
        self.model.epoch += 1
        self.model.nonce = self.model.nonce or unfinished.nonce  # drawn once, and never again
        assert unfinished == self.model.unfinished()

    def close(self) -> None:
        self.reader.close()
        self.store.close()

    @rule(data=st.data(), sync=st.booleans())
    def write(self, data: st.DataObject, sync: bool) -> None:
        records = data.draw(next_records(self.model))
        self.store.write(records, sync=sync)
        self.model.write(records)

    @rule()
    def tidy(self) -> None:
        self.store.tidy()

    @rule(rows=st.sampled_from([1, 250]))
    def erase(self, rows: int) -> None:
        """What is left of deleted agents goes a little at a time."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store_module, "rows_of_a_step", lambda _written: rows)
            self.store.prune(FOR_EVER, 1e9)

    @rule()
    def close_and_open(self) -> None:
        self.close()
        assert sorted(p.name for p in self.folder.iterdir()) == ["agents.db", "agents.db.key"]
        self.open()

    @rule(data=st.data())
    def kill_within_a_transaction_and_open(self, data: st.DataObject) -> None:
        """The files as a killed process leaves them, with a transaction under way."""
        self.store.begin()
        self.store.apply(data.draw(next_records(self.model)))
        left = Path(tempfile.mkdtemp())
        for file in self.folder.iterdir():
            if not file.name.endswith("-shm"):  # memory of the dead: the next opener makes it anew
                shutil.copy(file, left / file.name)
        self.store._connection.execute("ROLLBACK")
        self.close()
        shutil.rmtree(self.folder)
        self.folder, self.path = left, left / "agents.db"
        self.open()

    @invariant()
    def every_question_has_the_models_answer(self) -> None:
        for question in questions(self.model):
            try:
                found: object = self.reader.read(question)
            except SnapshotUnreadable:
                found = SnapshotUnreadable
            assert found == self.model.read(question), question

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.close()
            shutil.rmtree(self.folder)


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(
    max_examples=25,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def dump(store: Store) -> list[str]:
    """All that is in the file, but for the times at which it was made and opened."""
    when = ("_sqlite_migrations", 'INTO "owner"')
    return [line for line in store._connection.iterdump() if not any(name in line for name in when)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_grouping_gives_the_same_file_as_one_by_one(data: st.DataObject) -> None:
    model = NaiveStore()
    histories: list[list[Record]] = []
    for _ in range(data.draw(st.integers(1, 3))):
        histories.append(data.draw(next_records(model)))
        model.write(histories[-1])
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "a.db.key"
        at_once, _ = Store.open(f"{folder}/a.db", "process")
        shutil.copy(key, Path(folder) / "b.db.key")  # the same seals
        one_by_one, _ = Store.open(f"{folder}/b.db", "process")
        for store in (at_once, one_by_one):  # each store draws its own
            store._connection.execute("UPDATE meta SET nonce = 'same'")
        for records in histories:
            at_once.write(records)
            for record in records:
                one_by_one.write([record])
        assert dump(at_once) == dump(one_by_one)
        at_once.close()
        one_by_one.close()


def test_beginnings_of_runs_that_ended_are_left_out() -> None:
    first, second = BeginRun("r1", 1, 1, 1.0), BeginRun("r2", 1, 1, 1.0)
    end = EndRun("r1", 1, "completed", None, None, 1, 1.0, 2.0)
    last = LastRunColumns("r1", 1, 2.0)
    assert list(grouped([first, second, end])) == [
        (BeginRun, [second]),
        (EndRun, [end]),
        (LastRunColumns, [last]),
    ]


def run_after(records: Iterable[Record], run_id: RunId) -> RunRow | None:
    """The run as `records` tell it."""
    of_run = (
        record
        for record in records
        if (record.row.run_id if isinstance(record, AddRun) else getattr(record, "run_id", None)) == run_id
    )
    return apply_to_run(None, of_run)


@given(st.data())
def test_grouping_keeps_every_record_but_what_a_later_one_says_again(data: st.DataObject) -> None:
    model = NaiveStore()
    model.write(data.draw(next_records(model)))
    kept = [record for _, group in grouped(model.records) for record in group]
    ended = {r.run_id for r in model.records if isinstance(r, EndRun)}
    last = {r.agent_id: r for r in model.records if isinstance(r, PutSnapshot)}
    for record in model.records:
        match record:
            case _ if record in kept:
                pass
            case BeginRun() if record.run_id in ended:
                pass
            case PutSnapshot():
                assert last[record.agent_id] in kept
            case (
                AddRun(row=RunRow(run_id=run_id))
                | BeginRun(run_id=run_id)
                | InterruptRun(run_id=run_id)
                | EndRun(run_id=run_id)
            ):
                assert run_after(kept, run_id) == run_after(model.records, run_id)
            case _:
                raise AssertionError(f"{record} was left out")


@given(st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 30)), max_size=900))
def test_rows_become_few_statements_in_their_order_and_none_names_a_key_twice(
    rows: list[tuple[bytes, int]],
) -> None:
    write = Write("INSERT INTO t VALUES ", 2, "", lambda _, r: r, key=1)
    written = list(statements(write, rows))
    assert [value for _, values in written for value in values] == [value for row in rows for value in row]
    for text, values in written:
        keys = values[1::2]
        assert len(set(keys)) == len(keys) == text.count("(?,?)")
        assert len(keys) in ROWS_IN_STATEMENT


def test_rows_with_large_values_go_one_by_one() -> None:
    write = Write("INSERT INTO t VALUES ", 1, "", lambda _, r: r, value=0)
    small, large = [(b"x",)] * 16, [(bytes(STATEMENT_BYTES // 8),)] * 16
    assert len(list(statements(write, small))) == 1
    assert max(len(values) for _, values in statements(write, large)) <= 8
    assert sum(len(values) for _, values in statements(write, large)) == 16
