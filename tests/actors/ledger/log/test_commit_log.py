"""The commit log by itself: what waits for which batch, what is called off, which commit is at fault."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.effects import Send
from greenroom.actors.ledger.log.commit_log import MOST_LAZY, CommitLog, Publish
from greenroom.actors.ledger.log.commits import Commit, NewEvent
from greenroom.actors.storage.protocol import Answer, Read, WriteBatch
from greenroom.persistence.queries import FindRuns
from greenroom.persistence.records import AddEvent, AddRun, BeginRun, EraseAgent, SetIncarnation
from greenroom.persistence.rows import RunRow
from greenroom.types import Durability


class News:
    """What somebody is told."""

    def __init__(self, request: object) -> None:
        self.request = request


def run(number: int) -> AddRun:
    return AddRun(RunRow(f"run-{number}", number, 1, "/t/a", b"", 0.0))


def commit(commit_log: CommitLog, number: int, level: Durability = "process", **options: Any) -> list[Any]:
    fact = NewEvent(0.0, "run.accepted", "/t/a", f"run-{number}")
    return commit_log.commit(Commit((run(number),), (fact,), level, **options))


def batch(effects: list[Any]) -> WriteBatch:
    (found,) = [send.message for send in effects if isinstance(send.message, WriteBatch)]
    return found


def published(effects: list[Any]) -> list[int]:
    return [row.seq for send in effects if isinstance(send.message, Publish) for row in send.message.events]


@pytest.fixture
def commit_log() -> CommitLog:
    return CommitLog(durability="process", next_seq=1)


def test_news_wait_for_their_own_commit_and_for_no_later_one(commit_log: CommitLog) -> None:
    commit(commit_log, 1)
    first = batch(commit_log.take_batch())
    commit(commit_log, 2)
    one, two = Send("a", News(1)), Send("b", News(2))
    assert commit_log.tell(1, "process", one) == []
    assert commit_log.tell(2, "process", two) == []
    effects = commit_log.written(first.number)
    assert one in effects
    assert two not in effects
    assert commit_log.tell(1, "process", one) == [one], "it is on disk"
    assert commit_log.tell(2, "memory", one) == [one]
    assert two in commit_log.written(2)


def test_who_no_longer_waits_is_not_told_and_leaves_nothing(commit_log: CommitLog) -> None:
    commit(commit_log, 1)
    commit_log.tell(1, "process", Send("a", News("gone")))
    commit_log.tell(1, "process", kept := Send("a", News("kept")))
    commit_log.forget("gone")
    commit_log.forget("never asked")
    number = batch(commit_log.take_batch()).number
    assert [send for send in commit_log.written(number) if isinstance(send.message, News)] == [kept]
    assert not commit_log._after_durable


@pytest.mark.parametrize("when", ["before it is sent", "while it is written", "long after"])
def test_what_was_written_is_flushed_for_who_asks_for_power_later(commit_log: CommitLog, when: str) -> None:
    """A known run that is given again with `durability="power"` survives a power cut from then on."""
    commit(commit_log, 1)
    news = Send("a", News(1))
    if when == "before it is sent":
        assert commit_log.tell(1, "power", news) == []
        assert batch(commit_log.take_batch()).sync
        assert news in commit_log.written(1)
        return
    first = batch(commit_log.take_batch())
    assert not first.sync
    if when == "long after":
        commit_log.written(1)
    assert commit_log.tell(1 if when == "while it is written" else 0, "power", news) == []
    effects = commit_log.take_batch() if when == "long after" else commit_log.written(1)
    assert news not in effects
    assert batch(effects).sync
    assert news in commit_log.written(2)
    again = Send("a", News(2))
    assert commit_log.tell(1, "power", again) == [again], "it is flushed"


def test_a_lazy_commit_asks_for_no_batch_and_is_told_when_all_before_it_is_written(
    commit_log: CommitLog,
) -> None:
    commit(commit_log, 1)
    number = batch(commit_log.take_batch()).number
    fact = (NewEvent(0.0, "agent.evicted", "/t/a"),)
    assert commit_log.commit(Commit((SetIncarnation(1, 1),), fact, lazy=True)) == []
    effects = commit_log.written(number)
    assert published(effects) == [1, 2]
    assert commit_log.take_batch() == []
    assert (commit_log.unwritten, commit_log.commits, commit_log.unwritten_of(1)) == (0, 1, False)
    assert published(commit_log.commit(Commit((), fact, lazy=True))) == [3], "nothing is before it: at once"
    commit(commit_log, 4)
    assert published(commit_log.commit(Commit((), fact, lazy=True))) == [], "not before what is not on disk"
    number = batch(commit_log.take_batch()).number
    assert published(commit_log.written(number)) == [4, 5]


def test_lazy_commits_are_written_before_they_are_many(commit_log: CommitLog) -> None:
    fact = (NewEvent(0.0, "agent.evicted", "/t/a"),)
    for _ in range(MOST_LAZY - 1):
        commit_log.commit(Commit((), fact, lazy=True))
        assert commit_log.take_batch() == []
    commit_log.commit(Commit((), fact, lazy=True))
    assert len(batch(commit_log.take_batch()).records) == MOST_LAZY


@pytest.mark.parametrize("poison", [0, 1, 17, 63, 99])
def test_the_commit_at_fault_is_found_and_all_before_it_is_written(
    commit_log: CommitLog, poison: int
) -> None:
    for number in range(100):
        commit(commit_log, number)
    written: list[str] = []
    effects, culprit, tries = commit_log.take_batch(), None, 0
    while culprit is None:
        tries += 1
        sent = batch(effects)
        runs = [record.row.run_id for record in sent.records if isinstance(record, AddRun)]
        if f"run-{poison}" in runs:
            culprit = commit_log.narrow_down()
            effects = commit_log.take_batch()
        else:
            written += runs
            effects = commit_log.written(sent.number)
    assert culprit[0] == run(poison)
    assert written == [f"run-{number}" for number in range(poison)]
    assert effects == [], "nothing is written after it"
    assert tries < 50


def test_of_a_run_whose_agent_was_erased_and_another_with_its_id_the_later_counts(
    commit_log: CommitLog,
) -> None:
    commit(commit_log, 1)
    commit_log.commit(Commit((EraseAgent(1),)))
    commit(commit_log, 1)
    assert commit_log.accepted_by("run-1") == 3


commits = st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.sampled_from(["process", "memory"])))


@given(commits, st.booleans())
def test_what_is_withdrawn_is_in_no_commit_and_all_else_is(
    later: list[tuple[int, bool, Durability]], asked_before: bool
) -> None:
    """Run 1 is accepted first; what follows begins it and others, or accepts others."""
    commit_log = CommitLog(durability="process", next_seq=1)
    news: dict[int, Send] = {0: Send("who asks", News(0))}
    commit(commit_log, 1, then=(news[0],))
    kept: list[Any] = []
    accepted, told = {1}, False
    for place, (number, together, level) in enumerate(later, 1):
        begins = number in accepted
        records: tuple[Any, ...] = (BeginRun(f"run-{number}", 1, 1, 0.0),) if begins else (run(number),)
        records += (SetIncarnation(1, place),) if together else ()
        accepted.add(number)
        news[place] = Send("who asks", News(place))
        commit_log.commit(Commit(records, (), level, (news[place],)))
        told = told or (number == 1 and level == "memory")
        kept += [one for one in records if getattr(one, "run_id", None) != "run-1"]
        if number == 1 and not together:
            del news[place]
    batch(commit_log.take_batch())
    while commit_log.narrow_down() is None:
        batch(commit_log.take_batch())
    if asked_before:
        commit_log.accepted_by("run-1")  # has all sorted

    def about(record: Any) -> bool:
        row = getattr(record, "row", record)
        return getattr(row, "run_id", None) == "run-1"

    withdrawn = commit_log.withdraw(about, lambda _: True)
    if told:
        assert withdrawn is None
        return
    assert withdrawn is not None
    assert withdrawn[0] == news.pop(0)
    assert commit_log.accepted_by("run-1") == 0
    ((ask,),) = [[send.message for send in commit_log.ask("who", "asks", FindRuns(("run-1",)))]]
    assert isinstance(ask, Read)
    (answer,) = commit_log.answered(Answer(ask.request, (None,)))
    assert answer.message.value == (None,)
    written: list[Any] = []
    sent: list[Any] = []
    effects = commit_log.resume()
    while effects:
        found = batch(effects)
        written += found.records
        effects = commit_log.written(found.number)
        sent += [one for one in effects if isinstance(one.message, News)]
        effects = [one for one in effects if isinstance(one.message, WriteBatch)]
    assert [one for one in written if type(one) is not AddEvent] == kept
    waiting = [
        place for place, (_, _, level) in enumerate(later, 1) if level == "process" and place in news
    ]
    assert [one.message.request for one in sent] == waiting


def test_what_is_not_on_disk_is_measured(commit_log: CommitLog) -> None:
    commit(commit_log, 1)
    commit(commit_log, 2)
    assert (commit_log.debt.records, commit_log.debt.pieces) == (4, 0)
    number = batch(commit_log.take_batch()).number
    commit_log.written(number)
    assert (commit_log.debt.records, commit_log.debt.bytes) == (0, 0)
