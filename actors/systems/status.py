"""The statuses of actors and of the system, in Thespian's own types."""

from typing import TYPE_CHECKING

from thespian.actors import (
    Thespian_ActorStatus,
    Thespian_SystemStatus,
)

from .cell import Cell

if TYPE_CHECKING:
    from .local import LocalSystemBase


def status_of(base: "LocalSystemBase", cell: Cell) -> Thespian_ActorStatus:
    """The status of an actor."""
    status = Thespian_ActorStatus(
        cell.address,
        type(cell.instance).__name__,
        base.system_address,
        cell.parent,
        cell.source,
    )
    for child in cell.children:
        status.addChild(child)
    for to, message, sender in list(base.queue):
        if to is cell.address:
            status.addReceivedMessage(sender, to, type(message).__name__)
    status.addWakeups([(cell.address, timer) for timer in cell.timers.values()])
    return status


def system_status(base: "LocalSystemBase") -> Thespian_SystemStatus:
    """The status of the system."""
    status = Thespian_SystemStatus(base.system_address, capabilities=dict(base.capabilities))
    for address, cell in list(base.cells.items()):
        if cell.parent is base.system_address:
            status.addChild(address)
    for name, address in base.global_names.items():
        status.addGlobalActor(name, address)
    if base.dead_letters is not None:
        status.setDeadLetterHandler(base.dead_letters)
    return status
