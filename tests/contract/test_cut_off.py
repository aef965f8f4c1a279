"""What closing cuts off: what its code sees, which ends count, and what begins again."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenroom import AsyncRuntime, Runtime, RuntimeClosing, SyncTurn, Turn, agent

DEADLINE = 600.0
told: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    told.clear()


async def for_ever() -> None:
    await asyncio.Event().wait()


def cut_off(runtime: Any, kind: Any, begun: Any, **options: Any) -> Any:
    """The outcome of a run of `kind` whose first turn was cut off, in the runtime after that one."""
    first = runtime()
    run = first.spawn(kind, "/cut/a", input="first", run_id="cut").run
    begun.arrived()
    first.close(drain=0, **options)
    return runtime().run(run.run_id)


def test_async_code_is_cancelled_and_asks_for_nothing_more(runtime: Any, door: Any) -> None:
    begun = door()

    @agent(name="c-cut-async")
    async def kind(turn: Turn) -> Any:
        if turn.attempt == 2:
            return turn.state
        turn.state["seen"] = True
        begun._arrivals.put(turn.path)
        try:
            await for_ever()
        except asyncio.CancelledError:
            told.append((turn.interrupted, turn.suspended))
            calls: list[Callable[[], Any]] = [
                lambda: turn.spawn(kind, "child"),
                lambda: turn.followup("/cut/a", "more"),
                lambda: turn.send("/cut/a", "a letter"),
                lambda: turn.interrupt("/cut/a"),
                lambda: turn.wait("cut-other"),
                lambda: turn.after("cut-other"),
                lambda: turn.paused().__aenter__(),
                turn.list,
                turn.checkpoint,
            ]
            for call in calls:
                with pytest.raises(RuntimeClosing, match="begins again"):
                    await call()
            with pytest.raises(RuntimeClosing):
                turn.emit("more")
            told.append("all refused")
            raise

    run = cut_off(runtime, kind, begun)
    assert run.result(timeout=DEADLINE) == {}, "what was not committed is gone, and it has begun again"
    assert told == [(False, True), "all refused"]
    info = run.info()
    assert (info.attempt, info.crashes) == (2, 0)
    ref = run._runtime.agent("/cut/a")
    assert ref.info().inbox == 0
    assert [each.path for each in run._runtime.list()] == ["/cut/a"]


def test_code_on_a_thread_sees_it_and_its_calls_raise(runtime: Any, door: Any) -> None:
    begun, seen = door(), threading.Event()

    @agent(name="c-cut-thread")
    def kind(turn: SyncTurn) -> Any:
        if turn.attempt == 2:
            return "again"
        if turn.input == "first":
            never = turn.spawn(kind, "child").followup("second")
            begun._arrivals.put(turn.path)
            try:
                never.result()
            except RuntimeClosing as error:
                told.append((turn.interrupted, turn.suspended, "begins again" in str(error)))
                raise
        seen.wait(DEADLINE)  # the child, until its parent was cut off
        return None

    first = runtime()
    run = first.spawn(kind, "/cut/a", input="first", run_id="cut").run
    begun.arrived()
    closing = threading.Thread(target=lambda: first.close(drain=0))
    closing.start()
    while not told:
        pass
    seen.set()
    closing.join(DEADLINE)
    assert told == [(False, True, True)]
    assert runtime().run(run.run_id).result(timeout=DEADLINE) == "again"


@pytest.mark.parametrize("on_a_thread", [False, True])
def test_code_that_ends_on_its_own_has_ended(runtime: Any, door: Any, on_a_thread: bool) -> None:
    begun = door()

    @agent(name="c-cut-ends")
    async def on_the_loop(turn: Turn) -> str:
        begun._arrivals.put(turn.path)
        try:
            await for_ever()
        except asyncio.CancelledError:
            turn.state["tidied"] = True
        return "in time"

    @agent(name="c-cut-ends-thread")
    def on_thread(turn: SyncTurn) -> str:
        begun._arrivals.put(turn.path)
        while not turn.suspended:
            pass
        turn.state["tidied"] = True
        return "in time"

    run = cut_off(runtime, on_thread if on_a_thread else on_the_loop, begun)
    outcome = run.outcome(timeout=DEADLINE)
    assert (outcome.status, outcome.result, outcome.attempt) == ("completed", "in time", 1)
    assert run._runtime.agent("/cut/a").state() == {"tidied": True}


def test_a_failure_of_its_own_counts_as_well(runtime: Any, door: Any) -> None:
    begun = door()

    @agent(name="c-cut-fails")
    async def kind(turn: Turn) -> None:
        begun._arrivals.put(turn.path)
        try:
            await for_ever()
        except asyncio.CancelledError:
            raise ValueError("of its own") from None

    outcome = cut_off(runtime, kind, begun).outcome(timeout=DEADLINE)
    assert (outcome.status, outcome.error_type, outcome.attempt) == ("failed", "ValueError", 1)


@pytest.mark.parametrize("group", [False, True])
def test_a_failure_for_the_closing_alone_is_none(runtime: Any, door: Any, group: bool) -> None:
    """What it asks for while it tidies up is refused, and what is made of that is no end of the run."""
    begun = door()

    @agent(name="c-cut-tidies")
    async def kind(turn: Turn) -> str:
        if turn.attempt == 2:
            return "again"
        begun._arrivals.put(turn.path)
        try:
            await for_ever()
        finally:
            try:
                await turn.checkpoint()
            except RuntimeClosing as error:
                raise ExceptionGroup("several", [error]) if group else OSError("not kept") from error
        return "never"

    assert cut_off(runtime, kind, begun).result(timeout=DEADLINE) == "again"


def test_a_turn_that_ends_while_sessions_close_has_ended(runtime: Any, door: Any) -> None:
    """After the time in which what is cut off may return, and before the store closes."""
    begun, go = door(), threading.Event()

    @agent(name="c-cut-late")
    class Late:
        def run(self, turn: SyncTurn) -> str:
            begun._arrivals.put(turn.path)
            go.wait(DEADLINE)
            return "late"

    threading.Timer(6.5, go.set).start()
    outcome = cut_off(runtime, Late, begun).outcome(timeout=DEADLINE)
    assert (outcome.status, outcome.result, outcome.attempt) == ("completed", "late", 1)


def test_a_turn_that_waits_is_cut_off_where_it_waits(runtime: Any, door: Any) -> None:
    begun = door()

    @agent(name="c-cut-waits")
    async def kind(turn: Turn) -> Any:
        if turn.input == "child":
            await for_ever()
        if turn.attempt == 2:
            return "again"
        child = await turn.spawn(kind, "child")
        run = await child.followup("child")
        begun._arrivals.put(turn.path)
        try:
            await run
        except asyncio.CancelledError:
            told.append((turn.interrupted, turn.suspended))
            raise

    first = runtime(slots=1)
    run = first.spawn(kind, "/cut/a", input="parent", run_id="cut").run
    begun.arrived()
    first.close(drain=0)
    assert told == [(False, True)]
    second = runtime(slots=2)
    assert second.run(run.run_id).result(timeout=DEADLINE) == "again"
    second.agent("/cut/a/child").interrupt()


def test_close_with_interrupt_ends_them(runtime: Any, door: Any) -> None:
    begun = door()

    @agent(name="c-cut-interrupts")
    async def kind(turn: Turn) -> None:
        begun._arrivals.put(turn.path)
        try:
            await for_ever()
        except asyncio.CancelledError:
            told.append((turn.interrupted, turn.suspended))
            raise

    first = runtime()
    run = first.spawn(kind, "/cut/a", input="first").run
    queued = first.agent("/cut/a").followup("second")
    begun.arrived()
    first.close(drain=0, interrupt=True)
    assert told == [(True, False)]
    second = runtime()
    outcome = second.run(run.run_id).outcome(timeout=DEADLINE)
    assert (outcome.status, outcome.attempt) == ("interrupted", 1)
    begun.arrived()
    assert second.run(queued.run_id).status == "running", "it had not begun, and was not ended"
    second.close(drain=0, interrupt=True)


def test_a_kind_that_may_begin_once_gets_the_drain_time_and_is_interrupted(runtime: Any, door: Any) -> None:
    begun = door()

    @agent(name="c-cut-once", attempts=1)
    async def kind(turn: Turn) -> None:
        begun._arrivals.put(turn.path)
        if turn.input == "in time":
            await asyncio.sleep(0.2)
            return
        try:
            await for_ever()
        finally:
            told.append((turn.interrupted, turn.suspended))

    first = runtime()
    run = first.spawn(kind, "/cut/a", input="too long").run
    in_time = first.spawn(kind, "/cut/b", input="in time").run
    begun.arrived()
    begun.arrived()
    first.close(drain=1.0)
    assert told == [(True, False)]
    second = runtime()
    assert second.run(in_time.run_id).outcome(timeout=DEADLINE).ok
    outcome = second.run(run.run_id).outcome(timeout=DEADLINE)
    assert (outcome.status, outcome.attempt, outcome.error_type) == ("interrupted", 1, None)


# The program around it ends, and nobody closes the runtime


KINDS = """
import asyncio, sys
from greenroom import AsyncRuntime, agent

begun = []

@agent(name="c-cut-outside")
async def outside(turn):
    if turn.attempt == 1:
        begun.append(turn.path)
        await asyncio.Event().wait()
    return turn.attempt

@agent(name="c-cut-outside-thread")
def outside_thread(turn):
    if turn.attempt == 1:
        begun.append(turn.path)
        while not turn.suspended:
            pass
        turn.checkpoint()
    return turn.attempt

@agent(name="c-cut-outside-once", attempts=1)
async def outside_once(turn):
    begun.append(turn.path)
    await asyncio.Event().wait()

@agent(name="c-cut-opens")
class Opens:
    async def open(self, info):
        begun.append(info.path)
        if "__main__" in sys.modules and hasattr(sys.modules["__main__"], "FAILS"):
            await asyncio.Event().wait()

    async def run(self, turn):
        return turn.attempt
"""

FAILS = """
FAILS = True

async def main(store, kind, count):
    runtime = await AsyncRuntime(store).start()
    for n in range(count):
        await runtime.spawn(kind, f"/t{n}/a", input="first", run_id=f"r{n}")
    while len(begun) < count:
        await asyncio.sleep(0.01)
    raise OSError("the program fails")

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""

exec(KINDS, {"__name__": "kinds"})


def after_the_program_failed(store: Path, kind: str, count: int) -> Runtime:
    """A program fails while runs are under way: asyncio cancels all tasks, nobody closes the runtime."""
    command = [sys.executable, "-c", KINDS + FAILS, str(store), kind, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert "OSError: the program fails" in done.stderr
    return Runtime(store)


@pytest.mark.parametrize("kind", ["c-cut-outside", "c-cut-outside-thread"])
def test_a_cancellation_from_outside_is_no_end(tmp_path: Path, kind: str) -> None:
    with after_the_program_failed(tmp_path / "agents.db", kind, 5) as runtime:
        for n in range(5):
            run = runtime.run(f"r{n}")
            assert run.result(timeout=DEADLINE) in (1, 2)
            assert run.info().crashes == 0


def test_nor_is_one_of_a_session_that_opens(tmp_path: Path) -> None:
    with after_the_program_failed(tmp_path / "agents.db", "c-cut-opens", 3) as runtime:
        for n in range(3):
            assert runtime.run(f"r{n}").result(timeout=DEADLINE) == 1, (
                "none of its code was executed before"
            )
            assert runtime.agent(f"/t{n}/a").info().status == "idle"


def test_a_run_that_may_begin_once_is_ended_by_it(tmp_path: Path) -> None:
    """Interrupted if that came to the disk before the program was gone, else cut off."""
    with after_the_program_failed(tmp_path / "agents.db", "c-cut-outside-once", 1) as runtime:
        outcome = runtime.run("r0").outcome(timeout=DEADLINE)
        assert outcome.attempt == 1
        assert (outcome.status, outcome.error_type) in [("interrupted", None), ("failed", "CutOff")]


def test_a_turn_that_somebody_cancels_begins_again_while_the_program_goes_on(door: Any) -> None:
    @agent(name="c-cut-stray", attempts=5)
    async def kind(turn: Turn) -> Any:
        if turn.attempt < 3:
            await for_ever()
        return turn.attempt

    async def main() -> None:
        async with AsyncRuntime() as runtime:
            run = (await runtime.spawn(kind, "/stray/a", input="first")).run
            for attempt in (1, 2):
                while (await run.info()).attempt < attempt:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)
                for task in asyncio.all_tasks():
                    if task.get_name().startswith("turn /stray/a"):
                        task.cancel()
            assert await run.result(timeout=DEADLINE) == 3

    asyncio.run(main())


def test_code_that_cancels_its_own_task_each_time_fails(runtime: Any) -> None:
    @agent(name="c-cut-itself", attempts=2)
    async def kind(turn: Turn) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await for_ever()

    outcome = runtime().spawn(kind, "/itself/a", input=1).run.outcome(timeout=DEADLINE)
    assert (outcome.status, outcome.error_type, outcome.attempt) == ("failed", "CancelledError", 2)


def test_code_that_meets_the_cancellation_of_something_else_fails(runtime: Any) -> None:
    @agent(name="c-cut-other")
    async def kind(turn: Turn) -> None:
        other = asyncio.create_task(for_ever())
        await asyncio.sleep(0)
        other.cancel()
        await other

    outcome = runtime().spawn(kind, "/other/a", input=1).run.outcome(timeout=DEADLINE)
    assert (outcome.status, outcome.error_type, outcome.attempt) == ("failed", "CancelledError", 1)
