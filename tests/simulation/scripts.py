"""What the agents of the model do: each run brings a script, and does what it says.

They use all that a turn offers, on the loop and on threads, and tell `EXECUTING` when they are at work:
that is how turns are counted from outside of the runtime.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeAlias

from msgspec import Struct

# In virtual time: these agents live in simulations alone.
from greenroom import (
    AgentClosed,
    AgentInfo,
    AgentNotFound,
    OutOfTree,
    PathTaken,
    RunInterrupted,
    SyncTurn,
    Turn,
    WouldDeadlock,
    agent,
)

ATTEMPTS = 3
TERMINAL = ("run.completed", "run.failed", "run.interrupted")
DOES_NOT_OPEN = "it does not open"
AS_THE_SCRIPT_SAYS = "as the script says"
NO_TEXT = "its text could not be made"


class Unspeakable(Exception):
    """An error that ends the program when it is asked what it says."""

    def __str__(self) -> str:
        raise SystemExit(AS_THE_SCRIPT_SAYS)


class Script(Struct, frozen=True):
    """What one run does. It completes unless `fails` or `hangs`."""

    sleeps: float = 0.0
    steps: int = 0  # awaits of nothing in particular
    emits: bool = False
    sends: str | None = None  # a message to this path
    interrupts: str | None = None  # all that the agent there has accepted
    lists: bool = False
    children: int = 0  # runs of agents below, which it spawns and waits for
    child_sleeps: float = 0.0
    patience: float | None = None  # … and waits no longer than this
    after: bool = False  # … or has a continuation for
    checkpoint: bool = False
    reaches: str | None = None  # a path of another tree
    aside: bool = False  # does its work on a thread
    pauses: bool = False
    circles: bool = False  # waits for a run that can only begin when this one has ended
    fails: bool = False
    unspeakable: bool = False  # … with an error that has no text
    dies: bool = False  # kills the process, each time that it executes
    hangs: bool = False  # not on a thread
    continues: int = 0  # a continuation, after so many runs


Who: TypeAlias = tuple[str, int]


def whose(turn: Any) -> Who:
    """The agent at work: its path may have been another's, whose code goes on on a thread after its end."""
    while not isinstance(turn, Turn):
        turn = turn._turn  # from the thread to the loop
    return turn.path, turn._host.agent_id


class Executing:
    """The turns that execute at this moment, by their own account; empty after each crash."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.most = 0
        self.letters = 0
        self.openings = 0
        self.wrong: list[str] = []  # what a turn saw; raised there it would only fail the run
        self.houses_die = False  # some openings and closings of houses kill the process
        self.erased = False  # something was deleted, and its outcomes with it
        self.executed: Counter[str] = Counter()  # how often the code of a run has begun, in all processes
        self.died()

    def died(self) -> None:
        """The process is gone, and with it all that executed."""
        self.now: Counter[Who] = Counter()
        self.begun: set[Who] = set()  # also of turns that wait
        self.sessions: Counter[tuple[str, int]] = Counter()  # of houses
        self.dying: str | None = None  # the run whose code kills the process now, or what else does
        self.hanging: dict[str, str] = {}  # paths, and their runs that will not end by themselves

    def forget(self, run_ids: Iterable[str]) -> None:
        """Nobody knows any more that the code of these runs was executed."""
        for run_id in list(run_ids):
            del self.executed[run_id]

    def begins(self, turn: Any) -> None:
        """Code of a run begins: its turn knows how often it did before."""
        self.begun.add(whose(turn))
        before = self.executed[turn.run_id]
        if turn.attempt <= before:
            self.wrong.append(
                f"G3: {turn.run_id} has begun {before} times, and this is attempt {turn.attempt}"
            )
        self.executed[turn.run_id] += 1

    async def die(self, who: str, turn: Any = None) -> None:
        """Have the process die before anything else happens: `Process` sees to it. It may take until
        somebody has looked, and one that is interrupted meanwhile survives."""
        self.dying = who
        try:
            if isinstance(turn, OnThread):
                while True:
                    await turn.list()
            await asyncio.Event().wait()
        finally:
            if self.dying == who:
                self.dying = None

    def letter(self, run_id: str) -> str:
        """A message unlike all others: a turn that is begun again from its checkpoint sends another."""
        self.letters += 1
        return f"{run_id}, letter {self.letters}"

    def enter(self, turn: Any) -> None:
        who = whose(turn)
        self.now[who] += 1
        self.most = max(self.most, self.now.total())
        if self.now[who] != 1:
            self.wrong.append(f"G1: {self.now[who]} turns of {turn.path} at a time")

    def leave(self, turn: Any) -> None:
        self.now[whose(turn)] -= 1
        self.hanging.pop(turn.path, None)

    def waits(self, turn: Any) -> Callable[[Awaitable[Any]], Awaitable[Any]]:
        """Await without a slot. Interrupted meanwhile, a turn tidies up without one, too."""

        async def wait(what: Awaitable[Any]) -> Any:
            self.leave(turn)
            try:
                return await what
            finally:
                if turn.interrupted or turn.suspended:
                    self.now[whose(turn)] += 1  # for it to leave once more
                else:
                    self.enter(turn)

        return wait


EXECUTING = Executing()


WHOSE: ContextVar[str] = ContextVar("whose")
"""What every turn and every session sets for itself, and finds unset."""


def mark_context(who: str) -> None:
    """Code must see nothing of what other code has set."""
    if (other := WHOSE.get("")) not in ("", who):
        EXECUTING.wrong.append(f"{who} executes in the context of {other}")
    WHOSE.set(who)


async def play(turn: Any) -> str:
    """Do what the script says: for a `Turn`, and for a `SyncTurn` by way of `OnThread`."""
    mark_context(f"a turn of {turn.run_id}, {turn.attempt}")
    EXECUTING.begins(turn)
    EXECUTING.enter(turn)
    try:
        return await _play(turn, turn.input)
    finally:
        EXECUTING.leave(turn)
        EXECUTING.begun.discard(whose(turn))


async def _play(turn: Any, script: Script) -> str:
    if script.continues:
        ended = [outcome for outcome in turn.results if f"run.{outcome.status}" in TERMINAL]
        if len(ended) != script.continues and not EXECUTING.erased:
            EXECUTING.wrong.append(f"{turn.run_id} goes on after {len(ended)} of {script.continues} runs")
        return _done(turn)
    if isinstance(turn, Turn):
        await _take_time(script)
    if script.dies:
        await EXECUTING.die(turn.run_id, turn)
    if script.emits:
        turn.emit("half-way", script.steps)
    if script.reaches is not None:
        await _reach(turn, script.reaches)
    if script.lists:
        await _look_round(turn)
    if script.sends is not None:
        with suppress(AgentNotFound, AgentClosed):
            await turn.send(script.sends, EXECUTING.letter(turn.run_id))
    if script.interrupts is not None:
        with suppress(AgentNotFound, AgentClosed):
            await turn.interrupt(script.interrupts)
    if script.checkpoint:
        _read_mail(turn)  # which is read for good then, however the turn ends
        await turn.checkpoint()
    await _have_children(turn, script)
    if script.circles:
        await _go_in_a_circle(turn)
    if script.pauses:
        await EXECUTING.waits(turn)(_pause(turn))
    if script.hangs and isinstance(turn, Turn):
        EXECUTING.hanging[turn.path] = turn.run_id
        await asyncio.Event().wait()
    result = _done(turn, read=script.checkpoint)
    if script.fails:  # after it changed its state: that must not be seen
        if script.unspeakable:
            raise Unspeakable
        raise ValueError(AS_THE_SCRIPT_SAYS)
    return result


async def _take_time(script: Script) -> None:
    for _ in range(script.steps):
        await asyncio.sleep(0)
    if script.sleeps:
        await asyncio.sleep(script.sleeps)
    if script.aside:
        await asyncio.to_thread(str, script)


async def _have_children(turn: Any, script: Script) -> None:
    """Agents below, on the loop and on threads in turn, and a run of each."""
    runs = []
    for number in range(script.children):
        name = f"child{number}"
        with suppress(PathTaken):  # an earlier run's
            await turn.spawn(plain if number else worker, name)
        runs.append(await turn.followup(name, Script(steps=1, sleeps=script.child_sleeps)))
    if script.after:
        await turn.after(*runs, input=Script(continues=len(runs)))
    elif runs:
        waits = EXECUTING.waits(turn)
        try:
            outcomes = await waits(turn.wait(*runs, timeout=script.patience))
        except TimeoutError:
            if script.patience is None:
                raise
        else:
            if [outcome.run_id for outcome in outcomes] != [run.run_id for run in runs]:
                EXECUTING.wrong.append(f"G2: {turn.run_id} waited for {runs} and was told {outcomes}")


async def _go_in_a_circle(turn: Any) -> None:
    """Wait for a run behind this one: that is refused, or else nobody hears of either any more."""
    behind = await turn.followup(turn.path, Script())
    with suppress(WouldDeadlock):
        await EXECUTING.waits(turn)(turn.wait(behind))


async def _reach(turn: Any, path: str) -> None:
    """G8: whatever is tried with an agent of another tree is refused, and nothing is learnt of it."""
    tries: dict[str, Callable[[], Awaitable[Any]]] = {
        "sent to": lambda: turn.send(path, "not mine"),
        "gave work to": lambda: turn.followup(path, Script()),
        "interrupted": lambda: turn.interrupt(path),
        "spawned": lambda: turn.spawn(worker, f"{path}/mine"),
    }
    for what, attempt in tries.items():
        try:
            await attempt()
        except OutOfTree:
            continue
        except (AgentNotFound, AgentClosed, PathTaken):
            EXECUTING.wrong.append(f"G8: {turn.path} looked for {path}")
        else:
            EXECUTING.wrong.append(f"G8: {turn.path} {what} {path}")


async def _look_round(turn: Any) -> None:
    tree = turn.path.split("/")[1]
    for info in await turn.list():
        if info.path.split("/")[1] != tree:
            EXECUTING.wrong.append(f"G8: {turn.path} was told of {info.path}")


async def _pause(turn: Any) -> None:
    async with turn.paused():
        if isinstance(turn, Turn):
            await asyncio.sleep(1)


def _done(turn: Any, *, read: bool = False) -> str:
    turn.state["done"].append(turn.run_id)
    if not read:
        _read_mail(turn)
    return str(turn.run_id)


def _read_mail(turn: Any) -> None:
    turn.state["mail"] += [message.body for message in turn.inbox]


class OnThread:
    """A `SyncTurn` by the names of a `Turn`: its coroutines never wait, but the thread does."""

    def __init__(self, turn: SyncTurn) -> None:
        self._turn = turn

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._turn, name)
        if name not in ("spawn", "followup", "send", "interrupt", "list", "wait", "after", "checkpoint"):
            return method

        async def call(*given: Any, **named: Any) -> Any:
            return method(*given, **named)

        return call

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        with self._turn.paused():
            yield


def without_a_loop(code: Coroutine[Any, Any, str]) -> str:
    """Run a coroutine that awaits nothing."""
    try:
        code.send(None)
    except StopIteration as end:
        return str(end.value)
    raise AssertionError("code on a thread awaited something")


def _fresh() -> dict[str, list[str]]:
    return {"done": [], "mail": []}


@agent(name="model.worker", state=_fresh, attempts=ATTEMPTS)
async def worker(turn: Turn) -> str:
    """Remembers which runs it completed and which messages it read."""
    return await play(turn)


@agent(name="model.once", state=_fresh, attempts=1)
async def once(turn: Turn) -> str:
    """The same, and at most once."""
    if turn.attempt > 1:
        EXECUTING.wrong.append(f"G3: {turn.run_id} may begin once, and this is attempt {turn.attempt}")
    return await play(turn)


@agent(name="model.plain", state=_fresh, attempts=ATTEMPTS)
def plain(turn: SyncTurn) -> str:
    """The same on a thread. Interrupted, it tidies up by returning."""
    try:
        return without_a_loop(play(OnThread(turn)))
    except RunInterrupted:
        return "interrupted"


@agent(name="model.house", state=_fresh, attempts=ATTEMPTS, open_timeout=1.0, turn_timeout=4.0)
class House:
    """A worker with something to open and to close, which fails now and then, or never ends. It has less
    time for a turn than some take."""

    async def open(self, info: AgentInfo) -> None:
        EXECUTING.openings += 1
        self.turn = EXECUTING.openings % 7
        self.key = (info.path, info.config["life"])
        mark_context(f"session {EXECUTING.openings} of {info.path}")
        EXECUTING.sessions[self.key] += 1
        if EXECUTING.sessions[self.key] != 1:
            EXECUTING.wrong.append(f"G6: {info.path} is open twice")
        await asyncio.sleep(0.05)
        if EXECUTING.houses_die and EXECUTING.openings % 10 == 8:
            await EXECUTING.die(f"the opening of {info.path}")
        if self.turn == 4:
            raise ValueError(DOES_NOT_OPEN)
        if self.turn == 6:
            await asyncio.Event().wait()

    async def run(self, turn: Turn) -> str:
        return await play(turn)

    async def close(self) -> None:
        try:
            if EXECUTING.houses_die and self.turn == 3:
                await EXECUTING.die(f"the closing of {self.key[0]}")
            await asyncio.sleep(20.0 if self.turn == 5 else 0.01)  # the former is given up
            if not WHOSE.get("").endswith(f" of {self.key[0]}"):
                EXECUTING.wrong.append(
                    f"a session of {self.key[0]} is closed in the context of {WHOSE.get('nobody')}"
                )
        finally:
            EXECUTING.sessions[self.key] -= 1


KINDS = (worker, plain, House, once)
