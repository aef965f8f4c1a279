"""Whatever code of a user's raises, at whichever border it is called, harms nothing else.

There is a case for each border that `actors.borders` lists, with each of the exceptions that elsewhere end
a thread or a process. It is provoked on a runtime with one slot; then others must find all as it was.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from greenroom import CannotStore, Runtime, SyncTurn, Turn, agent
from greenroom.actors.models import UnreadableValue
from greenroom.borders import BORDERS, traceback_of
from greenroom.drivers import command_agent

DEADLINE = 600.0


class Mute(Exception):
    """Ends the process of whoever asks it what it is."""

    def __str__(self) -> str:
        raise SystemExit(4)

    __repr__ = __str__


class MuteExit(SystemExit):
    """The same, and no Exception."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class Rude(BaseException):
    """No Exception, and of nobody's."""


class Masked(Exception):
    """Says nothing of its class."""

    @property
    def __class__(self) -> Any:
        raise SystemExit(5)

    @__class__.setter
    def __class__(self, _: Any) -> None: ...


RAISED: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": StopIteration,
    "an error without a text": Mute,
    "an error without a class": Masked,
    "an exit without a text": MuteExit,
    "a BaseException": Rude,
}

what: Callable[[], BaseException] = ValueError
"""What the code of the case raises, here and now."""


def bang(*_: Any, **__: Any) -> Any:
    raise what()


numbers = count()
Case = Callable[[Runtime], None]
CASES: dict[str, Case] = {}


def case(border: str) -> Callable[[Case], Case]:
    def add(it: Case) -> Case:
        assert border not in CASES
        CASES[border] = it
        return it

    return add


def fails(outcome: Any) -> None:
    # code that cancels itself may be said to have been interrupted
    assert outcome.status in ("failed", "interrupted")
    assert outcome.error


def run(open_: Runtime, kind: Any, input: Any = None) -> Any:
    return open_.spawn(kind, f"/case/{kind.__kind__.name}", input=input).run.outcome(DEADLINE)


# Code of a kind


@case("turn")
def turns(open_: Runtime) -> None:
    @agent(name="b-turn")
    async def raises(turn: Turn) -> None:
        bang()

    fails(run(open_, raises))


@case("turn on a thread")
def turns_on_threads(open_: Runtime) -> None:
    @agent(name="b-thread-turn")
    def raises(turn: SyncTurn) -> None:
        bang()

    fails(run(open_, raises))


class Awaited:
    def __await__(self) -> Iterator[Any]:
        yield from asyncio.sleep(0).__await__()
        bang()


@case("awaitable of a plain function")
def awaitables(open_: Runtime) -> None:
    @agent(name="b-awaitable")
    def returns(turn: SyncTurn) -> Any:
        return Awaited()

    fails(run(open_, returns))


class Handle:
    """What is taken for an agent, or for a run."""

    path = run_id = property(bang)


@case("call of a turn")
def calls_of_turns(open_: Runtime) -> None:
    @agent(name="b-calls")
    def calls(turn: SyncTurn) -> str:
        for call in (
            lambda: turn.followup(Handle(), 1),
            lambda: turn.wait(Handle()),
            lambda: turn.emit("x", Fields()),
        ):
            with suppress(BaseException):
                call()
                return "it did not raise"
        return "raised"

    assert run(open_, calls).result == "raised"


@case("given handle")
def handles(open_: Runtime) -> None:
    @agent(name="b-handles")
    async def uses(turn: Turn) -> None:
        await turn.wait(Handle())

    fails(run(open_, uses))


@case("constructor")
def constructors(open_: Runtime) -> None:
    @agent(name="b-constructor")
    class Unmade:
        __init__ = bang

        async def run(self, turn: Turn) -> None: ...

    fails(run(open_, Unmade))


@case("open")
def opens(open_: Runtime) -> None:
    @agent(name="b-open")
    class Opens:
        async def open(self, info: Any) -> None:
            bang()

        async def run(self, turn: Turn) -> None: ...

    fails(run(open_, Opens))


@case("open on a thread")
def opens_on_threads(open_: Runtime) -> None:
    @agent(name="b-thread-open")
    class Opens:
        def open(self, info: Any) -> None:
            bang()

        async def run(self, turn: Turn) -> None: ...

    fails(run(open_, Opens))


@case("close")
def closes(open_: Runtime) -> None:
    @agent(name="b-close")
    class Closes:
        async def run(self, turn: Turn) -> str:
            return "fine"

        async def close(self) -> None:
            bang()

    assert run(open_, Closes).result == "fine"
    ref = open_.agent("/case/b-close")
    assert ref.evict()
    assert ref.followup(2).result(DEADLINE) == "fine"


@case("close on a thread")
def closes_on_threads(open_: Runtime) -> None:
    @agent(name="b-thread-close")
    class Closes:
        async def run(self, turn: Turn) -> str:
            return "fine"

        def close(self) -> None:
            bang()

    assert run(open_, Closes).result == "fine"
    ref = open_.agent("/case/b-thread-close")
    assert ref.evict()
    assert ref.followup(2).result(DEADLINE) == "fine"


@case("state factory")
def state_factories(open_: Runtime) -> None:
    @agent(name="b-factory", state=bang)
    async def stateless(turn: Turn) -> None: ...

    fails(run(open_, stateless))
    with pytest.raises(BaseException):  # noqa: B017, PT011  # it is the caller's own code
        open_.agent("/case/b-factory").state()


@case("migrate")
def migrates(open_: Runtime) -> None:
    @agent(name="b-migrate")
    async def old(turn: Turn) -> None: ...

    assert run(open_, old).status == "completed"
    ref = open_.agent("/case/b-migrate")
    assert ref.evict()

    @agent(name="b-migrate", version=2, migrate=bang)
    async def new(turn: Turn) -> None: ...

    outcome = ref.followup(2).outcome(DEADLINE)
    fails(outcome)
    assert "migrate()" in outcome.error


# Values


class Unpicklable:
    __reduce__ = bang


class Unreadable:
    """Pickles, and raises when it is read."""

    def __reduce__(self) -> Any:
        return (bang, ())


class Stateful:
    __getstate__ = bang


@case("value to bytes")
def values_to_bytes(open_: Runtime) -> None:
    @agent(name="b-result")
    async def returns(turn: Turn) -> Any:
        with pytest.raises(CannotStore):
            await turn.send(turn.path, Unpicklable())
        with pytest.raises(CannotStore):
            await turn.spawn(returns, "child", config=Stateful())
        return Unpicklable()

    outcome = run(open_, returns)
    fails(outcome)
    assert "cannot be stored" in outcome.error
    ref = open_.agent("/case/b-result")
    for call in (
        lambda: ref.followup(Unpicklable()),
        lambda: ref.send(Stateful()),
        lambda: open_.spawn(returns, "/case/other", config=Unpicklable()),
    ):
        with pytest.raises(CannotStore):
            call()


@case("value from bytes")
def values_from_bytes(open_: Runtime) -> None:
    @agent(name="b-reads")
    async def reads(turn: Turn) -> Any:
        return [type(message.body).__name__ for message in turn.inbox]

    @agent(name="b-returns-unreadable")
    async def returns(turn: Turn) -> Any:
        return Unreadable()

    fails(run(open_, reads, Unreadable()))
    ref = open_.agent("/case/b-reads")
    ref.send(Unreadable())
    assert ref.followup(1).result(DEADLINE) == ["UnreadableValue"]
    assert type(run(open_, returns).result) is UnreadableValue


class Incomparable:
    """Pickles by its class and a number, and cannot be compared with another one."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce_ex__(self, protocol: int) -> Any:
        if sys._getframe(1).f_code.co_name == "_reduced":
            return (Incomparable, (), None, Iterates())
        return (Incomparable, (self.number,))


class Iterates:
    def __iter__(self) -> "Iterates":
        return self

    __next__ = bang


@case("comparison of values")
def compares(open_: Runtime) -> None:
    @agent(name="b-compare")
    async def takes(turn: Turn) -> str:
        one = await turn.followup("/case/other", Incomparable(1), key="it")
        other = await turn.followup("/case/other", Incomparable(2), key="it")
        return "one" if one.run_id == other.run_id else "two"

    @agent(name="b-compare-other")
    async def other(turn: Turn) -> int:
        return int(turn.input.number)

    if what is StopIteration:  # the end of an iterator, and no failure
        return
    assert (
        open_.spawn(other, "/case/other", input=Incomparable(1), run_id="b-one").run.result(DEADLINE) == 1
    )
    assert run(open_, takes).result == "one"
    if what is not KeyboardInterrupt:  # which goes on to the main thread, that called
        ref = open_.agent("/case/other")
        assert ref.followup(Incomparable(2), run_id="b-one").result(DEADLINE) == 1


@case("state to bytes")
def states_to_bytes(open_: Runtime) -> None:
    @agent(name="b-state")
    async def sets(turn: Turn) -> None:
        turn.state["it"] = Stateful()

    @agent(name="b-large-state")
    async def sets_large(turn: Turn) -> None:
        turn.state.update(large="x" * 5_000_000, it=Stateful())

    @agent(name="b-json-state", codec="json")
    async def sets_json(turn: Turn) -> None:
        turn.state["it"] = Fields()

    for kind in (sets, sets_large, sets_json):
        outcome = run(open_, kind)
        fails(outcome)
        assert "cannot be stored" in outcome.error


class Saved:
    __setstate__ = bang

    def __getstate__(self) -> Any:
        return {"some": "thing"}


@case("state from bytes")
def states_from_bytes(open_: Runtime) -> None:
    for name, size in (("b-saved", 1), ("b-large-saved", 5_000_000)):

        @agent(name=name)
        async def saves(turn: Turn) -> None:
            turn.state.update(large="x" * turn.input, it=Saved())

        assert run(open_, saves, size).status == "completed"
        ref = open_.agent(f"/case/{name}")
        assert ref.evict()
        fails(ref.followup(1).outcome(DEADLINE))


def _fields() -> Any:
    import dataclasses

    @dataclasses.dataclass
    class Fields:
        given: int = dataclasses.field(default=1)

    Fields.__getattribute__ = lambda self, name: (
        bang() if name == "given" else object.__getattribute__(self, name)
    )  # type: ignore[method-assign]
    return Fields


class Fields:
    """A dataclass by its looks: whoever looks at its fields has its code called."""

    @property
    def __dataclass_fields__(self) -> Any:
        return bang()

    __dict__ = property(bang)  # type: ignore[assignment]
    __iter__ = __len__ = __reduce__ = bang


@case("progress")
def progress(open_: Runtime) -> None:
    @agent(name="b-progress")
    async def emits(turn: Turn) -> None:
        with pytest.raises(CannotStore):
            turn.emit("it", Fields())
        with pytest.raises(CannotStore):
            turn.emit("it", _fields()())

    assert run(open_, emits).status == "completed"


# What is said of them


class Group(ExceptionGroup[Exception]):
    exceptions = property(bang)


@case("members of a group of errors")
def groups(open_: Runtime) -> None:
    @agent(name="b-group")
    async def raises(turn: Turn) -> None:
        raise Group("some", [ValueError("one")])

    outcome = run(open_, raises)
    fails(outcome)
    assert "ValueError: one" in outcome.error


@case("type of an error")
def types_of_errors(open_: Runtime) -> None:
    @agent(name="b-masked")
    async def raises(turn: Turn) -> None:
        raise Masked

    outcome = run(open_, raises)
    fails(outcome)
    assert outcome.error.startswith("Masked; at raises")


@case("text of an error")
def texts_of_errors(open_: Runtime) -> None:
    class Textless(Exception):
        __str__ = __repr__ = bang

    class Subtle(str):
        encode = __len__ = __format__ = __getitem__ = bang  # type: ignore[assignment]

    class Lying(Exception):
        def __str__(self) -> str:
            return Subtle("a text")

    @agent(name="b-texts")
    async def raises(turn: Turn) -> None:
        raise (Textless, Lying)[turn.input]

    outcome = run(open_, raises, 0)
    fails(outcome)
    assert "its text could not be made" in outcome.error
    assert "a text" in open_.agent("/case/b-texts").followup(1).outcome(DEADLINE).error


class Shapeless:
    __repr__ = __str__ = bang


@case("text of a value")
def texts_of_values(open_: Runtime) -> None:
    value: Any = Shapeless()
    ref = open_.spawn(good, "/case/texts")
    for call in (
        lambda: open_.spawn(good, value),
        lambda: open_.spawn(value, "/case/other"),
        lambda: open_.agent(value),
        lambda: open_.run(value),
        lambda: open_.wait([value]),
        lambda: open_.wait([], timeout=value),
        lambda: open_.list(limit=value),
        lambda: open_.list(status=value),
        lambda: open_.events(since=value),
        lambda: ref.followup(1, run_id=value),
        lambda: ref.followup(1, durability=value),
        lambda: ref.interrupt(cascade=value),
        lambda: Runtime(slots=value),
        lambda: Runtime(durability=value),
        lambda: Runtime(kinds=value),
        lambda: Runtime(retention=value),
        lambda: Runtime(value),
        lambda: agent(name=value)(lambda turn: None),
        lambda: agent(name="b-bad", version=value)(lambda turn: None),
    ):
        with pytest.raises((TypeError, ValueError, LookupError)):
            call()

    @agent(name="b-value")
    async def uses(turn: Turn) -> None:
        await turn.wait(value)

    fails(run(open_, uses))


@case("finaliser")
def finalisers(open_: Runtime) -> None:
    class Final:
        __del__ = bang

    @agent(name="b-final")
    async def drops(turn: Turn) -> str:
        circle: list[Any] = [Final()]
        circle.append(circle)
        del circle
        gc.collect()
        return "fine"

    assert run(open_, drops).result == "fine"


@case("described value")
def described(open_: Runtime) -> None:
    from greenroom.server.json_view import show

    class Items(dict[str, Any]):
        items = __iter__ = __len__ = __repr__ = bang

    for value in (Items(a=1), Shapeless(), _fields()(), [Items(a=1)]):
        assert b"text" in bytes(show(value, "/result").json)


# What calls are given


class Text(str):
    """A text that raises whenever anything but C looks at it."""

    __hash__ = __eq__ = __len__ = __format__ = __str__ = __repr__ = bang  # type: ignore[assignment]
    encode = startswith = split = isprintable = __getitem__ = __iter__ = __contains__ = bang  # type: ignore[assignment]


@case("given name")
def names(open_: Runtime) -> None:
    ref = open_.spawn(good, Text("/case/names"), input=1, run_id=Text("my-run"))
    assert type(ref.path) is str
    assert open_.run(Text("my-run")).outcome(DEADLINE).result == 1
    assert open_.agent(Text("/case/names")).followup(1, durability=Text("memory")).result(DEADLINE) == 2
    assert [info.path for info in open_.list(Text("/case"), status=Text("idle"))] == ["/case/names"]
    assert ref.interrupt(Text("my-run")) is False

    @agent(name=Text("b-names"), codec=Text("json"))
    async def uses(turn: Turn) -> Any:
        child = await turn.spawn(good, Text("child"))
        child_run = await turn.followup(Text("child"), 1)
        await turn.send(Text("child"), 1)
        turn.emit(Text("told"), 1)
        (outcome,) = await turn.wait(Text(child_run.run_id))
        return [type(child.path) is str, outcome.result]

    assert run(open_, uses).result == [True, 1]
    assert open_.spawn(Text("b-names"), "/case/more", input=1).run.outcome(DEADLINE).status == "completed"


@case("given iterable")
def iterables(open_: Runtime) -> None:
    if what is StopIteration:
        return  # the end of an iterator, and no failure
    for call in (
        lambda: open_.wait(Iterates()),  # type: ignore[arg-type]
        lambda: Runtime(kinds=Iterates()),  # type: ignore[arg-type]
    ):
        with pytest.raises(BaseException):  # noqa: B017, PT011  # it is the caller's own code
            call()


# Code of a driver's user

SAYS = [sys.executable, "-c", "import json; print(json.dumps({'said': 1}))"]


@case("prompt")
def prompts(open_: Runtime) -> None:
    fails(run(open_, command_agent(SAYS, name="b-prompt", prompt=bang)))


@case("answer")
def answers(open_: Runtime) -> None:
    fails(run(open_, command_agent(SAYS, name="b-answer", answer=bang)))


@case("permissions")
def permissions(open_: Runtime) -> None:
    acp = pytest.importorskip("acp")
    assert acp
    from greenroom.drivers import acp_agent

    program = Path(__file__).parent.parent / "drivers" / "programs" / "acp_stub.py"
    folder = Path(open_._settings.store).parent  # the program keeps its sessions in files
    name = f"b-permissions-{next(numbers)}"  # the folder is another one each time
    kind = acp_agent([sys.executable, str(program)], name=name, permissions=bang, cwd=folder)
    outcome = run(open_, kind, "permit")
    assert json.loads(outcome.result["message"])["optionId"] == "no"


@agent(name="b-good")
async def good(turn: Turn) -> Any:
    turn.state["count"] = turn.state.get("count", 0) + 1
    return turn.state["count"]


def test_each_border_has_its_case() -> None:
    assert set(CASES) == set(BORDERS)


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("border", BORDERS)
def test_what_is_raised_at_a_border_harms_nothing_else(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, border: str, raised: str
) -> None:
    monkeypatch.setitem(globals(), "what", RAISED[raised])
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    open_ = runtime(slots=1)
    bystander = open_.spawn(good, "/other/a", input=1)
    assert bystander.run.result(DEADLINE) == 1
    with ThreadPoolExecutor(1) as caller:  # a Ctrl-C is let through where it can come from a keyboard
        error = caller.submit(CASES[border], open_).exception(DEADLINE)
    if error is not None:  # without the values, whose texts pytest cannot make
        pytest.fail(traceback_of(error), pytrace=False)

    assert bystander.followup(2).result(DEADLINE) == 2
    assert open_.spawn(good, "/other/b", input=1).run.result(DEADLINE) == 1
    stats = open_.stats()
    assert (stats.running, stats.slots_taken) == (0, 0)
    before = time.monotonic()
    open_.close(drain=300.0)
    assert time.monotonic() - before < 300.0, "it has waited for a turn that is over"
