"""Agents as people read them: a tree, or a table. Pure functions of what was answered."""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from .answers import AgentSummary
from .text import printable

STATUS_COLOURS = {
    "running": "green",
    "starting": "cyan",
    "queued": "yellow",
    "waiting": "blue",
    "interrupting": "yellow",
    "failed": "red",
    "closed": "bright_black",
}


class TreeBranch(Struct, frozen=True):
    """A line of the tree: what leads to it, its name, and the agent, if there is one at this place."""

    lead: str
    name: str
    agent: AgentSummary | None


class _Node(Struct):
    agent: AgentSummary | None = None
    below: dict[str, "_Node"] = {}


def branches(agents: Iterable[AgentSummary]) -> Iterator[TreeBranch]:
    """The tree that the agents' paths make; those above them need not be agents."""
    root = _Node()
    for agent in agents:
        node = root
        for segment in agent.path[1:].split("/"):
            node = node.below.setdefault(segment, _Node())
        node.agent = agent
    for name, node in sorted(root.below.items()):
        yield TreeBranch("", f"/{name}", node.agent)
        yield from _below(node, "")


def _below(node: _Node, lead: str) -> Iterator[TreeBranch]:
    last = len(node.below) - 1
    for number, (name, child) in enumerate(sorted(node.below.items())):
        yield TreeBranch(lead + ("└── " if number == last else "├── "), name, child.agent)
        yield from _below(child, lead + ("    " if number == last else "│   "))


def facts(agent: AgentSummary, now: float) -> tuple[str, str, str]:
    """Kind, status and whatever else is worth a word."""
    more = []
    if agent.queued_runs:
        more.append(f"{agent.queued_runs:,} waiting")
    if agent.inbox:
        more.append(f"{agent.inbox:,} unread")
    if agent.error:
        more.append(agent.error)
    if agent.last_run is not None:
        more.append(f"{agent.last_run.status} {ago(now - agent.last_run.ended_at)}")
    return printable(agent.kind), printable(agent.status), printable(", ".join(more))


def ago(seconds: float) -> str:
    """How long ago, in one unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"
