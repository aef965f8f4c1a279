"""The explorer itself, on worlds of which it is known how many schedules they have."""

import random
from collections import Counter
from math import factorial, prod
from typing import Any, Self

import pytest

from .explorer import Wrong, count_by_repeating, explore, wander


class Boxes:
    """Some boxes with some messages each, that nobody reacts to."""

    def __init__(self, *counts: int) -> None:
        self.left = list(counts)

    def copy(self) -> Self:
        return type(self)(*self.left)

    def key(self) -> Any:
        return tuple(self.left)

    def ways(self) -> list[Any]:
        return [box for box, left in enumerate(self.left) if left]

    def take(self, way: Any) -> None:
        self.left[way] -= 1

    def check_now(self) -> None:
        pass

    def check_at_rest(self) -> None:
        assert not any(self.left)


class Races(Boxes):
    """What two of them do to a common number: read it, write what was read plus one."""

    def __init__(self, *counts: int) -> None:
        super().__init__(2, 2)
        self.read, self.number = [0, 0], 0

    def copy(self) -> Self:
        other = type(self)()
        other.left, other.read, other.number = self.left.copy(), self.read.copy(), self.number
        return other

    def key(self) -> Any:
        return tuple(self.left), tuple(self.read), self.number

    def take(self, way: Any) -> None:
        if self.left[way] == 2:
            self.read[way] = self.number
        else:
            self.number = self.read[way] + 1
        super().take(way)

    def check_at_rest(self) -> None:
        assert self.number == 2, "an update was lost"


class Circle(Boxes):
    """A world that never ends."""

    def take(self, way: Any) -> None:
        self.left[way] = 1


@pytest.mark.parametrize("counts", [(1,), (3, 2), (1, 1, 1, 1), (4, 3, 2), (6, 6, 6)])
def test_the_schedules_of_independent_boxes_are_a_multinomial_number(counts: tuple[int, ...]) -> None:
    explored = explore(Boxes(*counts))
    assert explored.schedules == factorial(sum(counts)) // prod(map(factorial, counts))
    assert explored.states == prod(count + 1 for count in counts)
    assert explored.ends == 1


@pytest.mark.parametrize("counts", [(1,), (3, 2), (1, 1, 1, 1)])
def test_both_ways_to_count_agree_at_each_length(counts: tuple[int, ...]) -> None:
    explored = explore(Boxes(*counts))
    for length in range(sum(counts) + 2):
        assert explored.prefixes(length) == count_by_repeating(lambda: Boxes(*counts), length)
    assert explored.prefixes(sum(counts)) == explored.schedules


def test_a_lost_update_is_found_and_its_schedule_repeats() -> None:
    with pytest.raises(Wrong, match="an update was lost") as found:
        explore(Races())
    world = Races()
    for way in found.value.schedule:
        world.take(way)
    assert not world.ways()
    assert world.number == 1


def test_what_goes_round_in_circles_is_found() -> None:
    with pytest.raises(Wrong, match="round in circles"):
        explore(Circle(1))


def test_what_is_too_large_is_not_cut_off_silently() -> None:
    with pytest.raises(Wrong, match="more than 100 states"):
        explore(Boxes(9, 9, 9), most_states=100)


def test_a_walk_comes_to_an_end_and_takes_different_ways() -> None:
    walks: Counter[tuple[int, ...]] = Counter()
    for seed in range(20):
        *_, (world, ways) = wander(Boxes(2, 2), random.Random(seed))
        assert not ways
        world.check_at_rest()
        walks[tuple(len(ways) for _, ways in wander(Boxes(2, 2), random.Random(seed)))] += 1
    assert len(walks) > 1
