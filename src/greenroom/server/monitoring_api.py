"""Looking at the whole: numbers, live events, health; and tokens for a tree."""

import re
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, Parameter, QueryParameter
from litestar.response import Stream

from . import metrics
from .feed import Wanted
from .openapi import PROBLEM_RESPONSES, problems, some_problems
from .problems import Malformed
from .requests import ApiRequest, Body, whole_number
from .version import VERSION
from .views import Grant, Granted, HealthView, SentEvent, ServerView, StatsView

LARGEST_SEQ = 2**63 - 1
EVENT_TYPE = re.compile(r"[a-z]+\.(\*|[a-z_]+)")


@get("/api/stats", tags=["looking"], summary="Numbers", operation_id="stats", responses=PROBLEM_RESPONSES)
async def stats(request: ApiRequest) -> StatsView:
    """The runtime and the server in numbers. For the main token alone."""
    request.access.everything()
    service = request.service
    found = msgspec.structs.asdict(await service.runtime.stats())
    return StatsView(**found, server=_server(request))


def _server(request: ApiRequest) -> ServerView:
    service = request.service
    feed = service.streams.feed
    return ServerView(
        version=VERSION,
        started_at=service.started_at,
        now=service.now(),
        streams=service.streams.open,
        last_event=feed.last,
        events=dict(feed.counts),
        kinds=service.kinds,
    )


@get(
    "/api/events",
    tags=["looking"],
    summary="Events as they happen",
    operation_id="events",
    media_type="text/event-stream",
    responses={
        **PROBLEM_RESPONSES,
        200: ResponseSpec(
            SentEvent,
            description="Server-sent events: `id` is the event's number, `event` its type, `data` its JSON "
            "(seq, at, type, path, run_id, data). `events.missed` says which events cannot be told any "
            "more. Comments keep a silent stream alive.",
            media_type="text/event-stream",
            generate_examples=False,
        ),
    },
)
async def events(
    request: ApiRequest,
    under: Annotated[str, Parameter(description="Events at or below this path")] = "/",
    types: Annotated[
        list[str] | None,
        QueryParameter(name="type", description="Only of these types; `run.*` is all of runs. Repeatable."),
    ] = None,
    run: Annotated[
        str | None, Parameter(min_length=1, max_length=200, description="Only those of this run")
    ] = None,
    below: Annotated[
        bool, Parameter(description="Also those below the path; else of its agent alone")
    ] = True,
    since: Annotated[
        int | None,
        Parameter(
            ge=0, le=LARGEST_SEQ, description="Events after this number; without it, those from now on"
        ),
    ] = None,
    follow: Annotated[bool, Parameter(description="Go on; else end with the newest event there is")] = True,
    last_event_id: Annotated[
        str | None,
        HeaderParameter(
            name="Last-Event-ID", description="The number of the last event seen; goes before `since`"
        ),
    ] = None,
) -> Stream:
    """All events, or some, each once and in order, over any number of connections and restarts."""
    for one in types or ():
        if not EVENT_TYPE.fullmatch(one):
            raise Malformed(f"{one[:100]!r} is no type of events: it is like run.completed, or run.*")
    wanted = Wanted(request.access.under(under), tuple(types or ()), run, below)
    if last_event_id:
        since = whole_number(last_event_id, LARGEST_SEQ)
        if since is None:
            raise Malformed("Last-Event-ID is the number of an event")
    streams, holder = request.service.streams, request.access.name
    streams.check_room(holder)
    telling = streams.tell(wanted, since, follow=follow, holder=holder)
    return Stream(telling, media_type="text/event-stream")


@post(
    "/api/tokens",
    status_code=200,
    dto=Body[Grant],
    return_dto=None,
    tags=["looking"],
    summary="Make a token for one tree",
    operation_id="grant",
    responses=problems(),
)
async def grant(request: ApiRequest, data: Grant) -> Granted:
    """A token with which one tree can be reached and nothing else. For the main token alone."""
    request.access.everything()
    return Granted(data.tree, request.service.keyring.grant(data.tree))


@get(
    "/healthz",
    tags=["health"],
    summary="Is it there?",
    operation_id="healthz",
    security=[{}],
    responses=some_problems(421, 429),
)
async def healthz() -> HealthView:
    """Whether the server answers at all. Needs no token."""
    return HealthView("ok")


@get(
    "/readyz",
    tags=["health"],
    summary="Does it take work?",
    operation_id="readyz",
    security=[{}],
    responses={
        **some_problems(421, 429),
        503: ResponseSpec(HealthView, description="Not now", generate_examples=False),
    },
)
async def readyz(request: ApiRequest) -> Response[HealthView]:
    """Whether work can be accepted: 503 while the server closes or its store cannot be written."""
    health = await request.service.health()
    return Response(health, status_code=200 if health.status == "ok" else 503)


@get("/metrics", media_type="text/plain", include_in_schema=False)
async def show_metrics(request: ApiRequest) -> Response[bytes]:
    """The same numbers for Prometheus. For the main token alone."""
    request.access.everything()
    service = request.service
    feed = service.streams.feed
    body = service.metrics.show(await service.runtime.stats(), feed.counts, service.streams.open)
    return Response(body, media_type=metrics.CONTENT_TYPE)


HANDLERS: list[Any] = [stats, events, grant, healthz, readyz, show_metrics]
