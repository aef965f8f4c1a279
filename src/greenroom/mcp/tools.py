"""The tools as a client sees them: names, descriptions, arguments, results.

Plain values, without the SDK. The schemas are made from the structs, so what is described is what is
checked and what is answered. The words are those that models know from other tools for sub-agents.
"""

from collections.abc import Iterable
from inspect import cleandoc
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ..actors.agent.kind import Kind

MOST_SECONDS = 600.0
"""The longest that one call of `wait_agent` may take."""

DEFAULT_SECONDS = 30.0
"""Below what clients themselves wait for an answer; most give up after 60."""

MOST_LISTED = 1000

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}(/[a-z0-9][a-z0-9_-]{0,63}){0,14}$"

Path = Annotated[str, Meta(pattern=NAME)]
Name = Annotated[
    Path,
    Meta(
        description="Name of the agent, as spawn_agent and list_agents give it. A name with slashes is an "
        "agent below another one.",
    ),
]
Status = Literal["starting", "idle", "queued", "running", "waiting", "interrupting", "failed", "closed"]
Value = Annotated[Any, Meta(description="Any JSON value; most agents expect a string.")]


class Arguments(Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of a tool."""


class SpawnAgentArguments(Arguments, frozen=True):
    kind: Annotated[str, Meta(description="Which kind of agent to spawn.")]
    name: Annotated[
        Path,
        Meta(
            description="Name for the new agent: lower-case letters, digits, _ and -. It has to be free.",
        ),
    ]
    input: Annotated[
        Any | UnsetType,
        Meta(description="The agent's first task: any JSON value, most agents expect a string."),
    ] = UNSET
    config: Annotated[Any, Meta(description="Settings that the agent keeps for all its life.")] = None


class SendMessageArguments(Arguments, frozen=True):
    agent: Name
    message: Value


class FollowupTaskArguments(Arguments, frozen=True):
    agent: Name
    input: Value
    run_id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=100)] | None,
        Meta(
            description="An id of your own for this task: the same id given twice is the same task, not a "
            "second one."
        ),
    ] = None


class WaitAgentArguments(Arguments, frozen=True):
    agents: Annotated[
        Annotated[list[Name], Meta(min_length=1)] | None,
        Meta(description="Whom to wait for. Omit to wait for all."),
    ] = None
    until: Annotated[
        Literal["all", "any"],
        Meta(description="Whether to wait until all of them have no work left, or any one of them."),
    ] = "all"
    timeout_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=MOST_SECONDS,
            description="How long to wait at most; 0 looks without waiting. Reaching it ends the wait, "
            "never the work.",
        ),
    ] = DEFAULT_SECONDS


class InterruptAgentArguments(Arguments, frozen=True):
    agent: Name
    cascade: Annotated[
        bool, Meta(description="Whether the work of the agents below it is ended as well.")
    ] = False


class ListAgentsArguments(Arguments, frozen=True):
    under: Annotated[Path | None, Meta(description="Only this agent and those below it.")] = None
    status: Annotated[
        Status | None,
        Meta(description="Only those with this status. ClosedResult agents are listed on request only."),
    ] = None
    after: Annotated[Path | None, Meta(description="What `next` said, for the next page.")] = None
    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED, description="How many at most.")] = 100


class CloseAgentArguments(Arguments, frozen=True):
    agent: Name


# Results


class SpawnedResult(Struct, frozen=True):
    agent: Annotated[str, Meta(description="The name that all other tools take.")]
    kind: str
    status: Status
    run_id: Annotated[str | None, Meta(description="Id of the first task; null without input.")]


class SentResult(Struct, frozen=True):
    agent: str
    accepted: bool


class StartedResult(Struct, frozen=True):
    agent: str
    run_id: Annotated[str, Meta(description="Id of the task.")]


class LastRunResult(Struct, frozen=True):
    """How an agent's latest finished task ended."""

    run_id: str
    status: Literal["completed", "failed", "interrupted"]
    result: Annotated[Any, Meta(description="What the agent returned.")]
    described: Annotated[
        tuple[str, ...],
        Meta(description="JSON pointers to what JSON cannot hold: there stand descriptions (type, text)."),
    ]
    error: Annotated[str | None, Meta(description="Why it failed or was interrupted.")]
    error_type: Annotated[
        str | None, Meta(description="Of a failed task: the class of the error that its code raised.")
    ]


class AgentReport(Struct, frozen=True):
    """An agent and how its latest task ended."""

    agent: str
    status: Status
    queued_runs: Annotated[int, Meta(description="Tasks that have not begun.")]
    inbox: Annotated[int, Meta(description="Messages that it has not read.")]
    error: Annotated[str | None, Meta(description="Why it could not be started, if its status is failed.")]
    last_run: LastRunResult | None


class WaitedResult(Struct, frozen=True):
    timed_out: Annotated[bool, Meta(description="Whether the time was over first; the work goes on.")]
    agents: list[AgentReport]


class InterruptedResult(Struct, frozen=True):
    agent: str
    interrupted: Annotated[bool, Meta(description="Whether there was any work to end.")]


class ListedAgent(Struct, frozen=True):
    agent: str
    kind: str
    status: Status
    queued_runs: int
    inbox: int
    last_run: Annotated[
        Literal["completed", "failed", "interrupted"] | None,
        Meta(description="How its latest finished task ended."),
    ]


class ListedPage(Struct, frozen=True):
    agents: list[ListedAgent]
    next: Annotated[str | None, Meta(description="Give it as `after` for more; null if this is all.")]


class ClosedResult(Struct, frozen=True):
    agent: str
    previous_status: Status


class Tool(Struct, frozen=True):
    """A tool. `reads` and `destroys` are the hints that clients show to people."""

    name: str
    title: str
    description: str
    takes: type[Arguments]
    gives: type[Struct]
    reads: bool = False
    destroys: bool = False

    def input_schema(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        return _schema(self.takes)

    def output_schema(self) -> dict[str, Any]:
        """JSON schema of the structured result."""
        return _schema(self.gives)


TOOLS = (
    Tool(
        "spawn_agent",
        "Spawn an agent",
        "Spawn a sub-agent, and with `input` give it its first task. Returns at once with the agent's "
        "name; the work goes on in the background. Use wait_agent for the result. An agent keeps its "
        "state from task to task until it is closed: spawn one for each independent task, and use "
        "followup_task where the context of an earlier task matters.",
        SpawnAgentArguments,
        SpawnedResult,
    ),
    Tool(
        "send_message",
        "Send a message",
        "Put a message in an existing agent's inbox, for it to read at its next task. Does not start a "
        "task; use followup_task for that.",
        SendMessageArguments,
        SentResult,
    ),
    Tool(
        "followup_task",
        "Give a follow-up task",
        "Give an existing agent another task. If it is busy, the task waits in the agent's queue; tasks "
        "of one agent are done in order. Returns at once with the task's run id. Use wait_agent for the "
        "result.",
        FollowupTaskArguments,
        StartedResult,
    ),
    Tool(
        "wait_agent",
        "Wait for agents",
        "Wait until agents have no work left, and get how their latest tasks ended, with results. Returns "
        "at once for agents that are at rest already. On a timeout `timed_out` is true and the work goes "
        "on: call it again. While it waits, progress notifications tell what happens.",
        WaitAgentArguments,
        WaitedResult,
        reads=True,
    ),
    Tool(
        "interrupt_agent",
        "Interrupt an agent",
        "End the work that an agent has now, begun or queued, and keep the agent: it is available for "
        "follow-up tasks, with its state as of its last finished task. Does nothing if it has no work.",
        InterruptAgentArguments,
        InterruptedResult,
        destroys=True,
    ),
    Tool(
        "list_agents",
        "List agents",
        "List the agents that you can reach, with their status and how their latest task ended. Agents "
        "that your agents spawned are among them, below the one that spawned them.",
        ListAgentsArguments,
        ListedPage,
        reads=True,
    ),
    Tool(
        "close_agent",
        "Close an agent",
        "Close an agent and all agents below it when they are no longer needed. Their work is interrupted, "
        "their state is given up, and their names are free again. Returns the agent's status before.",
        CloseAgentArguments,
        ClosedResult,
        destroys=True,
    ),
)

BY_NAME = {tool.name: tool for tool in TOOLS}


def spawn_schema(kinds: Iterable[Kind]) -> dict[str, Any]:
    """The input schema of `spawn_agent`, in which `kind` is one of those that there are."""
    schema = BY_NAME["spawn_agent"].input_schema()
    kind = schema["properties"]["kind"]
    listed = list(kinds)
    kind["enum"] = [each.name for each in listed]
    lines = [f"- {each.name}: {summary(each)}" for each in listed]
    kind["description"] = "Which kind of agent to spawn:\n" + "\n".join(lines)
    return schema


def summary(kind: Kind) -> str:
    """The first paragraph of what the kind's author wrote about it, on a line."""
    text = cleandoc(kind.behaviour.__doc__ or "").split("\n\n")[0]
    return " ".join(text.split()) or "(not described)"


def _schema(struct: type[Struct]) -> dict[str, Any]:
    """The schema of a struct as an object at the root, as MCP wants it."""
    (_,), parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    root: dict[str, Any] = parts.pop(struct.__name__)
    root.pop("title", None)
    root.pop("description", None)
    if parts:
        root["$defs"] = parts
    return root
