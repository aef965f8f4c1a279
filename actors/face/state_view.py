"""An agent's state for people who look at it from outside."""

from collections.abc import Callable
from typing import Any

from ...errors import UnknownKind
from ...persistence.rows import AgentImage
from ..agent.kind import Kind
from ..agent.states import restored, restored_aside


def decode(image: AgentImage, find_kind: Callable[[str], Kind | None]) -> Any:
    """The state as the agent's next turn would get it. Raises `UnknownKind`, `SnapshotUnreadable`."""
    return restored(_kind(image, find_kind), image.row.path, image.snapshot)


async def decode_aside(image: AgentImage, find_kind: Callable[[str], Kind | None]) -> Any:
    """The same, without holding the loop up."""
    return await restored_aside(_kind(image, find_kind), image.row.path, image.snapshot)


def _kind(image: AgentImage, find_kind: Callable[[str], Kind | None]) -> Kind:
    kind = find_kind(image.row.kind)
    if kind is None:
        raise UnknownKind(image.row.kind, image.row.path)
    return kind
