"""The application: Litestar with all addresses, behind the gate."""

import msgspec
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, InternalServerException

from .. import GreenroomError
from . import agents_api, dashboard_api, monitoring_api, openapi, runs_api
from .assets import read_assets
from .log import log
from .middleware import Middleware, ServerLimits
from .problems import BodyTooLarge, Malformed, NoSuchAddress, WrongMethod, problem_response
from .requests import ApiRequest
from .service import Service
from .version import VERSION

GONE = "client disconnected prematurely"
"""How Litestar says that a body ended before its end."""


def build(service: Service, limits: ServerLimits) -> Middleware:
    """The ASGI application of a server."""
    app = _litestar(State({"service": service}), limits)
    gate = Middleware(app, service, read_assets(), limits)
    app.state.gate = gate
    return gate


def described() -> bytes:
    """The OpenAPI document, as JSON; for this no server has to run."""
    document = _litestar(State(), ServerLimits()).openapi_schema.to_schema()
    return msgspec.json.encode(openapi.complete(document))


def _litestar(state: State, limits: ServerLimits) -> Litestar:
    return Litestar(
        [*agents_api.HANDLERS, *runs_api.HANDLERS, *monitoring_api.HANDLERS, *dashboard_api.HANDLERS],
        request_class=ApiRequest,
        exception_handlers={GreenroomError: _ours, HTTPException: _litestars, Exception: _bug},
        logging_config=None,
        openapi_config=openapi.config(VERSION),
        request_max_body_size=limits.max_body,
        state=state,
    )


def _ours(request: Request[object, object, State], error: Exception) -> Response[bytes]:
    """An error of greenroom, or of the server's own, as problem details."""
    request.app.state.gate.refused(request.scope, error)
    access = request.scope["state"].get("access")
    status, headers, body = problem_response(error, to_all=access is None or access.tree is None)
    media_type = headers.pop("content-type")
    return Response(body, status_code=status, headers=headers, media_type=media_type)


def _litestars(request: Request[object, object, State], error: HTTPException) -> Response[bytes]:
    """Litestar's error about a request, as one of ours."""
    match error.status_code:
        case 404:
            return _ours(request, NoSuchAddress("nothing has this address"))
        case 405:
            allow = (error.headers or {}).get("allow", "")
            return _ours(request, WrongMethod(f"this address takes {allow or 'other methods'}", allow))
        case 413:
            most = request.app.request_max_body_size
            return _ours(request, BodyTooLarge(f"a body has at most {most:,} bytes here."))
        case status if 400 <= status < 500:
            return _ours(request, Malformed(_explain(error)))
        case 500 if isinstance(error, InternalServerException) and error.detail == GONE:
            return Response(b"", status_code=400)  # for nobody
        case _:
            return _bug(request, error)


def _explain(error: HTTPException) -> str:
    """Which parameter is wrong, and how."""
    extra = error.extra if isinstance(error.extra, list) else []
    if any(entry.get("key") == "data" for entry in extra if isinstance(entry, dict)):
        return "there is no body: it is to be JSON"
    found = [
        f"{entry.get('key', 'it')}: {entry.get('message', 'wrong')}"
        for entry in extra
        if isinstance(entry, dict)
    ]
    return "; ".join(found) or error.detail or "the request cannot be read"


def _bug(request: Request[object, object, State], error: Exception) -> Response[bytes]:
    """An error that nobody thought of: the log has it, the client learns nothing of the inside."""
    log.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    return _ours(request, error)
