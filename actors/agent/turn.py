"""The turn that a kind's code gets: the turn it executes.

`Turn` is for `async def` kinds; its calls go to the actors as messages and come back as futures.
`SyncTurn` is the same for plain `def` kinds on a thread: each call is done on the loop and waited for.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from threading import current_thread
from typing import Any, TypeVar

import msgspec

from ...borders import error_text, let_out, plain, type_name
from ...errors import (
    CannotStore,
    GreenroomError,
    RuntimeClosing,
    WouldDeadlock,
)
from ...paths import tree_of
from ...persistence.rows import RunRow
from ...run_ids import derived_id, stem_of
from ...seconds import checked_timeout
from ...types import RunId
from ..directory.protocol import InterruptAgent, LocateAgent
from ..handle import Handle
from ..ledger.descriptions import DescribeAgents
from ..ledger.protocol import AwaitRun, Checkpoint, Continuation, OutgoingMessage
from ..models import (
    AgentInfo,
    AgentInfos,
    Message,
    Outcome,
    Outcomes,
)
from . import starting
from .aside import Encoding, encoded, infos_of, outcomes_of
from .divergence import Divergence
from .executing import in_child
from .identities import Identities
from .kind import kind_of
from .naming import id_of, path_of
from .shielding import shielded
from .turn_handles import TurnAgent, TurnRun
from .turn_host import Host, Pending
from .turn_input import Given

log = logging.getLogger("greenroom")

T = TypeVar("T")

FORKED = (
    "this process was forked in a turn, which its parent executes: nothing was recorded. Have it do its "
    "own work and end with os._exit(), or use subprocess or multiprocessing"
)

MOST_PROGRESS = 1 << 20
"""Bytes of one `run.progress` event; they are told to everybody who listens."""


class Turn(Handle):
    """One execution attempt of a run.

    `interrupted`: it was told to end, for good. `suspended`: the runtime closes and cuts it off, and its
    run begins again with the next one; what it asks for from then on raises `RuntimeClosing`.

    `state` is the agent's own, kept from turn to turn if this one completes; change it in place or set
    it anew. `input`, `config`, `inbox` and `results` are copies.
    """

    def __init__(
        self,
        host: Host,
        run: RunRow,
        given: Given,
        *,
        again: bool,
        state: Any,
    ) -> None:
        self._path: str = run.path
        self._run_id: str = run.run_id
        self._attempt: int = run.attempt
        self.input: Any = given.input
        self.config: Any = given.config
        self.state: Any = state
        self.inbox: list[Message] = given.inbox
        self.results: list[Outcome] = given.results
        self._interrupted = False
        self._suspended = False
        self._over = False
        self._continuation: Continuation | None = None
        self._outbox: list[OutgoingMessage] = []
        self._host = host
        self._again = again
        self._serial, self._divided_at = run.serial, run.divided_at
        self._stem = run.stem or stem_of("", run.serial, run.accepted_at)
        self._identities = Identities(run.run_id, run.path)
        self._spawned: set[str] = set()  # paths, by this turn
        self._diverged: Divergence | None = None
        self._waits = 0
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()

    @property
    def path(self) -> str:
        """The agent's."""
        return self._path

    @property
    def run_id(self) -> str:
        """The run that is executed."""
        return self._run_id

    @property
    def attempt(self) -> int:
        """How often the run's code was begun, this time included."""
        return self._attempt

    @property
    def interrupted(self) -> bool:
        """Whether the turn was interrupted."""
        return self._interrupted

    @property
    def suspended(self) -> bool:
        """Whether the runtime closes and has cut the turn off: its run begins again with the next one."""
        return self._suspended

    @property
    def _live(self) -> Host:
        """The host, as long as the turn is not over, nor cut off by the end of the runtime."""
        if self._suspended:
            raise RuntimeClosing(
                f"the runtime closes and has cut off run {self.run_id}, which begins again with the next"
            )
        if self._over:
            raise GreenroomError(f"the turn of run {self.run_id} is over: it can do nothing any more")
        loop = asyncio._get_running_loop()
        if loop is not None and loop is not self._loop:
            raise GreenroomError(
                f"a call of {self.path}'s turn was awaited on another loop, where its answer never comes: "
                "await it in the turn's own code, not with asyncio.run() or on a thread's loop"
            )
        if in_child(self._pid):
            raise GreenroomError(FORKED)
        return self._host

    @property
    def _holds_slot(self) -> bool:
        return not self._over and self._waits == 0

    # Others in the tree

    def spawn(self, kind: Any, name: str, *, config: Any = None) -> Coroutine[Any, Any, TurnAgent]:
        """Spawn an agent below this one (or at an absolute path of this tree); to be awaited.

        Begun again after a crash, the turn gets the agent that its run spawned at that path. Raises
        `UnknownKind`, `InvalidPath`, `OutOfTree`, `PathTaken`, `CannotStore`.
        """
        try:
            found = kind_of(kind)
            path = path_of(self, name)
            encoding = Encoding(config, f"the config of {path}")
        except Exception as error:
            return _raising(error)
        finds = path not in self._spawned
        self._spawned.add(path)
        return starting.spawn(self, found, path, encoding, finds=finds)

    def followup(
        self, path: Any, input: Any, *, key: str | int | None = None
    ) -> Coroutine[Any, Any, TurnRun]:
        """Start a run of an agent of this tree; to be awaited, and what that returns for its result.

        Begun again after a crash, the turn gets the run that this call started before: the one with this
        `key`, or else the one with this count among its calls for that path. The call itself takes the
        count, and raises `KeyNeeded` where that could mean two runs. Awaited, it raises `AgentNotFound`,
        `AgentClosed`, `OutOfTree`, `CannotStore`.
        """
        return self._followup_by(_caller(), path, input, key)

    def _followup_by(
        self, caller: object, path: Any, input: Any, key: str | int | None
    ) -> Coroutine[Any, Any, TurnRun]:
        try:
            path = path_of(self, path)
        except Exception as error:
            return _raising(error)
        identity = self._identities.take("run", path, key, caller)
        try:
            encoding = Encoding(input, f"the input for {path}")
        except Exception as error:
            return _raising(error)
        return starting.followup(self, identity, encoding)

    async def send(self, path: Any, body: Any) -> None:
        """Put a message in an agent's inbox when this turn is committed, and only then."""
        path = path_of(self, path)
        payload = await encoded(body, f"the message to {path}")
        located = await self._live.ask(
            "directory", lambda request: LocateAgent(request, self._live.address, path)
        )
        _ = self._live  # it may have ended meanwhile, and its outbox is being committed
        self._outbox.append(OutgoingMessage(located.agent_id, path, payload))

    async def interrupt(self, path: Any) -> bool:
        """Interrupt the runs that an agent of this tree has accepted; whether there were any."""
        path = path_of(self, path)
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
            agents += await infos_of(page.agents)
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
        timeout = checked_timeout(timeout)
        run_ids = [await id_of(self, run) for run in runs]
        own = self._continuation
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
        return await outcomes_of([ended.run for ended in rows])

    def _forget(self, answer: "asyncio.Future[Any]", run_id: RunId) -> None:
        """Have nobody told of a run whose end this wait did not see."""
        if not answer.done():
            answer.cancel()
        elif not answer.cancelled() and answer.exception() is None:
            first = answer.result()
            if isinstance(first, Pending) and not first.done():
                first.cancel()
                self._host.forget(first, run_id)

    async def after(self, *runs: Any, input: Any = None) -> TurnRun:
        """Have exactly one more run of this agent start, with `input`, when all `runs` have ended.

        It finds their outcomes in `turn.results`, in this order. Takes effect when this turn is
        committed; the agent can be evicted meanwhile. Returns that run.
        """
        _ = self._live
        if self._continuation is not None:
            raise RuntimeError("this turn has called after() already: name all runs in one call")
        run_ids = tuple([await id_of(self, run) for run in runs])
        payload = await encoded(input, "the input of after()")
        run_id = derived_id(self._stem, "after")
        _ = self._live  # see `send`
        self._continuation = Continuation(run_id, run_ids, payload)
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
            # a turn that is to end unwinds at once; it does not queue for a slot to do so
            if self._waits == 0 and not self._is_to_end:
                await self._regain()
        if self._waits == 0 and self._is_to_end:
            raise asyncio.CancelledError  # the block ended all the same: nothing goes on without a slot

    @property
    def _is_to_end(self) -> bool:
        return self.interrupted or self.suspended

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
                    if self._is_to_end:
                        break
        if cancelled is not None:
            raise cancelled

    async def checkpoint(self) -> None:
        """Commit the state, the messages of `inbox` as read and those sent so far, all as one.

        They stay, however this turn ends. Begun again after a crash, the turn finds that state, and an
        `inbox` without those messages. Runs that it asks for under one name before and after need a `key=`.
        """
        self._identities.divide()
        snapshot = await self._live.snapshot()
        self._identities.divide()
        host = self._live  # it may have ended meanwhile
        outbox, self._outbox = tuple(self._outbox), []
        read_upto, divides = host.read_mail(), self._identities.counts
        recorded = host.ask(
            "ledger",
            lambda request: Checkpoint(
                request,
                host.agent_id,
                host.incarnation,
                RunId(self.run_id),
                snapshot,
                read_upto,
                outbox,
                divides,
            ),
        )
        host.recorded(snapshot)  # before the answer: the next snapshot comes after this one
        await recorded

    def emit(self, name: str, data: Any = None) -> None:
        """Tell who listens how it goes: a `run.progress` event with `name` and JSON-like `data`."""
        if not isinstance(name, str):
            raise TypeError(f"a progress event's name is a str, not {type_name(name)}")
        name = plain(name)
        try:
            encoded = msgspec.json.encode({"name": name, "data": data})
        except BaseException as error:  # of msgspec, which looks into objects of the user's
            let_out(error)
            raise CannotStore(f"the data of {name!r}", error_text(error), CannotStore.JSON_LIKE) from None
        if len(encoded) > MOST_PROGRESS:
            raise CannotStore.too_large(f"the data of {name!r}", len(encoded), MOST_PROGRESS)
        self._live.report(encoded)


def _caller() -> object:
    """The task that makes a call on the loop, or the thread elsewhere."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return current_thread()


async def _raising(error: Exception) -> Any:
    """For what is wrong with a call whose answer is awaited."""
    raise error
