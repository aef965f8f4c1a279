"""The work that agents and the floor do alike, and the kinds that do it."""

import asyncio
import random
from typing import Any

from greenroom import Turn, agent

NOTES, NOTE = 20, 96
"""A state is that many texts of that many characters: 2 KiB as bytes."""


def new_state() -> dict[str, Any]:
    """2 KiB of state."""
    return {"n": 0, "notes": ["-" * NOTE for _ in range(NOTES)]}


def advance(state: dict[str, Any], input: int) -> int:
    """A turn's work: count, and rewrite one note. Returns how often it was done."""
    state["n"] += 1
    state["notes"][state["n"] % NOTES] = f"{input:>{NOTE}}"
    return int(state["n"])


@agent(name="bench.keeper", state=new_state)
async def keeper(turn: Turn) -> int:
    """Has 2 KiB of state and changes it."""
    return advance(turn.state, turn.input)


@agent(name="bench.trivial")
async def trivial(turn: Turn) -> int:
    """Counts."""
    turn.state["n"] = turn.state.get("n", 0) + 1
    return int(turn.state["n"])


@agent(name="bench.sleeper")
async def sleeper(turn: Turn) -> int:
    """Waits for something outside, for as many seconds as it is told, and counts."""
    await asyncio.sleep(turn.input)
    turn.state["n"] = turn.state.get("n", 0) + 1
    return int(turn.state["n"])


@agent(name="bench.square")
async def square(turn: Turn) -> int:
    """The smallest answer that can be wrong."""
    return int(turn.input * turn.input)


# Access: which of so many agents the next turn is for


def uniform(known: int, turns: int, seed: int) -> list[int]:
    """Any of them, equally often."""
    return random.Random(seed).choices(range(known), k=turns)


def zipf(known: int, turns: int, seed: int) -> list[int]:
    """The k-th most popular with a frequency of 1/k; who is popular has nothing to do with numbers."""
    chance = random.Random(seed)
    ranked = chance.sample(range(known), known)
    return chance.choices(ranked, weights=[1 / rank for rank in range(1, known + 1)], k=turns)


def loop(known: int, turns: int, seed: int) -> list[int]:
    """All in turn, again and again: the worst case of an LRU."""
    del seed
    return [number % known for number in range(turns)]


def hotspot(known: int, turns: int, seed: int) -> list[int]:
    """Nine of ten turns for one hundredth of them."""
    chance = random.Random(seed)
    hot = max(1, known // 100)
    return [chance.randrange(hot if chance.random() < 0.9 else known) for _ in range(turns)]


ACCESS = {"uniform": uniform, "Zipf": zipf, "loop": loop, "hotspot": hotspot}
