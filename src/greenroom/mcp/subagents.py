"""The work of the tools: calls of a client, as calls of the runtime, within the client's tree.

Owns no agent: all of it is in the runtime, which goes on whoever is connected. Every call ends within a
bound; only `wait` takes longer than the runtime needs to accept, and that has a deadline.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, TypeAlias

from msgspec import UNSET

from .. import UNSET as NOT_GIVEN
from ..actors.face.async_handles import AsyncAgentRef
from ..actors.face.async_runtime import AsyncRuntime
from ..actors.models import AgentInfo, Event, Outcome
from ..cli.answers import in_json
from ..cli.text import printable
from ..errors import AgentClosed, AgentNotFound, GreenroomError, RuntimeClosing, UnknownKind
from ..paths import MAX_SEGMENTS
from . import tools
from .trees import SESSION, Tree, Trees

log = logging.getLogger("greenroom")

SEARCH_SECONDS = 2.0
"""Seconds after which agents are looked at without an event as the reason."""

BETWEEN = 0.2
"""Seconds between two words about progress, at least."""

CLOSED_AT_ONCE = 50
"""Agents that are asked about, or closed, at a time."""

END_EVENT_TYPES = frozenset(
    {"run.completed", "run.failed", "run.interrupted", "agent.closed", "agent.deleted"}
)

LAST_PATH = f"/{'z' * 64}" * (MAX_SEGMENTS - 1)
"""No path of a tree comes after the tree's own with this behind it."""

Tell: TypeAlias = Callable[[float, float, str], Awaitable[None]]
"""Told how far it is, of how much, and what there is to say."""


class TooMany(GreenroomError):
    """More agents than one answer can have."""


class SubAgents:
    """The agents of one tree, for one client."""

    def __init__(self, runtime: AsyncRuntime, tree: Tree, kinds: frozenset[str]) -> None:
        self._runtime, self._tree, self._kinds = runtime, tree, kinds

    async def do(self, arguments: tools.Arguments, tell: Tell) -> Any:
        """Do what a tool is for. Raises `GreenroomError`."""
        match arguments:
            case tools.SpawnAgentArguments():
                return await self._spawn(arguments)
            case tools.SendMessageArguments(name, message):
                await (await self._agent(name)).send(message)
                return tools.SentResult(name, accepted=True)
            case tools.FollowupTaskArguments(name, given, run_id):
                agent = await self._agent(name)
                run = await agent.followup(given, run_id=self._tree.run_id_of(run_id))
                return tools.StartedResult(name, run_id or run.run_id)
            case tools.WaitAgentArguments():
                return await self._wait(arguments, tell)
            case tools.InterruptAgentArguments(name, cascade):
                agent = await self._agent(name)
                return tools.InterruptedResult(name, await agent.interrupt(cascade=cascade))
            case tools.ListAgentsArguments():
                return await self._list(arguments)
            case tools.CloseAgentArguments(name):
                agent = await self._agent(name)
                before = (await agent.info()).status
                await agent.close()
                return tools.ClosedResult(name, before)
        raise TypeError(arguments)

    async def _agent(self, name: str) -> AsyncAgentRef:
        return await self._runtime.agent(self._tree.path_of(name))

    async def _spawn(self, ask: tools.SpawnAgentArguments) -> tools.SpawnedResult:
        first = NOT_GIVEN if ask.input is UNSET else ask.input
        path = self._tree.path_of(ask.name)
        if ask.kind not in self._kinds:  # others may be registered, for what agents spawn themselves
            raise UnknownKind(ask.kind, path)
        agent = await self._runtime.spawn(ask.kind, path, config=ask.config, input=first)
        info = await agent.info()
        return tools.SpawnedResult(ask.name, ask.kind, info.status, agent.run.run_id if agent.run else None)

    async def _list(self, ask: tools.ListAgentsArguments) -> tools.ListedPage:
        under = self._tree.path if ask.under is None else self._tree.path_of(ask.under)
        after = None if ask.after is None else self._tree.path_of(ask.after)
        infos = await self._runtime.list(under, status=ask.status, after=after, limit=ask.limit + 1)
        listed = [self._listed(info) for info in infos[: ask.limit]]
        return tools.ListedPage(listed, listed[-1].agent if len(infos) > ask.limit else None)

    def _listed(self, info: AgentInfo) -> tools.ListedAgent:
        last = info.last_outcome.status if info.last_outcome else None
        name = self._tree.name_of(info.path)
        return tools.ListedAgent(name, info.kind, info.status, info.queued_runs, info.inbox, last)

    # Waiting

    async def _wait(self, ask: tools.WaitAgentArguments, tell: Tell) -> tools.WaitedResult:
        begun = monotonic()
        deadline = begun + ask.timeout_seconds
        async with self._news() as news:  # before the first look: nothing happens unseen in between
            paths = await self._whom(ask)
            infos: dict[str, AgentInfo] = {}
            told_at = 0.0
            while True:
                left = [path for path in paths if path not in infos or not at_rest(infos[path])]
                infos |= await self._look(left)
                left = [path for path in left if not at_rest(infos[path])]
                done = not left or (ask.until == "any" and len(left) < len(paths))
                look_at = monotonic() + SEARCH_SECONDS
                while not done and (now := monotonic()) < min(look_at, deadline):
                    if now >= told_at + BETWEEN:
                        said = self._said(len(paths) - len(left), len(paths), news.newest)
                        await tell(now - begun, ask.timeout_seconds, said)
                        told_at = now
                    ended = await news.wait(min(look_at, deadline) - now)
                    if ended & set(left):
                        break
                if done or monotonic() >= deadline:
                    reports = [self._report(infos[path]) for path in paths]
                    return tools.WaitedResult(timed_out=not done, agents=reports)

    async def _whom(self, ask: tools.WaitAgentArguments) -> list[str]:
        """Their paths, each once; without names, of all. One that is at rest is no news if any will do."""
        if ask.agents is not None:
            return list(dict.fromkeys(map(self._tree.path_of, ask.agents)))
        infos = await self._runtime.list(self._tree.path, limit=tools.MOST_LISTED + 1)
        if len(infos) > tools.MOST_LISTED:
            raise TooMany(f"there are more than {tools.MOST_LISTED:,} agents: name those to wait for.")
        busy = [info.path for info in infos if not at_rest(info)]
        return busy if ask.until == "any" and busy else [info.path for info in infos]

    async def _look(self, paths: list[str]) -> dict[str, AgentInfo]:
        found: dict[str, AgentInfo] = {}
        for begin in range(0, len(paths), CLOSED_AT_ONCE):
            some = paths[begin : begin + CLOSED_AT_ONCE]
            agents = await asyncio.gather(*map(self._runtime.agent, some))
            infos = await asyncio.gather(*(agent.info() for agent in agents))
            found |= zip(some, infos, strict=True)
        return found

    @asynccontextmanager
    async def _news(self) -> AsyncIterator["News"]:
        news = News(self._runtime, self._tree.path)
        try:
            yield news
        finally:
            await news.close()

    def _said(self, done: int, of: int, newest: Event | None) -> str:
        said = f"{done} of {of} agents at rest"
        if newest is None:
            return said
        data = newest.data if newest.type == "run.progress" else {}
        about = "".join(f" {name}={value}" for name, value in data.items())
        text = f"{said}; {self._tree.name_of(newest.path)}: {newest.type}{about}"
        return printable(text[:300])

    def _report(self, info: AgentInfo) -> tools.AgentReport:
        last = None if info.last_outcome is None else _last(info.last_outcome)
        name = self._tree.name_of(info.path)
        return tools.AgentReport(name, info.status, info.queued_runs, info.inbox, info.error, last)


class News:
    """The events of a tree from now on, read by a task, so that a wait for the next one can be given up."""

    def __init__(self, runtime: AsyncRuntime, under: str) -> None:
        self.newest: Event | None = None
        self._ended: set[str] = set()
        self._came = asyncio.Event()
        self._stream = runtime.events(under)
        self._task = asyncio.create_task(self._follow())
        self._task.add_done_callback(lambda _: self._came.set())

    async def _follow(self) -> None:
        async for event in self._stream:
            self.newest = event
            if event.type in END_EVENT_TYPES:
                self._ended.add(event.path)
            self._came.set()

    async def wait(self, seconds: float) -> set[str]:
        """Wait for news, or so long; the paths at which a run or an agent has ended meanwhile.

        Raises why no news will come any more.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._came.wait()
        except TimeoutError:
            return set()
        if self._task.done():
            await self._task
            raise RuntimeClosing  # the events are over
        self._came.clear()
        ended, self._ended = self._ended, set()
        return ended

    async def close(self) -> None:
        """Read no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def at_rest(info: AgentInfo) -> bool:
    """Whether the agent has no open run: none under way, none waiting for a turn or for other runs."""
    return info.queued_runs == 0 and info.status not in ("running", "waiting", "interrupting")


def _last(outcome: Outcome) -> tools.LastRunResult:
    result, described = in_json(outcome.result, "/result")
    return tools.LastRunResult(
        outcome.run_id, outcome.status, result, described, outcome.error, outcome.error_type
    )


# Trees that end


async def close_tree(runtime: AsyncRuntime, tree: str) -> int:
    """Close all agents of a tree; how many had to be closed by themselves."""
    count = 0
    while infos := await runtime.list(tree, limit=tools.MOST_LISTED):
        tops: list[str] = []
        for info in infos:
            if not tops or not info.path.startswith(tops[-1] + "/"):
                tops.append(info.path)
        for begin in range(0, len(tops), CLOSED_AT_ONCE):
            await asyncio.gather(*(_close(runtime, path) for path in tops[begin : begin + CLOSED_AT_ONCE]))
        count += len(tops)
    return count


async def _close(runtime: AsyncRuntime, path: str) -> None:
    with suppress(AgentNotFound, AgentClosed):  # it ended with one above it
        await (await runtime.agent(path)).close()


async def close_orphans(runtime: AsyncRuntime, trees: Trees) -> None:
    """Close the trees of sessions that did not live to do it: nobody can reach them any more."""
    after: str | None = f"/{SESSION.rstrip('-')}"
    closed = 0
    while after is not None:
        page = await runtime.list("/", after=after, limit=1)
        after = None
        if page and page[0].path.startswith(f"/{SESSION}"):
            name = page[0].path.split("/")[1]
            if trees.made(name):
                await close_tree(runtime, f"/{name}")
                closed += 1
            after = f"/{name}{LAST_PATH}"
    if closed:
        log.warning("%s trees of sessions that were cut off were closed", f"{closed:,}")
