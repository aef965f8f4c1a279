"""How a run is getting on, for people at a terminal: a panel that changes in place.

The panel is drawn by rich's thread from the last news. So it goes on when the runtime does not answer, and
says so.
"""

import sys
import time
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .progress import Beginning, Lines, describe
from .text import printable
from .watch import NEWEST_KEPT, Moment

PER_SECOND = 5
"""How often the panel is drawn."""

REDRAW_SECONDS = 2.0
"""Seconds without news after which the panel says so."""


class Screen(Lines):
    """A panel on stderr, gone at the end; what the agents print appears above it."""

    every = 1 / PER_SECOND
    first = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(file=sys.stderr, highlight=False, markup=False)
        self._title = ""
        self._moment: Moment | None = None
        self._note: str | None = None
        self._told = self._began = time.monotonic()
        self._live = Live(
            self,
            console=self._console,
            refresh_per_second=PER_SECOND,
            transient=True,
        )

    def began(self, beginning: Beginning) -> None:
        super().began(beginning)
        self._title = printable(f"{beginning.path} ({beginning.kind})")
        self._told = self._began = time.monotonic()
        with suppress(OSError):
            self._live.start()

    def show(self, moment: Moment, note: str | None) -> None:
        self._moment, self._note, self._told = moment, note, time.monotonic()

    def close(self) -> None:
        with suppress(OSError):  # the terminal may be gone
            self._live.stop()

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = []
        moment, now = self._moment, time.monotonic()
        if moment is not None:
            parts.append(_numbers(moment))
            parts.append(Text(""))
            lines = [describe(event) for event in moment.newest]
            lines += [""] * (NEWEST_KEPT - len(lines))
            parts += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines]
        if now - self._told > REDRAW_SECONDS:
            waited = f"no answer for {now - self._told:.0f} s: an agent's code keeps the loop busy"
            parts.append(Text(waited, style="yellow"))
        elif self._note:
            parts.append(Text(printable(self._note), style="yellow"))
        return Panel(
            Group(*parts),
            title=Text(self._title),
            title_align="left",
            subtitle=Text(f"{now - self._began:,.0f} s · Ctrl-C stops, the same command goes on"),
            subtitle_align="right",
        )


def _numbers(moment: Moment) -> Table:
    stats = moment.stats
    table = Table.grid(padding=(0, 2))
    rows = (
        (
            ("known", f"{stats.agents:,}"),
            ("resident", f"{stats.resident:,} of {stats.residents:,}"),
            ("running", f"{stats.running:,} of {stats.slots:,}"),
            ("waiting", f"{stats.queued:,}"),
        ),
        (
            ("runs", f"{moment.ended:,}"),
            ("runs/s", f"{moment.per_second:,.0f}"),
            ("evictions", f"{stats.evictions:,}"),
            ("reloads", f"{stats.reloads:,}"),
        ),
    )
    for row in rows:
        cells: list[Text] = []
        for name, value in row:
            cells += [Text(name, style="dim"), Text(value, style="bold")]
        table.add_row(*cells)
    failed = moment.runs.get("failed", 0)
    if failed:
        table.add_row(Text("failed", style="dim"), Text(f"{failed:,}", style="bold red"))
    return table
