"""Descriptions of agents, runs and the ledger for people: questions and answers."""

from msgspec import Struct

from ...persistence.rows import AgentImage, AgentRow, RunRow
from ...types import Address, AgentId, Incarnation, RequestId, RunId, Timestamp


class DescribeAgent(Struct, frozen=True):
    """Answered by `AgentDescribed`."""

    request: RequestId
    reply_to: Address
    path: str


class DescribeAgents(Struct, frozen=True):
    """A page of agents at or below `under`, by path. Answered by `AgentsDescribed`."""

    request: RequestId
    reply_to: Address
    under: str
    status: str | None
    after: str | None
    limit: int
    resident: bool = False  # those in memory alone
    after_id: AgentId | None = None  # with it, also those at the path `after` whose id is greater


class DescribeState(Struct, frozen=True):
    """Answered by `StateDescribed`."""

    request: RequestId
    reply_to: Address
    path: str


class DescribeRun(Struct, frozen=True):
    """Answered by `RunDescribed`."""

    request: RequestId
    reply_to: Address
    run_id: RunId


class DescribeLedger(Struct, frozen=True):
    """Answered by `LedgerReport`."""

    request: RequestId
    reply_to: Address


class AwaitedRun(Struct, frozen=True, gc=False):
    """An open run that somebody waits for, and whose it is."""

    run_id: RunId
    path: str


class LiveAgent(Struct, frozen=True, gc=False):
    """An agent as it is now: its row, and what is going on."""

    row: AgentRow
    status: str
    resident: bool
    incarnation: Incarnation
    queued: int
    running: RunId | None = None
    beginning: bool = False  # Its start record is being committed.
    awaits: tuple[AwaitedRun, ...] = ()  # what its turn, or its first continuation, waits for
    behind: AwaitedRun | None = None  # the suspect at work, which its next run, one as well, waits for
    since: Timestamp | None = None  # when the first of its open runs was accepted
    kind_missing: bool = False
    unwritten: bool = False  # something of it is not on disk yet


class AgentDescribed(Struct, frozen=True, gc=False):
    request: RequestId
    agent: LiveAgent


class AgentsDescribed(Struct, frozen=True, gc=False):
    """`next` is what to give as `after` for the following page, with `next_id`; None at the end."""

    request: RequestId
    agents: tuple[LiveAgent, ...]
    next: str | None
    next_id: AgentId | None = None


class StateDescribed(Struct, frozen=True, gc=False):
    request: RequestId
    image: AgentImage


class RunDescribed(Struct, frozen=True, gc=False):
    """`run.status` is `accepted`, `queued`, `running` or the outcome's."""

    request: RequestId
    run: RunRow


class LedgerReport(Struct, frozen=True):
    request: RequestId
    agents: int
    running: int
    queued: int
    commits: int
    unwritten: int
    events_dropped: int
    store_problem: str | None
    latencies: dict[str, tuple[float, float]]  # seconds: p50 and p99 of "commit", "queue", "turn"
