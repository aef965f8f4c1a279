"""What a store is found to hold after a crash, and what becomes of it."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from greenroom import AgentClosed, Runtime, StoreCorrupt, agent

DEADLINE = 600.0

KINDS = """
import os, signal, sys
from greenroom import Runtime, agent

def begun(turn):
    with open(os.environ["BEGUN"], "a") as file:
        file.write(f"{turn.run_id} {turn.attempt}\\n")

@agent(name="d-rec-once", attempts=1)
async def once(turn):
    begun(turn)
    if turn.input == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return turn.attempt

@agent(name="d-rec-thrice")
def thrice(turn):
    begun(turn)
    if turn.input == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return turn.attempt

@agent(name="d-rec-child")
async def child(turn):
    begun(turn)
    return turn.input * 2

@agent(name="d-rec-parent")
async def parent(turn):
    begun(turn)
    worker = await turn.spawn("d-rec-child", "worker")
    run = await worker.followup(21)
    result = await run
    if turn.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return [run.run_id, result]
"""

exec(KINDS, {})


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What has begun so far, in all processes: run id and attempt."""
    log = tmp_path / "begun"
    log.touch()
    monkeypatch.setenv("BEGUN", str(log))
    return lambda: log.read_text().splitlines()


def dies(store: Path, story: str) -> None:
    """Tell `story` in a process of its own that is killed on its way."""
    code = KINDS + f"with Runtime({str(store)!r}, slots=1) as runtime:\n" + textwrap.indent(story, "    ")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


GO_ON = "runtime.wait([runtime.run('r')], timeout=20)"


def test_a_kind_with_one_attempt_is_begun_once_whatever_its_first_line_does(
    tmp_path: Path, begun: Callable[[], list[str]]
) -> None:
    store = tmp_path / "agents.db"
    dies(store, "runtime.spawn(once, '/rec/a', input='die', run_id='r')\n" + GO_ON)
    with Runtime(store) as runtime:
        outcome = runtime.run("r").outcome(DEADLINE)
    assert begun() == ["r 1"]
    assert (outcome.status, outcome.attempt, outcome.error_type) == ("failed", 1, "CutOff")
    assert "its turn was cut off" in str(outcome.error)


def test_a_run_that_kills_its_process_is_begun_as_often_as_its_kind_allows(
    tmp_path: Path, begun: Callable[[], list[str]]
) -> None:
    store = tmp_path / "agents.db"
    dies(store, "runtime.spawn(thrice, '/rec/a', input='die', run_id='r')\n" + GO_ON)
    for _ in range(4):
        dies(store, GO_ON)
    with Runtime(store) as runtime:
        outcome = runtime.run("r").outcome(DEADLINE)
        assert (outcome.status, outcome.attempt, outcome.error_type) == ("failed", 5, "Crashed")
        assert runtime.run("r").info().crashes == 3
        assert runtime.agent("/rec/a").followup("live").result(DEADLINE) == 1
        told = [(e.type, e.data) for e in runtime.events("/rec/a", follow=False) if e.run_id == "r"]
    assert begun()[:5] == ["r 1", "r 2", "r 3", "r 4", "r 5"]
    assert [data for kind, data in told if kind == "run.started"] == [
        {"attempt": 1},
        *({"attempt": number, "recovered": True} for number in (2, 3, 4, 5)),
    ]
    assert [data.get("recovered") for kind, data in told if kind == "run.failed"] == [True]


def test_what_had_not_begun_is_recovered_too_and_says_so(
    tmp_path: Path, begun: Callable[[], list[str]]
) -> None:
    store = tmp_path / "agents.db"
    dies(
        store,
        "runtime.spawn(child, '/rec/b')\n"
        "runtime.agent('/rec/b').pin()\n"
        "runtime.spawn(thrice, '/rec/a')\n"
        "import threading\n"
        "gate = threading.Event()\n"
        "@agent(name='d-rec-gate')\n"
        "def wait(turn):\n"
        "    gate.wait()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "runtime.spawn(wait, '/rec/gate', input=0)\n"
        "for number in range(3):\n"
        "    runtime.agent('/rec/b').followup(number, run_id=f'r{number}')\n"
        "runtime.agent('/rec/b').send('mail')\n"
        "gate.set()\n"
        "runtime.wait([runtime.run('r0')])",
    )
    with Runtime(store) as runtime:
        runs = runtime.wait([runtime.run(f"r{number}") for number in range(3)], timeout=DEADLINE)
        assert [run.result() for run in runs] == [0, 2, 4]
        assert runtime.agent("/rec/gate").explain().waits_for == "kind"
        started = [
            (event.run_id, event.data)
            for event in runtime.events("/rec/b", follow=False)
            if event.type == "run.started"
        ]
        assert runtime.list("/rec", status="running") == []
    assert started == [(f"r{number}", {"attempt": 1, "recovered": True}) for number in range(3)]
    assert begun() == ["r0 1", "r1 1", "r2 1"]


def test_a_turn_begun_again_finds_its_child_and_its_result(
    tmp_path: Path, begun: Callable[[], list[str]]
) -> None:
    store = tmp_path / "agents.db"
    dies(store, "runtime.spawn(parent, '/rec/a', input=0, run_id='r')\n" + GO_ON)
    with Runtime(store, kinds=[]) as runtime:
        run_id, result = runtime.run("r").result(DEADLINE)
        assert result == 42
        assert runtime.run(run_id).path == "/rec/a/worker"
    assert begun() == ["r 1", f"{run_id} 1", "r 2"]


def test_so_does_one_whose_child_was_closed_meanwhile(
    tmp_path: Path, begun: Callable[[], list[str]]
) -> None:
    store = tmp_path / "agents.db"
    dies(store, "runtime.spawn(parent, '/rec/a', input=0, run_id='r')\n" + GO_ON)
    closes = f"from greenroom import Runtime\nwith Runtime({str(store)!r}) as runtime:\n"
    closes += "    runtime.agent('/rec/a/worker').close()"  # the parent waits for its kind there
    subprocess.run([sys.executable, "-c", closes], check=True, timeout=600)
    with Runtime(store) as runtime:
        run_id, result = runtime.run("r").result(DEADLINE)
        assert result == 42
        assert runtime.list("/rec/a/worker") == []
    assert begun() == ["r 1", f"{run_id} 1", "r 2"]


def test_a_run_id_given_again_is_the_same_run_when_its_agent_is_closed(tmp_path: Path) -> None:
    @agent(name="d-rec-plain")
    async def plain(turn: Any) -> Any:
        return turn.input

    with Runtime(tmp_path / "agents.db") as runtime:
        ref = runtime.spawn(plain, "/rec/a")
        assert ref.followup(1, run_id="one").result(DEADLINE) == 1
        ref.close()
        assert ref.followup(1, run_id="one").result(DEADLINE) == 1
        with pytest.raises(AgentClosed):
            ref.followup(1, run_id="two")
        with pytest.raises(AgentClosed):
            ref.followup(1)


def test_runs_that_waited_for_their_kind_go_on_once_it_is_registered(
    tmp_path: Path, begun: Callable[[], list[str]]
) -> None:
    store = tmp_path / "agents.db"
    dies(
        store,
        "@agent(name='d-rec-late', version=1)\n"
        "async def late(turn):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "runtime.spawn(late, '/rec/a', input=1, run_id='r')\n" + GO_ON,
    )
    with Runtime(store) as runtime:
        ref = runtime.agent("/rec/a")
        assert ref.explain().waits_for == "kind"

        @agent(name="d-rec-late", version=1)
        async def late(turn: Any) -> Any:
            return turn.input

        assert runtime.run("r").result(DEADLINE) == 1


os.environ.setdefault("BEGUN", os.devnull)


def test_a_store_whose_books_are_damaged_is_refused_by_name(
    tmp_path: Path, begun: Callable[[], list[str]]
) -> None:
    store = tmp_path / "agents.db"
    dies(store, "runtime.spawn(thrice, '/rec/a', input='die', run_id='r')\n" + GO_ON)
    with closing(sqlite3.connect(store)) as file:
        file.execute("DELETE FROM meta")
        file.commit()
    with pytest.raises(StoreCorrupt, match="its numbers are gone") as refused:
        Runtime(store).start()
    assert "greenroom doctor" in str(refused.value)
    assert len(begun()) == 1


def test_a_run_whose_row_was_changed_fails_alone_and_is_not_executed(
    tmp_path: Path, begun: Callable[[], list[str]]
) -> None:
    """What a run waits for is bound to its input, so a change of it is refused like one of the input."""
    store = tmp_path / "agents.db"
    dies(store, "runtime.spawn(thrice, '/rec/a', input='die', run_id='r')\n" + GO_ON)
    with closing(sqlite3.connect(store)) as file:
        file.execute("UPDATE runs SET awaits = '[1' WHERE run_id = 'r'")
        file.commit()
    with Runtime(store) as runtime:
        outcome = runtime.run("r").outcome(timeout=60)
        assert outcome.status == "failed"
        assert "signature" in str(outcome.error)
        assert (
            runtime.spawn("d-rec-thrice", "/rec/b", input="well").run.outcome(timeout=60).status
            == "completed"
        )
    assert "r" not in begun()[1:]
