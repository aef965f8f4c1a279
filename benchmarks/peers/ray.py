"""Ray: actors on one machine, each a process; of which four are what two cores bear.

Where there are many agents, its manual has one asynchronous actor do them all (`AsyncIO for Actors`): so
the runs of many and the turns that wait are calls of one such actor, and the agents a dict in it. It stores
nothing on disk. Messages between objects within one actor are no messages of Ray's, and the call that makes
an actor answers before there is one, so these are left out.
"""

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # or it leaves one in the home folder

import ray

from peers.contest import (
    PAUSE,
    SLOTS,
    Contest,
    Rounds,
    pick,
    resident_kib,
    right,
    squares,
    sum_of,
    to_ideal,
)

FEW = 4
EACH = "an actor is a process"
MANY = "agents in a dict of one async actor; nothing is stored"
contest = Contest("ray", note="")


@ray.remote(num_cpus=0)
class Child:
    def __init__(self) -> None:
        self.turns = 0

    def ball(self, number: int) -> int:
        return number + 1

    def count(self) -> int:
        self.turns += 1
        return self.turns


@ray.remote(num_cpus=0)
class Parent:
    """Calls its children, each a process."""

    def __init__(self, children: list[Any]) -> None:
        self.children = children

    def fan(self, times: int) -> int:
        total = 0
        for _ in range(times):
            sent = [child.ball.remote(number) for number, child in enumerate(self.children)]
            total += sum(ray.get(sent))
        return total

    def rally(self, times: int) -> int:
        number = 0
        for _ in range(times):
            number = ray.get(self.children[0].ball.remote(number))
        return number


@ray.remote(num_cpus=0)
class Many:
    """Agents by number: how many turns each has had."""

    def __init__(self) -> None:
        self.turns: dict[int, int] = {}

    async def square(self, agent: int, number: int) -> int:
        self.turns[agent] = self.turns.get(agent, 0) + 1
        return number * number

    async def wait(self, agent: int, seconds: float) -> int:
        await asyncio.sleep(seconds)
        self.turns[agent] = self.turns.get(agent, 0) + 1
        return self.turns[agent]


@ray.remote(num_cpus=0)
class ParentOfMany:
    def __init__(self, many: Any) -> None:
        self.many = many

    async def squares(self, children: int) -> int:
        sent = (self.many.square.remote(agent, agent) for agent in range(children))
        return sum(await asyncio.gather(*sent))


@contextmanager
def started() -> Generator[None, None, None]:
    """A cluster of this machine alone, of which nothing is left."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": here}},
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()


def messages(number: int, what: str, times: int) -> Rounds:
    with started():
        parent = Parent.remote([Child.remote() for _ in range(number)])
        ray.get(parent.fan.remote(1))
        while True:
            begun = time.perf_counter()
            total = ray.get(getattr(parent, what).remote(times))
            seconds = time.perf_counter() - begun
            right("the sum", total, times * sum_of(number) if what == "fan" else times)
            yield [2 * times * (number if what == "fan" else 1) / seconds]


contest.does("fan-out 1,000", FEW, "fan", pick(100, 5), note=f"{EACH}, {FEW} actors")(messages)
contest.does("ping-pong", 1, "rally", pick(300, 20), note=EACH)(messages)


@contest.does("runs 1,000", pick(1_000, 50), note=MANY)
@contest.does("runs 10,000", pick(2_000, 200), note=f"{MANY}; 2,000 agents")
def runs(number: int) -> Rounds:
    with started():
        parent = ParentOfMany.remote(Many.options(max_concurrency=1_000).remote())
        ray.get(parent.squares.remote(1))
        while True:
            begun = time.perf_counter()
            right("the sum of squares", ray.get(parent.squares.remote(number)), squares(number))
            yield [(number + 1) / (time.perf_counter() - begun)]


@contest.does("spawn 1,000", FEW, note=f"{EACH}, {FEW} actors; ready: has answered once")
def spawn(number: int) -> Rounds:
    with started():
        while True:
            begun = time.perf_counter()
            made = [Child.remote() for _ in range(number)]
            right("first answers", ray.get([child.count.remote() for child in made]), [1] * number)
            yield [number / (time.perf_counter() - begun)]
            for child in made:
                ray.kill(child)


@contest.does("io", pick(1_000, 128), note=f"{MANY}, with max_concurrency=64")
def io(turns: int) -> Rounds:
    with started():
        many = Many.options(max_concurrency=SLOTS).remote()
        ray.get([many.wait.remote(agent, 0) for agent in range(turns)])
        done = 1
        while True:
            done += 1
            begun = time.perf_counter()
            told = ray.get([many.wait.remote(agent, PAUSE) for agent in range(turns)])
            seconds = time.perf_counter() - begun
            right("turns", told, [done] * turns)
            yield [to_ideal(seconds, turns)]


@contest.does("memory", 1, FEW, note=f"{EACH}, {FEW} actors; has answered once")
def memory(few: int, number: int) -> Rounds:
    with started():
        first = [Child.remote() for _ in range(few)]
        ray.get([child.count.remote() for child in first])
        before = resident_kib()
        made = [Child.remote() for _ in range(number)]
        ray.get([child.count.remote() for child in made])
        yield [(resident_kib() - before) / number]


if __name__ == "__main__":
    contest.main()
