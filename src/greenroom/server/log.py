"""The server's log: one line for each refused request, and no more of them than somebody can read."""

import logging
import time

from .rates import Rates

log = logging.getLogger("greenroom.server")

LINES = 10.0
"""Lines a second about refused requests; what is beyond is counted and told with the next one."""


class RefusalLog:
    """Tells of refused requests."""

    def __init__(self) -> None:
        self._rates = Rates(LINES, 2 * LINES, 1)
        self._untold = 0

    def refused(self, status: int, name: str, method: str, path: str, peer: str, detail: str) -> None:
        """A request was answered with this problem."""
        if self._rates.take("", time.monotonic()):
            self._untold += 1
            return
        more = f" ({self._untold} more were refused before)" if self._untold else ""
        self._untold = 0
        log.warning(
            "refused %s %s from %s: %d %s: %s%s",
            printable(method),
            printable(path),
            peer,
            status,
            name,
            printable(detail),
            more,
        )


def printable(text: str, most: int = 300) -> str:
    """`text` without what could forge a line of the log or command a terminal, and not endless."""
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
