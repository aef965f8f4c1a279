"""The journal by itself: what waits for which batch, what is called off, which commit is at fault."""

from typing import Any

import pytest

from greenroom.actors.effects import Send
from greenroom.actors.vocabulary import Durability
from greenroom.persistence.journal import MOST_LAZY, Journal, Publish
from greenroom.persistence.protocol import AddRun, Commit, Fact, RunRow, SetIncarnation, WriteBatch


class News:
    """What somebody is told."""

    def __init__(self, request: object) -> None:
        self.request = request


def run(number: int) -> AddRun:
    return AddRun(RunRow(f"run-{number}", number, 1, "/t/a", b"", 0.0))


def commit(journal: Journal, number: int, level: Durability = "process", **options: Any) -> list[Any]:
    fact = Fact(0.0, "run.accepted", "/t/a", f"run-{number}")
    return journal.commit(Commit((run(number),), (fact,), level, **options))


def batch(effects: list[Any]) -> WriteBatch:
    (found,) = [send.message for send in effects if isinstance(send.message, WriteBatch)]
    return found


def published(effects: list[Any]) -> list[int]:
    return [row.seq for send in effects if isinstance(send.message, Publish) for row in send.message.events]


@pytest.fixture
def journal() -> Journal:
    return Journal(durability="process", next_seq=1)


def test_news_wait_for_their_own_commit_and_for_no_later_one(journal: Journal) -> None:
    commit(journal, 1)
    first = batch(journal.take_batch())
    commit(journal, 2)
    one, two = Send("a", News(1)), Send("b", News(2))
    assert journal.tell(1, "process", one) == []
    assert journal.tell(2, "process", two) == []
    effects = journal.written(first.number)
    assert one in effects
    assert two not in effects
    assert journal.tell(1, "process", one) == [one], "it is on disk"
    assert journal.tell(2, "memory", one) == [one]
    assert two in journal.written(2)


def test_who_no_longer_waits_is_not_told_and_leaves_nothing(journal: Journal) -> None:
    commit(journal, 1)
    journal.tell(1, "process", Send("a", News("gone")))
    journal.tell(1, "process", kept := Send("a", News("kept")))
    journal.forget("gone")
    journal.forget("never asked")
    number = batch(journal.take_batch()).number
    assert [send for send in journal.written(number) if isinstance(send.message, News)] == [kept]
    assert not journal._told_later


@pytest.mark.parametrize("when", ["before it is sent", "while it is written", "long after"])
def test_what_was_written_is_flushed_for_who_asks_for_power_later(journal: Journal, when: str) -> None:
    """A known run that is given again with `durability="power"` survives a power cut from then on."""
    commit(journal, 1)
    news = Send("a", News(1))
    if when == "before it is sent":
        assert journal.tell(1, "power", news) == []
        assert batch(journal.take_batch()).sync
        assert news in journal.written(1)
        return
    first = batch(journal.take_batch())
    assert not first.sync
    if when == "long after":
        journal.written(1)
    assert journal.tell(1 if when == "while it is written" else 0, "power", news) == []
    effects = journal.take_batch() if when == "long after" else journal.written(1)
    assert news not in effects
    assert batch(effects).sync
    assert news in journal.written(2)
    again = Send("a", News(2))
    assert journal.tell(1, "power", again) == [again], "it is flushed"


def test_a_lazy_commit_asks_for_no_batch_and_is_told_when_all_before_it_is_written(
    journal: Journal,
) -> None:
    commit(journal, 1)
    number = batch(journal.take_batch()).number
    fact = (Fact(0.0, "agent.evicted", "/t/a"),)
    assert journal.commit(Commit((SetIncarnation(1, 1),), fact, lazy=True)) == []
    effects = journal.written(number)
    assert published(effects) == [1, 2]
    assert journal.take_batch() == []
    assert (journal.unwritten, journal.commits, journal.unwritten_of(1)) == (0, 1, False)
    assert published(journal.commit(Commit((), fact, lazy=True))) == [3], "nothing is before it: at once"
    commit(journal, 4)
    assert published(journal.commit(Commit((), fact, lazy=True))) == [], "not before what is not on disk"
    number = batch(journal.take_batch()).number
    assert published(journal.written(number)) == [4, 5]


def test_lazy_commits_are_written_before_they_are_many(journal: Journal) -> None:
    fact = (Fact(0.0, "agent.evicted", "/t/a"),)
    for _ in range(MOST_LAZY - 1):
        journal.commit(Commit((), fact, lazy=True))
        assert journal.take_batch() == []
    journal.commit(Commit((), fact, lazy=True))
    assert len(batch(journal.take_batch()).records) == MOST_LAZY


@pytest.mark.parametrize("poison", [0, 1, 17, 63, 99])
def test_the_commit_at_fault_is_found_and_all_before_it_is_written(journal: Journal, poison: int) -> None:
    for number in range(100):
        commit(journal, number)
    written: list[str] = []
    effects, culprit, tries = journal.take_batch(), None, 0
    while culprit is None:
        tries += 1
        sent = batch(effects)
        runs = [record.row.run_id for record in sent.records if isinstance(record, AddRun)]
        if f"run-{poison}" in runs:
            culprit = journal.narrow_down()
            effects = journal.take_batch()
        else:
            written += runs
            effects = journal.written(sent.number)
    assert culprit[0] == run(poison)
    assert written == [f"run-{number}" for number in range(poison)]
    assert effects == [], "nothing is written after it"
    assert tries < 50


def test_what_is_not_on_disk_is_measured(journal: Journal) -> None:
    commit(journal, 1)
    commit(journal, 2)
    assert (journal.debt.records, journal.debt.pieces) == (4, 0)
    number = batch(journal.take_batch()).number
    journal.written(number)
    assert (journal.debt.records, journal.debt.bytes) == (0, 0)
