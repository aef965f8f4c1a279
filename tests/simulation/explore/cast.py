"""What an actor does, as a value: from its state and a message, its state after it and what it asks for.

Actors share nothing. So what one does depends on its own state and on the message alone, and whoever has
seen it once need not see it again: `Remembering` keeps each state of each actor as a number, and looks up
what it has seen. `Live` has the same actors act each time, on the objects themselves, and remembers
nothing; that both agree is what `test_windows` holds against each other.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeAlias

from msgspec import Struct
from thespian.actors import ActorAddress, ActorExitRequest, WakeupMessage

from greenroom.actors.events.protocol import Publish
from greenroom.actors.shell import ActorFailed, Meet

from .packing import BY_VALUE, pack, unpack

Part: TypeAlias = Any
"""An actor in its present state: a number for `Remembering`, the object for `Live`."""
Letter: TypeAlias = Any
"""A message, likewise."""


class Address(ActorAddress):
    """Where somebody is, by name. There is one for each name."""

    _known: ClassVar[dict[str, "Address"]] = {}

    def __new__(cls, name: str) -> "Address":
        if name not in cls._known:
            cls._known[name] = super().__new__(cls)
        return cls._known[name]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


BY_VALUE.add(Address)


class Put(Struct, frozen=True):
    """A message for somebody; `how` says if it is more than mail: `meet`, `told`, `failed`, `exit`."""

    to: str
    letter: Letter
    how: str


class Hire(Struct, frozen=True):
    """A new actor."""

    name: str
    part: Part


class Ring(Struct, frozen=True):
    """A timer."""

    letter: Letter


Asked: TypeAlias = tuple[Put | Hire | Ring, ...]
Deed: TypeAlias = tuple[str, str, Letter]
"""("hears", from whom, what), or ("does", a moment of `plain_agent`, None)."""


class Cast(Protocol):
    """Actors and messages, in the way that they are kept."""

    def enter(self, actor: Any) -> Part: ...

    def write(self, message: Any) -> Letter: ...

    def act(self, part: Part, name: str, deed: Deed) -> tuple[Part, Asked]: ...

    def look(self, part: Part) -> Any: ...

    def face(self, part: Part) -> Any: ...


class Ref:
    """What an actor of Thespian's has for its system: it notes what is asked for."""

    def __init__(self, cast: Cast, name: str) -> None:
        self.cast, self.name = cast, name
        self.next_name = ""
        self.asked: list[Put | Hire | Ring] = []

    @property
    def address(self) -> Address:
        return Address(self.name)

    def actor_send(self, to: Address, message: Any) -> None:
        how = _HOW.get(type(message), "mail")
        if how == "told":  # the numbers of the events would only make equal worlds differ
            message = tuple((event.type, event.path, event.run_id) for event in message.events)
        self.asked.append(Put(to.name, self.cast.write(message), how))

    def createActor(self, actor_class: Any, *_: Any) -> Address:  # noqa: N802
        self.asked.append(Hire(self.next_name, self.cast.enter(actor_class())))
        return Address(self.next_name)

    def wakeupAfter(self, period: Any, payload: Any) -> None:  # noqa: N802
        self.asked.append(Ring(self.cast.write(WakeupMessage(period, payload))))


_HOW: dict[type, str] = {Meet: "meet", Publish: "told", ActorFailed: "failed", ActorExitRequest: "exit"}


def _perform(cast: Cast, actor: Any, name: str, deed: Deed, read: Callable[[Letter], Any]) -> Asked:
    kind, what, letter = deed
    ref = actor._myRef = Ref(cast, name)
    if kind == "does":
        actor.moment(what)
    else:
        actor.receiveMessage(read(letter), Address(what))
    actor._myRef = None
    return tuple(ref.asked)


class Live:
    """The objects themselves."""

    def enter(self, actor: Any) -> Part:
        return actor

    def write(self, message: Any) -> Letter:
        return message

    def act(self, part: Part, name: str, deed: Deed) -> tuple[Part, Asked]:
        return part, _perform(self, part, name, deed, self.look)

    def look(self, part: Part) -> Any:
        return part

    def face(self, part: Part) -> Any:
        return part.face()


class Remembering:
    """Numbers for what is equal, and what each did when it was first asked to."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self._done: dict[tuple[int, str, Deed], tuple[int, Asked]] = {}
        self._faces: dict[int, Any] = {}

    def enter(self, actor: Any) -> Part:
        return self.write(actor)

    def write(self, message: Any) -> Letter:
        packed = pack(message)
        number = self._numbers.get(packed)
        if number is None:
            number = self._numbers[packed] = len(self._packed)
            self._packed.append(packed)
        return number

    def act(self, part: Part, name: str, deed: Deed) -> tuple[Part, Asked]:
        done = self._done.get((part, name, deed))
        if done is None:
            actor = self.look(part)
            asked = _perform(self, actor, name, deed, self.look)
            done = self._done[part, name, deed] = self.write(actor), asked
        return done

    def look(self, part: Part) -> Any:
        return unpack(self._packed[part])

    def face(self, part: Part) -> Any:
        if part not in self._faces:
            self._faces[part] = self.look(part).face()
        return self._faces[part]

    @property
    def deeds(self) -> int:
        """How many different ones there were."""
        return len(self._done)
