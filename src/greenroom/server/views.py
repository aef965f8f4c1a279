"""The bodies of requests and answers: one struct each, from which the OpenAPI document is made."""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from .. import AgentInfo, Outcome, RunInfo, Stats
from ..types import AgentStatus, Durability, OutcomeStatus, RunStatus, Timestamp
from .json_view import shown

Level: TypeAlias = Annotated[
    Durability | None,
    Meta(description="What the answer says to have survived: default, the server's own level"),
]
Path: TypeAlias = Annotated[str, Meta(description="/tree/name/…", examples=["/library/a"])]
RunId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]
Described: TypeAlias = Annotated[
    tuple[str, ...],
    Meta(description="JSON pointers to what JSON cannot show: there stand descriptions (type, text)"),
]


# Requests


class SpawnRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Make an agent; with `input`, give it its first run."""

    kind: str
    path: Path
    config: Any = None
    input: Any | UnsetType = UNSET
    durability: Level = None


class RunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A run: what the agent is to work on."""

    input: Any
    durability: Level = None


class MessageRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A message, read at the agent's next turn."""

    body: Any
    durability: Level = None


class Interruption(Struct, frozen=True, forbid_unknown_fields=True):
    """Which runs are to end: one, or all accepted so far; with `cascade` the descendants' as well."""

    run_id: RunId | None = None
    cascade: bool = False


class Grant(Struct, frozen=True, forbid_unknown_fields=True):
    """Which tree a token is to open."""

    tree: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]


# Answers


class SpawnedView(Struct, frozen=True):
    """The agent is recorded, and its first run if it was given one; its session opens by itself."""

    path: str
    run_id: str | None


class Accepted(Struct, frozen=True):
    """The run is recorded, and is executed in its turn. One with this id may have been there before."""

    run_id: str
    path: str


class Recorded(Struct, frozen=True):
    """It is recorded."""

    path: str


class InterruptedView(Struct, frozen=True):
    """Whether there was a run to interrupt."""

    path: str
    interrupted: bool


class Evicted(Struct, frozen=True):
    """Whether the agent left memory; null if its session still takes its time to close."""

    path: str
    evicted: bool | None


class Granted(Struct, frozen=True):
    """A token for one tree. It is stored nowhere; the same tree gets the same."""

    tree: str
    token: str


class LastRunView(Struct, frozen=True):
    """How an agent's last run ended; GET the run for its result."""

    run_id: str
    status: OutcomeStatus
    error: str | None
    ended_at: Timestamp


class AgentListItem(Struct, frozen=True, kw_only=True):
    """An agent in a list."""

    path: str
    kind: str
    version: int
    status: AgentStatus
    resident: bool
    queued_runs: int
    inbox: int
    created_at: Timestamp
    updated_at: Timestamp
    error: str | None
    last_run: LastRunView | None

    @classmethod
    def of(cls, info: AgentInfo) -> "AgentListItem":
        """From what the runtime tells."""
        last = info.last_outcome
        return cls(
            path=info.path,
            kind=info.kind,
            version=info.version,
            status=info.status,
            resident=info.resident,
            queued_runs=info.queued_runs,
            inbox=info.inbox,
            created_at=info.created_at,
            updated_at=info.updated_at,
            error=info.error,
            last_run=None
            if last is None
            else LastRunView(last.run_id, last.status, last.error, last.ended_at),
        )


class AgentListPage(Struct, frozen=True):
    """Agents by path. `next`: what to give as `after` for more. `last_event`: what they are as of."""

    agents: list[AgentListItem]
    next: str | None
    last_event: int


class OutcomeView(Struct, frozen=True, kw_only=True):
    """How a run ended."""

    status: OutcomeStatus
    result: Any
    error: str | None
    error_type: str | None
    run_id: str
    path: str
    started_at: Timestamp | None
    ended_at: Timestamp
    attempt: int


class AgentView(Struct, frozen=True, kw_only=True):
    """An agent."""

    path: str
    kind: str
    version: int
    config: Any
    status: AgentStatus
    resident: bool
    incarnation: int
    last_outcome: OutcomeView | None
    queued_runs: int
    inbox: int
    created_at: Timestamp
    updated_at: Timestamp
    error: str | None
    described: Described

    @classmethod
    async def of(cls, info: AgentInfo) -> "AgentView":
        """From what the runtime tells."""
        config = await shown(info.config, "/config")
        last, described = None, config.described
        if info.last_outcome is not None:
            last, there = await _outcome(info.last_outcome)
            described += there
        return cls(
            path=info.path,
            kind=info.kind,
            version=info.version,
            config=config.json,
            status=info.status,
            resident=info.resident,
            incarnation=info.incarnation,
            last_outcome=last,
            queued_runs=info.queued_runs,
            inbox=info.inbox,
            created_at=info.created_at,
            updated_at=info.updated_at,
            error=info.error,
            described=described,
        )


async def _outcome(outcome: Outcome) -> tuple[OutcomeView, tuple[str, ...]]:
    result = await shown(outcome.result, "/last_outcome/result")
    view = OutcomeView(
        status=outcome.status,
        result=result.json,
        error=outcome.error,
        error_type=outcome.error_type,
        run_id=outcome.run_id,
        path=outcome.path,
        started_at=outcome.started_at,
        ended_at=outcome.ended_at,
        attempt=outcome.attempt,
    )
    return view, result.described


class StateView(Struct, frozen=True):
    """An agent's state as of its last commit."""

    path: str
    state: Any
    described: Described


class RunView(Struct, frozen=True, kw_only=True):
    """A run. `result` is null until it has completed; `awaits` are runs that it starts after.

    `attempt` counts how often its code began, `crashes` the crashes that are held against it.
    """

    run_id: str
    path: str
    status: RunStatus
    input: Any
    awaits: tuple[str, ...]
    attempt: int
    crashes: int
    accepted_at: Timestamp
    started_at: Timestamp | None
    ended_at: Timestamp | None
    result: Any
    error: str | None
    error_type: str | None
    described: Described

    @classmethod
    async def of(cls, run: RunInfo) -> "RunView":
        """From what the runtime tells."""
        ended = run.outcome
        given = await shown(run.input, "/input")
        result = await shown(ended.result if ended else None, "/result")
        return cls(
            run_id=run.run_id,
            path=run.path,
            status=run.status,  # type: ignore[arg-type]
            input=given.json,
            awaits=run.awaits,
            attempt=run.attempt,
            crashes=run.crashes,
            accepted_at=run.accepted_at,
            started_at=run.started_at,
            ended_at=ended.ended_at if ended else None,
            result=result.json,
            error=ended.error if ended else None,
            error_type=ended.error_type if ended else None,
            described=given.described + result.described,
        )


class ServerView(Struct, frozen=True, kw_only=True):
    """The server itself. `events` counts those told since it started, by type."""

    version: str
    started_at: Timestamp
    now: Timestamp
    streams: int
    last_event: int
    events: dict[str, int]
    kinds: tuple[str, ...]


class StatsView(Stats, frozen=True, kw_only=True):
    """The runtime in numbers, and the server."""

    server: ServerView


class SentEvent(Struct, frozen=True):
    """A server-sent event. An event that is in no store has no `id` of its own."""

    event: str
    data: Annotated[str, Meta(description="JSON: seq, at, type, path, run_id, data")]
    id: Annotated[str, Meta(description="The event's number: what to send as Last-Event-ID")] = ""


class HealthView(Struct, frozen=True):
    """`ok`, or why not."""

    status: Literal["ok", "closing", "store-failing"]
