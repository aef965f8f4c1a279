"""Actors that do nothing but answer, for any Thespian base; and the same by hand, as tasks with queues.

    python -m common.hops multiprocTCPBase --actors 20 --port 19000

measures one base in a process of its own, which its caller can end: some bases never come to their end.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import click
import msgspec
from msgspec import Struct
from thespian.actors import Actor, ActorAddress, ActorExitRequest, ActorSystem

from .check import WrongResult, equal

PATIENCE = 20.0
"""Seconds that an answer may take before it is lost."""


class Make(Struct, frozen=True):
    """Have so many children, each of which has answered once; answered with their number."""

    number: int


class Fan(Struct, frozen=True):
    """Send each child a number and add up the answers, so many times; answered with seconds and sum."""

    times: int


class Rally(Struct, frozen=True):
    """Exchange a number with the first child so many times; answered with seconds and the number."""

    times: int


class Rest(Struct, frozen=True):
    """Have so many wake-ups pending, an hour from now; answered with their number."""

    wakeups: int


class Ball(Struct, frozen=True):
    number: int


class Child(Actor):
    """Answers with one more."""

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if type(message) is Ball:
            self.send(sender, Ball(message.number + 1))


class Parent(Actor):
    """Does one exercise at a time, for whoever asked."""

    def __init__(self) -> None:
        super().__init__()
        self.children: list[ActorAddress] = []
        self.asker: Any = None
        self.begun = 0.0
        self.awaited = 0  # answers in this round
        self.left = 0  # rounds
        self.sum = 0
        self.fans = False

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if type(message) is Ball:
            self.heard(message.number)
        elif type(message) is Make:
            self.children = [self.createActor(Child) for _ in range(message.number)]
            self.begin(sender, 1, fans=True)
        elif type(message) is Fan:
            self.begin(sender, message.times, fans=True)
        elif type(message) is Rally:
            self.begin(sender, message.times, fans=False)
        elif type(message) is Rest:
            for _ in range(message.wakeups):
                self.wakeupAfter(3_600)
            self.send(sender, message.wakeups)

    def begin(self, sender: ActorAddress, times: int, *, fans: bool) -> None:
        self.asker, self.left, self.sum, self.fans = sender, times, 0, fans
        self.begun = time.perf_counter()
        self.go()

    def go(self) -> None:
        if self.fans:
            self.awaited = len(self.children)
            for number, child in enumerate(self.children):
                self.send(child, Ball(number))
        else:
            self.awaited = 1
            self.send(self.children[0], Ball(self.sum))

    def heard(self, number: int) -> None:
        self.sum = self.sum + number if self.fans else number
        self.awaited -= 1
        if self.awaited:
            return
        self.left -= 1
        if self.left:
            self.go()
        else:
            self.send(self.asker, (time.perf_counter() - self.begun, self.sum))


class Team:
    """A parent with children on a base, asked from outside. Raises `WrongResult`, also for what is lost."""

    def __init__(self, base: Any, number: int, capabilities: dict[str, Any] | None = None) -> None:
        self.number = number
        self.system = ActorSystem(base, capabilities, transientUnique=True)
        self.parent = self.system.createActor(Parent)
        _, total = self._ask(Make(number))
        equal("the sum of the first answers", total, sum_of(number))

    def fan(self, times: int) -> float:
        """Messages a second, both ways."""
        seconds, total = self._ask(Fan(times))
        equal("the sum of all answers", total, times * sum_of(self.number))
        return float(2 * times * self.number / seconds)

    def rally(self, times: int) -> float:
        """Messages a second, both ways, with one under way at a time."""
        seconds, number = self._ask(Rally(times))
        equal("how often the number was raised", number, times)
        return float(2 * times / seconds)

    def rest(self, wakeups: int) -> None:
        """Have that many wake-ups pending."""
        equal("pending wake-ups", self._ask(Rest(wakeups)), wakeups)

    def close(self) -> None:
        self.system.tell(self.parent, ActorExitRequest())
        self.system.shutdown()

    def _ask(self, message: Any) -> Any:
        answer = self.system.ask(self.parent, message, PATIENCE)
        if answer is None:
            raise WrongResult(f"no answer to {message} within {PATIENCE:.0f} s")
        return answer


class Tasks:
    """The same as tasks with queues."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._inbox: asyncio.Queue[Ball] = asyncio.Queue()
        self._queues: list[asyncio.Queue[tuple[asyncio.Queue[Ball], Ball]]] = []
        self._tasks = []
        for _ in range(number):
            queue: asyncio.Queue[tuple[asyncio.Queue[Ball], Ball]] = asyncio.Queue()
            self._queues.append(queue)
            self._tasks.append(asyncio.create_task(self._live(queue)))

    async def _live(self, queue: "asyncio.Queue[tuple[asyncio.Queue[Ball], Ball]]") -> None:
        while True:
            sender, message = await queue.get()
            sender.put_nowait(Ball(message.number + 1))

    async def fan(self, times: int) -> float:
        inbox, total = self._inbox, 0
        begun = time.perf_counter()
        for _ in range(times):
            for number, queue in enumerate(self._queues):
                queue.put_nowait((inbox, Ball(number)))
            for _ in self._queues:
                total += (await inbox.get()).number
        seconds = time.perf_counter() - begun
        equal("the sum of all answers", total, times * sum_of(self.number))
        return 2 * times * self.number / seconds

    async def rally(self, times: int) -> float:
        inbox, queue, number = self._inbox, self._queues[0], 0
        begun = time.perf_counter()
        for _ in range(times):
            queue.put_nowait((inbox, Ball(number)))
            number = (await inbox.get()).number
        seconds = time.perf_counter() - begun
        equal("how often the number was raised", number, times)
        return 2 * times / seconds

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def sum_of(number: int) -> int:
    """What a fan adds up to: 1 + 2 + … + number."""
    return number * (number + 1) // 2


@click.command()
@click.argument("base")
@click.option("--actors", type=int, required=True)
@click.option("--port", type=int, required=True, help="For its admin.")
@click.option("--rounds", type=int, default=5)
def one_base(base: str, actors: int, port: int, rounds: int) -> None:
    """Print as JSON what a base does; each figure as soon as there is one."""
    told: dict[str, float] = {}

    def note(name: str, measure: Callable[[], float]) -> None:
        told[name] = sorted(measure() for _ in range(rounds))[rounds // 2]
        print(msgspec.json.encode(told).decode(), flush=True)

    team = Team(base, actors, {"Admin Port": port})
    note("rally", lambda: team.rally(50))
    note("fan", lambda: team.fan(1))
    team.close()


if __name__ == "__main__":
    try:
        one_base.main(standalone_mode=False)
    except WrongResult as error:
        sys.exit(str(error))
