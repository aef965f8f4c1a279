"""Wrong input raises at the call, or fails its run alone, and changes nothing."""

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    AgentClosed,
    AgentNotFound,
    BacklogFull,
    CannotStore,
    GreenroomError,
    InvalidPath,
    PathTaken,
    RunNotFound,
    Runtime,
    RuntimeClosing,
    Turn,
    UnknownKind,
    agent,
)

OWN = (GreenroomError, TypeError, ValueError)
LOCK = threading.Lock()

BAD_PATHS = [
    "",
    "/",
    "a",
    "a/b",
    "//",
    "/a/",
    "/a//b",
    "/A",
    "/-a",
    "/_a",
    "/a b",
    "/a/../b",
    "/a/.",
    "/é",
    "/a\n",
    "/a\x00",
    "/" + "a" * 65,
    "/" + "/".join("a" * 17),
    None,
    3,
    b"/a",
    Path("/a"),
    ["/a"],
]
GOOD_PATHS = ["/a", "/0", "/a-b_c", "/" + "a" * 64, "/" + "/".join("a" * 16), "/a/0-/1_"]


@agent(name="c-wrong")
async def well(turn: Turn) -> Any:
    return turn.input


@pytest.mark.parametrize("path", BAD_PATHS, ids=repr)
def test_a_bad_path_is_refused_everywhere(runtime: Any, unchanged: Any, path: Any) -> None:
    open_ = runtime()
    open_.spawn(well, "/known/a")
    with unchanged(open_):
        for call in (
            lambda: open_.spawn(well, path),
            lambda: open_.spawn(well, path, input=1),
            lambda: open_.agent(path),
            *([] if path == "/" else [lambda: open_.list(path), lambda: open_.events(path)]),
            *([] if path is None else [lambda: open_.list(after=path)]),
        ):
            with pytest.raises(InvalidPath) as raised:
                call()
            assert raised.value.path == (path if isinstance(path, str) else repr(path))
            assert "/tree/name" in str(raised.value), "the text says what a path looks like"


@pytest.mark.parametrize("path", GOOD_PATHS)
def test_a_good_path_is_taken(runtime: Any, path: str) -> None:
    ref = runtime().spawn(well, path, input=1)
    assert ref.path == path
    assert ref.run.result(timeout=60) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"slots": 0},
        {"slots": -1},
        {"slots": "8"},
        {"slots": 1.5},
        {"slots": True},
        {"slots": None},
        {"residents": 0},
        {"residents": 2.0},
        {"backlog": 0},
        {"backlog": "many"},
        {"durability": "disk"},
        {"durability": None},
        {"durability": ["process"]},
        {"drain": -1},
        {"drain": "10"},
        {"drain": float("nan")},
        {"drain": float("inf")},
        {"kinds": 3},
        {"kinds": "c-wrong"},
        {"kinds": [3]},
        {"kinds": ["c-wrong-never-registered"]},
        {"store": None},
        {"store": 3},
        {"store": ""},
        {"store": b"agents.db"},
        {"store": "a\x00b"},
    ],
    ids=repr,
)
def test_a_runtime_refuses_wrong_settings_and_makes_no_file(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    settings = {"store": tmp_path / "agents.db", **options}
    with pytest.raises(OWN):
        Runtime(**settings).start()
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_one_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("This is a letter, not a database. " * 100)
    (tmp_path / "empty-target").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "empty-target")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(path.name for path in tmp_path.iterdir())
    text = (tmp_path / "text").read_bytes()
    for name in ("folder", "text", "link", "dangling", "missing/agents.db"):
        opened = Runtime(tmp_path / name)
        with pytest.raises(GreenroomError) as raised:
            opened.start()
        assert name in str(raised.value), "the error says which store"
        with pytest.raises(RuntimeClosing):
            opened.spawn(well, "/a")
        opened.close()
    assert (tmp_path / "text").read_bytes() == text
    assert (tmp_path / "empty-target").read_bytes() == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def call_table(open_: Runtime) -> dict[str, Callable[[], Any]]:
    ref = open_.agent("/known/a")
    run = open_.run("known-run")
    fresh = "/known/new"
    return {
        "spawn of a kind nobody registered": lambda: open_.spawn("c-wrong-nobody", fresh),
        "spawn of a plain function": lambda: open_.spawn(lambda turn: None, fresh),
        "spawn of None": lambda: open_.spawn(None, fresh),
        "spawn of a number": lambda: open_.spawn(3, fresh),
        "spawn with a config that does not pickle": lambda: open_.spawn(well, fresh, config=LOCK),
        "spawn with an input that does not pickle": lambda: open_.spawn(well, fresh, input=LOCK),
        "spawn with a generator": lambda: open_.spawn(well, fresh, input=(n for n in "ab")),
        "spawn with a run id that is no str": lambda: open_.spawn(well, fresh, input=1, run_id=3),
        "spawn with an empty run id": lambda: open_.spawn(well, fresh, input=1, run_id=""),
        "spawn with a huge run id": lambda: open_.spawn(well, fresh, input=1, run_id="x" * 100_000),
        "spawn with a run id and no input": lambda: open_.spawn(well, fresh, run_id="x"),
        "spawn with another agent's run id": lambda: open_.spawn(well, fresh, input=1, run_id="known-run"),
        "spawn with a wrong durability": lambda: open_.spawn(well, fresh, durability="disk"),
        "spawn on a taken path": lambda: open_.spawn(well, "/known/a", input=1),
        "agent that is not there": lambda: open_.agent("/known/nobody"),
        "run that is not there": lambda: open_.run("nobodys-run"),
        "run by a number": lambda: open_.run(3),
        "run by None": lambda: open_.run(None),
        "run by an empty id": lambda: open_.run(""),
        "wait for what is no run": lambda: open_.wait(["known-run"]),
        "wait for nothing that can be iterated": lambda: open_.wait(3),
        "wait until something else": lambda: open_.wait([run], until="some"),
        "wait for a time in words": lambda: open_.wait([run], timeout="soon"),
        "wait for a bool": lambda: open_.wait([run], timeout=True),
        "list of an unknown status": lambda: open_.list(status="tired"),
        "list of a number as status": lambda: open_.list(status=3),
        "list of a list as status": lambda: open_.list(status=["idle"]),
        "list of nothing": lambda: open_.list(limit=0),
        "list of less than nothing": lambda: open_.list(limit=-1),
        "list of a limit in words": lambda: open_.list(limit="all"),
        "list of a fraction": lambda: open_.list(limit=1.5),
        "events since before the first": lambda: open_.events(since=-1),
        "events since a word": lambda: open_.events(since="start"),
        "events since a bool": lambda: open_.events(since=True),
        "events that follow by word": lambda: open_.events(follow="yes"),
        "followup that does not pickle": lambda: ref.followup(LOCK),
        "followup with a run id that is no str": lambda: ref.followup(1, run_id=b"x"),
        "followup with an empty run id": lambda: ref.followup(1, run_id=""),
        "followup with another agent's run id": lambda: ref.followup(1, run_id="other-run"),
        "followup with a wrong durability": lambda: ref.followup(1, durability="eternal"),
        "send of what does not pickle": lambda: ref.send(LOCK),
        "send with a wrong durability": lambda: ref.send(1, durability=True),
        "interrupt of a number": lambda: ref.interrupt(3),
        "interrupt of an empty id": lambda: ref.interrupt(""),
        "interrupt with a cascade in words": lambda: ref.interrupt(cascade="no"),
        "close with a negative drain": lambda: open_.close(-1),
        "close with a drain in words": lambda: open_.close("now"),
        "start a second time": open_.start,
    }


class Nothing:
    """Answers for the table's keys alone."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@pytest.mark.parametrize("what", call_table(Nothing()))  # type: ignore[arg-type]
def test_wrong_input_raises_at_the_call_and_changes_nothing(
    runtime: Any, unchanged: Any, what: str
) -> None:
    open_ = runtime()
    open_.spawn(well, "/known/a", input=1, run_id="known-run").run.result(timeout=60)
    open_.spawn(well, "/known/b", input=1, run_id="other-run").run.result(timeout=60)
    call = call_table(open_)[what]
    with unchanged(open_):
        with pytest.raises(OWN) as raised:
            call()
        assert str(raised.value)
    assert open_.agent("/known/a").followup("still there").result(timeout=60) == "still there"


def test_the_errors_carry_the_ids_concerned(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(well, "/ids/a", input=1, run_id="ids-run")
    with pytest.raises(PathTaken) as taken:
        open_.spawn(well, "/ids/a")
    assert taken.value.path == "/ids/a"
    with pytest.raises(AgentNotFound) as missing:
        open_.agent("/ids/nobody")
    assert missing.value.path == "/ids/nobody"
    with pytest.raises(RunNotFound) as no_run:
        open_.run("ids-nobody")
    assert no_run.value.run_id == "ids-nobody"
    with pytest.raises(UnknownKind) as unknown:
        open_.spawn("ids-kind", "/ids/b")
    assert unknown.value.kind == "ids-kind"
    ref.close()
    with pytest.raises(AgentClosed) as closed:
        ref.followup(1)
    assert closed.value.path == "/ids/a"
    for error in (taken, missing, no_run, unknown, closed):
        assert all(str(arg) in str(error.value) for arg in error.value.args if arg)


def test_handles_of_what_is_gone_say_so(runtime: Any, unchanged: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(well, "/gone/a", input=1)
    ref.run.result(timeout=60)
    ref.delete()
    calls = [
        lambda: ref.followup(1),
        lambda: ref.send(1),
        lambda: ref.info(),
        lambda: ref.state(),
        lambda: ref.interrupt(),
        lambda: ref.evict(),
        lambda: ref.pin(),
        lambda: ref.unpin(),
        lambda: ref.explain(),
    ]
    with unchanged(open_):
        for call in calls:
            with pytest.raises((AgentNotFound, AgentClosed)):
                call()


def test_a_runtime_that_is_not_open_refuses_everything(tmp_path: Path) -> None:
    never = Runtime(tmp_path / "never.db")
    with pytest.raises(RuntimeClosing):
        never.spawn(well, "/a")
    never.close()
    never.close()
    closed = Runtime(tmp_path / "closed.db")
    with closed:
        ref = closed.spawn(well, "/a", input=1)
        ref.run.result(timeout=60)
    for call in (
        lambda: closed.spawn(well, "/b"),
        lambda: closed.agent("/a"),
        lambda: closed.run(ref.run.run_id),
        lambda: closed.list(),
        lambda: closed.stats(),
        lambda: list(closed.events(follow=False)),
        lambda: ref.followup(1),
        lambda: ref.info(),
        closed.start,
    ):
        with pytest.raises(RuntimeClosing):
            call()
    assert not (tmp_path / "never.db").exists()
    closed.close()
    assert ref.run.result(timeout=60) == 1, "what was seen stays readable"


def test_a_handle_is_not_stored_and_its_error_says_what_to_keep(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(well, "/a", input=1)
    for handle in (open_, ref, ref.run):
        with pytest.raises(CannotStore, match=r"is a handle, .* keep its path or run_id"):
            ref.followup({"for you": handle})

    @agent(name="c-wrong-keeps-handles")
    async def keeps(turn: Turn) -> None:
        child = await turn.spawn(well, f"child-{turn.input}")
        turn.state["kept"] = [turn, child, await child.followup(1)][turn.input]

    keeper = open_.spawn(keeps, "/b")
    for number in range(3):
        error = keeper.followup(number).outcome(timeout=60).error
        assert "the state of /b cannot be stored" in error
        assert "is a handle, which works in this process alone" in error


def test_a_turn_that_would_wait_for_its_own_thread_fails_at_once(runtime: Any) -> None:
    open_ = runtime()
    ref = open_.spawn(well, "/a", input=1)
    calls: list[Callable[[], Any]] = [
        lambda: open_.spawn(well, "/b"),
        lambda: ref.followup(2),
        lambda: ref.run.outcome(),
        lambda: next(open_.events(follow=False)),
        open_.close,
    ]

    @agent(name="c-wrong-waits-for-itself")
    async def calls_back(turn: Turn) -> None:
        calls[turn.input]()

    with contextlib.closing(open_):
        caller = open_.spawn(calls_back, "/c")
        for number in range(len(calls)):
            error = caller.followup(number).outcome(timeout=60).error
            assert "would wait for itself" in error
        assert [info.path for info in open_.list()] == ["/a", "/c"]


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": 3},
        {"name": "half a character: \ud83d"},
        {"name": "two\nlines"},
        {"version": 0},
        {"version": "1"},
        {"version": True},
        {"codec": "pickle"},
        {"codec": None},
        {"codec": ["json"]},
        {"state": {}},
        {"migrate": "up"},
        {"open_timeout": 0},
        {"open_timeout": -1},
        {"open_timeout": "long"},
        {"open_timeout": None},
        {"open_timeout": float("nan")},
        {"turn_timeout": 0},
        {"turn_timeout": "long"},
        {"turn_timeout": float("nan")},
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
    ],
    ids=repr,
)
def test_the_decorator_refuses_wrong_options_and_registers_nothing(
    runtime: Any, options: dict[str, Any]
) -> None:
    async def kind(turn: Turn) -> None:
        return None

    name = f"c-wrong-options {options}"
    with pytest.raises((TypeError, ValueError)):
        agent(**{"name": name, **options})(kind)
    with pytest.raises(UnknownKind):
        runtime().spawn(name, "/a")


@agent(name="wrong-lost")
async def lost(turn: Turn) -> None:
    await turn.followup("nobody", 1)


def test_a_function_that_is_no_kind_is_told_what_it_lacks(runtime: Any) -> None:
    def plain(turn: Turn) -> None: ...

    with pytest.raises(UnknownKind, match="Decorate it with @agent"):
        runtime().spawn(plain, "/a")


def test_a_runtime_that_is_started_twice_says_so_in_whole_sentences(runtime: Any) -> None:
    with pytest.raises(RuntimeClosing, match=r"starts once: nothing was recorded\. Open a runtime"):
        runtime().start()


def test_an_error_that_ends_with_a_full_stop_is_told_without_two(runtime: Any) -> None:
    ref = runtime().spawn(lost, "/lost/a", input=1)
    assert "there is no agent /lost/a/nobody. Spawn it first; a list" in ref.run.outcome(60).error
    assert ".;" not in ref.run.outcome(60).error


def test_the_decorator_refuses_what_is_no_behaviour() -> None:
    class WithoutRun:
        def open(self, info: Any) -> None:
            return None

    async def yields(turn: Turn) -> Any:
        yield 1

    def generates(turn: Turn) -> Any:
        yield 1

    class OpensInSteps:
        """Nobody would ever take the first."""

        async def open(self, info: Any) -> Any:
            yield 1

        async def run(self, turn: Turn) -> None:
            return None

    for thing in (3, "name", None, WithoutRun, WithoutRun(), yields, generates, OpensInSteps):
        with pytest.raises((TypeError, ValueError)):
            agent(name="c-wrong-thing")(thing)  # type: ignore[type-var]


def test_a_kind_registered_twice_with_other_code_is_refused_and_the_first_stays(runtime: Any) -> None:
    @agent(name="c-wrong-twice")
    async def first(turn: Turn) -> str:
        return "first"

    with pytest.raises(GreenroomError, match="c-wrong-twice"):

        @agent(name="c-wrong-twice")
        async def second(turn: Turn) -> str:
            return "second"

    assert runtime().spawn("c-wrong-twice", "/a", input=1).run.result(timeout=60) == "first"


def test_one_function_under_two_names_is_two_kinds(runtime: Any) -> None:
    async def both(turn: Turn) -> str:
        return "both"

    agent(name="c-wrong-one")(both)
    agent(name="c-wrong-two")(both)
    open_ = runtime()
    assert open_.spawn("c-wrong-one", "/a").info().kind == "c-wrong-one"
    assert open_.spawn("c-wrong-two", "/b").info().kind == "c-wrong-two"


def test_a_full_backlog_refuses_and_loses_nothing(runtime: Any, door: Any, unchanged: Any) -> None:
    gate = door()

    @agent(name="c-wrong-backlog")
    async def slow(turn: Turn) -> Any:
        await gate.enter()
        return turn.input

    open_ = runtime(backlog=3, slots=1)
    ref = open_.spawn(slow, "/full/a")
    ref.followup(0)
    gate.arrived()

    def fill() -> None:
        for number in range(1, 10):
            ref.followup(number)

    with pytest.raises(BacklogFull) as full:
        fill()
    runs = [open_.run(event.run_id) for event in open_.events(follow=False) if event.type == "run.accepted"]
    assert full.value.path == "/full/a"
    assert full.value.backlog == 3
    with unchanged(open_):
        with pytest.raises(BacklogFull):
            ref.followup("more")
        with pytest.raises(BacklogFull):
            open_.spawn(slow, "/full/b", input="more")
    gate.open()
    assert [run.result(timeout=60) for run in runs] == list(range(len(runs)))
    assert ref.followup("again").result(timeout=60) == "again"


def test_what_a_turn_asks_for_is_never_refused_for_a_full_backlog(runtime: Any, door: Any) -> None:
    """Accepted work goes on, also where it fans out wider than the whole backlog."""
    gate = door()

    @agent(name="c-wrong-backlog-leaf")
    async def leaf(turn: Turn) -> Any:
        return turn.input

    @agent(name="c-wrong-backlog-chief")
    async def chief(turn: Turn) -> Any:
        await gate.enter()
        agents = [await turn.spawn(leaf, f"leaf-{n}") for n in range(10)]
        await turn.send("leaf-0", "mail")
        return [await (await one.followup(n)) for n, one in enumerate(agents)]

    open_ = runtime(backlog=3, slots=1)
    ref = open_.spawn(chief, "/deep/a", input=1)
    gate.arrived()
    assert ref.followup(2)
    assert ref.followup(3)
    with pytest.raises(BacklogFull):
        ref.followup(4)
    gate.open()
    assert ref.run.result(timeout=60) == list(range(10))


BAD_TURN_CALLS: dict[str, Callable[[Turn], Any]] = {
    "spawn of a kind nobody registered": lambda turn: turn.spawn("c-wrong-nobody", "b"),
    "spawn of a number": lambda turn: turn.spawn(3, "b"),
    "spawn under a bad name": lambda turn: turn.spawn(well, "B b"),
    "spawn of a way up": lambda turn: turn.spawn(well, "../b"),
    "spawn under no name": lambda turn: turn.spawn(well, ""),
    "spawn under a number": lambda turn: turn.spawn(well, 3),  # type: ignore[arg-type]
    "spawn on its own path": lambda turn: turn.spawn(well, turn.path),
    "spawn with a config that does not pickle": lambda turn: turn.spawn(well, "b", config=LOCK),
    "followup of nobody": lambda turn: turn.followup("nobody", 1),
    "followup that does not pickle": lambda turn: turn.followup("/turns/c", LOCK),
    "send to nobody": lambda turn: turn.send("nobody", 1),
    "send of what does not pickle": lambda turn: turn.send("/turns/c", LOCK),
    "interrupt of nobody": lambda turn: turn.interrupt("nobody"),
    "wait for itself": lambda turn: turn.wait(turn.run_id),
    "wait for a number": lambda turn: turn.wait(3),
    "wait for nobody's run": lambda turn: turn.wait("nobodys-run"),
    "wait for a time in words": lambda turn: turn.wait(timeout="soon"),  # type: ignore[arg-type]
    "after itself": lambda turn: turn.after(turn.run_id),
    "after a number": lambda turn: turn.after(3),
    "after nobody's run": lambda turn: turn.after("nobodys-run"),
    "after with an input that does not pickle": lambda turn: turn.after(input=LOCK),
}


@pytest.mark.parametrize("what", BAD_TURN_CALLS)
def test_wrong_input_in_a_turn_raises_there_and_changes_nothing(
    runtime: Any, what: str, events_of: Any
) -> None:
    @agent(name="c-wrong-turn")
    async def clumsy(turn: Turn) -> str:
        try:
            await BAD_TURN_CALLS[what](turn)
        except OWN as error:
            return f"{type(error).__name__}: {error}"
        return "no error"

    open_ = runtime()
    open_.spawn(well, "/turns/c")
    ref = open_.spawn(clumsy, "/turns/a")
    said = ref.followup(None).result(timeout=60)
    assert said != "no error"
    assert [info.path for info in open_.list()] == ["/turns/a", "/turns/c"]
    assert events_of(open_, "/turns/c", "run.accepted", "message.accepted") == []
    assert len(events_of(open_, "/turns/a", "run.accepted")) == 1
    assert open_.agent("/turns/c").info().inbox == 0


@pytest.mark.parametrize(
    "name_and_data",
    [(3, 1), ("a", LOCK), ("a", object()), (None, None)],
    ids=["no name", "a lock", "an object", "nothing"],
)
def test_wrong_progress_raises_at_the_call(runtime: Any, name_and_data: Any, events_of: Any) -> None:
    @agent(name="c-wrong-progress")
    async def clumsy(turn: Turn) -> str:
        with pytest.raises(OWN):
            turn.emit(*name_and_data)
        return "went on"

    open_ = runtime()
    ref = open_.spawn(clumsy, "/progress/a", input=1)
    assert ref.run.result(timeout=60) == "went on"
    assert events_of(open_, "/", "run.progress") == []
