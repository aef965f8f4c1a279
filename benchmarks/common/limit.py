"""The limit: a turn's messages and commits, with nothing decided on the way.

The runtime's rooms as actors on its own base, which send on what they get, as the design has it: a run is
accepted, its agent summoned, a slot asked for, the run taken, begun, executed in a task of its own, ended.
That is what such a design costs in this interpreter when everything that a runtime is for is left out: no
lifecycle, no limits, no order, no recovery, no waiting for a state of anything. Ours cannot be faster.
"""

import asyncio
import pickle
from typing import Any

from msgspec import Struct
from thespian.actors import Actor, ActorAddress, ActorSystem

from greenroom.actors.systems.local import LocalSystemBase

from .floor import ADD_EVENT, ADD_RUN, END_RUN, PUT, Floor, Rows
from .work import advance, new_state


class Asked(Struct):
    """A run on its way, and who waits for it."""

    serial: int
    agent_id: int
    input: int
    accepted: "asyncio.Future[None]"
    ended: "asyncio.Future[int]"
    result: int = 0


class Step(Struct, frozen=True):
    """What is said of a run, by its name in the runtime; made anew for each message."""

    name: str
    run: Asked
    session: ActorAddress


class Room(Actor):
    """Knows the others by name."""

    rooms: dict[str, ActorAddress]

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: ARG002, N802
        if type(message) is Step:
            self.step(message)
        elif type(message) is dict:
            self.rooms = message

    def say(self, to: str, name: str, of: Step) -> None:
        self.send(self.rooms[to], Step(name, of.run, of.session))

    def step(self, step: Step) -> None:
        """Send it on."""
        raise NotImplementedError


class Directory(Room):
    def step(self, step: Step) -> None:
        self.say("ledger", "AcceptRun", step)


class Residency(Room):
    def step(self, step: Step) -> None:
        if step.name == "SummonAgent":
            self.send(step.session, Step("Work", step.run, step.session))


class Slots(Room):
    def step(self, step: Step) -> None:
        if step.name == "AcquireSlot":
            self.send(step.session, Step("SlotGranted", step.run, step.session))


class Ledger(Room):
    """Commits three times: a run's acceptance, its beginning, its end with the agent's state."""

    floor: Floor
    states: list[Any]  # by agent

    def step(self, step: Step) -> None:
        run, put = step.run, self.floor.writer.put
        match step.name:
            case "AcceptRun":
                rows: Rows = [
                    (ADD_RUN, (run.serial, run.agent_id, pickle.dumps(run.input, 5))),
                    self.event("run.accepted", run),
                ]
                put(rows, lambda: run.accepted.set_result(None))
                self.say("residency", "SummonAgent", step)
            case "TakeRun":
                begun = Step("RunBegun", run, step.session)
                put([self.event("run.started", run)], lambda: self.send(step.session, begun))
            case "EndTurn":
                rows = [
                    (PUT, (run.agent_id, pickle.dumps(self.states[run.agent_id], 5))),
                    (END_RUN, (pickle.dumps(run.result, 5), run.serial)),
                    self.event("run.completed", run),
                ]
                put(rows, lambda: run.ended.set_result(run.result))
                self.send(step.session, Step("TurnSettled", run, step.session))

    def event(self, type: str, run: Asked) -> tuple[str, tuple[Any, ...]]:
        return ADD_EVENT, (self.floor.next_seq(), type, run.agent_id, run.serial)


class Session(Room):
    state: Any = None

    def step(self, step: Step) -> None:
        match step.name:
            case "Work":
                self.say("slots", "AcquireSlot", step)
            case "SlotGranted":
                self.say("ledger", "TakeRun", step)
            case "RunBegun":
                self.task = asyncio.get_running_loop().create_task(self.turn(step))
            case "TurnSettled":
                self.say("residency", "SessionIdle", step)

    async def turn(self, step: Step) -> None:
        """The agent's own code."""
        step.run.result = advance(self.state, step.run.input)
        self.say("slots", "ReleaseSlot", step)
        self.say("ledger", "EndTurn", step)


class Hall:
    """The rooms, and a session for each agent."""

    def __init__(self, floor: Floor, number: int) -> None:
        self.base = LocalSystemBase(asyncio.get_running_loop())
        self.system = ActorSystem(systemBase=self.base, transientUnique=True)
        made = {
            "directory": Directory, "ledger": Ledger, "residency": Residency, "slots": Slots,
        }  # fmt: skip
        self.rooms = {name: self.system.createActor(room) for name, room in made.items()}
        self.sessions = [self.system.createActor(Session) for _ in range(number)]
        for address in (*self.rooms.values(), *self.sessions):
            self.system.tell(address, self.rooms)
        states = [new_state() for _ in self.sessions]
        for state, address in zip(states, self.sessions, strict=True):
            address.cell.instance.state = state
        ledger: Any = self.rooms["ledger"]
        ledger.cell.instance.floor, ledger.cell.instance.states = floor, states
        self._floor = floor

    async def ask(self, number: int, input: int) -> int:
        """Have an agent do a turn: wait until it is accepted, then until it has ended."""
        loop = asyncio.get_running_loop()
        run = Asked(self._floor.next_serial(), number, input, loop.create_future(), loop.create_future())
        self.base.post(self.rooms["directory"], Step("SubmitRun", run, self.sessions[number]))
        await run.accepted
        self.base.post(self.rooms["ledger"], Step("AwaitRun", run, self.sessions[number]))
        return await run.ended

    async def close(self) -> None:
        await self.base.aclose()
