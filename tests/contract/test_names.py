"""The public names, as section 6 of the design fixes them."""

import contextlib
import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest

import greenroom
from greenroom import AsyncRuntime, GreenroomError, Runtime, SyncTurn, Turn, agent

P = inspect.Parameter

NAMES = [
    "Runtime",
    "AsyncRuntime",
    "agent",
    "Turn",
    "SyncTurn",
    "AgentRef",
    "AgentInfo",
    "Run",
    "Outcome",
    "Event",
    "Stats",
    "Message",
    "Explanation",
    "UNSET",
]

ERRORS = [
    "AgentNotFound",
    "AgentClosed",
    "PathTaken",
    "InvalidPath",
    "UnknownKind",
    "OutOfTree",
    "RunFailed",
    "RunInterrupted",
    "RunNotFound",
    "RuntimeClosing",
    "BacklogFull",
    "StoreInUse",
    "StoreLost",
    "StoreTooNew",
    "StoreCorrupt",
    "SnapshotTampered",
    "SnapshotUnreadable",
]

RUNTIME = {
    "start": {},
    "close": {"drain": None, "*interrupt": False},
    "spawn": {
        "kind": P.empty,
        "path": P.empty,
        "*config": None,
        "*input": greenroom.UNSET,
        "*run_id": None,
        "*durability": None,
    },
    "agent": {"path": P.empty},
    "run": {"run_id": P.empty},
    "wait": {"runs": P.empty, "*timeout": None, "*until": "all"},
    "list": {"under": "/", "*status": None, "*resident": False, "*limit": 1000, "*after": None},
    "events": {"under": "/", "*since": None, "*follow": True},
    "stats": {},
}
AGENT_REF = {
    "followup": {"input": P.empty, "*run_id": None, "*durability": None},
    "send": {"body": P.empty, "*durability": None},
    "info": {},
    "state": {},
    "interrupt": {"run_id": None, "*cascade": False},
    "close": {},
    "delete": {},
    "evict": {},
    "pin": {},
    "unpin": {},
    "explain": {},
}
RUN = {"result": {"timeout": None}, "outcome": {"timeout": None}, "done": {}, "interrupt": {}}
TURN = {
    "spawn": {"kind": P.empty, "name": P.empty, "*config": None},
    "followup": {"path": P.empty, "input": P.empty, "*key": None},
    "send": {"path": P.empty, "body": P.empty},
    "interrupt": {"path": P.empty},
    "list": {},
    "wait": {"*runs": P.empty, "*timeout": None},
    "after": {"*runs": P.empty, "*input": None},
    "checkpoint": {},
}
TURN_NAMES = {
    "path",
    "run_id",
    "input",
    "config",
    "state",
    "inbox",
    "results",
    "then",
    "due_at",
    "woken",
    "attempt",
    "interrupted",
    "suspended",
    "metadata",
    "log",
    "spawn",
    "spawn_many",
    "followup",
    "followup_many",
    "ask",
    "ask_many",
    "send",
    "interrupt",
    "close",
    "list",
    "wait",
    "after",
    "checkpoint",
    "step",
    "receive",
    "sleep",
    "resource",
    "budget",
    "paused",
    "limit",
    "question",
    "emit",
    "stream",
    "spend",
}
AGENT = {
    "name": None,
    "version": 1,
    "state": dict,
    "codec": "cloudpickle",
    "migrate": None,
    "open_timeout": 60.0,
    "turn_timeout": None,
    "attempts": 3,
}
INFO = [
    "path",
    "kind",
    "version",
    "config",
    "status",
    "resident",
    "incarnation",
    "last_outcome",
    "queued_runs",
    "inbox",
    "created_at",
    "updated_at",
    "error",
]
OUTCOME = [
    "status",
    "result",
    "error",
    "run_id",
    "path",
    "started_at",
    "ended_at",
    "attempt",
    "error_type",
    "ok",
]
STATS = [
    "agents",
    "resident",
    "running",
    "queued",
    "slots",
    "residents",
    "evictions",
    "reloads",
    "commits",
    "events_dropped",
]
EVENT = ["seq", "at", "type", "path", "run_id", "data"]


def parameters(function: Any) -> dict[str, Any]:
    """Names and defaults; keyword-only and var-positional ones are starred."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self":
            continue
        starred = parameter.kind in (P.KEYWORD_ONLY, P.VAR_POSITIONAL)
        found["*" * starred + name] = parameter.default
    return found


@pytest.mark.parametrize("name", [*NAMES, "GreenroomError", *ERRORS])
def test_it_can_be_imported_from_greenroom(name: str) -> None:
    assert getattr(greenroom, name)


def test_a_runtime_takes_what_the_design_says() -> None:
    for runtime in (Runtime, AsyncRuntime):
        assert parameters(runtime) == {
            "store": ":memory:",
            "*slots": 8,
            "*residents": 64,
            "*backlog": 100_000,
            "*durability": "process",
            "*drain": 10.0,
            "*kinds": (),
            "*retention": greenroom.Retention(),
        }


@pytest.mark.parametrize("name", RUNTIME)
def test_a_runtime_method_takes_what_the_design_says(name: str) -> None:
    assert parameters(getattr(Runtime, name)) == RUNTIME[name]
    assert parameters(getattr(AsyncRuntime, name)) == RUNTIME[name]
    assert inspect.iscoroutinefunction(getattr(AsyncRuntime, name)) == (name != "events")


@pytest.mark.parametrize("name", AGENT_REF)
def test_an_agent_ref_method_takes_what_the_design_says(name: str) -> None:
    assert parameters(getattr(greenroom.AgentRef, name)) == AGENT_REF[name]
    assert parameters(getattr(greenroom.AsyncAgentRef, name)) == AGENT_REF[name]
    assert inspect.iscoroutinefunction(getattr(greenroom.AsyncAgentRef, name))


@pytest.mark.parametrize("name", RUN)
def test_a_run_method_takes_what_the_design_says(name: str) -> None:
    assert parameters(getattr(greenroom.Run, name)) == RUN[name]
    assert parameters(getattr(greenroom.AsyncRun, name)) == RUN[name]
    assert inspect.iscoroutinefunction(getattr(greenroom.AsyncRun, name))
    assert hasattr(greenroom.Run, "__await__")
    assert hasattr(greenroom.AsyncRun, "__await__")


@pytest.mark.parametrize("name", TURN)
def test_a_turn_method_takes_what_the_design_says(name: str) -> None:
    assert parameters(getattr(Turn, name)) == TURN[name]
    assert parameters(getattr(SyncTurn, name)) == TURN[name]
    counted = name in ("spawn", "followup")  # the call takes the count, and returns what is awaited
    assert inspect.iscoroutinefunction(getattr(Turn, name)) != counted
    assert not inspect.iscoroutinefunction(getattr(SyncTurn, name))


def test_a_turn_emits_with_a_plain_call_and_pauses_with_a_block() -> None:
    for turn in (Turn, SyncTurn):
        assert list(parameters(turn.emit))[:2] == ["name", "data"]
        assert not inspect.iscoroutinefunction(turn.emit)
        assert parameters(turn.paused) == {}


def test_a_turn_has_no_other_public_name_and_none_of_its_facts_can_be_set(runtime: Any) -> None:
    def look(turn: Any) -> tuple[set[str], list[str]]:
        settable = []
        for name in ("path", "run_id", "attempt", "interrupted"):
            with contextlib.suppress(AttributeError):
                setattr(turn, name, object())
                settable.append(name)
        return {name for name in dir(turn) if not name.startswith("_")} - TURN_NAMES, settable

    @agent(name="c-names-public")
    async def public(turn: Turn) -> Any:
        return look(turn)

    @agent(name="c-names-sync-public")
    def sync_public(turn: SyncTurn) -> Any:
        return look(turn)

    open_ = runtime()
    for kind in (public, sync_public):
        assert open_.spawn(kind, f"/names/{kind.__name__}", input=None).run.result(timeout=60) == (
            set(),
            [],
        )


def test_the_decorator_takes_what_the_design_says() -> None:
    taken = {name.lstrip("*"): default for name, default in parameters(agent).items()}
    taken.pop("behaviour", None)
    assert taken == AGENT


def test_what_is_seen_has_the_fields_of_the_design(runtime: Any) -> None:
    @agent(name="c-names-fields")
    async def fields(turn: Turn) -> list[str]:
        names = [
            "path",
            "run_id",
            "input",
            "config",
            "state",
            "inbox",
            "results",
            "attempt",
            "interrupted",
            "suspended",
        ]
        return [name for name in names if not hasattr(turn, name)]

    @agent(name="c-names-sync-fields")
    def sync_fields(turn: SyncTurn) -> list[str]:
        names = [
            "path",
            "run_id",
            "input",
            "config",
            "state",
            "inbox",
            "results",
            "attempt",
            "interrupted",
            "suspended",
        ]
        return [name for name in names if not hasattr(turn, name)]

    open_ = runtime()
    ref = open_.spawn(fields, "/fields/a", input=None)
    assert ref.path == "/fields/a"
    assert ref.run.result(timeout=60) == []
    assert open_.spawn(sync_fields, "/fields/b", input=None).run.result(timeout=60) == []
    for thing, names in (
        (ref.info(), INFO),
        (ref.run.outcome(timeout=60), OUTCOME),
        (open_.stats(), STATS),
        (next(iter(open_.events(follow=False))), EVENT),
    ):
        assert [name for name in names if not hasattr(thing, name)] == []


def test_stats_tell_latency_percentiles(runtime: Any) -> None:
    @agent(name="c-names-latency")
    async def work(turn: Turn) -> None:
        return None

    open_ = runtime()
    ref = open_.spawn(work, "/latency/a")
    open_.wait([ref.followup(n) for n in range(20)], timeout=60)
    latencies = open_.stats().latencies
    assert latencies
    for name, (p50, p99) in latencies.items():
        assert 0 <= p50 <= p99, name


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_greenrooms_own_and_survives_pickling(name: str) -> None:
    error_type = getattr(greenroom, name)
    assert issubclass(error_type, GreenroomError)
    assert issubclass(error_type, Exception)
    takes = parameters(error_type)
    error = error_type(*(7 if name == "backlog" else f"some-{name}" for name in takes))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is error_type
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.args == error.args
    assert all(getattr(error, name) == value for name, value in zip(takes, error.args, strict=True))
    assert len(str(error)) > 20


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = greenroom.Agents
    with pytest.raises(ImportError):
        exec("from greenroom import Agents")


def test_the_bare_packages_are_refused_by_name() -> None:
    for name in ("actors", "persistence"):
        root = str(Path(greenroom.__file__).resolve().parents[2])
        code = f"import sys; sys.path.insert(0, {root!r}); import {name}"
        with pytest.raises(ImportError, match=f"greenroom.{name}"):
            exec(code, {})
        import sys

        sys.path.remove(root)
        sys.modules.pop(name, None)
