"""The same nasty moments for the whole runtime, with agents of asyncio, each as a story to a simulation."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from greenroom import AgentClosed, AgentInfo, AgentNotFound, AsyncRuntime, PathTaken, Turn, agent
from greenroom.testing import Simulation

from .departures import Departing

EXECUTING: Counter[str] = Counter()


class _In:
    """Inside, code executes in a slot; `limit` is how many there are."""

    limit = 1

    def __init__(self, turn: Turn) -> None:
        self._path = turn.path

    def __enter__(self) -> None:
        EXECUTING[self._path] += 1
        assert EXECUTING.total() <= self.limit, f"G1: {+EXECUTING} execute"

    def __exit__(self, *exception: object) -> None:
        EXECUTING[self._path] -= 1


@agent(name="departing.worker", state=lambda: {"done": [], "mail": []})
async def worker(turn: Turn) -> str:
    """Yields now and then; hangs, asks another or has a continuation if its input says so."""
    asked = None
    with _In(turn):
        await asyncio.sleep(0)
        match turn.input:
            case "slow":
                await asyncio.sleep(0.01)
            case "hang":
                await asyncio.Event().wait()
            case ["after", *runs]:
                await turn.after(*runs, input="continue")
            case "continue":
                turn.state["results"] = [(each.run_id, each.status) for each in turn.results]
            case ["ask", path]:
                asked = await turn.followup(path, None)
    if asked is not None:
        await turn.wait(asked)
    with _In(turn):
        await asyncio.sleep(0)
        turn.state["done"].append(turn.run_id)
        turn.state["mail"] += [message.body for message in turn.inbox]
    return turn.run_id


@agent(name="departing.house", state=lambda: {"done": [], "mail": []})
class House:
    """A worker that takes its time to open and to close."""

    async def open(self, info: AgentInfo) -> None:
        await asyncio.sleep(0)

    async def run(self, turn: Turn) -> str:
        with _In(turn):
            await asyncio.sleep(0)
            turn.state["done"].append(turn.run_id)
        return turn.run_id

    async def close(self) -> None:
        await asyncio.sleep(0)


Story = Callable[[Simulation, Departing], None]
STORIES: dict[str, tuple[Story, dict[str, Any]]] = {}


def story(**settings: Any) -> Callable[[Story], Story]:
    """Register a story with the settings of its simulations."""

    def register(told: Story) -> Story:
        STORIES[told.__name__] = (told, settings)
        return told

    return register


def tell(name: str, choices: Departing) -> Simulation:
    """One simulation of a story, checked at its end."""
    told, settings = STORIES[name]
    EXECUTING.clear()
    simulation = Simulation(choices=choices, pauses=(0.0, 0.02), **settings)
    with simulation:
        told(simulation, choices)
        check_at_rest(simulation)
        simulation.crash()  # to close it in order is no part of the story
    return simulation


def check_at_rest(simulation: Simulation) -> None:
    """Everything that was accepted has one outcome, and nothing is held."""
    simulation.run_until_idle()
    stats = simulation.stats()
    assert (stats.slots_taken, stats.running, stats.queued) == (0, 0, 0), f"G1, G2: {stats}"
    assert (stats.unwritten, stats.waiting) == (0, 0), f"G3, G4: {stats}"
    ended: Counter[str] = Counter()
    completed: dict[str, list[str]] = {}
    accepted: set[str] = set()
    for event in simulation.events(since=0, follow=False):
        status = event.type.removeprefix("run.")
        match event.type:
            case "agent.spawned":
                completed[event.path] = []
            case "run.accepted":
                accepted.add(str(event.run_id))
            case "run.completed" | "run.failed" | "run.interrupted":
                ended[str(event.run_id)] += 1
                assert status != "failed", f"{event.run_id} failed: {event.data}"
                if status == "completed":
                    completed[event.path].append(str(event.run_id))
    assert ended == Counter(accepted), f"G2: {accepted} were accepted, and ended {ended}"
    for info in simulation.list():
        state = simulation.agent(info.path).state()
        assert state["done"] == completed[info.path], f"G3: {info.path} did {state['done']}"
        assert info.status == "idle", f"{info} at rest"


def at_once(simulation: Simulation, *callers: Callable[[AsyncRuntime], Awaitable[Any]]) -> None:
    """Several callers, all under way at the same time."""

    async def all_of_them() -> None:
        aio = simulation.aio
        await asyncio.gather(*(caller(aio) for caller in callers))

    simulation.run(all_of_them())


def runs(path: str, *inputs_and_ids: Any) -> Callable[[AsyncRuntime], Awaitable[Any]]:
    """A caller that gives an agent a run, and when it has ended another one, and so on."""

    async def caller(aio: AsyncRuntime) -> None:
        with suppress(AgentClosed, AgentNotFound):
            ref = await aio.agent(path)
            for what, run_id in zip(inputs_and_ids[::2], inputs_and_ids[1::2], strict=True):
                run = await ref.followup(what, run_id=run_id)
                if run_id != inputs_and_ids[-1]:
                    await run.outcome()

    return caller


def calls(path: str, name: str, *arguments: Any) -> Callable[[AsyncRuntime], Awaitable[Any]]:
    """A caller that calls a method of an agent's handle."""

    async def caller(aio: AsyncRuntime) -> None:
        with suppress(AgentClosed, AgentNotFound):
            await getattr(await aio.agent(path), name)(*arguments)

    return caller


def spawns(path: str, kind: Any) -> Callable[[AsyncRuntime], Awaitable[Any]]:
    """A caller that wants a path for a new agent."""

    async def caller(aio: AsyncRuntime) -> None:
        with suppress(PathTaken):
            await aio.spawn(kind, path)

    return caller


@story(slots=1)
def a_slot_is_handed_over(simulation: Simulation, choices: Departing) -> None:
    for path in ("/a/x", "/a/y"):
        simulation.spawn(worker, path)
    with choices.open():
        slow = runs("/a/y", "slow", "r2", "slow", "r3")
        at_once(simulation, runs("/a/x", ["ask", "/a/y"], "r1"), slow, calls("/a/y", "interrupt", "r2"))
        simulation.run_until_idle()


@story(slots=1, residents=1)
def an_eviction_meets_a_delivery(simulation: Simulation, choices: Departing) -> None:
    for path in ("/a/x", "/a/y"):
        simulation.spawn(worker, path)
    simulation.run_until_idle()
    with choices.open():
        at_once(simulation, runs("/a/x", None, "r1"), runs("/a/y", None, "r2"), calls("/a/y", "send", "m"))
        simulation.run_until_idle()
    simulation.agent("/a/y").followup(None).result()
    assert simulation.agent("/a/y").state()["mail"] == ["m"], "G3: a message was lost, or read twice"


@story(slots=1)
def an_interrupt_meets_a_completion(simulation: Simulation, choices: Departing) -> None:
    simulation.spawn(worker, "/a/x")
    simulation.run_until_idle()
    with choices.open():
        at_once(simulation, runs("/a/x", "hang", "r1"), runs("/a/x", None, "r2"))
        at_once(simulation, calls("/a/x", "interrupt", "r1"), calls("/a/x", "interrupt"))
        simulation.run_until_idle()
    assert simulation.run("r1").outcome().status == "interrupted"


@story(slots=1)
def a_close_meets_an_opening(simulation: Simulation, choices: Departing) -> None:
    with choices.open():
        simulation.spawn(House, "/a/x")
        closing, again = calls("/a/x", "close"), spawns("/a/x", House)
        at_once(simulation, closing, again, runs("/a/x", None, "r1"))
        simulation.run_until_idle()


@story(slots=1)
def after_meets_the_last_outcome(simulation: Simulation, choices: Departing) -> None:
    for path in ("/a/x", "/a/y", "/a/p"):
        simulation.spawn(worker, path)
    simulation.run_until_idle()
    for path, run_id in (("/a/x", "c1"), ("/a/y", "c2")):
        simulation.agent(path).followup(None, run_id=run_id)
    with choices.open():
        asking, stop = runs("/a/p", ["after", "c1", "c2"], "p1"), calls("/a/y", "interrupt")
        at_once(simulation, asking, stop)
        simulation.run_until_idle()
    state = simulation.agent("/a/p").state()
    assert len(state["done"]) == 2, f"exactly one continuation: {state}"
    outcomes = [(run_id, simulation.run(run_id).outcome().status) for run_id in ("c1", "c2")]
    assert state["results"] == outcomes, f"it saw {state['results']} of {outcomes}"
