"""Many simulations of one story."""

from collections.abc import Callable, Iterable
from typing import Any

from .simulation import Simulation


def explore(
    story: Callable[[Simulation], object],
    *,
    seeds: int | Iterable[int] = 100,
    **settings: Any,
) -> int:
    """Tell `story` to a simulation of each seed; how many there were.

    `seeds` is how many, from 0 on, or which ones; `settings` are those of `Simulation`. The first failure
    is raised as it is, with a note that names the seed.
    """
    count = 0
    for seed in range(seeds) if isinstance(seeds, int) else seeds:
        with Simulation(seed=seed, **settings) as simulation:
            story(simulation)
        count += 1
    return count
