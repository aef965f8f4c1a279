"""Rounds in turn, and what they come to.

A figure of one system alone says little on a machine that does other things as well: half an hour later it
is another one. So whatever is compared runs in the same minute, a short round each in turn, and every
second time backwards, so that a machine that gets slower troubles both alike. What is reported is the
median of the rounds' ratios.
"""

import gc
import resource
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct


class Round(Struct):
    """What one round of one contestant came to: values by name, and the seconds of single operations."""

    values: dict[str, float]
    times: list[float] = []


Contestant: TypeAlias = Callable[[], Awaitable[Round]]
Rounds: TypeAlias = dict[str, list[Round]]


async def interleaved(
    contestants: Mapping[str, Contestant],
    repeats: int,
    *,
    warm_up: int = 1,
    between: Sequence[Callable[[], Awaitable[None]]] = (),
) -> Rounds:
    """`repeats` rounds of each, in turn, after `warm_up` rounds that do not count.

    `between` two rounds, contestants finish what they answered before it was written: it would trouble
    the next one.
    """
    rounds: Rounds = {name: [] for name in contestants}
    order = list(contestants)
    for number in range(-warm_up, repeats):
        for name in order:
            gc.collect()
            done = await contestants[name]()
            for finish in between:
                await finish()
            if number >= 0:
                rounds[name].append(done)
        order.reverse()
    return rounds


def quantile(times: Sequence[float], part: float) -> float:
    """The value below which `part` of them are (0.5: the median), of an unsorted list."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def quantiles(times: Sequence[float], scale: float) -> dict[str, float]:
    """p50, p99 and p99.9 of seconds, times `scale` (1e6 for µs)."""
    return {name: quantile(times, part) * scale for name, part in PARTS.items()}


PARTS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def values_of(rounds: Sequence[Round], value: str) -> list[float]:
    """One value of all rounds."""
    return [each.values[value] for each in rounds]


def ratio(ours: Sequence[float], other: Sequence[float]) -> float:
    """The median of the ratios of rounds that ran next to each other."""
    return statistics.median(one / another for one, another in zip(ours, other, strict=True))


def peak_mib() -> int:
    """The most memory that this process has had, or any that it waited for, in MiB."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) // 1024


def resident_kib() -> int:
    """What this process has in memory now."""
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
