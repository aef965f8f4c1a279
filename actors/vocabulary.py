"""The words that every room shares: ids, units, roles and paths.

Plain values only. Ids are `NewType`s, so that a type checker tells an agent's id from a run's serial;
a role names a control actor where its address is not known yet.
"""

import math
import re
from collections.abc import Hashable, Iterator
from typing import Any, Literal, NewType, TypeAlias

from .borders import plain, shown, type_name
from .errors import InvalidPath

AgentId = NewType("AgentId", int)
"""Number of an agent, unique in its store for ever: a path can be used again, an agent id cannot."""
Incarnation = NewType("Incarnation", int)
"""Number of an agent's session, growing by one each time it gets a new one."""
RunId = NewType("RunId", str)
RequestId: TypeAlias = Hashable
"""Number that a requester chose for one question; the answer repeats it."""
Seconds: TypeAlias = float
Timestamp: TypeAlias = float
"""Seconds since the epoch, as of `time.time()`."""
Payload: TypeAlias = bytes
"""A user's value (input, config, message body, result) as bytes, see `persistence.codec`."""
Address: TypeAlias = Any
"""An actor's address. Cores hand it on and never look into it."""

Durability = Literal["memory", "process", "power"]
AgentStatus = Literal[
    "starting", "idle", "queued", "running", "waiting", "interrupting", "failed", "closed"
]
RunStatus = Literal["accepted", "queued", "running", "completed", "failed", "interrupted"]
OutcomeStatus = Literal["completed", "failed", "interrupted"]

Role: TypeAlias = Literal[
    "directory",
    "ledger",
    "residency",
    "slots",
    "writer",
    "reader",
    "events",
    "processes",
    "supervisor",
]

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


MOST_TEXT = 65_536
"""Characters of an error that are kept."""


def tellable(text: str) -> str:
    """`text` as it can be stored and told: cut if it is huge, and halves of characters spelt out."""
    if len(text) > MOST_TEXT:
        text = f"{text[:MOST_TEXT]}… ({len(text):,} characters)"
    return text.encode("utf-8", "backslashreplace").decode()


def tree_of(path: str) -> str:
    """The first segment of `path`: the limit of what an agent may reach."""
    return path[1:].partition("/")[0]


def is_under(path: str, under: str) -> bool:
    """Whether `path` is `under` or stands below it."""
    return under == "/" or path == under or path.startswith(under + "/")


def upwards(path: str) -> Iterator[str]:
    """`path` and the paths above it, up to "/" for all."""
    while path != "/":
        yield path
        path = path.rpartition("/")[0] or "/"
    yield path


def resolve(path: str, *, base: str) -> str:
    """`path` itself if absolute, else the path that it names below `base`."""
    return path if path.startswith("/") else f"{base}/{path}"


LONGEST: Seconds = 1e9
"""About thirty years. A longer wait is cut to this: locks, queues and timers take no more."""


def checked_seconds(
    name: str,
    value: object,
    *,
    least: Seconds = 0.0,
    above: bool = False,
    or_none: bool = False,
    wrong_type: type[Exception] = ValueError,
) -> Seconds:
    """`value` as seconds that any arithmetic, lock and timer takes, at most `LONGEST`.

    Raises `ValueError` if it is not a finite number from `least` on (or `above` it), and `wrong_type` if it
    is no number at all.
    """
    needed = f"{name}= is a number of seconds{_from(least, above)}{' or None' if or_none else ''}"
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong_type(f"{needed}, not {shown(value)}")
    if not -math.inf < value < math.inf:
        raise ValueError(f"{needed}, and a finite one, not {shown(value)}")
    if value < least or (above and value == least):
        raise ValueError(f"{needed}, not {shown(value)}")
    return float(max(-LONGEST, min(LONGEST, value)))


def _from(least: Seconds, above: bool) -> str:
    if least == -math.inf:
        return ""
    return f" above {least:g}" if above else f" from {least:g} on"


def checked_timeout(timeout: object) -> Seconds | None:
    """How long to wait; None for ever. What has passed already is 0: look, and do not wait."""
    if timeout is None:
        return None
    seconds = checked_seconds("timeout", timeout, least=-math.inf, or_none=True, wrong_type=TypeError)
    return max(0.0, seconds)
