"""The answers of a store or a server: the same values from both, in the shapes of the HTTP API.

Users' values are JSON: what JSON cannot hold is described in its place, and `described` lists the places.
"""

import json
from typing import Any

import msgspec
from msgspec import Struct

from ..server.json_view import show
from ..types import Timestamp


class LastRunAnswer(Struct, frozen=True):
    """How an agent's last run ended."""

    run_id: str
    status: str
    error: str | None
    ended_at: Timestamp


class AgentSummary(Struct, frozen=True, kw_only=True):
    """An agent in a list. `resident` is None where nobody who could know was asked."""

    path: str
    kind: str
    version: int
    status: str
    resident: bool | None
    queued_runs: int
    inbox: int
    created_at: Timestamp
    updated_at: Timestamp
    error: str | None
    last_run: LastRunAnswer | None


class OutcomeAnswer(Struct, frozen=True, kw_only=True):
    """How a run ended."""

    status: str
    result: Any
    error: str | None
    run_id: str
    path: str
    started_at: Timestamp | None
    ended_at: Timestamp
    attempt: int
    error_type: str | None = None


class AgentAnswer(Struct, frozen=True, kw_only=True):
    """An agent."""

    path: str
    kind: str
    version: int
    config: Any
    status: str
    resident: bool | None
    incarnation: int
    last_outcome: OutcomeAnswer | None
    queued_runs: int
    inbox: int
    created_at: Timestamp
    updated_at: Timestamp
    error: str | None
    described: tuple[str, ...] = ()


class StateAnswer(Struct, frozen=True):
    """An agent's state as of its last commit."""

    path: str
    state: Any
    described: tuple[str, ...] = ()


class RunAnswer(Struct, frozen=True, kw_only=True):
    """A run."""

    run_id: str
    path: str
    status: str
    input: Any
    awaits: tuple[str, ...]
    attempt: int
    accepted_at: Timestamp
    started_at: Timestamp | None
    ended_at: Timestamp | None
    result: Any
    error: str | None
    error_type: str | None = None
    crashes: int = 0
    described: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it has an outcome."""
        return self.status in ("completed", "failed", "interrupted")


class AgentsAnswer(Struct, frozen=True):
    """Agents by path; `next` is what comes after them."""

    agents: list[AgentSummary]
    next: str | None


def in_json(value: object, at: str) -> tuple[Any, tuple[str, ...]]:
    """A user's value as it stands in an answer at `at`, and the places in it that are descriptions."""
    made = show(value, at)
    return msgspec.json.decode(made.json), made.described


def document(answer: object) -> str:
    """An answer as one line of JSON; characters that a terminal could take for a command are escaped."""
    text = msgspec.json.encode(answer).decode()
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
