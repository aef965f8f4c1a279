"""The agenda: what can happen next, channel by channel."""

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.systems.choices import Choices, Scheduled, Seeded
from greenroom.actors.systems.timers import TimerQueue


def _say(told: list[str], word: str) -> object:
    return lambda: told.append(word)


@given(st.lists(st.one_of(st.sampled_from("abc"), st.integers(0, 5))))
def test_a_channel_keeps_its_order_and_the_first_choice_is_the_oldest(steps: list[str | int]) -> None:
    agenda, told, waiting, count = TimerQueue(), [], [], 0
    for step in steps:
        if isinstance(step, str):
            word = f"{step}{count}"
            agenda.add(step, _say(told, word))  # type: ignore[arg-type]
            waiting.append(word)
            count += 1
        elif waiting:
            heads: dict[str, str] = {}
            for word in waiting:
                heads.setdefault(word[0], word)
            assert len(agenda) == len(heads)
            index = step % len(heads)
            agenda.take(index)()
            assert told[-1] == list(heads.values())[index]  # by age, and index 0 is the oldest
            waiting.remove(told[-1])
    assert len(agenda) == len({word[0] for word in waiting})


def test_the_same_seed_chooses_the_same_and_each_way_comes() -> None:
    def draw(seed: int) -> list[int]:
        choices = Seeded(seed)
        return [choices.choose(4) for _ in range(300)]

    assert draw(5) == draw(5)
    chosen = defaultdict(int)
    for seed in range(30):
        for way in draw(seed):
            chosen[way] += 1
    assert set(chosen) == {0, 1, 2, 3}


def test_what_a_seed_chose_written_down_chooses_the_same() -> None:
    questions = [random.Random(1).randrange(1, 6) for _ in range(200)]
    seeded = Seeded(3)
    chosen = [seeded.choose(ways) for ways in questions]
    written = Scheduled(seeded.taken)
    assert [written.choose(ways) for ways in questions] == chosen


def test_one_way_is_no_choice_and_no_chance_is_not_asked() -> None:
    choices = Choices()
    assert choices.choose(1) == 0
    assert choices.chance(0.0) is False
    assert choices.made == 0
    assert choices.choose(2) == 0
    assert choices.made == 1


@pytest.mark.parametrize("probability", [0.1, 0.9])
def test_a_chance_comes_about_as_often_as_it_says(probability: float) -> None:
    hits = sum(Seeded(seed).chance(probability) for seed in range(1000))
    assert abs(hits - 1000 * probability) < 60
