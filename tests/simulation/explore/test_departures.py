"""The whole runtime in every order that departs from the natural one once (or, in `long`, twice).

Each story prints a line: how many schedules were explored. Run with `-s` to see them.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from math import prod
from typing import Any

import pytest

from greenroom.actors.agent.actor import AgentActor
from greenroom.actors.systems.choices import Scheduled

from .. import mistakes
from .departures import Departing, explore_departures
from .stories import STORIES, tell


def explored(name: str, most: int) -> Counter[int]:
    begun = time.process_time()
    counts = explore_departures(lambda choices: _ignore(tell(name, choices)), most=most)
    by_departures = ", ".join(
        f"{count:,} with {departures}" for departures, count in sorted(counts.items())
    )
    seconds = time.process_time() - begun
    print(f"\n{name}: all schedules with at most {most} departures: {by_departures}; {seconds:.1f} s")
    return counts


def _ignore(simulation: object) -> None:
    """The story is told; nothing more is wanted of it."""


@pytest.mark.parametrize("ways", [(2,), (3, 2, 5), (2, 2, 2, 2), (4, 3, 2, 1, 3)])
@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_the_number_of_schedules_is_known_where_choices_do_not_depend(
    ways: tuple[int, ...], most: int
) -> None:
    seen: Counter[tuple[int, ...]] = Counter()

    def ask(choices: Departing) -> None:
        with choices.open():
            seen[tuple(choices.choose(each) for each in ways)] += 1

    counts = explore_departures(ask, most=most)
    for departures in range(most + 1):
        others = [each - 1 for each in ways]
        assert counts[departures] == sum(map(prod, combinations(others, departures)))
    assert set(seen.values()) == {1}, "a schedule was explored twice"


def test_choices_outside_of_the_window_are_natural() -> None:
    choices = Departing(((0, 1),))
    assert choices.choose(2) == 0
    with choices.open():
        assert choices.choose(2) == 1
    assert choices.choose(2) == 0


@pytest.mark.slow
def test_the_schedules_of_a_story_are_those_that_a_schedule_can_name() -> None:
    """Counted and told in another way: by the public `schedule`, from what the natural one was asked."""
    name = "a_close_meets_an_opening"
    natural = Departing(())
    tell(name, natural)
    found: list[str] = []
    counts = explore_departures(lambda choices: found.append(tell(name, choices).trace()), most=1)
    assert counts == {0: 1, 1: sum(ways - 1 for ways in natural.asked)}
    asked: list[int] = []

    class Named(Scheduled):
        open = Departing.open
        _is_open = False

        def _draw(self, number: int, ways: int) -> int:
            if self._is_open:
                asked.append(number)
            return super()._draw(number, ways)

    tell(name, Named({}))  # type: ignore[arg-type]
    assert len(asked) == len(natural.asked)
    named = [tell(name, Named({})).trace()]  # type: ignore[arg-type]
    for number, ways in zip(asked[: len(natural.asked)], natural.asked, strict=True):
        named += [tell(name, Named({number: way})).trace() for way in range(1, ways)]  # type: ignore[arg-type]
    assert Counter(named) == Counter(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_every_order_with_one_departure_is_right(name: str) -> None:
    counts = explored(name, 1)
    natural = Departing(())
    tell(name, natural)
    assert counts == {0: 1, 1: sum(ways - 1 for ways in natural.asked)}
    assert counts[1] > 50, "the window has shrunk"


@pytest.mark.long
@pytest.mark.timeout(72_000)
@pytest.mark.parametrize("name", STORIES)
def test_every_order_with_two_departures_is_right(name: str) -> None:
    assert explored(name, 2)[2] > 2_500, "the window has shrunk"


# Mistakes that only the actor around a session could make


def _one_slot_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn goes on before it has its slot back."""
    original = AgentActor.regain_slot

    def regain_slot(self: AgentActor) -> Any:
        original(self)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    monkeypatch.setattr(AgentActor, "regain_slot", regain_slot)


def _not_interrupted_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    original = AgentActor.interrupt_turn

    def interrupt_turn(self: AgentActor, do: Any) -> None:
        if self.turn is not None:
            original(self, do)

    monkeypatch.setattr(AgentActor, "interrupt_turn", interrupt_turn)


PLANTED: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    _one_slot_for_two: "a_slot_is_handed_over",
    _not_interrupted_before_its_first_step: "an_interrupt_meets_a_completion",
    mistakes.what_was_read_stays_in_the_inbox: "an_eviction_meets_a_delivery",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("patch", PLANTED, ids=lambda patch: patch.__name__.strip("_"))
def test_a_planted_mistake_is_found(patch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch)
    told: list[None] = []

    def count(choices: Departing) -> None:
        told.append(None)
        tell(PLANTED[patch], choices)

    with pytest.raises(Exception) as found:  # noqa: PT011
        explore_departures(count, most=1)
    print(f"\n{patch.__name__}: {len(told)} schedules; {str(found.value).splitlines()[0][:120]}")
