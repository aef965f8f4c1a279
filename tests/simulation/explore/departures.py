"""All schedules of a whole simulation that depart from the natural order at most so many times.

A simulation asks one source for each choice, and 0 is the natural one. So the schedules are a tree, and
the few departures that a race needs are a bound that a whole runtime can be explored to: with one of them
any one thing is held up, or let pass by others, at any one moment. (The bound is that of CHESS and of
delay-bounded scheduling.) A story opens the source where its nasty moment begins; what comes before and
after goes its natural way.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from greenroom.actors.systems.choices import Choices

Departures: TypeAlias = tuple[tuple[int, int], ...]
"""(number of the choice since the source was opened, the way that is taken), ascending."""


class Departing(Choices):
    """Natural choices but for some departures; notes how many ways there were while it is open."""

    def __init__(self, departures: Departures) -> None:
        super().__init__()
        self._departures: Mapping[int, int] = dict(departures)
        self.asked: list[int] = []
        self._is_open = False

    @contextmanager
    def open(self) -> Iterator[None]:
        """What is chosen inside is explored."""
        self._is_open = True
        yield
        self._is_open = False

    def _draw(self, number: int, ways: int) -> int:
        if not self._is_open:
            return 0
        self.asked.append(ways)
        return self._departures.get(len(self.asked) - 1, 0)


def explore_departures(tell: Callable[[Departing], None], *, most: int) -> Counter[int]:
    """Tell the story once for each schedule with at most `most` departures; how many, by departures.

    What is raised is raised as it is, with a note that names the departures.
    """
    counts: Counter[int] = Counter()
    ahead: list[Departures] = [()]
    while ahead:
        departures = ahead.pop()
        choices = Departing(departures)
        try:
            tell(choices)
        except BaseException as problem:
            problem.add_note(f"Departures, by number of the choice: {dict(departures)}")
            raise
        counts[len(departures)] += 1
        if len(departures) < most:
            first = departures[-1][0] + 1 if departures else 0
            for number in range(first, len(choices.asked)):
                ahead += [(*departures, (number, way)) for way in range(1, choices.asked[number])]
    return counts
