"""Calls whose answer could never come are refused when they are made, and say what to do instead."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from greenroom import AsyncRuntime, GreenroomError, Runtime, SyncTurn, Turn, agent

DEADLINE = 600.0


@agent(name="c-refused-kid")
async def kid(turn: Turn) -> str:
    return "kid"


# The runtime in a turn of its own


def uses_of(open_: Runtime) -> dict[str, Callable[[], Any]]:
    ref = open_.agent("/known/kid")
    run = ref.followup(1)
    return {
        "spawn": lambda: open_.spawn(kid, "/never/kid", input=1),
        "followup": lambda: ref.followup(1),
        "result": lambda: run.result(),
        "wait": lambda: open_.wait([run, ref.followup(1)]),
        "list": lambda: open_.list(),
        "stats": lambda: open_.stats(),
        "events": lambda: next(open_.events(since=0)),
        "close": lambda: open_.close(),
    }


@pytest.mark.parametrize("use", ["spawn", "followup", "result", "wait", "list", "stats", "events", "close"])
@pytest.mark.parametrize("where", ["thread", "loop", "thread of a loop's turn"])
def test_the_runtime_is_refused_in_a_turn_of_its_own(runtime: Any, where: str, use: str) -> None:
    open_ = runtime(slots=1)
    open_.spawn(kid, "/known/kid", input=1).run.result(DEADLINE)
    uses = uses_of(open_)
    said: list[str] = []

    def refused() -> str:
        with pytest.raises(GreenroomError, match=r"turn\.spawn, turn\.followup, turn\.wait") as error:
            uses[use]()
        said.append(str(error.value))
        return "refused"

    @agent(name="c-refused-on-thread")
    def on_thread(turn: SyncTurn) -> str:
        return refused()

    @agent(name="c-refused-on-loop")
    async def on_loop(turn: Turn) -> str:
        return refused() if where == "loop" else await asyncio.to_thread(refused)

    kind = on_thread if where == "thread" else on_loop
    assert open_.spawn(kind, "/t/a", input=1).run.result(DEADLINE) == "refused"
    assert "plain def" not in said[0]
    assert [info.path for info in open_.list("/never")] == []
    if where != "loop":
        assert "/t/a" in said[0]


def test_it_is_not_where_the_turn_holds_no_slot(runtime: Any) -> None:
    """In a pause, after the turn's end, on threads of the program's own, and for another runtime."""
    open_, other = runtime(slots=1), runtime(":memory:", slots=1)
    left: list[threading.Thread] = []
    found: list[Any] = []
    ended = threading.Event()

    def ask(of: Runtime, name: str) -> Any:
        return of.spawn(kid, f"/asked/{name}", input=1).run.result(DEADLINE)

    async def lingers() -> None:
        await asyncio.to_thread(ended.wait, DEADLINE)
        found.append(await asyncio.to_thread(ask, open_, "late"))

    tasks: list[Any] = []

    @agent(name="c-refused-paused")
    def pauses(turn: SyncTurn) -> Any:
        with turn.paused():
            first = ask(open_, "paused")
        return [first, ask(other, "other")]

    @agent(name="c-refused-lingers")
    async def leaves(turn: Turn) -> None:
        tasks.append(asyncio.create_task(lingers()))

    assert open_.spawn(pauses, "/t/a", input=1).run.result(DEADLINE) == ["kid", "kid"]
    open_.spawn(leaves, "/t/b", input=1).run.result(DEADLINE)
    ended.set()
    deadline = time.monotonic() + DEADLINE
    while not found and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert found == ["kid"]
    assert left == []


def test_an_asynchronous_runtime_refuses_to_wait_for_runs_in_a_turn_of_its_own() -> None:
    async def program() -> None:
        async with AsyncRuntime(slots=1) as open_:

            @agent(name="c-refused-async")
            async def asks(turn: Turn) -> Any:
                ref = await open_.spawn(kid, "/t/kid", input=1)  # takes no slot
                assert ref.run is not None
                for wait in (lambda: ref.run.result(), lambda: open_.wait([ref.run])):
                    with pytest.raises(GreenroomError, match="/t/a"):
                        await wait()
                async with turn.paused():
                    return await ref.run

            ref = await open_.spawn(asks, "/t/a", input=1)
            assert await ref.run.result(DEADLINE) == "kid"

    asyncio.run(program())


# The runtime in an agent's open() and close()


@pytest.mark.parametrize("method", ["open", "close"])
@pytest.mark.parametrize("use", ["result", "wait", "close"])
def test_waiting_is_refused_in_open_and_close_of_an_agent_and_starting_work_is_not(
    runtime: Any, method: str, use: str
) -> None:
    """With one place in memory, the run would wait for the place of the agent that waits for it."""
    open_ = runtime(residents=1)
    said: list[str] = []

    def waits(at: str) -> None:
        if at == method and not said:
            ref = open_.spawn(kid, "/asked/kid", input=1)
            uses = {"result": ref.run.result, "wait": lambda: open_.wait([ref.run]), "close": open_.close}
            with pytest.raises(GreenroomError) as error:
                uses[use]()
            said.append(str(error.value))

    @agent(name="c-refused-class")
    class Waits:
        def open(self, info: Any) -> None:
            waits("open")

        def run(self, turn: SyncTurn) -> str:
            return "ran"

        def close(self) -> None:
            waits("close")

    ref = open_.spawn(Waits, "/t/a", input=1)
    assert ref.run.result(DEADLINE) == "ran"
    assert ref.evict() or said  # The child's arrival may have evicted it.
    (text,) = said
    assert f"the {method}() of /t/a" in text
    assert open_.agent("/asked/kid").followup(2).result(DEADLINE) == "kid"


def test_an_asynchronous_runtime_refuses_to_wait_in_open_and_to_be_closed_there_or_in_a_turn() -> None:
    async def program() -> list[str]:
        said: list[str] = []
        async with AsyncRuntime(residents=1) as open_:

            @agent(name="c-refused-async-class")
            class Waits:
                async def open(self, info: Any) -> None:
                    ref = await open_.spawn(kid, "/asked/kid", input=1)
                    for wait in (lambda: ref.run.result(), lambda: open_.wait([ref.run]), open_.close):
                        with pytest.raises(GreenroomError) as error:
                            await wait()
                        said.append(str(error.value))
                    self.later = asyncio.create_task(ref.run.result())  # It outlives open().

                async def run(self, turn: Turn) -> str:
                    with pytest.raises(GreenroomError, match="closed in the turn of /t/a"):
                        await open_.close()
                    async with turn.paused():
                        return str(await self.later)

            ref = await open_.spawn(Waits, "/t/a", input=1)
            assert await ref.run.result(DEADLINE) == "kid"
        return said

    said = asyncio.run(program())
    assert len(said) == 3
    assert all("open() of /t/a" in text for text in said)


# A turn on another loop


@pytest.mark.parametrize("call", ["spawn", "followup", "wait", "checkpoint", "paused", "run"])
def test_a_turns_coroutine_is_refused_on_another_loop(runtime: Any, call: str) -> None:
    async def use(turn: Turn, run: Any) -> None:
        match call:
            case "spawn":
                await turn.spawn(kid, "never")
            case "followup":
                await turn.followup("kid", 1, key=f"on loop {id(asyncio.get_running_loop())}")
            case "wait":
                await turn.wait(run)
            case "checkpoint":
                await turn.checkpoint()
            case "paused":
                async with turn.paused():
                    pass
            case _:
                await run

    @agent(name="c-refused-loop")
    async def strays(turn: Turn) -> str:
        await turn.spawn(kid, "kid")
        run = await turn.followup("kid", 1, key="first")
        with pytest.raises(GreenroomError, match="another loop"):
            await asyncio.to_thread(lambda: asyncio.run(use(turn, run)))
        await use(turn, run)  # where it belongs it goes on
        return "refused"

    open_ = runtime(slots=1)
    assert open_.spawn(strays, "/t/a", input=1).run.result(DEADLINE) == "refused"


def test_a_plain_turns_call_is_refused_on_the_loop(runtime: Any) -> None:
    """It would wait for the loop that it keeps."""

    @agent(name="c-refused-callback")
    def calls_back(turn: SyncTurn) -> str:
        answers: list[Any] = []
        called = threading.Event()

        def call() -> None:
            try:
                turn.checkpoint()
            except BaseException as error:
                answers.append(error)
            called.set()

        open_._engine._base.loop.call_soon_threadsafe(call)
        assert called.wait(DEADLINE)
        return str(answers[0])

    open_ = runtime()
    assert "async def" in open_.spawn(calls_back, "/t/a", input=1).run.result(DEADLINE)


# Processes that were forked


def in_child(do: Callable[[], Any]) -> str:
    """What `do` returns in a forked process, or how that ended; never longer than the deadline."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(int(DEADLINE))
        try:
            said = str(do())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    try:
        _, status = os.waitpid(pid, 0)
        return os.read(reading, 10_000).decode() or f"it ended with {status}"
    finally:
        os.close(reading)


def test_a_runtime_made_before_a_fork_is_started_after_it(tmp_path: Path) -> None:
    made = Runtime(tmp_path / "agents.db")

    def child() -> Any:
        with made:
            return made.spawn(kid, "/t/a", input=1).run.result(DEADLINE)

    assert in_child(child) == "kid"
    with made:
        assert made.agent("/t/a").followup(2).result(DEADLINE) == "kid"


@pytest.mark.parametrize("call", ["spawn", "close", "start"])
def test_a_runtime_that_was_started_before_a_fork_says_so(runtime: Any, call: str) -> None:
    open_ = runtime()
    calls = {"spawn": lambda: open_.spawn(kid, "/t/a"), "close": open_.close, "start": open_.start}
    said = in_child(calls[call])
    assert said == "None" if call == "close" else said.startswith("RuntimeClosing")
    agent(name=f"c-refused-registered-{call}")(kid)  # … of which it tells the runtime
    assert open_.spawn(kid, "/t/a", input=1).run.result(DEADLINE) == "kid"


def test_a_kind_that_is_registered_in_a_child_is_told_to_no_parent(runtime: Any) -> None:
    open_ = runtime()

    def child() -> str:
        queue = open_._engine._base.queue
        before = len(queue)

        @agent(name="c-refused-in-child")
        async def late(turn: Turn) -> None: ...

        return f"{len(queue) - before} told"

    assert in_child(child) == "0 told"


@pytest.mark.parametrize("call", ["send", "spawn", "wait", "checkpoint", "emit"])
def test_the_child_of_a_plain_turn_is_refused_at_once(runtime: Any, call: str) -> None:
    @agent(name="c-refused-forks")
    def forks(turn: SyncTurn) -> str:
        run = turn.followup(turn.spawn(kid, "kid").path, 1)
        calls = {
            "send": lambda: turn.send(turn.path, 1),
            "spawn": lambda: turn.spawn(kid, "never"),
            "wait": lambda: turn.wait(run),
            "checkpoint": turn.checkpoint,
            "emit": lambda: turn.emit("never"),
        }
        return in_child(calls[call])

    open_ = runtime()
    assert "forked" in open_.spawn(forks, "/t/a", input=1).run.result(DEADLINE)
    assert open_.spawn(kid, "/t/b", input=1).run.result(DEADLINE) == "kid"


FALLS_OUT = """
import asyncio, os, sys, time
from greenroom import Runtime, SyncTurn, Turn, agent

def ended(pid):
    for _ in range(200):
        if os.waitpid(pid, os.WNOHANG)[0]:
            return "the child ended"
        time.sleep(0.05)
    os.kill(pid, 9)
    return "the child lives on"

@agent
async def returns(turn: Turn):
    pid = os.fork()
    return "the child" if pid == 0 else await asyncio.to_thread(ended, pid)

@agent
async def sleeps(turn: Turn):
    pid = os.fork()
    if pid == 0:
        await asyncio.sleep(0.2)
    return await asyncio.to_thread(ended, pid)

@agent
async def raises(turn: Turn):
    pid = os.fork()
    if pid == 0:
        raise SystemExit
    return await asyncio.to_thread(ended, pid)

@agent
def on_thread(turn: SyncTurn):
    pid = os.fork()
    return "the child" if pid == 0 else ended(pid)

@agent
async def other(turn: Turn):
    await asyncio.sleep(0)
    print("other", os.getpid() == parent, flush=True)

parent = os.getpid()
with Runtime("agents.db", slots=4) as runtime:
    for kind in (returns, sleeps, raises, on_thread):
        name = kind.__name__.replace("_", "-")
        run = runtime.spawn(kind, f"/t/{name}", input=1).run
        others = [runtime.spawn(other, f"/{name}/o{n}", input=1).run for n in range(20)]
        print(run.result(600), len(runtime.wait(others, timeout=600)), flush=True)
"""


def test_the_child_of_a_turn_ends_when_it_gets_back_to_the_runtime(tmp_path: Path) -> None:
    program = [sys.executable, "-c", FALLS_OUT]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=True)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("other")] == ["the child ended 20"] * 4
    assert [line for line in lines if line.startswith("other")] == ["other True"] * 80
    assert done.stderr.count("forked in a turn") == 4


# Threads that are none


@pytest.mark.parametrize(
    ("library", "module", "function"),
    [
        ("gevent", "gevent.monkey", "is_module_patched"),
        ("eventlet", "eventlet.patcher", "is_monkey_patched"),
    ],
)
def test_a_runtime_refuses_to_start_where_threads_are_greenlets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str, module: str, function: str
) -> None:
    stand_in = ModuleType(module)
    patched = True
    setattr(stand_in, function, lambda _: patched)
    monkeypatch.setitem(sys.modules, module, stand_in)

    async def start() -> None:
        await AsyncRuntime(tmp_path / "agents.db").start()

    made = Runtime(tmp_path / "agents.db")
    for begin in (made.start, lambda: asyncio.run(start())):
        with pytest.raises(GreenroomError, match=rf"{library}.*HTTP"):
            begin()
    assert not (tmp_path / "agents.db").exists()
    patched = False  # loaded, and threads are left alone
    with made:
        assert made.spawn(kid, "/t/a", input=1).run.result(DEADLINE) == "kid"
