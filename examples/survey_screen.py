"""What the survey shows: how it is getting on, and its report as tables.

Progress goes to stderr, as one line that changes on a terminal and a line now and then elsewhere.
The report goes to stdout.
"""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table

from greenroom import Stats

ROWS = 10  # of each table; JSON has all
SECONDS_PER_LINE = 5.0  # where a line cannot change


class Progress:
    """`with progress:` around the work, `show` as often as you like."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        self._status = Status("starting", console=self._console)
        self._started = self._line_at = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque(maxlen=10)

    def __enter__(self) -> Progress:
        self._started = self._line_at = time.monotonic()
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._status.stop()
        if kind is KeyboardInterrupt:
            self.say("Stopping; the turns under way may end first")

    def say(self, line: str) -> None:
        self._console.print(line)

    def show(self, stats: Stats, *, runs: int) -> None:
        now = time.monotonic()
        self._seen.append((now, runs))
        line = (
            f"{stats.agents:,} agents: {stats.resident} resident, {stats.running} running, "
            f"{self._runs_per_second():,.0f} runs/s, "
            f"{stats.evictions:,} evictions, {stats.reloads:,} reloads"
        )
        if self._console.is_terminal:
            self._status.update(line)
        elif now - self._line_at >= SECONDS_PER_LINE:
            self._line_at = now
            self.say(line)

    def _runs_per_second(self) -> float:
        (began, before), (now, after) = self._seen[0], self._seen[-1]
        return (after - before) / (now - began) if now > began else 0.0

    def end(self, stats: Stats) -> None:
        seconds = time.monotonic() - self._started
        self.say(
            f"{stats.agents:,} agents, at most {stats.residents} of them resident: "
            f"{stats.evictions:,} evictions, {stats.reloads:,} reloads, "
            f"{stats.commits:,} commits, {seconds:.1f} s"
        )


def show_report(report: dict[str, Any]) -> None:
    console = Console(markup=False, highlight=False)
    totals = report["totals"]
    console.print(
        f"{totals['modules']:,} modules in {totals['packages']:,} packages: "
        f"{totals['lines']:,} lines, {totals['classes']:,} classes, "
        f"{totals['functions']:,} functions, {totals['imports']:,} imports of each other, "
        f"{totals['unreadable']:,} files that this Python cannot read"
    )

    table = _table("Most depended-upon modules", ">modules that import it", "module")
    for row in report["most_depended_upon"][:ROWS]:
        table.add_row(f"{row['dependents']:,}", row["module"])
    console.print(table)

    table = _table("Import cycles", ">modules", "that import each other")
    for names in report["cycles"][:ROWS]:
        table.add_row(f"{len(names):,}", ", ".join(names))
    console.print(table)

    table = _table("Most complicated functions", ">branches", "function", ">line")
    for row in report["most_complicated"][:ROWS]:
        table.add_row(f"{row['branches']:,}", f"{row['module']}: {row['function']}", f"{row['line']:,}")
    console.print(table)

    columns = ("package", ">modules", ">public names", ">with docstring", ">coverage")
    table = _table("Documentation of the largest packages", *columns)
    largest = sorted(report["documentation"], key=lambda row: (-row["public"], row["package"]))
    for row in largest[:ROWS]:
        table.add_row(
            row["package"] or "(top level)",
            f"{row['modules']:,}",
            f"{row['public']:,}",
            f"{row['documented']:,}",
            f"{row['documented'] / row['public']:.0%}" if row["public"] else "-",
        )
    console.print(table)


def _table(title: str, *columns: str) -> Table:
    """Columns that begin with ">" are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column[0] == ">" else "left")
    return table
