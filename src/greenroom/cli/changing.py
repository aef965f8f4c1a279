"""`greenroom send`, `followup`, `interrupt` and `close`: orders to agents of a store or of a server."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TextIO

import click

from ..actors.agent.kind import kinds_of_module
from .answers import RunAnswer, document
from .client import ReadClient, WriteClient
from .inputs import read_value
from .loading import NoSuchKind, load_file
from .options import AgentPathType, ClientCommand, ReportedError, Target, json_option, where
from .progress import shown
from .signals import Stopped
from .store_writer import StoreWriter
from .text import tell, write

WAIT = 20.0
"""Seconds that one question after a run waits for its end."""

as_option = click.option(
    "--as",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Whether the text is the value, or JSON that means it.",
)


@click.command(cls=ClientCommand, short_help="Put a message in an agent's inbox.")
@click.argument("path", metavar="PATH", type=AgentPathType())
@click.argument("body", metavar="TEXT|@FILE")
@as_option
@where
@json_option("One object: {path}.")
def send(
    path: str,
    body: str,
    form: str,
    store: str | None,
    server: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Put a message in the inbox of the agent at PATH, for it to read at its next turn. It starts none.

    TEXT is the message; @FILE is what is in a file, @- what comes from stdin, @@… a text that begins with
    @. A store file must not be open anywhere else.

    \b
    Examples
      greenroom send /team/chief "the plan has changed" --store team.db
      greenroom send /team/chief '{"page": 4}' --as json --server http://127.0.0.1:8321

    \b
    Exit status: 0 recorded, 1 not, 2 wrong usage, 130 stopped
    """
    value = read_value(body, form, "TEXT")
    with Target(store, server, token_file).changing() as client:
        client.send(path, value)
    _say({"path": path}, f"The message is in the inbox of {path}.", as_json=as_json)


@click.command(cls=ClientCommand, short_help="Give an agent a run, and wait for its result.")
@click.argument("path", metavar="PATH", type=AgentPathType())
@click.argument("given", metavar="[TEXT|@FILE]", required=False)
@as_option
@click.option("--run-id", metavar="ID", help="The run's id: given twice, it is the same run.")
@click.option(
    "--kinds",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --store: Python with the kinds (@agent) whose runs are executed. Repeatable.",
)
@click.option("--no-wait", is_flag=True, help="With --server: only tell the run's id.")
@where
@json_option("One object: the run, or with --no-wait {path run_id}.")
def followup(
    path: str,
    given: str | None,
    form: str,
    run_id: str | None,
    files: tuple[Path, ...],
    no_wait: bool,
    store: str | None,
    server: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Have the agent at PATH work on TEXT, wait for the end, and print the result.

    A server executes the run, whoever waits for it. With --store it is executed here, by the kinds of the
    FILEs, as are all other runs of these kinds that wait in the store; what has not ended with this one is
    kept there.

    \b
    Examples
      greenroom followup /team/chief "count" --store team.db --kinds team.py
      greenroom followup /team/chief @task.txt --server http://127.0.0.1:8321 --no-wait

    \b
    Exit status
      0    the run completed (with --no-wait: is accepted)
      1    it failed, was interrupted, or was not accepted
      2    wrong usage
      130  stopped by Ctrl-C or SIGTERM; the run goes on, or begins again
    """
    place = Target(store, server, token_file)
    if place.store is not None and not files:
        raise click.UsageError("with --store the run is executed here: --kinds FILE has the code.")
    if place.store is not None and no_wait:
        raise click.UsageError("with --store nobody would execute the run: --no-wait is for --server.")
    if place.store is None and files:
        raise click.UsageError("--kinds is for --store: a server has its kinds.")
    value = read_value(given, form, "TEXT")
    out = sys.stdout
    with redirect_stdout(sys.stderr) if place.store is not None else nullcontext():
        for file in files:
            if not kinds_of_module(load_file(file)):
                raise NoSuchKind(f"{file} holds no kind: decorate a function or a class with @agent.")
        with place.changing() as client:
            with _told_when_stopped(place) as accepted:
                accepted.append(client.followup(path, value, run_id=run_id))
                if no_wait:
                    _say({"path": path, "run_id": accepted[0]}, accepted[0], as_json=as_json)
                    return
                run = _ended(client, accepted[0])
            _tell(run, out, as_json=as_json)
            left = client.left() if isinstance(client, StoreWriter) else 0
    if left:
        tell(f"{left:,} runs have not ended; they are kept in {place.store}", err=True)


@contextmanager
def _told_when_stopped(place: Target) -> Iterator[list[str]]:
    """A block that puts the id of a run into a list; who stops it is told what becomes of the run."""
    accepted: list[str] = []
    try:
        yield accepted
    except (Stopped, KeyboardInterrupt):
        if not accepted:
            tell("Stopped before it was known whether the run is accepted.", err=True)
        elif place.store is not None:
            tell(f"Stopped. The run {accepted[0]} begins again when {place.store} is opened.", err=True)
        else:
            goes_on = f"goes on; `greenroom show {accepted[0]}` tells how"
            tell(f"Stopped waiting. The run {accepted[0]} {goes_on}.", err=True)
        raise


def _ended(client: WriteClient, run_id: str) -> RunAnswer:
    while True:
        begun = time.monotonic()
        run = client.wait(run_id, WAIT)
        if run.ended:
            return run
        if time.monotonic() - begun < 1.0:  # a server that does not let anybody wait
            time.sleep(1.0)


def _tell(run: RunAnswer, out: TextIO, *, as_json: bool) -> None:
    if as_json:
        write(out, document(run))
    elif run.status == "completed":
        write(out, run.result if isinstance(run.result, str) else shown(run.result))
    if run.status != "completed":
        how = "failed" if run.status == "failed" else "was interrupted"
        raise ReportedError(f"run {run.run_id} of {run.path} {how}: {run.error}")


@click.command(cls=ClientCommand, short_help="End an agent's runs, or one run.")
@click.argument("what", metavar="PATH|RUN", shell_complete=AgentPathType().shell_complete)
@click.option("--cascade", is_flag=True, help="The runs of the agents below it as well.")
@where
@json_option("One object: {path interrupted}.")
def interrupt(
    what: str,
    cascade: bool,
    store: str | None,
    server: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """End the runs that the agent at PATH has accepted so far, or the run with an id. The agent stays.

    \b
    Examples
      greenroom interrupt /team/chief --cascade --server http://127.0.0.1:8321
      greenroom interrupt run-1-42 --store team.db

    \b
    Exit status: 0 done, also if there was nothing to end; 1 could not, 2 wrong usage, 130 stopped
    """
    place = Target(store, server, token_file)
    path, run_id = what, None
    if what.startswith("/"):
        AgentPathType().convert(what, None, None)
    else:
        if cascade:
            raise click.UsageError("--cascade goes with the PATH of an agent, not with a run.")
        with place.reading() as client:
            path, run_id = _path_of(client, what), what
    with place.changing() as orders:
        done = orders.interrupt(path, run_id=run_id, cascade=cascade)
    text = f"{what} was interrupted." if done else f"There was nothing to interrupt at {what}."
    _say({"path": path, "interrupted": done}, text, as_json=as_json)


def _path_of(client: ReadClient, run_id: str) -> str:
    return client.run(run_id).path


@click.command(cls=ClientCommand, short_help="Close an agent and those below it, for good.")
@click.argument("path", metavar="PATH", type=AgentPathType())
@click.option("--delete", is_flag=True, help="Erase what is stored of them, too.")
@where
@json_option("One object: {path}.")
def close(
    path: str,
    delete: bool,
    store: str | None,
    server: str | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Close the agent at PATH and all below it: their runs are interrupted, their paths free again.

    The records of closed agents stay for a while, and can be listed with `ls --status closed`.

    \b
    Examples
      greenroom close /team/chief --store team.db
      greenroom close /team/chief --delete --server http://127.0.0.1:8321

    \b
    Exit status: 0 closed, 1 not, 2 wrong usage, 130 stopped
    """
    with Target(store, server, token_file).changing() as client:
        client.close_agent(path, delete=delete)
    _say({"path": path}, f"{path} is {'deleted' if delete else 'closed'}.", as_json=as_json)


def _say(answer: dict[str, object], text: str, *, as_json: bool) -> None:
    tell(document(answer) if as_json else text)
