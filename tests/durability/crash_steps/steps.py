"""Every step at which a process can die while it writes: counted, and at one of them it does.

The boundary is SQLite's. A step is a statement on the writing connection that is not a mere question
(before it is executed, and after a COMMIT or a checkpoint as well), or something done to a file in the
store's folder: its making, the key's, the claim. Writes *within* one statement are the business of the
power cuts.
"""

import os
import re
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

from greenroom.actors.storage import writer as actor
from greenroom.persistence import schema, store

QUESTION = re.compile(r"\s*(select\b|pragma \w+;?$)", re.IGNORECASE)


class Steps:
    """Counts steps; at the `deadly` one says which it is and kills its process. 0: never."""

    def __init__(self, deadly: int, say: Callable[[str], None]) -> None:
        self.count = 0
        self._deadly, self._say = deadly, say

    def arm(self, deadly: int) -> None:
        """Count anew from here."""
        self.count, self._deadly = 0, deadly

    def at(self, what: str) -> None:
        self.count += 1
        if self.count == self._deadly:
            self._say(what)
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # on this thread nothing comes after it

    def watch(self, folder: str) -> None:
        """Count from now on what is done to files in `folder`."""
        connect = sqlite3.connect
        steps = self

        class Connection(schema.StoreConnection):
            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                if not QUESTION.match(statement):
                    steps.at(statement)
                cursor = super().execute(statement, *values)
                if statement.startswith(("COMMIT", "PRAGMA wal_checkpoint")):
                    steps.at(f"after {statement}")
                return cursor

            def executemany(self, statement: str, *values: Any) -> sqlite3.Cursor:
                steps.at(statement)
                return super().executemany(statement, *values)

            def close(self) -> None:
                steps.at("close")
                super().close()
                steps.at("after close")

        def counting(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
            if "mode=ro" not in str(database):
                options["factory"] = Connection
            return connect(database, *arguments, **options)

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if event in ("open", "os.link", "os.remove", "os.rename", "fcntl.flock", "os.truncate"):
                named = arguments[0]
                if event == "fcntl.flock" or (isinstance(named, str) and named.startswith(folder)):
                    steps.at(f"{event} {os.path.basename(named) if isinstance(named, str) else ''}")

        sqlite3.connect = counting  # type: ignore[assignment]
        sys.addaudithook(audit)


def tidy_often() -> None:
    """Have the store copy its log, look for what may go and give pages back within a short story."""
    store.CHECKPOINT_AFTER = actor.PRUNE_AFTER = 25
    store.pages_to_give_back = lambda free, _pages: free
