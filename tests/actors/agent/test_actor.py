"""The agent's actor by itself, where what happens at once can be said at once."""

from typing import Any

from thespian.actors import Actor, ActorSystem

from greenroom import agent
from greenroom.actors.agent.actor import AgentActor
from greenroom.actors.residency.protocol import OpenSession, SessionEnded, Unload
from greenroom.actors.shell import Meet
from greenroom.actors.systems.local import LocalSystemBase
from greenroom.actors.vocabulary import AgentId, Incarnation
from greenroom.persistence.protocol import AgentImage, AgentRow


@agent(name="actor-opens")
class Opens:
    """A kind whose opening is a task of its own."""

    def open(self, info: Any) -> None:
        """Nothing to be done."""

    async def run(self, turn: Any) -> None:
        """Nothing to be done."""


class Neighbour(Actor):
    """Stands for all control actors: opens a session and ends it in one breath, then hears its end."""

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        if message == "begin":
            self.asker = sender
            session = self.createActor(AgentActor)
            roles = ("directory", "ledger", "residency", "slots", "events", "processes", "supervisor")
            self.send(session, Meet(dict.fromkeys(roles, self.myAddress)))  # type: ignore[arg-type]
            row = AgentRow(AgentId(1), "/t/a", "actor-opens", 1, b"", 0.0, 0.0)
            self.send(session, OpenSession(AgentImage(row, None, ()), Incarnation(1)))
            self.send(session, Unload())
        elif isinstance(message, SessionEnded):
            self.send(self.asker, message)


def test_a_session_that_is_to_go_before_its_opening_has_begun_goes() -> None:
    """The opening's task is cancelled before its first step: none of its code runs, not even a handler."""
    system = ActorSystem(systemBase=LocalSystemBase(), transientUnique=True)
    try:
        ended = system.ask(system.createActor(Neighbour), "begin", timeout=5)
        assert isinstance(ended, SessionEnded)
    finally:
        system.shutdown()
