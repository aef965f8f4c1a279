"""Lives to be cut short: a warm process that forks one for each, tells them when to die, and audits.

`python -m durability.crash_steps.nursery PLAN` in `tests/`; PLAN is JSON, `Plan` below. Each trial is a
store and the lives of its owners, one after another: all but the last die at a step. It prints one
line of JSON for each trial.
"""

import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from greenroom import Runtime
from greenroom.persistence import schema_steps

from . import sabotage, story
from .rest import Promises, Rest, broken, torn
from .steps import Steps, tidy_often

LONGEST = 900.0
"""Seconds after which a life hangs, which is a violation like any other."""

ENOUGH = 3
"""Trials that show a problem: more would tell nothing new, and hang as long."""


class Plan(Struct):
    """Trials with one crash at every `stride`-th step from `first` on, until a story ends without one.

    `before` are the crashes of earlier lives: then the counted life is a recovery. `last` bounds the
    steps.
    """

    folder: str
    first: int = 1
    stride: int = 1
    last: int = 100_000
    before: tuple[int, ...] = ()
    durability: str = "process"
    sabotage: str | None = None  # a function of `sabotage.py`, in all lives
    patience: float = story.PATIENCE  # seconds until a wait in the story has failed
    closing: bool = False  # the steps are counted from the story's end on
    newer: bool = False  # from the counted life on, the schema has one version more


class Trial(Struct):
    """What became of one store."""

    deadly: int
    where: str | None  # the last crash; None if nothing was left to crash at
    problems: list[str] = []


class Life(Struct):
    """What was said in one."""

    lines: list[tuple[str, Any, Any]]

    def said(self, kind: str) -> list[Any]:
        return [what for said, what, _ in self.lines if said == kind]


def live(plan: Plan, path: Path, deadly: int, done: dict[str, Any], out: int, *, newer: bool) -> None:
    """One life of an owner, in a process of its own; ends it."""

    def say(*line: Any) -> None:
        os.write(out, json.dumps(line).encode() + b"\n")

    steps = Steps(0 if plan.closing else deadly, lambda what: say("died", what, None))
    try:
        tidy_often()
        if plan.sabotage:
            getattr(sabotage, plan.sabotage)()
        if newer:
            schema_steps.STEPS.append(later)
        steps.watch(str(path.parent))
        with Runtime(path, durability=plan.durability, **story.OPTIONS) as runtime:
            say("up", steps.count, None)
            story.tell(story.Client(runtime, say, done))
            for problem in ended_wrong(runtime):
                say("problem", problem, None)
            if plan.closing:
                steps.arm(deadly)
        say("ended", steps.count, None)
    except BaseException:
        say("problem", traceback.format_exc(), None)
    finally:
        os._exit(0)


def ended_wrong(runtime: Runtime) -> list[str]:
    """How the end differs from the end without a crash."""
    found = []
    states = {info.path: runtime.agent(info.path).state() for info in runtime.list()}
    if states != story.STATES:
        found.append(f"it came to {states}")
    for run_id, expected in story.OUTCOMES.items():
        outcome = runtime.run(run_id).outcome(timeout=story.PATIENCE)
        if [outcome.status, outcome.result] != expected:
            found.append(f"{run_id} came to {outcome}")
    for info in runtime.list():
        if info.status != "idle" or info.inbox or info.queued_runs:
            found.append(f"{info.path} is {info.status} at the end, {info.inbox} unread")
    config = {info.path: info.config for info in runtime.list()}
    if config["/story/a"] != {"k": 1, "none": None}:
        found.append(f"the configs are {config}")
    return found


def fork(plan: Plan, path: Path, deadly: int, done: dict[str, Any], *, newer: bool) -> Life:
    """Have one life lived, and return what was said in it."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inlet)
        live(plan, path, deadly, done, outlet, newer=newer)
    os.close(outlet)
    said = bytearray()
    deadline = time.monotonic() + LONGEST
    while True:
        ready, _, _ = select.select([inlet], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(inlet, 1 << 16) if ready else b""
        if not part:
            break
        said += part
    os.close(inlet)
    lines = [tuple(json.loads(line)) for line in said.splitlines()]
    if time.monotonic() >= deadline:
        os.kill(child, signal.SIGKILL)
        last = [step for kind, step, _ in lines if kind == "asks"][-1:]
        lines.append(("problem", f"it hangs at {last}", None))
    os.waitpid(child, 0)
    return Life(lines)


def one(plan: Plan, folder: Path, deadly: int) -> Trial:
    """A store from its making to the story's end."""
    path = folder / "agents.db"
    trial = Trial(deadly, None)
    notes: list[tuple[str, str, Any]] = []
    done: dict[str, Any] = {}
    for number, step in enumerate((*plan.before, deadly, 0)):
        counted = number >= len(plan.before)
        life = fork(plan, path, step, dict(done), newer=plan.newer and counted)
        notes += [line for line in life.lines if line[0] in ("asks", "told")]
        promises = Promises.of(notes)
        done.update(promises.told)
        trial.problems += [f"life {number}: {what}" for what in life.said("problem")]
        died = life.said("died")
        if path.exists():
            rest = Rest.of(path)
            found = torn(rest) + broken(rest, promises)
            trial.problems += [f"after life {number}, {died}: {problem}" for problem in found]
        if counted and step:
            trial.where = died[-1] if died else None
        if trial.problems or not died:
            break
    return trial


def later(db: Any) -> None:
    """A step of the schema as a later version might take it."""
    db.execute("ALTER TABLE agents ADD COLUMN later TEXT")
    db.execute("CREATE TABLE later (id INTEGER PRIMARY KEY, at REAL)")
    db.execute("INSERT INTO later SELECT agent_id, created_at FROM agents")
    db.execute("CREATE INDEX agents_later ON agents(later)")


def main(plan: Plan) -> None:
    import sqlite_utils  # noqa: F401  # here, once, and not in every life

    story.PATIENCE = plan.patience
    wrong = 0
    for deadly in range(plan.first, plan.last + 1, plan.stride):
        folder = Path(tempfile.mkdtemp(dir=plan.folder))
        trial = one(plan, folder, deadly)
        print(msgspec.json.encode(trial).decode(), flush=True)
        if not trial.problems:
            shutil.rmtree(folder)
        wrong += bool(trial.problems)
        if trial.where is None or wrong == ENOUGH:
            break


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Plan))
