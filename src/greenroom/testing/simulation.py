"""`Simulation`: a `Runtime` whose every interleaving, delay and fault comes from a seed.

It runs on the caller's thread, and only within calls: a call runs agents, actors and disk until its answer
is there. In between nothing happens and no time passes. The same seed, calls and code are the same
simulation, to the last line of its trace.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from queue import Empty
from typing import Any, Self, TypeVar

from ..actors.agent.kind import listeners
from ..actors.environment import Environment
from ..actors.face.async_runtime import AsyncRuntime
from ..actors.face.engine import Engine
from ..actors.face.runtime import Runtime
from ..actors.systems.choices import Choices, Scheduled, Seeded
from ..actors.systems.simulated import DISK_PAUSES, HORIZON, SimulatedSystemBase
from ..actors.systems.trace import Trace
from ..actors.systems.virtual import NothingCanHappen, VirtualLoop
from ..errors import RuntimeClosing
from ..persistence.simulated import Disk
from ..retention import DEFAULT, Retention
from ..types import Durability
from .injected_faults import NO_FAULTS, Crashed, Faults, FaultyTurn
from .repeating import this_command

T = TypeVar("T")

EPOCH = 1_000_000_000.0
"""The time at which a simulation begins: 2001-09-09 01:46:40 UTC."""

TRACE_LINES_SHOWN = 40
"""Lines of the trace that a failure brings with it."""


class Simulation(Runtime):
    """A runtime in virtual time, with the names of `Runtime`. Use it as a context manager.

    Args:
        seed: where all choices come from. The same one makes the same simulation.
        schedule: instead of a seed, the choices that are not the natural ones, by their numbers, as in
            `Simulation.schedule` of an earlier simulation.
        choices: instead of both, any other source (Hypothesis, most of all; see `strategies`).
        faults: what may go wrong, from the start on; see `Simulation.faults`.
        pauses: seconds, of which the times of the disk are chosen.
        again: the command that repeats it, for the note on a failure; default: that of this process.

    The others are those of `Runtime`. The store is a disk of its own, in memory, which outlives crashes.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        schedule: Mapping[int, int] | None = None,
        choices: Choices | None = None,
        faults: Faults = NO_FAULTS,
        pauses: tuple[float, ...] = DISK_PAUSES,
        again: str | None = None,
        slots: int = 8,
        residents: int = 64,
        backlog: int = 100_000,
        durability: Durability = "process",
        drain: float = 10.0,
        kinds: Iterable[Any] = (),
        retention: Retention = DEFAULT,
    ) -> None:
        super().__init__(
            slots=slots,
            residents=residents,
            backlog=backlog,
            durability=durability,
            drain=drain,
            kinds=kinds,
            retention=retention,
        )
        self._settings.store = "the simulated store"
        if choices is None:
            choices = Seeded(seed) if schedule is None else Scheduled(schedule)
        self.seed, self.choices = seed, choices
        self._again, self._pauses, self._faults = again, pauses, faults
        self._trace = Trace()
        self._gone: list[VirtualLoop] = []
        self._clock_is_off = 0.0
        self._disk = Disk(
            self._settings.store,
            write_problem=lambda: self._faults.disk_problem(self._faults.commit_fails, choices),
            read_problem=lambda: self._faults.disk_problem(self._faults.read_fails, choices),
        )
        self._begin(0.0)

    def _begin(self, now: float) -> None:
        """A new process, that has opened nothing yet."""
        loop = self.loop = VirtualLoop(self.choices, self._trace, now=now)
        loop.before_step = self._before_step
        loop.watch_turn = self._watch_turn
        world = Environment(
            base=lambda _: SimulatedSystemBase(loop, pauses=self._pauses),
            clock=lambda: EPOCH + loop.time() + self._clock_is_off,
            monotonic=loop.time,
            answers=lambda: _Answers(self),
            watchdog=None,
            store_opener=self._disk.open_store,
            reader_opener=self._disk.open_reader,
        )
        self._engine = self._mortal = _Mortal(self._settings, None, world)
        self._state = "new"

    # Driving

    def run_until_idle(self) -> None:
        """Run until nothing is left to happen; time jumps wherever somebody sleeps.

        Raises `NothingCanHappen` if that does not come to an end.
        """
        self._drive(lambda: False, HORIZON)

    def advance(self, seconds: float) -> None:
        """Run what happens within the next `seconds`, and let them pass."""
        self._drive(lambda: False, seconds)
        self.loop.pass_to(self._until)

    def run(self, run: "str | Coroutine[Any, Any, T]") -> Any:
        """`Runtime.run` for a run's id; a coroutine is run until it is done, and its result returned."""
        if isinstance(run, str):
            return super().run(run)
        task = self.loop.create_task(run, name="the test")
        self.drive(task.done)
        return task.result()

    def drive(self, done: Callable[[], bool]) -> None:
        """Run until `done`, which is asked after each step. Raises `NothingCanHappen` if that cannot be."""
        if not self._drive(done, HORIZON):
            raise NothingCanHappen("nothing can happen any more, and what was waited for has not")

    def _drive(self, done: Callable[[], bool], seconds: float) -> bool:
        self._until = self.loop.time() + seconds
        return self.loop.drive(done, until=self._until)

    @property
    def now(self) -> float:
        """The agents' time, in seconds since the epoch."""
        return EPOCH + self.loop.time() + self._clock_is_off

    @property
    def aio(self) -> AsyncRuntime:
        """The same runtime with the names of `AsyncRuntime`, for coroutines that are given to `run`.

        So several callers can be under way at once: `sim.run(asyncio.gather(...))` does not, a coroutine
        that gathers does.
        """
        if self._state != "up":
            raise RuntimeClosing("the simulation was not started")
        face = AsyncRuntime()
        face._settings, face._engine, face._state = self._settings, self._engine, "up"
        return face

    # Faults

    def faults(self, faults: Faults = NO_FAULTS) -> Faults:
        """Have this go wrong from now on; without an argument, nothing. Returns what did before."""
        before, self._faults = self._faults, faults
        return before

    def crash(self, *, power: bool = False) -> None:
        """The process dies, now. With `power` so does the machine: what was not flushed may be lost.

        Nothing that was under way goes on, not even its `finally`. `reopen` begins a new process.
        """
        if self._state == "up":
            self._die(power=power)

    def set_clock_off(self, seconds: float) -> None:
        """Have the wall clock show so many seconds more than is right, or less; 0 puts it right.

        Sleeps and time-outs go on as before.
        """
        self._clock_is_off = seconds

    def take_store_away(self) -> None:
        """Have somebody move the open store to where nobody finds it, and put a copy in its place."""
        self._disk.take_away()

    def put_store_back(self) -> None:
        """Have them put the open file back. Once the process is gone, the copy is the store."""
        self._disk.put_back()

    def reopen(self) -> Self:
        """Begin a new process on what is on the disk, after `crash` or `close`. Time goes on.

        Handles of agents and runs stay good. Raises `Crashed` if this one dies as well while it starts.
        """
        if self._state == "up":
            raise RuntimeClosing("it is open: crash or close it first")
        self._gone.append(self.loop)
        self._begin(self.loop.time())
        return self.start()

    @property
    def is_up(self) -> bool:
        """Whether it is open: it has not crashed, nor was it closed."""
        return self._state == "up"

    def image(self) -> bytes:
        """The store's file as of the last commit: what the next process would find if this one died now."""
        return self._disk.image()

    def save(self, path: str) -> None:
        """Write the store's file as of the last commit, for `greenroom doctor` and its like."""
        self._disk.save(path)

    def _before_step(self) -> None:
        faults = self._faults
        if faults.crash and self.choices.chance(faults.crash):
            self._die(power=self.choices.chance(faults.power))
            raise Crashed("the simulated process died here")

    def _die(self, *, power: bool) -> None:
        self._trace.add(self.loop.time(), "the power goes" if power else "the process dies")
        self.loop.abandon()
        if power:
            self._disk.power_cut(self.choices.choose)
        else:
            self._disk.crash()
        self._mortal.die(Crashed("the simulated process has died: reopen() begins a new one"))
        self._state = "closed"

    def _watch_turn(self, code: Coroutine[Any, Any, Any]) -> Any:
        return FaultyTurn(code, lambda: self._faults, self.choices)

    # Observations

    def trace(self, last: int | None = None) -> str:
        """The messages that were received, a line each: number, virtual time, and what happened."""
        return "\n".join(self._trace.lines(last))

    @property
    def schedule(self) -> dict[int, int]:
        """The choices so far that were not the natural ones: `Simulation(schedule=…)` repeats them."""
        return dict(self.choices.taken)

    def __exit__(self, *exception: object) -> None:
        error = exception[1] if len(exception) > 1 else None
        try:
            if isinstance(error, BaseException):
                self._tell(error)
                self.crash()
            else:
                self.faults()
                try:
                    self.close()
                except BaseException as failure:
                    self._tell(failure)
                    raise
        finally:
            for loop in (*self._gone, self.loop):
                loop.to_dead_letters()

    def _tell(self, error: BaseException) -> None:
        """Note on `error` which simulation it was, the command that repeats it and the end of its trace."""
        drawn = isinstance(self.choices, Seeded)
        name = f"seed={self.seed}" if drawn else f"schedule={self.schedule}"
        again = self._again or this_command()
        error.add_note(
            f"\nIn Simulation({name}). To repeat it: {again}\n"
            f"The last of what happened there:\n{self.trace(TRACE_LINES_SHOWN)}"
        )


class _Mortal(Engine):
    """An engine whose process can die."""

    _base: SimulatedSystemBase

    def die(self, error: Exception) -> None:
        """Nobody is answered any more, and whoever asks gets `error`."""
        listeners.pop(self._kind_registered, None)
        self.callers.waiting.clear()
        self.callers.failure = error  # type: ignore[assignment]
        self._base.abandon()


class _Answers:
    """Where a caller of a simulation waits: it runs the simulation meanwhile."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)

    def get(self, timeout: float | None = None) -> Any:
        """The next answer. Raises `queue.Empty` after `timeout` of virtual time."""
        simulation, items = self._simulation, self._items
        if timeout is None:
            simulation.drive(lambda: bool(items))
        elif not simulation._drive(lambda: bool(items), timeout):
            simulation.loop.pass_to(simulation._until)
            raise Empty
        return items.popleft()
