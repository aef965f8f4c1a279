"""`greenroom.testing.Simulation`: the runtime's names in virtual time, with crashes and faults."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from greenroom import RunFailed, RunInterrupted, Runtime, RuntimeClosing, StoreError, Turn, agent
from greenroom.persistence.doctor import examine
from greenroom.testing import (
    Crashed,
    Faults,
    InjectedFault,
    NothingCanHappen,
    Simulation,
    explore,
    faults,
    schedules,
    simulations,
)

from .stories import House, counter, plain


@agent(name="simulated.waiter")
async def waiter(turn: Turn) -> str:
    await asyncio.sleep(turn.input)
    return "waited"


@agent(name="simulated.forever")
async def forever(turn: Turn) -> None:
    await asyncio.Event().wait()


def last(simulation: Simulation, path: str) -> Any:
    outcome = simulation.agent(path).info().last_outcome
    assert outcome is not None
    return outcome


def test_it_is_a_runtime_with_the_runtimes_names() -> None:
    with Simulation(seed=1) as simulation:
        assert isinstance(simulation, Runtime)
        ref = simulation.spawn(counter, "/a")
        first, second = ref.followup(1), ref.followup(2)
        assert simulation.wait([first, second], until="all") == [first, second]
        assert [run.result() for run in (first, second)] == [1, 2]
        assert simulation.run(first.run_id).status == "completed"
        assert ref.state() == {"count": 2}
        assert simulation.list()[0].path == "/a"
        assert simulation.stats().agents == 1
        assert ref.explain().waits_for is None
        types = [event.type for event in simulation.events(since=0, follow=False)]
        assert types.count("run.completed") == 2


def test_nothing_happens_between_calls() -> None:
    with Simulation(seed=1) as simulation:
        run = simulation.spawn(waiter, "/a", input=10).run
        assert run is not None
        steps, now = simulation.loop.steps, simulation.now
        assert (simulation.loop.steps, simulation.now) == (steps, now)
        assert run.status in ("accepted", "queued", "running")


def test_advance_lets_that_much_time_pass_and_no_more() -> None:
    with Simulation(seed=1) as simulation:
        run = simulation.spawn(waiter, "/a", input=100).run
        assert run is not None
        begun = simulation.now
        simulation.advance(50)
        assert simulation.now == begun + 50
        assert not run.done()
        simulation.advance(60)
        assert simulation.now >= begun + 110
        assert run.done()


def test_run_until_idle_goes_on_until_nothing_is_left() -> None:
    with Simulation(seed=1) as simulation:
        simulation.spawn(waiter, "/a", input=1_000_000)
        simulation.run_until_idle()
        assert last(simulation, "/a").result == "waited"


def test_who_waits_in_vain_is_told_so_and_with_a_timeout_it_passes() -> None:
    with Simulation(seed=1) as simulation:
        run = simulation.spawn(forever, "/a", input=None).run
        assert run is not None
        begun = simulation.now
        with pytest.raises(TimeoutError):
            run.result(timeout=60)
        assert simulation.now == begun + 60
        with pytest.raises(NothingCanHappen, match="nothing can happen"):
            run.result()


def test_several_callers_can_be_under_way_at_once() -> None:
    async def callers(simulation: Simulation) -> list[Any]:
        runtime = simulation.aio
        refs = await asyncio.gather(*(runtime.spawn(counter, f"/a{n}", input=n) for n in range(5)))
        return await asyncio.gather(*(ref.run.result() for ref in refs if ref.run))

    orders = set()
    for seed in range(30):
        with Simulation(seed=seed) as simulation:
            assert simulation.run(callers(simulation)) == [1] * 5
            spawned = simulation.events(since=0, follow=False)
            orders.add(tuple(event.path for event in spawned if event.type == "agent.spawned"))
    assert len(orders) > 5


def test_a_plain_function_waits_in_the_middle() -> None:
    with Simulation(seed=2) as simulation:
        run = simulation.spawn(plain, "/a", input=1).run
        assert run is not None
        assert run.result() == ["completed"]


def test_a_crash_ends_everything_at_once_and_what_was_committed_goes_on() -> None:
    tidied: list[str] = []

    @agent(name="simulated.tidy")
    async def tidy(turn: Turn) -> int:
        try:
            await asyncio.sleep(100)
        finally:
            tidied.append(f"attempt {turn.attempt}")
        return turn.attempt

    with Simulation(seed=1) as simulation:
        ref = simulation.spawn(tidy, "/a")
        run = ref.followup(1)
        simulation.advance(50)
        simulation.crash()
        assert tidied == []  # a killed process runs no `finally`
        assert not simulation.is_up
        with pytest.raises(Crashed):
            ref.info()
        simulation.reopen()
        assert run.result() == 2
        assert tidied == ["attempt 2"]


def test_a_power_cut_may_lose_what_was_not_flushed_and_never_what_was() -> None:
    found = set()
    for seed in range(40):
        with Simulation(seed=seed, durability="process") as simulation:
            simulation.spawn(counter, "/flushed", durability="power")
            simulation.spawn(counter, "/written")
            simulation.crash(power=True)
            simulation.reopen()
            found.add(tuple(info.path for info in simulation.list()))
    assert found == {("/flushed",), ("/flushed", "/written")}


async def crowd(simulation: Simulation) -> None:
    for number in range(100):
        await simulation.aio.spawn(counter, f"/a{number}")


def test_a_crash_by_chance_ends_the_call_under_way() -> None:
    with Simulation(seed=1) as simulation:
        simulation.faults(Faults(crash=0.02))
        with pytest.raises(Crashed):
            simulation.run(crowd(simulation))
        simulation.faults()
        simulation.reopen()
        simulation.run_until_idle()


def test_it_can_be_closed_in_order_and_opened_again() -> None:
    with Simulation(seed=1) as simulation:
        ref = simulation.spawn(House, "/a", input="x")
        assert ref.run is not None
        simulation.close(drain=100)
        with pytest.raises(RuntimeClosing):
            ref.info()
        with pytest.raises(Exception, match="it is open"):
            simulation.reopen().reopen()
        assert ref.run.result() == "/a x"


def test_a_disk_that_fails_now_and_then_loses_nothing() -> None:
    def story(simulation: Simulation) -> None:
        simulation.faults(Faults(commit_fails=0.3, read_fails=0.3))
        ref = simulation.spawn(counter, "/a", durability="memory")
        runs = [ref.followup(number, durability="memory") for number in range(3)]
        simulation.faults()
        assert [run.result() for run in runs] == [1, 2, 3]

    assert explore(story, seeds=30) == 30


def test_turns_fail_hang_and_are_cancelled_by_chance() -> None:
    told = set()
    for seed in range(60):
        with Simulation(seed=seed) as simulation:
            ref = simulation.spawn(waiter, "/a")
            simulation.faults(Faults(turn_raises=0.3, turn_cancels=0.3, turn_hangs=0.3))
            run = ref.followup(1)
            simulation.run_until_idle()
            simulation.faults()
            if not run.done():
                told.add("hangs")
                run.interrupt()
            try:
                told.add(run.result())
            except (RunFailed, RunInterrupted) as error:
                told.add(type(error).__name__)
    assert told == {"hangs", "waited", "RunFailed", "RunInterrupted"}


def test_a_fault_is_raised_only_where_the_agents_own_code_waits() -> None:
    """What a turn's own method awaits does not fail in ways that it cannot fail in life."""

    @agent(name="simulated.careful")
    async def careful(turn: Turn) -> str:
        child = await turn.spawn(counter, "child")
        run = await child.followup(1)
        await turn.checkpoint()
        await turn.wait(run)
        try:
            await asyncio.sleep(1)
        except InjectedFault:
            return "sleep failed"
        return "nothing failed"

    outcomes = set()
    for seed in range(40):
        with Simulation(seed=seed) as simulation:
            ref = simulation.spawn(careful, "/a")
            ref.pin()
            simulation.faults(Faults(turn_raises=0.5))
            run = ref.followup(1)
            simulation.run_until_idle()
            outcomes.add(run.outcome().result)
    assert outcomes == {"sleep failed", "nothing failed"}


def test_faults_are_probabilities() -> None:
    with pytest.raises(ValueError, match="crash= is a probability"):
        Faults(crash=2.0)


def test_the_store_can_be_looked_into(tmp_path: Path) -> None:
    with Simulation(seed=1) as simulation:
        simulation.spawn(counter, "/a", input=1)
        simulation.run_until_idle()
        simulation.save(str(tmp_path / "store.db"))
    report = examine(str(tmp_path / "store.db"))
    assert not report.findings
    assert report.counts.agents == {"idle": 1}


def test_a_failure_tells_the_seed_and_the_end_of_the_trace() -> None:
    def story(simulation: Simulation) -> None:
        simulation.spawn(counter, "/lonely", input=1)
        if simulation.seed == 3:
            raise AssertionError("it went wrong")

    with pytest.raises(AssertionError, match="it went wrong") as failure:
        explore(story, seeds=10)
    (note,) = failure.value.__notes__
    assert "Simulation(seed=3)" in note
    assert "directory < SpawnAgent /lonely" in note


def test_the_trace_tells_who_received_what_when() -> None:
    with Simulation(schedule={}) as simulation:
        assert simulation.spawn(waiter, "/a", input=10).run.result() == "waited"  # type: ignore[union-attr]
        lines = [line.split(None, 2) for line in simulation.trace().splitlines()]
    numbers, times, texts = zip(*lines, strict=True)
    assert [int(number) for number in numbers] == list(range(1, len(lines) + 1))
    assert [float(at) for at in times] == sorted(float(at) for at in times)
    for text in ("directory < SpawnAgent /a from outside", "turn /a (simulated.waiter)"):
        assert text in texts
    assert any(text.startswith("writer handles WriteBatch") for text in texts)


def test_a_simulation_inside_a_running_loop_says_so() -> None:
    async def inside() -> None:
        Simulation(seed=1).start()

    with pytest.raises(RuntimeError, match="another loop is running"):
        asyncio.run(inside())


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(simulations(slots=1))
def test_hypothesis_draws_schedules(simulation: Simulation) -> None:
    with simulation:
        ref = simulation.spawn(counter, "/a")
        assert [ref.followup(n).result() for n in range(2)] == [1, 2]


@settings(max_examples=20, deadline=None)
@given(schedules(), faults("turn_raises", "commit_fails"))
def test_hypothesis_draws_faults(schedule: dict[int, int], drawn: Faults) -> None:
    assert drawn.crash == 0.0
    with Simulation(schedule=schedule, faults=drawn) as simulation:
        simulation.run_until_idle()


@pytest.mark.slow
def test_hypothesis_shrinks_a_failing_schedule_to_a_short_one() -> None:
    """Two turns that begin in one order by nature: a few departures from it are enough for the other."""
    sizes = []

    @settings(
        max_examples=300,
        derandomize=True,  # it is about shrinking, and not about luck
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(schedules(length=200))
    def orders(schedule: dict[int, int]) -> None:
        with Simulation(schedule=schedule) as simulation:

            async def both() -> None:
                runtime = simulation.aio
                await asyncio.gather(*(runtime.spawn(counter, path, input=1) for path in ("/a", "/b")))

            simulation.run(both())
            simulation.run_until_idle()
            events = simulation.events(since=0, follow=False)
            begun = [event.path for event in events if event.type == "run.started"]
        if begun != ["/a", "/b"]:
            sizes.append(len(schedule))
            raise AssertionError("the other order")

    with pytest.raises(AssertionError, match="the other order"):
        orders()
    assert sizes[-1] <= 6


def test_a_store_that_stays_broken_is_said_when_it_is_closed() -> None:
    logging.disable(logging.CRITICAL)
    with Simulation(seed=1) as simulation:
        simulation.spawn(counter, "/a", durability="memory")
        simulation.faults(Faults(commit_fails=1.0))
        simulation.agent("/a").send("lost", durability="memory")
        with pytest.raises(StoreError, match=r"^store the simulated store"):
            simulation.close()
