"""The life of a session as a table: state and event in, next state out.

A session is what a resident agent holds in memory. This is all of its life; `docs/lifecycle.svg` is drawn
from the table. An event that has no row is a bug: it raises and changes nothing. An event that can
rightly come too late (news that crossed ours on the way) has a row that leads back to the same state.

    opening    the kind's `open` runs
    idle       nothing to do; the only state in which a session can be evicted
    asking     there is more work, and the residency was asked whether to go on in this place
    acquiring  a slot was asked for
    taking     a slot is held, the ledger was asked for a run
    running    the turn's code executes, in the slot
    waiting    the turn waits, without a slot and outside of the number of residents
    returning  its wait is over, and it wants a place in memory
    regaining  it has one, and wants a slot
    ending     the turn's end was told to the ledger
    leaving    it must go, as soon as the code under way has returned
    closing    the kind's `close` runs
    ended      its actor goes
"""

from typing import Literal

SessionState = Literal[
    "opening",
    "idle",
    "asking",
    "acquiring",
    "taking",
    "running",
    "waiting",
    "returning",
    "regaining",
    "ending",
    "leaving",
    "closing",
    "ended",
]
SessionEvent = Literal[
    "opened",
    "failed",
    "work",
    "rest",
    "asks",
    "goes_on",
    "granted",
    "begun",
    "nothing",
    "waits",
    "resumes",
    "placed",
    "returned",
    "more",
    "settled",
    "unload",
    "closed",
]

TABLE: dict[SessionState, dict[SessionEvent, SessionState]] = {
    "opening": {
        "opened": "idle",
        "failed": "closing",
        "work": "opening",  # remembered
        "rest": "opening",
        "unload": "leaving",  # `open` is cancelled; what it opened is closed once it has returned
    },
    "idle": {
        "work": "acquiring",
        "asks": "asking",  # there is work, and it has no place: its last turn ended while it waited
        "rest": "idle",
        "unload": "closing",
        "granted": "idle",  # crossed our release: the slot is given back already
        "placed": "idle",  # it has a place again, for the turn that has ended meanwhile
        "goes_on": "idle",  # its runs were interrupted while it asked
    },
    "asking": {
        "goes_on": "acquiring",
        "work": "asking",
        "rest": "idle",  # its runs were interrupted
        "unload": "closing",  # others have this place now
        "granted": "asking",
        "placed": "asking",
    },
    "acquiring": {
        "granted": "taking",
        "work": "acquiring",
        "rest": "idle",  # its runs were interrupted
        "unload": "closing",
        "goes_on": "acquiring",  # the answer to an older question; so below
    },
    "taking": {
        "begun": "running",
        "nothing": "idle",
        "work": "taking",
        "rest": "taking",
        "unload": "closing",
        "granted": "taking",
        "goes_on": "taking",
    },
    "running": {
        "waits": "waiting",
        "returned": "ending",
        "work": "running",  # the end of the turn asks the ledger anyway
        "rest": "running",
        "unload": "leaving",
        "granted": "running",
        "goes_on": "running",
    },
    "waiting": {
        "resumes": "returning",
        "waits": "waiting",  # interrupted, and its clean-up waits again
        "returned": "ending",  # interrupted while it waited
        "work": "waiting",
        "rest": "waiting",
        "unload": "leaving",
        "granted": "waiting",  # crossed a wait that was given up
        "goes_on": "waiting",
    },
    "returning": {
        "placed": "regaining",
        "waits": "waiting",  # interrupted, and the code waits again in its clean-up
        "returned": "ending",
        "work": "returning",
        "rest": "returning",
        "unload": "leaving",
        "granted": "returning",
        "goes_on": "returning",
    },
    "regaining": {
        "granted": "running",
        "waits": "waiting",
        "returned": "ending",
        "work": "regaining",
        "rest": "regaining",
        "unload": "leaving",
        "goes_on": "regaining",
    },
    "ending": {
        "more": "acquiring",
        "asks": "asking",
        "settled": "idle",
        "work": "ending",
        "rest": "ending",
        "unload": "closing",
        "granted": "ending",
        "placed": "ending",
        "goes_on": "ending",
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
        "placed": "leaving",
        "goes_on": "leaving",
    },
    "closing": {
        "closed": "ended",
        "work": "closing",  # told by `seen`: the residency loads the agent again
        "rest": "closing",
        "unload": "closing",
        "granted": "closing",
        "placed": "closing",
        "goes_on": "closing",
        "begun": "closing",  # the ledger hears of our end and queues the run again
        "nothing": "closing",
        "settled": "closing",
    },
    # until its actor is gone, what was on its way may still arrive
    "ended": dict.fromkeys(
        ("work", "rest", "unload", "granted", "placed", "goes_on", "begun", "nothing", "settled"), "ended"
    ),
}


class IllegalTransition(Exception):
    """An event that cannot happen in this state: a bug."""

    def __init__(self, state: str, event: str) -> None:
        super().__init__(state, event)
        self.state, self.event = state, event

    def __str__(self) -> str:
        return f"a session that is {self.state} cannot have been told {self.event!r}"


def after(state: SessionState, event: SessionEvent) -> SessionState:
    """The state after `event`, or `IllegalTransition`."""
    following = TABLE[state].get(event)
    if following is None:
        raise IllegalTransition(state, event)
    return following
