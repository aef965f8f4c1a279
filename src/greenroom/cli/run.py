"""`greenroom run`: one agent of a file does one piece of work, however often the command is stopped."""

import re
import sys
from contextlib import redirect_stdout

import click

from ..errors import GreenroomError, InvalidPath
from ..paths import check_path
from . import stores
from .inputs import read_text
from .loading import choose_kind, load_file, split_target
from .progress import Ending, JsonLines, Lines
from .run_tree import Order, TreeEnded, TreeRun
from .signals import STOPPED, Stopped, StopSignals


def _checked_path(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else check_path(value)
    except InvalidPath as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.command(short_help="Run an agent of a file and print its result.")
@click.argument("target", metavar="FILE[:KIND]")
@click.option(
    "--path",
    metavar="/PATH",
    callback=_checked_path,
    help="Where the agent stands.  [default: / and the kind's name]",
)
@click.option(
    "--input",
    "given",
    metavar="TEXT|@FILE",
    help="What the agent is to work on, as a str: the text itself, what is in a file, or with @- what "
    "comes from stdin. A text that begins with @ is given as @@text.  [default: None]",
)
@click.option(
    "--store",
    metavar="DB",
    help="Keep the agents in this file, also after the run; :memory: keeps nothing.  [default: a file in "
    "~/.local/state/greenroom, until the run has ended]",
)
@click.option(
    "--slots",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="How many agents may be at work at a time.",
)
@click.option(
    "--residents",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="How many agents may be in memory.",
)
@click.option("--json", "as_json", is_flag=True, help="Progress and result on stdout as JSON lines.")
def run(
    target: str,
    path: str | None,
    given: str | None,
    store: str | None,
    slots: int,
    residents: int,
    as_json: bool,
) -> None:
    """Run an agent of a file and print its result.

    FILE is Python with one or more kinds (@agent); KIND says which, if there are several. The agent is
    spawned at its path and works on the input. Progress is shown on stderr, where anything that the
    agents print goes too; stdout gets the result alone: text as it is, anything else as JSON, or as
    Python shows it.

    Stopped in any way, also by kill -9, the same command goes on from where it was. Ctrl-C gives the
    turns under way a few seconds; a second one ends the program at once. An agent that is at its path
    already (in a DB used before) goes on with the run that has not ended. --input is not used then. If
    the agent is idle, it gets the input as another run.

    The command is done when the agent has no run left, whatever other agents are doing. Runs that have not
    ended are in the DB and go on when it is opened next.

    \b
    Examples
      greenroom run team.py:chief --input "count"
      greenroom run team.py:chief --input @task.txt --store team.db --slots 4 --json

    \b
    Exit status
      0    the run completed
      1    it failed or was interrupted, or could not be started
      2    wrong usage
      130  stopped by Ctrl-C or SIGTERM

    \b
    With --json each line of stdout is an object; "type" says which:
      started   kind path store resumed
      progress  seconds agents resident running queued slots residents evictions
                reloads commits runs runs_per_second note events; every second
      result    status ("completed" "failed" "interrupted" "stopped" "error")
                result error path run_id stats; the last line. A result that JSON
                cannot hold is Python's text for it, with "result_is_repr": true
    """
    progress = _progress(as_json)
    with StopSignals() as signals:
        try:
            with redirect_stdout(sys.stderr):
                status = _run(target, path, given, store, slots, residents, progress, signals)
        except GreenroomError as error:
            raise _tell_error(progress, click.ClickException(str(error))) from error
        except click.ClickException as error:
            raise _tell_error(progress, error) from error
        except Stopped:  # while it was ending for another reason
            status = STOPPED
        sys.exit(status)


def _progress(as_json: bool) -> Lines:
    if as_json:
        return JsonLines()
    if sys.stderr.isatty():
        from .screen import Screen  # rich takes 0.1 s to import, which only a terminal is worth

        return Screen()
    return Lines()


def _tell_error(progress: Lines, error: click.ClickException) -> click.ClickException:
    """`error`, which the program ends with, after those who read JSON were told."""
    progress.close()
    if not isinstance(error, TreeEnded):
        progress.ended(Ending("error", error=error.format_message()), None)
    return error


def _run(
    target: str,
    path: str | None,
    given: str | None,
    store: str | None,
    slots: int,
    residents: int,
    progress: Lines,
    signals: StopSignals,
) -> int:
    try:
        file, wanted = split_target(target)
        text = read_text(given, "--input")
        kind = choose_kind(load_file(file), file, wanted)
        path = path or default_path(kind.name)
        passing = store is None
        if store is None:
            place = stores.passing_store(file, kind.name, path, text)
            stores.make_room(place)
            store = str(place)
    except Stopped:
        progress.ended(Ending("stopped"), None)
        progress.say("Stopped before anything was begun.")
        return STOPPED
    order = Order(kind, path, text, store, passing, slots, residents)
    return TreeRun(order, progress, signals).conduct()


def default_path(kind: str) -> str:
    """`/` and the kind's name, as far as a path can hold it."""
    segment = re.sub(r"[^a-z0-9_-]+", "-", kind.lower()).lstrip("_-")[:64].rstrip("-")
    return f"/{segment or 'agent'}"
