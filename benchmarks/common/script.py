"""The command line of a benchmark, the same for all."""

import asyncio
import logging
import shlex
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import click
import msgspec
from msgspec import Struct

from .check import WrongResult
from .machine import commit, machine
from .measure import peak_mib
from .plot import draw
from .report import Report, Row
from .table import show, table

T = TypeVar("T")

SEED = 20_261
QUICK_END, END = 90.0, 3_600.0
"""Seconds after which something that should have come is lost: that is a wrong result, and not a time."""


class Options(Struct, frozen=True):
    """How to measure. `folder` is empty, and removed afterwards."""

    quick: bool
    repeats: int
    seed: int
    folder: Path

    def pick(self, full: T, quick: T) -> T:
        """A size: the real one, or one that is done in no time."""
        return quick if self.quick else full

    def store(self, name: str) -> Path:
        """A file in the folder."""
        return self.folder / f"{name}.db"


Measure: TypeAlias = Callable[[Options], Awaitable[Sequence[Row]]]


def main(file: str, doc: str | None, measure: Measure, *, rounds: int = 5) -> None:
    """Be the script `file`, whose first line of `doc` is its question: measure, and tell it."""

    @click.command(help=doc)
    @click.option("--json", "as_json", is_flag=True, help="Print a report as JSON.")
    @click.option("--quick", is_flag=True, help="Small sizes, about a second: does it work at all?")
    @click.option(
        "--repeats", type=click.IntRange(1), help=f"Rounds of each.  [default: {rounds}; quick: 1]"
    )
    @click.option("--seed", type=int, default=SEED, show_default=True, help="Of all that is chosen.")
    @click.option("--plot", type=click.Path(path_type=Path), help="A folder for a PNG and an SVG.")
    def command(*, as_json: bool, quick: bool, repeats: int | None, seed: int, plot: Path | None) -> None:
        with tempfile.TemporaryDirectory(prefix="greenroom-bench-") as folder:
            options = Options(quick, repeats or (1 if quick else rounds), seed, Path(folder))
            report = _report(Path(file), doc or "", measure, options)
        if plot is not None:
            draw(report, plot)
        if as_json:
            print(msgspec.json.encode(report).decode())
        else:
            show(table([report], {}))

    command()


def _report(file: Path, doc: str, measure: Measure, options: Options) -> Report:
    logging.disable(logging.ERROR)  # a loop that is kept busy is no news here
    begun = time.perf_counter()
    try:
        rows = asyncio.run(_bounded(measure, options))
    except WrongResult as error:
        raise click.ClickException(f"wrong result: {error}") from error
    return Report(
        question=file.stem.removeprefix("bench_"),
        asks=doc.strip().partition("\n")[0],
        quick=options.quick,
        seed=options.seed,
        repeats=options.repeats,
        machine=machine(),
        commit=commit(),
        command=shlex.join(["python", f"benchmarks/{file.name}", *sys.argv[1:]]),
        seconds=round(time.perf_counter() - begun, 1),
        peak_mib=peak_mib(),
        rows=tuple(rows),
    )


async def _bounded(measure: Measure, options: Options) -> Sequence[Row]:
    seconds = options.pick(END, QUICK_END)
    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            return await measure(options)
    except TimeoutError:
        if not bound.expired():
            raise
        raise WrongResult(f"it did not come to its end within {seconds:.0f} s") from None
