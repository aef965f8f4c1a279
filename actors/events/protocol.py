"""The event bus's manual: everybody reads the same numbered facts, each at their own pace.

Readers *pull*: a reader says up to where it has read and gets what is newer, now or when it happens. So
a slow reader costs nothing and loses nothing; it merely reads from the store what left memory long ago.
Events that retention has removed by then cannot be told: it gets an event `events.missed` in its place.
"""

from typing import TypeAlias

from msgspec import Struct

from ...persistence.rows import EventRow
from ...types import Address, RequestId, Timestamp

MISSED = "events.missed"
"""The type of an event that stands for others.

For one reader, in no store: `{"since": n, "upto": m}`, the events after number n and up to m were removed
by retention before it read them. Its own number is m. With `"upto": null` the store has no event n: it is
another store, or it lost its end; the number is that of the last event that there is.

Of a run, stored: `{"dropped": n}`, so many `run.progress` events of it were not recorded.
"""


class Publish(Struct, frozen=True, gc=False):
    """To the event bus: these happened, in this order."""

    events: tuple[EventRow, ...]


class ConfigureEvents(Struct, frozen=True):
    """Sent once, before anything else. `last` is the number of the last event in the store."""

    last: int
    keep: int = 4_096  # how many events stay in memory


Cursor: TypeAlias = tuple[int, int]
"""How far somebody has read: up to the event of this number, and so many announcements after it."""


class Announce(Struct, frozen=True):
    """Tell those who listen at once of what cannot be stored: that nothing can be. Not answered.

    It is no numbered fact: its event repeats the number of the last one before it, and is in no store.
    """

    type: str
    at: Timestamp
    problem: str


class PullEvents(Struct, frozen=True):
    """Answered once, by `EventsPulled`: at once if there are newer events, else when there are.

    `since` is the number of an event, or the `last` of an earlier answer. 0 means all that are kept. None
    means: from now on, and is answered at once with what to go on from.
    """

    request: RequestId
    reply_to: Address
    under: str
    since: int | Cursor | None
    limit: int = 1_000
    wait: bool = True  # False: answer at once, with nothing if there is nothing


class ForgetPull(Struct, frozen=True):
    """Nobody waits for the answer any more. Not answered."""

    request: RequestId


class EventsPulled(Struct, frozen=True):
    """Events in order; ask again with `last` as `since`."""

    request: RequestId
    events: tuple[EventRow, ...]
    last: Cursor


class NextDelivery(Struct, frozen=True):
    """To itself, by timer: others had their turn, and the next portion of answers can be handed out."""


EventCommand: TypeAlias = ConfigureEvents | Publish | Announce | PullEvents | ForgetPull | NextDelivery
