"""The nasty moments of the runtime's actors, in every order there is.

Each window prints a line: how many schedules it has, all of which were explored, by how many different
states and steps. The process is killed in each of these states as well. Run with `-s` to see the table.
"""

import random
import time
from itertools import count

import pytest

from .cast import Live
from .explorer import Explored, count_by_repeating, explore, wander
from .house import House
from .packing import pack, unpack
from .recovering import Kills
from .windows import WINDOWS, Window

BY_HAND = 120
"""Schedules of each window that are counted by repeating them with live actors."""
WALKS = 2

SHORT = [window for window in WINDOWS if not window.long]
LONG = [window for window in WINDOWS if window.long]


def explored_whole(window: Window) -> tuple[House, Explored]:
    begun, kills = time.process_time(), Kills()
    house = window.make()
    explored = explore(house, visit=kills)
    disks = kills.check()
    print(
        f"\n{window.name}\n  all of {explored.schedules:.3g} schedules: {explored.states:,} states, "
        f"{explored.steps:,} steps, {explored.ends} ends, killed with {disks} different disks; "
        f"{time.process_time() - begun:.1f} s; not explored: {bound(house)}"
    )
    return house, explored


def bound(house: House) -> str:
    """What happens at once in a house, and so in one order only."""
    prompt = [f"{sender} → {to}" for sender, to in sorted(house.prompt)]
    if not house.timers_any_time:
        prompt.append("timers before all else is done")
    return ", ".join(prompt)


def check_the_count(window: Window, house: House, explored: Explored) -> None:
    """The same by other means: actors that remember nothing, each schedule from the beginning."""
    assert explored.schedules >= window.at_least, (
        "the window has shrunk: far fewer schedules than there were"
    )
    length = next(n for n in count() if explored.prefixes(n + 1) > BY_HAND)
    live = pack(window.make(Live()))
    assert count_by_repeating(lambda: unpack(live), length) == explored.prefixes(length)
    for seed in range(WALKS):
        remembered = wander(house.copy(), random.Random(seed))
        for (there, ways), (_, same) in zip(
            remembered, wander(unpack(live), random.Random(seed)), strict=True
        ):
            assert ways == same, "actors that remember do something else than those that do not"
            assert there.key() in explored.following, "a state that was not explored"
            assert len(explored.following[there.key()]) == len(ways), "a way that was not explored"


@pytest.mark.slow
@pytest.mark.parametrize("window", SHORT, ids=lambda window: window.name)
def test_every_order_is_right(window: Window) -> None:
    check_the_count(window, *explored_whole(window))


@pytest.mark.long
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("window", LONG, ids=lambda window: window.name)
def test_every_order_is_right_with_less_that_is_prompt(window: Window) -> None:
    check_the_count(window, *explored_whole(window))


def test_there_is_a_window_for_each_nasty_moment() -> None:
    moments = {window.name.partition(":")[0] for window in SHORT}
    assert moments == {
        "a slot is handed over",
        "an eviction meets a delivery",
        "an interrupt meets a completion",
        "a close meets an opening",
        "after() meets the last outcome",
        "a place is given up and taken again",
    }
