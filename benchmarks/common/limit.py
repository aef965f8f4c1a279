"""The limit: a turn's or a spawn's messages and commits, with nothing decided on the way.

The runtime's rooms as actors on its own base, which send on what they get, as the design has it: a run is
accepted, its agent summoned, a slot asked for, the run taken, begun, executed in a task of its own, ended;
an agent is recorded, summoned, made and opened. That is what such a design costs in this interpreter when
everything that a runtime is for is left out: no lifecycle, no order, no recovery, no waiting for a state of
anything, and of limits a count of slots. Ours cannot be faster.
"""

import asyncio
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from thespian.actors import Actor, ActorAddress, ActorSystem

from greenroom.actors.systems.local import LocalSystemBase

from .floor import ADD_AGENT, ADD_EVENT, ADD_RUN, END_RUN, PUT, Floor, Rows, Then
from .work import advance, new_state

DECIDING_NOTHING = "deciding nothing"
"""The name of the limit beside ours."""

Work = Callable[[Any, Any], Any]


class Asked(Struct):
    """A run or a spawn on its way, and who waits for it."""

    serial: int
    agent_id: int
    input: Any
    accepted: "asyncio.Future[None]"
    ended: "asyncio.Future[Any]"
    result: Any = None
    path: str = ""  # of a new agent


class Step(Struct, frozen=True):
    """What is said of it, by its name in the runtime; made anew for each message."""

    name: str
    run: Asked
    session: ActorAddress | None
    rooms: dict[str, ActorAddress] | None = None  # for a new session


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
        match step.name:
            case "SubmitRun":
                self.say("ledger", "AcceptRun", step)
            case "SpawnAgent":
                self.say("ledger", "RecordSpawn", step)


class Residency(Room):
    def step(self, step: Step) -> None:
        match step.name:
            case "SummonAgent" if step.session is not None:
                self.send(step.session, Step("Work", step.run, step.session))
            case "SummonAgent":
                session = self.createActor(Session)
                self.say("ledger", "AgentEntered", step)
                self.send(session, Step("OpenSession", step.run, session, self.rooms))
            case "SessionOpened":
                step.run.ended.set_result(step.session)


class Slots(Room):
    free = 1 << 30

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[Step] = deque()

    def step(self, step: Step) -> None:
        match step.name:
            case "AcquireSlot" if self.free:
                self.free -= 1
                self.grant(step)
            case "AcquireSlot":
                self.waiting.append(step)
            case "ReleaseSlot" if self.waiting:
                self.grant(self.waiting.popleft())
            case "ReleaseSlot":
                self.free += 1

    def grant(self, step: Step) -> None:
        self.send(step.session, Step("SlotGranted", step.run, step.session))


class Ledger(Room):
    """Commits three times: a run's acceptance, its beginning, its end with the agent's state. An agent is
    two commits: that there is one, and that its session is open."""

    floor: Floor
    states: list[Any]  # by agent

    def commit(self, rows: Rows, then: Then) -> None:
        """Have the rows written, and go on when that was promised."""
        if self.floor.durable:
            self.floor.writer.put(rows, then)
        else:
            self.floor.writer.put(rows, _nothing)
            then()

    def step(self, step: Step) -> None:
        run = step.run
        match step.name:
            case "AcceptRun":
                rows: Rows = [
                    (ADD_RUN, (run.serial, run.agent_id, pickle.dumps(run.input, 5))),
                    self.event("run.accepted", run),
                ]
                self.commit(rows, lambda: run.accepted.set_result(None))
                self.say("residency", "SummonAgent", step)
            case "TakeRun":
                begun = Step("RunBegun", run, step.session)
                self.commit([self.event("run.started", run)], lambda: self.send(step.session, begun))
            case "EndTurn":
                rows = [
                    (PUT, (run.agent_id, pickle.dumps(self.states[run.agent_id], 5))),
                    (END_RUN, (pickle.dumps(run.result, 5), run.serial)),
                    self.event("run.completed", run),
                ]
                self.commit(rows, lambda: run.ended.set_result(run.result))
                self.send(step.session, Step("TurnSettled", run, step.session))
            case "RecordSpawn":
                rows = [(ADD_AGENT, (run.agent_id, run.path, 0.0)), self.event("agent.spawned", run)]
                self.commit(rows, lambda: run.accepted.set_result(None))
                self.say("directory", "SpawnSettled", step)
                self.say("residency", "SummonAgent", step)
            case "SessionStarted":
                self.floor.writer.put([self.event("agent.started", run)], _nothing)

    def event(self, type: str, run: Asked) -> tuple[str, tuple[Any, ...]]:
        return ADD_EVENT, (self.floor.next_seq(), type, run.agent_id, run.serial)


class Session(Room):
    state: Any = None
    work: Work = staticmethod(advance)

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
            case "OpenSession":
                assert step.rooms is not None
                self.rooms = step.rooms
                self.say("ledger", "SessionStarted", step)
                self.say("residency", "SessionOpened", step)

    async def turn(self, step: Step) -> None:
        """The agent's own code."""
        result = self.work(self.state, step.run.input)
        step.run.result = await result if asyncio.iscoroutine(result) else result
        self.say("slots", "ReleaseSlot", step)
        self.say("ledger", "EndTurn", step)


class Hall:
    """The rooms, and a session for each agent. `work` makes a result of state and input, at once or in a
    coroutine, and changes the state."""

    def __init__(
        self,
        floor: Floor,
        number: int,
        *,
        slots: int = Slots.free,
        work: Work = advance,
        state: Callable[[], Any] = new_state,
    ) -> None:
        self.base = LocalSystemBase(asyncio.get_running_loop())
        self.system = ActorSystem(systemBase=self.base, transientUnique=True)
        made = {
            "directory": Directory, "ledger": Ledger, "residency": Residency, "slots": Slots,
        }  # fmt: skip
        self.rooms = {name: self.system.createActor(room) for name, room in made.items()}
        self.sessions = [self.system.createActor(Session) for _ in range(number)]
        for address in (*self.rooms.values(), *self.sessions):
            self.system.tell(address, self.rooms)
        states = [state() for _ in self.sessions]
        for each, address in zip(states, self.sessions, strict=True):
            address.cell.instance.state, address.cell.instance.work = each, work
        ledger: Any = self.rooms["ledger"]
        ledger.cell.instance.floor, ledger.cell.instance.states = floor, states
        allocator: Any = self.rooms["slots"]
        allocator.cell.instance.free = slots
        self._floor = floor

    async def ask(self, number: int, input: Any) -> Any:
        """Have an agent do a turn: wait until it is accepted, then until it has ended."""
        run = self._asked(number, input)
        self.base.post(self.rooms["directory"], Step("SubmitRun", run, self.sessions[number]))
        await run.accepted
        self.base.post(self.rooms["ledger"], Step("AwaitRun", run, self.sessions[number]))
        return await run.ended

    async def spawn(self, number: int, path: str) -> None:
        """Have an agent made: wait until it is written, then until its session is open."""
        run = self._asked(number, None)
        run.path = path
        self.base.post(self.rooms["directory"], Step("SpawnAgent", run, None))
        await run.accepted
        await run.ended

    def _asked(self, number: int, input: Any) -> Asked:
        loop = asyncio.get_running_loop()
        return Asked(self._floor.next_serial(), number, input, loop.create_future(), loop.create_future())

    async def close(self) -> None:
        await self.base.aclose()


def _nothing() -> None:
    """Nobody waits for this commit."""
