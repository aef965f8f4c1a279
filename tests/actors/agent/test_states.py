"""A session's state, made into snapshots of one moment while others go on with it."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from greenroom.actors.agent.kind import Kind
from greenroom.actors.agent.states import StateKeeper, restored
from greenroom.errors import CannotStore, SnapshotUnreadable
from greenroom.persistence import chunked_pickle, codec, state_codec, value_errors
from greenroom.persistence.rows import Snapshot


def kind(**changes: Any) -> Kind:
    async def behave(turn: Any) -> None: ...

    fields = {
        "name": "kept",
        "version": 1,
        "behaviour": behave,
        "state": dict,
        "codec": "cloudpickle",
        "migrate": None,
        "open_timeout": 10.0,
        "turn_timeout": None,
        "attempts": 3,
    }
    return Kind(**{**fields, **changes})


def padding(pieces: int = 8) -> list[str]:
    """Some pieces of a pickle that do not compress to nothing."""
    return [random.Random(n).randbytes(35_000).hex() for n in range(pieces)]


def state_of(snapshot: Snapshot | None) -> Any:
    assert snapshot is not None
    return state_codec.decode_state(snapshot.data, snapshot.codec)


class Pause:
    """Stands in a state; who pickles it for the `at`-th time waits here until it is let go."""

    def __init__(self, at: int = 1) -> None:
        self.arrived, self.go, self.left = threading.Event(), threading.Event(), at

    def __reduce__(self) -> Any:
        self.left -= 1
        if self.left == 0:
            self.arrived.set()
            assert self.go.wait(600)
        return str, ("a pause",)

    async def reached(self) -> None:
        async with asyncio.timeout(10):
            while not self.arrived.is_set():
                await asyncio.sleep(0)


def large_state(pause: Pause | None = None) -> dict[str, Any]:
    return {"left": 0, "padding": padding(), "pause": pause, "more": padding(), "right": 0}


async def change_half_way(change: Callable[[dict[str, Any]], None]) -> Any:
    pause = Pause()
    state = large_state(pause)
    keeper = StateKeeper(kind(), "/t/a", None)
    storing = asyncio.ensure_future(keeper.snapshot(lambda: (state, None)))
    await pause.reached()
    change(state)
    pause.go.set()
    return state_of(await storing)


def test_a_task_that_goes_on_mutating_cannot_tear_a_snapshot(caplog: pytest.LogCaptureFixture) -> None:
    def change(state: dict[str, Any]) -> None:
        state["left"] += 1  # read already
        state["right"] += 1  # not read yet

    with caplog.at_level(logging.WARNING):
        stored = asyncio.run(change_half_way(change))
    assert (stored["left"], stored["right"]) == (1, 1)
    assert "its state changed while it was being stored" in caplog.text


def test_a_state_set_anew_while_it_is_stored_is_stored_whole() -> None:
    async def story() -> Any:
        pause = Pause()
        holder = [large_state(pause)]
        keeper = StateKeeper(kind(), "/t/a", None)
        storing = asyncio.ensure_future(keeper.snapshot(lambda: (holder[0], None)))
        await pause.reached()
        holder[0] = {"new": True}
        pause.go.set()
        return state_of(await storing)

    assert asyncio.run(story()) == {"new": True}


@pytest.mark.parametrize("reading", [1, 2])
def test_what_belongs_to_the_same_moment_does(reading: int) -> None:
    """A message sent half-way, and the state that says so: either both or none.

    In the last reading the change comes after all have read that part, so the readings agree.
    """

    async def story() -> None:
        pause = Pause(at=reading)
        state, outbox = large_state(pause), list[str]()
        keeper = StateKeeper(kind(), "/t/a", None)
        storing = asyncio.ensure_future(keeper.snapshot(lambda: (state, len(outbox))))
        await pause.reached()
        outbox.append("a message")
        state["left"] += 1
        pause.go.set()
        assert state_of(await storing)["left"] == len(outbox) == 1

    asyncio.run(story())


@pytest.fixture
def mutating() -> Iterator[tuple[dict[str, Any], threading.Event]]:
    """A large state that a thread changes all the time; it never shows its two halves unequal for long."""
    state: dict[str, Any] = {"left": 0, "padding": padding(), "rows": {}, "more": padding(), "right": 0}
    stop = threading.Event()

    def mutate() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            # all in one bytecode, so that what is not torn has two equal halves
            state.update({"left": number, "right": number})
            state["rows"][str(number % 50)] = number
            state["rows"].pop(str(number * 7 % 50), None)

    thread = threading.Thread(target=mutate)
    thread.start()
    yield state, stop
    stop.set()
    thread.join(60)


@pytest.mark.parametrize("name", ["cloudpickle", "json", "msgpack"])
def test_a_thread_that_goes_on_mutating_cannot_tear_a_snapshot(mutating: Any, name: str) -> None:
    state, _ = mutating

    async def story() -> None:
        keeper = StateKeeper(kind(codec=name), "/t/a", None)
        for _ in range(10):
            snapshot = await keeper.snapshot(lambda: (state, None))
            if snapshot is not None:
                stored = state_of(snapshot)
                assert stored["left"] == stored["right"]
                keeper.recorded(snapshot)

    asyncio.run(story())


def test_one_reading_alone_would_have_been_torn(mutating: Any) -> None:
    """What the tests above are worth."""
    state, _ = mutating
    torn = False
    for _ in range(200):
        sink = chunked_pickle._PickleSource(value_errors.LARGEST_VALUE_BYTES, keep=True)
        try:
            large_pickler(sink).dump(state)
        except RuntimeError:
            torn = True
        else:
            stored: Any = codec.loads(b"".join(sink.pieces))
            torn = stored["left"] != stored["right"]
        if torn:
            break
    assert torn


def large_pickler(file: Any) -> chunked_pickle.ChunkedPickler:
    import cloudpickle  # type: ignore[import-untyped]

    pickler: chunked_pickle.ChunkedPickler = cloudpickle.Pickler(file, 5)
    return pickler


def test_snapshots_asked_for_at_once_are_made_in_order() -> None:
    """The second must not overtake the first: its bytes would be older than those committed after it."""

    async def story() -> None:
        pause = Pause()
        state = large_state(pause)
        keeper = StateKeeper(kind(), "/t/a", None)
        order: list[str] = []

        async def store(name: str) -> Any:
            snapshot = await keeper.snapshot(lambda: (state, None))
            order.append(name)
            keeper.recorded(snapshot)
            return state_of(snapshot)["right"]

        first = asyncio.ensure_future(store("first"))
        await pause.reached()
        second = asyncio.ensure_future(store("second"))
        await asyncio.sleep(0)
        state["right"] = 1
        pause.go.set()
        await first
        state["right"] = 2
        assert await second == 2
        assert order == ["first", "second"]

    asyncio.run(story())


def test_one_that_is_given_up_leaves_the_next_its_place() -> None:
    async def story() -> None:
        pause = Pause()
        state = large_state(pause)
        keeper = StateKeeper(kind(), "/t/a", None)
        first = asyncio.ensure_future(keeper.snapshot(lambda: (state, None)))
        await pause.reached()
        first.cancel()
        await asyncio.wait({first})
        pause.go.set()
        async with asyncio.timeout(10):
            assert state_of(await keeper.snapshot(lambda: (state, None)))["right"] == 0

    asyncio.run(story())


def test_the_loop_goes_on_while_a_large_state_is_stored_and_restored() -> None:
    class Reluctant:
        """Can only be pickled and made if the loop goes on meanwhile."""

        def __init__(self, ticked: threading.Event) -> None:
            self.ticked = ticked

        def __reduce__(self) -> Any:
            assert self.ticked.wait(600)
            return waits_for_a_tick, ()

    ticked = threading.Event()

    async def story() -> None:
        async def tick() -> None:
            await asyncio.sleep(0)
            ticked.set()

        state = {"padding": padding(), "reluctant": Reluctant(ticked)}
        keeper = StateKeeper(kind(), "/t/a", None)
        ticking = asyncio.ensure_future(tick())
        snapshot = await keeper.snapshot(lambda: (state, None))
        await ticking
        waits.clear()
        other = StateKeeper(kind(), "/t/a", snapshot)
        assert other.takes_long
        restoring = asyncio.ensure_future(other.take())
        await asyncio.sleep(0)
        waits.set()
        assert (await restoring)["reluctant"] == "made"

    asyncio.run(story())


waits = threading.Event()


def waits_for_a_tick() -> str:
    assert waits.wait(600)
    return "made"


def test_a_small_state_is_stored_without_anything_in_between() -> None:
    keeper = StateKeeper(kind(), "/t/a", None)
    asides: list[None] = []
    storing = keeper.snapshot(lambda: ({"n": 1}, None), aside=lambda: asides.append(None))
    with pytest.raises(StopIteration) as ended:
        storing.send(None)
    assert state_of(ended.value.value) == {"n": 1}
    assert asides == []


def test_only_what_differs_is_stored_again() -> None:
    async def story(state: Any, change: Callable[[Any], None]) -> None:
        keeper = StateKeeper(kind(), "/t/a", None)
        first = await keeper.snapshot(lambda: (state, None))
        keeper.recorded(first)
        assert await keeper.snapshot(lambda: (state, None)) is None
        newer = StateKeeper(kind(version=2), "/t/a", first)
        assert (await newer.snapshot(lambda: (state, None))) is not None
        change(state)
        assert state_of(await keeper.snapshot(lambda: (state, None))) == state

    asyncio.run(story({"n": 1}, lambda state: state.update(n=2)))
    asyncio.run(story(large_state(), lambda state: state.update(left=2)))
    asyncio.run(story(large_state(), lambda state: state.clear()))
    asyncio.run(story({}, lambda state: state.update(large_state())))


def test_what_cannot_be_stored_is_refused_large_or_small() -> None:
    async def story(state: Any) -> None:
        keeper = StateKeeper(kind(), "/t/a", None)
        with pytest.raises(CannotStore, match="the state of /t/a cannot be stored"):
            await keeper.snapshot(lambda: (state, None))
        assert await keeper.snapshot(lambda: ({}, None)) is not None

    asyncio.run(story({"lock": threading.Event()}))
    asyncio.run(story({"padding": padding(), "lock": threading.Event()}))


def refuses_to_be_told() -> Any:
    class Mute(Exception):
        def __str__(self) -> str:
            raise LookupError("not even this")

    raise Mute


def leaves() -> Any:
    raise SystemExit(3)


def cancels() -> Any:
    raise asyncio.CancelledError


def changes_and_fails(state: Any) -> Any:
    state.clear()
    raise KeyError("half-way")


async def asynchronous() -> Any:
    return {}


BAD_MIGRATIONS: dict[str, tuple[Callable[[Any, int], Any], str]] = {
    "raises": (lambda state, version: 1 / 0, "raised ZeroDivisionError: division by zero"),
    "changes and fails": (lambda state, version: changes_and_fails(state), "raised KeyError: 'half-way'"),
    "cannot be told": (lambda state, version: refuses_to_be_told(), "raised Mute: its text could not"),
    "exits": (lambda state, version: leaves(), "raised SystemExit: 3"),
    "cancels": (lambda state, version: cancels(), "raised CancelledError"),
    "is async": (lambda state, version: asynchronous(), "is async"),
    "is unfit": (lambda state, version: threading.Event(), "returned what cannot be stored: TypeError"),
    "takes less": (lambda state: state, "raised TypeError"),  # type: ignore[dict-item, misc]
}


@pytest.mark.parametrize("how", BAD_MIGRATIONS)
@pytest.mark.parametrize("aside", [False, True])
def test_a_migration_that_is_no_good_makes_the_state_unreadable(how: str, aside: bool) -> None:
    migrate, says = BAD_MIGRATIONS[how]
    recorded = Snapshot("cloudpickle", 1, codec.dumps({"n": 1}, "it"))
    newer = kind(version=2, migrate=migrate)

    def restore() -> None:
        if aside:
            asyncio.run(StateKeeper(newer, "/t/a", recorded).restore())
        else:
            restored(newer, "/t/a", recorded)

    with pytest.raises(SnapshotUnreadable) as raised:
        restore()
    text = str(raised.value)
    assert says in text
    assert "/t/a" in text
    assert "of version 1 of kind 'kept', and migrate() of version 2" in text
    assert "The bytes are kept. Correct the kind's migrate=" in text
    good = kind(version=3, migrate=lambda state, version: {**state, "from": version})
    assert restored(good, "/t/a", recorded) == {"n": 1, "from": 1}


def test_a_migration_that_hangs_is_given_up_and_keeps_nobody_from_work() -> None:
    hold = threading.Event()

    def hangs(state: Any, version: int) -> Any:
        hold.wait(600)
        return state

    async def story() -> None:
        recorded = Snapshot("cloudpickle", 1, codec.dumps({"n": 1}, "it"))
        for _ in range(4):
            with pytest.raises(
                SnapshotUnreadable, match=r"took longer than 0.05 s.* raise its open_timeout="
            ):
                await StateKeeper(
                    kind(version=2, migrate=hangs, open_timeout=0.05), "/t/a", recorded
                ).restore()
        state = large_state()
        assert await StateKeeper(kind(), "/t/a", None).snapshot(lambda: (state, None)) is not None

    try:
        asyncio.run(story())
    finally:
        hold.set()


def test_a_version_that_is_not_known_here_is_not_guessed_at() -> None:
    recorded = Snapshot("cloudpickle", 3, codec.dumps({"n": 1}, "it"))
    called: list[int] = []
    older = kind(version=2, migrate=lambda state, version: called.append(version))
    with pytest.raises(SnapshotUnreadable, match=r"of version 3 .* newer than 2.*Register version 3"):
        restored(older, "/t/a", recorded)
    assert called == []
    with pytest.raises(SnapshotUnreadable, match=r"now 4 and has no migrate=.*Give the kind a migrate="):
        restored(kind(version=4), "/t/a", recorded)
