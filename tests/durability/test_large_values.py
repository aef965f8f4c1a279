"""Large inputs, results, messages and configs are encoded and decoded aside: nobody waits for them."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from greenroom import AsyncRuntime, CannotStore, Runtime, SyncTurn, Turn, agent
from greenroom.persistence import chunked_pickle, codec, value_errors

DEADLINE = 600.0


class Traced:
    """Tells on which threads it is stored and loaded."""

    stored: set[int] = set()
    loaded: set[int] = set()

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __getstate__(self) -> Any:
        Traced.stored.add(threading.get_ident())
        return {"name": self.name}

    def __setstate__(self, state: Any) -> None:
        Traced.loaded.add(threading.get_ident())
        self.name = state["name"]


class Restless:
    """Is another one each time it is stored."""

    stored: list[int] = []

    def __getstate__(self) -> Any:
        Restless.stored.append(threading.get_ident())
        return {"number": len(Restless.stored)}


def much(name: str) -> list[Any]:
    """More than may be handled on the loop, which is seen before the one that tells is reached."""
    return [[f"{n:>64}" for n in range(2 * chunked_pickle.LARGE // 64)], Traced(name)]


def is_much(value: Any, name: str) -> bool:
    filling, traced = value
    return len(filling) == 2 * chunked_pickle.LARGE // 64 and bool(traced.name == name)


@agent(name="d-much-child")
async def child(turn: Turn) -> Any:
    assert is_much(turn.config, "config")
    if turn.input is not None:
        assert is_much(turn.input, "input")
    assert all(is_much(message.body, "message") for message in turn.inbox)
    return much("result")


async def uses(turn: Turn) -> Any:
    if turn.results:
        assert is_much(turn.input, "after")
        assert all(is_much(outcome.result, "result") for outcome in turn.results)
        return "done"
    spawned = await turn.spawn(child, "child", config=much("config"))
    await spawned.send(much("message"))
    run = await spawned.followup(much("input"))
    assert is_much(await run, "result")
    (outcome,) = await turn.wait(run)
    assert is_much(outcome.result, "result")
    assert len(await turn.list()) == 2
    await turn.send("child", much("message"))
    await turn.after(run, input=much("after"))
    return much("result")


@agent(name="d-much-parent")
async def parent(turn: Turn) -> Any:
    return await uses(turn)


@agent(name="d-much-opened")
class Opened:
    async def open(self, info: Any) -> None:
        assert is_much(info.config, "config")

    async def run(self, turn: Turn) -> Any:
        return await uses(turn)


async def call(open_: AsyncRuntime) -> None:
    for kind in (parent, Opened):
        path = f"/{kind.__name__.lower()}/a"
        ref = await open_.spawn(kind, path, config=much("config"), input=much("input"))
        assert ref.run is not None
        assert is_much(await ref.run, "result")
        (again,) = await open_.wait([await open_.run(ref.run.run_id)])
        assert is_much((await again.outcome()).result, "result")
        assert is_much((await again.info()).input, "input")
        assert is_much((await ref.info()).config, "config")
        while (await open_.stats()).queued or (await open_.stats()).running:
            await asyncio.sleep(0)
        run = await open_.agent(f"{path}/child")
        await run.send(much("message"))
        assert is_much(await (await run.followup(None)), "result")
        assert len(await open_.list(path)) == 2


def test_none_of_it_is_done_on_the_loop_of_an_asynchronous_runtime(tmp_path: Path) -> None:
    async def program() -> None:
        async with AsyncRuntime(tmp_path / "agents.db", residents=2) as open_:
            await call(open_)

    Traced.stored, Traced.loaded = set(), set()
    asyncio.run(program())
    assert Traced.stored
    assert Traced.loaded
    assert threading.get_ident() not in Traced.stored | Traced.loaded


@pytest.mark.parametrize("where", ["async", "thread"])
def test_nor_on_a_runtimes_own_loop(tmp_path: Path, where: str) -> None:
    @agent(name="d-much-sync")
    def on_thread(turn: SyncTurn) -> Any:
        if turn.results:
            return "done"
        spawned = turn.spawn(child, "child", config=much("config"))
        spawned.send(much("message"))
        run = spawned.followup(much("input"))
        assert is_much(run.result(), "result")
        turn.after(run, input=much("after"))
        return much("result")

    Traced.stored, Traced.loaded = set(), set()
    with Runtime(tmp_path / "agents.db") as open_:
        loop = open_._engine._base.thread_id
        kind = parent if where == "async" else on_thread
        ref = open_.spawn(kind, "/t/a", config=much("config"), input=much("input"))
        assert ref.run is not None
        assert is_much(ref.run.result(DEADLINE), "result")
    assert loop not in Traced.stored | Traced.loaded


def test_what_somebody_goes_on_changing_is_stored_as_of_one_moment(tmp_path: Path) -> None:
    filling = much("")[0]

    @agent(name="d-much-restless")
    async def returns(turn: Turn) -> Any:
        return [filling, Restless()]

    with Runtime(tmp_path / "agents.db") as open_:
        loop = open_._engine._base.thread_id
        Restless.stored = []
        assert open_.spawn(returns, "/t/a", input=1).run.result(DEADLINE)[0] == filling
        assert Restless.stored[-1] == loop  # twice aside, which differed, and then at once
        assert loop not in Restless.stored[:-1]
        assert open_.agent("/t/a").followup([filling, Restless()]).result(DEADLINE)[0] == filling


def test_what_cannot_be_stored_is_told_in_the_same_words(tmp_path: Path) -> None:
    unfit = [much("")[0], threading.Event()]

    @agent(name="d-much-unfit")
    async def returns(turn: Turn) -> Any:
        for store in (lambda: turn.followup("child", unfit), lambda: turn.send(turn.path, unfit)):
            with pytest.raises(CannotStore, match="cannot pickle"):
                await store()
        return unfit

    async def call_it(open_: Any) -> None:
        ref = await open_.spawn(returns, "/t/b")
        for store in (lambda: ref.followup(unfit), lambda: ref.send(unfit)):
            with pytest.raises(
                CannotStore, match=r"the (input|message) .*/t/b cannot be stored: .*cannot pickle"
            ):
                await store()

    async def program() -> None:
        async with AsyncRuntime(tmp_path / "async.db") as open_:
            await call_it(open_)

    asyncio.run(program())
    with Runtime(tmp_path / "agents.db") as open_:
        error = open_.spawn(returns, "/t/a", input=1).run.outcome(DEADLINE).error
        assert "the result of /t/a cannot be stored: TypeError: cannot pickle" in str(error)
        with pytest.raises(CannotStore, match=r"the input for /t/a cannot be stored: .*cannot pickle"):
            open_.agent("/t/a").followup(unfit)
        assert open_.stats().slots_taken == 0


@pytest.mark.parametrize(
    "value",
    [
        b"x" * 1_000_000,
        "\N{SNOWMAN}" * 400_000,
        {n: str(n) for n in range(60_000)},
        [(n, n / 3, None) for n in range(60_000)],
        10 ** (10**6),
        {"": "x" * chunked_pickle.LARGE},
    ],
    ids=["bytes", "text", "dict", "tuples", "int", "one text"],
)
def test_a_large_value_comes_back_as_it_was(value: Any) -> None:
    data = codec.dumps(value, "it")
    assert len(data) > chunked_pickle.LARGE
    assert codec.loads(data) == value
    assert codec.loads(codec.dumps_at_once(value, "it")) == value


def test_too_large_a_value_is_refused_before_it_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_errors, "LARGEST_VALUE_BYTES", 1_000_000)
    for value in (b"x" * 1_000_001, "x" * 1_000_001, ["x" * 600_000] * 2 + ["y" * 600_000]):
        with pytest.raises(CannotStore, match=r"1,000,000 (bytes, which )?are allowed"):
            codec.dumps(value, "it")
