"""A queue that is fair between trees: who is served next, and how many are served before.

Owns the order of those who wait for room or for a slot. It does not know what they wait for.

A tree is served in its own order: claims that *go on* (a turn that waited, a continuation) before those
that are new. Between trees there are three rings, each served in turn: the trees that have something that
goes on, the trees that have just begun to wait, and all trees. The first two are ahead of the third, but
never twice in a row: of any two claims one is from another ring than the first, and of any two of these
one is from the ring of all. So neither endless continuations nor a stream of new trees starves anybody.
(New flows first, and bounded, is the idea of FQ-CoDel, RFC 8290, section 4.2.)
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from itertools import islice
from typing import Generic, TypeAlias, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Ring: TypeAlias = OrderedDict[str, None]

MOST_POSITIONS = 10_000
"""How far a place is counted: it costs about a microsecond for each that is before."""


class Rings:
    """Trees in turn. Ordered dicts, as taking the first of a dict scans what was taken before."""

    __slots__ = ("all", "begun", "going_on", "served_begun", "served_going_on")

    def __init__(self) -> None:
        self.going_on: Ring = OrderedDict()
        self.begun: Ring = OrderedDict()  # they have begun to wait, and were not served since
        self.all: Ring = OrderedDict()
        self.served_going_on = False  # the last claim was from that ring
        self.served_begun = False  # the last one that was not, was from the other

    def copy(self) -> "Rings":
        other = Rings()
        other.going_on, other.begun, other.all = self.going_on.copy(), self.begun.copy(), self.all.copy()
        other.served_going_on, other.served_begun = self.served_going_on, self.served_begun
        return other

    def waits(self, tree: str, *, goes_on: bool) -> None:
        """There is a claim of this tree."""
        if tree not in self.all:
            self.all[tree] = self.begun[tree] = None
        if goes_on:
            self.going_on.setdefault(tree)

    def left(self, tree: str, *, going_on: int, new: int) -> None:
        """So many claims of this tree are left."""
        if not going_on:
            self.going_on.pop(tree, None)
            if not new:
                self.all.pop(tree, None)
                self.begun.pop(tree, None)

    @property
    def next(self) -> str:
        return next(iter(self._ring))

    @property
    def _ring(self) -> Ring:
        if self.going_on and not self.served_going_on:
            return self.going_on
        return self.begun if self.begun and not self.served_begun else self.all

    def serve(self) -> str:
        """The next tree, which goes to the end of all rings."""
        ring = self._ring
        tree = next(iter(ring))
        self.served_going_on = ring is self.going_on
        if not self.served_going_on:
            self.served_begun = ring is self.begun
        self.begun.pop(tree, None)
        self.all.move_to_end(tree)
        if tree in self.going_on:
            self.going_on.move_to_end(tree)
        return tree


class _Line(Generic[K, V]):
    """The claims of one tree."""

    __slots__ = ("goes_on", "new")

    def __init__(self) -> None:
        self.goes_on: OrderedDict[K, V] = OrderedDict()
        self.new: OrderedDict[K, V] = OrderedDict()


class FairQueue(Generic[K, V]):
    """Claims by key. Every operation is O(1), `order` and `place` aside."""

    __slots__ = ("_claims", "_lines", "_rings")

    def __init__(self) -> None:
        self._claims: dict[K, str] = {}  # the tree of each
        self._lines: dict[str, _Line[K, V]] = {}
        self._rings = Rings()

    def __len__(self) -> int:
        return len(self._claims)

    def __contains__(self, key: K) -> bool:
        return key in self._claims

    def push(self, key: K, value: V, tree: str, *, goes_on: bool) -> None:
        """Add a claim behind those of its kind in its tree."""
        assert key not in self._claims
        line = self._lines.get(tree)
        if line is None:
            line = self._lines[tree] = _Line()
        (line.goes_on if goes_on else line.new)[key] = value
        self._claims[key] = tree
        self._rings.waits(tree, goes_on=goes_on)

    def remove(self, key: K) -> bool:
        """Withdraw a claim; whether there was one."""
        tree = self._claims.pop(key, None)
        if tree is None:
            return False
        line = self._lines[tree]
        (line.goes_on if key in line.goes_on else line.new).pop(key)
        self._left(tree, line)
        return True

    @property
    def first(self) -> V:
        """The claim that is served next; there must be one."""
        line = self._lines[self._rings.next]
        return next(iter((line.goes_on or line.new).values()))

    def take(self) -> V:
        """Serve the next claim."""
        tree = self._rings.serve()
        line = self._lines[tree]
        key, value = (line.goes_on or line.new).popitem(last=False)
        del self._claims[key]
        self._left(tree, line)
        return value

    def _left(self, tree: str, line: _Line[K, V]) -> None:
        self._rings.left(tree, going_on=len(line.goes_on), new=len(line.new))
        if not (line.goes_on or line.new):
            del self._lines[tree]

    def order(self) -> Iterator[K]:
        """The keys as they would be served if nobody else came or went; O(waiting) at first."""
        rings = self._rings.copy()
        left = {tree: [len(line.goes_on), len(line.new)] for tree, line in self._lines.items()}
        keys = {tree: iter((*line.goes_on, *line.new)) for tree, line in self._lines.items()}
        while rings.all:
            tree = rings.serve()
            yield next(keys[tree])
            of_tree = left[tree]
            of_tree[0 if of_tree[0] else 1] -= 1
            rings.left(tree, going_on=of_tree[0], new=of_tree[1])

    def place(self, key: K) -> int:
        """How many are served before this claim; `MOST_POSITIONS` at most are counted."""
        before = enumerate(islice(self.order(), MOST_POSITIONS))
        return next((place for place, other in before if other == key), MOST_POSITIONS)
