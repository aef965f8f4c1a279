"""What `@agent` makes of functions and classes: sessions, codecs, versions, time limits."""

import asyncio
import threading
import types
from dataclasses import dataclass, field
from typing import Any

import pytest

from greenroom import RunFailed, SnapshotUnreadable, SyncTurn, Turn, agent

pytestmark = pytest.mark.usefixtures("nothing_of_ours_blocks")


@dataclass
class Notes:
    """A state of a class of its own."""

    lines: list[str] = field(default_factory=list)


# Functions


def test_a_kind_is_named_after_its_function_unless_told(runtime: Any) -> None:
    @agent
    async def c_kinds_plainly_named(turn: Turn) -> str:
        return "async"

    @agent(name="c-kinds told otherwise")
    def sync(turn: SyncTurn) -> str:
        return "sync"

    @agent()
    class CKindsClass:
        def run(self, turn: SyncTurn) -> str:
            return "class"

    open_ = runtime()
    for path, kind, name in (
        ("/a", c_kinds_plainly_named, "c_kinds_plainly_named"),
        ("/b", sync, "c-kinds told otherwise"),
        ("/c", CKindsClass, "CKindsClass"),
    ):
        assert open_.spawn(kind, path).info().kind == name
        assert open_.spawn(name, path + "/by-name", input=1).run.result(timeout=60)
    assert asyncio.iscoroutinefunction(c_kinds_plainly_named), "the function itself stays"


def test_a_plain_function_runs_on_a_thread_and_an_async_one_on_the_loop(runtime: Any) -> None:
    @agent(name="c-kinds-where-async")
    async def on_loop(turn: Turn) -> int:
        return threading.get_ident()

    @agent(name="c-kinds-where-sync")
    def on_thread(turn: SyncTurn) -> int:
        return threading.get_ident()

    open_ = runtime()
    loop = {open_.spawn(on_loop, f"/a/{n}", input=1).run.result(timeout=60) for n in range(3)}
    thread = open_.spawn(on_thread, "/b", input=1).run.result(timeout=60)
    assert len(loop) == 1
    assert thread not in {*loop, threading.get_ident()}


def test_threads_work_at_once_as_many_as_there_are_slots(runtime: Any) -> None:
    together = threading.Barrier(6)

    @agent(name="c-kinds-together")
    def meets(turn: SyncTurn) -> int:
        return together.wait(600)

    open_ = runtime(slots=6)
    refs = [open_.spawn(meets, f"/meet/{n}", input=1) for n in range(6)]
    assert sorted(ref.run.result(timeout=60) for ref in refs) == list(range(6))


# Classes


def session_story(open_: Any, kind: Any, calls: list[str]) -> None:
    ref = open_.spawn(kind, "/session/a", config={"k": 1}, input="one")
    assert ref.run.result(timeout=60) == "one"
    assert ref.followup("two").result(timeout=60) == "two"
    assert calls == ["open /session/a {'k': 1}", "run one", "run two"]
    ref.evict()
    assert ref.followup("three").result(timeout=60) == "three"
    assert calls[3:] == ["close", "open /session/a {'k': 1}", "run three"]
    ref.close()
    assert open_.spawn(kind, "/session/a", input="four").run.result(timeout=60) == "four"
    assert calls[6:] == ["close", "open /session/a None", "run four"]
    open_.close()
    assert calls[9:] == ["close"]


def test_a_class_is_opened_once_run_often_and_closed_once(runtime: Any) -> None:
    calls: list[str] = []

    @agent(name="c-kinds-class")
    class Session:
        async def open(self, info: Any) -> None:
            calls.append(f"open {info.path} {info.config}")

        async def run(self, turn: Turn) -> Any:
            calls.append(f"run {turn.input}")
            return turn.input

        async def close(self) -> None:
            calls.append("close")

    session_story(runtime(), Session, calls)


def test_a_class_of_plain_methods_lives_on_threads(runtime: Any) -> None:
    calls: list[str] = []
    threads: set[int] = set()

    @agent(name="c-kinds-sync-class")
    class Session:
        def open(self, info: Any) -> None:
            threads.add(threading.get_ident())
            calls.append(f"open {info.path} {info.config}")

        def run(self, turn: SyncTurn) -> Any:
            assert isinstance(turn, SyncTurn)
            threads.add(threading.get_ident())
            calls.append(f"run {turn.input}")
            return turn.input

        def close(self) -> None:
            threads.add(threading.get_ident())
            calls.append("close")

    loop: list[int] = []

    @agent(name="c-kinds-loop-thread")
    async def loop_thread(turn: Turn) -> None:
        loop.append(threading.get_ident())

    open_ = runtime()
    open_.spawn(loop_thread, "/loop", input=1).run.result(timeout=60)
    session_story(open_, Session, calls)
    assert loop[0] not in threads


def test_a_class_may_mix_them_and_keep_things_in_itself(runtime: Any) -> None:
    @agent(name="c-kinds-mixed")
    class Mixed:
        def open(self, info: Any) -> None:
            self.opened = info.path

        async def run(self, turn: Turn) -> Any:
            assert isinstance(turn, Turn)
            self.runs = getattr(self, "runs", 0) + 1
            return (self.opened, self.runs)

    open_ = runtime()
    a, b = open_.spawn(Mixed, "/mixed/a"), open_.spawn(Mixed, "/mixed/b")
    assert a.followup(1).result(timeout=60) == ("/mixed/a", 1)
    assert a.followup(1).result(timeout=60) == ("/mixed/a", 2)
    assert b.followup(1).result(timeout=60) == ("/mixed/b", 1)
    a.evict()
    assert a.followup(1).result(timeout=60) == ("/mixed/a", 1)


def failing_story(open_: Any, kind: Any, calls: list[str], happened: Any) -> None:
    ref = open_.spawn(kind, "/fails/a", input=1)
    outcome = ref.run.outcome(timeout=60)
    assert outcome.status == "failed"
    assert "no such model" in outcome.error
    with pytest.raises(RunFailed, match="no such model"):
        ref.run.result(timeout=60)
    assert "no such model" in happened(open_, "agent.start_failed", "/fails/a").data["error"]
    info = ref.info()
    assert (info.status, info.queued_runs) == ("failed", 0)
    assert "no such model" in info.error
    assert calls == ["open", "close"]
    assert ref.followup(2).result(timeout=60) == 2, "the next run tries again"
    assert (ref.info().status, ref.info().error) == ("idle", None)
    assert calls == ["open", "close", "open", "run"]


def test_an_open_that_raises_fails_the_waiting_runs_and_is_tried_again(runtime: Any, happened: Any) -> None:
    calls: list[str] = []

    @agent(name="c-kinds-open-raises")
    class Fails:
        async def open(self, info: Any) -> None:
            calls.append("open")
            if len(calls) == 1:
                raise LookupError("no such model")

        async def run(self, turn: Turn) -> Any:
            calls.append("run")
            return turn.input

        async def close(self) -> None:
            calls.append("close")

    failing_story(runtime(), Fails, calls, happened)


def test_a_plain_open_that_raises_does_too(runtime: Any, happened: Any) -> None:
    calls: list[str] = []

    @agent(name="c-kinds-sync-open-raises")
    class Fails:
        def open(self, info: Any) -> None:
            calls.append("open")
            if len(calls) == 1:
                raise LookupError("no such model")

        def run(self, turn: SyncTurn) -> Any:
            calls.append("run")
            return turn.input

        def close(self) -> None:
            calls.append("close")

    failing_story(runtime(), Fails, calls, happened)


@pytest.mark.parametrize("where", ["init", "state"])
def test_a_constructor_that_raises_fails_the_waiting_runs(runtime: Any, where: str) -> None:
    def state() -> Any:
        if where == "state":
            raise LookupError("no such model")
        return {}

    @agent(name=f"c-kinds-constructor {where}", state=state)
    class Fails:
        def __init__(self) -> None:
            if where == "init":
                raise LookupError("no such model")

        async def run(self, turn: Turn) -> Any:
            return turn.input

    open_ = runtime()
    ref = open_.spawn(Fails, "/fails/a", input=1)
    assert "no such model" in ref.run.outcome(timeout=60).error
    assert ref.info().status == "failed"
    ref.evict()
    assert not ref.info().resident
    ref.close()
    assert open_.list() == []


@pytest.mark.parametrize("how", ["function", "class", "plain class"])
def test_a_start_that_fails_is_not_repeated_by_itself(runtime: Any, how: str, events_of: Any) -> None:
    """Once for each time that somebody needed the agent, however soon it failed."""

    def state() -> Any:
        raise LookupError("no such model")

    async def function(turn: Turn) -> Any:
        return turn.input

    class Opens:
        async def run(self, turn: Turn) -> Any:
            return turn.input

        async def open(self, info: Any) -> None:
            raise LookupError("no such model")

    class OpensPlainly:
        def run(self, turn: SyncTurn) -> Any:
            return turn.input

        def open(self, info: Any) -> None:
            raise LookupError("no such model")

    behaviour: Any = {"function": function, "class": Opens, "plain class": OpensPlainly}[how]
    kind = agent(name=f"c-kinds-fails-once {how}", state=state if how == "function" else dict)(behaviour)

    @agent(name="c-kinds-passes-time")
    async def passes_time(turn: Turn) -> None:
        return None

    open_ = runtime()
    other = open_.spawn(passes_time, "/other")
    ref = open_.spawn(kind, "/fails/a", input=1)
    assert ref.run.outcome(timeout=60).status == "failed"
    for _ in range(2):
        assert ref.followup(2).outcome(timeout=60).status == "failed"
    for _ in range(50):
        other.followup(1).result(timeout=60)
    assert ref.info().status == "failed"
    assert len(events_of(open_, "/fails/a", "agent.start_failed")) == 3
    assert open_.stats().queued == 0


def test_an_open_that_does_not_end_is_given_up(runtime: Any, door: Any) -> None:
    gate = door()
    calls: list[str] = []

    @agent(name="c-kinds-open-hangs", open_timeout=0.1)
    class Hangs:
        async def open(self, info: Any) -> None:
            calls.append("open")
            if len(calls) == 1:
                await gate.enter()

        async def run(self, turn: Turn) -> Any:
            return turn.input

        async def close(self) -> None:
            calls.append("close")

    ref = runtime().spawn(Hangs, "/hangs/a", input=1)
    outcome = ref.run.outcome(timeout=60)
    assert outcome.status == "failed"
    assert "0.1" in outcome.error
    assert calls == ["open", "close"]
    assert ref.info().status == "failed"
    assert ref.followup(2).result(timeout=60) == 2


def test_a_plain_open_that_does_not_end_is_given_up(runtime: Any, door: Any) -> None:
    gate = door()

    @agent(name="c-kinds-sync-open-hangs", open_timeout=0.1)
    class Hangs:
        def open(self, info: Any) -> None:
            gate.enter_on_thread()

        def run(self, turn: SyncTurn) -> Any:
            return turn.input

    open_ = runtime()
    ref = open_.spawn(Hangs, "/hangs/a", input=1)
    assert ref.run.outcome(timeout=60).status == "failed"
    gate.open()
    assert ref.followup(2).result(timeout=60) == 2


@pytest.mark.parametrize("how", ["raises", "hangs"])
def test_a_close_that_is_bad_holds_nobody_up(runtime: Any, door: Any, how: str) -> None:
    gate = door()

    @agent(name=f"c-kinds-bad-close {how}")
    class BadClose:
        async def run(self, turn: Turn) -> Any:
            return turn.input

        async def close(self) -> None:
            if how == "raises":
                raise LookupError("cannot close")
            await gate.enter()

    open_ = runtime()
    ref = open_.spawn(BadClose, "/bad/a", input=1)
    assert ref.run.result(timeout=60) == 1
    ref.close()
    again = open_.spawn(BadClose, "/bad/a", input=2)
    assert again.run.result(timeout=60) == 2
    gate.open()


def test_a_turn_that_takes_too_long_ends_and_the_next_goes(runtime: Any, happened: Any) -> None:
    @agent(name="c-kinds-turn-timeout", turn_timeout=0.1)
    async def long(turn: Turn) -> Any:
        turn.state["touched"] = True
        if turn.input == "for ever":
            await asyncio.Event().wait()
        return turn.input

    open_ = runtime(slots=1)
    ref = open_.spawn(long, "/long/a")
    outcome = ref.followup("for ever").outcome(timeout=60)
    assert outcome.status in ("failed", "interrupted")
    assert "0.1" in outcome.error, "the reason says what limit it was"
    assert ref.state() == {}
    assert ref.followup("short").result(timeout=60) == "short"
    assert ref.info().status == "idle"


def test_a_turn_on_a_thread_that_takes_too_long_is_told(runtime: Any) -> None:
    stop = threading.Event()

    @agent(name="c-kinds-sync-turn-timeout", turn_timeout=0.1)
    def long(turn: SyncTurn) -> Any:
        while turn.input == "for ever" and not turn.interrupted:
            stop.wait(0.01)
        return turn.input

    ref = runtime(slots=1).spawn(long, "/long/a")
    assert ref.followup("for ever").outcome(timeout=60).status in ("failed", "interrupted")
    assert ref.followup("short").result(timeout=60) == "short"


# States: codecs, classes, versions


@pytest.mark.parametrize("codec", ["cloudpickle", "json", "msgpack"])
def test_a_state_survives_in_each_codec(runtime: Any, codec: str) -> None:
    @agent(name=f"c-kinds-codec {codec}", codec=codec)
    async def keeps(turn: Turn) -> Any:
        turn.state[f"key {turn.input}"] = [turn.input, {"deep": None, "text": "ü"}, 1.5, True]
        return turn.state

    first = runtime()
    ref = first.spawn(keeps, "/codec/a")
    for n in range(3):
        ref.followup(n).result(timeout=60)
    state = ref.state()
    assert list(state) == ["key 0", "key 1", "key 2"]
    ref.evict()
    assert ref.state() == state
    first.close()
    second = runtime()
    assert second.agent("/codec/a").state() == state
    assert len(second.agent("/codec/a").followup(3).result(timeout=60)) == 4


def test_a_state_may_hold_closures_and_classes(runtime: Any) -> None:
    factor = 3

    @agent(name="c-kinds-closure", state=lambda: {"notes": Notes(), "times": lambda n: n * factor})
    async def uses(turn: Turn) -> Any:
        turn.state["notes"].lines.append(turn.input)
        return (turn.state["times"](14), len(turn.state["notes"].lines))

    ref = runtime().spawn(uses, "/closure/a")
    assert ref.followup("one").result(timeout=60) == (42, 1)
    ref.evict()
    assert ref.followup("two").result(timeout=60) == (42, 2)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_state_that_the_codec_cannot_hold_fails_that_run_alone(runtime: Any, codec: str) -> None:
    @agent(name=f"c-kinds-codec-refuses {codec}", codec=codec)
    async def strange(turn: Turn) -> Any:
        turn.state["value"] = object() if turn.input == "strange" else turn.input
        return turn.input

    ref = runtime().spawn(strange, "/strange/a")
    assert ref.followup(1).result(timeout=60) == 1
    assert ref.followup("strange").outcome(timeout=60).status == "failed"
    assert ref.state() == {"value": 1}
    assert ref.followup(2).result(timeout=60) == 2
    assert ref.state() == {"value": 2}


def test_a_newer_version_migrates_the_state(runtime: Any) -> None:
    def migrate(state: Any, version: int) -> Any:
        return {"total": state["count"] * 100, "from": version}

    @agent(name="c-kinds-migrates", version=1)
    async def old(turn: Turn) -> None:
        turn.state["count"] = 7

    first = runtime()
    first.spawn(old, "/migrates/a", input=1).run.result(timeout=60)
    first.close()

    @agent(name="c-kinds-migrates", version=3, migrate=migrate)
    async def new(turn: Turn) -> Any:
        turn.state["turns"] = turn.state.get("turns", 0) + 1
        return dict(turn.state)

    second = runtime()
    ref = second.agent("/migrates/a")
    assert ref.followup(1).result(timeout=60) == {"total": 700, "from": 1, "turns": 1}
    assert ref.info().version == 3
    ref.evict()
    assert ref.followup(1).result(timeout=60) == {"total": 700, "from": 1, "turns": 2}


def test_a_newer_version_that_cannot_migrate_fails_that_agent_alone(runtime: Any) -> None:
    @agent(name="c-kinds-migrates-not", version=1)
    async def old(turn: Turn) -> None:
        turn.state["count"] = 7

    first = runtime()
    for name in "ab":
        first.spawn(old, f"/not/{name}", input=1).run.result(timeout=60)
    first.agent("/not/b").close()
    first.close()
    fixed = []

    def migrate(state: Any, version: int) -> Any:
        if not fixed:
            raise LookupError("no way from here")
        return state

    @agent(name="c-kinds-migrates-not", version=2, migrate=migrate)
    async def new(turn: Turn) -> Any:
        return turn.state.get("count")

    second = runtime()
    ref = second.agent("/not/a")
    outcome = ref.followup(1).outcome(timeout=60)
    assert outcome.status == "failed"
    assert "no way from here" in outcome.error
    assert ref.info().status == "failed"
    with pytest.raises(SnapshotUnreadable) as raised:
        ref.state()
    assert raised.value.path == "/not/a"
    assert second.spawn(new, "/not/c", input=1).run.result(timeout=60) is None
    fixed.append(True)
    assert ref.followup(1).result(timeout=60) == 7, "the bytes were kept"


def test_the_kinds_of_a_module_can_be_registered(runtime: Any, tmp_path: Any) -> None:

    module = types.ModuleType("c_kinds_module")
    source = (
        "from greenroom import agent\n"
        "@agent(name='c-kinds-of-module')\n"
        "async def of_module(turn):\n"
        "    return 'of module'\n"
    )
    exec(source, module.__dict__)
    open_ = runtime(kinds=[module, module.of_module, "c-kinds-of-module"])
    assert open_.spawn("c-kinds-of-module", "/module/a", input=1).run.result(timeout=60) == "of module"


def test_a_module_without_a_kind_is_refused_by_name(runtime: Any) -> None:
    with pytest.raises(ValueError, match="module empty, in which no kind stands"):
        runtime(kinds=[types.ModuleType("empty")])
