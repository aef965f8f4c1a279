"""The children of one path, out of a listing that goes by path and has all descendants in it.

Plain values. Agents below a child are skipped and not read through: its first row says that there is
something, and the listing goes on behind it. Since `/a-b` comes between `/a` and `/a/b`, a child may be
met again after others, also on a later page; who reads several pages puts them together by path.
"""

from collections.abc import Sequence

from msgspec import Struct

from .. import AgentInfo

LAST_NAME = "z" * 64
"""No name comes after this one, but this one's own descendants."""


class ChildEntry(Struct):
    """A path right below another. `agent`: who stands there, if anybody; `below`: others stand below it."""

    path: str
    agent: AgentInfo | None = None
    below: bool = False


class ChildList:
    """At most `limit` children of `under`, whose listing begins after the path `cursor`."""

    def __init__(self, under: str, cursor: str | None, limit: int) -> None:
        self.children: dict[str, ChildEntry] = {}
        self.cursor = cursor
        self.full = False
        self._stem = "/" if under == "/" else f"{under}/"
        self._limit = limit

    def add(self, rows: Sequence[AgentInfo]) -> int:
        """Take the next rows after `cursor`, which moves on; how many of them were of use."""
        used = 0
        for info in rows:
            if self.cursor is not None and info.path <= self.cursor:
                continue  # it was skipped
            if not info.path.startswith(self._stem):
                self.cursor = info.path  # `under` itself
                continue
            path = self._stem + info.path[len(self._stem) :].partition("/")[0]
            child = self.children.get(path)
            if child is None:
                if len(self.children) == self._limit:
                    self.full = True
                    break
                child = self.children[path] = ChildEntry(path)
            if info.path == path:
                child.agent, self.cursor = info, path
            else:
                child.below, self.cursor = True, max(info.path, f"{path}/{LAST_NAME}")
            used += 1
        return used

    def unsure(self) -> list[ChildEntry]:
        """Those with descendants, or not, that the listing has not come to."""
        at = self.cursor or ""
        return [child for child in self.children.values() if not child.below and f"{child.path}/" > at]
