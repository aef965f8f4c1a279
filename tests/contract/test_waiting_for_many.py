"""Waiting for many runs, in both runtimes: what counts is the run, however it is named."""

import asyncio
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from greenroom import AsyncRuntime, Runtime, Turn, agent

from .twins import BOTH, Twin, told

pytestmark = [pytest.mark.parametrize("kind", BOTH)]


@agent(name="waiting.answers")
async def answers(turn: Turn) -> Any:
    """What it was given; a number of seconds is slept first."""
    if isinstance(turn.input, float):
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), turn.input)
    return turn.input


FOR_EVER = 600.0


def test_a_run_that_is_given_twice_is_one_run(kind: type, tmp_path: Path) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        run = (await do(lambda: runtime.spawn(answers, "/t/a", input=0.05))).run
        assert await do(lambda: runtime.wait([run, run], until="any")) == [run, run]
        assert await do(lambda: runtime.wait([run, run])) == [run, run]
        assert await do(lambda: runtime.wait([run, run], timeout=0)) == [run, run]

    told(kind, story, tmp_path / "store.db")


def test_handles_of_one_run_end_together(kind: type, tmp_path: Path) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        first = (await do(lambda: runtime.spawn(answers, "/t/a", input=0.05))).run
        second = await do(lambda: runtime.run(first.run_id))
        other = (await do(lambda: runtime.spawn(answers, "/t/b", input=FOR_EVER))).run
        assert await do(lambda: runtime.wait([first, other, second], until="any")) == [first, second]
        third = await do(lambda: runtime.run(first.run_id))
        assert await do(lambda: runtime.wait([first, third])) == [first, third]
        assert await do(lambda: third.result(0)) == 0.05

    told(kind, story, tmp_path / "store.db")


def test_any_waits_for_one_of_many(kind: type, tmp_path: Path) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        ref = await do(lambda: runtime.spawn(answers, "/t/a"))
        slow = [await do(lambda: ref.followup(FOR_EVER)) for _ in range(3)]
        fast = (await do(lambda: runtime.spawn(answers, "/t/b", input=0.05))).run
        assert await do(lambda: runtime.wait([*slow, *slow, fast], until="any")) == [fast]
        assert await do(lambda: runtime.wait((run for run in [*slow, fast]), until="any")) == [fast]

    told(kind, story, tmp_path / "store.db", slots=4)


def test_a_time_out_of_0_looks_and_does_not_wait(kind: type, tmp_path: Path) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        ref = await do(lambda: runtime.spawn(answers, "/t/a"))
        done = [await do(lambda n=n: ref.followup(n)) for n in range(100)]  # type: ignore[misc]
        await do(lambda: done[-1].result())
        slow = await do(lambda: ref.followup(FOR_EVER))
        for timeout in (0, 0.0, -0.0, -1, -math.pi):
            again = [await do(lambda run=run: runtime.run(run.run_id)) for run in done]  # type: ignore[misc]
            assert await do(lambda: runtime.wait([*again, slow], timeout=timeout)) == again  # noqa: B023
            assert await do(lambda: again[3].result(timeout)) == 3  # noqa: B023
            with pytest.raises(TimeoutError):
                await do(lambda: slow.result(timeout))  # noqa: B023

    told(kind, story, tmp_path / "store.db")


def test_a_look_learns_what_is_on_disk_alone_for_the_next_one(kind: type, tmp_path: Path) -> None:
    large = "x" * 100_000

    async def story(runtime: Any, do: Twin) -> None:
        ref = await do(lambda: runtime.spawn(answers, "/t/a"))
        run = await do(lambda: ref.followup(large))
        await do(lambda: ref.followup(1))
        while not await do(lambda: runtime.wait([run], timeout=0)):
            await do(runtime.stats)
        assert await do(lambda: run.result(0)) == large
        engine = runtime._engine
        while engine.callers.waiting:  # nothing is left of a look
            await do(runtime.stats)

    told(kind, story, tmp_path / "store.db")


def test_waiting_that_ends_leaves_nothing_behind(kind: type, tmp_path: Path) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        ref = await do(lambda: runtime.spawn(answers, "/t/a", input=FOR_EVER))
        runs = [await do(lambda: ref.followup(1)) for _ in range(100)]
        assert await do(lambda: runtime.wait(runs, timeout=0.01)) == []
        assert await do(lambda: runtime.wait(runs, timeout=0)) == []
        assert await do(ref.interrupt) is True
        assert len(await do(lambda: runtime.wait(runs))) == 100
        assert not runtime._engine.callers.waiting

    told(kind, story, tmp_path / "store.db")


def test_a_run_of_another_runtime_is_refused(kind: type, tmp_path: Path) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        mine = (await do(lambda: runtime.spawn(answers, "/t/a", input=1))).run

        async def another(other: Any, do_there: Twin) -> None:
            theirs = (await do_there(lambda: other.spawn(answers, "/t/a", input=2))).run
            with pytest.raises(ValueError, match="another runtime"):
                await do(lambda: runtime.wait([mine, theirs], until="any"))
            await do_there(lambda: theirs.result())
            with pytest.raises(ValueError, match="another runtime"):
                await do(lambda: runtime.wait([theirs]))

        made = kind(tmp_path / "other.db")
        there = Twin(made)
        await there(made.start)
        try:
            await another(made, there)
        finally:
            await there(lambda: made.close(0.0))

    told(kind, story, tmp_path / "store.db")


def test_one_that_there_is_not_ends_the_wait_with_its_error(kind: type, tmp_path: Path) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        ref = await do(lambda: runtime.spawn(answers, "/t/a", input=1))
        gone = ref.run
        await do(lambda: gone.result())
        fresh = await do(lambda: runtime.run(gone.run_id))
        slow = (await do(lambda: runtime.spawn(answers, "/t/b", input=FOR_EVER))).run
        await do(ref.delete)
        with pytest.raises(Exception, match=gone.run_id):
            await do(lambda: runtime.wait([slow, fresh], timeout=60))
        assert await do(lambda: runtime.wait([gone], timeout=0)) == [gone], "what was seen stays"

    told(kind, story, tmp_path / "store.db")


# Seconds

BAD = [math.nan, math.inf, -math.inf, True, "1", b"1", 1j, [1]]
HUGE = [1e9, 1e10, 1e300, 10**400]


@pytest.mark.parametrize("timeout", BAD, ids=repr)
def test_a_time_out_that_is_no_finite_number_is_refused_at_the_call(
    kind: type, tmp_path: Path, timeout: Any
) -> None:
    async def story(runtime: Any, do: Twin) -> None:
        run = (await do(lambda: runtime.spawn(answers, "/t/a", input=1))).run
        calls = [
            lambda: runtime.wait([run], timeout=timeout),
            lambda: runtime.wait([], timeout=timeout),
            lambda: run.result(timeout),
            lambda: run.outcome(timeout),
            lambda: runtime.close(timeout),
        ]
        for seen in (False, True):
            for call in calls:
                with pytest.raises(
                    (TypeError, ValueError), match=r"(timeout|drain)= is a number of seconds"
                ):
                    await do(call)
            if not seen:
                await do(lambda: run.result())
        assert await do(lambda: runtime.wait([run])) == [run], "the runtime is as it was"

    told(kind, story, tmp_path / "store.db")


@pytest.mark.parametrize("seconds", HUGE, ids=lambda each: f"{each:.0e}" if each < 1e301 else "huge")
def test_a_huge_time_is_as_good_as_for_ever(kind: type, tmp_path: Path, seconds: Any) -> None:
    @agent(name=f"waiting.patient-{len(str(seconds))}", turn_timeout=seconds, open_timeout=seconds)
    async def patient(turn: Turn) -> Any:
        child = await turn.spawn(answers, "child")
        return await (await child.followup(0.05)).result(seconds)

    async def story(runtime: Any, do: Twin) -> None:
        run = (await do(lambda: runtime.spawn(patient, "/t/a", input=1))).run
        assert await do(lambda: runtime.wait([run], timeout=seconds)) == [run]
        assert await do(lambda: run.result(seconds)) == 0.05
        last = (await do(lambda: runtime.spawn(answers, "/t/b", input=0.05))).run
        await do(lambda: runtime.close(seconds))
        assert last.run_id

    told(kind, story, tmp_path / "store.db", drain=seconds)


@pytest.mark.parametrize("seconds", [*BAD, -1], ids=repr)
@pytest.mark.parametrize("setting", ["open_timeout", "turn_timeout"])
def test_a_kinds_time_is_a_finite_number_above_0(kind: type, setting: str, seconds: Any) -> None:
    async def any_kind(turn: Turn) -> None: ...

    with pytest.raises(ValueError, match=f"{setting}= is a number of seconds above 0"):
        agent(**{"name": "waiting.never", setting: seconds})(any_kind)


@pytest.mark.parametrize("seconds", [*BAD, -1], ids=repr)
def test_the_drain_is_a_finite_number(kind: Any, seconds: Any) -> None:
    assert kind in (Runtime, AsyncRuntime)
    with pytest.raises(ValueError, match="drain= is a number of seconds from 0 on"):
        kind(drain=seconds)


def test_in_a_turn(kind: type, tmp_path: Path) -> None:
    @agent(name="waiting.asker")
    async def asker(turn: Turn) -> Any:
        child = await turn.spawn(answers, "child")
        run = await child.followup(0.01)
        assert [outcome.result for outcome in await turn.wait(run, run, run.run_id)] == [0.01] * 3
        slow = await child.followup(FOR_EVER)
        said = []
        for timeout in (*BAD, 0, -1):
            try:
                await turn.wait(slow, timeout=timeout)
            except (TypeError, ValueError, TimeoutError) as error:
                said.append(type(error).__name__)
        return said

    async def story(runtime: Any, do: Twin) -> None:
        run = (await do(lambda: runtime.spawn(asker, "/t/a", input=1))).run
        said = await do(lambda: run.result(60))
        assert said == ["ValueError"] * 3 + ["TypeError"] * 5 + ["TimeoutError"] * 2

    told(kind, story, tmp_path / "store.db")
