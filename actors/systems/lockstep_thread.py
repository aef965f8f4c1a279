"""Threads that never run at the same time: the simulated loop hands control to one and waits for it back.

A plain `def` kind calls the turn's methods in the middle of whatever it does, and each may wait. Python can
suspend such a call stack on a thread only. So it has one, but the thread and the loop pass a baton: exactly
one of them runs, the other waits, and when control changes hands is decided by the simulation alone.
"""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

REAL_PATIENCE = 60.0
"""Seconds, real ones, after which code that keeps the baton has blocked for real."""


class Abandoned(BaseException):
    """Raised where a thread waits when its process has died in the simulation: nothing of it goes on."""


class LockstepThread:
    """A thread and the right to run. Made on the loop's side."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work, self.name = work, name
        self._turn: SimpleQueue[bool] = SimpleQueue()  # for the thread; False: it is abandoned
        self._back: SimpleQueue[None] = SimpleQueue()
        self.over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def ident(self) -> int | None:
        return self._thread.ident

    # On the loop's side

    def start(self) -> None:
        """Begin the work, and return when it waits for the first time or is done."""
        self._thread.start()
        self._await_back()

    def resume(self) -> None:
        """Let the thread go on until it waits again or is done."""
        if not self.over:
            self._turn.put(True)
            self._await_back()

    def abandon(self) -> None:
        """Have the thread unwind from where it waits."""
        if not self.over:
            self._turn.put(False)
            self._await_back()

    def _await_back(self) -> None:
        try:
            self._back.get(timeout=REAL_PATIENCE)
        except Empty:
            raise RuntimeError(
                f"{self.name} has blocked for {REAL_PATIENCE:g} s: code in a simulation may wait by the "
                "turn's methods, and not for other threads or for real time"
            ) from None

    # On the thread's side

    def wait(self) -> None:
        """Give the baton back, and return when it comes again. Raises `Abandoned`."""
        self._back.put(None)
        if not self._turn.get():
            raise Abandoned

    def _run(self) -> None:
        try:
            self._work()
        except Abandoned:
            pass
        finally:
            self.over = True
            self._back.put(None)
