"""The actor around the path table."""

from collections.abc import Iterable

from ...types import Address
from ..containing import refused
from ..effects import Effect
from ..ledger.replies import CloseRecorded, SpawnSettled, SpawnWithdrawn
from ..shell import ActorShell, Contained
from ..storage.protocol import Answer
from .paths import PathTable
from .protocol import ConfigureDirectory, DirectoryCommand, StopAccepting


class Directory(ActorShell):
    """Told once where its numbers begin; then commands by path."""

    role = "directory"
    paths: PathTable
    mark: tuple[int, ...] = ()  # where the table stood before the command that is being handled

    def decide(self, message: object, sender: Address) -> Iterable[Effect]:  # noqa: ARG002
        match message:
            case ConfigureDirectory():
                self.paths = PathTable(
                    next_agent_id=message.next_agent_id,
                    remember=message.remember,
                    is_registered=message.is_registered,
                )
                return ()
            case Answer():
                effects = self.paths.answered(message)
            case SpawnSettled():
                effects = self.paths.settled(message)
            case SpawnWithdrawn():
                self.paths.withdrawn(message)
                return ()
            case CloseRecorded():
                effects = self.paths.close_recorded(message)
            case StopAccepting():
                self.paths.stop(message.reason)
                return ()
            case _:
                self.paths.now = self.clock()
                self.mark = self.paths.mark
                effects = self.paths.handle(message)  # type: ignore[arg-type]
        return effects

    def contain(self, message: object, sender: Address, error: BaseException) -> Contained:
        """Refuse a command that changed nothing of what is known of paths."""
        if not isinstance(message, DirectoryCommand):
            return super().contain(message, sender, error)
        if self.paths.mark != self.mark or self.paths.holds(message):
            return Contained(broken="a command by path was begun and not handed on")
        return Contained((refused(message, sender, self.role, error),))
