"""A process that dies at each single step of its writing, and what the next one finds.

One story is told again and again, each time to a runtime that kills itself one step later: before a
statement of a transaction, after a COMMIT whose answer nobody got, within a checkpoint, while it makes
the store or its key, while it recovers from the crash before, while it migrates. What is left is audited
as a file, then a runtime goes on with it to the same end as if nothing had happened.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from greenroom import Runtime, Turn, agent
from greenroom.persistence.codec import dumps
from greenroom.persistence.records import AddAgent, PutSnapshot
from greenroom.persistence.rows import AgentRow, Snapshot
from greenroom.persistence.store import Store
from greenroom.types import AgentId

from .crash_steps.nursery import Plan, Trial

TESTS = Path(__file__).parents[1]
AT_ONCE = 2  # nurseries beside each other


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder, in memory if that can be had: a process that dies needs no disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def explore(room: Path, **plan: Any) -> list[Trial]:
    """The trials of a plan, shared by nurseries that begin one stride apart."""
    stride, first = plan.pop("stride", 1), plan.pop("first", 1)
    nurseries = []
    for number in range(AT_ONCE):
        part = Plan(str(room), first + number * stride, stride * AT_ONCE, **plan)
        nurseries.append(
            subprocess.Popen(
                [sys.executable, "-m", "durability.crash_steps.nursery", msgspec.json.encode(part)],
                cwd=TESTS,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )
        )
    trials: list[Trial] = []
    for nursery in nurseries:
        said, _ = nursery.communicate()
        assert nursery.returncode == 0
        trials += [msgspec.json.decode(line, type=Trial) for line in said.splitlines()]
    return sorted(trials, key=lambda trial: trial.deadly)


def crashes(trials: list[Trial]) -> Counter[str]:
    """At what they died, by the first words of it."""
    return Counter(" ".join(trial.where.split()[:2]) for trial in trials if trial.where)


def check(trials: list[Trial], points: int) -> Counter[str]:
    """Nothing is wrong, and at least so many points were tried; which ones."""
    problems = [(trial.deadly, trial.where, trial.problems) for trial in trials if trial.problems]
    assert not problems, json.dumps(problems[:3], indent=1)
    found = crashes(trials)
    print(f"\n{found.total()} crashes: {dict(found.most_common())}")
    assert found.total() >= points
    return found


EVERYWHERE = {
    "BEGIN IMMEDIATE",
    "COMMIT",
    "after COMMIT",
    "INSERT INTO",
    "UPDATE runs",
    "UPDATE agents",
    "UPDATE meta",
    "PRAGMA wal_checkpoint(PASSIVE)",
    "after PRAGMA",
    "PRAGMA journal_mode",
    "os.link agents.db.key",
}
"""Kinds of steps, as they begin; the list is not complete.

A deletion is one statement in some batches, and which step it is varies: a walk may miss it.
"""


def test_scenario_41_a_crash_at_some_steps_of_every_kind_loses_and_repeats_nothing(room: Path) -> None:
    check(explore(room, first=3, stride=11), points=30)


@pytest.mark.long
def test_scenario_41_a_crash_at_every_step_loses_and_repeats_nothing(room: Path) -> None:
    trials = explore(room)
    found = check(trials, points=350)
    ends = [trial.deadly for trial in trials if trial.where is None]
    assert len(ends) == AT_ONCE, "each nursery went on until there was no step left to die at"
    kinds = {kind for kind in EVERYWHERE if any(where.startswith(kind) for where in found)}
    assert kinds == EVERYWHERE


def test_scenario_41_a_crash_at_every_step_of_closing_loses_and_repeats_nothing(room: Path) -> None:
    """By a count of their own: how many steps come before varies by a few."""
    trials = explore(room, closing=True)
    found = check(trials, points=5)
    assert {"PRAGMA wal_checkpoint(PASSIVE)", "close", "after close"} <= found.keys()
    assert any(trial.where is None for trial in trials)


@pytest.mark.long
@pytest.mark.parametrize("newer", [False, True], ids=["recovery", "migration"])
@pytest.mark.parametrize("before", [180, 230, 280, 340])
def test_scenario_41_a_crash_at_every_step_of_a_recovery_loses_and_repeats_nothing(
    room: Path, before: int, newer: bool
) -> None:
    """The second life dies as well: while it opens what the first one left, or soon after."""
    check(explore(room, before=(before,), newer=newer, last=45), points=45)


@pytest.mark.parametrize("newer", [False, True], ids=["recovery", "migration"])
def test_scenario_41_a_crash_while_recovering_from_a_crash(room: Path, newer: bool) -> None:
    check(explore(room, before=(260,), newer=newer, first=2, stride=5, last=45), points=8)


def test_many_crashes_one_after_the_other(room: Path) -> None:
    """Each life gets a little further than the one before."""
    check(explore(room, before=(140, 60, 50, 60, 70, 60), first=20, stride=37, last=95), points=2)


def test_scenario_41_a_checkpoint_that_was_cut_short_does_not_look_like_damage(room: Path) -> None:
    """The file's header counts pages that are not in it yet. They are in its log."""
    path = room / "agents.db"
    store, _ = Store.open(str(path), "process")
    row = AgentRow(1, "/t/a", "kind", 1, dumps(None, "it"), 1.0, 1.0)
    store.write([AddAgent(row), PutSnapshot(AgentId(1), Snapshot("json", 1, b"0" * 40_000))])
    before, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    store.close()
    after, page = path.read_bytes(), 4096
    assert len(after) > len(before)
    for copied in range(0, len(after), page):
        path.write_bytes(after[:copied] + before[copied:])
        Path(f"{path}-wal").write_bytes(log)
        store, unfinished = Store.open(str(path), "process")
        store.close()
        assert unfinished.known == 1


CLINGS = """
import asyncio, sys
from greenroom import Runtime, agent

@agent(name="story-clings", attempts=100)
async def clings(turn):
    print("begun", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.Event().wait()  # it tidies up

with Runtime(sys.argv[1]) as runtime:
    run = runtime.spawn(clings, "/story/c", input=1, run_id="c-0").run
    sys.stdin.readline()
    print("answered", run.interrupt(), flush=True)
    sys.stdin.readline()
"""


def test_an_interrupt_that_was_answered_survives_a_killed_process(room: Path) -> None:
    """Who was told that a run is interrupted does not expect it to begin again."""

    @agent(name="story-clings", attempts=100)
    async def clings(turn: Turn) -> str:
        return "begun again"

    store = room / "agents.db"
    owner = subprocess.Popen(
        [sys.executable, "-c", CLINGS, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    assert owner.stdout.readline() == "begun\n"
    print("interrupt", file=owner.stdin, flush=True)
    assert owner.stdout.readline() == "answered True\n"
    owner.kill()
    owner.communicate()
    with Runtime(store) as runtime:
        assert runtime.run("c-0").outcome(timeout=60).status == "interrupted"


SABOTAGE = {
    "answer_before_the_commit": "told and not there",
    "commit_by_halves": "counted|of the|there without the other",
    "keep_what_was_read": "unread|messages twice",
}


@pytest.mark.parametrize("sabotage", SABOTAGE)
def test_the_audits_find_what_is_planted(room: Path, sabotage: str) -> None:
    """So that finding nothing means something."""
    stride = 9
    for first in range(170, 170 + stride):  # every step in the end; mostly the first round finds it
        trials = explore(room, first=first, stride=stride, last=330, sabotage=sabotage, patience=5.0)
        problems = [problem for trial in trials for problem in trial.problems]
        if any(word in problem for problem in problems for word in SABOTAGE[sabotage].split("|")):
            return
    raise AssertionError(f"{sabotage} was not found")
