"""The log of a command on stderr: records hold what agents said, as do the tracebacks in them."""

import logging
import sys
from typing import TextIO

from .text import readable


class _Readable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return readable(super().format(record))


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to stderr as it is then: a panel on the terminal takes its place meanwhile."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.setLevel(logging.WARNING)
        self.setFormatter(_Readable(form))

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        pass


def show_log() -> None:
    """Show warnings that nobody else handles, as Python does."""
    logging.lastResort = _ToStderr("%(message)s")


def show_dated_log() -> None:
    """Show warnings with their times, unless the user's own code has set up a log."""
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(handlers=[_ToStderr(form)], level=logging.WARNING)
