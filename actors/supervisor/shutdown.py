"""The course of closing a runtime: each step begins when the one before is done, or its time is up.

    draining      turns under way get the drain time, none begins
    interrupting  the rest is cut off, to begin again, and gets a grace to return
    unloading     sessions close
    writing       what is left is written, the store is closed
    closed

A store that was lost cuts this short: there is nothing to drain for, and nothing may be written. The
store's new owner begins the turns again that are under way here, so they end at once.

So nothing hangs: the whole takes at most the drain time and the bounds below.
"""

from typing import Literal

from ...types import Seconds
from ..agent.behaviour import CLOSE_TIMEOUT

Step = Literal["up", "draining", "interrupting", "unloading", "writing", "closed"]
ORDER: tuple[Step, ...] = ("up", "draining", "interrupting", "unloading", "writing", "closed")

BOUNDS: dict[Step, Seconds] = {
    "interrupting": 5.0,
    "unloading": CLOSE_TIMEOUT + 2.0,
    "writing": 60.0,
}
"""Seconds for each step after the draining."""

WHAT_IS_LEFT: dict[Step, str] = {
    "interrupting": "turns that did not return after they were cut off",
    "unloading": "sessions that did not close",
    "writing": "commits that could not be written",
}


class ShutdownSequence:
    """Where the closing stands. Says when a step is to begin, once each, in order."""

    def __init__(self) -> None:
        self.step: Step = "up"
        self.lost = False  # nothing is written any more
        self.unfinished: list[str] = []

    def close(self) -> Step | None:
        """Begin to close."""
        return self._to("draining") if self.step == "up" else None

    def lose(self) -> Step | None:
        """The store is lost: end what is under way, closing or not."""
        if self.lost or self.step == "closed":
            return None
        self.lost = True
        if self.step != "up":  # nobody would hear of it otherwise: calls are over
            self.unfinished.append(WHAT_IS_LEFT["writing"])
        return self._to("closed" if self.step == "writing" else "unloading")

    def done(self, step: Step) -> Step | None:
        """`step` has done what it is for. News of a step that is over changes nothing."""
        if step == "draining" and self.step == "interrupting":
            step = "interrupting"  # the turns ended after all
        if step != self.step:
            return None
        return self._to("unloading" if step == "draining" else ORDER[ORDER.index(step) + 1])

    def time_is_up(self, step: Step) -> Step | None:
        """The time of `step` is over; what it was for is left behind, but for the draining."""
        if step != self.step:
            return None
        if step in WHAT_IS_LEFT:
            self.unfinished.append(WHAT_IS_LEFT[step])
        return self._to(ORDER[ORDER.index(step) + 1])

    def _to(self, step: Step) -> Step:
        self.step = "closed" if step == "writing" and self.lost else step
        return self.step
