"""Two control actors with the one thing changed that a house needs, and what they are configured with."""

from greenroom.actors.effects import Effect
from greenroom.actors.ledger.actor import LedgerActor
from greenroom.actors.ledger.latencies import Latencies
from greenroom.actors.ledger.protocol import ConfigureLedger
from greenroom.actors.residency.actor import ResidencyLRU
from greenroom.actors.residency.entry import StartSession
from greenroom.types import Timestamp

from .plain_agent import PlainAgent


class Rooms(ResidencyLRU):
    """The residency, whose sessions have plain code and are called by what they are."""

    def session_class(self) -> type[PlainAgent]:
        return PlainAgent

    def start_session(self, start: StartSession) -> None:
        self._myRef.next_name = f"agent {start.agent_id}.{start.incarnation}"
        super().start_session(start)


class PlainLedger(LedgerActor):
    """The ledger, which measures nothing: how often it did would make equal worlds differ."""

    def configure(self, message: ConfigureLedger) -> list[Effect]:
        effects = super().configure(message)
        self.ledger.latencies = _Unmeasured()
        return effects


class _Unmeasured(Latencies):
    def add(self, name: str, seconds: float) -> None:
        """Forget it."""


def noon() -> Timestamp:
    """The time; it does not pass."""
    return 0.0


def any_kind(name: str) -> bool:
    """Every kind is registered."""
    return True


def attempts_of(kind: str) -> int:
    """More than there are crashes."""
    return 9
