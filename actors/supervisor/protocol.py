"""The supervisor's manual: how a runtime comes up, goes down, and fails."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ...errors import GreenroomError
from ...types import Address, Durability, RequestId, Role, Seconds, Timestamp


class StartRuntime(Struct, frozen=True):
    """Create the actors, open the store. Answered by `RuntimeStarted` or `RuntimeRefused`."""

    request: RequestId
    reply_to: Address
    store: str
    slots: int
    residents: int
    backlog: int
    durability: Durability
    is_registered: Callable[[str], bool]
    attempts_of: Callable[[str], int | None]
    clock: Callable[[], Timestamp]
    uptime: Callable[[], Seconds]
    store_options: dict[str, Any] = {}
    reader_opener: Callable[..., Any] | None = None


class CloseRuntime(Struct, frozen=True):
    """Drain, cut off, unload, write, close. Answered by `RuntimeClosed`, within the bounds' sum.

    Turns that the drain time does not suffice for begin again with the next runtime on the store, or end
    as interrupted (`interrupt`).
    """

    request: RequestId
    reply_to: Address
    drain: Seconds
    interrupt: bool = False


class RuntimeStarted(Struct, frozen=True):
    request: RequestId
    roles: dict[Role, Address]


class RuntimeRefused(Struct, frozen=True):
    request: RequestId
    error: GreenroomError


class RuntimeClosed(Struct, frozen=True):
    """`unfinished` names what did not end within its bound; `error`: what was accepted, and not written."""

    request: RequestId
    unfinished: tuple[str, ...]
    error: GreenroomError | None = None


class RuntimeFailed(Struct, frozen=True):
    """To the gateway: nothing more will be answered, because of `error`, but for the end (`closing`)."""

    error: GreenroomError
    closing: RequestId | None = None
