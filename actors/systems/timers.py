"""The next things that can happen in a simulation: queues of things to do, each in its own order.

A channel is a queue whose order is promised to somebody: the messages of one actor to another, the steps
of one task. Between channels nothing is promised, so any of them may be the next. Plain values; whoever
takes decides.
"""

from collections import deque
from collections.abc import Callable, Hashable
from operator import itemgetter
from typing import TypeAlias

Item: TypeAlias = Callable[[], None]

_age = itemgetter(0)


class TimerQueue:
    """Things to do, in channels. `len` is the number of channels that have something."""

    def __init__(self) -> None:
        self._channels: dict[Hashable, deque[tuple[int, Hashable, Item]]] = {}
        self._added = 0

    def __len__(self) -> int:
        return len(self._channels)

    def add(self, channel: Hashable, item: Item) -> None:
        """Put `item` behind all else in its channel."""
        self._added += 1
        queue = self._channels.get(channel)
        if queue is None:
            queue = self._channels[channel] = deque()
        queue.append((self._added, channel, item))

    def take(self, index: int) -> Item:
        """The first thing in one of the channels; 0 is the one that waits longest, then by age."""
        heads = [queue[0] for queue in self._channels.values()]
        head = min(heads, key=_age) if index == 0 else sorted(heads, key=_age)[index]
        queue = self._channels[head[1]]
        queue.popleft()
        if not queue:
            del self._channels[head[1]]
        return head[2]

    def clear(self) -> None:
        """Nothing will happen any more."""
        self._channels.clear()
