"""A runtime in one value: its real actors, a mailbox between each two, and nothing that happens by itself.

The directory, the ledger with its commit log, the residency, the slots and the sessions are those of
production (a session's code aside, see `plain_agent`); the disk is a dictionary. What can happen next is a
*way*: the first message of one mailbox is handled, a caller makes its next call, an agent's code comes to
its next point, a timer rings, a session crashes. Between ways nothing is promised but the order within a
mailbox, so any may come next.

Three things happen at once, because nobody can tell their order from another one: an event is told, a
caller is answered, and a session is introduced (`Meet`) before it has anything else.
"""

import marshal
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Self, TypeAlias

from msgspec import Struct
from msgspec.structs import replace
from thespian.actors import ChildActorExited

from greenroom.actors.directory.actor import Directory
from greenroom.actors.directory.protocol import (
    CloseAgent,
    ConfigureDirectory,
    EvictPath,
    InterruptAgent,
    SpawnAgent,
    SubmitMessage,
    SubmitRun,
)
from greenroom.actors.ledger.protocol import AwaitRun, ConfigureLedger
from greenroom.actors.residency import reporting
from greenroom.actors.residency.protocol import ConfigureResidency
from greenroom.actors.shell import Meet
from greenroom.actors.slots.actor import SlotAllocator
from greenroom.actors.slots.protocol import ConfigureSlots
from greenroom.types import AgentId, RequestId, RunId

from .cast import Address, Cast, Deed, Hire, Letter, Part, Put, Remembering, Ring
from .disk import OPEN, Disk
from .observer import Observer
from .plain_agent import Face
from .rooms import PlainLedger, Rooms, any_kind, attempts_of, noon

CONTROL: dict[Any, type[Any]] = {
    "directory": Directory,
    "ledger": PlainLedger,
    "slots": SlotAllocator,
    "residency": Rooms,
}
OTHERS = ("writer", "reader", "events", "supervisor")
WHOSE = {"writer": "disk", "reader": "disk"}
"""Who it is that has two names."""

Call: TypeAlias = tuple[str, ...]
"""What a caller asks for: its name, then its arguments."""
Way: TypeAlias = tuple[str, ...]
Box: TypeAlias = tuple[str, str]
"""A mailbox: of whom, for whom."""


class Caller(Struct, frozen=True):
    """Somebody outside, who makes one call after the other and waits for each answer."""

    calls: tuple[Call, ...]
    made: int = 0
    waits: bool = False


class House:
    """All of it. `slots` and `residents` as for a `Runtime`; `share` as for the residency, where no time
    passes: with 0.0, whoever asks gives way.

    `may_crash` names sessions that may crash, each once. Timers ring at any time with `timers`, else when
    nothing else can happen. Mail in `prompt` boxes is handled at once, which bounds what is explored.
    """

    def __init__(
        self,
        *,
        slots: int,
        residents: int,
        timers: bool = False,
        share: float = 0.5,
        prompt: Iterable[Box] = (),
        cast: Cast | None = None,
        disk: Disk | None = None,
    ) -> None:
        self.cast: Cast = cast or Remembering()
        self.prompt = frozenset(prompt)
        self._now: list[tuple[str, str, str, Letter]] = []  # what is prompt, within one way
        self.slots, self.residents, self.timers_any_time = slots, residents, timers
        self.may_crash: tuple[str, ...] = ()
        self.parts: dict[str, Part] = {}
        self.mail: dict[Box, tuple[tuple[str, Letter], ...]] = {}
        self.timers: tuple[tuple[str, Letter], ...] = ()
        self.callers: dict[str, Caller] = {}
        for role, actor_class in CONTROL.items():
            self.parts[role] = self.cast.enter(actor_class())
        disk = disk or Disk()
        ended = {run_id: row.status for run_id, row in disk.runs.items() if row.status != OPEN}
        self.parts["disk"] = self.cast.enter(disk)
        self.parts["observer"] = self.cast.enter(Observer(ended))
        roles: Any = {role: Address(role) for role in (*CONTROL, *OTHERS)}
        for role in CONTROL:
            self.tell(role, Meet(roles, noon))
        unfinished = self.look("disk").unfinished()
        self.tell("slots", ConfigureSlots(slots))
        self.tell("residency", ConfigureResidency(residents, share=share))
        self.tell(
            "directory", ConfigureDirectory(AgentId(unfinished.next_agent_id), any_kind, remember=100)
        )
        self.tell("ledger", ConfigureLedger(unfinished, "process", 1000, attempts_of))

    def copy(self) -> Self:
        """Another house that is the same, for as long as nothing happens in it."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.parts, other.mail, other.callers = self.parts.copy(), self.mail.copy(), self.callers.copy()
        other._now = []
        return other

    def key(self) -> bytes:
        """All that can differ between two houses of one window, in 16 bytes."""
        parts, mail = tuple(sorted(self.parts.items())), tuple(sorted(self.mail.items()))
        callers = tuple((caller.made, caller.waits) for caller in self.callers.values())
        # version 0: equal values are equal bytes, whether or not some of them are one object
        state = marshal.dumps((parts, mail, self.timers, callers, self.may_crash), 0)
        return blake2b(state, digest_size=16).digest()

    def look(self, name: str) -> Any:
        """One of the actors; only to look at."""
        return self.cast.look(self.parts[name])

    @property
    def agents(self) -> list[tuple[str, Face]]:
        """What there is to see of the sessions, by name."""
        named = sorted(name for name in self.parts if name.startswith("agent "))
        return [(name, self.cast.face(self.parts[name])) for name in named]

    # A system of actors

    def tell(self, name: str, message: Any, sender: str = "supervisor") -> None:
        """Have an actor handle a message at once."""
        self._have(name, ("hears", sender, self.cast.write(message)))

    def _have(self, name: str, deed: Deed) -> None:
        """Have an actor do something, and do what it asks for; then what is prompt."""
        self._act(name, deed)
        self._drain()

    def _drain(self) -> None:
        while self._now:
            self._hear(*self._now.pop(0))

    def _act(self, name: str, deed: Deed) -> None:
        whose = WHOSE.get(name, name)
        self.parts[whose], asked = self.cast.act(self.parts[whose], name, deed)
        for wish in asked:
            match wish:
                case Put():
                    self._put(name, wish)
                case Hire():
                    assert wish.name not in self.parts, f"G6: {wish.name} is there twice"
                    self.parts[wish.name] = wish.part
                case Ring():
                    self.timers = (*self.timers, (name, wish.letter))

    def _put(self, sender: str, put: Put) -> None:
        """Put a message into a mailbox; see the module for what happens at once."""
        to, letter = put.to, put.letter
        if put.how == "meet":
            self._act(to, ("hears", sender, letter))
        elif put.how == "told":
            self._act("observer", ("hears", sender, letter))
        elif put.how == "failed":
            failed = self.cast.look(letter)
            raise AssertionError(f"{failed.role} met a bug:\n{failed.reason}")
        elif to in self.callers:
            self.callers[to] = replace(self.callers[to], waits=False)
            self._act("observer", ("hears", to, letter))
        elif (sender, to) in self.prompt:
            self._now.append((sender, to, put.how, letter))
        else:
            self.mail[sender, to] = (*self.mail.get((sender, to), ()), (put.how, letter))

    def _deliver(self, sender: str, to: str) -> None:
        (how, letter), *rest = self.mail[sender, to]
        if rest:
            self.mail[sender, to] = tuple(rest)
        else:
            del self.mail[sender, to]
        self._now.append((sender, to, how, letter))
        self._drain()

    def _hear(self, sender: str, to: str, how: str, letter: Letter) -> None:
        if WHOSE.get(to, to) not in self.parts:
            return  # nobody is there any more
        self._act(to, ("hears", sender, letter))
        if how == "exit":
            self._exit(to)

    def _exit(self, name: str) -> None:
        del self.parts[name]
        self.timers = tuple(timer for timer in self.timers if timer[0] != name)
        exited = self.cast.write(ChildActorExited(Address(name)))
        self._put("system", Put("residency", exited, "mail"))

    # What can happen

    def ways(self) -> list[Way]:
        """What may happen next, by names that stay the same."""
        ways: list[Way] = [("mail", *box) for box in sorted(self.mail)]
        for name, face in self.agents:
            ways += [(name, moment) for moment in face.moments]
            if name in self.may_crash and face.in_memory:
                ways.append((name, "crashes"))
        for name, caller in self.callers.items():
            if not caller.waits and caller.made < len(caller.calls):
                ways.append((name, *caller.calls[caller.made]))
        if self.timers and (self.timers_any_time or not ways):
            ways += [("timer", str(number)) for number in range(len(self.timers))]
        return ways

    def take(self, way: Way) -> None:
        """Let it happen."""
        match way:
            case ("mail", sender, to):
                self._deliver(sender, to)
            case ("timer", number):
                name, letter = self.timers[int(number)]
                self.timers = self.timers[: int(number)] + self.timers[int(number) + 1 :]
                self._have(name, ("hears", name, letter))
            case (name, "crashes"):
                self.may_crash = tuple(other for other in self.may_crash if other != name)
                self.tell("observer", "a crash")
                self._exit(name)
                self._drain()
            case (name, *call) if name in self.callers:
                self._call(name, tuple(call))
            case (name, moment):
                self._have(name, ("does", moment, None))

    def _call(self, name: str, call: Call) -> None:
        caller = self.callers[name]
        self.callers[name] = replace(caller, made=caller.made + 1, waits=True)
        to, message = command(f"{name}, call {caller.made + 1}", Address(name), call)
        self.tell(to, message, name)

    def settle(self, *, hold: Iterable[str] = ()) -> None:
        """Let all happen, in one order, but for the moments of agents' code that are to be held."""
        held = set(hold)
        while ways := [way for way in self.ways() if way[1] not in held]:
            self.take(ways[0])
            self.check_now()

    def call(self, **calls: tuple[Call, ...]) -> None:
        """Have these callers make these calls, one after the other each; who was there before, is gone."""
        self.callers = {name: Caller(of_one) for name, of_one in calls.items()}

    # What must be true

    def check_now(self) -> None:
        """At every moment."""
        agents = [(name, face) for name, face in self.agents if face.in_memory]
        executing = [name for name, face in agents if face.executes]
        assert len(executing) <= self.slots, f"G1: {executing} execute, slots={self.slots}"
        ended = self.cast.face(self.parts["observer"])
        over = [face.run_id for _, face in agents if face.executes and face.run_id in ended]
        assert not over, f"G2: {over} ended while the code executes"
        owners = [face.agent_id for _, face in agents if face.agent_id is not None]
        assert len(owners) == len(set(owners)), f"G6: one agent has two sessions: {agents}"
        placed = [name for name, face in agents if face.has_place]
        assert len(placed) <= self.residents, f"G4: {placed} are in memory, residents={self.residents}"

    def check_at_rest(self) -> None:
        """When nothing can happen any more."""
        for name, caller in self.callers.items():
            assert not caller.waits, (
                f"nothing hangs: {name} was never answered {caller.calls[caller.made - 1]}"
            )
        observer: Observer = self.look("observer")
        observer.check_at_rest()
        self.check_books()
        disk: Disk = self.look("disk")
        observer.check_disk(disk)
        closed = {image.row.agent_id for image in disk.agents.values() if image.row.status == "closed"}
        assert not closed & {face.agent_id for _, face in self.agents}, "a closed agent is in memory"

    def check_books(self) -> None:
        """Nothing is held, and nobody waits."""
        slots, rooms, ledger = (self.look(role) for role in ("slots", "residency", "ledger"))
        (slot_report,), (room_report,) = (
            slots.table.describe(0, None),
            reporting.describe(rooms.table, 0, None),
        )
        taken, room = slot_report.message, room_report.message
        assert (taken.granted, taken.waiting) == (0, 0), f"G1: a slot never came back: {taken}"
        assert (room.waiting, room.in_wait) == (0, 0), f"G4: {room}"
        assert room.resident == len(self.agents), f"G4: {room}, and there are {self.agents}"
        for name, _ in self.agents:
            state = self.look(name).session.state
            assert state == "idle", f"{name} rests, and is {state}"
        assert not ledger.ledger.runs, f"G2: without an outcome: {sorted(ledger.ledger.runs)}"
        assert not ledger.commit_log.unwritten, "G3: told, and not written"


def command(request: RequestId, reply_to: Address, call: Call) -> tuple[str, Any]:
    """Whom a call goes to, and what it is there."""
    match call:
        case ("spawn", path, *kind):
            return "directory", SpawnAgent(request, reply_to, path, kind[0] if kind else "plain", 1, b"")
        case ("run", path, run_id, *script):
            words = "; ".join(script or ["do"]).encode()
            return "directory", SubmitRun(request, reply_to, path, words, RunId(run_id), fresh=True)
        case ("send", path, body):
            return "directory", SubmitMessage(request, reply_to, path, body.encode(), None)
        case ("interrupt", path, *run_id):
            only = RunId(run_id[0]) if run_id else None
            return "directory", InterruptAgent(request, reply_to, path, only)
        case ("close", path):
            return "directory", CloseAgent(request, reply_to, path)
        case ("evict", path):
            return "directory", EvictPath(request, reply_to, path)
        case ("await", run_id):
            return "ledger", AwaitRun(request, reply_to, RunId(run_id))
        case _:
            raise TypeError(f"nobody calls {call}")
