"""Scenarios 16 to 23: reload and restart."""

import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenroom import GreenroomError, OutOfTree, PathTaken, Runtime, SyncTurn, Turn, agent

from .conftest import Gate, Later, Witness, asked_until

MakeRuntime = Callable[..., Runtime]
MakeWitness = Callable[..., Witness]


@agent(name="s-reload-counter")
async def counter(turn: Turn) -> Any:
    turn.state["count"] = turn.state.get("count", 0) + 1
    turn.state.setdefault("read", []).extend(message.body for message in turn.inbox)
    return turn.state["count"]


# 16


def test_16_an_evicted_child_runs_with_its_own_config(runtime: MakeRuntime) -> None:
    """Given a child and a caller, each with a config. When the child is evicted, then run. Then its own."""
    own = {"model": "child's", "tools": ["a", {"deep": (1, 2)}], "limit": None, 7: b"bytes", "text": "ü"}
    callers = {"model": "caller's", "tools": [], "extra": True}

    @agent(name="s16-child")
    async def child(turn: Turn) -> Any:
        seen = turn.config
        copy = dict(seen)
        turn.config["model"] = "spoilt"
        return copy

    @agent(name="s16-caller")
    async def caller(turn: Turn) -> Any:
        if turn.input == "make":
            await turn.spawn(child, "child", config=own)
            return None
        return await (await turn.followup("child", 1))

    one = runtime(residents=2)
    ref = one.spawn(caller, "/s16/caller", config=callers)
    ref.followup("make").result(timeout=60)
    of_child = one.agent("/s16/caller/child")
    for _ in range(3):
        assert ref.followup("use").result(timeout=60) == own
        assert of_child.evict() is True
        assert of_child.followup(1).result(timeout=60) == own
        assert of_child.evict() is True
        assert of_child.info().config == own
    assert ref.info().config == callers
    one.close()
    again = runtime()
    assert again.agent("/s16/caller/child").followup(1).result(timeout=60) == own


# 17


def test_17_status_and_last_outcome_outlive_eviction_and_restart(runtime: MakeRuntime) -> None:
    """Given an agent completed, evicted, the process restarted. When read. Then they are what they were."""

    @agent(name="s17-ends")
    async def ends(turn: Turn) -> Any:
        if turn.input == "fail":
            raise ValueError("on purpose")
        return {"answer": turn.input}

    @agent(name="s17-never-opens")
    class NeverOpens:
        async def open(self, info: Any) -> None:
            raise LookupError("no such model")

        async def run(self, turn: Turn) -> None:
            return None

    first = runtime()
    inputs = {"/s17/completed": 42, "/s17/failed": "fail"}
    refs = [first.spawn(ends, path, input=given) for path, given in inputs.items()]
    refs += [first.spawn(ends, "/s17/closed", input=1), first.spawn(NeverOpens, "/s17/broken", input=1)]
    for ref in refs:
        ref.run.outcome(timeout=60)
    refs[2].close()
    before = {ref.path: ref.info() for ref in refs}
    for ref in refs[:2]:
        assert ref.evict()
        info = ref.info()
        assert (info.status, info.last_outcome) == (before[ref.path].status, before[ref.path].last_outcome)
    first.close()
    second = runtime()
    for ref in refs:
        old, new = before[ref.path], second.agent(ref.path).info()
        assert new.last_outcome is not None
        assert new.last_outcome == old.last_outcome
        assert (new.status, new.error, new.config) == (old.status, old.error, old.config)
        assert (new.created_at, new.kind, new.inbox) == (old.created_at, old.kind, old.inbox)
        assert second.run(ref.run.run_id).outcome(timeout=60) == ref.run.outcome()
    assert second.stats().resident == 0, "nothing was loaded to tell it"
    assert [i.path for i in second.list()] == ["/s17/broken", "/s17/completed", "/s17/failed"]


# 18


def test_18_after_a_restart_it_is_the_same_agent_and_nothing_else_is_loaded(
    runtime: MakeRuntime, witness: MakeWitness
) -> None:
    """Given a restart. When a run is sent to `/tree/a`. Then the same agent; nothing but it was loaded."""
    first = runtime(residents=4)
    refs = [first.spawn(counter, f"/tree/{name}", config=name, input=1) for name in "abcdefghij"]
    refs.append(first.spawn(counter, "/tree/a/child", input=1))
    for ref in refs:
        ref.run.result(timeout=60)
    refs[0].send("before the restart")
    refs[0].followup(2).result(timeout=60)
    before = refs[0].info()
    first.close()
    second = runtime()
    watching = witness(second, since=None)
    assert second.stats().resident == 0
    assert second.stats().agents == 11
    assert second.agent("/tree/a").followup(3).result(timeout=60) == 3
    after = second.agent("/tree/a").info()
    assert (after.kind, after.config, after.created_at) == (before.kind, "a", before.created_at)
    assert after.incarnation > before.incarnation
    assert second.agent("/tree/a").state() == {"count": 3, "read": ["before the restart"]}
    stats = second.stats()
    assert (stats.resident, stats.reloads) == (1, 1)
    assert [i.path for i in second.list() if i.resident] == ["/tree/a"]
    watching.await_event("run.completed", "/tree/a")
    assert {event.path for event in watching.seen()} == {"/tree/a"}


# 19


def test_19_after_a_crash_with_children_running_each_run_is_executed_again_or_reported(
    runtime: MakeRuntime, tmp_path: Path
) -> None:
    """Given a crash with children running. When opened again. Then none is shown running, each run ends."""
    code = """
        import asyncio, sys
        from greenroom import Runtime, agent

        @agent(name="s19-child", attempts=3)
        async def child(turn):
            print("begun", flush=True)
            await asyncio.Event().wait()

        @agent(name="s19-once", attempts=1)
        async def once(turn):
            print("begun", flush=True)
            await asyncio.Event().wait()

        @agent(name="s19-parent")
        async def parent(turn):
            kinds = [child, child, once]
            runs = [await (await turn.spawn(kind, f"c{n}")).followup(n) for n, kind in enumerate(kinds)]
            return [o.status for o in await turn.wait(*runs)]

        runtime = Runtime(sys.argv[1], slots=4).start()
        runtime.spawn(parent, "/s19/p", input=1, run_id="s19-parent-run")
        runtime.agent("/s19/p").followup(2, run_id="s19-queued")
        sys.stdin.readline()
        runtime.agent("/s19/p").send("answered when all before it is on disk")
        print("recorded", flush=True)
        sys.stdin.readline()
    """
    gate = Gate()
    attempts: list[int] = []

    @agent(name="s19-child", attempts=3)
    async def child(turn: Turn) -> str:
        attempts.append(turn.attempt)
        await gate.reach()
        return "executed again"

    @agent(name="s19-once", attempts=1)
    async def once(turn: Turn) -> str:
        raise AssertionError("it has had its only attempt")

    @agent(name="s19-parent")
    async def parent(turn: Turn) -> Any:
        if turn.input == 2:
            return "queued"
        kinds = [child, child, once]
        runs = [await (await turn.spawn(kind, f"c{n}")).followup(n) for n, kind in enumerate(kinds)]
        return [(o.status, o.result) for o in await turn.wait(*runs)]

    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "agents.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert [process.stdout.readline() for _ in range(3)] == ["begun\n"] * 3
        process.stdin.write("record\n")
        process.stdin.flush()
        assert process.stdout.readline() == "recorded\n"
    finally:
        process.kill()
        process.wait(600)
        process.stdout.close()
        process.stdin.close()

    one = runtime(slots=2)
    lost = one.agent("/s19/p/c2")
    asked_until(lost.info, lambda info: info.last_outcome is not None)
    outcome = lost.info().last_outcome
    assert (outcome.status, outcome.attempt) == ("failed", 1)
    assert lost.info().status == "idle"
    gate.await_arrivals(2)
    gate.open()
    assert one.run("s19-parent-run").result(timeout=60) == [
        ("completed", "executed again"),
        ("completed", "executed again"),
        ("failed", None),
    ]
    assert one.run("s19-queued").result(timeout=60) == "queued"
    assert attempts == [2, 2]
    stats = one.stats()
    assert (stats.agents, stats.running, stats.queued) == (4, 0, 0)
    assert {info.status for info in one.list()} == {"idle"}
    accepted = [event.run_id for event in one.events(follow=False) if event.type == "run.accepted"]
    assert len(accepted) == len(set(accepted)) == 5


# 20


@pytest.mark.parametrize("deliveries", [2, 12])
def test_20_deliveries_at_once_to_an_agent_on_disk_open_one_session(
    runtime: MakeRuntime, deliveries: int
) -> None:
    """Given A on disk. When deliveries come at once. Then one session opens and each is delivered once."""
    opened: list[int] = []

    @agent(name=f"s20-opens-{deliveries}")
    class Opens:
        async def open(self, info: Any) -> None:
            opened.append(info.incarnation)

        async def run(self, turn: Turn) -> Any:
            turn.state["inputs"] = [*turn.state.get("inputs", []), turn.input]
            turn.state["read"] = [*turn.state.get("read", []), *(message.body for message in turn.inbox)]
            return turn.input

    one = runtime(slots=4)
    ref = one.spawn(Opens, "/s20/a", input="first")
    ref.run.result(timeout=60)
    for round_ in range(1, 6):
        assert ref.evict()
        start = threading.Barrier(deliveries)

        def deliver(number: int, round_: int = round_, start: Any = start) -> Any:
            start.wait(600)
            if number % 3 == 2:
                ref.send((round_, number))
                return None
            return ref.followup((round_, number)).result(timeout=60)

        laters = [Later(deliver, number) for number in range(deliveries)]
        runs = [number for number in range(deliveries) if number % 3 != 2]
        assert [later.get() for later in laters if later.get()] == [(round_, number) for number in runs]
        assert len(opened) == 1 + round_, "one session"
    ref.followup("last").result(timeout=60)
    state = ref.state()
    delivered = [(round_, number) for round_ in range(1, 6) for number in range(deliveries)]
    assert sorted(i for i in state["inputs"] if isinstance(i, tuple)) == [
        d for d in delivered if d[1] % 3 != 2
    ]
    assert sorted(state["read"]) == [d for d in delivered if d[1] % 3 == 2]
    assert opened == sorted(set(opened))


# 21


@pytest.mark.parametrize("where", ["in memory", "on disk", "nowhere"])
@pytest.mark.parametrize("how", ["async", "thread"])
def test_21_code_reaches_its_own_tree_only(runtime: MakeRuntime, where: str, how: str) -> None:
    """Given two trees. When code in one uses a path of the other. Then `OutOfTree` and nothing happens."""

    @agent(name=f"s21-reaches-{where}")
    async def reaches(turn: Turn) -> list[str]:
        refused = []
        for path in ("/theirs/a", "/mineb/a", "/theirs"):
            for call in (
                turn.spawn(counter, path),
                turn.followup(path, 1),
                turn.send(path, 1),
                turn.interrupt(path),
            ):
                try:
                    await call
                except OutOfTree as error:
                    refused.append(error.path)
        return refused

    @agent(name=f"s21-reaches-sync-{where}")
    def reaches_sync(turn: SyncTurn) -> list[str]:
        refused = []
        for path in ("/theirs/a", "/mineb/a", "/theirs"):
            for call in (
                lambda path=path: turn.spawn(counter, path),
                lambda path=path: turn.followup(path, 1),
                lambda path=path: turn.send(path, 1),
                lambda path=path: turn.interrupt(path),
            ):
                try:
                    call()
                except OutOfTree as error:
                    refused.append(error.path)
        return refused

    one = runtime()
    if where != "nowhere":
        theirs = one.spawn(counter, "/theirs/a", input=1)
        theirs.run.result(timeout=60)
        if where == "on disk":
            assert theirs.evict()
    before = [info for info in one.list() if not info.path.startswith("/mine/")]
    ref = one.spawn(reaches if how == "async" else reaches_sync, "/mine/a", input=1)
    paths = [path for path in ("/theirs/a", "/mineb/a", "/theirs") for _ in range(4)]
    assert ref.run.result(timeout=60) == paths
    after = [info for info in one.list() if not info.path.startswith("/mine/")]
    assert after == before
    assert one.stats().reloads == 0
    assert one.stats().resident == (2 if where == "in memory" else 1)


def test_21_code_learns_nothing_of_another_trees_runs(runtime: MakeRuntime) -> None:
    """Given a run id of the other tree. When code waits for it, now or after its turn. Then `OutOfTree`."""
    gate = Gate()

    @agent(name="s21-theirs")
    async def theirs(turn: Turn) -> str:
        if turn.input == "stand":
            await gate.reach()
        return "secret"

    @agent(name="s21-listens")
    async def listens(turn: Turn) -> list[str]:
        heard = []
        for call in (turn.wait(turn.input, timeout=0), turn.after(turn.input)):
            try:
                heard.append(repr(await call))
            except OutOfTree:
                heard.append("refused")
            except TimeoutError:
                heard.append("told that it has not ended")
        return heard

    one = runtime()
    ended = one.spawn(theirs, "/theirs/a", input="end").run
    ended.result(timeout=60)
    going_on = one.spawn(theirs, "/theirs/b", input="stand").run
    gate.await_arrivals()
    ref = one.spawn(listens, "/mine/a")
    for run in (ended, going_on):
        assert ref.followup(run.run_id).result(timeout=60) == ["refused", "refused"]


# 22


def test_22_a_path_taken_on_disk_is_taken(runtime: MakeRuntime) -> None:
    """Given `/tree/a` open but on disk. When `a` is spawned under `/tree`. Then `PathTaken`."""

    @agent(name="s22-parent")
    async def parent(turn: Turn) -> str:
        try:
            await turn.spawn(counter, "a", config="another")
        except PathTaken as error:
            return error.path
        return "spawned"

    one = runtime(residents=1)
    ref = one.spawn(counter, "/tree/a", config="first", input=1)
    ref.run.result(timeout=60)
    of_parent = one.spawn(parent, "/tree", input=1)
    assert of_parent.run.result(timeout=60) == "/tree/a"
    assert ref.info().resident is False
    events = len(list(one.events("/tree/a", follow=False)))
    with pytest.raises(PathTaken) as taken:
        one.spawn(counter, "/tree/a", config="another", input=2)
    assert taken.value.path == "/tree/a"
    assert len(list(one.events("/tree/a", follow=False))) == events
    assert (ref.info().config, ref.info().resident) == ("first", False)
    one.close()
    again = runtime()
    with pytest.raises(PathTaken):
        again.spawn(counter, "/tree/a")
    assert again.agent("/tree/a").followup(2).result(timeout=60) == 2


@pytest.mark.parametrize("racers", [2, 8])
def test_22_of_two_spawns_that_race_one_wins_and_the_other_leaves_nothing(
    runtime: MakeRuntime, racers: int
) -> None:
    """When two spawns of `b` race. Then exactly one `b`, and the loser leaves nothing."""
    one = runtime(residents=4)
    for round_ in range(20):
        start, path = threading.Barrier(racers), f"/tree/b{round_}"

        def race(number: int, start: Any = start, path: str = path) -> Any:
            start.wait(600)
            try:
                return one.spawn(counter, path, config=number, input=number, run_id=f"{path} {number}")
            except PathTaken:
                return None

        laters = [Later(race, number) for number in range(racers)]
        refs = [later.get() for later in laters]
        winners = [number for number, ref in enumerate(refs) if ref is not None]
        assert len(winners) == 1
        (winner,) = winners
        assert refs[winner].run.result(timeout=60) == 1
        assert refs[winner].info().config == winner
        for number in range(racers):
            if number != winner:
                with pytest.raises(GreenroomError):
                    one.run(f"{path} {number}")
        types = [event.type for event in one.events(path, follow=False)]
        assert (
            types.count("agent.spawned") == types.count("run.accepted") == types.count("run.completed") == 1
        )
    assert len(one.list()) == one.stats().agents == 20


def test_22_spawns_in_turns_race_with_spawns_outside(runtime: MakeRuntime) -> None:
    @agent(name="s22-racing-parent")
    async def parent(turn: Turn) -> bool:
        try:
            await turn.spawn(counter, turn.input)
        except PathTaken:
            return False
        return True

    one = runtime(slots=4)
    ref = one.spawn(parent, "/tree")
    for round_ in range(20):
        run = ref.followup(f"b{round_}")
        try:
            one.spawn(counter, f"/tree/b{round_}")
            outside = True
        except PathTaken:
            outside = False
        assert run.result(timeout=60) is not outside
    assert len(one.list()) == 21


# 23


@pytest.mark.parametrize("how", ["missing", "altered", "cut short"])
def test_23_a_snapshot_that_is_missing_or_unreadable_fails_the_run_by_name(
    runtime: MakeRuntime, tmp_path: Path, how: str
) -> None:
    """Given a snapshot missing or unreadable. When the agent gets a run. Then it fails, the bytes stay."""
    first = runtime()
    refs = [first.spawn(counter, f"/s23/{name}", input=1) for name in ("bad", "good")]
    for ref in refs:
        ref.run.result(timeout=60)
    first.close()
    of_bad = "agent_id = (select agent_id from agents where path = '/s23/bad')"
    with sqlite3.connect(tmp_path / "agents.db") as database:
        blobs = [
            row[1] for row in database.execute("pragma table_info(snapshots)") if row[2].upper() == "BLOB"
        ]
        assert blobs
        if how == "missing":
            assert database.execute(f"delete from snapshots where {of_bad}").rowcount == 1
        for blob in blobs if how != "missing" else ():
            (old,) = database.execute(f"select {blob} from snapshots where {of_bad}").fetchone()
            new = old[: len(old) // 2] if how == "cut short" else old[:-1] + bytes([old[-1] ^ 1])
            database.execute(f"update snapshots set {blob} = ? where {of_bad}", (new,))
        stored = database.execute(f"select * from snapshots where {of_bad}").fetchall()
    database.close()
    second = runtime()
    bad = second.agent("/s23/bad")
    for _ in range(2):
        outcome = bad.followup("again").outcome(timeout=60)
        assert outcome.status == "failed", "never a silent fresh start"
        assert "/s23/bad" in outcome.error
        assert outcome.started_at is None
        assert bad.info().status == "failed"
        assert bad.info().error
    with pytest.raises(GreenroomError, match="/s23/bad"):
        bad.state()
    assert second.agent("/s23/good").followup("well").result(timeout=60) == 2
    second.close()
    with sqlite3.connect(tmp_path / "agents.db") as database:
        assert database.execute(f"select * from snapshots where {of_bad}").fetchall() == stored
    database.close()
