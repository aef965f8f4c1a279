"""Thespian's own system bases: all actors in one thread, or a process for each.

An actor is told messages and cannot wait for an answer, so there are no runs here and no turns that wait.
With a process for each actor, ten of them are what two cores bear.
"""

import random
import time
from typing import Any

from thespian.actors import Actor, ActorAddress, ActorExitRequest, ActorSystem

from peers.contest import Contest, Rounds, microseconds, pick, resident_kib, right, sum_of

contest = Contest(
    "thespian",
    note="",
    variants=("simpleSystemBase", "multiprocTCPBase", "multiprocQueueBase"),
)
SIMPLE = contest.variant == "simpleSystemBase"
PATIENCE = 30.0
FEW = 10


class Child(Actor):
    """Adds one or counts, as it is told."""

    turns = 0

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        match message:
            case ("ball", number):
                self.send(sender, ("heard", number + 1))
            case "count":
                self.turns += 1
                self.send(sender, self.turns)


class Parent(Actor):
    """Does one exercise at a time, for whoever asked: makes children, or has them answer so many times."""

    def __init__(self) -> None:
        super().__init__()
        self.children: list[Any] = []
        self.asker: Any = None
        self.what, self.times, self.awaited, self.total = "", 0, 0, 0
        self.begun = 0.0

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        match message:
            case ("heard", number):
                self.heard(number)
            case ("make", number):
                self.begin(sender, "ball", 1)
                self.children += [self.createActor(Child) for _ in range(number)]
                self.go()
            case ("ball" | "rally" as what, times):
                self.begin(sender, what, times)
                self.go()

    def begin(self, asker: Any, what: str, times: int) -> None:
        self.asker, self.what, self.times, self.total = asker, what, times, 0
        self.begun = time.perf_counter()

    def go(self) -> None:
        if self.what == "rally":
            self.awaited = 1
            self.send(self.children[0], ("ball", self.total))
            return
        self.awaited = len(self.children)
        for number, child in enumerate(self.children):
            self.send(child, ("ball", number))

    def heard(self, number: int) -> None:
        self.total = number if self.what == "rally" else self.total + number
        self.awaited -= 1
        if self.awaited == 0:
            self.times -= 1
            if self.times:
                self.go()
            else:
                self.send(self.asker, (time.perf_counter() - self.begun, self.total))


class Team:
    """A parent on a new system, asked from outside."""

    def __init__(self) -> None:
        port = {} if SIMPLE else {"Admin Port": random.randint(20_000, 50_000)}
        self.system = ActorSystem(contest.variant, port, transientUnique=True)
        self.parent = self.system.createActor(Parent)

    def ask(self, what: str, times: int) -> Any:
        answer = self.system.ask(self.parent, (what, times), PATIENCE)
        right("that an answer came", answer is not None, True)
        return answer

    def close(self) -> None:
        self.system.tell(self.parent, ActorExitRequest())
        self.system.shutdown()


def messages(number: int, what: str, times: int) -> Rounds:
    team = Team()
    try:
        team.ask("make", number)
        while True:
            seconds, total = team.ask(what, times)
            right("the sum", total, times * sum_of(number) if what == "ball" else times)
            yield [2 * times * (number if what == "ball" else 1) / seconds]
    finally:
        team.close()


def waits(number: int) -> Rounds:
    team = Team()
    try:
        while True:
            times, made = [], []
            for _ in range(number):
                begun = time.perf_counter()
                made.append(team.system.createActor(Child))
                times.append(time.perf_counter() - begun)
            answers = [team.system.ask(child, "count", PATIENCE) for child in made]
            right("first answers", answers, [1] * number)
            for child in made:
                team.system.tell(child, ActorExitRequest())
            yield microseconds(times)
    finally:
        team.close()


def spawn(number: int) -> Rounds:
    while True:
        team = Team()
        try:
            seconds, total = team.ask("make", number)
            right("the sum of first answers", total, sum_of(number))
            yield [number / seconds]
        finally:
            team.close()


def memory(few: int, number: int) -> Rounds:
    team = Team()
    try:
        team.ask("make", few)
        before = resident_kib()
        team.ask("make", number)
        yield [(resident_kib() - before) / number]
    finally:
        team.close()


READY = "ready: has answered once"
if SIMPLE:
    contest.does("fan-out 1,000", pick(1_000, 50), "ball", pick(50, 2))(messages)
    contest.does("fan-out 10,000", pick(10_000, 200), "ball", pick(5, 1))(messages)
    contest.does("ping-pong", 1, "rally", pick(20_000, 50))(messages)
    contest.does("wait", pick(1_000, 50))(waits)
    contest.does("spawn 1,000", pick(1_000, 50), note=READY)(spawn)
    contest.does("spawn 10,000", pick(10_000, 200), note=READY)(spawn)
    contest.does("memory", 1_000, pick(10_000, 500), note="has answered once")(memory)
else:
    SMALL = f"{FEW} actors, a process each"
    contest.does("fan-out 1,000", FEW, "ball", pick(20, 2), note=SMALL)(messages)
    contest.does("ping-pong", 1, "rally", pick(300, 20), note="a process each")(messages)
    contest.does("wait", FEW, note=SMALL)(waits)
    contest.does("spawn 1,000", FEW, note=f"{SMALL}; {READY}")(spawn)
    contest.does("memory", 1, FEW, note=f"{SMALL}; has answered once")(memory)

if __name__ == "__main__":
    contest.main()
