"""`greenroom stats` and `greenroom top`: numbers, once and live."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from ..actors.models import Event
from .answers import AgentSummary, document
from .client import ReadClient
from .options import AgentPathType, ClientCommand, Number, Target, json_option, where
from .progress import describe
from .text import printable, tell
from .tree import facts

BUSIEST = 15
"""Agents that `top` shows."""

NEWEST_SHOWN = 8
MOST_EVENTS = 5000
"""Events that are counted in one look; a rate beyond it is told as at least that."""

END_EVENTS = ("run.completed", "run.failed", "run.interrupted")


@click.command(cls=ClientCommand, short_help="Show the numbers of a store or a server.")
@where
@json_option("One object; agents running queued are always in it.")
def stats(store: str | None, server: str | None, token_file: Path | None, as_json: bool) -> None:
    """Show how many agents and runs there are, and how they are doing.

    A server tells the runtime's numbers, a store file what is on disk.

    \b
    Examples
      greenroom stats --store team.db
      greenroom stats --server http://127.0.0.1:8321 --json | jq .queued

    \b
    Exit status: 0 told, 1 could not, 2 wrong usage, 130 stopped
    """
    with Target(store, server, token_file).reading() as client:
        numbers = client.stats()
    if as_json:
        click.echo(document(numbers))
        return
    figures = list(_flat(numbers))
    width = max(24, *(len(name) + 2 for name, _ in figures))
    for name, value in figures:
        tell(f"{name:<{width}}{printable(value)}")


def _flat(numbers: dict[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in numbers.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{within}{name}.")
        elif isinstance(value, list) and within == "latencies.":
            yield (
                f"{within}{name}",
                " / ".join(f"{seconds * 1000:.2f} ms" for seconds in value) + " (p50 / p99)",
            )
        elif isinstance(value, list):
            yield f"{within}{name}", " ".join(map(str, value)) or "nobody"
        elif value is not None:
            yield f"{within}{name}", f"{value:,}" if type(value) is int else str(value)


# Live


class TopSample(Struct, frozen=True):
    """How it stands at one moment, and what has happened since the one before."""

    at: float
    stats: dict[str, Any]
    busy: list[AgentSummary]
    events: list[Event]
    events_per_second: float
    runs_per_second: float


@click.command(cls=ClientCommand, short_help="Watch a store or a server at work.")
@click.argument("under", metavar="[PATH]", type=AgentPathType(under=True), default="/")
@where
@click.option("--every", type=Number(min=0.1, max=3600), default=1.0, show_default=True, metavar="SECONDS",
              help="How often it is looked at.")  # fmt: skip
@click.option(
    "-n", "--count", type=click.IntRange(min=1), metavar="N", help="Look so many times, then end."
)
@json_option("An object a look: at stats busy events events_per_second runs_per_second.")
def top(
    under: str,
    store: str | None,
    server: str | None,
    token_file: Path | None,
    every: float,
    count: int | None,
    as_json: bool,
) -> None:
    """Watch the numbers, the agents at work and the newest events, until Ctrl-C.

    On a terminal it changes in place; into a file or a pipe each look is a line.

    \b
    Examples
      greenroom top --server http://127.0.0.1:8321
      greenroom top /team --store team.db --every 0.5
      greenroom top --store team.db --count 1 --json

    \b
    Exit status: 0 after --count looks, 1 could not, 2 wrong usage, 130 stopped: the usual end
    """
    with Target(store, server, token_file).reading() as client:
        looks = islice(_looks(client, under, every), count)
        if as_json:
            for look in looks:
                click.echo(document(look))
        elif sys.stdout.isatty():
            with _screen() as update:
                for look in looks:
                    update(look)
        else:
            for look in looks:
                tell(_line(look))


def _looks(client: ReadClient, under: str, every: float) -> Iterator[TopSample]:
    since = client.last_event()
    before = time.monotonic()
    due = before
    while True:
        now = time.monotonic()
        news = list(islice(client.events(under, types=(), since=since, follow=False), MOST_EVENTS))
        since = client.last_event() if len(news) == MOST_EVENTS else max([since, *(e.seq for e in news)])
        passed = max(now - before, 1e-3) if now > before else every
        busy = [
            *client.agents(under, status="running", after=None, limit=BUSIEST).agents,
            *client.agents(under, status="waiting", after=None, limit=BUSIEST).agents,
            *client.agents(under, status="queued", after=None, limit=BUSIEST).agents,
        ][:BUSIEST]
        ended = sum(event.type in END_EVENTS for event in news)
        yield TopSample(
            time.time(), client.stats(), busy, news[-NEWEST_SHOWN:], len(news) / passed, ended / passed
        )
        before = now
        due = max(due + every, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _line(look: TopSample) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(look.at))
    return f"{clock} {_summary(look)}"


def _summary(look: TopSample) -> str:
    stats = look.stats
    resident = f", {stats['resident']:,} of {stats['residents']:,} resident" if "resident" in stats else ""
    return (
        f"agents: {stats['agents']:,}{resident}; runs: {stats['running']:,} running, "
        f"{stats['queued']:,} waiting, {look.runs_per_second:,.1f} ended/s; "
        f"events: {look.events_per_second:,.1f}/s"
    )


@contextmanager
def _screen() -> Iterator[Any]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def drawn(look: TopSample) -> Group:
        table = Table.grid(padding=(0, 2))
        for agent in look.busy:
            kind, status, more = facts(agent, look.at)
            table.add_row(
                Text(printable(agent.path)),
                Text(kind, style="dim"),
                Text(printable(status), style="bold"),
                Text(more, style="dim"),
            )
        if not look.busy:
            table.add_row(Text("nobody is at work", style="dim"))
        newest = [
            Text(describe(event), style="dim", no_wrap=True, overflow="ellipsis") for event in look.events
        ]
        return Group(Text(printable(_line(look)), style="bold"), Text(""), table, Text(""), *newest)

    console = Console(highlight=False, markup=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        yield lambda look: live.update(drawn(look), refresh=True)
