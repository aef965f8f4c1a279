"""What Python's garbage collector is not to look at, and that nothing of a runtime stays because of that.

Messages and rows say `gc=False`: the collector passes them by, which a turn is a tenth faster for. What is
passed by must not be part of a cycle, so it holds plain values only: an address reaches its actor, that one
its system, and that the queue with the message in it.
"""

import asyncio
import gc
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Hashable, Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

import greenroom.actors
import greenroom.persistence
from greenroom import AsyncRuntime, Turn, agent
from greenroom.actors.systems.local import LocalSystemBase
from greenroom.testing import Faults, Simulation

PLAIN = {bool, int, float, str, bytes, NoneType, Hashable}
"""`Hashable` is a request's id: a number, or a tuple of some."""


def is_plain(kind: Any) -> bool:
    """Whether no value of this type can be part of a cycle."""
    if kind in PLAIN:
        return True
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return True
    if origin in (tuple, Union, UnionType):
        return all(part is Ellipsis or is_plain(part) for part in parts)
    if hasattr(kind, "__supertype__"):
        return is_plain(kind.__supertype__)
    return is_passed_by(kind)


def is_passed_by(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, msgspec.Struct) and not kind.__struct_config__.gc


def passed_by() -> Iterator[type[msgspec.Struct]]:
    """All structs that the collector is not to look at."""
    for package in (greenroom.actors, greenroom.persistence):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            for kind in vars(module).values():
                if is_passed_by(kind) and kind.__module__ == module.__name__:
                    yield kind


@pytest.mark.parametrize("kind", list(passed_by()), ids=lambda kind: kind.__name__)
def test_what_the_collector_passes_by_holds_plain_values(kind: type[msgspec.Struct]) -> None:
    hints = get_type_hints(kind)
    assert [field for field in kind.__struct_fields__ if not is_plain(hints[field])] == []


# Nothing stays


@agent(name="collection.worker")
async def worker(turn: Turn) -> Any:
    """Has a child do the same, or waits for ever."""
    if turn.input == 0:
        await asyncio.Event().wait()
    child = await turn.spawn(worker, "child")
    return await turn.wait(await child.followup(turn.input - 1))


def bases_after(story: Callable[[], None]) -> int:
    """How many actor systems there are when a story is over and what is garbage was collected."""
    story()
    gc.collect()
    return sum(isinstance(each, LocalSystemBase) for each in gc.get_objects())


def real() -> None:
    """One that is closed while a turn waits for ever."""

    async def story() -> None:
        async with AsyncRuntime(drain=0) as runtime:
            run = (await runtime.spawn(worker, "/a", input=2)).run
            with pytest.raises(TimeoutError):
                await run.result(timeout=0.05)

    asyncio.run(story())


def simulated(end: Callable[[Simulation], None]) -> None:
    with Simulation(seed=1) as simulation:
        simulation.spawn(worker, "/a", input=2)
        simulation.advance(0.01)
        end(simulation)


@pytest.mark.parametrize(
    "end",
    [Simulation.crash, Simulation.close, lambda simulation: simulation.faults(Faults(commit_fails=1.0))],
    ids=["crashed", "closed", "failing"],
)
def test_nothing_of_a_simulated_runtime_stays(end: Callable[[Simulation], None]) -> None:
    before = bases_after(lambda: simulated(end))
    assert bases_after(lambda: simulated(end)) <= before


def test_nothing_of_a_real_runtime_stays() -> None:
    before = bases_after(real)
    assert bases_after(real) <= before
