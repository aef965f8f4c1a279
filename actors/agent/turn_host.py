"""A session's actor, as a turn sees it."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ...persistence.rows import Snapshot
from ...types import AgentId, Incarnation, RequestId, Role, RunId


class Pending(asyncio.Future[Any]):
    """The end of a run that is still open; `request` names the question."""

    def __init__(self, request: RequestId) -> None:
        super().__init__()
        self.request = request


class Host(Protocol):
    """The session's actor, as a turn sees it. All on the loop."""

    agent_id: AgentId
    incarnation: Incarnation
    roles: dict[Role, Any]

    @property
    def address(self) -> Any: ...

    def ask(self, to: Role, make: Callable[[RequestId], object]) -> "asyncio.Future[Any]":
        """Send the command that `make` makes of a request id; the future is its answer."""

    def tell(self, to: Role, message: object) -> None: ...

    def report(self, told: bytes) -> None:
        """Have the ledger record progress, behind what was reported and before what is asked next."""

    def forget(self, pending: Pending, run_id: RunId) -> None:
        """Nobody waits for the end of this run any more."""

    def give_slot(self) -> None:
        """The turn waits: slot and place are for others, and its time stands still."""

    def regain_slot(self) -> "asyncio.Future[None]":
        """The wait is over; the future is done when there is room and a slot again."""

    async def snapshot(self) -> Snapshot | None:
        """The state at one moment, if it differs from what was recorded last.

        The outbox is that of the same moment when this returns.
        """

    def recorded(self, snapshot: Snapshot | None) -> None:
        """The ledger is told to record this."""

    def read_mail(self) -> int | None:
        """Take the turn's messages as read, and return the serial of the last one."""
