"""Agents, runs and events as people see them: the plain values that the public calls return."""

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from ..borders import error_text
from ..persistence.codec import loads
from ..persistence.rows import EventRow, MessageRow, RunRow
from ..types import AgentStatus, OutcomeStatus, Payload, Timestamp
from .ledger.descriptions import LiveAgent


class UnreadableValue(Struct, frozen=True):
    """Stands for a stored value that no value can be made of here; `problem` says why."""

    problem: str


def read(payload: Payload) -> Any:
    """A stored value, or what stands for it if it cannot be read: one bad value blinds nobody."""
    try:
        return loads(payload)
    except Exception as error:  # `loads` has said what it is
        return UnreadableValue(error_text(error))


ITEM = 64
"""Bytes that the making of one thing counts for, beside the values in it."""


def weight_of_run(run: RunRow | None) -> int:
    """How many bytes of values there are in a run, for who is not to wait while they are read."""
    return 0 if run is None else ITEM + len(run.input) + (len(run.result) if run.result else 0)


def weight_of_agent(agent: LiveAgent) -> int:
    """The same for an agent."""
    return ITEM + len(agent.row.config) + weight_of_run(agent.row.last)


def weight_of_messages(messages: Iterable[MessageRow]) -> int:
    """The same for messages."""
    return sum(ITEM + len(message.body) for message in messages)


class Outcome(Struct, frozen=True):
    """How a run ended. Times are seconds since the epoch; `started_at` is None if no turn began.

    `attempt` counts how often its code began. `error_type` is the class of the exception that the code of a
    failed run raised. It is `"TimeoutError"` if its turn took too long, `"CutOff"` or `"Crashed"` if it may
    not begin again after a crash.
    """

    status: OutcomeStatus
    result: Any
    error: str | None
    run_id: str
    path: str
    started_at: Timestamp | None
    ended_at: Timestamp
    attempt: int
    error_type: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it completed."""
        return self.status == "completed"

    @classmethod
    def of(cls, run: RunRow) -> "Outcome":
        """The outcome of a run that has ended."""
        return cls(
            status=run.status,  # type: ignore[arg-type]
            result=None if run.result is None else read(run.result),
            error=run.error,
            run_id=run.run_id,
            path=run.path,
            started_at=run.started_at,
            ended_at=run.ended_at or run.accepted_at,
            attempt=run.attempt,
            error_type=run.error_type,
        )


class RunInfo(Struct, frozen=True):
    """A run as it is now. Times are seconds since the epoch; `outcome` is None until it has ended.

    `attempt` counts how often its code began; `crashes` those crashes that are held against it, which its
    kind's `attempts` bounds.
    """

    run_id: str
    path: str
    status: str
    attempt: int
    accepted_at: Timestamp
    started_at: Timestamp | None
    outcome: Outcome | None
    input: Any
    awaits: tuple[str, ...]  # a continuation starts when all of these have ended
    crashes: int = 0

    @classmethod
    def of(cls, run: RunRow) -> "RunInfo":
        """The ledger's row as people see it."""
        ended = run.status in get_args(OutcomeStatus)
        return cls(
            run_id=run.run_id,
            path=run.path,
            status=run.status,
            attempt=run.attempt,
            accepted_at=run.accepted_at,
            started_at=run.started_at,
            outcome=Outcome.of(run) if ended else None,
            input=read(run.input),
            awaits=run.awaits,
            crashes=run.crashes,
        )


class AgentInfo(Struct, frozen=True):
    """An agent as it is now. `queued_runs` have not begun; `inbox` counts unread messages."""

    path: str
    kind: str
    version: int
    config: Any
    status: AgentStatus
    resident: bool
    incarnation: int
    last_outcome: Outcome | None
    queued_runs: int
    inbox: int
    created_at: Timestamp
    updated_at: Timestamp
    error: str | None

    @classmethod
    def of(cls, agent: LiveAgent) -> "AgentInfo":
        """The ledger's row as people see it."""
        row = agent.row
        return cls(
            path=row.path,
            kind=row.kind,
            version=row.version,
            config=read(row.config),
            status=agent.status,  # type: ignore[arg-type]
            resident=agent.resident,
            incarnation=agent.incarnation,
            last_outcome=Outcome.of(row.last) if row.last else None,
            queued_runs=agent.queued,
            inbox=len(row.unread),
            created_at=row.created_at,
            updated_at=row.updated_at,
            error=row.error,
        )


AgentInfos: TypeAlias = list[AgentInfo]
Outcomes: TypeAlias = list[Outcome]


_event_data = msgspec.json.Decoder(dict[str, Any]).decode


def _names_a_run(run_id: object) -> bool:
    return run_id is None or isinstance(run_id, str)


class Event(Struct, frozen=True):
    """A numbered fact about an agent or a run. `seq` grows; numbers may be missing.

    `store.failing` is none, as it cannot be stored: it repeats the number of the event before it.
    """

    seq: int
    at: Timestamp
    type: str
    path: str
    run_id: str | None
    data: dict[str, Any]

    @classmethod
    def of(cls, row: EventRow) -> "Event":
        """A stored event, for people. If it is damaged, `unreadable` in its data says how."""
        try:
            data = _event_data(row.data)
            if isinstance(row.at, float | int) and isinstance(row.type, str) and _names_a_run(row.run_id):
                return cls(row.seq, row.at, row.type, row.path, row.run_id, data)
            problem = "its time, type or run is no such thing"
        except (msgspec.MsgspecError, TypeError, UnicodeError, RecursionError) as error:
            data, problem = {}, f"its data cannot be read ({error})"
        data["unreadable"] = f"event {row.seq} is damaged: {problem}. See `greenroom doctor`."
        at = row.at if isinstance(row.at, float | int) else 0.0
        kind = row.type if isinstance(row.type, str) else "event.damaged"
        return cls(row.seq, at, kind, row.path, row.run_id if isinstance(row.run_id, str) else None, data)


class Message(Struct, frozen=True):
    """One message of an inbox; `sender` is the path of the agent that sent it, None from outside.

    `id` is the same in every turn that is given the message, and no other message of the store has it.
    """

    id: str
    body: Any
    sender: str | None
    at: Timestamp

    @classmethod
    def of(cls, row: MessageRow) -> "Message":
        """The ledger's row as people see it."""
        return cls(f"message-{row.serial}", read(row.body), row.sender, row.at)


class Stats(Struct, frozen=True):
    """The runtime in numbers; `latencies` in seconds, as (p50, p99)."""

    agents: int  # open ones, in memory or not
    resident: int  # in memory, and not waiting inside a turn
    running: int  # runs whose turn is under way, waiting or not
    queued: int  # runs accepted and not begun
    slots: int  # the limit
    residents: int  # the limit
    slots_taken: int
    evictions: int
    reloads: int
    commits: int
    unwritten: int  # commits not on disk yet
    events_dropped: int  # `run.progress` alone, when there was more than a turn may have waiting
    latencies: dict[str, tuple[float, float]]
    store_problem: str | None = None  # why nothing can be written now; it is tried again
    holders: tuple[str, ...] = ()  # paths of agents whose turns hold a slot, longest first, at most 100
    waiting: int = 0  # in memory, and waiting inside a turn: counted apart from `resident`
    given_way: int = 0  # always: the limit of residents has given way for waiting turns, and does no more


WaitsFor: TypeAlias = Literal["slot", "room", "session", "run", "process", "commit", "kind"]


class Explanation(Struct, frozen=True):
    """Why an agent does what it does, or does not.

    `waits_for` is None or one of these:

    - "slot", "room" (a place in memory), "process" (a permit for its program),
    - "session" (its own to open), "run" (others to end),
    - "commit" (the disk), "kind" (its code is not registered here).
    """

    path: str
    status: AgentStatus
    waits_for: WaitsFor | None
    since: Timestamp | None
    place: int | None  # how many come before it
    held_by: tuple[str, ...]  # paths of the agents that hold what it needs, or whose runs it waits for
    text: str

    def __str__(self) -> str:
        return self.text
