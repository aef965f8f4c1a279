"""Shares of a number of places, so that nobody can take them all.

Plain values. A holder may take one more place while it has fewer than are free. One that takes all it
can get stops at a half, and the next one at half of the rest. A tenth is kept for the main token.
"""

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

OWNER = "/"
"""The holder of the main token, who may take every place that is free."""

C = TypeVar("C", bound=Hashable)


class Shares:
    """`most` places, and how many of them each holder has."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0
        self._kept = most // 10
        self._held: Counter[str] = Counter()

    def has_room(self, holder: str) -> bool:
        """Whether this holder may take one more place."""
        free = self.most - self.taken
        return free > (0 if holder == OWNER else max(self._kept, self._held[holder]))

    def take(self, holder: str) -> bool:
        """Take a place, if this holder may."""
        if not self.has_room(holder):
            return False
        self._held[holder] += 1
        self.taken += 1
        return True

    def give_back(self, holder: str) -> None:
        """Give a place back that was taken."""
        self.taken -= 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]


class Connections(Generic[C]):
    """Which connections are kept: those on which a token was shown, by shares; and some strangers'.

    A connection is a stranger's until a request on it was let in with a token. Strangers have places of
    their own. One too many costs the oldest of them: that of the peer which has most.
    """

    def __init__(self, known: int, strangers: int) -> None:
        self._shares = Shares(known)
        self._most_strangers = strangers
        self._holders: dict[C, str] = {}  # of the known
        self._peers: dict[C, str] = {}  # of the strangers
        self._strangers: dict[str, OrderedDict[C, None]] = {}  # each peer's, the oldest first

    def __len__(self) -> int:
        return len(self._holders) + len(self._peers)

    def opened(self, connection: C, peer: str) -> C | None:
        """A stranger's connection was opened; the one to close for it, if any."""
        self._peers[connection] = peer
        self._strangers.setdefault(peer, OrderedDict())[connection] = None
        if len(self._peers) <= self._most_strangers:
            return None
        crowd = max(self._strangers.values(), key=len)
        oldest = next(iter(crowd))
        self.closed(oldest)
        return oldest

    def let_in(self, connection: C, holder: str) -> bool:
        """A request with a token came on it: it is this holder's now, unless its share is taken."""
        if self._holders.get(connection) == holder:
            return True
        if connection not in self._holders and connection not in self._peers:
            return True  # it is closed already, and has no place any more
        if not self._shares.take(holder):
            return False
        self.closed(connection)
        self._holders[connection] = holder
        return True

    def closed(self, connection: C) -> None:
        """It is closed, or about to be. Repeating it changes nothing."""
        holder = self._holders.pop(connection, None)
        if holder is not None:
            self._shares.give_back(holder)
        peer = self._peers.pop(connection, None)
        if peer is not None:
            del self._strangers[peer][connection]
            if not self._strangers[peer]:
                del self._strangers[peer]
