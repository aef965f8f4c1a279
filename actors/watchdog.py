"""Says who blocks the loop.

All turns of `async` kinds share one loop; one that computes for a second without an `await` stops all
of them for that second. Nobody can take the loop away from it, but its name can be told.
"""

import asyncio
import logging
import queue
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Literal

from .stalls import CodeLine, Stall, StallDetector, ThreadSample, responsible

log = logging.getLogger("greenroom")

SAMPLE_SECONDS = 0.25
"""Seconds between two looks, and between two beats of a loop that is not held up."""

OURS = __name__.partition(".")[0]
OUR_LOOP = str(Path("actors", "systems", "local.py"))
PYTHONS = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
LIBRARY_FOLDERS = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})


class Watchdog:
    """A thread that watches a loop, and names what holds it up, once each time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._beats = 0
        self._stopped: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: _SampledThread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._loop.call_soon_threadsafe(self._beat)
        threading.Thread(target=self._watch, name="greenroom watchdog", daemon=True).start()

    def stop(self) -> None:
        """Cease to watch."""
        self._stopped.put(None)

    def _beat(self) -> None:
        if self._thread is None:
            self._thread = _SampledThread()
        self._beats += 1
        if self._stopped.empty():
            self._loop.call_later(SAMPLE_SECONDS, self._beat)

    def _watch(self) -> None:
        stalls = StallDetector()
        while True:
            try:
                self._stopped.get(timeout=SAMPLE_SECONDS)
            except queue.Empty:
                if self._thread is not None:
                    self._look(self._thread, stalls)
            else:
                self._stopped.put(None)  # for the beat
                return

    def _look(self, thread: "_SampledThread", stalls: StallDetector) -> None:
        look, frames = thread.look(self._beats)
        stall = stalls.look(look)
        if stall is not None:
            task = asyncio.current_task(self._loop)
            log.warning(
                "%s",
                told(stall, "a callback" if task is None else task.get_name(), list(map(_place, frames))),
            )


class _SampledThread:
    """The loop's thread, from outside; made on it."""

    def __init__(self) -> None:
        self._ident, self._native = threading.get_ident(), threading.get_native_id()
        self._cpu = _cpu_clock(self._ident)
        self._step: FrameType | None = None

    def look(self, beat: int) -> tuple[ThreadSample, list[FrameType]]:
        """The code that it executes now, and its frames, innermost last."""
        cpu = self._cpu()
        switches, runnable = self._scheduled()
        frame = sys._current_frames().get(self._ident)
        position = (0, 0) if frame is None else (id(frame), frame.f_lasti)
        frames = _frames_of_step(frame)
        # held until the next look: no other frame has this number then
        self._step = frames[0] if frames else None
        step = 0 if self._step is None else id(self._step)
        return ThreadSample(time.monotonic(), cpu, beat, step, position, switches, runnable), frames

    def _scheduled(self) -> tuple[int | None, bool]:
        """How often it went to sleep of itself, and whether it would run now, where the system tells."""
        with suppress(OSError, ValueError, IndexError):
            status = Path(f"/proc/self/task/{self._native}/status").read_text()
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            return int(fields["voluntary_ctxt_switches"]), fields["State"].strip().startswith("R")
        return None, False


def _cpu_clock(ident: int) -> Callable[[], float]:
    """The CPU time of a thread; where that cannot be had, the time."""
    with suppress(AttributeError, OSError):
        clock = time.pthread_getcpuclockid(ident)
        return lambda: time.clock_gettime(clock)
    return time.monotonic


def _frames_of_step(frame: FrameType | None) -> list[FrameType]:
    """The frames of what the loop executes, without the loop's own; none if it waits for work."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    first = next((n for n, one in enumerate(frames) if _runs_loop(one)), None)
    if first is None:
        return []
    first += 1
    while first < len(frames) and _is_loops(frames[first]):
        first += 1
    return [] if frames[first - 1].f_code.co_name == "_run_once" else frames[first:]


def _runs_loop(frame: FrameType) -> bool:
    """Whether a loop runs below it: all that asyncio has, and ours around one that is written in C."""
    ours = frame.f_code.co_name == "_run" and frame.f_code.co_filename.endswith(OUR_LOOP)
    return ours or _is_loops(frame)


def _is_loops(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("asyncio", "uvloop")


def _place(frame: FrameType) -> CodeLine:
    code = frame.f_code
    return CodeLine(code.co_filename, frame.f_lineno or 0, code.co_qualname, _whose(frame))


def _whose(frame: FrameType) -> Literal["user", "library", "greenroom", "python"]:
    if str(frame.f_globals.get("__name__", "")).partition(".")[0] == OURS:
        return "greenroom"
    file = frame.f_code.co_filename
    resolved = str(Path(file).resolve())
    if resolved.startswith(LIBRARY_FOLDERS):  # they are below those of Python
        return "library"
    return "python" if resolved.startswith(PYTHONS) or file.startswith("<frozen") else "user"


def told(stall: Stall, who: str, places: list[CodeLine]) -> str:
    """The line for the log."""
    if stall.how == "many":
        return (
            f"all agents have waited for {stall.seconds:.1f} s of work in many short steps, none of which "
            "is at fault: there is more to do than one thread can. Have the agents do less on the loop, or "
            "make some of them a plain def, which runs on a thread"
        )
    does = "computed" if stall.how == "computes" else "waited in a call"
    culprit = responsible(places)
    stack = "".join(f'\n  File "{place.file}", line {place.line}, in {place.name}' for place in places[-4:])
    if culprit is None:
        return (
            f"greenroom itself has {does} for {stall.seconds:.1f} s and blocked all agents meanwhile "
            f"({who}); that is no fault of your code. Please report this{stack}"
        )
    return (
        f"{who} has blocked all agents for {stall.seconds:.1f} s: it has {does} in {culprit.file}, line "
        f"{culprit.line}, in {culprit.name}. Await something there, or make it a plain def, which runs "
        f"on a thread{stack}"
    )
