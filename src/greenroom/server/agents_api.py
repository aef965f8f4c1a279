"""Agents over HTTP: making them, giving them work, ending them, looking at them.

Each handler checks what it was given, makes one call of the public API and tells its answer. Work is
answered with 202 as soon as it is recorded: whatever a client does then, it belongs to the runtime.
"""

from typing import Annotated, Any

from litestar import Response, delete, get, post
from litestar.params import HeaderParameter, Parameter
from msgspec import UNSET

from .. import UNSET as NO_INPUT
from .. import AgentInfo, AsyncAgentRef, Explanation, RunIdTaken
from ..paths import check_path
from ..types import AgentStatus
from .access import Access
from .addresses import agent_url, run_url
from .json_view import shown
from .openapi import PROBLEM_RESPONSES, problems
from .problems import Malformed
from .requests import ApiRequest, Body
from .views import (
    Accepted,
    AgentListItem,
    AgentListPage,
    AgentView,
    Evicted,
    InterruptedView,
    Interruption,
    MessageRequest,
    Recorded,
    RunRequest,
    SpawnedView,
    SpawnRequest,
    StateView,
)

MOST_IN_PAGE = 1_000
MOST_SEARCHED = 10_000
"""Agents that one search looks at; the answer says where to go on."""
EVICTION = 0.1
"""Seconds that an answer waits for a session to close."""

ALL_RUNS = Interruption()

TAGS = ["agents"]

AgentPath = Annotated[
    str,
    Parameter(
        description="The agent's path, such as `/library/a`. A slash in it may be encoded or not; see "
        "docs/http.md for agents that are called like one of the resources.",
        examples=[],
    ),
]
Key = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The run's id. Given twice, it is the same run; with another input it is refused. Ids "
        "that begin with `run-` are the server's own.",
    ),
]


@post(
    "/api/agents",
    status_code=202,
    dto=Body[SpawnRequest],
    return_dto=None,
    tags=TAGS,
    summary="Make an agent",
    operation_id="spawn",
    responses=problems(409, 429),
)
async def spawn(request: ApiRequest, data: SpawnRequest, key: Key = None) -> Response[SpawnedView]:
    """Record an agent, and with `input` its first run. Its session opens in the background."""
    path = request.access.agent(data.path)
    run_id = checked_key(key)
    if data.input is UNSET and run_id is not None:
        raise Malformed("an Idempotency-Key names the first run, which there is only with an input")
    runtime = request.service.runtime
    try:
        ref = await runtime.spawn(
            data.kind,
            path,
            config=data.config,
            input=NO_INPUT if data.input is UNSET else data.input,
            run_id=run_id,
            durability=data.durability,
        )
    except RunIdTaken as error:
        raise _discreet(error, request.access) from error
    first = ref.run.run_id if ref.run else None
    return Response(SpawnedView(path, first), headers={"location": agent_url(path)})


@get(
    "/api/agents",
    tags=TAGS,
    summary="List agents",
    operation_id="list_agents",
    responses=PROBLEM_RESPONSES,
)
async def list_agents(
    request: ApiRequest,
    under: Annotated[str, Parameter(description="Agents at or below this path")] = "/",
    status: Annotated[
        AgentStatus | None, Parameter(description="Only those with this status; closed ones are listed so")
    ] = None,
    after: Annotated[
        str | None, Parameter(description="Agents after this path: the `next` of the page before")
    ] = None,
    limit: Annotated[int, Parameter(ge=1, le=MOST_IN_PAGE)] = 100,
    contains: Annotated[
        str | None,
        Parameter(max_length=200, description="Only those with this in their path or kind"),
    ] = None,
    resident: Annotated[bool, Parameter(description="Only those that are in memory")] = False,
) -> AgentListPage:
    """Agents by path, a page at a time. With `contains` a page may be short, or empty, and not the last."""
    service = request.service
    under = request.access.under(under)
    if after is not None:
        check_path(after)
    as_of = service.streams.feed.last
    found: list[AgentInfo] = []
    looked = 0
    while True:
        size = limit if contains is None else MOST_IN_PAGE
        page = await service.runtime.list(under, status=status, resident=resident, limit=size, after=after)
        for info in page:
            if contains is None or contains in info.path or contains in info.kind:
                found.append(info)
                if len(found) == limit:
                    break
        looked += len(page)
        last = found[-1] if len(found) == limit else page[-1] if page else None
        after = last.path if last is not None else None
        if len(found) == limit or len(page) < size:
            more = len(found) == limit
            break
        if looked >= MOST_SEARCHED:
            more = True
            break
    return AgentListPage([AgentListItem.of(info) for info in found], after if more else None, as_of)


@get(
    "/api/agents/{path:str}",
    tags=TAGS,
    summary="Look at an agent",
    operation_id="get_agent",
    responses=problems(404),
)
async def get_agent(request: ApiRequest, path: AgentPath) -> AgentView:
    """The agent as it is now, with its config and its last outcome; also one that is closed."""
    return await AgentView.of(await _ref(request, path).info())


@get(
    "/api/agents/{path:str}/state",
    tags=TAGS,
    summary="Look at an agent's state",
    operation_id="get_state",
    responses=problems(404, 409),
)
async def get_state(request: ApiRequest, path: AgentPath) -> StateView:
    """The state as of the last commit. It is read from the store and made into JSON for this request."""
    ref = _ref(request, path)
    state = await shown(await ref.state(), "/state")
    return StateView(ref.path, state.json, state.described)


@get(
    "/api/agents/{path:str}/explain",
    tags=TAGS,
    summary="Why an agent waits",
    operation_id="explain",
    responses=problems(404),
)
async def explain(request: ApiRequest, path: AgentPath) -> Explanation:
    """Why the agent waits: for what, since when, held by whom. A tree's token shows that tree alone."""
    return request.access.seen(await _ref(request, path).explain())


@post(
    "/api/agents/{path:str}/runs",
    status_code=202,
    dto=Body[RunRequest],
    return_dto=None,
    tags=TAGS,
    summary="Give an agent a run",
    operation_id="followup",
    responses=problems(404, 409, 410, 429),
)
async def followup(
    request: ApiRequest, path: AgentPath, data: RunRequest, key: Key = None
) -> Response[Accepted]:
    """Accept a run: it is executed in its turn, whether anybody waits for it or not."""
    ref = _ref(request, path)
    try:
        run = await ref.followup(data.input, run_id=checked_key(key), durability=data.durability)
    except RunIdTaken as error:
        raise _discreet(error, request.access) from error
    return Response(Accepted(run.run_id, ref.path), headers={"location": run_url(run.run_id)})


@post(
    "/api/agents/{path:str}/messages",
    status_code=202,
    dto=Body[MessageRequest],
    return_dto=None,
    tags=TAGS,
    summary="Send an agent a message",
    operation_id="send",
    responses=problems(404, 410, 429),
)
async def send(request: ApiRequest, path: AgentPath, data: MessageRequest) -> Recorded:
    """Put a message into the agent's inbox, for its next turn; it starts none."""
    if "idempotency-key" in request.headers:
        raise Malformed("messages have no id: sent twice they are two. Leave Idempotency-Key out.")
    ref = _ref(request, path)
    await ref.send(data.body, durability=data.durability)
    return Recorded(ref.path)


@post(
    "/api/agents/{path:str}/interrupt",
    status_code=202,
    dto=Body[Interruption],
    return_dto=None,
    tags=TAGS,
    summary="Interrupt an agent",
    operation_id="interrupt",
    responses=problems(404, 410),
)
async def interrupt(request: ApiRequest, path: AgentPath, data: Interruption = ALL_RUNS) -> InterruptedView:
    """End a run, or all that the agent has accepted so far; the agent stays."""
    ref = _ref(request, path)
    if data.run_id is not None and not data.run_id.isprintable():
        raise Malformed("a run id has printable characters only")
    return InterruptedView(ref.path, await ref.interrupt(data.run_id, cascade=data.cascade))


@post(
    "/api/agents/{path:str}/evict",
    status_code=202,
    tags=TAGS,
    summary="Move an agent out of memory",
    operation_id="evict",
    responses=problems(404, 410),
)
async def evict(request: ApiRequest, path: AgentPath) -> Evicted:
    """Close the agent's session if it has nothing to do; it is loaded again when somebody needs it."""
    ref = _ref(request, path)
    return Evicted(ref.path, await request.service.soon(ref.evict(), EVICTION))


@post(
    "/api/agents/{path:str}/close",
    status_code=202,
    tags=TAGS,
    summary="Close an agent",
    operation_id="close",
    responses=problems(404, 410),
)
async def close(request: ApiRequest, path: AgentPath) -> Recorded:
    """End the agent and its descendants for good; their paths are free again."""
    ref = _ref(request, path)
    await ref.close()
    return Recorded(ref.path)


@delete(
    "/api/agents/{path:str}",
    status_code=202,
    tags=TAGS,
    summary="Delete an agent",
    operation_id="delete",
    responses=problems(404),
)
async def delete_agent(request: ApiRequest, path: AgentPath) -> Recorded:
    """As close, and erase what is stored of the agent and its descendants."""
    ref = _ref(request, path)
    await ref.delete()
    return Recorded(ref.path)


@post(
    "/api/agents/{path:str}/pin",
    status_code=202,
    tags=TAGS,
    summary="Keep an agent in memory",
    operation_id="pin",
    responses=problems(404, 410),
)
async def pin(request: ApiRequest, path: AgentPath) -> Recorded:
    """Do not evict the agent once it is in memory, until it is unpinned or the server ends."""
    ref = _ref(request, path)
    await ref.pin()
    return Recorded(ref.path)


@post(
    "/api/agents/{path:str}/unpin",
    status_code=202,
    tags=TAGS,
    summary="Let an agent leave memory",
    operation_id="unpin",
    responses=problems(404, 410),
)
async def unpin(request: ApiRequest, path: AgentPath) -> Recorded:
    """Let the agent be evicted again."""
    ref = _ref(request, path)
    await ref.unpin()
    return Recorded(ref.path)


HANDLERS: list[Any] = [
    spawn,
    list_agents,
    get_agent,
    get_state,
    explain,
    followup,
    send,
    interrupt,
    evict,
    close,
    delete_agent,
    pin,
    unpin,
]


def _ref(request: ApiRequest, segment: str) -> AsyncAgentRef:
    """The agent by its path; the call that is made of it says whether there is one."""
    return AsyncAgentRef(request.service.runtime, request.agent_path(segment))


def checked_key(key: str | None) -> str | None:
    """An Idempotency-Key as a run id."""
    if key is not None and not key.isprintable():
        raise Malformed("an Idempotency-Key has printable characters only")
    return key


def _discreet(error: RunIdTaken, access: Access) -> RunIdTaken:
    """The same, without what it says of an agent that is out of reach."""
    known = not error.path or access.reaches(error.path)
    return error if known else RunIdTaken(error.run_id, "another agent")
