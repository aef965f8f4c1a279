"""Kinds: named, versioned behaviours, registered in their process by `@agent`."""

import inspect
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, TypeVar, overload

from msgspec import Struct
from msgspec.structs import replace

from ...borders import plain, plain_int, shown
from ...errors import KindTaken, UnknownKind
from ...seconds import checked_seconds
from ...types import Seconds

CODECS = ("cloudpickle", "json", "msgpack")

F = TypeVar("F", bound=Callable[..., Any])


class Kind(Struct, frozen=True):
    """The settings of `@agent` for a function or class. Times in seconds."""

    name: str
    version: int
    behaviour: Callable[..., Any]
    state: Callable[[], Any]
    codec: str
    migrate: Callable[[Any, int], Any] | None
    open_timeout: float
    turn_timeout: float | None
    attempts: int

    @property
    def is_class(self) -> bool:
        """Whether a session is an instance with `open`, `run` and `close`."""
        return inspect.isclass(self.behaviour)

    @property
    def where(self) -> str:
        """Where the code stands, for messages."""
        return f"{self.behaviour.__module__}.{self.behaviour.__qualname__}"

    def same_code(self, other: "Kind") -> bool:
        """Whether `other` is the same code, perhaps loaded again."""
        return list(_code(self.behaviour)) == list(_code(other.behaviour))


_registered: dict[str, Kind] = {}


@overload
def agent(behaviour: F, /) -> F: ...
@overload
def agent(
    *,
    name: str | None = None,
    version: int = 1,
    state: Callable[[], Any] = dict,
    codec: str = "cloudpickle",
    migrate: Callable[[Any, int], Any] | None = None,
    open_timeout: float = 60.0,
    turn_timeout: float | None = None,
    attempts: int = 3,
) -> Callable[[F], F]: ...
def agent(
    behaviour: Any = None,
    /,
    *,
    name: str | None = None,
    version: int = 1,
    state: Callable[[], Any] = dict,
    codec: str = "cloudpickle",
    migrate: Callable[[Any, int], Any] | None = None,
    open_timeout: float = 60.0,
    turn_timeout: float | None = None,
    attempts: int = 3,
) -> Any:
    """Make a kind of a function `(turn)` or of a class with `open(info)`, `run(turn)` and `close()`.

    An `async def` gets a `Turn` and runs on the loop; a plain `def` gets a `SyncTurn` and runs on a
    thread. Of a class only `run` is required.

    Args:
        name: what the kind is called in the store; the function's or class's own name if not given.
        version: grows when the shape of the state changes.
        state: makes a new agent's state.
        codec: how states are stored: "cloudpickle", "json" or "msgpack".
        migrate: `(state, from_version) -> state`, for states of an older version; on a thread.
        open_timeout: seconds that `open` may take, and `migrate`.
        turn_timeout: seconds that a turn may take, None for ever; then it is interrupted, and fails.
        attempts: how many crashes may be held against a run before it fails; with 1 its code begins at
            most once.

    Raises `KindTaken` if other code has this name and version already, `TypeError` or `ValueError`
    for an argument that cannot be right. Returns the function or class itself.
    """

    def register_it(target: F) -> F:
        kind = Kind(
            name=_checked_name(name if name is not None else getattr(target, "__name__", "")),
            version=version,
            behaviour=_checked_behaviour(target),
            state=state,
            codec=codec,
            migrate=migrate,
            open_timeout=_seconds("open_timeout", open_timeout),
            turn_timeout=None if turn_timeout is None else _seconds("turn_timeout", turn_timeout),
            attempts=attempts,
        )
        _check(kind)
        kind = replace(
            kind,
            version=plain_int(version),
            codec=plain(codec),
            attempts=plain_int(attempts),
        )
        register(kind)
        target.__kind__ = kind  # type: ignore[attr-defined]
        return target

    return register_it if behaviour is None else register_it(behaviour)


listeners: dict[Callable[[str], None], None] = {}
"""Functions that are told the name of each registered kind: runtimes may hold work for it."""


def register(kind: Kind) -> None:
    """Have `kind` known by its name in this process; the version registered last counts."""
    known = _registered.get(kind.name)
    if known is not None and known.version == kind.version and not known.same_code(kind):
        raise KindTaken(kind.name, known.where)
    _registered[kind.name] = kind
    for tell in list(listeners):
        tell(kind.name)


def find_kind(name: str) -> Kind | None:
    """The kind registered under this name."""
    return _registered.get(name)


def is_registered(name: str) -> bool:
    """Whether a kind of this name is registered here."""
    return name in _registered


def attempts_of(name: str) -> int | None:
    """How many attempts a kind's turns have; None if it is not registered here."""
    kind = _registered.get(name)
    return kind.attempts if kind else None


def kind_of(kind: object, path: str = "") -> Kind:
    """The kind that a decorated object or a name means, or `UnknownKind` for the agent at `path`."""
    if isinstance(kind, str):
        kind = plain(kind)
        found = _registered.get(kind)
        if found is None:
            raise UnknownKind(kind, path)
        return found
    decorated = getattr(kind, "__kind__", None)
    if not isinstance(decorated, Kind):
        name = getattr(kind, "__name__", None)
        raise UnknownKind(plain(name) if isinstance(name, str) else shown(kind), path)
    return decorated


def kinds_of_module(module: object) -> list[Kind]:
    """The kinds that stand in a module, in the order written."""
    found = (getattr(value, "__kind__", None) for value in vars(module).values())
    return [kind for kind in found if isinstance(kind, Kind)]


def _checked_name(name: object) -> str:
    name = plain(name) if isinstance(name, str) else name
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
        raise ValueError(f"a kind's name is a str of 1 to 200 printable characters, not {shown(name)}")
    return name


def _checked_behaviour(target: Any) -> Callable[..., Any]:
    if inspect.isclass(target):
        if not callable(getattr(target, "run", None)):
            raise TypeError(f"the class {target.__name__} needs a method run(self, turn)")
        code = [getattr(target, name) for name in ("open", "run", "close") if hasattr(target, name)]
    elif inspect.isfunction(target):
        code = [target]
    else:
        raise TypeError(f"@agent decorates a function or a class, not {type(target).__name__}")
    for function in code:
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(f"{function.__qualname__} yields; an agent's function returns its result")
    return target  # type: ignore[no-any-return]


def _check(kind: Kind) -> None:
    if not isinstance(kind.version, int) or isinstance(kind.version, bool) or not 1 <= kind.version < 2**31:
        raise ValueError(f"version= is an int from 1 to {2**31 - 1}, not {shown(kind.version)}")
    if not isinstance(kind.codec, str) or plain(kind.codec) not in CODECS:
        raise ValueError(f"codec= is one of {', '.join(CODECS)}, not {shown(kind.codec)}")
    if not callable(kind.state):
        raise TypeError(f"state= is a callable that makes a new state, not {shown(kind.state)}")
    for name, code in (("state", kind.state), ("migrate", kind.migrate)):
        if inspect.iscoroutinefunction(code):
            raise TypeError(f"{name}= is a plain function, not an async one")
    if kind.migrate is not None and not callable(kind.migrate):
        raise TypeError(f"migrate= is a callable (state, from_version), not {shown(kind.migrate)}")
    if not isinstance(kind.attempts, int) or isinstance(kind.attempts, bool) or kind.attempts < 1:
        raise ValueError(f"attempts= is an int from 1 on, not {shown(kind.attempts)}")


def _seconds(name: str, value: object) -> Seconds:
    return checked_seconds(name, value, above=True)


def _code(behaviour: Any) -> Iterator[object]:
    """The identity of a piece of code, wherever it stands."""
    if inspect.isclass(behaviour):
        for name, member in sorted(vars(behaviour).items()):
            function = getattr(member, "__func__", member)
            if inspect.isfunction(function):
                yield name
                yield from _code_of(function.__code__)
    else:
        yield from _code_of(behaviour.__code__)


def _code_of(code: CodeType) -> Iterator[object]:
    yield code.co_code
    yield code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_of(constant)
        else:
            yield repr(constant)
