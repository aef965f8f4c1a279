"""One process of this opening, and what its table asks for beside messages."""

from typing import Literal, TypeAlias

from msgspec import Struct

from ...persistence.processes import ProcessRow
from ...types import Address, AgentId, Seconds, Timestamp
from ..effects import Effect
from .protocol import (
    Deed,
    StartProcess,
)

START_TIMEOUT_SECONDS: Seconds = 60.0
"""The longest time between two tries of what fails: ending a process, removing a record."""

Stage: TypeAlias = Literal["queued", "forking", "recording", "opening", "running", "ending", "dropping"]


class Say(Struct, frozen=True):
    """To the log."""

    text: str
    grave: bool = False


class EndDeadline(Struct, frozen=True):
    """A process that was told to end had its time."""

    number: int
    tries: int


class LookAgain(Struct, frozen=True):
    """At what could not be ended."""


Effects: TypeAlias = list["Effect | Deed | Say"]


class ProcessEntry:
    """One process of this opening."""

    def __init__(self, number: int, ask: StartProcess, since: Timestamp) -> None:
        self.number, self.ask, self.since = number, ask, since
        self.stage: Stage = "queued"
        self.row: ProcessRow | None = None  # once it is forked
        self.told = False  # that it was started, or refused
        self.over = False  # its leader has ended, and that was told
        self.tries = 0  # signals that it was sent to end it
        self.problem = ""
        self.enders: list[Address] = []

    @property
    def agent_id(self) -> AgentId:
        return self.ask.request[0]
