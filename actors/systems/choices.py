"""Where every choice of a simulation comes from: one source, asked in one order.

A choice is a number below the number of ways there are, and 0 is the natural one: first come, first
served, no delay, no fault. So a schedule is what differs from that, and shrinking it leads to the shortest
list of differences that still matter. Choices are numbered as they are asked for; the same answers to the
same numbers are the same simulation.
"""

import random
from collections.abc import Mapping

REORDER_PROBABILITIES = (0.02, 0.1, 0.3, 1.0)
"""How often a seed departs from the natural order. A little disorder finds other mistakes than much."""


class Choices:
    """A source of choices: the natural ones."""

    def __init__(self) -> None:
        self.made = 0
        self.taken: dict[int, int] = {}  # those that were not 0, by their numbers: a schedule

    def choose(self, ways: int) -> int:
        """A number from 0 to `ways` - 1. Where there is one way, nothing is asked."""
        return self._note(self._draw(self.made, ways)) if ways > 1 else 0

    def chance(self, probability: float) -> bool:
        """Whether something that happens with this probability does. The natural answer is no."""
        return probability > 0.0 and bool(self._note(self._toss(self.made, probability)))

    def _note(self, choice: int) -> int:
        if choice:
            self.taken[self.made] = choice
        self.made += 1
        return choice

    def _draw(self, number: int, ways: int) -> int:  # noqa: ARG002
        return 0

    def _toss(self, number: int, probability: float) -> int:  # noqa: ARG002
        return self._draw(number, 2)


class Seeded(Choices):
    """Choices drawn from a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        # One seed and its neighbour begin alike without it: their first draws are of the same table.
        self._random = random.Random(f"greenroom {seed}")
        self._temper = REORDER_PROBABILITIES[self._random.randrange(len(REORDER_PROBABILITIES))]

    def _draw(self, number: int, ways: int) -> int:  # noqa: ARG002
        draw = self._random.random
        return int(draw() * ways) if draw() < self._temper else 0

    def _toss(self, number: int, probability: float) -> int:  # noqa: ARG002
        return int(self._random.random() < probability)


class Scheduled(Choices):
    """Choices written down: number of the choice → which way, for those that are not natural."""

    def __init__(self, schedule: Mapping[int, int]) -> None:
        super().__init__()
        self._schedule = dict(schedule)

    def _draw(self, number: int, ways: int) -> int:
        return self._schedule.get(number, 0) % ways
