"""Context variables: turns, `open` and `close` see those that the runtime was started with.

None of them sees what another one's code has set, and none what a caller sets after the start.
"""

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from greenroom import AsyncRuntime, Runtime, SyncTurn, Turn, agent
from greenroom.testing import Simulation

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
seen: list[tuple[str, str]] = []
"""Where code of a user's ran, and what it saw there before it set its own."""


def look(where: str) -> None:
    seen.append((where, tenant.get()))
    tenant.set(f"the secret of {where}")


class Saved:
    """A state whose making, storing and loading is code of a user's."""

    def __init__(self) -> None:
        look("state=")
        self.runs = 0

    def __getstate__(self) -> Any:
        tenant.set("the secret of __getstate__")
        return {"runs": self.runs}

    def __setstate__(self, state: Any) -> None:
        look("__setstate__")
        self.runs = state["runs"]


@agent(name="c-context-async", state=Saved)
async def on_loop(turn: Turn) -> None:
    look("async turn")
    turn.state.runs += 1
    turn.emit("progress")
    await turn.checkpoint()


@agent(name="c-context-thread", state=Saved)
def on_thread(turn: SyncTurn) -> None:
    look("thread turn")
    turn.emit("progress")
    turn.send(turn.path, "a message")
    turn.checkpoint()


@agent(name="c-context-class")
class Opened:
    async def open(self, info: Any) -> None:
        look("async open")

    async def run(self, turn: Turn) -> None:
        look("class turn")

    async def close(self) -> None:
        tenant.set("the secret of close")


@agent(name="c-context-sync-class")
class OpenedOnThread:
    def open(self, info: Any) -> None:
        look("thread open")

    def run(self, turn: SyncTurn) -> None:
        look("class turn on a thread")

    def close(self) -> None:
        tenant.set("the secret of close")


KINDS: list[Any] = [on_loop, on_thread, Opened, OpenedOnThread]


@agent(name="c-context-parent")
async def parent(turn: Turn) -> None:
    look("parent")
    if turn.results:
        return
    runs = []
    for number, kind in enumerate(KINDS):
        child = await turn.spawn(kind, f"child{number}")
        await child.send("a message")
        runs += [await child.followup(n) for n in range(2)]
    tenant.set("the secret of parent")
    await turn.wait(*runs)
    await turn.after(*runs)


@agent(name="c-context-limited", turn_timeout=0.05)
async def limited(turn: Turn) -> None:
    look("limited")
    await asyncio.sleep(60)


async def use(open_: Any) -> None:
    """Everything that one agent's code can have another one's begin for, and a caller both."""
    tenant.set("a caller")
    await asyncio.gather(*(open_.spawn(parent, f"/tree{n}/parent", input=n) for n in range(3)))
    late = await open_.spawn(limited, "/late/agent", input=1)
    await late.run.outcome()
    refs = [
        await open_.spawn(kind, f"/other/a{number}-{n}")
        for number, kind in enumerate(KINDS)
        for n in range(3)
    ]
    runs = [await ref.followup(1) for ref in refs]
    for run in runs:
        await run
    while (await open_.stats()).queued or (await open_.stats()).running:
        await asyncio.sleep(0.01)


def check() -> None:
    places = {where for where, _ in seen}
    assert places >= {
        "parent",
        "async turn",
        "thread turn",
        "async open",
        "thread open",
        "state=",
        "limited",
    }
    strangers = [(where, found) for where, found in seen if found != "at the start"]
    assert strangers == []


@pytest.mark.parametrize("residents", [64, 1])
@pytest.mark.parametrize("durability", ["memory", "process"])
def test_nobody_sees_what_another_ones_code_has_set(tmp_path: Any, durability: Any, residents: int) -> None:
    async def program() -> None:
        tenant.set("at the start")
        async with AsyncRuntime(
            tmp_path / "agents.db", durability=durability, residents=residents, slots=2
        ) as open_:
            await use(open_)

    seen.clear()
    asyncio.run(program())
    check()


@pytest.mark.parametrize("durability", ["memory", "process"])
def test_nor_with_a_loop_of_the_runtimes_own(tmp_path: Any, durability: Any) -> None:
    seen.clear()
    token = tenant.set("at the start")
    try:
        with Runtime(tmp_path / "agents.db", durability=durability, slots=2) as open_:
            tenant.set("a caller")
            runs = [open_.spawn(parent, f"/tree{n}/parent", input=n).run for n in range(3)]
            runs.append(open_.spawn(limited, "/late/agent", input=1).run)
            refs = [open_.spawn(kind, f"/other/a{n}") for n, kind in enumerate(KINDS * 3)]
            runs += [ref.followup(1) for ref in refs]
            assert len(open_.wait(runs, timeout=60)) == len(runs)
    finally:
        tenant.reset(token)
    check()


def test_nor_in_a_simulation() -> None:
    seen.clear()

    token = tenant.set("at the start")
    try:
        with Simulation(seed=1) as simulation:
            simulation.run(use(simulation.aio))
    finally:
        tenant.reset(token)
    check()
