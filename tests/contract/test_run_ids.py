"""Run ids: those that callers choose mean one run with one input; those of the runtime are its own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    AsyncRuntime,
    GreenroomError,
    PathTaken,
    Retention,
    RunIdTaken,
    RunNotFound,
    Turn,
    agent,
)

DEADLINE = 600.0


@agent(name="c-ids-echo")
async def echo(turn: Turn) -> Any:
    return turn.input


@agent(name="c-ids-other")
async def other_kind(turn: Turn) -> Any:
    return turn.input


@agent(name="c-ids-chief")
async def chief(turn: Turn) -> Any:
    """Starts whatever a turn can start."""
    if turn.results:
        return "continued"
    if turn.config == "spawns":
        await turn.spawn(echo, "helper")
    run = await turn.followup("/t/shared", "weekly")
    await turn.after(run, input="on")
    return await run


# The runtime's own


def test_ids_of_the_runtime_are_its_own_and_hold_a_random_part(runtime: Any, tmp_path: Path) -> None:
    one, two = runtime(tmp_path / "one.db"), runtime(tmp_path / "two.db")
    ids = [open_.spawn(echo, "/t/a", input=1).run.run_id for open_ in (one, two)]
    stores = {run_id.split("-")[1] for run_id in ids}
    assert all(run_id.startswith("run-") for run_id in ids)
    assert len(stores) == 2
    one.close()
    again = runtime(tmp_path / "one.db")
    third = again.agent("/t/a").followup(2).run_id
    assert third.split("-")[1] == ids[0].split("-")[1]
    assert third not in ids


@pytest.mark.parametrize("run_id", ["run-", "run-1-3", "run-x", "run-0123456789ab-1-1"])
def test_callers_cannot_choose_them(runtime: Any, run_id: str) -> None:
    open_ = runtime()
    ref = open_.spawn(echo, "/t/a")
    for call in (
        lambda: ref.followup(1, run_id=run_id),
        lambda: open_.spawn(echo, "/t/b", input=1, run_id=run_id),
    ):
        with pytest.raises(RunIdTaken, match="begin with 'run-' are the runtime's own") as raised:
            call()
        assert isinstance(raised.value, ValueError)
        assert isinstance(raised.value, GreenroomError)
        assert (raised.value.run_id, run_id in str(raised.value)) == (run_id, True)
    assert [info.path for info in open_.list()] == ["/t/a"]
    assert [event.type for event in open_.events(follow=False) if event.run_id] == []
    with pytest.raises(RunNotFound):
        open_.run(run_id)  # to look is allowed
    assert ref.interrupt(run_id) is False


def test_an_id_that_the_runtime_made_cannot_be_given_back(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(echo, "/t/a", input=1)
    with pytest.raises(RunIdTaken):
        ref.followup(1, run_id=ref.run.run_id)
    assert open_.run(ref.run.run_id).result(DEADLINE) == 1


def test_nor_on_asyncio() -> None:
    async def story() -> None:
        async with AsyncRuntime() as open_:
            ref = await open_.spawn(echo, "/t/a", input=1, run_id="mine")
            with pytest.raises(RunIdTaken):
                await ref.followup(1, run_id="run-1-1")
            with pytest.raises(RunIdTaken):
                await ref.followup(2, run_id="mine")
            again = await open_.spawn(echo, "/t/a", input=1, run_id="mine")
            assert again.run is not None
            assert await again.run == 1

    asyncio.run(story())


LOSES = """
import os, sys
from greenroom import Runtime, agent
@agent(name="c-ids-echo")
async def echo(turn):
    return turn.input
with Runtime(sys.argv[1], durability="memory") as runtime:
    ref = runtime.spawn(echo, "/t/a", durability="process")
runtime = Runtime(sys.argv[1], durability="memory").start()
print(*(runtime.agent("/t/a").followup(n).run_id for n in range(50)), flush=True)
os._exit(0)
"""


def test_an_id_that_was_told_and_lost_does_not_come_again(runtime: Any, tmp_path: Path) -> None:
    store = tmp_path / "agents.db"
    done = subprocess.run(
        [sys.executable, "-c", LOSES, str(store)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    told = set(done.stdout.split())
    ref = runtime(store).agent("/t/a")
    assert told.isdisjoint(ref.followup(n).run_id for n in range(60))


@pytest.mark.parametrize("config", [None, "spawns"])
@pytest.mark.parametrize("how", ["pruned", "deleted"])
def test_an_id_that_is_given_again_once_its_run_is_gone_harms_nothing(
    runtime: Any, until: Callable[..., None], config: str | None, how: str
) -> None:
    """What the first run of that name had started may be there still."""
    open_ = runtime(retention=Retention(runs=0, least_age=0.0) if how == "pruned" else Retention())
    shared = open_.spawn(echo, "/t/shared")
    ref = open_.spawn(chief, "/t/chief", config=config, input="go", run_id="monday")
    assert ref.run.result(DEADLINE) == "weekly"
    if how == "deleted":
        ref.delete()
        ref = open_.spawn(chief, "/t/chief", config=config)
    else:

        def is_gone() -> bool:
            ref.followup("other", run_id=None).interrupt()
            try:
                open_.run("monday")
            except RunNotFound:
                return True
            return False

        until(is_gone, "the first run is pruned")
    again = ref.followup("go", run_id="monday").outcome(DEADLINE)
    if config == "spawns" and how == "pruned":
        assert "PathTaken" in str(again.error), "the helper is another run's"
    else:
        assert again.result == "weekly"
    assert shared.followup(2).result(DEADLINE) == 2, "everybody goes on"


# A known id


@dataclass
class Order:
    tags: set[str]
    price: float


SAME: list[tuple[Any, Any]] = [
    ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}),
    ({"x", "y", "z"}, {"z", "y", "x"}),
    (Order({"p", "q"}, 2.5), Order({"q", "p"}, 2.5)),
    (["long text" * 20, "long text" * 20], ["long text" * 20, "".join(["long ", "text"]) * 20]),
    (None, None),
]
OTHER: list[tuple[Any, Any, str]] = [
    ("pay 10", "pay 99", "'pay 10' is recorded, 'pay 99' was given"),
    ({"to": "x", "amount": [1, 10]}, {"amount": [1, 99], "to": "x"}, "['amount'][1]: 10 is recorded"),
    (1, True, "1 is recorded, True was given"),
    (Order(set(), 1.0), Order(set(), 2.0), "Order"),
    (None, {}, "None is recorded, {} was given"),
    ([1], [1, 2], "[1] is recorded, [1, 2] was given"),
    ("x" * 1_000_000, "x" * 1_000_001, "is recorded"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_the_same_input_is_the_same_run(runtime: Any, one: Any, two: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(echo, "/t/a")
    first = ref.followup(one, run_id="order")
    assert ref.followup(two, run_id="order").run_id == "order"
    assert first.result(DEADLINE) == one
    assert ref.followup(two, run_id="order").result(DEADLINE) == one
    assert [event.type for event in open_.events(follow=False)].count("run.accepted") == 1


@pytest.mark.parametrize(("one", "two", "told"), OTHER)
def test_another_input_is_refused_and_both_are_named(runtime: Any, one: Any, two: Any, told: str) -> None:
    open_ = runtime()
    ref = open_.spawn(echo, "/t/a")
    first = ref.followup(one, run_id="order")
    for _ in ("while it is open, perhaps", "when it has ended"):
        with pytest.raises(RunIdTaken) as raised:
            ref.followup(two, run_id="order")
        assert (raised.value.run_id, raised.value.path) == ("order", "/t/a")
        assert "'order' names a run of /t/a" in str(raised.value)
        assert told in str(raised.value)
        assert len(str(raised.value)) < 500
        assert first.result(DEADLINE) == one
    assert [event.type for event in open_.events(follow=False)].count("run.accepted") == 1


def test_what_cannot_be_compared_is_the_recorded_run(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(echo, "/t/a")
    one: list[Any] = [1]
    one.append(one)
    two: list[Any] = [2]
    two.append(two)
    ref.followup(one, run_id="order")
    assert ref.followup(two, run_id="order").run_id == "order"
    ref.followup(lambda: 1, run_id="code")
    assert ref.followup(lambda: 2, run_id="code").run_id == "code"


def test_another_agents_run_is_refused(runtime: Any) -> None:
    open_ = runtime()
    open_.spawn(echo, "/t/a", input=1, run_id="order")
    with pytest.raises(RunIdTaken, match="/t/a"):
        open_.spawn(echo, "/t/b").followup(1, run_id="order")


# spawn


def test_spawn_with_a_known_run_id_is_the_same_agent_and_run(runtime: Any, tmp_path: Path) -> None:
    open_ = runtime()
    first = open_.spawn(echo, "/t/a", config=1, input=[1], run_id="order").run
    early = open_.spawn(echo, "/t/a", config=2, input=[1], run_id="order")
    assert (early.path, early.run.run_id) == ("/t/a", "order")
    assert first.result(DEADLINE) == [1]
    assert open_.spawn(echo, "/t/a", input=[1], run_id="order").run.result(DEADLINE) == [1]
    assert early.info().config == 1, "it stays as it is"
    open_.close()
    again = runtime()
    assert again.spawn(echo, "/t/a", input=[1], run_id="order").run.result(DEADLINE) == [1]
    again.agent("/t/a").close()
    assert again.spawn(echo, "/t/a", input=[1], run_id="order").run.result(DEADLINE) == [1]
    assert again.agent("/t/a").info().status == "closed"


def test_spawn_with_a_known_run_id_and_anything_else_is_refused(runtime: Any) -> None:
    open_ = runtime()
    open_.spawn(echo, "/t/a", input=1, run_id="order")
    open_.spawn(echo, "/t/b")
    for kind, path, value, told in (
        (echo, "/t/a", 2, "1 is recorded, 2 was given"),
        (echo, "/t/new", 1, "/t/a"),
        (echo, "/t/b", 1, "/t/a"),
        (other_kind, "/t/a", 1, "of the kind 'c-ids-echo', and not 'c-ids-other'"),
    ):
        with pytest.raises(RunIdTaken) as raised:
            open_.spawn(kind, path, input=value, run_id="order")
        assert told in str(raised.value)
        assert raised.value.path == "/t/a"
    assert [info.path for info in open_.list()] == ["/t/a", "/t/b"]
    assert open_.spawn(echo, "/t/new", input=1).run.result(DEADLINE) == 1, "the path is free"


def test_spawn_at_a_taken_path_with_a_new_run_id_is_refused(runtime: Any) -> None:
    open_ = runtime()
    open_.spawn(echo, "/t/a", input=1, run_id="order")
    for options in ({}, {"input": 1}, {"input": 1, "run_id": "another"}):
        with pytest.raises(PathTaken):
            open_.spawn(echo, "/t/a", **options)
    with pytest.raises(RunNotFound):
        open_.run("another")


def test_many_spawns_of_one_id_at_once_are_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with AsyncRuntime(tmp_path / "agents.db") as open_:
            refs = await asyncio.gather(
                *(open_.spawn(echo, "/t/a", input=1, run_id="order") for _ in range(20))
            )
            assert {ref.run.run_id for ref in refs if ref.run} == {"order"}
            assert len(await open_.list()) == 1
            refused = await asyncio.gather(
                *(open_.spawn(echo, f"/t/b{n}", input=1, run_id="order") for n in range(5)),
                return_exceptions=True,
            )
            assert all(isinstance(error, RunIdTaken) for error in refused)
            assert len(await open_.list()) == 1

    asyncio.run(story())
