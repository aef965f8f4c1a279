"""The questions and orders of the commands, and the ways to have them answered.

A store file is read without a trace (`storefile`) and changed by a runtime that owns it for the moment
(`owning`); a running server does both (`remote`). A command knows only this protocol.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import click

from ..actors.models import Event
from .answers import AgentAnswer, AgentsAnswer, RunAnswer, StateAnswer


class Unavailable(click.ClickException):
    """The store or the server does not answer, or not as it should."""


class ReadClient(Protocol):
    """Looks, and changes nothing. Raises `GreenroomError`, `Unavailable`."""

    def agents(self, under: str, *, status: str | None, after: str | None, limit: int) -> AgentsAnswer:
        """Agents at or below `under` by path, after `after`; open ones, or those with `status`."""

    def agent(self, path: str) -> AgentAnswer:
        """The agent, open or closed."""

    def state(self, path: str) -> StateAnswer:
        """Its state as of the last commit."""

    def run(self, run_id: str) -> RunAnswer:
        """The run."""

    def stats(self) -> dict[str, Any]:
        """Numbers; at least agents, running, queued."""

    def last_event(self) -> int:
        """The number of the newest event; 0 if there is none."""

    def events(self, under: str, *, types: Sequence[str], since: int, follow: bool) -> Iterator[Event]:
        """Events after number `since`; to the newest, or with `follow` for ever."""


class WriteClient(Protocol):
    """Gives orders. Raises `GreenroomError`, `Unavailable`."""

    def send(self, path: str, body: object) -> None:
        """Put a message into the agent's inbox."""

    def followup(self, path: str, given: object, *, run_id: str | None) -> str:
        """Give the agent a run; its id."""

    def wait(self, run_id: str, seconds: float) -> RunAnswer:
        """The run, once it has ended or after so long."""

    def interrupt(self, path: str, *, run_id: str | None, cascade: bool) -> bool:
        """End runs; whether there was one."""

    def close_agent(self, path: str, *, delete: bool) -> None:
        """Close the agent and its descendants."""
