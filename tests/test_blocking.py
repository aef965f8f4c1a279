"""The guard against blocking calls finds what blocks and blames nobody else; the contract is under it."""

import asyncio
import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenroom import AsyncRuntime, Runtime, SyncTurn, Turn, agent
from greenroom.actors.ledger import accepting
from greenroom.actors.residency.table import ResidencyTable

from .blocking import blocking_calls


@agent(name="blocking.sleeps")
async def sleeps(turn: Turn) -> str:
    """Blocks the loop itself, and reads a file there."""
    threading.Event().wait(0.001)
    return Path(turn.input).read_text()[:1]


@agent(name="blocking.on-a-thread")
def on_a_thread(turn: SyncTurn) -> str:
    threading.Event().wait(0.001)
    child = turn.spawn(sleeps, "child")
    return str(child.followup(turn.input).result())


PLANTED = """
def planted(self, *args, **kwargs):
    open("/dev/null").close()
    return before(self, *args, **kwargs)
"""


def story(runtime: Callable[..., Any], store: Path) -> None:
    async def tell() -> None:
        async with AsyncRuntime(store) as opened:
            run = (await opened.spawn(on_a_thread, "/t/a", input=__file__)).run
            assert run is not None
            assert await run == '"'

    if runtime is AsyncRuntime:
        asyncio.run(tell())
        return
    with Runtime(store) as opened:
        assert opened.spawn(on_a_thread, "/t/a", input=__file__).run.result(60) == '"'


@pytest.mark.parametrize("runtime", [Runtime, AsyncRuntime])
def test_it_blames_neither_agents_nor_threads(runtime: Any, tmp_path: Path) -> None:
    with blocking_calls() as found:
        story(runtime, tmp_path / "store.db")
    assert found == []


@pytest.mark.parametrize("runtime", [Runtime, AsyncRuntime])
@pytest.mark.parametrize(("owner", "method"), [(accepting, "accept_run"), (ResidencyTable, "summon")])
def test_it_finds_a_call_in_the_way_of_a_turn(
    runtime: Any, owner: type, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = getattr(owner, method)
    names: dict[str, Any] = {"before": before}
    exec(compile(PLANTED, inspect.getfile(owner), "exec"), names)  # as if it stood there
    monkeypatch.setattr(owner, method, names["planted"])
    with blocking_calls() as found:
        story(runtime, tmp_path / "store.db")
    assert found
    assert all("open in" in each and "planted" in each for each in found)
