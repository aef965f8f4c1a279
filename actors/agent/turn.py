"""What a kind's code gets: the turn it executes.

`Turn` is for `async def` kinds; its calls go to the actors as messages and come back as futures.
`SyncTurn` is the same for plain `def` kinds on a thread: each call is done on the loop and waited for.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import CancelledError as _Cancelled
from contextlib import asynccontextmanager, contextmanager
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import msgspec

from ...persistence.codec import Unreadable, canonical, dumps, loads
from ...persistence.protocol import MessageRow, RunRow, Snapshot
from ..directory.protocol import InterruptAgent, LocateAgent, SpawnAgent, SubmitRun
from ..errors import (
    CannotStore,
    GreenroomError,
    OutOfTree,
    RunFailed,
    RunInterrupted,
    SnapshotUnreadable,
    WouldDeadlock,
)
from ..handle import Handle
from ..ledger.protocol import (
    AwaitRun,
    Checkpoint,
    Continuation,
    DescribeAgents,
    DescribeRun,
    OutgoingMessage,
    ReportProgress,
)
from ..views import AgentInfo, AgentInfos, Message, Outcome, Outcomes, UnreadableValue, read
from ..vocabulary import (
    AgentId,
    Incarnation,
    Payload,
    RequestId,
    Role,
    RunId,
    check_path,
    checked_timeout,
    resolve,
    tree_of,
)
from .kind import kind_of
from .threads import wait_for_loop

T = TypeVar("T")

MOST_PROGRESS = 1 << 20
"""Bytes of one `run.progress` event; they are told to everybody who listens."""


class Pending(asyncio.Future[Any]):
    """The end of a run that is still open; `request` names the question."""

    def __init__(self, request: RequestId) -> None:
        super().__init__()
        self.request = request


class Host(Protocol):
    """The session's actor, as a turn sees it. All on the loop."""

    agent_id: AgentId
    incarnation: Incarnation

    @property
    def address(self) -> Any: ...

    def ask(self, to: Role, make: Callable[[RequestId], object]) -> "asyncio.Future[Any]":
        """Send the command that `make` makes of a request id; the future is its answer."""

    def tell(self, to: Role, message: object) -> None: ...

    def forget(self, pending: Pending, run_id: RunId) -> None:
        """Nobody waits for the end of this run any more."""

    def give_slot(self) -> None:
        """The turn waits: slot and place are for others, and its time stands still."""

    def regain_slot(self) -> "asyncio.Future[None]":
        """The wait is over; the future is done when there is room and a slot again."""

    async def snapshot(self) -> Snapshot | None:
        """The state at one moment, if it differs from what was recorded last.

        The outbox is that of the same moment when this returns.
        """

    def recorded(self, snapshot: Snapshot | None) -> None:
        """The ledger is told to record this."""


class TurnRun(Handle):
    """A run that this turn started; await it for its result."""

    def __init__(self, turn: "Turn", run_id: RunId, path: str) -> None:
        self.run_id, self.path, self._turn = run_id, path, turn
        self._ended: RunRow | None = None

    def __repr__(self) -> str:
        return f"<run {self.run_id} of {self.path}>"

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    def done(self) -> bool:
        """Whether this turn has seen its outcome."""
        return self._ended is not None

    async def outcome(self, timeout: float | None = None) -> Outcome:
        """Wait for the end, without a slot, and return how it was. Raises `TimeoutError`."""
        (outcome,) = await self._turn.wait(self, timeout=timeout)
        return outcome

    async def result(self, timeout: float | None = None) -> Any:
        """The result; raises `RunFailed`, `RunInterrupted` or `TimeoutError`."""
        return result_of(await self.outcome(timeout))


class TurnAgent(Handle):
    """An agent that this turn spawned."""

    def __init__(self, turn: "Turn", path: str) -> None:
        self.path, self._turn = path, turn

    def __repr__(self) -> str:
        return f"<agent {self.path}>"

    async def followup(self, input: Any) -> TurnRun:
        """`Turn.followup` for this agent."""
        return await self._turn.followup(self.path, input)

    async def send(self, body: Any) -> None:
        """`Turn.send` to this agent."""
        await self._turn.send(self.path, body)

    async def interrupt(self) -> bool:
        """`Turn.interrupt` of this agent."""
        return await self._turn.interrupt(self.path)


class Turn(Handle):
    """One execution attempt of a run.

    `state` is the agent's own, kept from turn to turn if this one completes; change it in place or set
    it anew. `input`, `config`, `inbox` and `results` are copies.
    """

    def __init__(
        self,
        host: Host,
        run: RunRow,
        *,
        again: bool,
        config: bytes,
        state: Any,
        inbox: tuple[MessageRow, ...],
        results: tuple[RunRow, ...],
    ) -> None:
        self.path: str = run.path
        self.run_id: str = run.run_id
        self.attempt: int = run.attempt
        self.input: Any = _given(run.input, f"input of run {run.run_id}", run.path)
        self.config: Any = _given(config, "config", run.path)
        self.state: Any = state
        self.inbox: list[Message] = [Message(read(m.body), m.sender, m.at) for m in inbox]
        self.results: list[Outcome] = [Outcome.of(result) for result in results]
        self.interrupted = False
        self.over = False
        self.continuation: Continuation | None = None
        self.outbox: list[OutgoingMessage] = []
        self._host = host
        self._again = again
        self._asked: dict[bytes, int] = {}
        self._waits = 0

    @property
    def _live(self) -> Host:
        """The host, as long as the turn is not over."""
        if self.over:
            raise GreenroomError(f"the turn of run {self.run_id} is over: it can do nothing any more")
        return self._host

    # Others in the tree

    async def spawn(self, kind: Any, name: str, *, config: Any = None) -> TurnAgent:
        """Spawn an agent below this one (or at an absolute path of this tree).

        Begun again after a crash, the turn gets the same agent. Raises `UnknownKind`, `InvalidPath`,
        `OutOfTree`, `PathTaken`.
        """
        found = kind_of(kind)
        path = self._path(name)
        payload = dumps(config, f"the config of {path}")
        origin = self._derive("spawn", path, found.name.encode())
        await self._live.ask(
            "directory",
            lambda request: SpawnAgent(
                request,
                self._live.address,
                path,
                found.name,
                found.version,
                payload,
                origin=origin,
            ),
        )
        return TurnAgent(self, path)

    async def followup(self, path: Any, input: Any) -> TurnRun:
        """Start a run of an agent of this tree, now; await what is returned for its result.

        Begun again after a crash, the turn gets the same run for the same input. Raises
        `AgentNotFound`, `AgentClosed`, `OutOfTree`, `CannotStore`, `BacklogFull`.
        """
        path = self._path(path)
        payload = dumps(input, f"the input for {path}")
        run_id = self._derive("run", path, canonical(input))
        accepted = await self._live.ask(
            "directory",
            lambda request: SubmitRun(
                request, self._live.address, path, payload, run_id, fresh=not self._again
            ),
        )
        return TurnRun(self, accepted.run_id, path)

    async def send(self, path: Any, body: Any) -> None:
        """Put a message in an agent's inbox when this turn is committed, and only then."""
        path = self._path(path)
        payload = dumps(body, f"the message to {path}")
        located = await self._live.ask(
            "directory", lambda request: LocateAgent(request, self._live.address, path)
        )
        _ = self._live  # it may have ended meanwhile, and its outbox is being committed
        self.outbox.append(OutgoingMessage(located.agent_id, path, payload))

    async def interrupt(self, path: Any) -> bool:
        """Interrupt the runs that an agent of this tree has accepted; whether there were any."""
        path = self._path(path)
        reason = f"interrupted by {self.path}"
        answer = await self._live.ask(
            "directory",
            lambda request: InterruptAgent(request, self._live.address, path, reason=reason),
        )
        return bool(answer.count)

    async def list(self) -> AgentInfos:
        """All open agents of this tree."""
        under, after = "/" + tree_of(self.path), None
        agents: list[AgentInfo] = []
        while True:
            page = await self._live.ask(
                "ledger",
                lambda request, after=after: DescribeAgents(  # type: ignore[misc]
                    request, self._live.address, under, None, after, 1_000
                ),
            )
            agents += [AgentInfo.of(agent) for agent in page.agents]
            after = page.next
            if after is None:
                return agents

    # Waiting

    async def wait(self, *runs: Any, timeout: float | None = None) -> Outcomes:
        """Wait until all `runs` have ended and return their outcomes, in that order.

        Gives the slot back meanwhile and has one again when it returns; runs that have ended cost no
        wait. A turn holds no slot as long as any of its waits goes on. Raises `WouldDeadlock` if one of
        them cannot end before this turn has. Raises `TimeoutError`, as soon as there is a slot to go on
        in: if runs that never end may hold all of them, bound these by their kind's `turn_timeout`.
        """
        checked_timeout(timeout)
        run_ids = [await self._run_id(run) for run in runs]
        own = self.continuation
        if own is not None and own.run_id in run_ids:
            circle = ("waits for", self.run_id, self.path), ("begins after", own.run_id, self.path)
            raise WouldDeadlock(circle)
        host = self._live
        answers = [
            host.ask(
                "ledger",
                lambda request, run_id=run_id: AwaitRun(  # type: ignore[misc]
                    request, host.address, run_id, tell_pending=True
                ),
            )
            for run_id in run_ids
        ]
        try:
            # each is answered at once: by the end of the run, or by a future of it
            firsts = [await answer for answer in answers]
            pending = [first for first in firsts if isinstance(first, Pending)]
            if pending:
                async with self._without_slot():
                    _, late = await asyncio.wait(pending, timeout=timeout)
                if late:
                    raise TimeoutError(f"{len(late)} of {len(runs)} runs have not ended")
            rows = [first.result() if isinstance(first, Pending) else first for first in firsts]
        finally:
            for answer, run_id in zip(answers, run_ids, strict=True):
                self._forget(answer, run_id)
        for run, ended in zip(runs, rows, strict=True):
            if isinstance(run, TurnRun):
                run._ended = ended.run
        return [Outcome.of(ended.run) for ended in rows]

    def _forget(self, answer: "asyncio.Future[Any]", run_id: RunId) -> None:
        """Have nobody told of a run whose end this wait did not see."""
        if not answer.done():
            answer.cancel()
        elif not answer.cancelled() and answer.exception() is None:
            first = answer.result()
            if isinstance(first, Pending) and not first.done():
                first.cancel()
                self._live.forget(first, run_id)

    async def after(self, *runs: Any, input: Any = None) -> TurnRun:
        """Have exactly one more run of this agent start, with `input`, when all `runs` have ended.

        It finds their outcomes in `turn.results`, in this order. Takes effect when this turn is
        committed; the agent can be evicted meanwhile. Returns that run.
        """
        _ = self._live
        if self.continuation is not None:
            raise RuntimeError("this turn has called after() already: name all runs in one call")
        run_ids = tuple([await self._run_id(run) for run in runs])
        payload = dumps(input, "the input of after()")
        run_id = RunId("run-" + blake2b(f"{self.run_id} after".encode(), digest_size=8).hexdigest())
        _ = self._live  # see `send`
        self.continuation = Continuation(run_id, run_ids, payload)
        return TurnRun(self, run_id, self.path)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Give slot and place back inside the block: for waiting on people and slow tools."""
        async with self._without_slot():
            yield

    @asynccontextmanager
    async def _without_slot(self) -> AsyncIterator[None]:
        if self._waits == 0:
            self._live.give_slot()
        self._waits += 1
        try:
            yield
        finally:
            self._waits -= 1
            # a turn that was interrupted unwinds at once; it does not queue for a slot to do so
            if self._waits == 0 and not self.interrupted:
                await self._regain()
        if self._waits == 0 and self.interrupted:
            raise asyncio.CancelledError  # the block ended all the same: nothing goes on without a slot

    async def _regain(self) -> None:
        """Wait for room and a slot, also while being cancelled: code never goes on without them."""
        regained = self._live.regain_slot()
        cancelled: asyncio.CancelledError | None = None
        with shielded():
            while not regained.done():
                try:
                    await asyncio.shield(regained)
                except asyncio.CancelledError as error:
                    cancelled = error
                    if self.interrupted:
                        break
        if cancelled is not None:
            raise cancelled

    async def checkpoint(self) -> None:
        """Commit the state and the messages sent so far; they stay, however this turn ends.

        Begun again after a crash, the turn finds that state. The runs and agents it has started are found
        by what is asked for: for its third child of one kind ask with an input that says "third".
        """
        snapshot = await self._live.snapshot()
        host = self._live  # it may have ended meanwhile
        outbox, self.outbox = tuple(self.outbox), []
        recorded = host.ask(
            "ledger",
            lambda request: Checkpoint(
                request,
                host.agent_id,
                host.incarnation,
                RunId(self.run_id),
                snapshot,
                outbox,
            ),
        )
        host.recorded(snapshot)  # before the answer: the next snapshot comes after this one
        await recorded

    def emit(self, name: str, data: Any = None) -> None:
        """Tell who listens how it goes: a `run.progress` event with `name` and JSON-like `data`."""
        if not isinstance(name, str):
            raise TypeError(f"a progress event's name is a str, not {type(name).__name__}")
        try:
            encoded = msgspec.json.encode({"name": name, "data": data})
        except (TypeError, ValueError, RecursionError) as error:
            raise CannotStore(f"the data of {name!r}", f"{error}; use JSON-like values") from None
        if len(encoded) > MOST_PROGRESS:
            raise CannotStore(
                f"the data of {name!r}", f"it takes {len(encoded):,} bytes, {MOST_PROGRESS:,} are allowed"
            )
        host = self._live
        run_id = RunId(self.run_id)
        host.tell("ledger", ReportProgress(host.agent_id, host.incarnation, run_id, encoded))

    # Paths and ids

    def _path(self, path: Any) -> str:
        named = path if isinstance(path, str) else getattr(path, "path", path)
        full = check_path(resolve(named, base=self.path) if isinstance(named, str) else named)
        if tree_of(full) != tree_of(self.path):
            raise OutOfTree(full, tree_of(self.path))
        return full

    async def _run_id(self, run: Any) -> RunId:
        """The id of a run that this turn may wait for: its own tree's, and not itself."""
        if isinstance(run, TurnRun):
            return RunId(run.run_id)
        run_id = run if isinstance(run, str) else getattr(run, "run_id", None)
        if not isinstance(run_id, str):
            raise TypeError(f"a run is meant by its handle or its id, not by {run!r}")
        if not run_id.isprintable():
            raise ValueError(f"a run id has printable characters only, not {run_id!r}")
        if run_id == self.run_id:
            raise WouldDeadlock((("waits for", self.run_id, self.path),))
        if self.continuation is not None and run_id == self.continuation.run_id:
            return RunId(run_id)  # nobody else knows it yet
        host = self._live
        found = await host.ask("ledger", lambda n: DescribeRun(n, host.address, RunId(run_id)))
        if tree_of(found.run.path) != tree_of(self.path):
            raise OutOfTree(found.run.path, tree_of(self.path))
        return RunId(run_id)

    def _derive(self, what: str, path: str, asked: bytes) -> RunId:
        """An id from this run and what it asks for, the same however often the turn is begun.

        Asking twice for the same is two things: the count tells them apart. A turn that goes on from
        its checkpoint counts from the beginning, so what it asks for there should say which one it is.
        """
        name = b"\0".join((self.run_id.encode(), what.encode(), path.encode(), asked))
        count = self._asked[name] = self._asked.get(name, 0) + 1
        digest = blake2b(name + b"\0" + str(count).encode(), digest_size=8).hexdigest()
        return RunId(f"run-{digest}")


@contextmanager
def shielded() -> Iterator[None]:
    """A block that anyio's cancel scopes around it leave alone until it is over.

    They cancel a task at every turn of the loop until it has left them: one that cannot leave yet would
    keep the loop spinning. asyncio's own cancellations come once, and come here as well.
    """
    anyio = sys.modules.get("anyio")
    if anyio is None:
        yield
        return
    scope = anyio.CancelScope(shield=True)
    scope.__enter__()
    try:
        yield
    except GeneratorExit:  # thrown away with its loop: there is no task that could leave the scope
        raise
    except BaseException as error:
        scope.__exit__(type(error), error, error.__traceback__)
        raise
    scope.__exit__(None, None, None)


def _given(payload: Payload, what: str, path: str) -> Any:
    try:
        return loads(payload)
    except Unreadable as error:
        raise SnapshotUnreadable.of_value(what, path, str(error)) from error


def result_of(outcome: Outcome) -> Any:
    """The result of a completed run; raises what another one means."""
    if outcome.status == "completed":
        if isinstance(outcome.result, UnreadableValue):
            what = f"result of run {outcome.run_id}"
            raise SnapshotUnreadable.of_value(what, outcome.path, outcome.result.problem)
        return outcome.result
    error = RunFailed if outcome.status == "failed" else RunInterrupted
    raise error(outcome.run_id, outcome.path, outcome.error or "no reason was given")


class SyncTurnRun(Handle):
    """A run that this turn started."""

    def __init__(self, turn: "SyncTurn", run: TurnRun) -> None:
        self.run_id, self.path, self._turn, self._run = run.run_id, run.path, turn, run

    def __repr__(self) -> str:
        return repr(self._run)

    def done(self) -> bool:
        """Whether this turn has seen its outcome."""
        return self._run.done()

    def outcome(self, timeout: float | None = None) -> Outcome:
        """Wait for the end, without a slot, and return how it was. Raises `TimeoutError`."""
        return self._turn._on_loop(lambda: self._run.outcome(timeout), waits=True)

    def result(self, timeout: float | None = None) -> Any:
        """The result; raises `RunFailed`, `RunInterrupted` or `TimeoutError`."""
        return self._turn._on_loop(lambda: self._run.result(timeout), waits=True)


class SyncTurnAgent(Handle):
    """An agent that this turn spawned."""

    def __init__(self, turn: "SyncTurn", path: str) -> None:
        self.path, self._turn = path, turn

    def __repr__(self) -> str:
        return f"<agent {self.path}>"

    def followup(self, input: Any) -> SyncTurnRun:
        """`SyncTurn.followup` for this agent."""
        return self._turn.followup(self.path, input)

    def send(self, body: Any) -> None:
        """`SyncTurn.send` to this agent."""
        self._turn.send(self.path, body)

    def interrupt(self) -> bool:
        """`SyncTurn.interrupt` of this agent."""
        return self._turn.interrupt(self.path)


class SyncTurn(Handle):
    """A `Turn` for code on a thread: the same names, blocking.

    Interrupted, `interrupted` is True and the calls that wait raise `RunInterrupted`; the slot is free
    when the code has returned.
    """

    def __init__(self, turn: Turn, loop: asyncio.AbstractEventLoop) -> None:
        self._turn, self._loop = turn, loop
        self.path, self.run_id, self.attempt = turn.path, turn.run_id, turn.attempt
        self.input, self.config = turn.input, turn.config
        self.inbox, self.results = turn.inbox, turn.results
        self._calls: set[asyncio.Task[Any]] = set()  # on the loop, of the call under way

    @property
    def state(self) -> Any:
        """The agent's own state, kept from turn to turn if this one completes."""
        return self._turn.state

    @state.setter
    def state(self, value: Any) -> None:
        self._turn.state = value

    @property
    def interrupted(self) -> bool:
        """Whether the turn should end: look at it now and then."""
        return self._turn.interrupted

    def spawn(self, kind: Any, name: str, *, config: Any = None) -> SyncTurnAgent:
        """See `Turn.spawn`."""
        return SyncTurnAgent(self, self._on_loop(lambda: self._turn.spawn(kind, name, config=config)).path)

    def followup(self, path: Any, input: Any) -> SyncTurnRun:
        """See `Turn.followup`."""
        return SyncTurnRun(self, self._on_loop(lambda: self._turn.followup(path, input)))

    def send(self, path: Any, body: Any) -> None:
        """See `Turn.send`."""
        self._on_loop(lambda: self._turn.send(path, body))

    def interrupt(self, path: Any) -> bool:
        """See `Turn.interrupt`."""
        return self._on_loop(lambda: self._turn.interrupt(path))

    def list(self) -> AgentInfos:
        """See `Turn.list`."""
        return self._on_loop(self._turn.list)

    def wait(self, *runs: Any, timeout: float | None = None) -> Outcomes:
        """See `Turn.wait`."""
        inner = [run._run if isinstance(run, SyncTurnRun) else run for run in runs]
        return self._on_loop(lambda: self._turn.wait(*inner, timeout=timeout), waits=True)

    def after(self, *runs: Any, input: Any = None) -> SyncTurnRun:
        """See `Turn.after`."""
        return SyncTurnRun(self, self._on_loop(lambda: self._turn.after(*runs, input=input)))

    def checkpoint(self) -> None:
        """See `Turn.checkpoint`."""
        self._on_loop(self._turn.checkpoint)

    def emit(self, name: str, data: Any = None) -> None:
        """See `Turn.emit`."""

        async def emit() -> None:
            self._turn.emit(name, data)

        self._on_loop(emit)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """See `Turn.paused`."""
        block = self._turn.paused()
        self._on_loop(block.__aenter__)
        try:
            yield
        finally:
            self._on_loop(lambda: block.__aexit__(None, None, None))

    def _on_loop(self, call: Callable[[], Coroutine[Any, Any, T]], *, waits: bool = False) -> T:
        """Do `call` on the loop and wait for it here; one that `waits` is not begun once interrupted."""

        async def tracked() -> T:
            task = asyncio.current_task()
            assert task is not None
            if waits and self._turn.interrupted:
                raise asyncio.CancelledError
            self._calls.add(task)
            try:
                return await call()
            finally:
                self._calls.discard(task)

        try:
            return wait_for_loop(tracked, self._loop)
        except (asyncio.CancelledError, _Cancelled):
            if not self._turn.interrupted:
                raise
            reason = "interrupted while it waited"
            raise RunInterrupted(self.run_id, self.path, reason) from None

    def cancel_calls(self) -> None:
        """The turn was interrupted: end the calls that wait, on the loop."""
        for task in list(self._calls):
            task.cancel()
