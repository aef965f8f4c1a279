"""`greenroom ls` and `greenroom show`: what agents there are, and one of them in full."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from ..errors import GreenroomError
from ..types import AgentStatus
from .answers import RunAnswer, document
from .client import ReadClient, Unavailable
from .options import AgentPathType, ClientCommand, Target, json_option, where
from .progress import shown
from .text import clock, printable, tell
from .tree import STATUS_COLOURS, TreeBranch, ago, branches, facts

WIDEST = 60
"""Columns that the tree takes at most before the facts."""


@click.command(cls=ClientCommand, short_help="List agents, as a tree.")
@click.argument("under", metavar="[PATH]", type=AgentPathType(under=True), default="/")
@where
@click.option("--status", type=click.Choice(get_args(AgentStatus)), help="Only agents with this status.")
@click.option(
    "--after", type=AgentPathType(), metavar="PATH", help="Only agents whose paths come after this one."
)
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N",
              help="How many at most.")  # fmt: skip
@click.option("--flat", is_flag=True, help="Whole paths instead of a tree.")
@json_option("An object a line: path kind version status resident queued_runs inbox created_at updated_at "
             "error last_run.")  # fmt: skip
def ls(
    under: str,
    store: str | None,
    server: str | None,
    token_file: Path | None,
    status: str | None,
    after: str | None,
    limit: int,
    flat: bool,
    as_json: bool,
) -> None:
    """List the agents at or below PATH, by default all.

    Closed agents are listed with --status closed. Of a store file that somebody has open, agents are
    listed as they are on disk, without a trace; what only the owner knows (who is in memory) is unknown.

    \b
    Examples
      greenroom ls --store team.db
      greenroom ls /team --status failed --store team.db
      greenroom ls --server http://127.0.0.1:8321 --json | jq -r .path

    \b
    Exit status: 0 listed, 1 could not, 2 wrong usage, 130 stopped
    """
    with Target(store, server, token_file).reading() as client:
        page = client.agents(under, status=status, after=after, limit=limit)
    if as_json:
        for agent in page.agents:
            click.echo(document(agent))
    else:
        rows = (
            [TreeBranch("", agent.path, agent) for agent in page.agents]
            if flat
            else list(branches(page.agents))
        )
        _print(rows, time.time())
        if not rows:
            tell(f"There is no {f'{status} ' if status else ''}agent at or below {under}", err=True)
    if page.next is not None:
        tell(f"There are more: --after {page.next}, or a larger --limit", err=True)


def _print(rows: list[TreeBranch], now: float) -> None:
    rows = [TreeBranch(row.lead, printable(row.name), row.agent) for row in rows]
    told = [facts(row.agent, now) if row.agent else ("", "", "") for row in rows]
    width = min(WIDEST, max((len(row.lead + row.name) for row in rows), default=0))
    kinds = max((len(kind) for kind, _, _ in told), default=0)
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row, (kind, status, more) in zip(rows, told, strict=True):
        name = (row.lead + row.name).ljust(width)
        line = f"{name}  {kind.ljust(kinds)}  {status.ljust(12)}  {more}".rstrip()
        if room is not None:
            line = line[: max(room, width)]
        at = len(name) + kinds + 4
        seen = line[at : at + len(status)]
        colour = STATUS_COLOURS.get(status)
        click.echo(
            line[:at] + (click.style(seen, fg=colour) if colour else seen) + line[at + len(status) :]
        )


@click.command(cls=ClientCommand, short_help="Show an agent, with its state, or a run.")
@click.argument("what", metavar="PATH|RUN", type=str, shell_complete=AgentPathType().shell_complete)
@where
@json_option("One object: an agent with its state, or a run; `described` lists (as JSON pointers) what "
             "JSON cannot hold.")  # fmt: skip
def show(what: str, store: str | None, server: str | None, token_file: Path | None, as_json: bool) -> None:
    """Show the agent at PATH with its config, its last outcome and its state, or the run with an id.

    From a store file, values are read without executing any of the agents' code: those that need it are
    named, not shown.

    \b
    Examples
      greenroom show /team/chief --store team.db
      greenroom show run-1-42 --server http://127.0.0.1:8321
      greenroom show /team/chief --store team.db --json | jq .state

    \b
    Exit status: 0 shown, 1 there is none or it cannot be shown, 2 wrong usage, 130 stopped
    """
    with Target(store, server, token_file).reading() as client:
        found = (
            _agent(client, AgentPathType().convert(what, None, None))
            if what.startswith("/")
            else _run(client.run(what))
        )
    if as_json:
        click.echo(document(found))
        return
    for name, value in found.items():
        _print_fact(name, value)


def _agent(client: ReadClient, path: str) -> dict[str, Any]:
    agent = client.agent(path)
    found: dict[str, Any] = msgspec.structs.asdict(agent)
    described = found.pop("described")
    if agent.last_outcome is not None:
        found["last_outcome"] = msgspec.structs.asdict(agent.last_outcome)
    try:
        state = client.state(path)
    except (GreenroomError, Unavailable) as error:
        return {**found, "state": None, "state_error": str(error), "described": described}
    return {**found, "state": state.state, "described": (*described, *state.described)}


def _run(run: RunAnswer) -> dict[str, Any]:
    return msgspec.structs.asdict(run)


def _print_fact(name: str, value: Any) -> None:
    """A line, or for a value of the user's as many as it needs."""
    told_anyway = name in ("config", "input", "state", "result")
    if name == "described" or (value in (None, (), []) and not told_anyway):
        return
    if name.endswith("_at") and isinstance(value, float):
        text = f"{clock(value)} ({ago(time.time() - value)})"
    elif isinstance(value, dict | list | tuple):
        text = shown(value) if value else json.dumps(value)
    else:
        text = str(value)
    lines = [printable(line) for line in text.split("\n")]
    label = click.style(f"{printable(name):<14}", dim=True)
    click.echo(label + ("\n" + " " * 14).join(lines))
