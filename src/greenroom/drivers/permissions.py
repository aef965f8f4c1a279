"""The permissions of an agent: its kind's policy, and questions that somebody outside answers.

A policy is

    "deny"              nothing that it has to ask for
    "allow"             everything
    {"read", "edit"}    tool calls of these kinds, and no others
    "ask"               whoever follows the events: a "permission" event has the question and its id, and
                        `answer(id, …)` answers it; the turn holds no slot meanwhile
    a function          `(PermissionAsked) -> bool or the id of an option`, `async` or not
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable
from inspect import isawaitable
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from ..borders import shown
from ..errors import GreenroomError

Choice: TypeAlias = bool | str
Policy: TypeAlias = (
    Literal["deny", "allow", "ask"]
    | Collection[str]
    | Callable[["PermissionAsked"], Choice | Awaitable[Choice]]
)

YES = ("allow_once", "allow_always")
NO = ("reject_once", "reject_always")


class Option(Struct, frozen=True):
    """One of the answers that the agent offers; `kind` is one of `YES` or `NO`."""

    id: str
    name: str
    kind: str


class PermissionAsked(Struct, frozen=True):
    """A question of an agent. `kind` is that of its tool call: "read", "edit", "execute", …"""

    id: str
    path: str
    run_id: str
    title: str
    kind: str
    options: tuple[Option, ...]
    tool_call: dict[str, Any]  # as the protocol has it


class PermissionNotAsked(GreenroomError, LookupError):
    """There is no such question, or it was answered, or its turn is over."""

    def __init__(self, permission_id: str) -> None:
        super().__init__(permission_id)
        self.permission_id = permission_id

    def __str__(self) -> str:
        return f"no turn waits for an answer to {self.permission_id!r}. See its run's last events."


def checked_policy(policy: object) -> Policy:
    """Raise unless it is one."""
    if policy in ("deny", "allow", "ask") or callable(policy):
        return policy
    if isinstance(policy, Collection) and not isinstance(policy, str | bytes):
        if all(isinstance(kind, str) for kind in policy):
            return frozenset(policy)
        raise TypeError(f"permissions= has the kinds of tool calls as str, unlike {shown(policy)}")
    raise ValueError(
        f'permissions= is "deny", "allow", "ask", kinds of tool calls, or a function, not {shown(policy)}'
    )


def may_write(policy: Policy) -> bool:
    """Whether the agent may have files written for it; under "ask" it asks before it wants to."""
    return policy != "deny" and (not isinstance(policy, frozenset) or "edit" in policy)


def choose(options: Iterable[Option], choice: Choice) -> str | None:
    """The option that means `choice`: the one for this time before the one for ever; None if there is none.

    Raises `ValueError` for the id of an option that there is not.
    """
    known = list(options)
    if isinstance(choice, str):
        if choice not in {option.id for option in known}:
            raise ValueError(f"{choice!r} is none of the options {[option.id for option in known]}")
        return choice
    for kind in YES if choice else NO:
        for option in known:
            if option.kind == kind:
                return option.id
    return None


async def decide(policy: Policy, asked: PermissionAsked) -> str | None:
    """The option that the policy chooses, None to call it off. Not for "ask"."""
    if callable(policy):
        choice = policy(asked)
        return choose(asked.options, await choice if isawaitable(choice) else choice)
    return choose(asked.options, policy == "allow" or asked.kind in policy)


class Questions:
    """The open questions of one session."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Future[str | None]] = {}

    async def answered(self, asked: PermissionAsked) -> str | None:
        """Wait until somebody answers; None if it is called off."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str | None] = loop.create_future()
        self._open[asked.id] = future
        _asked[asked.id] = (loop, future, asked)
        try:
            return await future
        finally:
            del self._open[asked.id], _asked[asked.id]

    def call_off(self) -> None:
        """Nobody needs to answer any more."""
        for future in self._open.values():
            if not future.done():
                future.set_result(None)


_asked: dict[str, tuple[asyncio.AbstractEventLoop, "asyncio.Future[str | None]", PermissionAsked]] = {}
"""All questions of this process, by ids that nobody can guess."""


def new_id() -> str:
    return f"permission-{secrets.token_hex(8)}"


def open_questions(under: str = "/") -> list[PermissionAsked]:
    """The questions that wait for an answer, of agents at or below `under`."""
    asked = [question for _, _, question in list(_asked.values())]
    return [one for one in asked if under == "/" or one.path == under or one.path.startswith(under + "/")]


def answer(permission_id: str, choice: Choice) -> None:
    """Answer a question of an agent whose kind says `permissions="ask"`, from any thread of its process.

    `choice` is True, False, or the id of one of the options. Raises `PermissionNotAsked` if nobody waits
    for it (any more), `ValueError` if the agent offers no such answer.
    """
    found = _asked.get(permission_id)
    if found is None:
        raise PermissionNotAsked(permission_id)
    loop, future, asked = found
    chosen = choose(asked.options, choice)
    if chosen is None and choice:
        raise ValueError(f"{asked.path} offers no option that allows it: {list(asked.options)}")

    def set_it() -> None:
        if not future.done():
            future.set_result(chosen)

    loop.call_soon_threadsafe(set_it)
