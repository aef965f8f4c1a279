"""The agent's actor by itself, where what happens at once can be said at once."""

import asyncio
from typing import Any

import pytest
from thespian.actors import Actor, ActorSystem

from greenroom import AsyncRuntime, Turn, agent
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


def test_a_turn_whose_loop_is_gone_unwinds_in_silence_beside_another_loop() -> None:
    """As the garbage collector has it: at any moment, wherever it runs."""
    begun: list[bool] = []

    @agent(name="actor-left-behind")
    async def left_behind(turn: Turn) -> None:
        begun.append(True)
        await asyncio.Event().wait()

    async def begin() -> Any:
        runtime = await AsyncRuntime(":memory:").start()
        run = await (await runtime.spawn(left_behind, "/a")).followup(1)
        with pytest.raises(TimeoutError):
            await run.result(timeout=0.05)
        return next(task for task in asyncio.all_tasks() if task.get_name().startswith("turn /a"))

    async def elsewhere() -> None:
        turn.get_coro().cr_await.close()

    loop = asyncio.new_event_loop()
    turn = loop.run_until_complete(begin())
    assert begun
    loop.close()
    asyncio.run(elsewhere())
