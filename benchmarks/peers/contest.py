"""What all contestants share: which workloads there are, and how a script is asked for rounds of one.

    python -m peers.pykka ping-pong [--quick] [--as VARIANT]

prepares the workload, prints what it is, and then a line with the values of one round for each line of its
input, until that ends. It stands beside a peer in the peer's own environment, so it needs Python alone.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROWS: dict[str, tuple[str, ...]] = {
    "fan-out 1,000": ("messages/fan-out, 1,000 actors",),
    "fan-out 10,000": ("messages/fan-out, 10,000 actors",),
    "ping-pong": ("messages/ping-pong",),
    "wait": (
        "spawn/a caller's wait for one, durable later, p50",
        "spawn/a caller's wait for one, durable later, p99",
    ),
    "wait, stored": (
        "spawn/a caller's wait for one, durable, p50",
        "spawn/a caller's wait for one, durable, p99",
    ),
    "spawn 1,000": ("spawn/1,000 agents, all ready, against no file",),
    "spawn 10,000": ("spawn/10,000 agents, all ready, against no file",),
    "spawn 1,000, stored": ("spawn/1,000 agents, all ready",),
    "turns process": ("turns/1,000 agents, process",),
    "turns power": ("turns/1,000 agents, power",),
    "runs 1,000": ("fanout/one parent, 1,000 children, memory",),
    "runs 10,000": ("fanout/one parent, 10,000 children, memory",),
    "runs 1,000, stored": ("fanout/one parent, 1,000 children, process",),
    "io": ("io_turns/1,000 turns of 50 ms, 64 slots",),
    "reload": (
        "reload/10,000 known, 64 in memory, uniform",
        "reload/one reload, p50",
        "reload/one turn of a cold agent, p50",
    ),
    "memory": ("memory/a trivial agent in memory",),
}
"""The rows of the benchmarks' table that a workload has values for, in the row's unit."""

QUICK = "--quick" in sys.argv
SLOTS = 64
PAUSE = 0.05
"""Seconds that a turn of `io` waits."""

AT_ONCE = 50
"""Agents that are made at the same time where memory counts: what that many need for it stays small."""

NOTES, NOTE = 20, 96
"""A state is that many texts of that many characters: 2 KiB."""

MARK = "GREENROOM_BENCH_MARK"
"""What a process and all that it started have in their environment."""

Rounds = (
    Generator[Sequence[float]] if sys.version_info >= (3, 13) else Generator[Sequence[float], None, None]
)
Values = AsyncGenerator[Sequence[float], None]
"""The same on a loop: the values of a round each time."""

Work = Callable[..., Any]
"""Makes a generator, also an async one: prepares, yields the values of a round each time, and tidies up."""


class Contest:
    """The workloads of one script. `needs` are the distributions whose versions count."""

    def __init__(self, *needs: str, note: str, variants: Sequence[str] = ("",)) -> None:
        self.needs, self.note = needs, note
        self.workloads: dict[str, tuple[Work, str]] = {}
        self.variant = _variant(variants)

    def does(self, workload: str, *sizes: Any, note: str = "") -> Callable[[Work], Work]:
        """Have the decorated function do a workload, with these arguments. Raises `KeyError` if none has
        that name."""
        ROWS[workload]

        def remember(work: Work) -> Work:
            said = "; ".join(part for part in (self.note, note) if part)
            self.workloads[workload] = (partial(work, *sizes), said)
            return work

        return remember

    def main(self) -> None:
        """Be the script."""
        reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
        reader.add_argument("workload", nargs="?", choices=list(self.workloads))
        reader.add_argument("--list", action="store_true", help="which workloads there are")
        reader.add_argument("--quick", action="store_true", help="small sizes")
        reader.add_argument("--as", dest="variant", help="which variant of the peer")
        asked = reader.parse_args()
        if asked.list or asked.workload is None:
            print(json.dumps({name: note for name, (_, note) in self.workloads.items()}, indent=1))
            return
        out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # whatever a peer prints is not an answer
        work, note = self.workloads[asked.workload]
        versions = ", ".join(f"{name} {version(name)}" for name in self.needs)
        rounds = work()

        def tell(said: Any) -> None:
            print(json.dumps(said), file=out)

        hello = {"note": note, "version": versions}
        if isinstance(rounds, AsyncGenerator):
            asyncio.run(_answer_async(rounds, hello, tell))
        else:
            _answer(rounds, hello, tell)


def _variant(variants: Sequence[str]) -> str:
    asked = sys.argv[sys.argv.index("--as") + 1] if "--as" in sys.argv else variants[0]
    return asked if asked in variants else variants[0]


def _answer(rounds: Any, hello: Any, tell: Callable[[Any], None]) -> None:
    tell(hello)
    for _ in sys.stdin:
        gc.collect()
        tell(next(rounds))
    rounds.close()


async def _answer_async(rounds: Any, hello: Any, tell: Callable[[Any], None]) -> None:
    tell(hello)
    while await asyncio.to_thread(sys.stdin.readline):
        gc.collect()
        tell(await anext(rounds))
    await rounds.aclose()


# What scripts need


def pick(full: T, quick: T) -> T:
    """A size: the real one, or one that is done in no time."""
    return quick if QUICK else full


def right(what: str, found: Any, expected: Any) -> None:
    """Raise `AssertionError` unless a result is as expected: how fast a wrong one came is no answer."""
    if found != expected:
        raise AssertionError(f"{what}: {str(found)[:160]} instead of {str(expected)[:160]}")


def sum_of(number: int) -> int:
    """What a fan-out adds up to: 1 + 2 + … + number."""
    return number * (number + 1) // 2


def squares(number: int) -> int:
    """What `number` children make of 0, 1, 2 …: the sum of the squares."""
    return (number - 1) * number * (2 * number - 1) // 6


def microseconds(times: Sequence[float]) -> tuple[float, float]:
    """p50 and p99 of seconds."""
    ordered = sorted(times)
    p50, p99 = (ordered[int(len(ordered) * part)] * 1e6 for part in (0.5, 0.99))
    return p50, p99


def to_ideal(seconds: float, turns: int) -> float:
    """How much longer than `PAUSE` in as many rounds as it takes."""
    return seconds / (-(-turns // SLOTS) * PAUSE)


def new_state() -> dict[str, Any]:
    """2 KiB of state."""
    return {"n": 0, "notes": ["-" * NOTE for _ in range(NOTES)]}


def advance(state: dict[str, Any], given: int) -> dict[str, Any]:
    """A turn's work: count, and rewrite one note. Returns a new state."""
    number, notes = state["n"] + 1, list(state["notes"])
    notes[number % NOTES] = f"{given:>{NOTE}}"
    return {"n": number, "notes": notes}


def resident_kib() -> int:
    """What this process and all that it started have in memory now, what they share counted once."""
    gc.collect()
    mark = f"{MARK}={os.environ[MARK]}".encode() if MARK in os.environ else None
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mine = int(folder.name) == os.getpid() or (mark and mark in (folder / "environ").read_bytes())
            if mine:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue  # it has just ended
    return total
