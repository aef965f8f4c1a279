"""Large states: others go on meanwhile, and what is stored is what was there at one moment."""

import asyncio
import random
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom import AsyncRuntime, GreenroomError, Runtime, SyncTurn, Turn, agent


def text(size: int, seed: int = 0) -> list[str]:
    """Lines of 1,000 characters that compress to about half; `size` in bytes."""
    data = random.Random(seed).randbytes(size // 2).hex()
    return [data[at : at + 1000] for at in range(0, len(data), 1000)]


class Probe:
    """Stands in a state and says when it is stored: how often, where, and not before it may."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        self.threads: list[int] = []
        self.holds = 0

    def hold(self, times: int = 1) -> None:
        """Have whoever stores it wait, that many times."""
        self.reached.clear()
        self.go.clear()
        self.holds = times

    def __reduce__(self) -> Any:
        self.threads.append(threading.get_ident())
        if self.holds:
            self.holds -= 1
            self.reached.set()
            assert self.go.wait(600)
        return str, ("a probe",)


probe = Probe()


@pytest.fixture(autouse=True)
def fresh_probe() -> Iterator[None]:
    global probe  # states are made by functions of this module
    probe = Probe()
    yield
    probe.go.set()


def probed() -> dict[str, Any]:
    return {"left": 0, "text": text(300_000), "probe": None, "more": text(300_000, 1), "right": 0}


@agent(name="d-large", state=probed)
async def holder(turn: Turn) -> Any:
    """Counts on both sides of what holds the storing up."""
    turn.state["probe"] = probe if turn.input == "probe" else None
    turn.state["left"] += 1
    turn.state["right"] += 1
    return turn.state["left"]


@agent(name="d-large-other")
async def other(turn: Turn) -> Any:
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]


def halves(ref: Any) -> tuple[int, int]:
    state = ref.state()
    return state["left"], state["right"]


def tag_of(store: Path, path: str) -> str:
    with sqlite3.connect(store) as database:
        ((tag,),) = database.execute(
            "SELECT codec FROM snapshots JOIN agents USING (agent_id) WHERE path = ?", (path,)
        ).fetchall()
    database.close()
    return str(tag)


# Coming back


@pytest.mark.parametrize("codec", ["cloudpickle", "json", "msgpack"])
@pytest.mark.parametrize("size", [600_000, pytest.param(64 << 20, marks=pytest.mark.long)])
def test_a_large_state_comes_back(tmp_path: Path, codec: str, size: int) -> None:
    store = tmp_path / "agents.db"

    @agent(name=f"d-large-{codec}-{size}", codec=codec)
    async def grows(turn: Turn) -> Any:
        turn.state.setdefault("pages", []).extend(text(turn.input, len(turn.state)))
        turn.state["turns"] = turn.state.get("turns", 0) + 1
        if turn.input == 1:
            turn.state.clear()
        return len(turn.state.get("pages", ()))

    with Runtime(store) as first:
        ref = first.spawn(grows, "/large/a")
        assert ref.followup(1000).result(timeout=60) == 1, "small"
        count = ref.followup(size).result(timeout=60)  # grown in a single turn
        state = ref.state()
        assert len(state["pages"]) == count
        assert ref.evict()
        assert ref.followup(1000).result(timeout=60) == count + 1
    assert tag_of(store, "/large/a") == f"{codec}+zlib"
    with Runtime(store) as second:
        ref = second.agent("/large/a")
        assert ref.state()["pages"][:count] == state["pages"]
        assert ref.state()["turns"] == 3
        assert ref.followup(1).result(timeout=60) == 0, "small again"
    assert tag_of(store, "/large/a") == codec


def test_what_does_not_compress_is_stored_as_it_is(tmp_path: Path) -> None:
    @agent(name="d-large-noise")
    async def noise(turn: Turn) -> Any:
        turn.state["noise"] = random.Random(turn.input).randbytes(1 << 20)

    with Runtime(tmp_path / "agents.db") as runtime:
        ref = runtime.spawn(noise, "/large/a", input=1)
        ref.run.result(timeout=60)  # type: ignore[union-attr]
        assert ref.evict()
        assert ref.state()["noise"] == random.Random(1).randbytes(1 << 20)
    assert tag_of(tmp_path / "agents.db", "/large/a") == "cloudpickle"


# Others meanwhile


def test_others_work_while_a_large_state_is_stored(tmp_path: Path) -> None:
    """Also with one slot: the turn's code has returned, so its slot is free."""
    with Runtime(tmp_path / "agents.db", slots=1) as runtime:
        ref = runtime.spawn(holder, "/large/a")
        probe.hold()
        run = ref.followup("probe")
        assert probe.reached.wait(600)
        for number in range(1, 20):
            name = f"/other/a{number}"
            assert runtime.spawn(other, name, input=1).run.result(timeout=60) == 1  # type: ignore[union-attr]
        assert not run.done()
        assert run.status == "running"
        waiting = ref.followup("next")
        probe.go.set()
        assert run.result(timeout=60) == 1
        assert waiting.result(timeout=60) == 2
        assert runtime.stats().slots_taken == 0
    assert probe.threads
    assert threading.get_ident() not in probe.threads


@pytest.mark.parametrize("size", [4 << 20, pytest.param(16 << 20, marks=pytest.mark.slow)])
def test_the_loop_turns_while_a_large_state_is_stored_and_loaded(tmp_path: Path, size: int) -> None:
    """Counted and not timed: how often it came round between the state's first part and its last."""

    @agent(name="d-large-ticks")
    async def ticks(turn: Turn) -> None:
        while True:
            await asyncio.sleep(0)
            ticker.ticks += 1

    rows = [{"id": number, "half": number / 2} for number in range(size // 30)]

    @agent(name="d-large-counted", state=lambda: [Count(), rows, Count()])
    async def counts(turn: Turn) -> Any:
        turn.state[1].append(turn.input)

    with Runtime(tmp_path / "agents.db", drain=0) as runtime:
        runtime.spawn(ticks, "/ticks/a", input=1)
        ref = runtime.spawn(counts, "/large/a")
        ref.followup(1).result(timeout=60)
        ticker.seen.clear()
        ref.followup(2).result(timeout=60)
        first, last, again, again_last = ticker.seen  # read twice
        stored = min(last - first, again_last - again)
        ticker.seen.clear()
        assert ref.evict()
        assert len(ref.state()[1]) == len(rows)
        looked_at = ticker.seen[1] - ticker.seen[0]
        ticker.seen.clear()
        ref.followup(3).result(timeout=60)
        loaded = ticker.seen[1] - ticker.seen[0]
    pieces = size // (64 * 1024)
    assert min(stored, loaded, looked_at) > pieces / 4


class Ticker:
    """How often the loop came round, and how often it had when somebody looked."""

    def __init__(self) -> None:
        self.ticks = 0
        self.seen: list[int] = []


ticker = Ticker()


class Count:
    """Looks at the ticker when it is stored, and when it is made."""

    def __reduce__(self) -> Any:
        ticker.seen.append(ticker.ticks)
        return count, ()


def count() -> Count:
    ticker.seen.append(ticker.ticks)
    return Count()


class Made:
    """Holds up whoever makes it out of its bytes."""

    def __reduce__(self) -> Any:
        return make, ()


def make() -> str:
    probe.reached.set()
    assert probe.go.wait(600)
    return "made"


def test_an_async_callers_loop_goes_on_while_a_state_is_made(tmp_path: Path) -> None:
    @agent(name="d-large-slow", state=lambda: [text(600_000), Made()])
    async def slow(turn: Turn) -> None:
        turn.state.append(turn.input)

    async def story() -> None:
        async with AsyncRuntime(tmp_path / "agents.db") as runtime:
            ref = await runtime.spawn(slow, "/large/a")
            await (await ref.followup(1)).result(timeout=60)
            looking = asyncio.ensure_future(ref.state())
            async with asyncio.timeout(10):
                while not probe.reached.is_set():
                    await asyncio.sleep(0)
            assert (await ref.info()).status == "idle", "the loop goes on"
            probe.go.set()
            assert (await looking)[1:] == ["made", 1]

    asyncio.run(story())


# Ends


@pytest.mark.parametrize("how", ["interrupt", "close"])
def test_a_turn_ends_while_its_state_is_being_stored(tmp_path: Path, how: str) -> None:
    with Runtime(tmp_path / "agents.db") as runtime:
        ref = runtime.spawn(holder, "/large/a")
        ref.followup("first").result(timeout=60)
        probe.hold()
        run = ref.followup("probe")
        assert probe.reached.wait(600)
        ref.interrupt() if how == "interrupt" else ref.close()
        assert run.outcome(timeout=60).status == "interrupted"
        if how == "interrupt":
            assert halves(ref) == (1, 1)
            probe.go.set()
            assert ref.followup("again").result(timeout=60) == 2
        else:
            again = runtime.spawn(holder, "/large/a", input="first")
            assert again.run.result(timeout=60) == 1  # type: ignore[union-attr]
        assert runtime.stats().slots_taken == 0


def test_a_runtime_closes_while_a_state_is_being_stored(tmp_path: Path) -> None:
    store = tmp_path / "agents.db"
    runtime = Runtime(store, drain=0.1).start()
    ref = runtime.spawn(holder, "/large/a")
    ref.followup("first").result(timeout=60)
    probe.hold()
    run = ref.followup("probe", run_id="under way")
    assert probe.reached.wait(600)
    runtime.close()
    with Runtime(store) as second:
        # its code had returned: it has ended if its state was stored in time, and else begins again
        assert second.run(run.run_id).outcome(timeout=60).status == "completed"
        assert halves(second.agent("/large/a")) == (2, 2)


def test_a_large_state_that_cannot_be_stored_fails_its_run_alone(tmp_path: Path) -> None:
    @agent(name="d-large-unfit", state=probed)
    async def unfit(turn: Turn) -> Any:
        turn.state["left"] += 1
        turn.state["lock"] = threading.Event() if turn.input == "unfit" else None
        return turn.state["left"]

    with Runtime(tmp_path / "agents.db") as runtime:
        ref = runtime.spawn(unfit, "/large/a")
        assert ref.followup("fit").result(timeout=60) == 1
        outcome = ref.followup("unfit").outcome(timeout=60)
        assert outcome.status == "failed"
        assert "the state of /large/a cannot be stored: TypeError: cannot pickle" in (outcome.error or "")
        assert ref.followup("fit").result(timeout=60) == 2
        assert runtime.stats().slots_taken == 0


# Tearing


def test_a_task_that_outlives_its_turn_cannot_tear_the_state(tmp_path: Path) -> None:
    """It goes on mutating from the moment the turn returned until it has been committed."""
    stop = False
    tasks: set[asyncio.Task[None]] = set()

    @agent(name="d-large-strays", state=probed)
    async def strays(turn: Turn) -> None:
        async def stray() -> None:
            while not stop:
                turn.state["left"] += 1
                turn.state["right"] += 1
                await asyncio.sleep(0)

        tasks.add(asyncio.create_task(stray()))

    store = tmp_path / "agents.db"
    with Runtime(store) as first:
        ref = first.spawn(strays, "/large/a")
        for number in range(3):
            ref.followup(number).result(timeout=60)
            left, right = halves(ref)
            assert left == right
        stop = True
    with Runtime(store) as second:
        assert halves(second.agent("/large/a")) == (left, right)


def test_a_thread_that_outlives_its_turn_cannot_tear_the_state(tmp_path: Path) -> None:
    stop = threading.Event()

    @agent(name="d-large-stray-threads", state=probed)
    def strays(turn: SyncTurn) -> None:
        state = turn.state

        def stray() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                state.update({"left": number, "right": number})

        threading.Thread(target=stray, daemon=True).start()

    try:
        with Runtime(tmp_path / "agents.db") as runtime:
            ref = runtime.spawn(strays, "/large/a")
            for number in range(3):
                ref.followup(number).result(timeout=60)
                left, right = halves(ref)
                assert left == right
            stop.set()
    finally:
        stop.set()


@pytest.mark.parametrize("size", ["large", "small"])
def test_what_goes_on_during_a_checkpoint_is_in_it_or_not(tmp_path: Path, size: str) -> None:
    """The state, and the messages that its code had sent by then."""

    def state() -> dict[str, Any]:
        return {**probed(), **({} if size == "large" else {"text": [], "more": []})}

    @agent(name=f"d-checkpoint-{size}", state=state)
    async def checkpoints(turn: Turn) -> None:
        over = False

        async def goes_on() -> None:
            while not over and turn.state["left"] < 1_000:  # each is a message for the next commit
                turn.state["left"] += 1
                turn.state["right"] += 1
                await turn.send("/t/inbox", turn.state["right"])

        going = asyncio.create_task(goes_on())
        for _ in range(3):
            await turn.checkpoint()
        over = True
        await going
        raise LookupError("fails after its checkpoints")

    with Runtime(tmp_path / "agents.db") as runtime:
        inbox = runtime.spawn(other, "/t/inbox")
        ref = runtime.spawn(checkpoints, "/t/a", input=1)
        assert ref.run.outcome(timeout=60).status == "failed"  # type: ignore[union-attr]
        left, right = halves(ref)
        assert left == right > 0
        # a message is on its way while the directory is asked where to: counted, and not sent yet
        assert inbox.info().inbox in (right, right - 1)


def test_what_comes_after_a_checkpoint_is_not_in_it(tmp_path: Path) -> None:
    @agent(name="d-checkpoint-after", state=probed)
    async def goes_on(turn: Turn) -> None:
        turn.state["left"] = turn.state["right"] = 1
        await turn.checkpoint()
        turn.state["left"] = 2
        turn.state["text"].clear()
        raise LookupError("fails after its checkpoint")

    with Runtime(tmp_path / "agents.db") as runtime:
        ref = runtime.spawn(goes_on, "/large/a", input=1)
        assert ref.run.outcome(timeout=60).status == "failed"  # type: ignore[union-attr]
        assert ref.state() == {**probed(), "left": 1, "right": 1}


def test_a_turn_that_returns_during_its_checkpoint_is_stored_as_it_ended(tmp_path: Path) -> None:
    """What it returned to is what was stored before the checkpoint, and is stored once more."""
    checkpointing: set[asyncio.Task[None]] = set()

    @agent(name="d-checkpoint-returns")
    async def returns(turn: Turn) -> None:
        turn.state["n"] = 0
        if turn.input == "checkpoint":
            turn.state["n"] = 1
            checkpointing.add(asyncio.create_task(turn.checkpoint()))
            await asyncio.sleep(0)  # it has begun, and is not answered
            turn.state["n"] = 0

    with Runtime(tmp_path / "agents.db") as runtime:
        ref = runtime.spawn(returns, "/t/a", input="plainly")
        ref.run.result(timeout=60)  # type: ignore[union-attr]
        ref.followup("checkpoint").result(timeout=60)
        assert ref.state() == {"n": 0}
        assert ref.evict()
        assert ref.state() == {"n": 0}


def test_a_checkpoint_that_its_turn_did_not_wait_for_stores_nothing_after_it(tmp_path: Path) -> None:
    failures: list[str] = []
    checkpointing: set[asyncio.Task[None]] = set()

    @agent(name="d-checkpoint-late", state=probed)
    async def leaves(turn: Turn) -> None:
        async def late() -> None:
            try:
                await turn.checkpoint()
            except GreenroomError as error:
                failures.append(str(error))

        turn.state["left"] = turn.state["right"] = 1
        for _ in range(2):
            checkpointing.add(asyncio.create_task(late()))
        await asyncio.sleep(0)
        turn.state["left"] = turn.state["right"] = 2

    with Runtime(tmp_path / "agents.db") as runtime:
        ref = runtime.spawn(leaves, "/large/a", input=1)
        ref.run.result(timeout=60)  # type: ignore[union-attr]
        assert halves(ref) == (2, 2)
        assert ref.followup(2).result(timeout=60) is None
        assert halves(ref) == (2, 2)
    assert all("is over" in failure for failure in failures)
