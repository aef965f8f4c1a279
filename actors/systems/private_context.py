"""A `private()` context of Thespian's, with its own way in and out."""

from typing import TYPE_CHECKING, Any

from thespian.actors import ActorAddress

from .cell import ExternalCell

if TYPE_CHECKING:
    from .local import LocalSystemBase


class PrivateContext:
    """A `private()` context's own way in and out."""

    def __init__(self, base: "LocalSystemBase", cell: ExternalCell) -> None:
        self._base, self._cell = base, cell

    def tell(self, to: ActorAddress, message: Any) -> None:
        """Send."""
        self._base.put(to, message, self._cell.address)

    def ask(self, to: ActorAddress, message: Any, timeout: Any) -> Any:
        """Send, and return the next message for this context."""
        return self._base.ask_as(self._cell, to, message, timeout)

    def listen(self, timeout: Any) -> Any:
        """The next message for this context; None after `timeout`."""
        return self._base.listen_as(self._cell, timeout)

    def newPrimaryActor(self, *args: Any) -> ActorAddress:
        """`ActorSystem.createActor`."""
        return self._base.newPrimaryActor(*args)

    def exit_context(self) -> None:
        """Nobody listens here any more."""
        self._cell.address.cell = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)
