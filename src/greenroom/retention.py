"""The user's choice of what is kept, and for how long."""

from msgspec import Struct
from msgspec.structs import force_setattr

from .borders import shown
from .seconds import checked_seconds
from .types import Seconds

DAY: Seconds = 86_400.0


class Retention(Struct, frozen=True, kw_only=True):
    """How long finished runs, events and closed agents are kept: by age and by number.

    Ages are seconds, numbers count; with None there is no such limit, and with both None they are kept for
    ever. A record that exceeds either limit is deleted, but none is deleted for its number alone before it
    is `least_age` old. The last outcome of an agent stays as long as the agent. Raises `ValueError`.

    Args:
        run_age, runs: of a finished run, from when the agent's next one has ended; how many such runs.
        event_age, events: of an event.
        closed_age, closed: of a closed agent, with its state and its runs, from its closing.
        least_age: what anybody may still be asking about.
    """

    run_age: float | None = 30 * DAY
    runs: int | None = 100_000
    event_age: float | None = 30 * DAY
    events: int | None = 500_000
    closed_age: float | None = 30 * DAY
    closed: int | None = 10_000
    least_age: float = 300.0

    def __post_init__(self) -> None:
        for name in ("run_age", "event_age", "closed_age"):
            if getattr(self, name) is not None:
                self._bound(name, or_none=True)
        for name in ("runs", "events", "closed"):
            count = getattr(self, name)
            if count is not None and (type(count) is not int or count < 0):
                raise ValueError(f"{name}= is an int from 0 on or None, not {shown(count)}")
        self._bound("least_age")

    def _bound(self, name: str, *, or_none: bool = False) -> None:
        """Check an age, and cut one that is as good as for ever."""
        age = getattr(self, name)
        seconds = checked_seconds(name, age, or_none=or_none)
        if seconds < age:
            force_setattr(self, name, seconds)


DEFAULT = Retention()
