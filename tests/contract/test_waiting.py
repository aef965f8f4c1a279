"""Turns that wait: what they hold meanwhile, what their time is, how they go on, and fairness to others.

In virtual time (`greenroom.testing`): a wait of a thousand seconds takes none.
"""

import asyncio
from typing import Any

import anyio
import pytest

from greenroom import RunFailed, RunInterrupted, SyncTurn, Turn, WouldDeadlock, agent
from greenroom.testing import Simulation


@agent(name="c-waiting-sleeps")
async def sleeps(turn: Turn) -> Any:
    await asyncio.sleep(turn.input)
    return turn.input


@agent(name="c-waiting-pauses")
async def pauses(turn: Turn) -> str:
    async with turn.paused():
        await asyncio.sleep(turn.input)
    return "went on"


# What is held meanwhile


def test_turns_that_wait_for_people_stop_nobody() -> None:
    with Simulation(slots=8, residents=8) as simulation:
        runs = [simulation.spawn(pauses, f"/people/{n}", input=1_000).run for n in range(50)]
        simulation.advance(1)
        stats = simulation.stats()
        assert (stats.resident, stats.waiting, stats.slots_taken) == (0, 50, 0)
        assert {info.status for info in simulation.list("/people")} == {"waiting"}
        assert "is paused, without a slot" in str(simulation.agent("/people/0").explain())
        begun = simulation.now
        assert simulation.spawn(sleeps, "/other/a", input=1).run.result(timeout=2) == 1
        assert simulation.now < begun + 2
        simulation.wait(runs, timeout=1_010)
        assert [run.result() for run in runs] == ["went on"] * 50
        assert simulation.stats().resident <= 8


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("residents", [1, 3])
def test_residents_that_do_not_wait_never_exceed_their_number(seed: int, residents: int) -> None:
    """G4, looked at while waits end, turns are interrupted in them, and agents are closed."""
    with Simulation(seed=seed, slots=2, residents=residents) as simulation:
        refs = [simulation.spawn(pauses, f"/t{n % 3}/{n}", input=n % 4 + 0.5) for n in range(12)]
        runs = [ref.followup(1) for ref in refs for _ in range(2)]
        for step in range(60):
            simulation.advance(0.1)
            if step % 7 == 0:
                refs[step % 12].interrupt()
            stats = simulation.stats()
            assert stats.resident <= residents
            assert stats.slots_taken <= 2
        refs[5].close()
        simulation.wait([*runs, *(ref.run for ref in refs)], timeout=1_000)
        simulation.run_until_idle()
        stats = simulation.stats()
        assert (stats.waiting, stats.slots_taken, stats.running) == (0, 0, 0)
        assert stats.resident <= residents


def test_an_agent_interrupted_while_it_waits_leaves_memory_if_others_have_its_place() -> None:
    with Simulation(slots=4, residents=1) as simulation:
        waiting = simulation.spawn(pauses, "/a/waits", input=100)
        simulation.advance(1)
        other = simulation.spawn(sleeps, "/a/works", input=10)
        later = waiting.followup(1)
        simulation.advance(1)
        waiting.interrupt(waiting.run.run_id)
        with pytest.raises(RunInterrupted):
            waiting.run.result(timeout=1)
        simulation.advance(1)
        assert not waiting.info().resident
        assert (waiting.info().status, later.status) == ("queued", "queued")
        assert waiting.explain().waits_for == "room"
        assert waiting.explain().held_by == ("/a/works",)
        assert other.run.result(timeout=10) == 10
        assert later.result(timeout=10) == "went on"


def test_a_spawn_opens_a_session_only_where_there_is_free_room() -> None:
    opened: list[str] = []

    @agent(name="c-waiting-opens")
    class Opens:
        def open(self, info: Any) -> None:
            opened.append(info.path)

        def run(self, turn: SyncTurn) -> str:
            return turn.path

        def close(self) -> None:
            opened.append("closed")

    with Simulation(residents=10) as simulation:
        refs = [simulation.spawn(Opens, f"/u{n:03}/chat") for n in range(100)]
        simulation.run_until_idle()
        assert opened == [f"/u{n:03}/chat" for n in range(10)]
        assert {info.status for info in simulation.list()} == {"idle"}
        assert simulation.stats().evictions == 0
        refs[50].send("kept until it is opened")
        assert refs[50].followup(None).result(timeout=10) == "/u050/chat"
        assert refs[50].info().inbox == 0


# What the time of a turn is


def waits_in(how: str, seconds: float, turn: Any) -> Any:
    """A turn that executes for 3 s before and after it waits."""

    async def on_loop() -> str:
        await asyncio.sleep(3)
        if how == "pause":
            async with turn.paused():
                await asyncio.sleep(seconds)
        else:
            await turn.wait(await turn.followup("/time/sleeps", seconds))
        await asyncio.sleep(3)
        return "in time"

    return on_loop()


@pytest.mark.parametrize("how", ["wait", "pause"])
@pytest.mark.parametrize(("limit", "ends"), [(7.0, "completed"), (5.0, "failed")])
def test_time_that_a_turn_waits_does_not_count_into_its_timeout(how: str, limit: float, ends: str) -> None:
    @agent(name=f"c-waiting-in-time {how} {limit}", turn_timeout=limit)
    async def in_time(turn: Turn) -> Any:
        return await waits_in(how, 1_000, turn)

    with Simulation(slots=2) as simulation:
        simulation.spawn(sleeps, "/time/sleeps")
        begun = simulation.now
        outcome = simulation.spawn(in_time, "/time/a", input=1).run.outcome(timeout=2_000)
        assert outcome.status == ends
        assert simulation.now - begun == pytest.approx(1_006 if ends == "completed" else 1_005, abs=0.5)
        if ends == "failed":
            assert outcome.error == "its turn took longer than 5 s"


def test_time_on_a_thread_stands_still_as_well() -> None:
    @agent(name="c-waiting-on-thread", turn_timeout=5.0)
    def on_thread(turn: SyncTurn) -> str:
        turn.wait(turn.followup("/time/sleeps", 100))
        return "in time"

    with Simulation(slots=1) as simulation:
        simulation.spawn(sleeps, "/time/sleeps")
        assert simulation.spawn(on_thread, "/time/a", input=1).run.result(timeout=200) == "in time"


@pytest.mark.parametrize("lacks", ["slot", "room"])
def test_time_in_which_it_queues_to_go_on_does_not_count_either(lacks: str) -> None:
    @agent(name=f"c-waiting-queues {lacks}", turn_timeout=5.0)
    async def queues(turn: Turn) -> str:
        async with turn.paused():
            await asyncio.sleep(1)
        return "went on"

    with Simulation(slots=1 if lacks == "slot" else 9, residents=1 if lacks == "room" else 9) as simulation:
        ref = simulation.spawn(queues, "/queue/a", input=1)
        simulation.advance(0.5)
        hog = simulation.spawn(sleeps, "/hog/a", input=50)
        simulation.advance(10)
        why = ref.explain()
        assert (why.status, why.waits_for, why.place, why.held_by) == ("waiting", lacks, 0, ("/hog/a",))
        assert hog.run.result(timeout=100) == 50
        assert ref.run.result(timeout=1) == "went on"


# How it goes on


def test_two_tasks_of_a_turn_may_wait_in_turns() -> None:
    """The wait of one begins again while the other one queues for its slot."""

    async def flow(turn: Turn, seconds: list[float]) -> None:
        for paused, busy in zip(seconds[::2], seconds[1::2], strict=True):
            async with turn.paused():
                await asyncio.sleep(paused)
            await asyncio.sleep(busy)

    @agent(name="c-waiting-flows")
    async def flows(turn: Turn) -> str:
        await asyncio.gather(flow(turn, [1, 0.4, 1, 1]), flow(turn, [1.2, 0, 0.2, 1]))
        return "both"

    for seed in range(20):
        with Simulation(seed=seed, slots=1) as simulation:
            run = simulation.spawn(flows, "/a/flows", input=1).run
            for n in range(20):
                simulation.spawn(sleeps, f"/b/{n}", input=0.3)
            assert run.result(timeout=30) == "both"


def test_a_turn_cancelled_by_anyio_waits_for_its_slot_without_spinning() -> None:
    @agent(name="c-waiting-anyio")
    async def moves_on(turn: Turn) -> bool:
        with anyio.move_on_after(0.3) as scope:
            async with turn.paused():
                await asyncio.sleep(100)
        return scope.cancelled_caught

    with Simulation(slots=1) as simulation:
        refs = [simulation.spawn(moves_on, f"/t{n}/a", input=1) for n in range(3)]
        simulation.advance(0.1)
        hog = simulation.spawn(sleeps, "/hog/a", input=3)
        simulation.advance(1)
        assert hog.info().status == "running"
        assert {ref.info().status for ref in refs} == {"waiting"}
        steps = simulation.loop.steps
        simulation.advance(1)
        assert simulation.loop.steps - steps < 50
        simulation.wait([ref.run for ref in refs], timeout=10)
        assert [ref.run.result() for ref in refs] == [True] * 3, "the code goes on behind the scope"


def test_an_interrupt_reaches_a_turn_that_anyio_has_cancelled() -> None:
    @agent(name="c-waiting-anyio-interrupted")
    async def moves_on(turn: Turn) -> None:
        with anyio.move_on_after(0.3):
            async with turn.paused():
                await asyncio.sleep(100)

    with Simulation(slots=1) as simulation:
        ref = simulation.spawn(moves_on, "/t/a", input=1)
        simulation.advance(0.1)
        simulation.spawn(sleeps, "/hog/a", input=30)
        simulation.advance(1)
        begun = simulation.now
        ref.interrupt()
        with pytest.raises(RunInterrupted):
            ref.run.result(timeout=5)
        assert simulation.now < begun + 1


# Fairness

BACKLOGS = [32, 1_000, pytest.param(10_000, marks=pytest.mark.long)]
"""How many runs of a second wait already."""


@pytest.mark.parametrize("backlog", BACKLOGS)
@pytest.mark.parametrize("residents", [1, 16, 64])
@pytest.mark.parametrize("spread", ["one tree", "many trees", "few agents"])
def test_one_run_of_an_idle_tree_begins_within_three_seconds(
    backlog: int, residents: int, spread: str
) -> None:
    """Whatever the backlog of others, and whether it is of many agents, many trees, or few agents."""
    with Simulation(slots=8, residents=residents, durability="memory") as simulation:
        for n in range(backlog):
            match spread:
                case "one tree":
                    simulation.spawn(sleeps, f"/busy/{n}", input=1)
                case "many trees":
                    simulation.spawn(sleeps, f"/busy{n % 20}/{n}", input=1)
                case _ if n < 4:
                    simulation.spawn(sleeps, f"/busy/{n}", input=1)
                case _:
                    simulation.agent(f"/busy/{n % 4}").followup(1)
        # with one place in memory, twenty trees that begin to wait at once are served one a second
        simulation.advance(25.5 if spread == "many trees" and residents == 1 else 5.5)
        for path in ("/idle/a", "/quiet/a"):
            run = simulation.spawn(sleeps, path, input=1).run
            accepted = simulation.now
            outcome = run.outcome(timeout=10)
            assert outcome.started_at is not None
            assert outcome.started_at - accepted < 3
            simulation.advance(2.2)


@agent(name="c-waiting-continues")
async def continues(turn: Turn) -> Any:
    if turn.results:
        return "continued"
    return (await turn.after(await turn.followup("/mine/child", 5))).run_id


@pytest.mark.parametrize("residents", [1, 16])
@pytest.mark.parametrize("trees", [1, 50])
def test_a_continuation_that_is_due_is_not_behind_strangers_new_runs(residents: int, trees: int) -> None:
    with Simulation(slots=8, residents=residents, durability="memory") as simulation:
        simulation.spawn(sleeps, "/mine/child")
        run = simulation.spawn(continues, "/mine/parent", input=1).run
        continuation = simulation.run(run.result(timeout=10))
        for n in range(300):
            simulation.spawn(sleeps, f"/busy{n % trees}/{n}", input=1)
        child = simulation.agent("/mine/child")
        while child.info().last_outcome is None:
            simulation.advance(0.1)
        due = simulation.now
        outcome = continuation.outcome(timeout=20)
        assert outcome.result == "continued"
        assert outcome.started_at is not None
        assert outcome.started_at - due < 3


def test_a_turn_that_has_waited_goes_on_before_what_is_new() -> None:
    with Simulation(slots=2, residents=4, durability="memory") as simulation:
        ref = simulation.spawn(pauses, "/mine/a", input=2)
        simulation.advance(0.5)
        for n in range(200):
            simulation.spawn(sleeps, f"/busy{n % 3}/{n}", input=1)
        assert ref.run.result(timeout=5) == "went on"


# Waiting in a circle


@agent(name="c-waiting-asks")
async def asks(turn: Turn) -> Any:
    """Sleeps, then waits for a run of the agent at the path that it is told, if it is told one."""
    if turn.input is None:
        return f"answer of {turn.path}"
    await asyncio.sleep(1)
    try:
        return await (await turn.followup(turn.input, None))
    except WouldDeadlock as error:
        return error.paths, error.run_ids, str(error)


def test_two_agents_that_ask_each_other_are_told_and_one_gets_its_answer() -> None:
    with Simulation() as simulation:
        refs = [simulation.spawn(asks, f"/t/{name}") for name in "ab"]
        runs = [refs[0].followup("/t/b"), refs[1].followup("/t/a")]
        results = [run.result(timeout=10) for run in runs]
        told = [result for result in results if isinstance(result, tuple)]
        assert len(told) == 1, "the wait that closes the circle is refused, and no other"
        paths, run_ids, text = told[0]
        assert sorted(set(paths)) == ["/t/a", "/t/b"]
        assert {run.run_id for run in runs} < set(run_ids)
        assert all(f"{path} (run {run_id})" in text for path, run_id in zip(paths, run_ids, strict=True))
        assert any(isinstance(result, str) and result.startswith("answer of") for result in results)
        simulation.run_until_idle()
        assert (simulation.stats().running, simulation.stats().queued) == (0, 0)


def test_an_agent_that_waits_for_itself_is_told() -> None:
    with Simulation() as simulation:
        paths, run_ids, text = simulation.spawn(asks, "/t/a", input="/t/a").run.result(timeout=10)
        assert paths == ("/t/a", "/t/a")
        assert text.startswith(
            f"this wait would never end: /t/a (run {run_ids[0]}) waits for /t/a (run {run_ids[1]}), "
            f"which begins after /t/a (run {run_ids[0]}). "
        )


@pytest.mark.parametrize("length", [3, 30])
def test_a_circle_of_any_length_is_found(length: int) -> None:
    with Simulation(slots=1, residents=2) as simulation:
        refs = [simulation.spawn(asks, f"/t/{n}") for n in range(length)]
        runs = [ref.followup(f"/t/{(n + 1) % length}") for n, ref in enumerate(refs)]
        results = [run.result(timeout=100) for run in runs]
        (told,) = [result for result in results if isinstance(result, tuple)]
        assert set(told[0]) == {ref.path for ref in refs}
        assert ("others in turn" in told[2]) == (length == 30)


def test_code_on_a_thread_is_told_as_well() -> None:
    @agent(name="c-waiting-thread-itself")
    def waits_for_itself(turn: SyncTurn) -> Any:
        return turn.input or turn.followup(turn.path, "inner").result()

    with Simulation() as simulation:
        with pytest.raises(RunFailed, match="WouldDeadlock: this wait would never end: /t/a") as failed:
            simulation.spawn(waits_for_itself, "/t/a", input="").run.result(timeout=10)
        assert "which begins after" in str(failed.value)
        simulation.run_until_idle()
        assert simulation.agent("/t/a").info().last_outcome.result == "inner", "its other run goes on"


def test_a_wait_with_a_timeout_is_refused_like_any_other() -> None:
    @agent(name="c-waiting-timeout")
    async def in_vain(turn: Turn) -> Any:
        run = await turn.followup(turn.path, None)
        await run.result(timeout=5)

    with Simulation() as simulation:
        ref = simulation.spawn(in_vain, "/t/a", input=1)
        with pytest.raises(RunFailed, match="WouldDeadlock"):
            ref.run.result(timeout=10)


@pytest.mark.parametrize("how", ["await", "wait", "id", "outcome"])
def test_a_turn_cannot_wait_for_its_own_continuation(how: str) -> None:
    @agent(name=f"c-waiting-continuation {how}")
    async def in_vain(turn: Turn) -> Any:
        run = await turn.after()
        match how:
            case "await":
                await run
            case "wait":
                await turn.wait(run)
            case "id":
                await turn.wait(run.run_id)
            case _:
                await run.outcome()

    with Simulation() as simulation:
        ref = simulation.spawn(in_vain, "/t/a", input=1)
        with pytest.raises(RunFailed, match=r"WouldDeadlock.* which begins after "):
            ref.run.result(timeout=10)


@pytest.mark.parametrize("how", ["wait", "after"])
def test_a_turn_cannot_wait_for_its_own_run(how: str) -> None:
    @agent(name=f"c-waiting-own {how}")
    async def in_vain(turn: Turn) -> Any:
        await (turn.wait if how == "wait" else turn.after)(turn.run_id)

    with Simulation() as simulation:
        ref = simulation.spawn(in_vain, "/t/a", input=1)
        with pytest.raises(RunFailed, match="WouldDeadlock"):
            ref.run.result(timeout=10)


def test_a_child_cannot_wait_for_a_continuation_that_waits_for_it() -> None:
    @agent(name="c-waiting-child")
    async def child(turn: Turn) -> Any:
        await asyncio.sleep(5)
        (info,) = [info for info in await turn.list() if info.path == "/t/parent"]
        try:
            await turn.wait(info.last_outcome.result)
        except WouldDeadlock as error:
            return error.circle

    @agent(name="c-waiting-parent")
    async def parent(turn: Turn) -> Any:
        if turn.results:
            return turn.results[0].result
        kid = await turn.spawn(child, "kid")
        return (await turn.after(await kid.followup(None))).run_id

    with Simulation() as simulation:
        ref = simulation.spawn(parent, "/t/parent", input=1)
        continuation = simulation.run(ref.run.result(timeout=10))
        circle = continuation.result(timeout=20)
        assert [(how, path) for how, _, path in circle] == [
            ("waits for", "/t/parent/kid"),
            ("goes on after", "/t/parent"),
        ]


def test_a_wait_that_was_given_up_closes_no_circle() -> None:
    @agent(name="c-waiting-gives-up")
    async def gives_up(turn: Turn) -> Any:
        if turn.input is None:
            return f"answer of {turn.path}"
        if turn.input == "/t/b":
            run = await turn.followup("/t/b", None)
            with pytest.raises(TimeoutError):
                await run.result(timeout=2)
            await asyncio.sleep(10)
            return "gave up"
        await asyncio.sleep(5)
        return await (await turn.followup(turn.input, None))

    with Simulation() as simulation:
        a, b = (simulation.spawn(gives_up, f"/t/{name}") for name in "ab")
        runs = [a.followup("/t/b"), b.followup("/t/a")]
        assert [run.result(timeout=30) for run in runs] == ["gave up", "answer of /t/a"]


def test_explain_says_who_waits_for_whom() -> None:
    @agent(name="c-waiting-fan")
    async def fan(turn: Turn) -> Any:
        runs = [await turn.followup(f"/t/{n}", 100) for n in range(turn.input)]
        await turn.wait(*runs)

    with Simulation() as simulation:
        for n in range(6):
            simulation.spawn(sleeps, f"/t/{n}")
        ref = simulation.spawn(fan, "/t/fan", input=6)
        simulation.advance(1)
        why = ref.explain()
        assert why.held_by == tuple(f"/t/{n}" for n in range(6))
        assert str(why) == (
            f"/t/fan is waiting: run {ref.run.run_id} waits, without a slot, for 6 runs "
            "(of /t/0, /t/1, /t/2 and 3 more) to end."
        )


def test_explain_says_that_an_interrupted_turn_has_not_ended() -> None:
    @agent(name="c-waiting-ignores")
    async def ignores(turn: Turn) -> None:
        while True:
            try:
                await asyncio.sleep(100)
                return
            except asyncio.CancelledError:
                continue

    with Simulation() as simulation:
        ref = simulation.spawn(ignores, "/t/a", input=1)
        simulation.advance(1)
        ref.interrupt()
        simulation.advance(1)
        why = ref.explain()
        assert (why.status, why.waits_for) == ("interrupting", None)
        assert str(why) == (
            f"/t/a is interrupting: run {ref.run.run_id} was interrupted, and its code has not returned "
            "yet; it keeps its slot until then."
        )
