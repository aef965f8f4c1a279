"""One ACP agent under way, from the handshake to its end. All of the SDK is used here."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

import acp
import msgspec
from acp import schema

from ..actors.agent.threads import run_in_thread
from ..actors.agent.turn import Turn
from ..borders import is_a, left_behind, shown
from ..errors import ProcessFailed
from ..types import Seconds
from .child import ChildProcess
from .files import FileRefused, Folder
from .messages import LARGEST_ANSWER_BYTES, LastMessage
from .permissions import Option, PermissionAsked, Policy, Questions, choose, decide, may_write, new_id
from .telling import tell
from .wire import AcpWire

log = logging.getLogger("greenroom")
T = TypeVar("T")

LOGIN = -32000
"""The protocol's code for an agent that wants a login first."""

EXITING: Seconds = 1.0
"""How long after the end of its output a program's exit is waited for, to be told."""


class Client:
    """The requests that an agent may make of us. Its methods are called by the SDK."""

    def __init__(self, talk: "Conversation") -> None:
        self._talk = talk
        self._one_by_one = asyncio.Lock()

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        self._talk.updated(session_id, update)

    async def request_permission(
        self, session_id: str, tool_call: Any, options: list[Any], **_: Any
    ) -> schema.RequestPermissionResponse:
        chosen = await self._talk.permit(session_id, tool_call, options)
        if chosen is None:
            return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))
        outcome = schema.AllowedOutcome(outcome="selected", option_id=chosen)
        return schema.RequestPermissionResponse(outcome=outcome)

    async def read_text_file(
        self, path: str, line: int | None = None, limit: int | None = None, **_: Any
    ) -> schema.ReadTextFileResponse:
        text = await self._in_folder(lambda: self._talk.folder.read(path, line, limit))
        return schema.ReadTextFileResponse(content=text)

    async def write_text_file(self, path: str, content: str, **_: Any) -> schema.WriteTextFileResponse:
        if not may_write(self._talk.policy):
            raise acp.RequestError.invalid_params({"details": "this agent may not write files"})
        await self._in_folder(lambda: self._talk.folder.write(path, content))
        return schema.WriteTextFileResponse()

    async def _in_folder(self, call: Any) -> Any:
        """One file at a time, and none before the one before it is with the agent: they are large."""
        try:
            async with self._one_by_one:
                await self._talk.child.written()
                return await run_in_thread(call, f"files of {self._talk.child.path}")
        except (FileRefused, ValueError) as error:  # of a path that cannot be encoded
            raise acp.RequestError.invalid_params({"details": str(error)}) from None


class Conversation:
    """A program that speaks the protocol, and what is known of it."""

    def __init__(self, child: ChildProcess, program: str, policy: Policy) -> None:
        self.child, self.policy, self.mask = child, policy, child.mask
        self.folder = Folder(child.folder)
        self._program = program
        self._wire = AcpWire(child)
        self._agent = acp.connect_to_agent(Client(self), self._wire)  # type: ignore[arg-type]
        self._can: Any = None  # the agent's capabilities
        self._logins: list[str] = []
        self._session: str | None = None
        self._turn: Turn | None = None
        self._last = LastMessage()
        self._kinds: dict[str, tuple[str, str]] = {}  # of tool calls: kind and title
        self._questions = Questions()

    @property
    def alive(self) -> bool:
        return self.child.alive and not self._wire.over

    async def shake_hands(self) -> None:
        """Raises `ProcessFailed`."""
        files = schema.FileSystemCapabilities(read_text_file=True, write_text_file=may_write(self.policy))
        said = await self._asked(
            self._agent.initialize(
                protocol_version=acp.PROTOCOL_VERSION,
                client_capabilities=schema.ClientCapabilities(fs=files, terminal=False),
                client_info=schema.Implementation(name="greenroom", title="greenroom", version="0.1.0"),
            ),
            "during the handshake",
        )
        if said.protocol_version != acp.PROTOCOL_VERSION:
            theirs, ours = said.protocol_version, acp.PROTOCOL_VERSION
            raise self._failed(f"speaks version {theirs} of the protocol, and {ours} is needed")
        self._can = said.agent_capabilities or schema.AgentCapabilities()
        self._logins = [method.name for method in said.auth_methods or ()]

    async def turn(self, turn: Turn, prompt: str, patience: Seconds) -> dict[str, Any]:
        """One prompt turn, in the agent's own session."""
        self._turn = turn
        try:
            try:
                session = await self._in_session(turn)
            except asyncio.CancelledError:  # what it is at now, nobody knows
                await self.child.end()
                raise
            turn.state = {"session": session}
            self._last = LastMessage()
            self._kinds.clear()
            block = schema.TextContentBlock(type="text", text=prompt)
            asking = asyncio.ensure_future(
                self._asked(self._agent.prompt(session_id=session, prompt=[block]), "during its turn")
            )
            try:
                answer = await asyncio.shield(asking)
            except asyncio.CancelledError:
                await self._cancel(asking, session, patience)
                raise
            if self._last.size > LARGEST_ANSWER_BYTES:
                most = f"{LARGEST_ANSWER_BYTES:,} are allowed"
                said = f"said a message of {self._last.size:,} characters, {most}"
                raise self._failed(said)
            return {"message": self._last.text, "stop_reason": answer.stop_reason}
        finally:
            self._turn = None

    async def _cancel(self, asking: "asyncio.Future[Any]", session: str, patience: Seconds) -> None:
        """Have the agent end its turn; one that does not is ended itself."""
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen
        self._questions.call_off()
        try:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(patience):
                    await self._agent.cancel(session_id=session)
                    await asyncio.wait({asking})
            if not asking.done():
                await self.child.end()
        finally:
            if not asking.done():
                asking.cancel()
                self.child.abandon()

    async def _in_session(self, turn: Turn) -> str:
        """The agent's session: the one at hand, else the one from before, else a new one."""
        if self._session is not None:
            return self._session
        known: str | None = turn.state.get("session")
        if known is not None:
            lost = await self._load(known)
            if lost is None:
                tell(turn, "session", {"session": known, "is": "loaded"}, self.mask)
                self._session = known
                return self._session
            tell(turn, "session", {"session": known, "is": "lost", "why": lost}, self.mask)
            log.warning("%s begins anew, without what was said before: %s", turn.path, self.mask.text(lost))
        made = await self._asked(
            self._agent.new_session(cwd=self.folder.root, mcp_servers=[]), "while it made a session"
        )
        self._session = made.session_id
        return self._session

    async def _load(self, session: str) -> str | None:
        """Load a session of before; why it could not be."""
        turn, self._turn = self._turn, None  # what was said before is said again, and is no progress
        try:
            loading: Awaitable[Any]
            if self._can.load_session:
                loading = self._agent.load_session(cwd=self.folder.root, session_id=session, mcp_servers=[])
            elif getattr(self._can.session_capabilities, "resume", None) is not None:
                loading = self._agent.resume_session(
                    cwd=self.folder.root, session_id=session, mcp_servers=[]
                )
            else:
                return "this agent cannot load sessions"
            await self._asked(loading, "while it loaded its session")
        except ProcessFailed as error:
            if not self.alive:
                raise
            return str(error)
        finally:
            self._turn = turn
        return None

    async def close(self, patience: Seconds) -> None:
        """End it: at first by the end of its input."""
        self._questions.call_off()
        with contextlib.suppress(Exception):
            await self._agent.close()
        if self.child.alive:
            self.child.close_stdin()
            await asyncio.wait({self.child.started.exited}, timeout=patience)
        await self.child.end()

    # News and requests

    def updated(self, session: str, update: Any) -> None:
        """Progress of the turn under way."""
        kind = update.session_update
        call = getattr(update, "tool_call_id", None)
        if call is not None:
            of_kind, title = self._kinds.get(call, ("other", ""))
            self._kinds[call] = (update.kind or of_kind, update.title or title)
        turn = self._turn
        if turn is None or (session != self._session and self._session is not None):
            return
        self._last.update(kind, getattr(update, "message_id", None), _text(update))
        data = update.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"session_update"})
        tell(turn, kind, data, self.mask)

    async def permit(self, session: str, tool_call: Any, options: list[Any]) -> str | None:
        """The option that the kind's policy, or somebody outside, has chosen; None calls it off."""
        turn = self._turn
        if turn is None or turn.interrupted or turn.suspended or session != self._session:
            return None
        kind, title = self._kinds.get(tool_call.tool_call_id, ("other", ""))
        call = tool_call.model_dump(mode="json", by_alias=True, exclude_none=True)
        asked = PermissionAsked(
            new_id(),
            turn.path,
            turn.run_id,
            tool_call.title or title,
            tool_call.kind or kind,
            tuple(Option(option.option_id, option.name, option.kind) for option in options),
            call,
        )
        if self.policy != "ask":
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            try:
                chosen = await decide(self.policy, asked)
            except BaseException as error:  # of the policy, which is asked in a task of the connection's
                called_off = is_a(error, asyncio.CancelledError) and task and task.cancelling()
                if called_off or left_behind(error, loop):
                    raise
                log.error("permissions of %s: %s, so it may not", turn.path, self.mask.text(shown(error)))
                chosen = choose(asked.options, False)
            told = {"title": asked.title, "kind": asked.kind, "chosen": chosen}
            tell(turn, "permission.decided", told, self.mask)
            return chosen
        question = msgspec.to_builtins(asked)
        tell(turn, "permission", question, self.mask)
        try:
            async with turn.paused():
                return await self._questions.answered(asked)
        except asyncio.CancelledError:
            if turn.interrupted or turn.suspended:
                return None  # the agent is told so as well
            raise

    async def _asked(self, answer: Awaitable[T], when: str) -> T:
        """Its answer; what goes wrong as a `ProcessFailed` that says when."""
        try:
            return await answer
        except acp.RequestError as error:
            if error.code == LOGIN:
                ways = ", ".join(self._logins) or "it does not say how"
                raise self._failed(
                    f"asks for a login ({error}; {ways}). Log in with the program itself, as this user, or "
                    "give it a key by env="
                ) from None
            details = f" {error.data}" if error.data else ""
            raise self._failed(f"answered with error {error.code} {when}: {error}{details}") from None
        except (ConnectionError, BrokenPipeError):
            if self._wire.problem:
                raise self._failed(f"broke the protocol {when}: {self._wire.problem}") from None
            await asyncio.wait({self.child.started.exited}, timeout=EXITING)
            if self.child.alive:
                raise self._failed(f"closed its input or output {when}") from None
            raise await self.child.failure(f"{self._program!r} ended {when}") from None
        except ValueError as error:  # of pydantic: an answer of another shape
            raise self._failed(f"gave an answer {when} that is none of the protocol's: {error}") from None

    def _failed(self, problem: str) -> ProcessFailed:
        return ProcessFailed(self.child.path, self.mask.text(f"{self._program!r} {problem}"))


def _text(update: Any) -> str:
    content = getattr(update, "content", None)
    return content.text if isinstance(content, schema.TextContentBlock) else ""
