"""All schedules of a small world: every order in which it can go on, to its end, and none left out.

A world says which ways lead on from where it is, takes one, and says whether all is well. The explorer
walks depth first. It comes to the same state by many schedules; what follows is the same, so it is walked
once and counted as often as it is met: the number of schedules is exact, and may be far larger than the
number of steps that were taken.

`count_by_repeating` counts in another way, without remembering states or copying worlds: by doing each
schedule from the beginning. It is the check on the first, for as many steps as it can afford.
"""

import random
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, Self, TypeAlias, TypeVar

Way: TypeAlias = Hashable
"""One thing that may happen next, by a name that says what it is."""
Key: TypeAlias = Hashable


class World(Protocol):
    """What can be explored."""

    def copy(self) -> Self:
        """Another one in the same state, which goes its own way."""

    def key(self) -> Hashable:
        """Its state: two worlds with equal keys have the same future."""

    def ways(self) -> list[Any]:
        """What may happen next, in a fixed order, the natural one first; nothing at the end."""

    def take(self, way: Any) -> None:
        """Let it happen."""

    def check_now(self) -> None:
        """Raise what is wrong, at any moment."""

    def check_at_rest(self) -> None:
        """Raise what is wrong at the end."""


W = TypeVar("W", bound=World)


class Wrong(Exception):
    """A schedule that leads to something wrong."""

    def __init__(self, problem: BaseException, schedule: list[Way]) -> None:
        super().__init__(problem, schedule)
        self.problem, self.schedule = problem, schedule

    def __str__(self) -> str:
        steps = "\n".join(f"  {number:3} {way}" for number, way in enumerate(self.schedule, 1))
        return f"{type(self.problem).__name__}: {self.problem}\nafter these steps:\n{steps}"


class Explored:
    """The graph of states that was walked."""

    def __init__(self) -> None:
        self.start: Key = None
        self.following: dict[Key, tuple[Key, ...]] = {}  # in the order of the ways; none at an end
        self._schedules: dict[Key, int] = {}

    @property
    def states(self) -> int:
        """How many different ones there are."""
        return len(self.following)

    @property
    def steps(self) -> int:
        """How many were taken: each way of each state, once."""
        return sum(map(len, self.following.values()))

    @property
    def ends(self) -> int:
        """In how many states it can come to rest."""
        return sum(not after for after in self.following.values())

    @property
    def schedules(self) -> int:
        """How many ways there are from the start to an end, each a different order."""
        return self._schedules[self.start]

    def prefixes(self, length: int) -> int:
        """How many schedules there are that are cut off after `length` steps, or end before."""
        many = {self.start: 1}
        ended = 0
        for _ in range(length):
            after: dict[Key, int] = {}
            for key, count in many.items():
                ended += 0 if self.following[key] else count
                for following in self.following[key]:
                    after[following] = after.get(following, 0) + count
            many = after
        return ended + sum(many.values())


def explore(
    start: W, *, most_states: int = 1_000_000, visit: Callable[[W], None] = lambda world: None
) -> Explored:
    """Walk all schedules from `start` on. Raises `Wrong` at the first that is not right.

    `visit` is called with each state that is new, and may raise as well; it must not change it.
    """
    explored = Explored()
    following, schedules = explored.following, explored._schedules
    path: list[tuple[W, Key, list[Way], list[Key]]] = []  # where it is, ways left, what they led to
    taken: list[Way] = []
    under_way: set[Key] = set()

    def enter(world: W) -> Key:
        key = world.key()
        if key in under_way:
            raise AssertionError("it goes round in circles: this state was met before")
        if key not in following:
            world.check_now()
            visit(world)
            if len(following) + len(path) >= most_states:
                raise AssertionError(f"there are more than {most_states:,} states: this takes too long")
            ways = world.ways()
            if not ways:
                world.check_at_rest()
            path.append((world, key, ways[::-1], []))
            under_way.add(key)
        return key

    try:
        explored.start = enter(start)
        while path:
            here, key, left, found = path[-1]
            if left:
                way = left.pop()
                taken[len(path) - 1 :] = [way]
                world = here.copy()
                world.take(way)
                found.append(enter(world))
            else:
                path.pop()
                under_way.discard(key)
                following[key] = tuple(found)
                schedules[key] = sum(schedules[after] for after in found) if found else 1
    except Exception as problem:
        raise Wrong(problem, taken) from problem
    return explored


def count_by_repeating(make: Callable[[], World], length: int) -> int:
    """How many schedules there are that are cut off after `length` steps, or end before; slow and plain."""
    return sum(1 for _ in _schedules(make, length))


def _schedules(make: Callable[[], World], length: int) -> Iterator[list[int]]:
    """Each schedule by the places of its ways: the next one differs in its last place that can differ."""
    schedule: list[int] = []
    while True:
        world, numbers = make(), []
        for place in range(length):
            ways = world.ways()
            if not ways:
                break
            if place == len(schedule):
                schedule.append(0)
            numbers.append(len(ways))
            world.take(ways[schedule[place]])
        yield list(schedule)
        while schedule and schedule[-1] == numbers[len(schedule) - 1] - 1:
            schedule.pop()
        if not schedule:
            return
        schedule[-1] += 1


def wander(world: World, draw: random.Random) -> Iterator[tuple[World, list[Any]]]:
    """One schedule, drawn: each state on it, with its ways; it is the same world all along."""
    while ways := world.ways():
        yield world, ways
        world.take(draw.choice(ways))
    yield world, []
