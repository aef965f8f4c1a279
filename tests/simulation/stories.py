"""Kinds and stories that use everything there is, for tests of the simulation itself."""

import asyncio
from contextlib import suppress
from typing import Any

from greenroom import AgentInfo, GreenroomError, RunFailed, RunInterrupted, SyncTurn, Turn, agent
from greenroom.testing import Crashed, Faults, InjectedFault, Simulation


@agent(name="simulated.counter")
async def counter(turn: Turn) -> int:
    turn.state["count"] = turn.state.get("count", 0) + 1
    await asyncio.sleep(0.5)
    return int(turn.state["count"])


@agent(name="simulated.parent")
async def parent(turn: Turn) -> Any:
    """Children in parallel, a message to each, and a continuation when all have ended."""
    if turn.results:
        turn.emit("all", len(turn.results))
        return sorted(str(outcome.result or outcome.error) for outcome in turn.results)
    names = [f"child-{number}" for number in range(turn.input)]

    async def start(name: str) -> Any:
        child = await turn.spawn(counter, name)
        await turn.send(child.path, f"hello {name}")
        return await child.followup(name)

    async with asyncio.TaskGroup() as group:
        starts = [group.create_task(start(name)) for name in names]
    await turn.after(*[start.result() for start in starts], input="go on")
    return names


@agent(name="simulated.plain")
def plain(turn: SyncTurn) -> Any:
    """On a thread: spawns, waits, pauses."""
    turn.state["turns"] = turn.state.get("turns", 0) + 1
    child = turn.spawn(counter, "helper")
    run = child.followup(turn.input)
    with turn.paused():
        turn.emit("paused")
    with suppress(RunFailed, RunInterrupted):
        run.result()
    turn.checkpoint()
    return [outcome.status for outcome in turn.wait(run)]


@agent(name="simulated.asyncio")
async def all_of_asyncio(turn: Turn) -> list[Any]:
    """What agents do with asyncio: queues, timeouts, threads, races."""
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
    told: list[Any] = []

    async def produce() -> None:
        for number in range(3):
            await queue.put(number)
            await asyncio.sleep(3600)

    async def consume() -> None:
        for _ in range(3):
            told.append(await queue.get())

    async def forever() -> None:
        await asyncio.Event().wait()

    await asyncio.gather(produce(), consume())
    told.append(await asyncio.to_thread(sum, told))
    with suppress(TimeoutError):
        await asyncio.wait_for(forever(), 60)
    tasks = {asyncio.create_task(asyncio.sleep(delay, delay)) for delay in (1, 2, 3, 4, 5)}
    done, pending = await asyncio.wait(tasks, timeout=2.5)
    for task in pending:
        task.cancel()
    told.append([task.result() for task in done])
    return told


@agent(name="simulated.house")
class House:
    """A kind with something to open and to close."""

    async def open(self, info: AgentInfo) -> None:
        self.path = info.path
        await asyncio.sleep(0.01)

    async def run(self, turn: Turn) -> str:
        turn.state["inbox"] = turn.state.get("inbox", 0) + len(turn.inbox)
        await asyncio.to_thread(str, turn.input)
        return f"{self.path} {turn.input}"

    def close(self) -> None:
        del self.path


KINDS = (counter, parent, plain, all_of_asyncio, House)


def everything(simulation: Simulation) -> None:
    """Each kind once, eviction, interrupts, a crash, a closing, and the end."""
    family = simulation.spawn(parent, "/family", input=4)
    office = simulation.spawn(plain, "/office", input=1)
    house = simulation.spawn(House, "/house")
    loops = simulation.spawn(all_of_asyncio, "/loops", input=None)
    house.send("a letter")
    runs = [house.followup(number) for number in range(3)]
    runs[2].interrupt()
    simulation.advance(1.0)
    house.evict()
    simulation.crash()
    simulation.reopen()
    assert loops.run is not None
    assert office.run is not None
    assert family.run is not None
    simulation.wait([loops.run, office.run, family.run, *runs])
    assert loops.run.result() == [0, 1, 2, 3, [1, 2]] or sorted(loops.run.result()[4]) == [1, 2]
    office.interrupt(cascade=True)
    with suppress(GreenroomError):
        family.close()
    simulation.close()
    simulation.reopen()
    simulation.run_until_idle()
    assert house.state() == {"inbox": 1}
    assert [event.type for event in simulation.events("/house", since=0, follow=False)]


FAULTS = Faults(
    commit_fails=0.1, read_fails=0.1, turn_raises=0.1, turn_cancels=0.05, turn_hangs=0.05, crash=0.002
)


def everything_goes_wrong(simulation: Simulation) -> list[str]:
    """The same with faults at every place; what came of it."""
    told: list[str] = []
    made: list[Any] = []

    def attempt(step: Any) -> Any:
        try:
            return step()
        except Crashed:
            told.append("crashed")
            while not simulation.is_up:
                with suppress(Crashed):
                    simulation.reopen()
        except (GreenroomError, InjectedFault) as error:
            told.append(type(error).__name__)
        return None

    for kind in KINDS:
        name = kind.__kind__.name.partition(".")[2]
        made.append(attempt(lambda k=kind, n=name: simulation.spawn(k, f"/{n}", input=2)))
        made.append(attempt(lambda n=name: simulation.agent(f"/{n}").followup(3)))
        attempt(lambda n=name: simulation.agent(f"/{n}").send("a letter"))
    attempt(lambda: simulation.advance(2.0))
    attempt(lambda: simulation.agent("/parent").interrupt(cascade=True))
    attempt(lambda: simulation.advance(10_000.0))
    simulation.faults()
    for agent_ in simulation.list():
        simulation.agent(agent_.path).interrupt()
    simulation.run_until_idle()
    told += [f"{run.path} {run.type}" for run in simulation.events(since=0, follow=False)]
    return told
