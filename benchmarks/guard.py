"""What turns, spawns, reloads and messages cost in steps, which are the same on every machine at any load.

The runtime works here as it does in production, but for its threads and its clock: see `common.steps`.
Counted are bytecodes executed, functions called (Python's and C's), SQL statements executed, and blocks of
memory that stay. No time is measured.

    python benchmarks/guard.py              # what it costs now, against guard.json
    python benchmarks/guard.py --renew      # write guard.json
    python benchmarks/guard.py --where "a durable turn"     # which functions its bytecodes are in

Counts belong to one minor version of Python, as its compiler decides what a bytecode is.
"""

import asyncio
import functools
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

import click
import msgspec
from common.check import equal
from common.hops import Fan, Make, Parent, sum_of
from common.steps import OneThread, Statements, Steps, StillLoop
from common.stores import path_of
from common.work import keeper
from rich.console import Console
from rich.table import Table
from thespian.actors import ActorSystem

from greenroom import AsyncRuntime
from greenroom.actors.environment import Environment
from greenroom.actors.face import async_runtime
from greenroom.actors.face.engine import Engine
from greenroom.persistence.reader import Reader
from greenroom.persistence.store import Store

FILE = Path(__file__).with_name("guard.json")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TOLERANCE = 0.03
"""More than that above the committed figure is a regression."""
GAIN = 0.10
"""More than that below it is a gain to be kept: the figure is renewed, lest it be lost unseen."""

LEAST = 0.1
"""Of anything: less than that is nothing."""

AGENTS, TURNS = 20, 10
ROOM, SPAWNS = 16, 100
ACTORS, FANS = 20, 20
SETTLED = 0.001
"""Seconds, which pass when nothing else is left to do."""

Figures: TypeAlias = dict[str, float]
Work: TypeAlias = Callable[[], Awaitable[None]]


async def counted(work: Work, of: int, steps: Steps) -> Figures:
    """What `work` does, divided by `of`; it is done several times, and the first does not count."""
    await work()
    with steps.calls():
        await work()
    with steps.bytecodes():
        await work()
    return {name: round(number / of, 2) for name, number in sorted(steps.found.items())}


# On a runtime


async def a_turn(runtime: AsyncRuntime) -> tuple[Work, int]:
    """One durable turn of an agent in memory, with 2 KiB of state; some agents at once."""
    refs = [await runtime.spawn(keeper, path_of(number)) for number in range(AGENTS)]
    done = 0

    async def work() -> None:
        nonlocal done
        for _ in range(TURNS):
            done += 1
            results = await asyncio.gather(*(answer(ref) for ref in refs))
            equal("the turns of each agent", results, [done] * AGENTS)

    return work, AGENTS * TURNS


async def a_spawn(runtime: AsyncRuntime) -> tuple[Work, int]:
    """One new agent, its opened session, and the eviction of another one that has to make room."""
    numbers = itertools.count()

    async def work() -> None:
        for _ in range(SPAWNS):
            await runtime.spawn(keeper, path_of(next(numbers)))
        await asyncio.sleep(SETTLED)

    return work, SPAWNS


async def a_reload(runtime: AsyncRuntime) -> tuple[Work, int]:
    """One durable turn of an agent that is on disk, and the eviction of another one."""
    refs = [await runtime.spawn(keeper, path_of(number)) for number in range(4 * ROOM)]
    done = 0

    async def work() -> None:
        nonlocal done
        for _ in range(2):
            done += 1
            results = [await answer(ref) for ref in refs]
            equal("the turns of each agent", results, [done] * len(refs))
        await asyncio.sleep(SETTLED)

    return work, 2 * len(refs)


async def answer(ref: Any) -> Any:
    """Have an agent do a turn."""
    run = await ref.followup(7)
    return await run


PREPARED = {"a durable turn": (a_turn, AGENTS), "a spawn": (a_spawn, ROOM), "a reload": (a_reload, ROOM)}
"""What costs something, and how many agents there is room for in memory meanwhile."""


@asynccontextmanager
async def still(*, residents: int, slots: int = AGENTS) -> AsyncIterator[tuple[AsyncRuntime, Statements]]:
    """A runtime in which everything takes the same steps each time, and the statements that it executes.

    On the loop of a `runner`.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StillLoop)
    statements = Statements()

    def open_store(path: str, durability: Any) -> Any:
        store, unfinished = Store.open(path, durability)
        statements.watch(store._connection)
        return store, unfinished

    world = Environment(
        base=OneThread,
        clock=lambda: 1_000_000_000.0 + loop.now,
        monotonic=loop.time,
        watchdog=None,
        store_opener=open_store,
        reader_opener=Reader.open,
    )
    with tempfile.TemporaryDirectory(prefix="greenroom-guard-") as folder:
        with patch.object(async_runtime, "Engine", functools.partial(Engine, world=world)):
            runtime = AsyncRuntime(Path(folder) / "guard.db", slots=slots, residents=residents)
            await runtime.start()
        try:
            yield runtime, statements
        finally:
            await runtime.close(drain=0.0)


async def on_a_runtime(what: str, steps: Steps) -> Figures:
    """What one of `PREPARED` costs."""
    prepare, residents = PREPARED[what]
    async with still(residents=residents) as (runtime, statements):
        work, of = await prepare(runtime)
        before = statements.executed
        figures = await counted(work, of, steps)
        figures["SQL statements"] = round((statements.executed - before) / (3 * of), 2)
        return figures


# A message


async def messages() -> Figures:
    """What one message between two actors costs, there and back, on the base itself."""
    base = OneThread(asyncio.get_running_loop())
    system = ActorSystem(systemBase=base, transientUnique=True)
    parent = system.createActor(Parent)
    answers = base._outside.received

    async def ask(message: Any) -> Any:
        base.post(parent, message)
        while answers.empty():
            await asyncio.sleep(0)
        return answers.get()[1]

    equal("the sum of the first answers", await ask(Make(ACTORS)), sum_of(ACTORS))

    async def work() -> None:
        equal("the sum of all answers", await ask(Fan(FANS)), FANS * sum_of(ACTORS))

    figures = await counted(work, 2 * ACTORS * FANS, Steps())
    await base.aclose()
    return figures


def figures(only: str | None = None, steps: Steps | None = None) -> dict[str, Figures]:
    """All of them, or one of those on a runtime, in this process: see `fresh_figures`."""
    found = {}
    for what in [only] if only else PREPARED:
        with runner() as running:
            found[what] = running.run(on_a_runtime(what, steps or Steps()))
    if only is None:
        with runner() as running:
            found["a message"] = running.run(messages())
    return found


def runner() -> asyncio.Runner:
    """What runs coroutines on a `StillLoop`."""
    return asyncio.Runner(loop_factory=StillLoop)


def fresh_figures() -> dict[str, Figures]:
    """All of them, from a process of its own, where hashes are what they always are."""
    code = "import guard, msgspec; print(msgspec.json.encode(guard.figures()).decode())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=dict[str, Figures])


def committed() -> dict[str, Figures] | None:
    """What it cost when somebody looked last, with this version of Python; None if nobody did."""
    known = msgspec.json.decode(FILE.read_bytes(), type=dict[str, dict[str, Figures]])
    return known.get(PYTHON)


def complaints(now: dict[str, Figures], then: dict[str, Figures]) -> list[str]:
    """What costs more than it did, or so much less that the figure should be renewed."""
    told = []
    for what, known in then.items():
        for name, figure in known.items():
            found = now[what][name]
            change = (found - figure) / figure if figure else float(found > 0)
            if change > TOLERANCE and found - figure > LEAST:
                told.append(
                    f"{what} costs {found:,} {name}, {change:+.1%} against {figure:,} ({TOLERANCE:.0%} are "
                    "allowed). Find out why; if it is worth it: python benchmarks/guard.py --renew"
                )
            elif change < -GAIN and figure - found > LEAST:
                told.append(
                    f"{what} costs {found:,} {name} only, {change:+.1%} against {figure:,}. Keep the gain: "
                    "python benchmarks/guard.py --renew"
                )
    return told


def where(what: str) -> Table:
    """The functions that most of the bytecodes are in."""
    steps = Steps()
    executed = figures(what, steps)[what]["bytecodes"]
    part = executed / steps.where.total()
    made = Table("bytecodes", "function", "file", title=f"{what}: {executed:,}", title_justify="left")
    for code, times in steps.where.most_common(40):
        file = "/".join(Path(code.co_filename).parts[-3:])
        made.add_row(f"{times * part:,.1f}", code.co_qualname, f"{file}:{code.co_firstlineno}")
    return made


@click.command(help=__doc__)
@click.option("--renew", is_flag=True, help="Write guard.json.")
@click.option("--where", "what", type=click.Choice([*PREPARED]), help="Functions, by bytecodes.")
def main(*, renew: bool, what: str | None) -> None:
    if what is not None:
        Console(width=120).print(where(what))
        return
    now, then = fresh_figures(), committed() if FILE.exists() else None
    made = Table("", "of what", "then", "now", title_justify="left")
    for what, found in now.items():
        for name, figure in found.items():
            known = (then or {}).get(what, {}).get(name)
            made.add_row(what, name, "-" if known is None else f"{known:,}", f"{figure:,}")
    Console().print(made)
    if renew:
        known_versions = msgspec.json.decode(FILE.read_bytes()) if FILE.exists() else {}
        text = msgspec.json.encode({**known_versions, PYTHON: now})
        FILE.write_bytes(msgspec.json.format(text, indent=2) + b"\n")
        return
    problems = complaints(now, then or {})
    if problems:
        raise click.ClickException("\n".join(problems))


if __name__ == "__main__":
    main()
