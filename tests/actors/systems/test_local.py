"""`LocalSystemBase`, where Thespian's own suite does not look: order, threads, timers, leaks, ends."""

import asyncio
import gc
import io
import logging
import threading
import time
import weakref
import zipfile
from collections.abc import Iterator
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any

import pytest
from thespian.actors import (
    Actor,
    ActorAddress,
    ActorExitRequest,
    ActorSystem,
    ActorSystemFailure,
    ActorSystemMessage,
    ChildActorExited,
    PoisonMessage,
    ValidatedSource,
    ValidateSource,
    WakeupMessage,
)

from greenroom.actors.systems.local import THREAD, LocalSystemBase

DEADLINE = 600.0


@pytest.fixture
def base() -> LocalSystemBase:
    return LocalSystemBase()


@pytest.fixture
def system(base: LocalSystemBase) -> Iterator[ActorSystem]:
    system = ActorSystem(systemBase=base, transientUnique=True)
    yield system
    system.shutdown()


class Echo(Actor):
    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if not isinstance(message, ActorSystemMessage):
            self.send(sender, message)


class FailsOnce(Actor):
    """Raises at the first sight of each message that says so."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if message == "tell":
            self.send(sender, self.seen)
        elif not isinstance(message, ActorSystemMessage):
            if message == "b" and "b raised" not in self.seen:
                self.seen.append("b raised")
                raise ValueError(message)
            if message == "poison":
                raise ValueError(message)
            self.seen.append(message)


class Tells(Actor):
    """Says on which thread it works, and waits for a gate if asked to."""

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if isinstance(message, threading.Event):
            message.wait(DEADLINE)
        if not isinstance(message, ActorSystemMessage):
            self.send(sender, threading.get_ident())


class Sleeper(Actor):
    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        match message:
            case WakeupMessage():
                self.send(self.asker, message.payload)
            case list():
                self.asker = sender
                for seconds, payload in message:
                    self.wakeupAfter(seconds, payload)


class Parent(Actor):
    """Makes children, ends them, and says when the last has gone."""

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        match message:
            case int():
                self.asker, self.left = sender, message
                for _ in range(message):
                    self.send(self.createActor(Echo), ActorExitRequest())
            case ChildActorExited():
                self.left -= 1
                if self.left == 0:
                    self.send(self.asker, "all gone")


def test_a_message_that_is_tried_again_is_not_overtaken(system: ActorSystem) -> None:
    actor = system.createActor(FailsOnce)
    for message in "abc":
        system.tell(actor, message)
    assert system.ask(actor, "tell", DEADLINE) == ["a", "b raised", "b", "c"]


def test_a_message_that_always_fails_comes_back_as_poison(
    base: LocalSystemBase, system: ActorSystem
) -> None:
    actor = system.createActor(FailsOnce)
    system.tell(actor, "poison")
    poison = base._outside.received.get(timeout=DEADLINE)
    assert isinstance(poison, PoisonMessage)
    assert poison.poisonMessage == "poison"
    assert "ValueError" in (poison.details or "")
    assert system.ask(actor, "tell", DEADLINE) == []


def test_an_actor_gets_a_thread_of_its_own_if_it_asks_and_blocks_nobody(
    base: LocalSystemBase, system: ActorSystem
) -> None:
    on_loop = system.createActor(Tells)
    on_thread = system.createActor(Tells, {THREAD: True})
    gate = threading.Event()
    system.tell(on_thread, gate)
    assert system.ask(on_loop, "where", DEADLINE) == base.thread_id
    gate.set()
    its_own = system.listen(DEADLINE)
    assert its_own not in (base.thread_id, threading.get_ident(), None)
    assert system.ask(on_thread, "where", DEADLINE) == its_own


class Rings(Actor):
    """Sets an event a moment after it got it."""

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if isinstance(message, WakeupMessage):
            message.payload.set()
        elif isinstance(message, threading.Event):
            self.wakeupAfter(0.01, message)


def test_a_timer_of_an_actor_on_a_thread_rings_although_the_loop_is_blocked(
    system: ActorSystem, base: LocalSystemBase
) -> None:
    actor = system.createActor(Rings, {THREAD: True})
    rung, blocked, gate = (threading.Event() for _ in range(3))

    def block() -> None:
        base.put(actor, rung, base.system_address)
        base._drain()  # it is handed over before the loop stands still
        blocked.set()
        gate.wait(DEADLINE)

    base.loop.call_soon_threadsafe(block)
    assert blocked.wait(DEADLINE)
    try:
        assert rung.wait(DEADLINE / 2)
    finally:
        gate.set()


def test_threads_end_with_their_actors(system: ActorSystem) -> None:
    before = set(threading.enumerate())
    actor = system.createActor(Tells, {THREAD: True})
    system.ask(actor, "where", DEADLINE)
    (thread,) = set(threading.enumerate()) - before
    system.tell(actor, ActorExitRequest())
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_wake_ups_come_by_themselves_and_in_order(system: ActorSystem) -> None:
    sleeper = system.createActor(Sleeper)
    system.tell(sleeper, [(0.06, "third"), (0.02, "first"), (0.04, "second")])
    assert [system.listen(DEADLINE) for _ in range(3)] == ["first", "second", "third"]


def test_a_wake_up_of_an_actor_that_has_gone_is_forgotten(
    base: LocalSystemBase, system: ActorSystem
) -> None:
    sleeper = system.createActor(Sleeper)
    system.tell(sleeper, [(3_600, "never")])
    echo = system.createActor(Echo)
    assert system.ask(echo, 1, DEADLINE) == 1
    (timer,) = sleeper.cell.timers  # type: ignore[attr-defined]
    system.tell(sleeper, ActorExitRequest())
    assert system.ask(echo, 2, DEADLINE) == 2
    assert timer.cancelled()


def test_many_callers_on_many_threads_lose_nothing_and_keep_their_order(system: ActorSystem) -> None:
    callers, each = 8, 500
    answers: dict[int, list[Any]] = {}
    echo = system.createActor(Echo)

    def call(number: int) -> None:
        with system.private() as mine:
            for n in range(each):
                mine.tell(echo, (number, n))
            answers[number] = [mine.listen(DEADLINE) for _ in range(each)]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {number: [(number, n) for n in range(each)] for number in range(callers)}


def test_a_private_listener_waits_as_long_as_it_said(system: ActorSystem) -> None:
    with system.private() as mine:
        begun = time.monotonic()
        assert mine.listen(0.3) is None
        assert 0.3 <= time.monotonic() - begun < DEADLINE


def test_ten_thousand_actors_that_have_gone_leave_nothing(
    base: LocalSystemBase, system: ActorSystem
) -> None:
    parent = system.createActor(Parent)
    cells = len(base.cells)
    born: weakref.WeakSet[Any] = weakref.WeakSet()
    original = Echo.__init__

    def counted(self: Any) -> None:
        original(self)
        born.add(self)

    Echo.__init__ = counted  # type: ignore[method-assign]
    try:
        assert system.ask(parent, 10_000, 60) == "all gone"
    finally:
        Echo.__init__ = original  # type: ignore[method-assign]
    gc.collect()
    assert len(base.cells) == cells
    assert len(born) == 0
    assert parent.cell.children == {}  # type: ignore[attr-defined]


def test_addresses_can_be_keys(system: ActorSystem) -> None:
    one, two = system.createActor(Echo), system.createActor(Echo)
    assert {one: 1, two: 2}[one] == 1
    assert one != two
    assert system.ask(system.createActor(Echo), one, DEADLINE) is one


def test_waiting_on_the_loop_for_the_loop_is_refused(base: LocalSystemBase, system: ActorSystem) -> None:
    refused: list[Any] = []

    class Asks(Actor):
        def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
            if message == "ask":
                try:
                    base.ask(self.myAddress, "never", 1)
                except ActorSystemFailure as error:
                    refused.append(error)
                self.send(sender, "asked")

    assert system.ask(system.createActor(Asks), "ask", DEADLINE) == "asked"
    assert len(refused) == 1


def test_the_end_is_bounded_and_can_be_asked_for_twice(base: LocalSystemBase) -> None:
    system = ActorSystem(systemBase=base, transientUnique=True)
    actor = system.createActor(Echo)
    assert system.ask(actor, 1, DEADLINE) == 1
    base.shutdown()
    base.shutdown()
    base.post(actor, "too late")  # harms nobody


def test_a_task_that_wants_to_exit_does_not_end_the_actors(
    base: LocalSystemBase, system: ActorSystem
) -> None:
    async def exits() -> None:
        raise SystemExit(1)

    ended: SimpleQueue[asyncio.Task[None]] = SimpleQueue()
    base.loop.call_soon_threadsafe(lambda: base.loop.create_task(exits()).add_done_callback(ended.put))
    assert isinstance(ended.get(timeout=DEADLINE).exception(), SystemExit)
    echo = system.createActor(Echo)
    assert system.ask(echo, "still there", DEADLINE) == "still there"


def test_a_task_that_stops_the_loop_does_not_end_the_actors(
    base: LocalSystemBase, system: ActorSystem
) -> None:
    told: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = QueueHandler(told)
    logging.getLogger("Thespian").addHandler(handler)
    try:
        base.loop.call_soon_threadsafe(base.loop.stop)
        assert "a task stopped the loop" in told.get(timeout=DEADLINE).getMessage()
    finally:
        logging.getLogger("Thespian").removeHandler(handler)
    echo = system.createActor(Echo)
    assert system.ask(echo, "still there", DEADLINE) == "still there"


def test_it_runs_on_a_loop_that_somebody_else_owns() -> None:
    async def story() -> list[Any]:
        base = LocalSystemBase(asyncio.get_running_loop())
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        class Answers(Actor):
            def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
                if message == "go":
                    answered.set_result(threading.get_ident())

        system = ActorSystem(systemBase=base, transientUnique=True)
        actor = system.createActor(Answers)
        system.tell(actor, "go")
        where = await asyncio.wait_for(answered, DEADLINE)
        await base.aclose()
        return [where, threading.get_ident(), actor.cell]  # type: ignore[attr-defined]

    where, here, cell = asyncio.run(story())
    assert where == here
    assert cell is None


class Trusting(Actor):
    """Registers as the source authority when it is told anything, and lets everything pass."""

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802
        if isinstance(message, ValidateSource):
            self.send(sender, ValidatedSource(message.sourceHash, message.sourceData))
        elif not isinstance(message, ActorSystemMessage):
            self.registerSourceAuthority()


def test_a_source_can_be_used_as_soon_as_it_was_loaded(system: ActorSystem) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(
            "loaded_greeter.py",
            "from thespian.actors import ActorTypeDispatcher\n\n"
            "class Greeter(ActorTypeDispatcher):\n"
            "    def receiveMsg_str(self, message, sender):\n"
            "        self.send(sender, f'hello {message}')\n",
        )
    for n in range(20):  # no moment in between
        system.tell(system.createActor(Trusting), "register")
        digest = system.loadActorSource(io.BytesIO(archive.getvalue()))
        greeter = system.createActor("loaded_greeter.Greeter", sourceHash=digest)
        assert system.ask(greeter, f"{n}", DEADLINE) == f"hello {n}"
        system.unloadActorSource(digest)
