"""Which turn or session the code that runs here belongs to, also in tasks and threads that it began.

Calls that would wait for the turn's own slot, or for the agent's own place in memory, can so be refused. A
process that was forked in a turn is known for a copy of its runtime's. Such a copy must not go on: it
shares the loop's descriptors with its parent, and would execute what the parent executes.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ...types import Address

if TYPE_CHECKING:
    from .turn import Turn


_turn: ContextVar["Turn | None"] = ContextVar("greenroom turn", default=None)


def enter(turn: "Turn") -> None:
    """Let it be known that what is called from here on, in this context, is code of `turn`."""
    _turn.set(turn)


def slot_holder(supervisor: Address) -> str | None:
    """The agent whose turn this is, if it holds a slot of that runtime."""
    turn = _turn.get()
    if turn is None or not turn._holds_slot or turn._host.roles["supervisor"] is not supervisor:
        return None
    return turn.path


class SessionMethod(Struct):
    """Which of its two methods an agent's session calls, if it calls one now."""

    path: str
    supervisor: Address
    name: str | None = None  # "open" or "close"


_session: ContextVar[SessionMethod | None] = ContextVar("greenroom session", default=None)


def enter_session(path: str, supervisor: Address) -> None:
    """Let it be known that code in this context belongs to the agent's session."""
    _session.set(SessionMethod(path, supervisor))


@contextmanager
def calling(name: str) -> Iterator[None]:
    """Let it be known that the session of this context is inside this method."""
    session = _session.get()
    if session is None:
        yield
        return
    session.name = name
    try:
        yield
    finally:
        session.name = None


def session_method(supervisor: Address) -> SessionMethod | None:
    """The method of a session of that runtime that has not returned and that this code belongs to."""
    session = _session.get()
    if session is None or session.name is None or session.supervisor is not supervisor:
        return None
    return session


def in_child(pid: int) -> bool:
    """Whether this is a process that was forked from the one with this id."""
    return os.getpid() != pid


def end_child() -> None:
    """End a process that came back to a runtime which is its parent's."""
    text = "greenroom: a process that was forked in a turn came back to its parent's runtime, and ends here"
    print(text, file=sys.stderr, flush=True)
    os._exit(1)


def _forked() -> None:
    """A turn's code has forked: on the loop's thread the copy ends when it gets back to the loop.

    Before anything else that is ready there, as that is its parent's to do.
    """
    turn = _turn.get()
    if turn is None:
        return
    loop: Any = turn._loop
    handle = asyncio.Handle(end_child, (), loop)
    ready = getattr(loop, "_ready", None)
    first: Callable[[asyncio.Handle], None] | None = getattr(ready, "appendleft", None)
    if first is not None:
        first(handle)
    else:  # a loop of another kind
        loop.call_soon(end_child)


os.register_at_fork(after_in_child=_forked)
