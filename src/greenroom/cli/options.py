"""The options that commands share: which store or server, and whether the answer is for machines."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..errors import GreenroomError, InvalidPath
from ..paths import check_path, check_under
from .answers import document
from .client import ReadClient, WriteClient
from .extras import needs
from .signals import STOPPED, Stopped, StopSignals
from .tokens import read_token

CLIENT = ("httpx", "httpx_sse")

F = TypeVar("F", bound=Callable[..., Any])


class AgentPathType(click.ParamType):  # type: ignore[type-arg]  # no type arguments before click 8.4
    """A path of an agent; with `under` also `/` for all."""

    name = "path"

    def __init__(self, *, under: bool = False) -> None:
        self._under = under

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_under(value) if self._under else check_path(value)
        except InvalidPath as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Agents of the store that stands before it on the command line, or in GREENROOM_STORE."""
        del param
        store = ctx.params.get("store") or os.environ.get("GREENROOM_STORE")
        if not store:
            return []
        from .store_reader import StoreReader

        folder = incomplete.rpartition("/")[0] or "/"
        try:
            page = StoreReader(store).agents(folder, status=None, after=None, limit=500)
        except Exception:  # of any kind: while somebody types, nothing is to be said
            return []
        depth = incomplete.count("/") + 1
        # A shell takes what it is told as it is, and a damaged store may hold anything.
        paths = (agent.path for agent in page.agents if agent.path.isprintable())
        starts = {"/".join(path.split("/")[:depth]) for path in paths}
        return [CompletionItem(path) for path in sorted(starts) if path.startswith(incomplete)]


class Number(click.FloatRange):
    """A number within bounds, of which NaN is within none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


def where(command: F) -> F:
    """`--store` and `--server`."""
    for option in (
        click.option(
            "--token-file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="With --server: where its token is (GREENROOM_TOKEN has the token itself).",
        ),
        click.option(
            "--server",
            envvar="GREENROOM_SERVER",
            metavar="URL",
            help="Ask the `greenroom serve` there; the link that it shows has the token.  "
            "[env: GREENROOM_SERVER]",
        ),
        click.option(
            "--store",
            envvar="GREENROOM_STORE",
            metavar="DB",
            is_eager=True,
            help="The store's file.  [env: GREENROOM_STORE]",
        ),
    ):
        command = option(command)
    return command


def json_option(text: str) -> Callable[[F], F]:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help=text)


class Target:
    """The store or the server that a command is about."""

    def __init__(self, store: str | None, server: str | None, token_file: Path | None) -> None:
        given = {
            name for name, source in _sources().items() if source is click.core.ParameterSource.COMMANDLINE
        }
        if store and server:  # what was typed goes before what is in the environment
            if {"store", "server"} <= given:
                raise click.UsageError("--store and --server exclude each other: one of the two is asked.")
            store, server = (store, None) if "store" in given else (None, server)
        if not store and not server:
            raise click.UsageError(
                "say which agents: --store DB for a file, --server URL for a running `greenroom serve` "
                "(or set GREENROOM_STORE or GREENROOM_SERVER)."
            )
        self.store, self.server, self._token_file = store, server, token_file

    @contextmanager
    def reading(self) -> Iterator[ReadClient]:
        """The side that answers questions."""
        if self.store is not None:
            from .store_reader import StoreReader

            yield StoreReader(self.store)
        else:
            with self._remote() as remote:
                yield remote

    @contextmanager
    def changing(self) -> Iterator[WriteClient]:
        """The side that takes orders."""
        if self.store is not None:
            from .store_writer import owning

            with owning(self.store) as owned:
                yield owned
        else:
            with self._remote() as remote:
                yield remote

    @contextmanager
    def _remote(self) -> Iterator[Any]:
        with needs("client", *CLIENT):
            from .remote import Remote, split_link
        assert self.server is not None
        url, token = split_link(self.server)
        if self._token_file is not None:
            token = read_token(self._token_file)
        remote = Remote(url, token or os.environ.get("GREENROOM_TOKEN") or None)
        try:
            yield remote
        finally:
            remote.close()


def _sources() -> dict[str, Any]:
    ctx = click.get_current_context()
    return {name: ctx.get_parameter_source(name) for name in ("store", "server")}


class ClientCommand(click.Command):
    """A command that ends well when it is stopped, and tells errors to programs as to people."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it. Ctrl-C and SIGTERM end it with 130; with --json an error is also an object on stdout."""
        with StopSignals():
            try:
                return super().invoke(ctx)
            except (Stopped, KeyboardInterrupt):
                ctx.exit(STOPPED)
            except (GreenroomError, click.ClickException) as error:
                if ctx.params.get("as_json") and not isinstance(error, ReportedError):
                    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
                    click.echo(document({"error": text}))
                raise


class ReportedError(click.ClickException):
    """The error was told on stdout as well, if somebody reads JSON there."""
