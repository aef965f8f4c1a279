"""The words that every room shares: ids, units, roles and paths.

Plain values only. Ids are `NewType`s, so that a type checker tells an agent's id from a run's serial;
a role names a control actor where its address is not known yet.
"""

from collections.abc import Iterator


def upwards(path: str) -> Iterator[str]:
    """`path` and the paths above it, up to "/" for all."""
    while path != "/":
        yield path
        path = path.rpartition("/")[0] or "/"
    yield path
