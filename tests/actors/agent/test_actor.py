"""The agent's actor by itself, where what happens at once can be said at once."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from thespian.actors import Actor, ActorSystem

from greenroom import agent
from greenroom.actors.agent.actor import AgentActor
from greenroom.actors.residency.protocol import OpenSession, SessionEnded, Unload
from greenroom.actors.systems.local import LocalSystemBase
from greenroom.persistence.rows import AgentImage, AgentRow
from greenroom.types import AgentId, Incarnation


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
            here: Any = dict.fromkeys(roles, self.myAddress)
            row = AgentRow(AgentId(1), "/t/a", "actor-opens", 1, b"", 0.0, 0.0)
            image = AgentImage(row, None, ())
            self.send(session, OpenSession(image, Incarnation(1), None, False, here, time.time))
            self.send(session, Unload())
        elif isinstance(message, SessionEnded):
            self.send(self.asker, message)


def test_a_session_that_is_to_go_before_its_opening_has_begun_goes() -> None:
    """The opening's task is cancelled before its first step: none of its code runs, not even a handler."""
    system = ActorSystem(systemBase=LocalSystemBase(), transientUnique=True)
    try:
        ended = system.ask(system.createActor(Neighbour), "begin", timeout=60)
        assert isinstance(ended, SessionEnded)
    finally:
        system.shutdown()


LEFT_BEHIND = """
import asyncio
from greenroom import AsyncRuntime, agent

@agent(name="actor-executes")
async def executes(turn):
    begun.append(True)
    await asyncio.Event().wait()

@agent(name="actor-opens-slowly")
class Opens:
    async def open(self, info):
        begun.append(True)
        await asyncio.Event().wait()

    async def run(self, turn):
        pass

async def begin():
    runtime = await AsyncRuntime(":memory:").start()
    run = await (await runtime.spawn(KIND, "/a")).followup(1)
    try:
        await run.result(timeout=0.05)
    except TimeoutError:
        names = ("turn /a", "open /a")
        return next(task for task in asyncio.all_tasks() if task.get_name().startswith(names))

def unwind():
    task.get_coro().cr_await.close()

async def elsewhere():
    unwind()

begun = []
loop = asyncio.new_event_loop()
task = loop.run_until_complete(begin())
assert begun
loop.close()
WHERE
print("in silence")
"""


@pytest.mark.parametrize("where", ["unwind()", "asyncio.run(elsewhere())"])
@pytest.mark.parametrize("kind", ["executes", "Opens"])
def test_what_waits_on_a_loop_that_is_gone_unwinds_in_silence(kind: str, where: str) -> None:
    """As the garbage collector has it: at any moment, wherever it runs."""
    program = LEFT_BEHIND.replace("KIND", kind).replace("WHERE", where)
    source = Path(__file__).parents[3] / "src"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
        check=False,
    )
    assert done.stdout == "in silence\n", done.stderr
    assert "agent /a" not in done.stderr  # of tasks that were destroyed asyncio itself tells
