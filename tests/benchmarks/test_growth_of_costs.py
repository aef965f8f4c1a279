"""What a call costs does not depend on how many others are made, wait, or stand beside it.

Each story is told with few agents or runs and with many, in steps, which are the same each time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import guard
import pytest
from common.steps import Steps

from greenroom import AsyncRuntime, Turn, agent

# In virtual time: the clock stands still, and a sleep is over when nothing else is left to do.

pytestmark = pytest.mark.slow

FEW, MANY = 20, 200
MOST = 1.2
"""Times as many steps for one of many as for one of few; each look at all others would add four a look."""

Work: TypeAlias = Callable[[], Awaitable[Any]]
Story: TypeAlias = Callable[[AsyncRuntime, int], Awaitable[Work]]


@agent(name="growth.echo")
async def echo(turn: Turn) -> Any:
    return turn.input


@agent(name="growth.waits")
async def waits(turn: Turn) -> None:
    await asyncio.sleep(3_600)


@agent(name="growth.parent")
async def parent(turn: Turn) -> int:
    """Has as many children of its own work as it is told, and waits for all."""
    children = [await turn.spawn(echo, f"c{number}") for number in range(turn.input)]
    runs = [await child.followup(1) for child in children]
    return len(await turn.wait(*runs))


@agent(name="growth.continued")
async def continued(turn: Turn) -> None:
    """The same, and goes on after them."""
    if turn.input is not None:
        children = [await turn.spawn(echo, f"c{number}") for number in range(turn.input)]
        await turn.after(*[await child.followup(1) for child in children])


async def all_of(calls: Any) -> list[Any]:
    return await asyncio.gather(*calls)


async def spawned(runtime: AsyncRuntime, number: int, kind: Any = echo) -> list[Any]:
    refs = await all_of(runtime.spawn(kind, f"/t/{n}") for n in range(number))
    await asyncio.sleep(1.0)  # all sessions are open
    return refs


def of_each(call: Callable[[Any], Awaitable[Any]]) -> Story:
    """The same call to each of the agents, all at once."""

    async def story(runtime: AsyncRuntime, number: int) -> Work:
        refs = await spawned(runtime, number)
        return lambda: all_of(call(ref) for ref in refs)

    return story


def of_one(call: Callable[[Any, int], Awaitable[Any]]) -> Story:
    """So many calls to one agent, all at once."""

    async def story(runtime: AsyncRuntime, number: int) -> Work:
        (ref,) = await spawned(runtime, 1)
        return lambda: all_of(call(ref, n) for n in range(number))

    return story


def of_queued(call: Callable[[Any, Any], Awaitable[Any]]) -> Story:
    """A call for each of the runs that wait for one agent, newest first."""

    async def story(runtime: AsyncRuntime, number: int) -> Work:
        (ref,) = await spawned(runtime, 1, waits)
        runs = await all_of(ref.followup(n) for n in range(number))
        return lambda: all_of(call(ref, run) for run in reversed(runs))

    return story


def of_busy(call: Callable[[Any], Awaitable[Any]]) -> Story:
    """The same call to each of the agents, all of which are at work."""

    async def story(runtime: AsyncRuntime, number: int) -> Work:
        refs = await spawned(runtime, number, waits)
        await all_of(ref.followup(1) for ref in refs)
        await asyncio.sleep(1.0)
        return lambda: all_of(call(ref) for ref in refs)

    return story


async def done(call: Awaitable[Any]) -> Any:
    return await (await call)


async def trees(runtime: AsyncRuntime, number: int) -> Work:
    return lambda: all_of(runtime.spawn(echo, f"/{n}/a") for n in range(number))


async def spawns_again(runtime: AsyncRuntime, number: int) -> Work:
    refs = await spawned(runtime, number)
    await all_of(ref.close() for ref in refs)
    return lambda: all_of(runtime.spawn(echo, ref.path) for ref in refs)


def family(kind: Any) -> Story:
    async def story(runtime: AsyncRuntime, number: int) -> Work:
        ref = await runtime.spawn(kind, "/t")

        async def work() -> None:
            await done(ref.followup(number))
            await asyncio.sleep(1.0)

        return work

    return story


STORIES: dict[str, Story] = {
    "close": of_each(lambda ref: ref.close()),
    "close of the busy": of_busy(lambda ref: ref.close()),
    "delete": of_each(lambda ref: ref.delete()),
    "evict": of_each(lambda ref: ref.evict()),
    "explain": of_each(lambda ref: ref.explain()),
    "explain of the busy": of_busy(lambda ref: ref.explain()),
    "followup": of_each(lambda ref: done(ref.followup(1))),
    "followup of one": of_one(lambda ref, n: done(ref.followup(n))),
    "followup with an id": of_one(lambda ref, n: done(ref.followup(n, run_id=f"id-{n}"))),
    "info": of_each(lambda ref: ref.info()),
    "info beside a queue": of_queued(lambda ref, run: ref.info()),
    "info of the busy": of_busy(lambda ref: ref.info()),
    "interrupt": of_busy(lambda ref: ref.interrupt()),
    "interrupt of a run": of_queued(lambda ref, run: run.interrupt()),
    "interrupt with cascade": of_each(lambda ref: ref.interrupt(cascade=True)),
    "pin": of_each(lambda ref: ref.pin()),
    "send": of_one(lambda ref, n: ref.send(n)),
    "spawn in a tree of its own": trees,
    "spawn where another was": spawns_again,
    "spawn in a turn": family(parent),
    "spawn in a turn that goes on": family(continued),
    "state": of_each(lambda ref: ref.state()),
    "info of a run": of_queued(lambda ref, run: run.info()),
}


def steps_each(story: Story, number: int) -> float:
    """Bytecodes for one of so many."""
    steps = Steps()

    async def told() -> None:
        async with guard.still(residents=number + 1, slots=number + 1) as (runtime, _):
            work = await story(runtime, number)
            with steps.bytecodes():
                await work()

    with guard.runner() as running:
        running.run(told())
    return steps.found["bytecodes"] / number


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_one_of_many_costs_what_one_of_few_does(story: Story) -> None:
    few, many = steps_each(story, FEW), steps_each(story, MANY)
    print(f"{few:,.0f} steps for one of {FEW}, {many:,.0f} for one of {MANY}")
    assert many < MOST * few
