"""`greenroom export` and `greenroom import`: agents as a document, and into another store."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

import click

from ..errors import StoreInUse
from ..persistence import transfer
from ..persistence.keys import KEY_SIZE, key_path, read_key
from ..persistence.transfer.document import header_of
from .answers import document
from .options import AgentPathType, ClientCommand, json_option
from .store_writer import in_use
from .text import printable, tell

store_option = click.option(
    "--store",
    envvar="GREENROOM_STORE",
    metavar="DB",
    required=True,
    help="The store's file.  [env: GREENROOM_STORE]",
)


@click.command(cls=ClientCommand, name="export", short_help="Write agents as a document of JSON lines.")
@click.argument("out", metavar="[FILE]", default="-")
@store_option
@click.option("--under", type=AgentPathType(under=True), default="/", metavar="PATH",
              help="Only the agents at or below it.")  # fmt: skip
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Seal it with the key in this file, made if there is none.  [default: the store's own, DB.key]",
)
@json_option(
    "When done, an object on stdout, so FILE cannot be -: {file agents runs messages outside key}."
)
def export_(out: str, store: str, under: str, key_file: Path | None, as_json: bool) -> None:
    """Write agents with their states, inboxes and runs to FILE, or to stdout, as JSON lines.

    The store is read as of one moment and not changed, also while it is in use. The document is sealed
    line by line: `greenroom import` takes it as it is or not at all, and needs the key for that. It holds
    what the store holds, so keep it like the store. Events are not part of it.

    \b
    Examples
      greenroom export team.jsonl --store team.db
      greenroom export --store team.db --under /team | gzip > team.jsonl.gz
      greenroom export team.jsonl --store team.db --key transfer.key

    \b
    Exit status: 0 exported, 1 not, 2 wrong usage, 130 stopped
    """
    if as_json and out == "-":
        raise click.UsageError("--json tells on stdout what was exported, so the document needs a FILE.")
    key = None if key_file is None else _key(key_file, make=True)
    with _progress() as progress, _writing(out) as file:
        done = transfer.export(store, file, under=under, key=key, progress=progress)
    used = str(key_file) if key_file is not None else key_path(store)
    if as_json:
        told = {"file": out, "agents": done.agents, "runs": done.runs, "messages": done.messages}
        click.echo(document({**told, "outside": done.outside, "key": used}))
    else:
        tell(
            f"Exported {done.agents:,} agents, {done.runs:,} runs, {done.messages:,} messages; "
            f"to import them, the key in {used} is needed",
            err=True,
        )
    if done.outside:
        tell(
            f"{done.outside:,} runs that continuations wait for are not at or below {under}: "
            "they would start without those",
            err=True,
        )


@click.command(cls=ClientCommand, name="import", short_help="Put the agents of a document into a store.")
@click.argument("given", metavar="FILE")
@store_option
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The key that it was sealed with.  [default: the store's own, DB.key]",
)
@json_option("One object: {store agents runs messages waiting renamed}.")
def import_(given: str, store: str, key_file: Path | None, as_json: bool) -> None:
    """Put the agents that `greenroom export` wrote to FILE (- is stdin) into a store, made if needed.

    All of them or none: every line's seal is checked first, with the key of the store that they come from
    or the one that was given to export. Nothing of it is executed. Paths and the run ids that you chose
    must be free in the store, which no process may have open. Runs that had not ended are executed from
    here on, as well as where they come from, if that store is still used.

    \b
    Examples
      greenroom import team.jsonl --store new.db --key team.db.key
      gunzip -c team.jsonl.gz | greenroom import - --store new.db --key transfer.key

    \b
    Exit status: 0 imported, 1 nothing was, 2 wrong usage, 130 stopped, and nothing was
    """
    with _progress() as progress, _reading(given) as file:
        name = "stdin" if given == "-" else given
        wanted = header_of(file, name).key
        file.seek(0)
        key = _key_for(wanted, store, key_file)
        try:
            done = transfer.import_agents(store, file, key, name, progress=progress)
        except StoreInUse as error:
            raise in_use(error) from error
    if as_json:
        told = {"store": store, "agents": done.agents, "runs": done.runs, "messages": done.messages}
        click.echo(document({**told, "waiting": done.waiting, "renamed": done.renamed}))
    else:
        waiting = f", of which {done.waiting:,} wait to be executed" if done.waiting else ""
        tell(f"Imported {done.agents:,} agents, {done.runs:,} runs{waiting}, {done.messages:,} messages")
    if done.renamed:
        tell(
            f"{done.renamed:,} run ids that greenroom had made are those of other runs in {store}: these "
            "runs have new ones, and their events say which they were",
            err=True,
        )


# Keys


def _key_for(wanted: str, store: str, given: Path | None) -> bytes:
    """The key with the fingerprint `wanted`."""
    if given is not None:
        key = _key(given, make=False)
        if transfer.fingerprint(key) != wanted:
            raise click.ClickException(
                f"{given} is not the key that this was sealed with. That is DB.key beside the store that "
                "it comes from, or the one that was given to export."
            )
        return key
    try:
        key = read_key(store)
    except FileNotFoundError:
        key = b""
    if not key or transfer.fingerprint(key) != wanted:
        raise click.ClickException(
            "this was not exported from this store. Give the key that it was sealed with (DB.key beside "
            "the store that it comes from, or the one that was given to export): --key FILE"
        )
    return key


def _key(file: Path, *, make: bool) -> bytes:
    """The key in a file of its own."""
    if make:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            pass
        except OSError as error:
            raise click.ClickException(f"the key {file} cannot be made: {error.strerror}.") from error
        else:
            with open(descriptor, "wb") as out:
                out.write(secrets.token_bytes(KEY_SIZE))
    try:
        with open(file, "rb") as source:
            key = source.read(KEY_SIZE + 1)
    except OSError as error:
        raise click.ClickException(f"the key {file} cannot be read: {error.strerror}.") from error
    if len(key) != KEY_SIZE:
        raise click.ClickException(f"{file} is no key: it must be a file of {KEY_SIZE} bytes.")
    return key


# Files


@contextmanager
def _writing(out: str) -> Iterator[BinaryIO]:
    """The file, for this user alone and never another's; whole or not at all."""
    if out == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be made: {error.strerror}.") from error
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        os.unlink(out)
        if isinstance(error, OSError):
            raise click.ClickException(f"{out} cannot be written: {error.strerror}.") from error
        raise


@contextmanager
def _reading(given: str) -> Iterator[BinaryIO]:
    """The document, which is read twice: what comes through a pipe is kept aside for that."""
    if given == "-":
        with TemporaryFile() as kept:
            yield cast(BinaryIO, _Kept(sys.stdin.buffer, kept))
        return
    try:
        file = open(given, "rb")  # noqa: SIM115
    except OSError as error:
        raise click.ClickException(f"{given} cannot be read: {error.strerror}.") from error
    with file, TemporaryFile() as kept:
        yield file if file.seekable() else cast(BinaryIO, _Kept(file, kept))


class _Kept:
    """A pipe that can be read again: what was read is kept aside, and no more than that."""

    def __init__(self, source: BinaryIO, kept: BinaryIO) -> None:
        self._source, self._kept = source, kept
        self.tell, self.seek = kept.tell, kept.seek

    def readline(self, most: int) -> bytes:
        line = self._kept.readline(most)
        if len(line) < most and not line.endswith(b"\n"):
            more = self._source.readline(most - len(line))
            self._kept.write(more)
            line += more
        return line


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done, if somebody looks at it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False).status("") as status:
        yield lambda what: status.update(printable(what))
