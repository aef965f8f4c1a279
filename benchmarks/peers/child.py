"""A contestant's script in a process of its own, asked for one round after the other."""

import asyncio
import math
import os
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Self, TypeVar

import msgspec
from common import strays
from common.measure import Round
from msgspec import Struct

from peers.contest import ROWS

T = TypeVar("T")

BENCHMARKS = Path(__file__).parents[1]
PREPARING, ROUND, LEAVING = 120.0, 60.0, 15.0
"""Seconds that a script may take to prepare a workload, for a round of it, and to end."""


class Failed(Exception):
    """A script gave no answer, or one that cannot be. `who` is the contestant."""

    def __init__(self, who: str, why: str) -> None:
        super().__init__(why)
        self.who = who


class Hello(Struct, frozen=True):
    """What a script says of itself once it is prepared."""

    note: str
    version: str


class Child:
    """One workload of one contestant: `command` without the workload's name."""

    def __init__(self, who: str, workload: str, *command: str) -> None:
        self.who, self.workload = who, workload
        self._command = command
        self._mark = uuid.uuid4().hex
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
        self._process: asyncio.subprocess.Process | None = None
        self.hello = Hello("", "")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        process = self._process
        if process is not None:
            try:
                assert process.stdin is not None
                process.stdin.close()
                async with asyncio.timeout(LEAVING):
                    await process.wait()
            except TimeoutError:
                pass  # its time is over, as is that of all it started
            finally:
                strays.end(self._mark)
                await process.wait()
        self._errors.close()

    async def start(self) -> None:
        """Have it prepare the workload. Raises `Failed`."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                self.workload,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=BENCHMARKS,
                env={**os.environ, strays.MARK: self._mark},
            )
        except OSError as error:
            raise Failed(self.who, f"it cannot be started: {error}") from error
        self.hello = await self._told(Hello, "to prepare", PREPARING)

    async def round(self) -> Round:
        """Its values by the rows' names. Raises `Failed`."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        values = await self._told(list[float], "for a round", ROUND)
        rows = ROWS[self.workload]
        if len(values) != len(rows) or not all(math.isfinite(value) for value in values):
            raise Failed(self.who, f"it told {values} for {len(rows)} rows")
        return Round(dict(zip(rows, values, strict=True)))

    async def _told(self, shape: type[T], what: str, seconds: float) -> T:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise Failed(self.who, f"it took longer than {seconds:.0f} s {what}") from None
        if not line:
            raise Failed(self.who, f"it ended: {self._last_words()}")
        try:
            return msgspec.json.decode(line, type=shape)
        except msgspec.MsgspecError:
            raise Failed(
                self.who, f"it told nonsense: {line.decode(errors='replace').strip()[:200]}"
            ) from None

    def _last_words(self) -> str:
        self._errors.seek(0)
        return last_line(self._errors.read().decode(errors="replace"))


def last_line(text: str) -> str:
    """Of what a script said at its end: there Python has the error."""
    said = text.strip().splitlines()
    return said[-1][:200] if said else "it gave no reason"
