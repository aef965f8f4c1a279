"""The life of a session as a table: state and event in, next state out.

A session is what a resident agent holds in memory. This is all of its life; `docs/lifecycle.svg` is drawn
from the table. An event that has no row is a bug: it raises and changes nothing. An event that can
rightly come too late (news that crossed ours on the way) has a row that leads back to the same state.

    opening    the kind's `open` runs
    idle       nothing to do; the only state in which a session can be evicted
    acquiring  a slot was asked for
    taking     a slot is held, the ledger was asked for a run
    running    the turn's code executes, in the slot
    waiting    the turn waits for runs, or is paused, without a slot
    regaining  the turn wants its slot back
    ending     the turn's end was told to the ledger
    leaving    it must go, as soon as the code under way has returned
    closing    the kind's `close` runs
    ended      its actor goes
"""

from typing import Literal

State = Literal[
    "opening",
    "idle",
    "acquiring",
    "taking",
    "running",
    "waiting",
    "regaining",
    "ending",
    "leaving",
    "closing",
    "ended",
]
Event = Literal[
    "opened",
    "failed",
    "work",
    "rest",
    "granted",
    "begun",
    "nothing",
    "waits",
    "resumes",
    "returned",
    "more",
    "settled",
    "unload",
    "closed",
]

TABLE: dict[State, dict[Event, State]] = {
    "opening": {
        "opened": "idle",
        "failed": "closing",
        "work": "opening",  # remembered
        "rest": "opening",
        "unload": "leaving",  # `open` is cancelled; what it opened is closed once it has returned
    },
    "idle": {
        "work": "acquiring",
        "rest": "idle",
        "unload": "closing",
        "granted": "idle",  # crossed our release: the slot is given back already
    },
    "acquiring": {
        "granted": "taking",
        "work": "acquiring",
        "rest": "idle",  # its runs were interrupted
        "unload": "closing",
    },
    "taking": {
        "begun": "running",
        "nothing": "idle",
        "work": "taking",
        "rest": "taking",
        "unload": "closing",
        "granted": "taking",
    },
    "running": {
        "waits": "waiting",
        "returned": "ending",
        "work": "running",  # the end of the turn asks the ledger anyway
        "rest": "running",
        "unload": "leaving",
        "granted": "running",
    },
    "waiting": {
        "resumes": "regaining",
        "waits": "waiting",  # interrupted, and its clean-up waits again
        "returned": "ending",  # interrupted while it waited
        "work": "waiting",
        "rest": "waiting",
        "unload": "leaving",
        "granted": "waiting",  # crossed a wait that was given up
    },
    "regaining": {
        "granted": "running",
        "waits": "waiting",  # interrupted, and the code waits again in its clean-up
        "returned": "ending",
        "work": "regaining",
        "rest": "regaining",
        "unload": "leaving",
    },
    "ending": {
        "more": "acquiring",
        "settled": "idle",
        "work": "ending",
        "rest": "ending",
        "unload": "closing",
        "granted": "ending",
    },
    "leaving": {
        "opened": "closing",
        "failed": "closing",
        "returned": "closing",
        "waits": "leaving",
        "resumes": "leaving",
        "work": "leaving",
        "rest": "leaving",
        "unload": "leaving",
        "granted": "leaving",
    },
    "closing": {
        "closed": "ended",
        "work": "closing",  # told by `seen`: the residency loads the agent again
        "rest": "closing",
        "unload": "closing",
        "granted": "closing",
        "begun": "closing",  # the ledger hears of our end and queues the run again
        "nothing": "closing",
        "more": "closing",
        "settled": "closing",
    },
    # until its actor is gone, what was on its way may still arrive
    "ended": dict.fromkeys(
        ("work", "rest", "unload", "granted", "begun", "nothing", "more", "settled"), "ended"
    ),
}


class IllegalTransition(Exception):
    """An event that cannot happen in this state: a bug."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(state, event)
        self.state, self.event = state, event

    def __str__(self) -> str:
        return f"a session that is {self.state} cannot have been told {self.event!r}"


def after(state: State, event: Event) -> State:
    """The state after `event`, or `IllegalTransition`."""
    following = TABLE[state].get(event)
    if following is None:
        raise IllegalTransition(state, event)
    return following
