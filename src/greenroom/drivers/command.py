"""Command-line agents: a program for each run, a prompt in, JSON lines out."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from ..actors.agent.kind import agent
from ..actors.agent.turn import Turn
from ..actors.models import AgentInfo
from ..borders import shown
from ..errors import ProcessFailed
from .child import ChildProcess, NoPermit, ProcessClient, link
from .environment import Cwd, Env, Limits, Mask, Setting, setting
from .kinds import checked_again
from .lines import LONGEST_LINE, Line, ParsedValue, Splitter, Text, TooLong, Unusable
from .prompt import Prompt, checked_prompt, prompt_of
from .telling import tell

Answer: TypeAlias = Callable[[Any], Any] | None

MOST_ANSWER_BYTES = 64 << 20
"""Bytes of a line that a kind may allow."""

LINES_AT_ONCE = 64
"""Lines that are told before the loop gets its turn."""


class AnswerReading:
    """The meaning of the lines of one run: all but the last are progress, the last answer is the result.

    A line is told when the next one comes, so that the result is not progress as well.
    """

    def __init__(self, answer: Answer, longest: int = LONGEST_LINE) -> None:
        self._answer, self._longest = answer, longest
        self._held: Line | None = None  # the last line
        self._held_answers = False  # it is the result so far
        self.result: Any = None
        self.lost: str | None = None  # why what may have been the result is none

    def line(self, line: Line) -> Line | None:
        """The line to be told now, if any."""
        told, self._held = self._held, line
        self._held_answers = False
        if isinstance(line, ParsedValue):
            given = line.value if self._answer is None else self._answer(line.value)
            if self._answer is None or given is not None:
                self.result, self._held_answers, self.lost = given, True, None
        elif isinstance(line, Unusable):
            self.lost = f"is JSON with a value that cannot be kept: {line.problem}"
        elif isinstance(line, TooLong) and line.looks_like_json:
            self.lost = f"has {line.size:,} bytes, and longest_line= allows {self._longest:,}"
        return told

    def end(self, *, well: bool) -> Line | None:
        """The program has ended: the last line is told unless it is the result."""
        told, self._held = self._held, None
        return None if well and self._held_answers else told


class CommandAgent:
    """A session of a command-line kind: it holds no process between runs."""

    setting: Setting
    kind_name: str
    answer: Answer
    prompt: Prompt
    longest: int

    def __init__(self) -> None:
        self.info: AgentInfo
        self.link: ProcessClient
        self.child: ChildProcess | None = None

    async def open(self, info: AgentInfo) -> None:
        """Find the way to the room of processes; nothing is started yet."""
        self.info, self.link = info, link()

    async def run(self, turn: Turn) -> Any:
        """Execute the program once."""
        prompt = prompt_of(turn, type(self).prompt)
        child = self.child = await start(self.link, turn, self.info, self.kind_name, self.setting)
        try:
            return await self._talk(turn, child, prompt)
        finally:
            await child.end()
            self.child = None

    async def _talk(self, turn: Turn, child: ChildProcess, prompt: str) -> Any:
        writing = asyncio.ensure_future(_write(child, prompt))
        try:
            reading = await self._read(turn, child)
            code = await asyncio.shield(child.started.exited)
        finally:
            writing.cancel()
        last = reading.end(well=code == 0)
        if last is not None:
            _tell(turn, last, child.mask)
        if code != 0:
            raise await child.failure(f"{self.setting.argv[0]!r} ended")
        if reading.lost is not None:
            problem = f"the answer of {self.setting.argv[0]!r} cannot be taken: its line {reading.lost}"
            raise ProcessFailed(self.info.path, child.mask.text(problem))
        return reading.result

    async def _read(self, turn: Turn, child: ChildProcess) -> AnswerReading:
        """Every line there is, told as it comes but for the last one."""
        splitter, reading = Splitter(self.longest), AnswerReading(type(self).answer, self.longest)
        mask = child.mask
        async for chunk in child.chunks():
            for number, line in enumerate(splitter.feed(chunk)):
                _tell(turn, reading.line(line), mask)
                if number % LINES_AT_ONCE == LINES_AT_ONCE - 1:
                    await asyncio.sleep(0)
        for line in splitter.end():
            _tell(turn, reading.line(line), mask)
        return reading

    async def close(self) -> None:
        """End what is under way, if anything is."""
        if self.child is not None:
            await self.child.end()


async def start(
    way: ProcessClient, turn: Turn, info: AgentInfo, kind: str, setting: Setting
) -> ChildProcess:
    """Start a program in a turn; while it waits for a place, the turn gives its slot back."""
    with contextlib.suppress(NoPermit):
        return await ChildProcess.start(way, info, kind, setting, wait=False)
    turn.emit("waiting", {"for": "process", "places": setting.limits.processes})
    child: ChildProcess | None = None
    try:
        async with turn.paused():
            child = await ChildProcess.start(way, info, kind, setting, wait=True)
    except BaseException:
        if child is not None:  # it was interrupted while it waited for its slot
            child.abandon()
        raise
    return child


async def _write(child: ChildProcess, prompt: str) -> None:
    """A program may end without reading what it is told."""
    with contextlib.suppress(BrokenPipeError, ConnectionError):
        await child.write(prompt.encode(errors="surrogatepass") + b"\n")
        child.close_stdin()


def _tell(turn: Turn, line: Line | None, mask: Mask) -> None:
    match line:
        case ParsedValue(value):
            tell(turn, "message", value, mask)
        case Text(text) | Unusable(text):
            tell(turn, "text", text, mask)
        case TooLong(beginning, size):
            tell(turn, "too long", {"beginning": beginning, "bytes": size}, mask)


def command_agent(
    argv: Iterable[str],
    *,
    name: str,
    cwd: Cwd = None,
    env: Env = None,
    answer: Answer = None,
    prompt: Prompt = None,
    limits: Limits | None = None,
    longest_line: int = LONGEST_LINE,
    turn_timeout: float | None = None,
    attempts: int = 3,
    version: int = 1,
) -> Any:
    """Make a kind of a program that gets a prompt and prints JSON lines. Each run executes it once.

    Args:
        argv: the program and its arguments. It is searched for in the environment's PATH.
        name: what the kind is called in the store.
        cwd: the folder that it works in, or a function `(info) -> folder`; the runtime's own if None.
        env: its environment, or a function `(info) -> env`, for what is in `info.config`; None for a value
            leaves a variable out. Beside these it gets PATH, HOME and the like (`BASICS`), and no others.
        answer: `(value) -> result or None`, for each line that is JSON: which ones answer. Without it all
            of them do.
        prompt: `(turn) -> str`; without it the messages that came, then the input: a str as it is, anything
            else as JSON. It is written to the standard input, which is then closed.
        limits: how many processes there are at a time, and what each may use.
        longest_line: bytes, at most 64 MiB.
        turn_timeout, attempts, version: see `greenroom.agent`.

    The result is the last answer, or None if there was none, and only if the program ended with code 0;
    else the run fails with its code or signal and the end of its standard error. It fails as well if after
    the last answer a line came that may be one and is lost: JSON longer than `longest_line`, or with NaN or
    another value that cannot be kept. All other lines are
    `run.progress` events: "message" with the value, "text" for what is no JSON, "too long" for what is.
    Interrupted, the program is terminated with all that it started, and killed 2 s later.
    Raises `TypeError`, `ValueError`, `KindTaken`.
    """
    made = setting(argv, cwd, env, limits)
    checked_prompt(prompt)
    if answer is not None and not callable(answer):
        raise TypeError(f"answer= is a function of a line's value, or None, not {shown(answer)}")
    whole = isinstance(longest_line, int) and not isinstance(longest_line, bool)
    if not whole or not 1 <= longest_line <= MOST_ANSWER_BYTES:
        raise ValueError(
            f"longest_line= is a number of bytes from 1 to {MOST_ANSWER_BYTES:,}, not {shown(longest_line)}"
        )
    body = {
        "setting": made,
        "kind_name": name,
        "answer": staticmethod(answer) if answer else None,
        "prompt": staticmethod(prompt) if prompt else None,
        "longest": longest_line,
    }
    checked_again(name, version, body)
    kind = type("CommandAgent", (CommandAgent,), {**body, "__doc__": f"The command {made.argv[0]}."})
    register = agent(name=name, version=version, codec="json", turn_timeout=turn_timeout, attempts=attempts)
    return register(kind)


__all__ = ["CommandAgent", "ProcessFailed", "command_agent"]
