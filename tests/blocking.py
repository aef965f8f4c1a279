"""A guard: greenroom's own code makes no call on an event loop's thread that waits for anything outside.

While the guard is on, functions that may block (files, sleep, sockets, processes, locks between threads)
note who calls them on a thread whose loop is running, but for that of a simulation, which has all on one
thread. What counts is the innermost caller that is not
Python's own library: code of an agent may block, and stands for itself. SQLite needs no more than its
`connect`: a connection refuses to be used on another thread than its own.
"""

import asyncio
import builtins
import concurrent.futures
import functools
import io
import os
import queue
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from greenroom.actors.systems.virtual import VirtualLoop

ROOT = Path(__file__).parents[1]
OURS = tuple(f"{ROOT / folder}/" for folder in ("actors", "persistence", "src/greenroom"))
LIBRARY = f"{sysconfig.get_path('stdlib')}/"
SITE = "/site-packages/"

MAY_BLOCK: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (builtins, ("open", "input")),
    (io, ("open",)),
    (time, ("sleep",)),
    (
        os,
        (
            "open", "read", "write", "stat", "lstat", "access", "listdir", "scandir", "walk", "mkdir",
            "makedirs", "remove", "unlink", "rename", "replace", "rmdir", "link", "symlink", "readlink",
            "statvfs", "chmod", "truncate", "ftruncate", "fsync", "fdatasync", "sync", "waitpid", "system",
            "fork", "posix_spawn",
        ),
    ),
    (sqlite3, ("connect",)),
    (socket, ("create_connection", "getaddrinfo", "gethostbyname")),
    (subprocess, ("run", "call", "check_call", "check_output")),
    (subprocess.Popen, ("__init__", "wait", "communicate")),
    (threading.Thread, ("join",)),
    (threading.Event, ("wait",)),
    (threading.Condition, ("wait",)),
    (queue.Queue, ("get", "put")),
    (concurrent.futures.Future, ("result", "exception")),
)  # fmt: skip

ALLOWED = {
    (threading.__file__, "start"): "a new thread is waited for until it has taken its first step",
    (
        "greenroom/borders.py",
        "traceback_of",
    ): "a bug is logged with its lines, which Python reads from the source",
    ("actors/processes/reaper_client.py", "fork"): "a description goes into memory that looks like a file",
    ("actors/processes/reaper_client.py", "_start"): "the process that starts all others is started once",
    ("src/greenroom/drivers/environment.py", "program"): "a look at the folder that a program starts in",
    ("src/greenroom/drivers/files.py", "__init__"): "the same, before the program does its own start",
}
"""Functions in which ours may wait, and why."""


def _waits(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this call really may wait."""
    if name in ("get", "put"):
        return bool(kwargs.get("block", args[1] if len(args) > 1 else True))
    if name in ("result", "exception"):
        return not args[0].done()
    if name in ("read", "write") and isinstance(args[0], int):
        return os.get_blocking(args[0])
    if name == "wait" and isinstance(args[0], threading.Event):
        return not args[0].is_set()
    return True


def _culprit() -> tuple[str, str, int] | None:
    """Where the call comes from, if that is our own code: file, function, line."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if (file, frame.f_code.co_name) in ALLOWED or file == warnings.__file__:
            return None
        library = file.startswith(LIBRARY) and SITE not in file
        if not (library or file.startswith("<") or file == __file__):
            if not file.startswith(OURS):
                return None
            place = file.removeprefix(f"{ROOT}/").replace("src/greenroom/actors", "actors")
            here = place, frame.f_code.co_name
            return None if here in ALLOWED else (*here, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return None


@contextmanager
def blocking_calls() -> Iterator[list[str]]:
    """What was called on a loop's thread by our code, meanwhile, that may block."""
    found: list[str] = []
    undo: list[Callable[[], None]] = []

    def guarded(name: str, call: Any) -> Any:
        @functools.wraps(call)
        def guard(*args: Any, **kwargs: Any) -> Any:
            loop = asyncio._get_running_loop()
            if loop is not None and not isinstance(loop, VirtualLoop) and _waits(name, args, kwargs):
                culprit = _culprit()
                if culprit is not None:
                    place, function, line = culprit
                    found.append(f"{name} in {place}:{line} ({function})")
            return call(*args, **kwargs)

        return guard

    for owner, names in MAY_BLOCK:
        for name in names:
            call = getattr(owner, name)
            setattr(owner, name, guarded(name, call))
            undo.append(functools.partial(setattr, owner, name, call))
    try:
        yield found
    finally:
        for restore in undo:
            restore()
