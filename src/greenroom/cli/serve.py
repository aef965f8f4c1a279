"""`greenroom serve`: the kinds of files over HTTP, with live events and a dashboard."""

import asyncio
import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from hashlib import blake2b
from pathlib import Path
from types import FrameType
from typing import Any, get_args

import click

from ..actors.agent.kind import kinds_of_module
from ..actors.face.async_runtime import AsyncRuntime
from ..types import Durability
from . import stores
from .extras import needs
from .loading import NoSuchKind, load_file
from .logs import show_dated_log
from .loops import run
from .options import Number
from .program import leave
from .signals import ONE_PRESS, STOPPED
from .text import tell
from .tokens import make_token, token_file

log = logging.getLogger("greenroom")

SERVER_PACKAGES = ("litestar", "uvicorn", "httptools", "prometheus_client")
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "[::1]", "localhost")

LONGEST_END = 90.0
"""Seconds that the end may take beyond the drain time, whatever agents and disks do."""


@click.command(short_help="Serve the agents of files over HTTP, with a dashboard.")
@click.argument("files", metavar="FILE…", nargs=-1, required=True)
@click.option(
    "--store",
    metavar="DB",
    help="Keep the agents in this file; :memory: keeps nothing.  [default: a file in "
    "~/.local/state/greenroom, the same for the same FILEs]",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8321,
    show_default=True,
    metavar="N",
    help="0 takes a free one.",
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
@click.option(
    "--backlog",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    metavar="N",
    help="How many pieces of accepted work may wait; more are refused with 429.",
)
@click.option(
    "--durability",
    type=click.Choice(get_args(Durability)),
    default="process",
    show_default=True,
    help="What an answer says to have survived, unless a request asks for more or less.",
)
@click.option(
    "--drain",
    type=Number(min=0, max=3600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Time that turns under way get when the server is told to stop. Then they are cut off.",
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name by which clients may call the server, besides ADDRESS and this machine's own. Repeatable.",
)
@click.option("--token-file", type=click.Path(path_type=Path), metavar="FILE", help="[default: DB.token]")
@click.option(
    "--no-token", is_flag=True, help="Let in everybody who can connect; on a loopback address only."
)
@click.option(
    "--max-body",
    type=click.IntRange(min=1_024),
    default=1 << 20,
    show_default=True,
    metavar="BYTES",
    help="The largest body of a request.",
)
@click.option(
    "--rate",
    type=Number(min=1),
    default=2_000.0,
    show_default=True,
    metavar="N",
    help="Requests a second of each token; twice as many at once.",
)
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    default=2_000,
    show_default=True,
    metavar="N",
    help="How many event streams and waiting requests may be open.",
)
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as one line of JSON.")
def serve(files: tuple[str, ...], **options: Any) -> None:
    """Serve the agents of files over HTTP: spawn and give them work, watch live, and a dashboard at /.

    FILE is Python with kinds (@agent). The token allows everything: it is made at the first
    start, lies beside the store with mode 0600, and is shown once, as a link to the dashboard. Work is
    answered as soon as it is recorded (202) and goes on without its client.

    SIGTERM and Ctrl-C: no new work is accepted, and turns under way get the drain time. The rest is cut off
    and begins again at the next start. The streams' clients hear of all of it, and the command ends with 0.
    A second signal ends it at once. Accepted work is kept then, too.

    \b
    Examples
      greenroom serve team.py --store team.db
      greenroom serve team.py tools.py --store team.db --port 9000
      greenroom serve team.py --host 0.0.0.0 --allow-host agents.example.org

    \b
    Exit status
      0    told to stop, and all is recorded
      1    it could not be started, or not go on
      2    wrong usage
      130  a second signal cut the end short
    """
    with needs("server", *SERVER_PACKAGES):
        from ..server import hosting  # noqa: F401  (whether it can be)
    show_dated_log()
    command = _Command(files, **options)
    stopper = _Stopper(options["drain"] + LONGEST_END)
    try:
        run(command.run(stopper))
    finally:
        stopper.over()


class _Command:
    """One start of the server: what it was given, and what it says."""

    def __init__(
        self,
        files: tuple[str, ...],
        *,
        store: str | None,
        host: str,
        port: int,
        names: tuple[str, ...],
        token_file: Path | None,
        no_token: bool,
        as_json: bool,
        **options: Any,
    ) -> None:
        if no_token and host not in LOOPBACK_HOSTS:
            raise click.UsageError(
                f"--no-token is for loopback addresses; others than you can reach {host}."
            )
        if no_token and token_file is not None:
            raise click.UsageError("--no-token and --token-file exclude each other.")
        self.files, self.host, self.names, self.as_json = files, host, names, as_json
        self.options = options
        self.kinds = _load(files)
        self.store = _place(files) if store is None else store
        self.token_file = None if no_token else self._token_file(token_file)
        self.listening = _listen(host, port)
        try:
            self.token: str | None
            self.token, self.made = (None, False) if no_token else _token(self.token_file)
        except BaseException:
            self.listening.close()
            raise

    def _token_file(self, given: Path | None) -> Path | None:
        if given is None and self.store == stores.MEMORY:
            return None
        return token_file(self.store) if given is None else given

    async def run(self, stopper: "_Stopper") -> None:
        """Serve until told to stop."""
        from ..server import hosting
        from ..server.addresses import AllowedHosts
        from ..server.middleware import ServerLimits

        options = self.options
        runtime = AsyncRuntime(
            self.store,
            slots=options["slots"],
            residents=options["residents"],
            backlog=options["backlog"],
            durability=options["durability"],
            drain=options["drain"],
        )
        limits = ServerLimits(AllowedHosts.of(self.host, self.names), options["max_body"], options["rate"])
        settings = hosting.Hosting(
            token=self.token,
            limits=limits,
            streams=options["streams"],
            drain=options["drain"],
            kinds=self.kinds,
        )
        stop = stopper.attend(asyncio.get_running_loop())
        await hosting.host(runtime, self.listening, settings, stop, self._say)

    def _say(self) -> None:
        host, port = self.host, self.listening.getsockname()[1]
        url = f"http://[{host.strip('[]')}]:{port}" if ":" in host else f"http://{host}:{port}"
        kept = "not kept" if self.store == stores.MEMORY else self.store
        if self.as_json:
            said = {
                "type": "serving",
                "url": url,
                "store": self.store,
                "kinds": self.kinds,
                "token_file": None if self.token_file is None else str(self.token_file),
                "pid": os.getpid(),
            }
            if self.token is not None and self.token_file is None:
                said["token"] = self.token  # it is nowhere else
            click.echo(json.dumps(said))
            return
        tell(f"Serving {', '.join(self.kinds)} at {url} (agents: {kept}). Ctrl-C stops.")
        if self.token is None:
            tell(f"Everybody who can connect is let in. Dashboard: {url}/")
        elif self.made:
            where = f"; the token is in {self.token_file}" if self.token_file else ""
            tell(f"Dashboard: {url}/#token={self.token}")
            tell(f"This link is shown once{where}.")
        else:
            tell(f"Dashboard: {url}/ with the token in {self.token_file}")
        sys.stdout.flush()


class _Stopper:
    """Signals: the first asks the server to stop, the second ends the process; and so does a clock.

    A handler of Python runs on the main thread whatever the loop is doing there, and the clock is a
    thread: an agent that never lets go of the loop cannot keep the process alive.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._first: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._timer: threading.Timer | None = None
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                    self._before[signum] = signal.signal(signum, self._on_signal)

    def attend(self, loop: asyncio.AbstractEventLoop) -> asyncio.Event:
        """An event that is set when the server is to stop; it may be by now."""
        self._loop = loop
        if self._first is not None:
            self._stop.set()
        return self._stop

    def over(self) -> None:
        """The server has ended."""
        if self._timer is not None:
            self._timer.cancel()
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._timer = threading.Timer(self._longest, leave, (1,))
            self._timer.daemon = True
            self._timer.start()
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
        elif now - self._first > ONE_PRESS:
            os._exit(STOPPED)


def _load(files: tuple[str, ...]) -> list[str]:
    """Execute the files, which registers their kinds; the kinds' names."""
    found: dict[str, None] = {}
    for name in files:
        kinds = kinds_of_module(load_file(Path(name)))
        if not kinds:
            raise NoSuchKind(f"{name} holds no kind: decorate a function or a class with @agent.")
        found |= dict.fromkeys(kind.name for kind in kinds)
    return list(found)


def _place(files: tuple[str, ...]) -> str:
    """Where the agents of these files are kept if nobody says where."""
    words = "\0".join(str(Path(file).resolve()) for file in files)
    digest = blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    name = re.sub(r"[^\w-]", "-", Path(files[0]).stem)[:64]
    place = stores.state_folder() / "served" / f"{name}-{digest}" / "agents.db"
    stores.make_room(place)
    return str(place)


def _listen(host: str, port: int) -> socket.socket:
    from ..server.hosting import listen

    try:
        return listen(host, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(f"it cannot listen at {host} port {port}: {reason}.") from error


def _token(file: Path | None) -> tuple[str, bool]:
    """The token, and whether it is new; one that lies in no file is new at every start."""
    if file is None:
        return secrets.token_urlsafe(32), True
    made = not file.exists()
    token = make_token(file)
    if file.stat().st_mode & 0o077:
        log.warning("others than you may read the token %s: chmod 600 it", file)
    return token, made
