"""The gate before all addresses: who may come in, and what goes out with every answer.

An ASGI application around Litestar's. It refuses requests for another server (Host, Origin), without a
token, too many of them, and bodies that are too large or no JSON; hands the rest on with what the token
opens; serves the dashboard's files; counts, and logs what was refused. Nothing of a refused request reaches
the runtime. Its body is not read: the connection is hung up on.
"""

import time
from collections.abc import Mapping
from typing import Any, cast

from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from msgspec import Struct

from .access import Access
from .addresses import AllowedHosts, routed
from .assets import Asset
from .log import RefusalLog
from .openapi import DOCUMENT
from .problems import (
    BodyTooLarge,
    ForeignHost,
    ForeignOrigin,
    NoSuchAddress,
    NotJson,
    NoToken,
    TooManyConnections,
    TooOften,
    problem_of,
    problem_response,
)
from .rates import Rates
from .service import Service
from .wire import connection_of

MIB = 1 << 20
LONGEST_ADDRESS = 8 << 10

WITHOUT_TOKEN = frozenset({"/healthz", "/readyz"})
"""Addresses for everybody, besides the dashboard's files, which hold nothing of anybody's."""

STRANGERS, STRANGERS_BURST = 20.0, 100.0
"""Requests without a valid token that one peer may make, a second and at once."""

READERS, READERS_BURST = 100.0, 1_000.0
"""Files of the dashboard that one peer may have, a second and at once; the page is twenty of them."""

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
_USUAL = frozenset({404, 409, 410})
"""Answers that a well-meaning client gets, too."""

_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_STORE = (b"cache-control", b"no-store")


class ServerLimits(Struct, frozen=True):
    """The bounds of requests. `rate` are requests a second of each token, for a burst twice as many."""

    neighbours: AllowedHosts = AllowedHosts()
    max_body: int = MIB
    rate: float = 2_000.0


class _Visit(Struct):
    """One request, from the gate's point of view."""

    method: str
    path: str
    peer: str
    begun: float


class Middleware:
    """The ASGI application that uvicorn calls."""

    def __init__(
        self, app: ASGIApp, service: Service, assets: Mapping[str, Asset], limits: ServerLimits
    ) -> None:
        self._app, self._service, self._assets, self._limits = app, service, assets, limits
        self._guests = Rates(limits.rate, 2 * limits.rate)
        self._strangers = Rates(STRANGERS, STRANGERS_BURST)
        self._readers = Rates(READERS, READERS_BURST)
        self._refusals = RefusalLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # type: ignore[comparison-overlap]  # an enum of Litestar's, equal to it
            return await self._app(scope, receive, send)
        scope = cast(HTTPScope, scope)
        visit = _Visit(scope["method"], scope["path"], _peer(scope), time.perf_counter())

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._begun(scope, visit, message)
            await send(message)

        try:
            asset = self._judge(scope, visit)
        except Exception as error:
            self.refused(scope, error)
            return await _refuse(error, answer, hang_up=_is_worth_nothing(scope))
        if asset is not None:
            return await _send_asset(scope, asset, answer)
        return await self._app(scope, receive, answer)

    def _judge(self, scope: HTTPScope, visit: _Visit) -> Asset | None:
        """Let a request in, or raise why not. A file of the dashboard, if it asks for one."""
        headers = _headers(scope)
        limits, path = self._limits, visit.path
        host = headers.get(b"host", "")
        if not limits.neighbours.knows_host(host):
            raise ForeignHost(
                f"this server is not called {host[:200]!r}. If it is, start it with --allow-host."
            )
        origin = headers.get(b"origin")
        cross = headers.get(b"sec-fetch-site") == "cross-site" and path not in self._assets
        if cross or (origin is not None and not limits.neighbours.knows_origin(origin, host)):
            raise ForeignOrigin(
                f"pages of another site ({(origin or '?')[:200]!r}) may not use this server."
            )
        if path in self._assets and visit.method in ("GET", "HEAD"):
            after = self._readers.take(visit.peer, visit.begun)
            if after:
                raise TooOften(f"one may ask for {READERS:g} files a second.", after)
            return self._assets[path]
        self._check_token(scope, headers, visit)
        raw = scope["raw_path"].decode("latin-1")
        if len(raw) + len(scope["query_string"]) > LONGEST_ADDRESS:
            raise BodyTooLarge(f"an address has at most {LONGEST_ADDRESS:,} characters here.")
        if raw.startswith(f"{DOCUMENT}/"):  # Litestar would answer with a page
            raise NoSuchAddress("nothing has this address")
        self._check_body(headers)
        scope["path"] = routed(raw)
        return None

    def _check_token(self, scope: HTTPScope, headers: dict[bytes, str], visit: _Visit) -> None:
        """Note what the request's token opens, for the handlers."""
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else None
        access = self._service.keyring.access(bearer)
        state: dict[str, Any] = scope.setdefault("state", {})
        if access is None:
            self._admit_stranger(visit)
            if visit.path in WITHOUT_TOKEN:
                state["access"] = Access()
                return
            what = "the token is not one of this server's" if bearer else "there is no token"
            raise NoToken(
                f"{what}: send `Authorization: Bearer TOKEN` with the one that lies beside the store."
            )
        after = self._guests.take(access.name, visit.begun)
        if after:
            raise TooOften(f"a token may ask {self._limits.rate:g} times a second.", after)
        connection = connection_of(scope)
        if connection is not None and not connection.let_in(access.name):
            raise TooManyConnections("others need the connections that are left. Close some.", 5.0)
        state["access"] = access

    def _admit_stranger(self, visit: _Visit) -> None:
        after = self._strangers.take(visit.peer, visit.begun)
        if after:
            raise TooOften(f"without a token, one may ask {STRANGERS:g} times a second.", after)

    def _check_body(self, headers: dict[bytes, str]) -> None:
        length = headers.get(b"content-length", "0")
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 16 else 1 << 62
        if size > self._limits.max_body:
            raise BodyTooLarge(f"a body has at most {self._limits.max_body:,} bytes here.")
        if size == 0 and b"transfer-encoding" not in headers:
            return
        media_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise NotJson("a body is JSON and says so: `Content-Type: application/json`.")

    # Answers

    def _begun(self, scope: HTTPScope, visit: _Visit, message: Any) -> None:
        """An answer begins: count it, and have it say what every answer says."""
        asset = visit.path in self._assets
        message["headers"] = [*message["headers"], *_SAFE, *(() if asset else (_NO_STORE,))]
        method = visit.method if visit.method in _METHODS else "other"
        route = "dashboard" if asset else str(scope.get("path_template") or "none")
        seconds = time.perf_counter() - visit.begun
        self._service.metrics.answered(method, route, message["status"], seconds)

    def refused(self, scope: HTTPScope, error: Exception) -> None:
        """A request was not done as asked: count it, and log it unless it merely came too late."""
        problem = problem_of(error)
        self._service.metrics.refused(problem.name)
        if problem.status in _USUAL:
            return
        raw = scope["raw_path"].decode("latin-1")
        self._refusals.refused(problem.status, problem.name, scope["method"], raw, _peer(scope), str(error))


def _peer(scope: HTTPScope) -> str:
    client = scope.get("client")
    return client[0] if client else "?"


def _headers(scope: HTTPScope) -> dict[bytes, str]:
    """The headers by name. One that may come once and came twice is no header that anybody knows."""
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        found[name] = (
            f"{found[name]},{value.decode('latin-1')}" if name in found else value.decode("latin-1")
        )
    return found


def _is_worth_nothing(scope: HTTPScope) -> bool:
    """Whether the connection of a refused request is hung up on.

    It is kept for a client that has shown a token and sends no body: a new one would cost more.
    """
    headers = _headers(scope)
    bodiless = headers.get(b"content-length", "0") == "0" and b"transfer-encoding" not in headers
    return not bodiless or "access" not in scope.get("state", {})


async def _refuse(error: Exception, send: Send, *, hang_up: bool) -> None:
    status, headers, body = problem_response(error)
    if hang_up:
        headers["connection"] = "close"
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _send_asset(scope: HTTPScope, asset: Asset, send: Send) -> None:
    unchanged = any(name == b"if-none-match" and asset.etag in value for name, value in scope["headers"])
    status = 304 if unchanged else 200
    headers = [entry for entry in asset.headers if not (unchanged and entry[0] == b"content-length")]
    body = b"" if unchanged or scope["method"] == "HEAD" else asset.body
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
