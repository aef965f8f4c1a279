"""Whether the store can be written, as of the last try, and when the next one is due.

A disk that is full, read-only, failing or locked may be none of it a moment later. So a batch is tried
again, after longer and longer pauses, as long as the runtime lives. From the first failure to the next
success is one *episode*: it is told once, and work that asks to be durable is refused as long as it lasts.
"""

from msgspec import Struct

from ...errors import StoreError
from ...types import Seconds, Timestamp

FIRST_RETRY: Seconds = 0.1
LAST_RETRY: Seconds = 2.0
"""Seconds until a batch is tried again: doubled from the first to the last with every failure."""


class Episode(Struct, frozen=True):
    """A time in which nothing could be written."""

    problem: str  # the last one
    began: Timestamp
    tries: int


class StoreOutage:
    """Told how each try went. `problem` is None while the store can be written."""

    def __init__(self, store: str = "") -> None:
        self.store = store
        self.episode: Episode | None = None

    @property
    def problem(self) -> str | None:
        """The problem, if there is one."""
        return self.episode.problem if self.episode else None

    @property
    def told(self) -> str:
        """The problem, as a sentence."""
        return (self.problem or "").rstrip(".") + "."

    def failed(self, problem: str, now: Timestamp) -> bool:
        """A try failed; whether it is the first of an episode."""
        before = self.episode
        if before is None:
            self.episode = Episode(problem, now, 1)
        else:
            self.episode = Episode(problem, before.began, before.tries + 1)
        return before is None

    def succeeded(self) -> Episode | None:
        """A try succeeded; the episode that this ends."""
        over, self.episode = self.episode, None
        return over

    @property
    def pause(self) -> Seconds:
        """How long to wait before the next try."""
        tries = self.episode.tries if self.episode else 1
        return min(FIRST_RETRY * 2.0 ** min(tries - 1, 16), LAST_RETRY)

    def refusal(self, what: str) -> StoreError | None:
        """Why nothing durable can be done for `what`, if it cannot."""
        if self.episode is None:
            return None
        return StoreError(
            self.store,
            f"nothing was recorded for {what}, because the store cannot be written: {self.told} "
            "It is tried again and again, and work is accepted as soon as that succeeds; with "
            'durability="memory" it is accepted now.',
        )
