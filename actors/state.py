"""An agent's state for people who look at it from outside."""

from collections.abc import Callable
from typing import Any

from ..persistence.protocol import AgentImage
from .agent.behaviour import Behaviour
from .agent.kind import Kind
from .errors import UnknownKind


def decode(image: AgentImage, find_kind: Callable[[str], Kind | None]) -> Any:
    """The state as the agent's next turn would get it. Raises `UnknownKind`, `SnapshotUnreadable`."""
    row = image.row
    kind = find_kind(row.kind)
    if kind is None:
        raise UnknownKind(row.kind, row.path)
    return Behaviour(kind, row.path, row.config, image.snapshot).state()
