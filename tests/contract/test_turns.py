"""What a turn can do: `Turn` and `SyncTurn` with every name they have."""

import asyncio
import threading
from typing import Any

import pytest

from greenroom import (
    AgentNotFound,
    OutOfTree,
    PathTaken,
    RunFailed,
    RunInterrupted,
    SyncTurn,
    Turn,
    UnknownKind,
    agent,
)

pytestmark = pytest.mark.usefixtures("nothing_of_ours_blocks")


@agent(name="c-turns-echo")
async def echo(turn: Turn) -> Any:
    turn.state["mail"] = turn.state.get("mail", []) + [message.body for message in turn.inbox]
    if turn.input == "fail":
        raise ValueError("echo failed")
    return turn.input


@agent(name="c-turns-config")
async def tells_config(turn: Turn) -> Any:
    return turn.config


# The turn itself


def test_a_turn_knows_what_it_executes(runtime: Any) -> None:
    @agent(name="c-turns-self")
    async def self_aware(turn: Turn) -> Any:
        return (turn.path, turn.run_id, turn.input, turn.config, turn.attempt, turn.interrupted)

    @agent(name="c-turns-sync-self")
    def sync_self_aware(turn: SyncTurn) -> Any:
        return (turn.path, turn.run_id, turn.input, turn.config, turn.attempt, turn.interrupted)

    open_ = runtime()
    for name, kind in (("a", self_aware), ("b", sync_self_aware)):
        run = open_.spawn(kind, f"/self/{name}", config={"k": [1]}, input=(1, 2)).run
        assert run.result(timeout=60) == (f"/self/{name}", run.run_id, (1, 2), {"k": [1]}, 1, False)


def test_the_state_can_be_changed_in_place_or_set_anew(runtime: Any) -> None:
    @agent(name="c-turns-state", state=list)
    async def grows(turn: Turn) -> None:
        if turn.input == "anew":
            turn.state = ["new"]
        else:
            turn.state.append(turn.input)

    @agent(name="c-turns-sync-state", state=list)
    def sync_grows(turn: SyncTurn) -> None:
        if turn.input == "anew":
            turn.state = ["new"]
        else:
            turn.state.append(turn.input)

    open_ = runtime()
    for name, kind in (("a", grows), ("b", sync_grows)):
        ref = open_.spawn(kind, f"/state/{name}")
        assert ref.state() == []
        for input_, state in ((1, [1]), (2, [1, 2]), ("anew", ["new"]), (3, ["new", 3])):
            ref.followup(input_).result(timeout=60)
            assert ref.state() == state
        ref.evict()
        ref.followup(4).result(timeout=60)
        assert ref.state() == ["new", 3, 4]


def test_changing_the_copies_changes_nothing(runtime: Any) -> None:
    @agent(name="c-turns-copies")
    async def scribbles(turn: Turn) -> Any:
        seen = (dict(turn.config), list(turn.input))
        turn.config["k"] = "changed"
        turn.input.append("changed")
        turn.inbox.clear()
        return seen

    open_ = runtime()
    ref = open_.spawn(scribbles, "/copies/a", config={"k": 1})
    for _ in range(2):
        assert ref.followup([1]).result(timeout=60) == ({"k": 1}, [1])
    assert ref.info().config == {"k": 1}


# Every call of a turn, async and on a thread


def story_checks(open_: Any, kind: Any) -> None:
    """What `story` has to come to, whoever told it."""
    root = open_.spawn(kind, "/story/root", config="root's")
    open_.spawn(echo, "/story/elsewhere")
    run = root.followup("begin")
    told = run.result(timeout=60)
    assert told["child"] == "/story/root/child"
    assert told["absolute"] == "/story/beside"
    assert told["config"] == {"own": True}
    assert told["awaited"] == 11
    assert told["outcome"] == ("completed", 12)
    assert told["waited"] == [("completed", 13), ("failed", None)]
    assert told["raised"] == "RunFailed"
    assert told["refused"] == ["PathTaken", "UnknownKind", "AgentNotFound", "OutOfTree"]
    assert told["nothing to interrupt"] is False
    assert told["listed"] == ["/story/beside", "/story/elsewhere", "/story/root", "/story/root/child"]
    assert told["waited for nothing"] == []
    later = open_.run(told["later"])
    assert later.result(timeout=60) == ("continued", "my input", [("completed", 14), ("failed", None)])
    assert open_.agent("/story/elsewhere").info().inbox == 1
    assert open_.agent("/story/root/child").followup("read").result(timeout=60) == "read"
    assert "to the child" in open_.agent("/story/root/child").state()["mail"]
    progress = [e for e in open_.events("/story/root", follow=False) if e.type == "run.progress"]
    assert [(event.run_id, event.data["name"], event.data["data"]) for event in progress] == [
        (run.run_id, "half", {"percent": 50}),
        (run.run_id, "bare", None),
    ]
    assert root.state() == {"checkpointed": True, "done": True}


def test_every_call_of_a_turn(runtime: Any) -> None:
    @agent(name="c-turns-story")
    async def story(turn: Turn) -> Any:
        if turn.results:
            return ("continued", turn.input, [(o.status, o.result) for o in turn.results])
        told: dict[str, Any] = {}
        child = await turn.spawn(echo, "child", config="child's")
        beside = await turn.spawn("c-turns-config", "/story/beside", config={"own": True})
        told["child"], told["absolute"] = child.path, beside.path
        told["config"] = await (await turn.followup("/story/beside", None))
        told["awaited"] = await (await turn.followup("child", 11))
        outcome = await (await turn.followup(child, 12)).outcome(timeout=60)
        told["outcome"] = (outcome.status, outcome.result)
        runs = [await child.followup(13), await child.followup("fail")]
        told["waited"] = [(o.status, o.result) for o in await turn.wait(*runs, timeout=60)]
        try:
            await runs[1]
        except RunFailed as error:
            told["raised"] = type(error).__name__
        told["refused"] = []
        for call in (
            turn.spawn(echo, "child"),
            turn.spawn("c-turns-nobody", "x"),
            turn.followup("nobody", 1),
            turn.send("/other/tree", 1),
        ):
            try:
                await call
            except (PathTaken, UnknownKind, AgentNotFound, OutOfTree) as error:
                told["refused"].append(type(error).__name__)
        await turn.send("child", "to the child")
        await turn.send("/story/elsewhere", "to elsewhere")
        told["nothing to interrupt"] = await turn.interrupt("child")
        told["listed"] = [info.path for info in await turn.list()]
        told["waited for nothing"] = await turn.wait()
        turn.emit("half", {"percent": 50})
        turn.emit("bare")
        turn.state["checkpointed"] = True
        await turn.checkpoint()
        async with turn.paused():
            pass
        turn.state["done"] = True
        last = [await child.followup(14, key="last"), await child.followup("fail", key="fails")]
        told["later"] = (await turn.after(*last, input="my input")).run_id
        return told

    story_checks(runtime(slots=1), story)


def test_every_call_of_a_turn_on_a_thread(runtime: Any) -> None:
    @agent(name="c-turns-sync-story")
    def story(turn: SyncTurn) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        if turn.results:
            return ("continued", turn.input, [(o.status, o.result) for o in turn.results])
        told: dict[str, Any] = {}
        child = turn.spawn(echo, "child", config="child's")
        beside = turn.spawn("c-turns-config", "/story/beside", config={"own": True})
        told["child"], told["absolute"] = child.path, beside.path
        told["config"] = turn.followup("/story/beside", None).result(timeout=60)
        told["awaited"] = turn.followup("child", 11).result(timeout=60)
        outcome = turn.followup(child, 12).outcome(timeout=60)
        told["outcome"] = (outcome.status, outcome.result)
        runs = [child.followup(13), child.followup("fail")]
        told["waited"] = [(o.status, o.result) for o in turn.wait(*runs, timeout=60)]
        try:
            runs[1].result(timeout=60)
        except RunFailed as error:
            told["raised"] = type(error).__name__
        told["refused"] = []
        for call in (
            lambda: turn.spawn(echo, "child"),
            lambda: turn.spawn("c-turns-nobody", "x"),
            lambda: turn.followup("nobody", 1),
            lambda: turn.send("/other/tree", 1),
        ):
            try:
                call()
            except (PathTaken, UnknownKind, AgentNotFound, OutOfTree) as error:
                told["refused"].append(type(error).__name__)
        turn.send("child", "to the child")
        turn.send("/story/elsewhere", "to elsewhere")
        told["nothing to interrupt"] = turn.interrupt("child")
        told["listed"] = [info.path for info in turn.list()]
        told["waited for nothing"] = turn.wait()
        turn.emit("half", {"percent": 50})
        turn.emit("bare")
        turn.state["checkpointed"] = True
        turn.checkpoint()
        with turn.paused():
            pass
        turn.state["done"] = True
        last = [child.followup(14, key="last"), child.followup("fail", key="fails")]
        told["later"] = turn.after(*last, input="my input").run_id
        return told

    story_checks(runtime(slots=1), story)


def test_a_turn_interrupts_another_agents_runs(runtime: Any, door: Any) -> None:
    gate = door()

    @agent(name="c-turns-stands")
    async def stands(turn: Turn) -> None:
        await gate.enter()

    @agent(name="c-turns-interrupts")
    async def interrupts(turn: Turn) -> bool:
        return await turn.interrupt("/stop/b")

    @agent(name="c-turns-sync-interrupts")
    def sync_interrupts(turn: SyncTurn) -> bool:
        return turn.interrupt("/stop/b")

    open_ = runtime()
    b = open_.spawn(stands, "/stop/b")
    for name, kind in (("a", interrupts), ("c", sync_interrupts)):
        run = b.followup(1)
        gate.arrived()
        assert open_.spawn(kind, f"/stop/{name}", input=1).run.result(timeout=60) is True
        outcome = run.outcome(timeout=60)
        assert outcome.status == "interrupted"
        assert f"/stop/{name}" in outcome.error, "the reason says who did it"


# Interrupts as the code sees them


def test_async_code_gets_a_cancelled_error_and_may_tidy_up(runtime: Any, door: Any) -> None:
    gate, tidied = door(), threading.Event()

    @agent(name="c-turns-tidy")
    async def tidies(turn: Turn) -> None:
        turn.state["dirty"] = True
        try:
            await gate.enter()
        except asyncio.CancelledError:
            assert turn.interrupted
            tidied.set()
            raise

    ref = runtime().spawn(tidies, "/tidy/a", input=1)
    gate.arrived()
    assert ref.interrupt()
    assert ref.run.outcome(timeout=60).status == "interrupted"
    assert tidied.wait(600)
    assert ref.state() == {}
    assert ref.info().status == "idle"


def test_code_on_a_thread_sees_it_and_keeps_its_slot_until_it_returns(
    runtime: Any, door: Any, until: Any
) -> None:
    gate, seen = door(), threading.Event()

    @agent(name="c-turns-thread")
    def works(turn: SyncTurn) -> str:
        gate.enter_on_thread()
        if turn.interrupted:
            seen.set()
        return "returned"

    open_ = runtime(slots=1)
    ref = open_.spawn(works, "/thread/a", input=1)
    gate.arrived()
    other = open_.spawn(echo, "/thread/b", input=2)
    assert ref.interrupt()
    until(lambda: ref.info().status == "interrupting", "interrupting")
    until(lambda: other.explain().waits_for == "slot", "waiting for the slot")
    assert not other.run.done(), "the slot is taken until the code has really returned"
    gate.open()
    assert ref.run.outcome(timeout=60).status == "interrupted"
    assert seen.wait(600)
    assert other.run.result(timeout=60) == 2


def test_waiting_code_on_a_thread_is_woken_by_an_interrupt(runtime: Any, door: Any) -> None:
    gate = door()
    caught: list[str] = []

    @agent(name="c-turns-thread-child")
    async def child(turn: Turn) -> None:
        await gate.enter()

    @agent(name="c-turns-thread-waits")
    def waits(turn: SyncTurn) -> None:
        try:
            turn.wait(turn.followup("/woken/b", 1))
        except RunInterrupted as error:
            caught.append(error.run_id)
            raise

    open_ = runtime(slots=1)
    b = open_.spawn(child, "/woken/b")
    ref = open_.spawn(waits, "/woken/a", input=1)
    gate.arrived()
    assert ref.interrupt()
    assert ref.run.outcome(timeout=60).status == "interrupted"
    assert caught == [ref.run.run_id]
    gate.open()
    assert b.followup(2).result(timeout=60) is None


# paused, wait, gather, timeout: the slot goes and comes


def test_a_paused_turn_gives_its_slot_back_and_takes_one_again(runtime: Any, door: Any, until: Any) -> None:
    inside, holding = door(), door()
    inside_slot: list[bool] = []

    @agent(name="c-turns-pauses")
    async def pauses(turn: Turn) -> str:
        async with turn.paused():
            await inside.enter()
        inside_slot.append(True)
        return "went on"

    @agent(name="c-turns-holds")
    async def holds(turn: Turn) -> str:
        await holding.enter()
        return "held"

    open_ = runtime(slots=1)
    ref = open_.spawn(pauses, "/pause/a", input=1)
    inside.arrived()
    other = open_.spawn(holds, "/pause/b", input=1)
    holding.arrived()
    inside.open()
    until(lambda: ref.explain().waits_for == "slot", "waiting for its slot again")
    assert inside_slot == []
    holding.open()
    assert other.run.result(timeout=60) == "held"
    assert ref.run.result(timeout=60) == "went on"


def test_a_paused_turn_on_a_thread_gives_its_slot_back(runtime: Any, door: Any) -> None:
    inside = door()

    @agent(name="c-turns-sync-pauses")
    def pauses(turn: SyncTurn) -> str:
        with turn.paused():
            inside.enter_on_thread()
        return "went on"

    open_ = runtime(slots=1)
    ref = open_.spawn(pauses, "/pause/a", input=1)
    inside.arrived()
    assert open_.spawn(echo, "/pause/b", input=2).run.result(timeout=60) == 2
    inside.open()
    assert ref.run.result(timeout=60) == "went on"


def test_what_raises_in_a_pause_is_raised_with_a_slot(runtime: Any) -> None:
    @agent(name="c-turns-pause-raises")
    async def raises(turn: Turn) -> str:
        with pytest.raises(LookupError):
            async with turn.paused():
                raise LookupError("inside")
        await turn.checkpoint()
        return "went on"

    open_ = runtime(slots=1)
    for n in range(3):
        assert open_.spawn(raises, f"/raises/{n}", input=1).run.result(timeout=60) == "went on"


def test_a_pause_in_a_pause_gives_one_slot_back(runtime: Any, door: Any) -> None:
    inside = door()

    @agent(name="c-turns-pause-twice")
    async def twice(turn: Turn) -> int:
        async with turn.paused():
            async with turn.paused():
                pass
            await inside.enter()
        return len(await turn.wait(await turn.followup("/twice/b", 1)))

    open_ = runtime(slots=1)
    open_.spawn(echo, "/twice/b")
    ref = open_.spawn(twice, "/twice/a", input=1)
    inside.arrived()
    assert open_.spawn(echo, "/twice/c", input=2).run.result(timeout=60) == 2
    inside.open()
    assert ref.run.result(timeout=60) == 1
    assert open_.spawn(echo, "/twice/d", input=3).run.result(timeout=60) == 3


def test_many_waits_of_one_turn_at_once(runtime: Any) -> None:
    @agent(name="c-turns-gather")
    async def gathers(turn: Turn) -> Any:
        children = [await turn.spawn(echo, f"child{n}") for n in range(10)]
        runs = [await child.followup(n) for n, child in enumerate(children)]
        waits = [turn.wait(run) for run in runs]
        outcomes = await asyncio.gather(*waits, turn.wait(*runs), *(run.result() for run in runs))
        return [
            [outcome.result for (outcome,) in outcomes[:10]],
            [outcome.result for outcome in outcomes[10]],
            outcomes[11:],
        ]

    open_ = runtime(slots=1, residents=4)
    ref = open_.spawn(gathers, "/gather/a", input=1)
    assert ref.run.result(timeout=60) == [list(range(10))] * 3
    assert open_.spawn(echo, "/gather/b", input=2).run.result(timeout=60) == 2


@pytest.mark.parametrize("how", ["asyncio.timeout", "timeout="])
def test_a_wait_that_times_out_regains_the_slot(runtime: Any, door: Any, until: Any, how: str) -> None:
    """With one slot, taken by the child that is waited for: the parent goes on when the child is done."""
    holding = door()

    @agent(name=f"c-turns-slow-child {how}")
    async def slow(turn: Turn) -> str:
        await holding.enter()
        return "slow"

    @agent(name=f"c-turns-impatient {how}")
    async def impatient(turn: Turn) -> str:
        run = await turn.followup("/late/child", 1)
        try:
            if how == "timeout=":
                await turn.wait(run, timeout=0.05)
            async with asyncio.timeout(0.05):
                await turn.wait(run)
        except TimeoutError:
            await turn.checkpoint()
            return "gave up"
        return "waited"

    open_ = runtime(slots=1)
    open_.spawn(slow, "/late/child")
    ref = open_.spawn(impatient, "/late/parent", input=1)
    holding.arrived()
    until(lambda: ref.explain().waits_for == "slot", "the timeout")
    holding.open()
    assert ref.run.result(timeout=60) == "gave up"
    assert open_.spawn(echo, "/late/after", input=3).run.result(timeout=60) == 3


def test_a_wait_that_times_out_goes_on_while_the_other_run_does(runtime: Any, door: Any) -> None:
    """With one slot that is free: the parent goes on at once, and the run it gave up on is unharmed."""
    inside = door()

    @agent(name="c-turns-paused-child")
    async def slow(turn: Turn) -> str:
        async with turn.paused():
            await inside.enter()
        return "slow"

    @agent(name="c-turns-moves-on")
    async def moves_on(turn: Turn) -> Any:
        run = await turn.followup("/free/child", turn.input)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await turn.wait(run)
        with pytest.raises(TimeoutError):
            await turn.wait(run, timeout=0.05)
        with pytest.raises(TimeoutError):
            await run.result(timeout=0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await turn.wait(run)
        return run.run_id

    @agent(name="c-turns-sync-moves-on")
    def sync_moves_on(turn: SyncTurn) -> Any:
        run = turn.followup("/free/child", turn.input)
        with pytest.raises(TimeoutError):
            turn.wait(run, timeout=0.05)
        with pytest.raises(TimeoutError):
            run.result(timeout=0.05)
        return run.run_id

    open_ = runtime(slots=1)
    open_.spawn(slow, "/free/child")
    runs = []
    for name, kind in (("a", moves_on), ("b", sync_moves_on)):
        ref = open_.spawn(kind, f"/free/{name}", input=name)
        runs.append(open_.run(ref.run.result(timeout=60)))
    assert not runs[0].done()
    inside.open()
    assert [run.result(timeout=60) for run in runs] == ["slow", "slow"]


# What a turn leaves behind


def test_a_failed_turn_leaves_no_state_and_no_messages_and_keeps_its_inbox(runtime: Any) -> None:
    @agent(name="c-turns-fails")
    async def fails(turn: Turn) -> Any:
        turn.state["count"] = turn.state.get("count", 0) + 1
        await turn.send("/fails/b", "never")
        await turn.after(input="never")
        if turn.input == "fail":
            raise ValueError("on purpose")
        return [message.body for message in turn.inbox]

    @agent(name="c-turns-fails-not")
    async def fails_not(turn: Turn) -> Any:
        return [message.body for message in turn.inbox]

    open_ = runtime()
    b = open_.spawn(fails_not, "/fails/b")
    a = open_.spawn(fails, "/fails/a")
    a.send("keep me")
    with pytest.raises(RunFailed) as raised:
        a.followup("fail").result(timeout=60)
    assert "on purpose" in str(raised.value)
    assert "ValueError" in str(raised.value)
    assert a.state() == {}
    assert b.info().inbox == 0
    assert a.info().inbox == 1
    assert a.info().queued_runs == 0
    assert a.info().status == "idle"


def test_a_checkpoint_keeps_state_and_messages_of_a_turn_that_fails_later(runtime: Any) -> None:
    @agent(name="c-turns-checkpoint")
    async def fails_late(turn: Turn) -> None:
        turn.state["steps"] = ["before"]
        await turn.send("/check/b", "before")
        await turn.checkpoint()
        turn.state["steps"].append("after")
        await turn.send("/check/b", "after")
        raise ValueError("too late")

    open_ = runtime()
    b = open_.spawn(echo, "/check/b")
    a = open_.spawn(fails_late, "/check/a", input=1)
    assert a.run.outcome(timeout=60).status == "failed"
    assert a.state() == {"steps": ["before"]}
    b.followup("read").result(timeout=60)
    assert b.state()["mail"] == ["before"]
    a.evict()
    assert a.state() == {"steps": ["before"]}


@pytest.mark.parametrize("threaded", [False, True])
def test_a_checkpoint_takes_the_messages_as_read_for_good(runtime: Any, threaded: bool) -> None:
    """What the inbox did to the state and that it was read are one: each message is counted once."""

    @agent(name=f"c-turns-tally-{threaded}")
    async def tally(turn: Turn) -> Any:
        turn.state["total"] = turn.state.get("total", 0) + sum(m.body for m in turn.inbox)
        await turn.checkpoint()
        await turn.checkpoint()
        if turn.input == "fail":
            raise ValueError("a later step failed")
        return turn.state["total"]

    @agent(name=f"c-turns-sync-tally-{threaded}")
    def sync_tally(turn: SyncTurn) -> Any:
        turn.state["total"] = turn.state.get("total", 0) + sum(m.body for m in turn.inbox)
        turn.checkpoint()
        if turn.input == "fail":
            raise ValueError("a later step failed")
        return turn.state["total"]

    ref = runtime().spawn(sync_tally if threaded else tally, "/tally/a")
    ref.send(10)
    for _ in range(3):
        assert ref.followup("fail").outcome(timeout=60).status == "failed"
        assert (ref.state(), ref.info().inbox) == ({"total": 10}, 0)
    ref.evict()
    ref.send(5)
    assert ref.followup("ok").result(timeout=60) == 15


def test_mail_that_no_checkpoint_took_is_there_again_after_a_failure(runtime: Any) -> None:
    """What comes while a turn is under way was not given to it, so its checkpoint does not take it."""
    begun, go_on = threading.Event(), threading.Event()
    seen: list[list[Any]] = []

    @agent(name="c-turns-late-mail")
    def reads(turn: SyncTurn) -> None:
        seen.append([m.body for m in turn.inbox])
        if turn.input == "wait":
            begun.set()
            assert go_on.wait(600)
            turn.checkpoint()
            raise ValueError("after the checkpoint")

    ref = runtime().spawn(reads, "/late/a")
    ref.send("early")
    run = ref.followup("wait")
    assert begun.wait(600)
    ref.send("late")
    go_on.set()
    assert run.outcome(timeout=60).status == "failed"
    ref.followup("look").result(timeout=60)
    assert seen == [["early"], ["late"]]


def test_a_message_has_an_id_that_is_the_same_in_every_turn(runtime: Any) -> None:
    seen: list[list[str]] = []

    @agent(name="c-turns-message-ids")
    async def reads(turn: Turn) -> None:
        seen.append([m.id for m in turn.inbox])
        if turn.input == "fail":
            raise ValueError

    ref = runtime().spawn(reads, "/ids/a")
    ref.send("same")
    ref.send("same")
    for what in ("fail", "fail", "ok"):
        ref.followup(what).outcome(timeout=60)
    first = seen[0]
    assert seen == [first, first, first]
    assert len(set(first)) == 2


def test_after_a_failure_the_next_turn_sees_the_state_from_before(runtime: Any) -> None:
    @agent(name="c-turns-rollback", state=lambda: {"list": []})
    async def spoils(turn: Turn) -> Any:
        turn.state["list"].append(turn.input)
        if turn.input == "spoil":
            turn.state = None
            raise ValueError("spoilt")
        return list(turn.state["list"])

    ref = runtime().spawn(spoils, "/rollback/a")
    assert ref.followup(1).result(timeout=60) == [1]
    assert ref.followup("spoil").outcome(timeout=60).status == "failed"
    assert ref.followup(2).result(timeout=60) == [1, 2]


def test_messages_are_sent_with_the_commit_and_not_before(runtime: Any, door: Any) -> None:
    gate = door()

    @agent(name="c-turns-outbox")
    async def sends(turn: Turn) -> None:
        await turn.send("/outbox/b", "hello")
        await gate.enter()

    open_ = runtime()
    b = open_.spawn(echo, "/outbox/b")
    a = open_.spawn(sends, "/outbox/a", input=1)
    gate.arrived()
    assert b.info().inbox == 0
    gate.open()
    a.run.result(timeout=60)
    assert b.info().inbox == 1


def test_a_message_to_oneself_is_there_at_the_next_turn(runtime: Any) -> None:
    @agent(name="c-turns-to-self")
    async def to_self(turn: Turn) -> list[Any]:
        await turn.send(turn.path, f"from {turn.input}")
        return [message.body for message in turn.inbox]

    ref = runtime().spawn(to_self, "/self/a")
    assert ref.followup(1).result(timeout=60) == []
    assert ref.followup(2).result(timeout=60) == ["from 1"]
    assert ref.followup(3).result(timeout=60) == ["from 2"]


def test_after_with_no_runs_continues_at_once(runtime: Any) -> None:
    @agent(name="c-turns-after-none")
    async def continues(turn: Turn) -> Any:
        if turn.input == "more":
            return ("more", turn.results)
        return (await turn.after(input="more")).run_id

    open_ = runtime()
    later = open_.spawn(continues, "/after/a", input="begin").run.result(timeout=60)
    assert open_.run(later).result(timeout=60) == ("more", [])


def test_results_come_in_the_order_asked_for(runtime: Any, door: Any) -> None:
    gate = door()

    @agent(name="c-turns-after-child")
    async def child(turn: Turn) -> Any:
        if turn.input == 0:
            await gate.enter()
        if turn.input == 3:
            raise ValueError("three")
        return turn.input

    @agent(name="c-turns-after-order")
    async def parent(turn: Turn) -> Any:
        if turn.results:
            return [(outcome.status, outcome.result) for outcome in turn.results]
        runs = []
        for n in range(5):
            runs.append(await (await turn.spawn(child, f"c{n}")).followup(n))
        return (await turn.after(*runs)).run_id

    open_ = runtime()
    later = open_.run(open_.spawn(parent, "/order/a", input=1).run.result(timeout=60))
    gate.arrived()
    gate.open()
    assert later.result(timeout=60) == [
        ("completed", 0),
        ("completed", 1),
        ("completed", 2),
        ("failed", None),
        ("completed", 4),
    ]


def test_an_interrupted_continuation_is_over_when_its_runs_end_later(runtime: Any, door: Any) -> None:
    gate = door()

    @agent(name="c-turns-fan-child")
    async def child(turn: Turn) -> Any:
        await gate.enter()
        return turn.input

    @agent(name="c-turns-fan")
    async def parent(turn: Turn) -> Any:
        run = await (await turn.spawn(child, turn.input)).followup(1)
        return (run.run_id, (await turn.after(run)).run_id)

    open_ = runtime()
    for name, end in (("interrupted", lambda ref: ref.interrupt()), ("closed", None)):
        ref = open_.spawn(parent, f"/fan/{name}", input="/fan/child-of-" + name)
        child_run, later = (open_.run(run_id) for run_id in ref.run.result(timeout=60))
        gate.arrived()
        if end:
            assert end(ref) is True
        else:
            ref.close()
        assert later.outcome(timeout=60).status == "interrupted"
        assert not child_run.done()
    gate.open()
    for name in ("interrupted", "closed"):
        assert open_.agent("/fan/child-of-" + name).followup(2).result(timeout=60) == 2
    assert open_.agent("/fan/interrupted").info().queued_runs == 0


def test_a_turn_cannot_wait_for_runs_of_another_tree(runtime: Any) -> None:
    @agent(name="c-turns-foreign")
    async def foreign(turn: Turn) -> list[str]:
        refused = []
        for call in (turn.wait(turn.input), turn.after(turn.input)):
            try:
                await call
            except OutOfTree as error:
                refused.append(str(error))
        return refused

    open_ = runtime()
    secret = open_.spawn(echo, "/theirs/a", input="secret").run
    secret.result(timeout=60)
    said = open_.spawn(foreign, "/mine/a", input=secret.run_id).run.result(timeout=60)
    assert len(said) == 2


def test_a_turn_lists_its_own_tree_only(runtime: Any) -> None:
    @agent(name="c-turns-lists")
    async def lists(turn: Turn) -> list[str]:
        return [info.path for info in await turn.list()]

    open_ = runtime()
    open_.spawn(echo, "/mine/b")
    open_.spawn(echo, "/minez/b")
    open_.spawn(echo, "/theirs/b")
    open_.spawn(echo, "/mine/c").close()
    assert open_.spawn(lists, "/mine/a", input=1).run.result(timeout=60) == ["/mine/a", "/mine/b"]


def test_a_turn_must_not_call_the_runtime_that_would_wait_for_itself(runtime: Any) -> None:
    open_ = runtime()

    @agent(name="c-turns-calls-runtime")
    async def calls(turn: Turn) -> str:
        try:
            open_.spawn(echo, "/calls/b")
        except Exception as error:
            return type(error).__name__
        return "spawned"

    assert open_.spawn(calls, "/calls/a", input=1).run.result(timeout=60) == "GreenroomError"
    assert open_.stats().agents == 1
