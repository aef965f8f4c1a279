"""The borders: every place where code of a user's is called, and what becomes of what it raises there.

Such code may raise anything, also what elsewhere ends a thread or a process (`SystemExit`,
`KeyboardInterrupt`, `GeneratorExit`). Its objects may have a text, a length or a hash that raises. None of
that gets past a border: it fails the run, the session or the call that it belongs to, and nothing else.
Values that go on to an actor from there are plain, or were turned into bytes.

`BORDERS` lists them. A new place that calls user code is added there, and its case to
`tests/contract/test_borders.py`, which has one for each.
"""

import asyncio
import threading
import traceback
from typing import Final, TypeGuard, TypeVar

E = TypeVar("E", bound=BaseException)

BORDERS: Final[dict[str, str]] = {
    # code of a kind
    "turn": "agent.actor.execute: the run fails",
    "turn on a thread": "agent.threads.run_in_thread: the run fails",
    "awaitable of a plain function": "agent.behaviour.run: the run fails",
    "call of a turn": "agent.threads.wait_for_loop: raised in the turn's own code",
    "constructor": "agent.actor.open_kind: the agent could not start",
    "open": "agent.opened.Opened: the agent could not start",
    "open on a thread": "agent.opened.Opened: the agent could not start",
    "close": "agent.opened.Opened: logged",
    "close on a thread": "agent.opened.Opened: logged",
    "state factory": "agent.states.restored: the agent could not start",
    "migrate": "agent.states._migrated: SnapshotUnreadable",
    # values
    "value to bytes": "codec.dumps: CannotStore",
    "value from bytes": "codec.loads: Unreadable, which people see as an UnreadableValue",
    "comparison of values": "comparing.difference: they count as the same",
    "state to bytes": "state_codec.encode_state, encode_small, pack_state: CannotStore",
    "state from bytes": "state_codec.decode_state: SnapshotUnreadable",
    "progress": "agent.turn.emit: CannotStore",
    # what is said of them
    "text of an error": "borders.error_text: the run's error says that there is none",
    "text of a value": "borders.shown: the error of the call says that there is none",
    "type of an error": "borders.is_a: its type is asked, and not the error",
    "members of a group of errors": "borders.members_of: the group itself is asked, and not its class",
    "finaliser": "Python itself: it is told on stderr",
    # what calls are given
    "given name": "paths.check_path, face.requests: a plain copy is taken",
    "given iterable": "face.requests.checked_wait, face.engine.Settings: raised at the call",
    "given handle": "agent.turn: raised at the call",
    "described value": "server.json_view: described by its type alone",
    # code of a driver's user
    "prompt": "drivers.prompt.prompt_of: the run fails",
    "answer": "drivers.command: the run fails",
    "permissions": "drivers.conversation: logged, and the answer is no",
}
"""The user code that is called, where an exception of it is met, and what it becomes."""

MOST_SHOWN = 500
"""Characters of a value's text in an error."""


def plain(text: str) -> str:
    """`text` itself, or what a subclass of str has in place of its own methods: no code of a user's."""
    return str.__str__(text)


def plain_int(number: int) -> int:
    """The same for a number."""
    return int.__int__(number)


def error_text(error: BaseException) -> str:
    """The text of an error."""
    try:
        return plain(str(error))
    except BaseException:
        return "its text could not be made"


def shown(value: object, most: int = MOST_SHOWN) -> str:
    """A value in the text of an error, at most so many characters of it."""
    try:
        text = plain(repr(value))
    except BaseException:
        return f"a {type_name(value)} whose text could not be made"
    return text if len(text) <= most else f"{text[:most]}…"


def type_name(value: object) -> str:
    """The name of a value's type, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return plain(name)


def members_of(group: BaseExceptionGroup) -> tuple[BaseException, ...]:
    """The errors of a group, whatever its class says."""
    members: tuple[BaseException, ...] = BaseExceptionGroup.__dict__["exceptions"].__get__(group)
    return members


def is_a(error: BaseException | None, *types: type[E]) -> TypeGuard[E]:
    """Whether it is an error of these types. `isinstance` would ask the error for its `__class__`."""
    return issubclass(type(error), types)


def causes_of(error: BaseException) -> list[BaseException]:
    """The cause of an error, whatever its class says."""
    facts = BaseException.__dict__
    found = (facts[name].__get__(error) for name in ("__cause__", "__context__"))
    return [cause for cause in found if cause is not None]


def traceback_of(error: BaseException) -> str:
    """A traceback as Python prints it."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:
        return f"{type_name(error)}: {error_text(error)}\n"


def let_out(error: BaseException) -> None:
    """Raise `error` again if it may be somebody's Ctrl-C, which comes on the main thread alone."""
    if is_a(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def left_behind(error: BaseException, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a coroutine is thrown away with the loop that it was on; another one may run here."""
    return is_a(error, GeneratorExit) and asyncio._get_running_loop() is not loop
