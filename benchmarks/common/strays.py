"""Processes that somebody started and lost: found by a mark in their environment, ended by their ids."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

MARK = "GREENROOM_BENCH_MARK"


def output_within(seconds: float, *words: str) -> tuple[str, str]:
    """What `python words…` wrote to stdout and stderr until its end, or until its time was over.

    Afterwards nothing of it is left, also of what it started: all of those have the mark.
    """
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, MARK: mark},
        cwd=Path(__file__).parents[1],
    )
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(mark)
        out, error = process.communicate(timeout=10)
        return out, f"{error}\nit was ended after {seconds:.0f} s"
    finally:
        end(mark)
        process.wait()


def end(mark: str) -> None:
    """End every process that has this mark in its environment."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)


def free_port() -> int:
    """A port that nobody listens on, at the moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
