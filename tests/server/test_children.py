"""The children of a path out of a listing, against a model that looks at all paths."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import AgentInfo
from greenroom.server.children import LAST_NAME, ChildList

NAMES = st.sampled_from(["a", "a-b", "a_b", "ab", "b", "0", "z", LAST_NAME])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))


def info(path: str) -> AgentInfo:
    return AgentInfo(path, "k", 1, None, "idle", False, 1, None, 0, 0, 0.0, 0.0, None)


class Listing:
    """`runtime.list`, of these paths."""

    def __init__(self, paths: Any) -> None:
        self.paths, self.read = sorted(paths), 0

    def __call__(self, under: str, *, limit: int, after: str | None) -> list[AgentInfo]:
        stem = "/" if under == "/" else f"{under}/"
        found = [path for path in self.paths if path == under or path.startswith(stem)]
        found = [path for path in found if after is None or path > after][:limit]
        self.read += len(found)
        return [info(path) for path in found]


def page(listing: Listing, under: str, after: str | None, limit: int, size: int) -> ChildList:
    branch = ChildList(under, after, limit)
    while not branch.full:
        rows = listing(under, limit=size, after=branch.cursor)
        branch.add(rows)
        if len(rows) < size:
            break
    for child in branch.unsure():
        child.below = bool(listing(child.path, limit=1, after=child.path))
    return branch


@given(st.sets(PATHS, max_size=40), st.one_of(st.just("/"), PATHS), st.integers(1, 5), st.integers(1, 9))
def test_all_pages_together_have_every_child_and_what_is_known_of_it(
    paths: set[str], under: str, limit: int, size: int
) -> None:
    listing = Listing(paths)
    found: dict[str, tuple[bool, bool]] = {}
    after, pages = None, 0
    while True:
        branch = page(listing, under, after, limit, size)
        assert len(branch.children) <= limit
        for child in branch.children.values():
            agent, below = found.get(child.path, (False, False))
            found[child.path] = (agent or child.agent is not None, below or child.below)
        pages += 1
        assert pages <= len(paths) + 1, "it does not get on"
        if not branch.full:
            break
        assert after is None or branch.cursor > after  # type: ignore[operator]
        after = branch.cursor
    stem = "/" if under == "/" else f"{under}/"
    names = {path[len(stem) :].partition("/")[0] for path in paths if path.startswith(stem)}
    assert found == {
        stem + name: (
            stem + name in paths,
            any(path.startswith(f"{stem}{name}/") for path in paths),
        )
        for name in names
    }


@pytest.mark.parametrize("trees", [1, 50])
def test_what_stands_below_is_not_read_through(trees: int) -> None:
    listing = Listing([f"/t{tree:02}/w{n:04}" for tree in range(trees) for n in range(2_000)])
    branch = page(listing, "/", None, 100, 8)
    assert [child.below for child in branch.children.values()] == [True] * trees
    assert listing.read <= 8 * (trees + 2)
