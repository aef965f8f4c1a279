"""`greenroom events`: what happened, and what happens."""

from pathlib import Path

import click

from .answers import document
from .options import AgentPathType, ClientCommand, Target, json_option, where
from .progress import describe
from .text import tell


@click.command(cls=ClientCommand, short_help="Tell what happened, and follow what happens.")
@click.argument("under", metavar="[PATH]", type=AgentPathType(under=True), default="/")
@where
@click.option("-f", "--follow", is_flag=True, help="Go on; without --since, begin with what happens now.")
@click.option("--since", type=click.IntRange(min=0), metavar="N", help="Only events with numbers above N.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="Only events of this type, such as run.failed; run.* is all of runs. Repeatable.",
)
@json_option("An object a line: seq at type path run_id data.")
def events(
    under: str,
    store: str | None,
    server: str | None,
    token_file: Path | None,
    follow: bool,
    since: int | None,
    types: tuple[str, ...],
    as_json: bool,
) -> None:
    """Tell the events of the agents at or below PATH, oldest first, as long as they are kept.

    Followed, a store file is looked at twice a second: events are there once they are on disk. A server
    tells them as they happen; when it is started anew, they go on without a gap.

    \b
    Examples
      greenroom events /team --store team.db
      greenroom events -f --type 'run.*' --server http://127.0.0.1:8321
      greenroom events --since 1200 --store team.db --json | jq -r .type | sort | uniq -c

    \b
    Exit status: 0 told, 1 could not, 2 wrong usage, 130 stopped: the usual end of -f
    """
    with Target(store, server, token_file).reading() as client:
        begin = since if since is not None else client.last_event() if follow else 0
        told = False
        for event in client.events(under, types=types, since=begin, follow=follow):
            told = True
            click.echo(document(event) if as_json else describe(event, whole=True))
    if not (told or as_json):
        which = f"event {' or '.join(types)}" if types else "event"
        after = f" after number {since}" if since else ""
        tell(f"There is no {which} at or below {under}{after}", err=True)
