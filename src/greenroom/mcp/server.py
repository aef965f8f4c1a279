"""The protocol: tools of `tools`, done by `SubAgents`, as an MCP server of the official SDK.

One server for all sessions. A session is a process on stdio, and over HTTP what the `Mcp-Session-Id`
header names. The protocol of 2026-07-28 has no sessions over HTTP, so it is served there only when all
clients share a tree; others are told to use an older one, which every client does by itself.
"""

import asyncio
import logging
import secrets
from importlib.metadata import version
from typing import Any

import mcp_types as types
import msgspec
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from ..actors.agent.kind import Kind
from ..actors.face.async_runtime import AsyncRuntime
from ..errors import AgentClosed, AgentNotFound, BacklogFull, GreenroomError, PathTaken, UnknownKind
from . import tools
from .subagents import SubAgents, close_tree
from .trees import Tree, Trees

log = logging.getLogger("greenroom")

SESSION_HEADER = "mcp-session-id"

INSTRUCTIONS = (
    "Sub-agents that work in the background. spawn_agent gives an agent a name and a task, wait_agent gets "
    "the result, followup_task gives it the next task. Agents keep their state between tasks until "
    "close_agent. At most {slots} work at a time; others wait their turn."
)

Context = ServerRequestContext[Any, Any]


class SubAgentServer:
    """The server for the clients of one runtime."""

    def __init__(self, runtime: AsyncRuntime, kinds: list[Kind], trees: Trees, *, slots: int) -> None:
        self._runtime, self._trees = runtime, trees
        self._process = secrets.token_hex(16)  # the session of who has this process for itself
        self._begun: set[str] = set()  # trees of sessions whose end is seen to
        self._ending: set[asyncio.Task[int]] = set()
        self._kinds = frozenset(kind.name for kind in kinds)
        self._tools = _listed(kinds)
        self.protocol: Server[Any] = Server(
            "greenroom",
            version=version("greenroom"),
            instructions=INSTRUCTIONS.format(slots=slots),
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )
        self.protocol.middleware.append(self._refuse_what_has_no_session)

    async def _list_tools(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        del context, params
        return types.ListToolsResult(tools=self._tools)

    async def _call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = tools.BY_NAME.get(params.name)
        if tool is None:
            raise MCPError(code=types.INVALID_PARAMS, message=f"there is no tool {params.name!r}")
        tree = self._tree_of(context)
        try:
            arguments = msgspec.convert(params.arguments or {}, tool.takes)
        except msgspec.ValidationError as error:
            return _failed(f"{params.name}: {_in_words(error)}")
        try:
            agents = SubAgents(self._runtime, tree, self._kinds)
            done = await agents.do(arguments, context.session.report_progress)
        except GreenroomError as error:
            return _failed(tell(error, tree))
        except (TypeError, ValueError) as error:  # of the runtime, about a value
            return _failed(tree.told(str(error)))
        structured = msgspec.to_builtins(done)
        text = msgspec.json.encode(done).decode()
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)], structured_content=structured
        )

    # Sessions

    async def _refuse_what_has_no_session(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Have clients over HTTP that could begin no session fall back to a protocol that has them."""
        modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
        if modern and ctx.request is not None and not self._trees.shared:
            raise MCPError(
                code=types.UNSUPPORTED_PROTOCOL_VERSION,
                message="each session has a tree of its own here, and this version of the protocol has no "
                "sessions over HTTP. Use an older one, or have the server started with --tree",
                data={
                    "supported": list(HANDSHAKE_PROTOCOL_VERSIONS),
                    "requested": ctx.protocol_version,
                },
            )
        return await call_next(ctx)

    def _tree_of(self, context: Context) -> Tree:
        """The tree of the session that asks; one that passes is closed when the session ends."""
        if context.request is None:
            return self._trees.of(self._process)
        session = context.request.headers.get(SESSION_HEADER, "")  # the SDK knows it, or there is none
        tree = self._trees.of(session)
        if tree.passing and tree.name not in self._begun:
            self._begun.add(tree.name)
            # not public yet, though it is where the SDK says that cleaning up belongs
            context.session._connection.exit_stack.callback(self._end, tree)
        return tree

    def _end(self, tree: Tree) -> None:
        """The session of `tree` is over. Its tree is closed aside: the SDK waits for 5 s only."""
        self._begun.discard(tree.name)
        ending = asyncio.create_task(close_tree(self._runtime, tree.path))
        self._ending.add(ending)
        ending.add_done_callback(self._ended)

    def _ended(self, ending: "asyncio.Task[int]") -> None:
        self._ending.discard(ending)
        error = None if ending.cancelled() else ending.exception()
        if error is not None:
            log.error("the tree of a session that is over could not be closed: %s", error)

    async def finish(self) -> None:
        """No session is left: have the trees closed that were theirs."""
        tree = self._trees.of(self._process)
        if tree.passing:
            await close_tree(self._runtime, tree.path)
        await asyncio.gather(*self._ending, return_exceptions=True)


def tell(error: GreenroomError, tree: Tree) -> str:
    """The error and what to do about it, in the words of the tools."""
    match error:
        case AgentNotFound():
            name = tree.name_of(error.path)
            return f"there is no agent {name!r}. list_agents shows what there is, spawn_agent makes one."
        case AgentClosed():
            return f"the agent {tree.name_of(error.path)!r} is closed. spawn_agent makes one of that name."
        case UnknownKind():
            return (
                f"there is no kind {error.kind!r} of agent here. The description of spawn_agent names them."
            )
        case PathTaken():
            name = tree.name_of(error.path)
            return (
                f"there is an agent {name!r} already. Use followup_task to give it a task, or another name."
            )
        case BacklogFull():
            return f"too much work waits already ({error.backlog:,}). Wait for some of it with wait_agent."
        case _:
            return tree.told(str(error))


def _in_words(error: msgspec.ValidationError) -> str:
    said = str(error)
    if "matching regex" not in said:  # there is one: that of names
        return said
    where = said.rpartition("`$")[2].strip("`.")
    return (
        f"{where} is not the name of an agent, such as reader or reader/helper: lower-case letters, "
        "digits, _ and -"
    )


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)


def _listed(kinds: list[Kind]) -> list[types.Tool]:
    listed = []
    for tool in tools.TOOLS:
        schema = (
            tools.spawn_schema(kinds) if tool.takes is tools.SpawnAgentArguments else tool.input_schema()
        )
        hints = types.ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.reads,
            destructive_hint=tool.destroys,
            idempotent_hint=tool.reads or tool.destroys,
            open_world_hint=False,
        )
        listed.append(
            types.Tool(
                name=tool.name,
                title=tool.title,
                description=tool.description,
                input_schema=schema,
                output_schema=tool.output_schema(),
                annotations=hints,
            )
        )
    return listed
