"""What a turn starts is found again: identities, and programs in which a count would mean two things."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from greenroom import KeyNeeded, PathTaken, SyncTurn, Turn, agent
from greenroom.testing import Simulation

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # of what a crash cut off
]

PAGES = ("first", "second", "third")


@agent(name="c-id-worker", state=list)
async def worker(turn: Turn) -> str:
    turn.state.append(turn.input)
    await asyncio.sleep(0.01)
    return f"text of {turn.input}"


@agent(name="c-id-counted-loop", attempts=100)
async def counted_loop(turn: Turn) -> list[str]:
    texts: list[str] = turn.state.setdefault("texts", [])
    while len(texts) < len(PAGES):
        texts.append(await (await turn.followup("/t/worker", PAGES[len(texts)])))
        await turn.checkpoint()
    return texts


@agent(name="c-id-keyed-loop", attempts=100)
async def keyed_loop(turn: Turn) -> list[str]:
    texts: list[str] = turn.state.setdefault("texts", [])
    while (page := len(texts)) < len(PAGES):
        texts.append(await (await turn.followup("/t/worker", PAGES[page], key=page)))
        await turn.checkpoint()
    return texts


@agent(name="c-id-counted-branches", attempts=100)
async def counted_branches(turn: Turn) -> list[str]:
    async def branch(page: str, pause: float) -> str:
        await asyncio.sleep(pause / turn.attempt if page == "first" else pause)
        return await (await turn.followup("/t/worker", page))

    return await asyncio.gather(branch("first", 0.003), branch("second", 0.002))


@agent(name="c-id-keyed-branches", attempts=100)
async def keyed_branches(turn: Turn) -> list[str]:
    async def branch(page: str) -> str:
        return await (await turn.followup("/t/worker", page, key=page))

    return await asyncio.gather(*map(branch, PAGES))


@agent(name="c-id-gathered", attempts=100)
async def gathered(turn: Turn) -> list[str]:
    runs = await asyncio.gather(*(turn.followup("/t/worker", page) for page in PAGES))
    return [await run for run in reversed(runs)][::-1]


@agent(name="c-id-on-a-thread", attempts=100)
def on_a_thread(turn: SyncTurn) -> list[str]:
    runs = [turn.followup("/t/worker", page) for page in PAGES]
    return [run.result() for run in runs]


@agent(name="c-id-spawns", attempts=100)
async def spawns(turn: Turn) -> list[str]:
    texts = []
    for number, page in enumerate(PAGES):
        ref = await turn.spawn(worker, f"w{number}", config=page)
        texts.append(await (await ref.followup(page)))
    return texts


def cut_off_anywhere(kind: Any, *, strict: bool = True) -> Iterator[Simulation]:
    """A run of the kind, cut off by a crash of the process after each number of steps, and then at rest."""
    over, steps = False, 0
    while not over:
        steps += 2
        with Simulation(kinds=(worker, kind)) as simulation:
            simulation.spawn(worker, "/t/worker")
            simulation.run_until_idle()
            simulation.spawn(kind, "/t/chief", input=None, run_id="it")
            end = simulation.loop.steps + steps
            over = not _drive(simulation, end)
            simulation.crash()
            simulation.reopen()
            simulation.loop.refuses_divergence = strict  # a real runtime does not
            simulation.run_until_idle()
            yield simulation
    assert steps > 40, "there are more moments than that"


def _drive(simulation: Simulation, end: int) -> bool:
    """Whether so many steps could be done."""
    return simulation._drive(lambda: simulation.loop.steps >= end, 100.0)


@pytest.mark.parametrize("kind", [keyed_loop, keyed_branches, gathered, on_a_thread])
def test_whatever_moment_it_is_cut_off_each_call_gets_its_own_run(kind: Any) -> None:
    for simulation in cut_off_anywhere(kind):
        texts = simulation.run("it").result(100)
        assert texts == [f"text of {page}" for page in PAGES]
        assert sorted(simulation.agent("/t/worker").state()) == sorted(PAGES), "each was started once"


def test_agents_are_found_by_their_paths() -> None:
    for simulation in cut_off_anywhere(spawns):
        assert simulation.run("it").result(100) == [f"text of {page}" for page in PAGES]
        for number, page in enumerate(PAGES):
            assert simulation.agent(f"/t/chief/w{number}").state() == [page]


@pytest.mark.parametrize("kind", [counted_loop, counted_branches])
def test_a_count_that_could_mean_two_things_never_gives_a_wrong_result(kind: Any) -> None:
    """Whenever it is cut off, also before the code came to its second call."""
    for simulation in cut_off_anywhere(kind, strict=False):
        outcome = simulation.run("it").outcome(100)
        assert outcome.status == "failed", outcome
        assert "KeyNeeded" in str(outcome.error)


@pytest.mark.parametrize(
    ("kind", "why"),
    [(counted_loop, "both before and after a checkpoint"), (counted_branches, "more than one task")],
)
def test_it_is_refused_at_the_first_execution(runtime: Any, kind: Any, why: str) -> None:
    open_ = runtime()
    open_.spawn(worker, "/t/worker")
    error = str(open_.spawn(kind, "/t/chief", input=None).run.outcome(60).error)
    assert "KeyNeeded" in error
    assert why in error
    assert "key=" in error
    events = open_.events("/t/worker", follow=False)
    assert [event.type for event in events].count("run.accepted") == 1, (
        "the second call has started nothing"
    )


def test_the_error_names_what_needs_a_key(runtime: Any) -> None:
    caught: list[KeyNeeded] = []

    @agent(name="c-id-catches")
    async def catches(turn: Turn) -> Any:
        await turn.followup("/t/worker", 1)
        await turn.checkpoint()
        try:
            turn.followup("/t/worker", 2)
        except KeyNeeded as error:
            caught.append(error)
        return await (await turn.followup("/t/worker", 3, key="third"))

    open_ = runtime()
    open_.spawn(worker, "/t/worker")
    run = open_.spawn(catches, "/t/chief", input=None).run
    assert run.result(60) == "text of 3"
    (error,) = caught
    assert (error.run_id, error.path, error.what, error.name) == (
        run.run_id,
        "/t/chief",
        "run",
        "/t/worker",
    )


def test_threads_of_a_turn_need_keys(runtime: Any) -> None:
    @agent(name="c-id-threads")
    def threads(turn: SyncTurn) -> list[str]:
        told: list[str] = []

        def ask(page: str, key: str | None) -> None:
            try:
                told.append(turn.followup("/t/worker", page, key=key).result(timeout=60))
            except KeyNeeded as error:
                told.append(error.why)

        for page, key in (("first", None), ("second", None), ("third", "third")):
            thread = threading.Thread(target=ask, args=(page, key))
            thread.start()
            thread.join()
        return told

    open_ = runtime()
    open_.spawn(worker, "/t/worker")
    one, two, three = open_.spawn(threads, "/t/chief", input=None).run.result(60)
    assert one == "text of first"
    assert "more than one task or thread" in two
    assert three == "text of third"


def test_a_key_given_twice_is_the_same_run(runtime: Any) -> None:
    @agent(name="c-id-twice")
    async def twice(turn: Turn) -> Any:
        one = await turn.followup("/t/worker", "page", key="k")
        text = await one
        two = await turn.followup("/t/worker", "page", key="k")
        other = await turn.followup("/t/worker", "page", key=1)
        another = await turn.followup("/t/worker", "page", key="1")
        return text == await two, len({run.run_id for run in (one, two, other, another)})

    open_ = runtime()
    helper = open_.spawn(worker, "/t/worker")
    assert open_.spawn(twice, "/t/chief", input=None).run.result(60) == (True, 3)
    assert len(helper.state()) <= 3


@pytest.mark.parametrize("key", ["", "x" * 201, 1.5, True, b"k"])
def test_a_key_is_a_short_str_or_an_int(runtime: Any, key: Any) -> None:
    @agent(name="c-id-bad-key")
    async def bad(turn: Turn) -> None:
        turn.followup("/t/worker", 1, key=key)

    open_ = runtime()
    helper = open_.spawn(worker, "/t/worker")
    error = str(open_.spawn(bad, "/t/chief", input=None).run.outcome(60).error)
    assert "key=" in error
    assert helper.state() == []


def test_in_one_turn_a_path_is_spawned_once(runtime: Any) -> None:
    @agent(name="c-id-spawns-twice")
    async def spawns_twice(turn: Turn) -> str:
        await turn.spawn(worker, "x")
        try:
            await turn.spawn(worker, "x")
        except PathTaken:
            return "taken"
        return "spawned"

    assert runtime().spawn(spawns_twice, "/t/chief", input=None).run.result(60) == "taken"


def test_a_call_that_is_not_awaited_starts_nothing(runtime: Any) -> None:
    @agent(name="c-id-lazy")
    async def lazy(turn: Turn) -> Any:
        calls = [turn.followup("/t/worker", page) for page in PAGES]
        calls[0].close()
        second = await calls[1]
        calls[2].close()
        return await second

    open_ = runtime()
    helper = open_.spawn(worker, "/t/worker")
    assert open_.spawn(lazy, "/t/chief", input=None).run.result(60) == "text of second"
    assert helper.state() == ["second"]


# What differs from what was recorded


@agent(name="c-id-timed", attempts=100)
async def timed(turn: Turn) -> str:
    text = await (await turn.followup("/t/worker", f"attempt {turn.attempt}"))
    await asyncio.sleep(1)
    return text


@agent(name="c-id-changed-agent", attempts=100)
async def changed_agent(turn: Turn) -> str:
    ref = await turn.spawn(worker if turn.attempt == 1 else timed, "w", config=turn.attempt)
    text = await (await ref.followup("page"))
    await asyncio.sleep(1)
    return text


@contextmanager
def cut_off_late(kind: Any, *, strict: bool) -> Iterator[Simulation]:
    """A simulation in which the kind's run is cut off half a second after it began, and goes on."""
    with Simulation(kinds=(worker, kind)) as simulation:
        simulation.spawn(worker, "/t/worker")
        simulation.spawn(kind, "/t/chief", input=None, run_id="it")
        simulation.advance(0.5)
        simulation.crash()
        simulation.reopen()
        simulation.loop.refuses_divergence = strict  # a real runtime does not
        simulation.run_until_idle()
        yield simulation


def test_another_input_is_told_and_the_recorded_one_stands(caplog: pytest.LogCaptureFixture) -> None:
    with cut_off_late(timed, strict=False) as simulation:
        assert simulation.run("it").result(100) == "text of attempt 1"
        (event,) = [
            event for event in simulation.events("/t", follow=False) if event.type == "run.diverged"
        ]
        assert (event.path, event.run_id) == ("/t/chief", "it")
        assert (event.data["what"], event.data["name"], event.data["count"]) == ("run", "/t/worker", 1)
        assert event.data["differs"] == "input"
        assert "'attempt 1' is recorded, 'attempt 2' was given" in event.data["difference"]
        assert "asks again for the run 1 at /t/worker, with another input" in caplog.text


def test_in_a_simulation_it_fails_the_run() -> None:
    with cut_off_late(timed, strict=True) as simulation:
        outcome = simulation.run("it").outcome(100)
        assert outcome.status == "failed"
        assert "'attempt 1' is recorded, 'attempt 2' was given" in str(outcome.error)


def test_in_a_simulation_it_fails_a_run_that_catches_it() -> None:
    @agent(name="c-id-catches-all", attempts=100)
    async def catches_all(turn: Turn) -> str:
        try:
            await turn.followup("/t/worker", f"attempt {turn.attempt}")
        except Exception:
            return "no matter"
        await asyncio.sleep(1)
        return "well"

    with cut_off_late(catches_all, strict=True) as simulation:
        assert simulation.run("it").outcome(100).status == "failed"


def test_another_kind_and_config_are_told_and_the_agent_stands() -> None:
    with cut_off_late(changed_agent, strict=False) as simulation:
        assert simulation.run("it").result(100) == "text of page"
        told = [
            event.data for event in simulation.events("/t", follow=False) if event.type == "run.diverged"
        ]
        assert [(data["what"], data["name"], data["differs"]) for data in told] == [
            ("agent", "/t/chief/w", "kind"),
            ("agent", "/t/chief/w", "config"),
        ]
        assert simulation.agent("/t/chief/w").info().kind == "c-id-worker"


def test_what_cannot_be_compared_is_not_compared() -> None:
    @agent(name="c-id-loop-input", attempts=100)
    async def endless(turn: Turn) -> Any:
        value: list[Any] = [turn.attempt]
        value.append(value)
        run = await turn.followup("/t/worker", value)
        await asyncio.sleep(1)
        return run.run_id

    with cut_off_late(endless, strict=True) as simulation:
        assert simulation.run("it").outcome(100).status == "completed"


# Whose identities they are


def test_a_continuation_has_identities_of_its_own(runtime: Any) -> None:
    @agent(name="c-id-continues")
    async def continues(turn: Turn) -> Any:
        run = await turn.followup("/t/worker", turn.input)
        if turn.input == "go":
            await turn.after(run, input="on")
        return run.run_id

    open_ = runtime()
    helper = open_.spawn(worker, "/t/worker")
    open_.spawn(continues, "/t/chief", input="go").run.result(60)
    ids = [
        event.run_id
        for event in open_.events("/t/worker", follow=False, since=0)
        if event.type == "run.accepted"
    ]
    while len(helper.state()) < 2:
        open_.wait([open_.run(str(run_id)) for run_id in ids])
    assert helper.state() == ["go", "on"]


def test_the_store_says_what_started_what(tmp_path: Any, runtime: Any) -> None:
    import sqlite3

    open_ = runtime()
    run = open_.spawn(spawns, "/t/chief", input=None).run
    run.result(60)
    open_.close()
    with sqlite3.connect(tmp_path / "agents.db") as connection:
        ((serial,),) = connection.execute("SELECT serial FROM runs WHERE run_id = ?", (run.run_id,))
        by = "SELECT count(*) FROM {} WHERE started_by = ?"
        assert connection.execute(by.format("runs"), (serial,)).fetchone() == (3,)
        assert connection.execute(by.format("agents"), (serial,)).fetchone() == (3,)
