"""Paths of agents: their form, and which stands below which."""

import re
from collections.abc import Iterator

from .borders import plain, shown, type_name
from .errors import InvalidPath

SEGMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MAX_SEGMENTS = 16


def check_path(path: object) -> str:
    """Return `path` if it is `/name/name…`, else raise `InvalidPath` saying what is wrong with it."""
    if not isinstance(path, str):
        raise InvalidPath(shown(path), f"a path is a str, not {type_name(path)}")
    path = plain(path)
    if not path.startswith("/"):
        raise InvalidPath(path, "a path starts with '/'")
    segments = path[1:].split("/")
    if len(segments) > MAX_SEGMENTS:
        raise InvalidPath(path, f"a path has at most {MAX_SEGMENTS} segments, not {len(segments)}")
    for segment in segments:
        if not SEGMENT.fullmatch(segment):
            raise InvalidPath(path, f"segment {segment!r} does not match [a-z0-9][a-z0-9_-]{{0,63}}")
    return path


def check_under(path: object) -> str:
    """Return `path` if it can stand for a part of the tree: `/` for all, or a path."""
    return "/" if isinstance(path, str) and plain(path) == "/" else check_path(path)


def tree_of(path: str) -> str:
    """The first segment of `path`: the limit of what an agent may reach."""
    return path[1:].partition("/")[0]


def is_under(path: str, under: str) -> bool:
    """Whether `path` is `under` or stands below it."""
    return under == "/" or path == under or path.startswith(under + "/")


def resolve(path: str, *, base: str) -> str:
    """`path` itself if absolute, else the path that it names below `base`."""
    return path if path.startswith("/") else f"{base}/{path}"


def upwards(path: str) -> Iterator[str]:
    """`path` and the paths above it, up to "/" for all."""
    while path != "/":
        yield path
        path = path.rpartition("/")[0] or "/"
    yield path
