"""A class kind's object is opened and closed in one task, whatever becomes of it between."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from greenroom import AgentInfo, Turn, agent

DEADLINE = 600.0
mark: ContextVar[str] = ContextVar("mark", default="none")


def until(true: Callable[[], Any]) -> Any:
    deadline = threading.Event()
    for _ in range(2000):
        if found := true():
            return found
        deadline.wait(0.01)
    raise AssertionError("it did not come about")


def test_open_and_close_share_a_task_and_each_turn_has_its_own(runtime: Any) -> None:
    tasks: list[Any] = []

    @agent(name="c-session-tasks")
    class Session:
        async def open(self, info: AgentInfo) -> None:
            tasks.append(asyncio.current_task())

        async def run(self, turn: Turn) -> None:
            tasks.append(asyncio.current_task())

        async def close(self) -> None:
            tasks.append(asyncio.current_task())

    open_ = runtime()
    ref = open_.spawn(Session, "/s/a", input=1)
    ref.run.result(DEADLINE)
    ref.followup(2).result(DEADLINE)
    assert ref.evict()
    until(lambda: len(tasks) == 4)
    opened, first, second, closed = tasks
    assert opened is closed
    assert len({opened, first, second}) == 3


@pytest.mark.parametrize("group", ["asyncio", "anyio"])
def test_what_is_entered_in_open_is_left_in_close(
    runtime: Any, group: str, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    async def works(ticks: asyncio.Queue[str]) -> None:
        said.append(await ticks.get())

    @agent(name=f"c-session-group-{group}")
    class Session:
        async def open(self, info: AgentInfo) -> None:
            self.ticks: asyncio.Queue[str] = asyncio.Queue()
            self.group: Any = asyncio.TaskGroup() if group == "asyncio" else anyio.create_task_group()
            await self.group.__aenter__()
            if group == "asyncio":
                self.group.create_task(works(self.ticks))
            else:
                self.group.start_soon(works, self.ticks)

        async def run(self, turn: Turn) -> str:
            return "well"

        async def close(self) -> None:
            self.ticks.put_nowait("a tick")
            await self.group.__aexit__(None, None, None)
            said.append("closed")

    open_ = runtime()
    ref = open_.spawn(Session, "/s/a", input=1)
    assert ref.run.result(DEADLINE) == "well"
    assert ref.evict()
    until(lambda: len(said) == 2)
    assert said == ["a tick", "closed"]
    assert ref.followup(2).result(DEADLINE) == "well"
    open_.close()
    assert said == ["a tick", "closed"] * 2
    assert "/s/a" not in caplog.text


@pytest.mark.parametrize("group", ["asyncio", "anyio"])
def test_a_session_that_its_own_task_group_ended_is_opened_anew(
    runtime: Any, group: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The turn under way goes on, and those that wait find a new object."""
    opened: list[Any] = []
    closed: list[Any] = []

    async def fails(go: asyncio.Event) -> None:
        await go.wait()
        raise LookupError("the connection broke")

    @agent(name=f"c-session-breaks-{group}")
    class Session:
        async def open(self, info: AgentInfo) -> None:
            opened.append(self)
            self.go = asyncio.Event()
            self.group: Any = asyncio.TaskGroup() if group == "asyncio" else anyio.create_task_group()
            await self.group.__aenter__()
            if len(opened) == 1:
                if group == "asyncio":
                    self.group.create_task(fails(self.go))
                else:
                    self.group.start_soon(fails, self.go)

        async def run(self, turn: Turn) -> int:
            self.go.set()
            await asyncio.sleep(0.05)
            turn.state["runs"] = turn.state.get("runs", 0) + 1
            return opened.index(self)

        async def close(self) -> None:
            closed.append(self)
            await self.group.__aexit__(None, None, None)

    open_ = runtime(slots=1)
    ref = open_.spawn(Session, "/s/a")
    runs = [ref.followup(n) for n in range(3)]
    assert [run.result(DEADLINE) for run in runs] == [0, 1, 1]
    assert [run.info().attempt for run in runs] == [1, 1, 1]
    assert ref.state() == {"runs": 3}
    assert "the connection broke" in caplog.text
    until(lambda: closed == opened[:1])
    open_.close()
    assert closed == opened


def test_an_idle_session_that_ended_by_itself_is_opened_anew_for_the_next_run(runtime: Any) -> None:
    opened: list[Any] = []

    @agent(name="c-session-idle")
    class Session:
        async def open(self, info: AgentInfo) -> None:
            opened.append(asyncio.current_task())

        async def run(self, turn: Turn) -> int:
            return len(opened)

    ref = runtime().spawn(Session, "/s/a", input=1)
    assert ref.run.result(DEADLINE) == 1
    until(lambda: ref.info().status == "idle")
    opened[0].get_loop().call_soon_threadsafe(opened[0].cancel)
    until(lambda: not ref.info().resident)
    assert ref.followup(2).result(DEADLINE) == 2


@pytest.mark.parametrize("closes", ["async", "thread"])
@pytest.mark.parametrize("opens", ["async", "thread"])
def test_open_and_close_share_their_context_variables(runtime: Any, opens: str, closes: str) -> None:
    seen: list[str] = []

    class Methods:
        async def async_open(self, info: AgentInfo) -> None:
            mark.set("of open")

        def thread_open(self, info: AgentInfo) -> None:
            mark.set("of open")

        async def async_close(self) -> None:
            seen.append(mark.get())

        def thread_close(self) -> None:
            seen.append(mark.get())

    @agent(name=f"c-session-context-{opens}-{closes}")
    class Session:
        open = getattr(Methods, f"{opens}_open")
        close = getattr(Methods, f"{closes}_close")

        async def run(self, turn: Turn) -> str:
            return mark.get()

    open_ = runtime()
    assert open_.spawn(Session, "/s/a", input=1).run.result(DEADLINE) == "none"
    open_.close()
    assert seen == ["of open"]


@pytest.mark.parametrize("how", ["raises", "is cancelled", "is deaf"])
def test_an_open_that_did_not_come_to_its_end_is_closed_in_its_task(runtime: Any, how: str) -> None:
    tasks: list[Any] = []
    hears = threading.Event()

    @agent(name=f"c-session-{how.replace(' ', '-')}", open_timeout=0.1)
    class Session:
        async def open(self, info: AgentInfo) -> None:
            tasks.append(asyncio.current_task())
            if how == "raises":
                raise LookupError("on purpose")
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    if how == "is cancelled":
                        raise
                    await asyncio.to_thread(hears.wait, DEADLINE)
                    return

        async def run(self, turn: Turn) -> None: ...

        async def close(self) -> None:
            async with asyncio.timeout(DEADLINE):  # which a task that counts as cancelled could not bear
                await asyncio.sleep(0)
            tasks.append(asyncio.current_task())

    ref = runtime().spawn(Session, "/s/a", input=1)
    assert ref.run.outcome(DEADLINE).status == "failed"
    if how == "is deaf":
        assert len(tasks) == 1
        hears.set()
    until(lambda: len(tasks) == 2)
    assert tasks[0] is tasks[1]
    assert tasks[0].cancelling() == 0
