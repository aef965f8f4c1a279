"""The model, driven by a seed: faster than by Hypothesis, for thousands of schedules.

python -m tests.simulation.driver 17                # tell the story of one seed again, with its trace
python -m tests.simulation.driver --first 0 --count 2000 --processes 2
python -m tests.simulation.driver --narrow 17       # with tables and batches that are full at once
"""

import argparse
import gc
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from greenroom import Retention
from greenroom.persistence.doctor import examine
from greenroom.testing import Faults, Simulation

from .calls import Model
from .guarantees import check_at_rest, check_now
from .narrow import BOUNDS
from .scripts import EXECUTING, KINDS, House, Script, once, plain, worker
from .specification import LEVELS

PATHS = ("/a", "/a/b", "/a/b/c", "/d", "/d/e", "/f")
FAULTS = (
    Faults(),
    Faults(commit_fails=0.2),
    Faults(read_fails=0.2),
    Faults(crash=0.005),
    Faults(crash=0.005, power=0.5),
    Faults(crash=0.002, commit_fails=0.1, read_fails=0.1),
    Faults(turn_raises=0.1, turn_cancels=0.05, turn_hangs=0.05),
)
JUMPS = (0.0, 0.0, 1e6, -1e6, 30.0)
"""By how much the wall clock is wrong, from then on."""

SHORT = Retention(run_age=400.0, runs=2, event_age=400.0, events=10, closed_age=400.0, closed=1)
"""What goes after five minutes, if there is more than a little of it, and all of it soon after."""


class World:
    """How one story is told: its numbers, drawn once."""

    def __init__(self, draw: random.Random) -> None:
        self.slots, self.residents = draw.randrange(1, 4), draw.randrange(1, 5)
        self.level = draw.choice(["process", "process", "power", "memory"])
        self.levels = [None, None, *LEVELS] if draw.random() < 0.5 else [None]
        self.retention = SHORT if draw.random() < 0.15 else Retention()
        self.backlog = 8 if draw.random() < 0.05 else 100_000
        self.trouble = draw.random() < 0.6  # in the other stories nothing dies and no disk fails


def kind_for(path: str, draw: random.Random) -> Any:
    """Any kind; some paths have workers that begin at most once."""
    kind = draw.choice([worker, worker, plain, House])
    return once if kind is worker and path in ("/d", "/f") else kind


def script(draw: random.Random, path: str, *, trouble: bool = True) -> Script:
    """Any script: most of them plain, each of them possible."""

    def sometimes(value: Any, otherwise: Any, often: float = 0.2) -> Any:
        return value if draw.random() < often else otherwise

    children = sometimes(draw.randrange(1, 3), 0)
    own = [other for other in PATHS if other[:2] == path[:2]]
    return Script(
        sleeps=sometimes(draw.choice([0.001, 0.1, 5.0]), 0.0, 0.5),
        steps=draw.randrange(3),
        emits=sometimes(True, False, 0.1),
        sends=sometimes(draw.choice(own), None),
        interrupts=sometimes(draw.choice(own), None, 0.05),
        lists=sometimes(True, False, 0.1),
        children=children,
        child_sleeps=sometimes(3.0, 0.0),
        patience=sometimes(draw.choice([0.0, 1.0, 10.0]), None),
        after=bool(children) and draw.random() < 0.4,
        checkpoint=sometimes(True, False),
        reaches=sometimes(draw.choice([other for other in PATHS if other[:2] != path[:2]]), None, 0.1),
        aside=sometimes(True, False),
        pauses=sometimes(True, False),
        circles=sometimes(True, False, 0.1),
        fails=sometimes(True, False),
        unspeakable=sometimes(True, False),
        dies=sometimes(True, False, 0.03) and trouble,
        hangs=draw.random() < 0.05,
    )


def tell(seed: int, *, mistake: str | None = None, narrow: bool = False) -> Simulation:
    """One random story of the model, checked at each step and at its end. Raises what is wrong.

    `mistake` and `narrow` say what the command has done to the runtime: planted one, lowered its bounds.
    """
    simulation = simulate(seed, mistake=mistake, narrow=narrow)
    the_doctor_finds_nothing(simulation)
    return simulation


def simulate(seed: int, *, steps: int = 15, mistake: str | None = None, narrow: bool = False) -> Simulation:
    """The same, but for what is examined when the simulation is over."""
    draw = random.Random(f"story {seed}")
    world = World(draw)
    simulation = Simulation(
        seed=seed,
        slots=world.slots,
        residents=world.residents,
        durability=world.level,  # type: ignore[arg-type]
        backlog=world.backlog,
        retention=world.retention,
        kinds=KINDS,
        again=f"python -m tests.simulation.driver {seed}"
        + (f" --mistake {mistake}" if mistake else "")
        + (" --narrow" if narrow else ""),
    )
    with simulation:
        model = Model(simulation, slots=world.slots, residents=world.residents, level=world.level)
        EXECUTING.houses_die = world.trouble and draw.random() < 0.3
        model.spec.least_age = SHORT.least_age if world.retention is SHORT else None
        first = [(path, kind_for(path, draw)) for path in draw.sample(PATHS, 3)]
        if narrow:
            model.spawn_at_once(first)
        else:
            for path, kind in first:
                model.spawn(path, kind)
        for _ in range(steps):
            step(model, draw, world)
            check_now(model)
        check_at_rest(model)
    return simulation


def the_doctor_finds_nothing(simulation: Simulation) -> None:
    """All that can be checked in the file that is left."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "store.db")
        simulation.save(file)
        findings = [each for each in examine(file).findings if each.severity != "note"]
    assert not findings, f"G3: in the file: {findings}"


def step(model: Model, draw: random.Random, world: World) -> None:
    """One call, or some time, or some trouble."""
    simulation = model.simulation
    if not simulation.is_up:
        model.reopen()
        return
    path = draw.choice(PATHS)
    known = sorted(life.path for life in model.spec.open()) or [path]
    used = draw.choice(known) if draw.random() < 0.9 else path
    runs = list(model.spec.runs)[-4:]
    level: Any = draw.choice(world.levels)
    match draw.randrange(35 if world.trouble else 26):
        case 0 | 1:
            kind = kind_for(path, draw)
            model.spawn(path, kind, level, callers=draw.choice([1, 1, 3]))
        case 2 | 3 | 4 | 5 | 6 | 7:
            paths = [used] if draw.random() < 0.5 else [draw.choice(known) for _ in range(4)]
            paths *= draw.choice([1, 1, 3])
            evicting = used if draw.random() < 0.3 else None
            model.followups(
                [(at, script(draw, at, trouble=world.trouble)) for at in paths], evicting, level
            )
        case 8:
            model.send(used, level)
        case 9 | 10:
            model.interrupt(used, cascade=draw.random() < 0.3)
        case 11:
            if runs:
                run = model.spec.runs[draw.choice(runs)]
                model.interrupt(run.path, run_id=run.run_id)
        case 12:
            model.close_agent(used, erase=draw.random() < 0.3)
        case 13:
            model.evict(used)
        case 14 | 15 | 16 | 17 | 18:
            long = 1000.0 if world.retention is SHORT else 100.0
            model.advance(draw.choice([0.001, 0.03, 0.3, 3.0, long]))
        case 19 | 20:
            if runs:
                give_again(model, draw.choice(runs), draw, level)
        case 21:
            model.pin(used, pinned=draw.random() < 0.6)
        case 22 | 23:
            if runs:
                model.hear(draw.choice(runs), draw.choice([0.0, 0.1, 10.0]))
        case 24:
            model.wait_any(runs, draw.choice([0.0, 1.0]))
        case 25:
            flood(model, draw, level)
        case 26 | 27:
            model.crash(power=draw.random() < 0.5)
        case 28:
            model.close(draw.choice([0.0, 1.0, 50.0]), interrupt=draw.random() < 0.3)
        case 29 | 30:
            model.trouble(draw.choice(FAULTS))
        case 31 | 32:
            model.clock_jumps(draw.choice(JUMPS))
        case 33:
            model.put_store_back() if model.store_is_away else model.take_store_away()
        case _:
            simulation.faults()
            model.settle()


def flood(model: Model, draw: random.Random, level: Any) -> None:
    """Very much for one agent, and a little for all others."""
    known = sorted(life.path for life in model.spec.open())
    if known:
        busy = draw.choice(known)
        load = [(busy, Script(sleeps=draw.choice([0.0, 0.1]))) for _ in range(30)]
        model.followups(load + [(path, Script()) for path in known], None, level)


def give_again(model: Model, run_id: str, draw: random.Random, level: Any) -> None:
    """An id that was given before, in some way; or one that the runtime has made."""
    match draw.randrange(8):
        case 0:
            model.again(run_id, level, other=True)
        case 1 | 2:
            model.spawn_again(run_id, other=draw.random() < 0.5)
        case 3:
            own = [event.run_id for event in model.witness.events.values() if is_own(event.run_id)]
            model.reserved(model.spec.runs[run_id].path, draw.choice([*own, "run-1-1"]))
        case _:
            model.again(run_id, level)


def is_own(run_id: str | None) -> bool:
    """Whether the runtime has made it."""
    return run_id is not None and run_id.startswith("run-")


# The command


def told(seed: int, mistake: str | None, narrow: bool) -> tuple[int, int, str]:
    """The seed, the steps of its story, and what went wrong in it, with how to repeat it."""
    try:
        return seed, tell(seed, mistake=mistake, narrow=narrow).loop.steps, ""
    except (Exception, SystemExit) as error:
        return seed, 0, "".join(traceback.format_exception(error))


def prepare(mistake: str | None, narrow: bool) -> None:
    """Faults that were asked for are no news, nor are coroutines that a crash cut off."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    gc.freeze()  # what is imported by now stays: a sixth of the time went into looking at it again
    for module, bound, least in BOUNDS if narrow else ():
        setattr(module, bound, least)
    if mistake is not None:
        import pytest  # only now: exploring does without

        from .old_faults import PLANTED

        PLANTED[mistake](pytest.MonkeyPatch())


def explore(first: int, count: int, processes: int, mistake: str | None, narrow: bool) -> int:
    """Tell `count` stories and print what was wrong, and how many there were a second; 1 if any was."""
    begun, steps, failed = time.perf_counter(), 0, 0
    with multiprocessing.get_context("spawn").Pool(processes, prepare, (mistake, narrow)) as pool:
        stories = partial(told, mistake=mistake, narrow=narrow)
        for seed, taken, problem in pool.imap_unordered(stories, range(first, first + count), chunksize=10):
            steps, failed = steps + taken, failed + bool(problem)
            if problem:
                print(f"seed {seed}: {problem}", file=sys.stderr, flush=True)
    took = time.perf_counter() - begun
    print(
        f"{count:,} schedules of the model, {steps:,} steps, {failed} failed; "
        f"{took:.1f} s on {processes} processes, {count / took:.1f} schedules/s"
    )
    return int(failed > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="tell this one's story, with its trace")
    parser.add_argument("--first", type=int, default=0, help="the first seed of many")
    parser.add_argument("--count", type=int, default=2_000, help="how many")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--mistake",
        help="have the runtime make it: a name of tests/simulation/mistakes.py or old_faults.py",
    )
    parser.add_argument("--narrow", action="store_true", help="tables and batches are full at once")
    options = parser.parse_args()
    if options.seed is None:
        return explore(options.first, options.count, options.processes, options.mistake, options.narrow)
    prepare(options.mistake, options.narrow)
    print(tell(options.seed, mistake=options.mistake, narrow=options.narrow).trace())
    print(f"seed {options.seed}: nothing wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
