"""What ran: the machine without its name, and the commit."""

import os
import platform
import sqlite3
import subprocess
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]
WRITTEN = ("benchmarks/results", "benchmarks/README.md")  # by the measurements themselves


class Machine(Struct, frozen=True):
    """What a reader needs to know of a machine, and nothing that names it."""

    cores: int
    memory_gib: int
    python: str
    kernel: str
    sqlite: str

    def __str__(self) -> str:
        return (
            f"{self.cores} cores, {self.memory_gib} GiB, Python {self.python}, "
            f"Linux {self.kernel}, SQLite {self.sqlite}"
        )


def machine() -> Machine:
    """This one."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        python=platform.python_version(),
        kernel=platform.release().partition("-")[0],
        sqlite=sqlite3.sqlite_version,
    )


def commit() -> str:
    """The commit that is checked out, with a `+` if files differ from it; "unknown" outside a clone.

    Results do not count: all questions of one `make bench` were measured on the same files.
    """
    others = (f":(exclude){path}" for path in WRITTEN)
    try:
        name = _git("rev-parse", "--short=10", "HEAD")
        differs = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *others)
        return f"{name}+" if differs else name
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
