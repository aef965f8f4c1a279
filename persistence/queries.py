"""Queries: what a reader is asked. Each names the type of its answer's value."""

from typing import TypeAlias

from msgspec import Struct

from ..types import AgentId, RunId
from .rows import EventRow


class FindAgent(Struct, frozen=True, gc=False):
    """The open agent at a path, else the one closed there last. Value: `AgentRow | None`."""

    path: str


class FindAgents(Struct, frozen=True, gc=False):
    """Value: `tuple[AgentRow, ...]`, those that exist, in the order asked."""

    agent_ids: tuple[AgentId, ...]


class LoadAgent(Struct, frozen=True, gc=False):
    """Value: `AgentImage | None`."""

    agent_id: AgentId


class FindRuns(Struct, frozen=True, gc=False):
    """Value: `tuple[RunRow | None, ...]`, one for each id."""

    run_ids: tuple[RunId, ...]


class HasAgents(Struct, frozen=True, gc=False):
    """Whether the store has agents of a tree, open or closed; of commits not on disk yet it may not know.

    Value: `bool`.
    """

    tree: str


class ListAgents(Struct, frozen=True, gc=False):
    """A page of agents at or below `under`, by path (then by id), with paths greater than `after`.

    With `after_id` also those at the path `after` whose id is greater than it. Open ones, or with `closed`
    the closed ones. Value: `tuple[AgentRow, ...]`.
    """

    under: str
    after: str | None
    limit: int
    closed: bool = False
    after_id: AgentId | None = None


class EventPage(Struct, frozen=True, gc=False):
    """Events in order: all that there are, up to some number.

    A full page ends at its last event. One that is not has been looked for up to number `upto`, and with
    None up to the end. Retention has removed all events up to number `pruned`, and none after it.
    """

    events: tuple[EventRow, ...]
    upto: int | None = None
    pruned: int = 0


class ListEvents(Struct, frozen=True, gc=False):
    """Events at or below `under` with numbers greater than `since`. Value: `EventPage`."""

    under: str
    since: int
    limit: int


Query: TypeAlias = FindAgent | FindAgents | LoadAgent | FindRuns | HasAgents | ListAgents | ListEvents
