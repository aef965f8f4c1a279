"""The base of all commands: greenroom's errors are told in their own words, and the program ends.

A turn may leave behind a thread that never returns, and Python waits for such threads before it ends.
So the end of the program is bounded; called by tests (`main.main`, `CliRunner`) nothing of that happens.
"""

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from ..errors import GreenroomError
from .logs import show_log
from .text import readable

EXIT_GRACE_SECONDS = 2.0
"""Seconds that threads of the user's code have to return once the command is over."""


class LoadedProgram(click.Group):
    """A group of commands; called, it is the whole program.

    `modules` says in which module (of this package) each command is: it is imported when it is used, so
    that a command costs no more than what it needs.
    """

    def __init__(self, *args: Any, modules: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which people meet them."""
        return [*self._modules, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now if need be."""
        module = self._modules.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        loaded = import_module(f".{module}", __package__)
        # a keyword has a _ behind it in Python
        found: click.Command = getattr(loaded, cmd_name, None) or getattr(loaded, f"{cmd_name}_")
        return found

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run the command that the arguments name, then end the process."""
        show_log()
        try:
            return self.main(*args, **options)
        except SystemExit as leaving:
            _leave_within(EXIT_GRACE_SECONDS, leaving.code)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of greenroom is its text, not a traceback, nor anything else."""
        try:
            return super().invoke(ctx)
        except GreenroomError as error:
            raise click.ClickException(readable(str(error))) from error
        except click.ClickException as error:
            said = readable(error.format_message())
            error.format_message = lambda: said  # type: ignore[method-assign]
            raise


def leave(status: int) -> NoReturn:
    """End the process at once, whatever its threads do."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _leave_within(seconds: float, code: object) -> None:
    status = code if isinstance(code, int) else 0 if code is None else 1
    timer = threading.Timer(seconds, leave, (status,))
    timer.daemon = True
    timer.start()
