"""Errands: everything is done, in order, in portions, and the disk can hold up those that record."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.effects import Effect, Send
from greenroom.actors.ledger.errands import NextPortion, Portions


def steps(name: str, count: int) -> Iterator[list[Effect]]:
    for number in range(count):
        yield [Send(name, number)]


def split(effects: list[Effect]) -> tuple[list[object], list[NextPortion]]:
    """What was done, and which errands go on."""
    sends = [effect for effect in effects if isinstance(effect, Send)]
    done = [(send.to, send.message) for send in sends if not isinstance(send.message, NextPortion)]
    return done, [send.message for send in sends if isinstance(send.message, NextPortion)]


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 40), max_size=4),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_all_steps_are_done_in_order_whoever_comes_between(
    wanted: dict[str, int], portion: int, chance: st.DataObject
) -> None:
    errands = Portions(portion)
    done: list[object] = []
    under_way: list[NextPortion] = []
    for name, count in wanted.items():
        now, later = split(errands.begin(steps(name, count)))
        assert len(now) <= portion
        done, under_way = done + now, under_way + later
    while under_way:
        next_ = under_way.pop(chance.randrange(len(under_way)))  # type: ignore[attr-defined]
        now, later = split(errands.go_on(next_.number))
        assert len(now) <= portion
        done, under_way = done + now, under_way + later
    assert not errands
    for name, count in wanted.items():
        assert [number for to, number in done if to == name] == list(range(count))  # type: ignore[misc]


def test_a_disk_that_is_behind_holds_up_what_records_and_nothing_else() -> None:
    errands = Portions(1)
    _, (records,) = split(errands.begin(steps("records", 3), records=True))
    _, (reads,) = split(errands.begin(steps("reads", 3)))
    assert split(errands.go_on(records.number, behind=True)) == ([], [])
    assert split(errands.go_on(reads.number, behind=True))[0] == [("reads", 1)]
    assert errands, "it is not forgotten"
    assert split(errands.release()) == ([], [records])
    assert split(errands.go_on(records.number))[0] == [("records", 1)]
    assert errands.release() == []
