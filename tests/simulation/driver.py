"""The model, driven by a seed: faster than by Hypothesis, for thousands of schedules."""

import random
from typing import Any

from greenroom.testing import Faults, Simulation

from .model import KINDS, House, Model, Script, plain, worker

PATHS = ("/a", "/a/b", "/a/b/c", "/d", "/d/e", "/f")
FAULTS = (
    Faults(),
    Faults(commit_fails=0.2),
    Faults(read_fails=0.2),
    Faults(crash=0.005),
    Faults(crash=0.002, commit_fails=0.1, read_fails=0.1),
    Faults(turn_raises=0.1, turn_cancels=0.05, turn_hangs=0.05),
)


def script(draw: random.Random, path: str) -> Script:
    """Any script: most of them plain, each of them possible."""

    def sometimes(value: Any, otherwise: Any, often: float = 0.2) -> Any:
        return value if draw.random() < often else otherwise

    children = sometimes(draw.randrange(1, 3), 0)
    return Script(
        sleeps=sometimes(draw.choice([0.001, 0.1, 5.0]), 0.0, 0.5),
        steps=draw.randrange(3),
        sends=sometimes(draw.choice([other for other in PATHS if other[:2] == path[:2]]), None),
        children=children,
        after=bool(children) and draw.random() < 0.4,
        checkpoint=sometimes(True, False),
        reaches=sometimes(draw.choice([other for other in PATHS if other[:2] != path[:2]]), None),
        aside=sometimes(True, False),
        pauses=sometimes(True, False),
        fails=sometimes(True, False),
        hangs=draw.random() < 0.05,
    )


def tell(seed: int, *, steps: int = 15) -> Simulation:
    """One random story of the model, checked at each step and at its end. Raises what is wrong."""
    draw = random.Random(f"story {seed}")
    slots, residents = draw.randrange(1, 4), draw.randrange(1, 5)
    durability = draw.choice(["process", "power"])
    trouble = draw.random() < 0.6  # in the other stories nothing dies and no disk fails
    simulation = Simulation(
        seed=seed,
        slots=slots,
        residents=residents,
        durability=durability,
        kinds=KINDS,
        name=f"driver.tell({seed})",
    )
    with simulation:
        model = Model(simulation, slots=slots, residents=residents)
        for path in draw.sample(PATHS, 3):
            model.spawn(path, draw.choice([worker, worker, plain, House]))
        for _ in range(steps):
            step(model, draw, trouble=trouble, power=durability == "power")
            model.check_now()
        model.check_at_rest()
    return simulation


def step(model: Model, draw: random.Random, *, trouble: bool, power: bool) -> None:
    """One call, or some time, or some trouble."""
    simulation = model.simulation
    if not simulation.is_up:
        model.reopen()
        return
    path = draw.choice(PATHS)
    used = draw.choice(sorted(model.open)) if model.open and draw.random() < 0.9 else path
    match draw.randrange(25 if trouble else 19):
        case 0 | 1:
            model.spawn(path, draw.choice([worker, worker, plain, House]))
        case 2 | 3 | 4 | 5 | 6 | 7:
            known = sorted(model.open) or [path]
            paths = [used] if draw.random() < 0.5 else [draw.choice(known) for _ in range(4)]
            paths *= draw.choice([1, 1, 3])
            evicting = used if draw.random() < 0.3 else None
            model.followups([(at, script(draw, at)) for at in paths], evicting)
        case 8:
            model.send(used)
        case 9 | 10 | 11:
            model.interrupt(used, cascade=draw.random() < 0.3)
        case 12:
            model.close_agent(used, erase=draw.random() < 0.3)
        case 13:
            model.evict(used)
        case 14 | 15 | 16 | 17:
            model.attempt(lambda: simulation.advance(draw.choice([0.001, 0.03, 0.3, 3.0, 100.0])))
        case 18:
            if model.runs:
                model.again(draw.choice(list(model.runs)[-4:]))
        case 19:
            model.crash(power=power and draw.random() < 0.5)
        case 20:
            model.close(draw.choice([0.0, 1.0, 50.0]), suspend=draw.random() < 0.5)
        case 21 | 22 | 23:
            model.trouble(draw.choice(FAULTS))
        case _:
            simulation.faults()
            model.settle()
