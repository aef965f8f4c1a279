"""The simulated base: Thespian's semantics, and every order that they allow."""

from typing import Any

import pytest
from thespian.actors import (
    Actor,
    ActorAddress,
    ActorExitRequest,
    ActorSystem,
    ChildActorExited,
    PoisonMessage,
    WakeupMessage,
)

from greenroom.actors.systems.choices import Choices, Seeded
from greenroom.actors.systems.local import THREAD
from greenroom.actors.systems.simulated import SimulatedSystemBase
from greenroom.actors.systems.trace import Trace
from greenroom.actors.systems.virtual import VirtualLoop


def simulated(choices: Choices) -> tuple[ActorSystem, VirtualLoop]:
    loop = VirtualLoop(choices, Trace())
    return ActorSystem(systemBase=SimulatedSystemBase(loop), transientUnique=True), loop


class Sink(Actor):
    """Keeps what it is told; tells it to who asks."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if message == "what?":
            self.send(sender, list(self.heard))
        else:
            self.heard.append(message)


class Talker(Actor):
    """Sends the sink its name with three numbers."""

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if isinstance(message, tuple):
            sink, name = message
            for number in range(3):
                self.send(sink, f"{name}{number}")


def heard(choices: Choices, requirements: dict[str, Any] | None = None) -> tuple[str, ...]:
    system, loop = simulated(choices)
    sink = system.createActor(Sink, requirements)
    for name in "ab":
        system.tell(system.createActor(Talker), (sink, name))
    loop.drive(lambda: False, until=1000.0)
    answer = system.ask(sink, "what?", 5)
    system.shutdown()
    loop.to_dead_letters()
    return tuple(answer)


class Clerk(Actor):
    """Says when it was at work."""

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if callable(message):
            self.send(sender, message())


def test_the_answers_of_an_actor_with_a_thread_come_some_time_after_its_work() -> None:
    delays = set()
    for seed in range(20):
        system, loop = simulated(Seeded(seed))
        worked_at = system.ask(system.createActor(Clerk, {THREAD: True}), loop.time, 5)
        delays.add(loop.time() - worked_at > 0.0)
        system.shutdown()
        loop.to_dead_letters()
    assert delays == {True, False}


@pytest.mark.parametrize("requirements", [None, {THREAD: True}])
def test_order_holds_between_two_and_nowhere_else(requirements: dict[str, Any] | None) -> None:
    orders = {heard(Seeded(seed), requirements) for seed in range(300)}
    assert len(orders) > 12  # of 20
    for order in orders:
        assert [word for word in order if word[0] == "a"] == ["a0", "a1", "a2"]
        assert [word for word in order if word[0] == "b"] == ["b0", "b1", "b2"]


def test_without_a_choice_it_is_the_order_of_sending() -> None:
    assert heard(Choices()) == ("a0", "a1", "a2", "b0", "b1", "b2")


class Parent(Actor):
    """Has a child that fails on everything, and tells what came back."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.rang: list[float] = []

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        match message:
            case "begin":
                self.child = self.createActor(Broken)
                self.send(self.child, "work")
                self.wakeupAfter(3600.0, "later")
            case "what?":
                self.send(sender, list(self.told))
            case PoisonMessage():
                self.told.append("poison")
                self.send(self.child, ActorExitRequest())
            case ChildActorExited():
                self.told.append("exited")
            case WakeupMessage():
                self.told.append(f"woken {message.payload}")


class Broken(Actor):
    """Raises."""

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if isinstance(message, str):
            raise ValueError(message)


@pytest.mark.parametrize("seed", range(10))
def test_failures_exits_and_wakeups_are_told_as_on_every_base(seed: int) -> None:
    system, loop = simulated(Seeded(seed))
    parent = system.createActor(Parent)
    system.tell(parent, "begin")
    loop.drive(lambda: False, until=4000.0)
    assert system.ask(parent, "what?", 1) == ["poison", "exited", "woken later"]
    assert loop.time() >= 3600.0
    system.shutdown()
    loop.to_dead_letters()


def test_listening_in_vain_takes_virtual_time() -> None:
    system, loop = simulated(Choices())
    assert system.listen(3600) is None
    assert loop.time() == 3600.0
    system.shutdown()
    loop.to_dead_letters()
