"""The SlotAllocator: the actor around the slot table."""

from collections.abc import Iterable
from typing import assert_never

from ...types import Address
from ..containing import refused
from ..effects import Effect
from ..shell import ActorShell, Contained
from .protocol import (
    AcquireSlot,
    ConfigureSlots,
    DescribeSlots,
    EndHolder,
    ReleaseSlot,
    SlotCommand,
)
from .table import SlotTable


class SlotAllocator(ActorShell):
    """Grants the right to execute a turn."""

    role = "slots"

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable()

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:
        command: SlotCommand = message  # type: ignore[assignment]
        match command:
            case AcquireSlot():
                return self.table.acquire(
                    command.lease, command.path, sender, goes_on=command.goes_on, now=self.clock()
                )
            case ReleaseSlot():
                return self.table.release(command.lease)
            case EndHolder():
                return self.table.end_holder(command.agent_id, command.incarnation)
            case DescribeSlots():
                return self.table.describe(command.request, sender, command.agent_id)
            case ConfigureSlots():
                return self.table.resize(command.slots)
        assert_never(command)

    def contain(self, message: object, sender: Address, error: BaseException) -> Contained:
        """Refuse a question, which changes nothing."""
        if isinstance(message, DescribeSlots):
            return Contained((refused(message, sender, self.role, error),))
        return super().contain(message, sender, error)
