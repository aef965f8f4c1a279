"""Whether something holds the loop up, and who: decided from looks at the loop's thread.

By the thread's own CPU time, as on a busy machine seconds pass in which nobody is at fault. A thread that
uses none is held up by a call only if it has not run at all and did not want to: one that waits for its
share of the machine is runnable, and one that waits for the interpreter wakes up all the time.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Literal, TypeAlias

from msgspec import Struct

from ..types import Seconds

STALL_SECONDS: Seconds = 0.75
"""Of CPU time, or of sleep, in one step of the loop: after that it is told."""

IDLE_SHARE = 0.05
"""Of the time, that a thread which waits in a call may have computed."""

SAMPLES_NEEDED = 4
"""At a thread that waits: so many are never by chance in one moment, however late each comes."""


class ThreadSample(Struct, frozen=True):
    """At the loop's thread, at one moment."""

    at: Seconds
    cpu: Seconds  # that the thread has used so far
    beat: int  # how often the loop has come round so far
    step: int  # names what the loop executes; 0 if nothing
    position: tuple[int, int]  # names the instruction that the thread is at
    switches: int | None = None  # how often it went to sleep so far; None if that is not known
    runnable: bool = False  # it would run, if it were given the machine


How: TypeAlias = Literal["computes", "waits", "many"]


class Stall(Struct, frozen=True):
    """The loop is held up: by one step that computes or waits in a call, or by many short ones."""

    how: How
    seconds: Seconds


class StallDetector:
    """Looks in, stalls out: each once."""

    def __init__(self) -> None:
        self._looks: list[ThreadSample] = []  # since the loop came round last
        self._told = False

    def look(self, look: ThreadSample) -> Stall | None:
        """The warning that is due, if there is one."""
        if self._looks and self._looks[-1].beat != look.beat:
            self._looks, self._told = [], False
        self._looks.append(look)
        if self._told or not look.step:
            return None
        stall = self._computes() or self._waits()
        self._told = stall is not None
        return stall

    def _computes(self) -> Stall | None:
        first, last = self._looks[0], self._looks[-1]
        seconds = last.cpu - first.cpu
        if seconds < STALL_SECONDS:
            return None
        one = all(look.step == last.step for look in self._looks[1:])
        return Stall("computes" if one else "many", seconds)

    def _waits(self) -> Stall | None:
        last = self._looks[-1]
        still = list(takewhile(lambda look: _same(look, last), reversed(self._looks)))
        if len(still) < SAMPLES_NEEDED:
            return None
        seconds = last.at - still[-1].at
        asleep = last.cpu - still[-1].cpu <= IDLE_SHARE * seconds
        return Stall("waits", seconds) if asleep and seconds >= STALL_SECONDS else None


def _same(one: ThreadSample, other: ThreadSample) -> bool:
    """Whether the thread has not run between two looks, and did not want to."""
    return (
        one.step == other.step
        and one.position == other.position
        and one.switches == other.switches
        and not one.runnable
    )


class CodeLine(Struct, frozen=True):
    """A line that a thread is in."""

    file: str
    line: int
    name: str
    whose: Literal["user", "library", "greenroom", "python"]


def responsible(places: Sequence[CodeLine]) -> CodeLine | None:
    """Of the lines of a stack, innermost last, the user's; None if greenroom itself is at work.

    The user's own rather than one of a library that it calls.
    """
    for whose in ("user", "library"):
        found = [place for place in places if place.whose == whose]
        if found:
            return found[-1]
    return None
