"""Being told to stop: the first signal raises `Stopped` where the command is, the second ends the process.

The work itself is done by the runtime's threads, which signals do not reach: whatever the main thread
waits for, even a runtime whose loop is blocked, it can be called away from.
"""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any, Literal, Self

STOPPED = 130
"""Exit status of a command that was stopped, by whichever signal."""

ONE_PRESS = 0.2
"""Seconds within which a second signal is the same one: from the terminal, and handed on by a wrapper."""

SHOW_CURSOR = b"\x1b[?25h\n"


class Stopped(BaseException):
    """The user, or the system, wants the command to stop. No `Exception`: no code is to get over it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.name = signal.Signals(signum).name


class StopSignals:
    """`with StopSignals() as signals:` around the work of a command, on the main thread.

    A signal that was ignored when the program began (`nohup`, `&` in a script) stays ignored.
    """

    def __init__(self) -> None:
        self._stage: Literal["working", "stopping", "over"] = "working"
        self._status = STOPPED
        self._first = 0.0
        self._signum = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                    self._before[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def over(self, status: int) -> None:
        """The work is done; a signal from now on ends the process at once, with `status`."""
        self._status = status
        self._stage = "over"

    def check(self) -> None:
        """Raise `Stopped` again if it came and was lost.

        Python drops what is raised while it calls a finaliser or a weak reference's callback. A command
        that waits in a loop asks here each time round.
        """
        if self._stage == "stopping":
            raise Stopped(self._signum)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._stage == "working":
            self._stage, self._first, self._signum = "stopping", time.monotonic(), signum
            raise Stopped(signum)
        if signum == signal.SIGHUP or time.monotonic() - self._first < ONE_PRESS:
            return
        # no flush: the signal may have come in the middle of one, and what counts was flushed
        with suppress(OSError, ValueError):
            if sys.__stderr__ is not None and sys.__stderr__.isatty():
                os.write(sys.__stderr__.fileno(), SHOW_CURSOR)
        os._exit(self._status)
