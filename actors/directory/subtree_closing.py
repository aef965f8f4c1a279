"""The subtrees that are being closed: which commands wait for that, and which lookups come from before.

A question costs as much as a path is deep, however many subtrees there are. A closing asks the
store as well, behind all lookups; but one that the disk did not answer at once is asked again.
"""

from msgspec import Struct

from ...paths import upwards
from ...types import AgentId
from .protocol import CloseAgent, CloseTree, DirectoryCommand


class SubtreeClosing(Struct):
    """A subtree that is being closed, a page at a time."""

    ask: CloseAgent | CloseTree
    agent_id: AgentId | None = None  # the agent that it is the subtree of, which goes last
    over: bool = False  # that one is closed already, and what stands below has nothing to do with it
    closed: bool = False  # the page under way is of agents that were closed before
    goes_on: tuple[str, AgentId | None] | None = None  # after whom the next page begins, if there is one
    count: int = 0  # agents that have gone, or are about to
    held: list[DirectoryCommand] = []


class SubtreeClosings:
    """Begun and ended closings and lookups in, what they mean for each other out."""

    def __init__(self) -> None:
        self._under_way: dict[str, SubtreeClosing] = {}
        self._below: dict[str, dict[str, SubtreeClosing]] = {}  # those at a path or below it
        self._lookups: dict[str, int] = {}  # paths that are being looked up, and when that began
        self._ended: dict[str, int] = {}  # subtrees that have closed since the first of those, and when
        self._moment = 0

    def __len__(self) -> int:
        return len(self._under_way)

    def __getitem__(self, path: str) -> SubtreeClosing:
        return self._under_way[path]

    def around(self, path: str) -> SubtreeClosing | None:
        """A closing that `path` is a part of."""
        if not self._under_way:
            return None
        return next((self._under_way[at] for at in upwards(path) if at in self._under_way), None)

    def holder(self, command: DirectoryCommand) -> SubtreeClosing | None:
        """The closing that `command` waits for, if any: one above it, or one that it would close around."""
        if isinstance(command, CloseAgent | CloseTree) and command.path in self._below:
            return next(iter(self._below[command.path].values()))
        return self.around(command.path)

    def begin(self, closing: SubtreeClosing) -> None:
        path = closing.ask.path
        self._under_way[path] = closing
        for at in upwards(path):
            self._below.setdefault(at, {})[path] = closing

    def end(self, path: str) -> list[DirectoryCommand]:
        """The commands that were held."""
        closing = self._under_way.pop(path)
        for at in upwards(path):
            below = self._below[at]
            del below[path]
            if not below:
                del self._below[at]
        if self._lookups:
            self._moment += 1
            self._ended.pop(path, None)
            self._ended[path] = self._moment
        return closing.held

    def lookup_begins(self, path: str) -> None:
        self._lookups[path] = self._moment

    def lookup_ends(self, path: str) -> bool:
        """Whether what was found still counts: no subtree around the path has closed meanwhile."""
        begun = self._lookups.pop(path)
        if not self._ended:
            return True
        counts = all(self._ended.get(at, 0) <= begun for at in upwards(path))
        oldest = next(iter(self._lookups.values()), self._moment)
        while self._ended and next(iter(self._ended.values())) <= oldest:
            del self._ended[next(iter(self._ended))]
        return counts
