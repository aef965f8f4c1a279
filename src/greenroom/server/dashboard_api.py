"""Looking at many agents at once, as a screen shows them: a branch of the tree, rows, who is at work."""

from typing import Annotated, Any

from litestar import get
from litestar.params import Parameter, QueryParameter
from msgspec import Struct

from .. import AgentNotFound, AsyncRuntime, Explanation
from .children import ChildList
from .openapi import PROBLEM_RESPONSES
from .problems import Malformed
from .requests import ApiRequest
from .views import AgentListItem

MOST_CHILDREN = 500
MOST_ROWS = 200
MOST_AT_WORK = 100
FEWEST, MOST = 8, 1_000
"""Rows that are looked at in one go, by how many of the last ones were of use."""

AT_WORK = ("running", "waiting", "interrupting", "queued", "starting")
"""The statuses of agents that have something to do, in the order in which they are told."""


class ChildView(Struct, frozen=True):
    """A path right below another: the agent that stands there, if any, and whether others stand below."""

    path: str
    agent: AgentListItem | None
    below: bool


class BranchPage(Struct, frozen=True):
    """Children by path. `next`: what to give as `after` for more. `last_event`: what they are as of.

    One that has descendants may be told again on a later page.
    """

    children: list[ChildView]
    next: str | None
    last_event: int


class Rows(Struct, frozen=True):
    """Agents that were asked for and are there."""

    agents: list[AgentListItem]


class AtWork(Struct, frozen=True):
    """An agent that has something to do, and what it waits for."""

    agent: AgentListItem
    explanation: Explanation


class Now(Struct, frozen=True):
    """The agents that have something to do: running first. `more`: there are more of them than are told."""

    at_work: list[AtWork]
    more: bool


@get(
    "/api/tree",
    tags=["looking"],
    summary="List the children of a path",
    operation_id="children",
    responses=PROBLEM_RESPONSES,
)
async def children(
    request: ApiRequest,
    under: Annotated[str, Parameter(description="Whose children; `/` are the trees")] = "/",
    after: Annotated[str | None, Parameter(description="The `next` of the page before")] = None,
    limit: Annotated[int, Parameter(ge=1, le=MOST_CHILDREN)] = 100,
) -> BranchPage:
    """The children of a path, a page at a time, however many agents are below them."""
    as_of = request.service.streams.feed.last
    access = request.access
    if under == "/" and access.tree is not None:
        tree = f"/{access.tree}"  # the one tree that this token opens
        known = await request.service.runtime.list(tree, limit=2)
        agent = AgentListItem.of(known[0]) if known and known[0].path == tree else None
        below = any(info.path != tree for info in known)
        return BranchPage([ChildView(tree, agent, below)] if known else [], None, as_of)
    branch = ChildList(access.under(under), after, limit)
    await _fill(branch, request.service.runtime, under)
    found = [
        ChildView(child.path, None if child.agent is None else AgentListItem.of(child.agent), child.below)
        for child in branch.children.values()
    ]
    return BranchPage(found, branch.cursor if branch.full else None, as_of)


async def _fill(branch: ChildList, runtime: AsyncRuntime, under: str) -> None:
    """Read on until there are as many as wanted, or no more."""
    size = 64
    while not branch.full:
        page = await runtime.list(under, limit=size, after=branch.cursor)
        used = branch.add(page)
        if len(page) < size:
            return
        size = min(MOST, size * 2) if used * 2 > len(page) else max(FEWEST, size // 2)
    for child in branch.unsure():
        child.below = bool(await runtime.list(child.path, limit=1, after=child.path))


@get(
    "/api/rows",
    tags=["looking"],
    summary="Look at some agents",
    operation_id="rows",
    responses=PROBLEM_RESPONSES,
)
async def rows(
    request: ApiRequest,
    paths: Annotated[list[str], QueryParameter(name="path", description="The agents' paths. Repeatable.")],
) -> Rows:
    """Agents as they are now, in the order asked for; those that there are not are left out."""
    if len(paths) > MOST_ROWS:
        raise Malformed(f"at most {MOST_ROWS} agents are told at a time, not {len(paths)}")
    runtime = request.service.runtime
    found = []
    for path in [request.access.agent(path) for path in paths]:
        try:
            found.append(AgentListItem.of(await (await runtime.agent(path)).info()))
        except AgentNotFound:
            continue
    return Rows(found)


@get(
    "/api/now",
    tags=["looking"],
    summary="Who is at work, and who waits for what",
    operation_id="now",
    responses=PROBLEM_RESPONSES,
)
async def now(
    request: ApiRequest,
    under: Annotated[str, Parameter(description="Agents at or below this path")] = "/",
    limit: Annotated[int, Parameter(ge=1, le=MOST_AT_WORK)] = 50,
) -> Now:
    """The agents that have something to do, each with its explanation."""
    under = request.access.under(under)
    runtime = request.service.runtime
    found: list[AtWork] = []
    for status in AT_WORK:
        for info in await runtime.list(under, status=status, limit=limit + 1 - len(found)):  # type: ignore[arg-type]
            try:
                explanation = await (await runtime.agent(info.path)).explain()
                found.append(AtWork(AgentListItem.of(info), request.access.seen(explanation)))
            except AgentNotFound:
                continue
        if len(found) > limit:
            break
    return Now(found[:limit], len(found) > limit)


HANDLERS: list[Any] = [children, rows, now]
