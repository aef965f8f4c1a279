"""Pykka: a thread for each actor, which is how it is meant (`ThreadingActor`).

Messages are told, both ways. Work that has an answer is asked for, and the futures are collected.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pykka

from peers.contest import (
    PAUSE,
    SLOTS,
    Contest,
    Rounds,
    microseconds,
    pick,
    resident_kib,
    right,
    squares,
    sum_of,
    to_ideal,
)

contest = Contest("pykka", note="ThreadingActor, a thread each")


class Child(pykka.ThreadingActor):
    """Adds one, squares, waits or counts, as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    def on_receive(self, message: Any) -> Any:
        what, value, sender = message
        if what == "ball":
            sender.tell(("ball", value + 1, None))
        elif what == "square":
            return value * value
        elif what == "wait":
            time.sleep(value)
        self.turns += 1
        return self.turns


class Parent(pykka.ThreadingActor):
    """Sends to all children or rallies with the first, so many times; or asks all of them."""

    def __init__(self, children: list[Any]) -> None:
        super().__init__()
        self.children = children
        self.done = threading.Event()
        self.total = self.left = self.awaited = 0
        self.fans = False

    def on_receive(self, message: Any) -> Any:
        what, value, _ = message
        if what == "ball":
            self.heard(value)
        elif what == "squares":
            asked = [child.ask(("square", n, None), block=False) for n, child in enumerate(self.children)]
            return sum(pykka.get_all(asked))
        else:
            self.fans, self.left, self.total = what == "fan", value, 0
            self.go()
        return None

    def go(self) -> None:
        if self.fans:
            self.awaited = len(self.children)
            for number, child in enumerate(self.children):
                child.tell(("ball", number, self.actor_ref))
        else:
            self.awaited = 1
            self.children[0].tell(("ball", self.total, self.actor_ref))

    def heard(self, value: int) -> None:
        self.total = self.total + value if self.fans else value
        self.awaited -= 1
        if self.awaited == 0:
            self.left -= 1
            if self.left:
                self.go()
            else:
                self.done.set()


def messages(number: int, what: str, times: int) -> Rounds:
    children = [Child.start() for _ in range(number)]
    done, parent = start_parent(children)
    while True:
        done.clear()
        begun = time.perf_counter()
        parent.tell((what, times, None))
        done.wait()
        seconds = time.perf_counter() - begun
        found = parent.proxy().total.get()
        right("the sum", found, times * sum_of(number) if what == "fan" else times)
        yield [2 * times * (number if what == "fan" else 1) / seconds]


def start_parent(children: list[Any]) -> tuple[threading.Event, Any]:
    parent = Parent.start(children)
    return parent.proxy().done.get(), parent


contest.does("fan-out 1,000", pick(1_000, 50), "fan", pick(20, 2))(messages)
contest.does("fan-out 10,000", pick(10_000, 200), "fan", 1)(messages)
contest.does("ping-pong", 1, "rally", pick(10_000, 50))(messages)


@contest.does("runs 1,000", pick(1_000, 50), pick(10, 1), note="bare requests: nothing is stored")
@contest.does("runs 10,000", pick(10_000, 200), 1, note="bare requests: nothing is stored")
def runs(number: int, times: int) -> Rounds:
    _, parent = start_parent([Child.start() for _ in range(number)])
    while True:
        begun = time.perf_counter()
        for _ in range(times):
            right("the sum of squares", parent.ask(("squares", 0, None)), squares(number))
        yield [times * (number + 1) / (time.perf_counter() - begun)]


@contest.does("wait", pick(1_000, 50))
def waits(number: int) -> Rounds:
    while True:
        times = []
        for _ in range(number):
            begun = time.perf_counter()
            Child.start()
            times.append(time.perf_counter() - begun)
        yield microseconds(times)
        pykka.ActorRegistry.stop_all()


@contest.does("spawn 1,000", pick(1_000, 50), note="ready: has answered once")
@contest.does("spawn 10,000", pick(10_000, 200), note="ready: has answered once")
def spawn(number: int) -> Rounds:
    while True:
        begun = time.perf_counter()
        children = [Child.start() for _ in range(number)]
        answers = pykka.get_all([child.ask(("count", 0, None), block=False) for child in children])
        seconds = time.perf_counter() - begun
        right("first answers", answers, [1] * number)
        yield [number / seconds]
        pykka.ActorRegistry.stop_all()


@contest.does("io", pick(1_000, 128), note="64 callers who wait; nothing is stored")
def io(turns: int) -> Rounds:
    children = [Child.start() for _ in range(turns)]
    with ThreadPoolExecutor(SLOTS) as callers:
        while True:
            before = children[0].ask(("count", 0, None))
            begun = time.perf_counter()
            told = list(callers.map(lambda child: child.ask(("wait", PAUSE, None)), children))
            seconds = time.perf_counter() - begun
            right("turns of the first", told[0], before + 1)
            yield [to_ideal(seconds, turns)]


@contest.does("memory", pick(5_000, 100), note="has had one turn")
def memory(number: int) -> Rounds:
    few = [Child.start() for _ in range(100)]
    pykka.get_all([child.ask(("count", 0, None), block=False) for child in few])
    before = resident_kib()
    many = [Child.start() for _ in range(number)]
    pykka.get_all([child.ask(("count", 0, None), block=False) for child in many])
    yield [(resident_kib() - before) / number]


if __name__ == "__main__":
    try:
        contest.main()
    finally:
        pykka.ActorRegistry.stop_all()
