"""The actor around the path table."""

from collections.abc import Iterable

from ...persistence.protocol import Answer
from ..effects import Effect
from ..ledger.protocol import CloseRecorded, SpawnSettled
from ..shell import ActorShell
from ..vocabulary import Address
from .paths import PathTable
from .protocol import ConfigureDirectory, StopAccepting


class Directory(ActorShell):
    """Told once where its numbers begin; then commands by path."""

    role = "directory"
    paths: PathTable

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
            case CloseRecorded():
                effects = self.paths.close_recorded(message)
            case StopAccepting():
                self.paths.stop(message.reason)
                return ()
            case _:
                self.paths.now = self.clock()
                effects = self.paths.handle(message)  # type: ignore[arg-type]
        return effects
