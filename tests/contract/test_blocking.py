"""Code that blocks the loop is named by its line; what blocks nothing is not."""

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from greenroom import Runtime, Turn, agent
from greenroom.actors.agent import actor as actor_module
from greenroom.actors.agent.actor import AgentActor


def line_of(code: Callable[..., Any], text: str) -> int:
    lines, first = inspect.getsourcelines(code)
    return first + next(number for number, line in enumerate(lines) if text in line)


def burn(seconds: float) -> int:
    count, until = 0, time.thread_time() + seconds
    while time.thread_time() < until:
        count += 1
    return count


async def _computes(turn: Turn) -> int:
    return sum(number % 7 for number in range(60_000_000))  # the line that computes


async def _waits(turn: Turn) -> None:
    threading.Event().wait(1.8)  # the line that waits


async def _goes_on(turn: Turn) -> None:
    for _ in range(10):
        burn(0.1)
        await asyncio.sleep(0)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "blocked all agents" in record.getMessage()]


@pytest.mark.parametrize(
    ("code", "does", "text"),
    [
        (_computes, "has computed in", "line that computes"),
        (_waits, "has waited in a call in", "line that waits"),
    ],
)
def test_who_blocks_is_named_with_the_users_line(
    runtime: Callable[..., Runtime], caplog: pytest.LogCaptureFixture, code: Any, does: str, text: str
) -> None:
    kind = agent(name=f"blocking{code.__name__}")(code)
    with caplog.at_level(logging.WARNING, "greenroom"):
        runtime().spawn(kind, "/blocks/a", input=1).run.result(timeout=600)
    (told,) = warnings_of(caplog)
    assert told.startswith(f"turn /blocks/a (blocking{code.__name__}) has blocked all agents for ")
    assert f"{does} {__file__}, line {line_of(code, text)}, in " in told


def test_nobody_is_blamed_who_gives_others_their_turn(
    runtime: Callable[..., Runtime], caplog: pytest.LogCaptureFixture
) -> None:
    kind = agent(name="blocking-goes-on")(_goes_on)
    with caplog.at_level(logging.WARNING, "greenroom"):
        runtime().spawn(kind, "/blocks/b", input=1).run.result(timeout=600)
    assert warnings_of(caplog) == []


def test_threads_that_take_the_interpreter_make_nobody_guilty(
    runtime: Callable[..., Runtime], caplog: pytest.LogCaptureFixture
) -> None:
    """The loop's thread hardly comes to its share; that is nobody's code on the loop."""
    over = threading.Event()

    def hog() -> None:
        while not over.is_set():
            sum(range(1_000))

    threads = [threading.Thread(target=hog) for _ in range(8)]
    kind = agent(name="blocking-innocent")(_goes_on)
    with caplog.at_level(logging.WARNING, "greenroom"):
        ref = runtime().spawn(kind, "/blocks/c")
        for thread in threads:
            thread.start()
        try:
            run = ref.followup(1)
            over.wait(3)
        finally:
            over.set()
        run.result(timeout=600)
    assert warnings_of(caplog) == []


def test_greenrooms_own_code_is_no_fault_of_the_users(
    runtime: Callable[..., Runtime], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = AgentActor.open
    names: dict[str, Any] = {"original": original, "wait": threading.Event().wait}
    names["__name__"] = actor_module.__name__  # as if it stood there
    exec("def slow(self, message):\n    wait(1.8)\n    original(self, message)\n", names)
    monkeypatch.setattr(AgentActor, "open", names["slow"])
    with caplog.at_level(logging.WARNING, "greenroom"):
        kind = agent(name="blocking-ours")(_quick)
        runtime().spawn(kind, "/blocks/d", input=1).run.result(timeout=600)
    (told,) = warnings_of(caplog)
    assert told.startswith("greenroom itself has waited in a call for ")
    assert "no fault of your code. Please report this" in told


async def _quick(turn: Turn) -> int:
    return 1
