"""Many simulations of one story."""

from collections.abc import Callable, Iterable
from typing import Any

from .repeating import seed_wanted, with_seed
from .simulation import Simulation


def explore(
    story: Callable[[Simulation], object],
    *,
    seeds: int | Iterable[int] = 100,
    **settings: Any,
) -> int:
    """Tell `story` to a simulation of each seed; how many there were.

    `seeds` is how many, from 0 on, or which ones; `settings` are those of `Simulation`. The first failure
    is raised as it is, with a note that names the seed and the command that repeats it: with
    `GREENROOM_SEED` in the environment the story is told to that seed alone.
    """
    wanted = seed_wanted()
    if wanted is not None:
        seeds = [wanted]
    count = 0
    for seed in range(seeds) if isinstance(seeds, int) else seeds:
        with Simulation(seed=seed, again=with_seed(seed), **settings) as simulation:
            story(simulation)
        count += 1
    return count
