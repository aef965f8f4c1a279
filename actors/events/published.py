"""Stored events, on their way to the event bus."""

from msgspec import Struct

from ...persistence.rows import EventRow


class Publish(Struct, frozen=True, gc=False):
    """To the event bus: these happened, in this order."""

    events: tuple[EventRow, ...]
