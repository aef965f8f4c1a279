"""What a benchmark found, as values: rows with ours, the floor, the target and the peers.

The JSON of a script is a `Report`. `results/peers.json`, which the peers' benchmarks write, is `Peers`: for
each `question/workload` what each peer did, in the row's unit.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from .machine import Machine
from .measure import Rounds, quantile, ratio, values_of

FLOOR = "floor"
OURS = "greenroom"
BY_HAND = "asyncio + sqlite3"
"""The floor of most rows, see `floor`."""


class Target(Struct, frozen=True):
    """What was asked for: of our value itself (in the row's unit), or of its ratio to the floor."""

    of: Literal["ours", "ratio"]
    sense: Literal["at least", "at most"]
    limit: float

    def reached(self, ours: float, ratio: float | None) -> bool | None:
        """Whether it was; None if it cannot be said."""
        found = ours if self.of == "ours" else ratio
        if found is None:
            return None
        return found >= self.limit if self.sense == "at least" else found <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.sense == "at least" else "≤"
        return f"{sign} {number(self.limit)}{'' if self.of == 'ours' else ' x'}"


class Measured(Struct, frozen=True):
    """One contestant: the median of its rounds, all of them, and p50 and p99 of its operations in ms."""

    median: float
    rounds: tuple[float, ...]
    p50_ms: float | None = None
    p99_ms: float | None = None


class Peer(Struct, frozen=True):
    """Another system at the same work. `ratio` is ours to theirs, in one run; None if it did not do it."""

    value: float | None
    ratio: float | None = None
    note: str = ""


class Row(Struct, frozen=True):
    """One workload. `ratio` is ours to the floor's, whichever of them should be greater.

    `wanted` has the ratio that was asked for to each of some peers, in the sense of `better`: 10 says ten
    times as much, or a tenth of the time.
    """

    workload: str
    unit: str
    better: Literal["more", "less"]
    ours: Measured
    floor: Measured | None = None
    floor_name: str = ""
    ratio: float | None = None
    target: Target | None = None
    reached: bool | None = None
    peers: dict[str, Peer] = {}
    wanted: dict[str, float] = {}
    note: str = ""


class Report(Struct, frozen=True):
    """A run of one script."""

    question: str
    asks: str
    quick: bool
    seed: int
    repeats: int
    machine: Machine
    commit: str
    command: str
    seconds: float
    peak_mib: int
    rows: tuple[Row, ...]


Peers: TypeAlias = dict[str, dict[str, Peer]]
"""By `question/workload`, then by the peer's name."""


def measured(rounds: Rounds, name: str, value: str) -> Measured:
    """What a contestant came to."""
    found = values_of(rounds[name], value)
    times = [time for each in rounds[name] for time in each.times]
    p50, p99 = (quantile(times, part) * 1e3 for part in (0.5, 0.99)) if times else (None, None)
    return Measured(statistics.median(found), tuple(found), p50, p99)


def row(
    workload: str,
    unit: str,
    rounds: Rounds,
    value: str,
    *,
    better: Literal["more", "less"],
    ours: str = OURS,
    floor: str = FLOOR,
    floor_name: str = BY_HAND,
    target: Target | None = None,
    peers: Sequence[str] = (),
    wanted: dict[str, float] | None = None,
    note: str = "",
) -> Row:
    """The row of one value that all contestants of some rounds have."""
    of_ours = values_of(rounds[ours], value)
    has_floor = floor in rounds
    to_floor = ratio(of_ours, values_of(rounds[floor], value)) if has_floor else None
    mine = measured(rounds, ours, value)
    others = {
        name: Peer(statistics.median(theirs), ratio(of_ours, theirs))
        for name in peers
        for theirs in [values_of(rounds[name], value)]
    }
    return Row(
        workload=workload,
        unit=unit,
        better=better,
        ours=mine,
        floor=measured(rounds, floor, value) if has_floor else None,
        floor_name=floor_name if has_floor else "",
        ratio=to_floor,
        target=target,
        reached=None if target is None else target.reached(mine.median, to_floor),
        peers=others,
        wanted=wanted or {},
        note=note,
    )


def at_least(limit: float, *, of: Literal["ours", "ratio"] = "ratio") -> Target:
    """A target that more is better for."""
    return Target(of, "at least", limit)


def at_most(limit: float, *, of: Literal["ours", "ratio"] = "ratio") -> Target:
    """A target that less is better for."""
    return Target(of, "at most", limit)


def best_peer(row: Row, peers: dict[str, Peer]) -> tuple[str, Peer] | None:
    """Who of the row's own peers and of `peers` did best."""
    sign = -1 if row.better == "more" else 1
    known = {name: peer for name, peer in {**peers, **row.peers}.items() if peer.value is not None}
    return min(known.items(), key=lambda item: sign * (item[1].value or 0.0), default=None)


def factor(row: Row, peer: Peer) -> float | None:
    """How many times better ours is than the peer's: 10 is ten times the rate, or a tenth of the time."""
    found = peer.ratio
    if found is None and peer.value:
        found = row.ours.median / peer.value
    if found is None or found == 0:
        return None
    return found if row.better == "more" else 1 / found


def short_of(row: Row, peers: dict[str, Peer]) -> dict[str, tuple[float, float]]:
    """The peers that ours is not far enough ahead of: the factor that was wanted, and the one found."""
    known = {**peers, **row.peers}
    found = {name: factor(row, known[name]) for name in row.wanted if name in known}
    return {
        name: (row.wanted[name], times)
        for name, times in found.items()
        if times is not None and times < row.wanted[name]
    }


def number(value: float | None) -> str:
    """Three figures of it, and thousands apart."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}" if abs(value) < 1000 else f"{float(f'{value:.3g}'):,.0f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
