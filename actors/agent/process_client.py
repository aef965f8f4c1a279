"""How a kind's code has programs started: the way from a session's object to the room of processes.

An object that is being opened finds its session by `link()`, and keeps it. News of the processes' actor
come to the session's actor, and from there to the link. Sessions that start no process have none.
"""

import asyncio
from contextvars import ContextVar
from typing import Any
from weakref import ref

from ...errors import GreenroomError, ProcessFailed
from ..processes.protocol import (
    EndProcess,
    EndSession,
    Key,
    PermitWanted,
    ProcessExited,
    ProcessGone,
    ProcessNews,
    ProcessRefused,
    ProcessStarted,
    ProgramToStart,
    SetProcessIdle,
    StartProcess,
)

_here: ContextVar[Any] = ContextVar("greenroom session")


class NoPermit(ProcessFailed):
    """All places for processes of this kind are taken."""


class ProcessHandle:
    """A process of this session, from before it is started until nothing of it is left."""

    def __init__(self, link: "ProcessClient", key: Key) -> None:
        self._link, self._key = link, key
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[int] = loop.create_future()  # its pid, once it is recorded and executed
        self.exited: asyncio.Future[int | None] = loop.create_future()  # its leader's code
        self.gone: asyncio.Future[None] = loop.create_future()  # nothing is left
        self.wanted = asyncio.Event()  # its place is, if it has nothing to do

    def rest(self, *, idle: bool) -> None:
        """Say that it has nothing to do, or has again."""
        self.wanted.clear()
        self._link.say(SetProcessIdle(self._key, idle))

    def end(self) -> None:
        """Have it ended: `gone` tells when it has. Repeating it is harmless."""
        if not self.gone.done():
            self._link.say(EndProcess(self._key, self._link.address))

    def heard(self, news: ProcessNews) -> bool:
        """Whether more may follow."""
        match news:
            case ProcessStarted():
                _set(self.ready, news.pid)
            case ProcessRefused():
                error = NoPermit(*news.error.args) if news.full else news.error
                if not self.ready.done():
                    self.ready.set_exception(error)
                    self.ready.exception()  # seen, should nobody wait any more
                _set(self.exited, None)
                _set(self.gone, None)
                return False
            case PermitWanted():
                self.wanted.set()
            case ProcessExited():
                _set(self.exited, news.code)
            case ProcessGone():
                _set(self.exited, None)
                _set(self.gone, None)
                if not self.ready.done():
                    self.ready.cancel()
                return False
        return True


class ProcessClient:
    """One session's way to the room of processes."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._made = 0
        self._started: dict[Key, ProcessHandle] = {}

    @property
    def address(self) -> Any:
        """Where news of its processes go."""
        return self._session.address

    def say(self, message: object) -> None:
        self._session.tell("supervisor", message)

    def start(
        self,
        program: ProgramToStart,
        streams: tuple[int, int, int],
        *,
        path: str,
        kind: str,
        places: int | None,
        wait: bool,
    ) -> ProcessHandle:
        """Ask for a program to be started; `streams` are the room's from here on."""
        self._made += 1
        key = (self._session.agent_id, self._session.incarnation, self._made)
        started = self._started[key] = ProcessHandle(self, key)
        self.say(StartProcess(key, self.address, path, kind, program, streams, places, wait))
        return started

    def heard(self, news: ProcessNews) -> None:
        """News of one of its processes."""
        started = self._started.get(news.request)
        if started is not None and not started.heard(news):
            del self._started[news.request]

    def cut(self) -> None:
        """The session's actor goes: what it has left ends."""
        self.say(EndSession(self._session.agent_id, self._session.incarnation))
        for started in self._started.values():
            started.heard(ProcessGone(started._key))
        self._started.clear()


def offer(session: Any) -> None:
    """Let the code that is called from here on find the session, for as long as that lives.

    By a weak reference: a timer that was called off keeps its context until it would have rung.
    """
    _here.set(ref(session))


def link() -> ProcessClient:
    """The way from the session in whose `open` this is called."""
    offered = _here.get(None)
    session = offered() if offered is not None else None
    if session is None:
        raise GreenroomError("a program can be started for an agent only, by its kind")
    if hasattr(asyncio.get_running_loop(), "start_thread"):
        raise GreenroomError("a simulation starts no programs: give the agent another kind there")
    if session.link is None:
        session.link = ProcessClient(session)
    found: ProcessClient = session.link
    return found


def _set(future: "asyncio.Future[Any]", value: Any) -> None:
    if not future.done():
        future.set_result(value)
