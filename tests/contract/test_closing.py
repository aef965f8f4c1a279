"""What a runtime does while it closes, and when its opening is cut short."""

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    AsyncRuntime,
    RunNotFound,
    Runtime,
    RuntimeClosing,
    agent,
)
from greenroom.actors.environment import Environment
from greenroom.actors.face.engine import Engine

DEADLINE = 600.0

pytestmark = pytest.mark.usefixtures("nothing_of_ours_blocks")


@agent(name="c-closing-plain")
async def plain(turn: Any) -> Any:
    return turn.input


doors: dict[str, Any] = {}


@agent(name="c-closing-at-the-door")
async def at_the_door(turn: Any) -> str:
    await doors[turn.input].enter()
    return "done"


def test_it_tells_how_things_stand_until_its_turns_have_ended(runtime: Any, door: Any, until: Any) -> None:
    open_ = runtime()
    doors["closing"] = waits_there = door()
    ref = open_.spawn(at_the_door, "/closing/a", input="closing")
    waits_there.arrived()
    closing = threading.Thread(target=open_.close, args=(DEADLINE,), daemon=True)
    closing.start()

    def refused() -> bool:
        try:
            ref.send("more")
        except RuntimeClosing:
            return True
        return False

    until(refused, "the beginning of the end")
    assert ref.info().status == "running"
    assert [info.path for info in open_.list()] == ["/closing/a"]
    assert open_.stats().running == 1
    assert ref.run.status == "running"
    assert ref.state() == {}
    assert ref.explain().waits_for is None
    assert open_.agent("/closing/a").path == "/closing/a"
    for work in (
        lambda: open_.spawn(plain, "/closing/b"),
        lambda: ref.followup(1),
        lambda: ref.close(),
        lambda: ref.evict(),
    ):
        with pytest.raises(RuntimeClosing):
            work()
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(ref.run.result, DEADLINE)
        waits_there.open()
        assert result.result(DEADLINE) == "done"
    closing.join(DEADLINE)
    assert not closing.is_alive()
    with pytest.raises(RuntimeClosing):
        ref.info()


def test_a_follower_of_events_sees_how_its_turns_ended(runtime: Any, door: Any, until: Any) -> None:
    open_ = runtime()
    doors["followed"] = waits_there = door()
    stream = open_.events()
    open_.spawn(at_the_door, "/closing/a", input="followed")
    waits_there.arrived()
    while next(stream).type != "run.started":
        pass
    with ThreadPoolExecutor(1) as threads:
        ending = threads.submit(next, stream)
        until(lambda: open_._engine.callers.waiting, "the question for the next event")
        open_.close(drain=0, interrupt=True)
        assert ending.result(DEADLINE).type == "run.interrupted"


def test_an_opening_that_is_cut_short_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    class Interrupted:
        def put(self, answer: Any) -> None:
            pass

        def get(self) -> Any:
            raise KeyboardInterrupt

    before = set(threading.enumerate())
    cut_short = Runtime(tmp_path / "agents.db")
    with monkeypatch.context() as patch:
        patch.setattr(cut_short._engine, "world", Environment(answers=Interrupted))
        with pytest.raises(KeyboardInterrupt):
            cut_short.start()
    until(lambda: set(threading.enumerate()) <= before, "the end of its threads")
    cut_short.close()
    with Runtime(tmp_path / "agents.db") as open_:
        assert open_.list() == []


async def _cancelled_while_starting(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = AsyncRuntime(store)
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "create", lambda self, callback: create(self, lambda _: None))
        starting = asyncio.create_task(runtime.start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    async with AsyncRuntime(store) as open_:
        assert await open_.list() == []


create = Engine.create


def test_an_opening_that_is_cancelled_lets_the_store_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(_cancelled_while_starting(tmp_path / "agents.db", monkeypatch))


def test_an_erased_agents_runs_are_gone_before_the_disk_knows(runtime: Any, tmp_path: Path) -> None:
    open_ = runtime(durability="memory")
    ref = open_.spawn(plain, "/closing/a", input=1)
    assert ref.run.result(DEADLINE) == 1
    other = sqlite3.connect(tmp_path / "agents.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        ref.delete()
        with pytest.raises(RunNotFound):
            open_.run(ref.run.run_id)
    finally:
        other.execute("ROLLBACK")
        other.close()
