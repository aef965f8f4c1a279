"""A bug in a control actor ends what it is about, and the runtime where its tables cannot be trusted."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from greenroom import InternalError, RunFailed, Runtime, Turn, agent
from greenroom.actors.directory.paths import PathTable
from greenroom.actors.events.buffer import EventBuffer
from greenroom.actors.ledger import accepting, describing, interrupting, sessions, spawning, turns, waiting
from greenroom.actors.ledger.ledger import Ledger
from greenroom.actors.ledger.log.commit_log import CommitLog
from greenroom.actors.ledger.queries import LedgerQueries
from greenroom.actors.ledger.sweep import InterruptSweep
from greenroom.actors.residency import reporting
from greenroom.actors.residency.table import ResidencyTable
from greenroom.actors.slots.table import SlotTable


@agent(name="failure-echo")
async def echo(turn: Turn) -> object:
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]


@agent(name="failure-holds")
async def holds(turn: Turn) -> object:
    """Works until it is interrupted."""
    await asyncio.Event().wait()
    return turn.input


class Bug(Exception):
    """What no caller could have caused."""


BREAKS: dict[str, tuple[Any, str, Callable[[Runtime], Any]]] = {
    "ledger": (CommitLog, "commit", lambda runtime: runtime.agent("/t/a").followup("more")),
    "directory": (PathTable, "settled", lambda runtime: runtime.spawn(echo, "/t/new")),
    "residency": (ResidencyTable, "summon", lambda runtime: runtime.agent("/t/a").followup("more")),
    "slots": (SlotTable, "acquire", lambda runtime: runtime.agent("/t/a").followup("more")),
    "events": (EventBuffer, "publish", lambda runtime: runtime.agent("/t/a").followup("more")),
}
"""By actor: a method that is broken, and a call that comes to it after something was changed already."""


@pytest.mark.parametrize("role", BREAKS)
def test_tables_that_cannot_be_trusted_stop_the_runtime_and_everybody_is_told(
    tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(tmp_path / "agents.db").start()
    ref = runtime.spawn(echo, "/t/a", input=1)
    assert ref.run.result(timeout=60) == 1
    stream = runtime.events("/t")
    told: list[object] = []

    def read() -> None:
        try:
            list(stream)
        except InternalError as error:
            told.append(error)

    reader = threading.Thread(target=read)
    reader.start()

    owner, method, call = BREAKS[role]

    def breaks(*_: Any, **__: Any) -> Any:
        raise Bug("it is broken")

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, breaks)
        with suppress(InternalError):
            call(runtime)
        reader.join(60)
    assert len(told) == 1, "who waited was told"
    assert "Bug" in str(told[0])
    assert "in part" in str(told[0]), "which invariant broke"
    with pytest.raises(InternalError, match="report"):
        ref.info()
    runtime.close()  # and nothing hangs

    with Runtime(tmp_path / "agents.db") as again:
        assert again.agent("/t/a").followup(2).result(timeout=60) >= 2


REFUSED: dict[str, tuple[Any, str, Callable[[Runtime], Any]]] = {
    "accept_run": (accepting, "accept_run", lambda runtime: runtime.agent("/t/a").followup(1)),
    "accept_message": (accepting, "accept_message", lambda runtime: runtime.agent("/t/a").send(1)),
    "record_spawn": (spawning, "record_spawn", lambda runtime: runtime.spawn(echo, "/t/new", input=1)),
    "interrupt": (interrupting, "interrupt", lambda runtime: runtime.agent("/t/a").interrupt()),
    "interrupt_tree": (interrupting, "interrupt_tree", lambda runtime: runtime.interrupt_many("/t")),
    "await_runs": (waiting, "await_runs", lambda runtime: runtime.wait([runtime.run("named")])),
    "describe": (describing, "describe", lambda runtime: runtime.stats()),
    "view.agent": (LedgerQueries, "agent", lambda runtime: runtime.agent("/t/a").info()),
    "view.agents": (LedgerQueries, "agents", lambda runtime: runtime.list()),
    "view.state": (LedgerQueries, "state", lambda runtime: runtime.agent("/t/a").state()),
    "view.run": (LedgerQueries, "run", lambda runtime: runtime.run("named")),
    "path": (PathTable, "handle", lambda runtime: runtime.agent("/t/a").send(1)),
    "pull": (EventBuffer, "pull", lambda runtime: list(runtime.events(follow=False))),
    "residency": (reporting, "describe", lambda runtime: runtime.stats()),
    "pin": (ResidencyTable, "pin", lambda runtime: runtime.agent("/t/a").pin()),
    "slots": (SlotTable, "describe", lambda runtime: runtime.stats()),
}
"""A method that is broken, and a call that comes to it before anything was changed."""


@pytest.mark.parametrize("what", REFUSED)
def test_a_bug_in_one_request_refuses_that_one(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, method, call = REFUSED[what]
    original = getattr(owner, method)
    done: list[bool] = []

    def breaks_once(*given: Any, **named: Any) -> Any:
        if not done:
            done.append(True)
            raise Bug("it is broken")
        return original(*given, **named)

    with Runtime(tmp_path / "agents.db") as runtime:
        runtime.spawn(echo, "/t/a", input=1, run_id="named").run.result(timeout=60)
        runtime.spawn(echo, "/t/b")
        monkeypatch.setattr(owner, method, breaks_once)
        with pytest.raises(InternalError, match="Nothing else is affected"):
            call(runtime)
        call(runtime)
        assert runtime.agent("/t/a").followup("on").result(timeout=60) >= 2
    assert done


def test_a_bug_in_a_question_of_the_directory_costs_that_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a tree is new, it then finds out by another question."""
    original = CommitLog.ask
    done: list[object] = []

    def breaks_once(self: CommitLog, request: Any, *rest: Any, **named: Any) -> Any:
        if not done:
            done.append(request)
            raise Bug("it is broken")
        return original(self, request, *rest, **named)

    with Runtime(tmp_path / "agents.db") as runtime:
        monkeypatch.setattr(CommitLog, "ask", breaks_once)
        assert runtime.spawn(echo, "/new/a", input=1).run.result(timeout=60) == 1
    assert done == [("tree", "new")]


PORTIONS: dict[str, tuple[Any, str, Callable[[Runtime, list[Any]], Any]]] = {
    "a wait": (
        waiting,
        "_tell_end",
        lambda runtime, runs: runtime.wait([runtime.run(r.run_id) for r in runs]),
    ),
    "an interrupt": (InterruptSweep, "covers", lambda runtime, _: runtime.interrupt_many("/quiet")),
    "a list": (LedgerQueries, "_live", lambda runtime, _: runtime.list()),
}
"""Requests that are answered in portions, and what breaks in a later one."""


@pytest.mark.parametrize("what", PORTIONS)
def test_a_bug_in_a_later_portion_refuses_that_request(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, method, call = PORTIONS[what]
    original = getattr(owner, method)
    calls: list[bool] = []

    def breaks_late(*given: Any, **named: Any) -> Any:
        calls.append(True)
        if len(calls) == 40:
            raise Bug("it is broken")
        return original(*given, **named)

    with Runtime(tmp_path / "agents.db", slots=60, residents=60) as runtime:
        refs = [runtime.spawn(holds, f"/t/a{n}", input=n) for n in range(50)]
        for ref in refs:
            assert ref.run is not None
        runtime.wait([runtime.spawn(echo, f"/e/a{n}", input=n).run for n in range(50)])  # type: ignore[misc]
        ended = [runtime.agent(f"/e/a{n}").followup(n) for n in range(50)]
        runtime.wait(ended)
        monkeypatch.setattr(owner, method, breaks_late)
        with pytest.raises(InternalError, match="Nothing else is affected"):
            call(runtime, ended)
        assert len(calls) >= 40
        monkeypatch.undo()
        call(runtime, ended)
        assert runtime.agent("/e/a0").followup("on").result(timeout=60) >= 2
        runtime.interrupt_many("/t")
    # and closing waits for nothing that is over


@pytest.mark.parametrize(
    ("owner", "method"), [(turns, "take_run"), (turns, "end_turn"), (sessions, "session_started")]
)
def test_a_bug_in_news_of_one_agent_fails_its_runs_alone(
    tmp_path: Path, owner: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(owner, method)

    def breaks_for_one(self: Ledger, news: Any, *rest: Any) -> Any:
        if self.desks[news.agent_id].path == "/t/bad" and not mended:
            raise Bug("it is broken")
        return original(self, news, *rest)

    mended: list[bool] = []
    monkeypatch.setattr(owner, method, breaks_for_one)
    with Runtime(tmp_path / "agents.db", slots=1, residents=1) as runtime:
        bad = runtime.spawn(echo, "/t/bad", input=1)
        with pytest.raises(RunFailed, match="Bug"):
            bad.run.result(timeout=60)
        assert runtime.spawn(echo, "/t/good", input=1).run.result(timeout=60) == 1
        mended.append(True)
        assert bad.followup("again").result(timeout=60) == 1
        assert runtime.agent("/t/good").followup(2).result(timeout=60) == 2
        assert runtime.stats().slots_taken == 0
