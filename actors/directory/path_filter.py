"""Which paths surely belong to nobody, so that a spawn there need not wait for a look at the disk.

A tree may have had no agent on disk when it was first asked about. Then only paths that were given out
since can be taken. Those are kept in a Bloom filter: it never forgets one, and takes the same memory for
ten as for ten million. At worst it says "perhaps" of a free path, which is then looked up like any other.
"""

from collections import OrderedDict
from zlib import crc32

from ...paths import tree_of

BITS = 1 << 23
"""1 MiB. With 800,000 paths given out, one free path in seventy is looked up in vain."""

PROBES = 3

MOST_TREES = 1_000
"""Trees that are remembered; of one that was forgotten, paths are looked up."""


class PathFilter:
    """Paths given out and trees found empty in, an answer about a path out."""

    def __init__(self) -> None:
        self._bits = bytearray(BITS // 8)
        self._trees: OrderedDict[str, bool] = OrderedDict()  # whether it was empty

    def knows(self, tree: str) -> bool:
        """Whether it was found out if this tree was empty, and not forgotten since."""
        return tree in self._trees

    def found(self, tree: str, *, empty: bool) -> None:
        """The store has agents of this tree, or `empty`: none but those given out here."""
        self._trees[tree] = empty
        if len(self._trees) > MOST_TREES:
            self._trees.popitem(last=False)

    def add(self, path: str) -> None:
        """From now on, an agent may stand at `path`."""
        for place in _bit_positions(path):
            self._bits[place >> 3] |= 1 << (place & 7)

    def is_new(self, path: str) -> bool:
        """Whether no agent, open or closed, has ever stood at `path`; False if that is not sure."""
        if not self._trees.get(tree_of(path)):
            return False
        bits = self._bits
        return not all(bits[place >> 3] >> (place & 7) & 1 for place in _bit_positions(path))


def _bit_positions(path: str) -> list[int]:
    """Where a path has its bits: the same in every process, unlike `hash`."""
    name = path.encode()
    first, step = crc32(name), crc32(name, 1) | 1
    return [(first + n * step) % BITS for n in range(PROBES)]
