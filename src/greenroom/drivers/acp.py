"""Agents that speak the Agent Client Protocol: a program for each session, a prompt turn for each run."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from ..actors.agent.kind import agent
from ..actors.agent.turn import Turn
from ..actors.models import AgentInfo
from ..errors import ProcessFailed
from ..seconds import checked_seconds
from ..types import Seconds
from .child import ChildProcess, NoPermit, ProcessClient, link
from .command import start
from .environment import Cwd, Env, Limits, Setting, setting
from .kinds import checked_again
from .permissions import Policy, checked_policy
from .prompt import Prompt, checked_prompt, prompt_of

try:
    from .conversation import Conversation
except ModuleNotFoundError as error:  # pragma: no cover
    raise ImportError("acp_agent needs the protocol's SDK: pip install 'greenroom[acp]'") from error

CANCELLING: Seconds = 2.0
"""How long an agent has, after the protocol's cancel, to end its turn; then its program is ended."""

LEAVING: Seconds = 0.5
"""How long its program has to end by itself at the end of its input."""


class AcpAgent:
    """A session of an ACP kind: it holds a process while it has a place for one."""

    setting: Setting
    kind_name: str
    policy: Any
    prompt: Prompt
    handshake: Seconds

    def __init__(self) -> None:
        self.info: AgentInfo
        self.link: ProcessClient
        self.talk: Conversation | None = None
        self.working = False
        self.watching: asyncio.Task[None] | None = None
        self.leaving: asyncio.Task[None] | None = None

    async def open(self, info: AgentInfo) -> None:
        """Start the program and shake hands. Without a place for it, its first run does that."""
        self.info, self.link = info, link()
        with contextlib.suppress(NoPermit):
            child = await ChildProcess.start(self.link, info, self.kind_name, self.setting, wait=False)
            await self._begin(child)
            self._rest(idle=True)

    async def _begin(self, child: ChildProcess) -> None:
        self.talk = Conversation(child, self.setting.argv[0], type(self).policy)
        self.watching = asyncio.ensure_future(self._watch(child))
        await self.talk.shake_hands()

    async def run(self, turn: Turn) -> Any:
        """One prompt turn."""
        prompt = prompt_of(turn, type(self).prompt)
        self.working = True
        try:
            talk = await self._ready(turn)
            self._rest(idle=False)
            return await talk.turn(turn, prompt, CANCELLING)
        finally:
            self.working = False
            if self.talk is not None and not self.talk.alive:
                await self._leave()
            else:
                self._rest(idle=True)

    async def _ready(self, turn: Turn) -> Conversation:
        """The conversation; a program that has ended, or gave its place up, is started again."""
        if self.talk is not None and self.talk.alive:
            return self.talk
        await self._leave()
        child = await start(self.link, turn, self.info, self.kind_name, self.setting)
        try:
            async with asyncio.timeout(self.handshake):
                await self._begin(child)
        except BaseException as error:
            await self._leave()
            if isinstance(error, TimeoutError):
                problem = f"{self.setting.argv[0]!r} did not answer within {self.handshake:g} s"
                raise ProcessFailed(self.info.path, problem) from None
            raise
        assert self.talk is not None
        return self.talk

    def _rest(self, *, idle: bool) -> None:
        if self.talk is not None and self.talk.alive:
            self.talk.child.started.rest(idle=idle)

    async def _watch(self, child: ChildProcess) -> None:
        """Give the place up when another agent of the kind wants it and nothing is to be done here."""
        wanted = child.started.wanted
        while True:
            await wanted.wait()
            if not self.working and self.talk is not None and self.talk.child is child:
                self.watching = None
                await self._leave()
                return
            wanted.clear()  # at the end of the run it is said anew that there is nothing to do

    async def _leave(self) -> None:
        """End the program, and wait for its end also if somebody else ends it."""
        talk, self.talk = self.talk, None
        if self.watching is not None:
            self.watching.cancel()
            self.watching = None
        if talk is not None:
            self.leaving = asyncio.ensure_future(talk.close(LEAVING))
        if self.leaving is not None:
            await asyncio.shield(self.leaving)

    async def close(self) -> None:
        """End the program with all that it started."""
        await self._leave()


def acp_agent(
    command: Iterable[str],
    *,
    name: str,
    cwd: Cwd = None,
    env: Env = None,
    permissions: Policy = "deny",
    prompt: Prompt = None,
    limits: Limits | None = None,
    open_timeout: float = 60.0,
    turn_timeout: float | None = None,
    attempts: int = 3,
    version: int = 1,
) -> Any:
    """Make a kind of an agent that speaks the Agent Client Protocol on its standard input and output.

    Args:
        command: the program and its arguments. It is searched for in the environment's PATH.
        name: what the kind is called in the store.
        cwd: the folder that it works in, or a function `(info) -> folder`; the runtime's own if None. Files
            are read and written for it inside this folder alone.
        env: its environment, or a function `(info) -> env`; see `command_agent`.
        permissions: what it may do: "deny", "allow", "ask", kinds of tool calls, or a function; see
            `greenroom.drivers.permissions`.
        prompt: `(turn) -> str`; see `command_agent`.
        limits: how many processes there are at a time, and what each may use. An agent without a place has
            its program started when it has a run, and one that has nothing to do gives its place up.
        open_timeout: seconds for starting and the handshake.
        turn_timeout, attempts, version: see `greenroom.agent`.

    A run is one prompt turn: its updates are `run.progress` events named as in the protocol, its result
    is `{"message": …, "stop_reason": …}` with the agent's last message. Interrupted, the agent is told to
    cancel and has 2 s to end its turn; then its program is terminated, and killed 2 s later. The agent's
    state is `{"session": …}`: after an eviction or a restart the session is loaded again if the agent can
    do that; a "session" event says if it cannot, and a new one begins.
    Raises `TypeError`, `ValueError`, `KindTaken`.
    """
    made = setting(command, cwd, env, limits)
    checked_prompt(prompt)
    policy = checked_policy(permissions)
    body = {
        "setting": made,
        "kind_name": name,
        "policy": staticmethod(policy) if callable(policy) else policy,
        "prompt": staticmethod(prompt) if prompt else None,
        "handshake": checked_seconds("open_timeout", open_timeout, above=True),
    }
    checked_again(name, version, body)
    kind = type("AcpAgent", (AcpAgent,), {**body, "__doc__": f"The ACP agent {made.argv[0]}."})
    register = agent(
        name=name,
        version=version,
        codec="json",
        open_timeout=open_timeout,
        turn_timeout=turn_timeout,
        attempts=attempts,
    )
    return register(kind)
