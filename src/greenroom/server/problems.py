"""Errors in the terms of HTTP: one table from our errors to problem details (RFC 9457).

A problem's `type` is stable and for programs, its `detail` is the error's own text and for people; the
ids that the error carries are members of it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from .. import errors
from ..errors import GreenroomError

MEDIA_TYPE = "application/problem+json"


class Refusal(GreenroomError):
    """The server itself refuses a request; `detail` says why and what to do."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class Malformed(Refusal):
    """A body, a parameter or a header that does not say what it should."""


class NoToken(Refusal):
    """There is no token, or a wrong one."""


class OutOfReach(GreenroomError):
    """The token is for another tree."""

    def __init__(self, path: str, tree: str) -> None:
        super().__init__(path, tree)
        self.path, self.tree = path, tree

    def __str__(self) -> str:
        return f"{self.path} is out of reach: this token is for the tree /{self.tree} alone."


class ForeignHost(Refusal):
    """The Host header names somebody else: a page whose name was made to mean this machine."""


class ForeignOrigin(Refusal):
    """A page of another site asks."""


class NoSuchAddress(Refusal):
    """Nothing has this address."""


class WrongMethod(Refusal):
    """The address is right, the method is not; `allow` are those that are."""

    def __init__(self, detail: str, allow: str = "") -> None:
        super().__init__(detail)
        self.args = (detail, allow)
        self.allow = allow


class BodyTooLarge(Refusal):
    """A body or an address that is longer than allowed."""


class NotJson(Refusal):
    """A body that does not say that it is JSON."""


class TooOften(Refusal):
    """More requests than allowed; `after` are the seconds until the next one is."""

    def __init__(self, detail: str, after: float = 1.0) -> None:
        super().__init__(detail)
        self.args = (detail, after)
        self.after = after


class TooManyStreams(TooOften):
    """As many streams and waits as the server holds are open."""


class TooManyConnections(TooOften):
    """The token's holder has its share of the connections."""


class NoHttp(Refusal):
    """The bytes that came are no HTTP, or their head is too long."""


class TooSlow(Refusal):
    """The request's body does not come."""


class Problem(Struct, frozen=True):
    """A row of the table. `retry` are seconds after which asking again may help."""

    status: int
    name: str
    title: str
    retry: int | None = None


PROBLEMS: Mapping[type[Exception], Problem] = {
    # the caller's
    errors.AgentNotFound: Problem(404, "agent-not-found", "There is no such agent"),
    errors.RunNotFound: Problem(404, "run-not-found", "There is no such run"),
    errors.PathTaken: Problem(409, "path-taken", "An open agent has this path"),
    errors.RunIdTaken: Problem(409, "run-id-taken", "The run id is not free"),
    errors.KindTaken: Problem(409, "kind-taken", "Another kind has this name"),
    errors.AgentClosed: Problem(410, "agent-closed", "The agent is closed"),
    errors.InvalidPath: Problem(422, "invalid-path", "No agent can have this path"),
    errors.UnknownKind: Problem(422, "unknown-kind", "The kind is not registered here"),
    errors.CannotStore: Problem(422, "cannot-store", "The value cannot be stored"),
    errors.WouldDeadlock: Problem(409, "would-deadlock", "The wait would never end"),
    errors.OutOfTree: Problem(403, "out-of-tree", "The path is outside the agent's tree"),
    errors.KeyNeeded: Problem(409, "key-needed", "A name in a turn needs keys"),
    # how a run ended: told as its outcome, never raised by a request
    errors.RunFailed: Problem(409, "run-failed", "The run failed"),
    errors.RunInterrupted: Problem(409, "run-interrupted", "The run was interrupted"),
    # capacity
    errors.BacklogFull: Problem(429, "backlog-full", "Too much accepted work waits", retry=1),
    errors.RuntimeClosing: Problem(503, "closing", "The server is closing", retry=5),
    # storage
    errors.StoreError: Problem(503, "store-failing", "The store cannot be written now", retry=2),
    errors.StoreInUse: Problem(503, "store-in-use", "Another process owns the store", retry=10),
    errors.StoreLost: Problem(503, "store-lost", "The store has another owner now", retry=10),
    errors.StoreTooNew: Problem(503, "store-too-new", "The store is of a newer version"),
    errors.StoreCorrupt: Problem(503, "store-corrupt", "The store is damaged"),
    errors.SnapshotTampered: Problem(409, "snapshot-tampered", "What is stored was altered"),
    errors.SnapshotUnreadable: Problem(409, "snapshot-unreadable", "What is stored cannot be read"),
    # bugs
    errors.InternalError: Problem(500, "internal-error", "greenroom stopped itself"),
    errors.GreenroomError: Problem(500, "error", "An error of greenroom"),
    # the server's own
    NoHttp: Problem(400, "no-http", "This is no HTTP"),
    NoToken: Problem(401, "no-token", "A token is needed"),
    OutOfReach: Problem(403, "out-of-reach", "The token is for another tree"),
    ForeignOrigin: Problem(403, "foreign-origin", "The request comes from another site"),
    NoSuchAddress: Problem(404, "no-such-address", "Nothing has this address"),
    WrongMethod: Problem(405, "wrong-method", "The address does not take this method"),
    TooSlow: Problem(408, "too-slow", "The request did not come in time"),
    BodyTooLarge: Problem(413, "too-large", "The request is too large"),
    NotJson: Problem(415, "not-json", "The body must be JSON"),
    ForeignHost: Problem(421, "foreign-host", "The Host header names somebody else"),
    Malformed: Problem(422, "malformed", "The request is malformed"),
    TooOften: Problem(429, "too-often", "Too many requests", retry=1),
    TooManyStreams: Problem(429, "too-many-streams", "Too many streams are open", retry=5),
    TooManyConnections: Problem(429, "too-many-connections", "Too many connections are open", retry=5),
}


_OF_ALL = (errors.StoreError, errors.InternalError)
"""Errors whose text may name agents of any tree, and where the store lies."""


class ProblemView(Struct, frozen=True, kw_only=True):
    """Problem details as of RFC 9457. The ids concerned (`path`, `run_id`, `kind` …) stand beside these."""

    type: str
    title: str
    status: int
    detail: str


def problem_of(error: Exception) -> Problem:
    """The row of an error's class, or of the nearest class above it."""
    for cls in type(error).__mro__:
        found = PROBLEMS.get(cls)
        if found is not None:
            return found
    return PROBLEMS[GreenroomError]


def urn(problem: Problem) -> str:
    """The problem's type as a URI."""
    return f"urn:greenroom:problem:{problem.name}"


def problem_response(error: Exception, *, to_all: bool = True) -> tuple[int, dict[str, str], bytes]:
    """An error as status, headers and body. An error that is not ours is told without its text: it may
    leak.

    Without `to_all` the caller may see one tree: an error about the whole store is told without its text.
    """
    problem = problem_of(error)
    ours = isinstance(error, GreenroomError) and (to_all or not isinstance(error, _OF_ALL))
    body: dict[str, Any] = {
        "type": urn(problem),
        "title": problem.title,
        "status": problem.status,
        "detail": str(error) if ours else "The server's log has the error.",
    }
    if ours and not isinstance(error, Refusal):
        body |= {
            name: value
            for name, value in vars(error).items()
            if isinstance(value, str | int) and name not in ("problem", "reason", "remedy", "store", "what")
        }
    headers = {"content-type": MEDIA_TYPE}
    match error:
        case TooOften():
            headers["retry-after"] = str(max(1, round(error.after + 0.5)))
        case NoToken():
            headers["www-authenticate"] = 'Bearer realm="greenroom"'
        case WrongMethod() if error.allow:
            headers["allow"] = error.allow
    if problem.retry is not None:
        headers.setdefault("retry-after", str(problem.retry))
    return problem.status, headers, msgspec.json.encode(body)
