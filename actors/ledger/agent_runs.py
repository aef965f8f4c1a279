"""The open runs of one agent, and where its session stands.

A desk exists while the agent has open runs or is (about to be) in memory. It is told what happens and
knows what the agent's status is; it decides nothing about other agents.
"""

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from ...persistence.rows import AgentRow, MessageRow, RunRow
from ...types import Address, AgentId, AgentStatus, Durability, Incarnation, RequestId, RunId
from ..effects import Send


class OpenRun(Struct, eq=False):
    """A run without an outcome.

    There may be many that only wait in a queue. Such a one holds plain values alone, so Python's collector
    passes it by: a full collection would stop everybody for a microsecond or so for each of them.
    """

    row: RunRow
    waiting_for: set[RunId] | tuple[()]  # a continuation's runs that have not ended
    durability: Durability  # that of its acceptance, and so of its beginning
    recovered: bool = False  # it was open when the store was opened
    before: RunRow | None = None  # its row before the turn under way, which counts until that has begun
    begun_by: int = 0  # the commit log's entry that says so; its turn starts when that is durable
    beginning: Send | None = None  # The message that is sent then.
    state: str = "queued"  # "waiting", "queued", "running", "interrupting", "ended"
    interrupted: str | None = None  # why, once its turn was told to end
    cancelled: int = 0  # how often its turn was cancelled, and by nobody here
    suspect: bool = False  # its turn under way began as the only suspect
    asks: bool = False  # it asks before it goes on after a wait
    outran: bool = False  # its turn has been the only suspect for long enough
    resuming: int | None = None  # a suspect's turn wants to go on after this wait
    asked: dict[RequestId, Address] | tuple[()] = ()  # who waits for its end
    continuations: list["OpenRun"] | tuple[()] = ()  # the runs that wait for this one
    untold: int = 0  # progress events that were dropped, which nobody was told of yet

    @property
    def goes_on(self) -> bool:
        """Whether it is a continuation, or has begun before: then it comes before what is new."""
        return bool(self.row.awaits) or self.row.started_at is not None

    @property
    def waiters(self) -> dict[RequestId, Address]:
        """The requests that wait for its end, to be added to."""
        waiters = self.asked = self.asked or {}
        return waiters


class AgentRuns(Struct):
    """One agent's open runs in order, and where its session stands."""

    agent_id: AgentId
    path: str
    kind: str
    queue: deque[OpenRun] | tuple[()] = ()  # none, or some: an empty deque takes as much as all the rest
    waiting: dict[RunId, OpenRun] = {}  # continuations whose runs have not all ended
    running: OpenRun | None = None
    executor: Address | None = None  # the session that runs it
    in_wait: bool = False  # that turn waits, without a slot
    awaited: dict[RequestId, RunId] | tuple[()] = ()  # open runs whose end its turn has asked for
    called: bool = False  # the residency was asked to have the session take a run
    offered: bool = False  # its image was handed to the residency, which has not loaded it yet
    present: bool = False  # the agent is being loaded, or in memory
    opening: bool = False  # The agent is present, and its session is not open yet.
    opens_for: OpenRun | None = None  # The run that a crash of the opening is held against.
    incarnation: Incarnation = Incarnation(0)
    recorded: Incarnation = Incarnation(0)  # the last one that was committed
    mail: list[MessageRow] | tuple[()] = ()  # accepted since the agent was loaded, and not read yet
    erasures: int = 0  # deletions of agents that its session knows of
    kind_missing: bool = False
    haunted: bool = False  # its last session crashed, and there is no newer one yet
    suspected: bool = False  # its last run ended the process too often: so may the next
    ends: bool = False  # its agent is being closed: it begins nothing any more
    gone: int = 0  # runs in the queue that have ended; neither the first nor the last is one

    def post(self, message: MessageRow) -> None:
        """A message was accepted."""
        mail = self.mail = self.mail or []
        mail.append(message)

    def awaits(self, request: RequestId, run_id: RunId) -> None:
        """The turn under way asks for the outcome of this run, which is open."""
        awaited = self.awaited = self.awaited or {}
        awaited[request] = run_id

    def awaits_no_more(self, request: RequestId) -> None:
        """That outcome was told, or nobody waits for it."""
        if self.awaited:
            self.awaited.pop(request, None)
            self.awaited = self.awaited or ()

    @property
    def goes_on(self) -> bool:
        """Whether the run that is next goes on."""
        return next((run.goes_on for run in self.queue), False)

    def stops(self) -> None:
        """No run is under way any more."""
        self.running, self.executor, self.awaited, self.in_wait = None, None, (), False

    def push(self, run: OpenRun) -> None:
        """Queue a run behind all others."""
        queue = self.queue = self.queue or deque()
        queue.append(run)

    def put_back(self, run: OpenRun) -> None:
        """Queue a run again, before all others."""
        queue = self.queue = self.queue or deque()
        queue.appendleft(run)

    def pull(self) -> OpenRun:
        """Take the first run."""
        assert isinstance(self.queue, deque)
        run = self.queue.popleft()
        if self.gone:
            self._trim(self.queue)
        self.queue = self.queue or ()
        return run

    def drop(self, run: OpenRun) -> None:
        """Take a run that has ended out of the queue; O(1) amortised, wherever it stands.

        One in the middle stays there, marked by its state, until the ends of the queue reach it or until
        half of the queue is such.
        """
        queue = self.queue
        assert isinstance(queue, deque)
        self.gone += 1
        if run is queue[0] or run is queue[-1]:
            self._trim(queue)
        elif 2 * self.gone > len(queue):
            queue = deque(each for each in queue if each.state != "ended")
            self.gone = 0
        self.queue = queue or ()

    def _trim(self, queue: deque[OpenRun]) -> None:
        """Have a run that is open at each end of the queue."""
        while queue and queue[0].state == "ended":
            queue.popleft()
            self.gone -= 1
        while queue and queue[-1].state == "ended":
            queue.pop()
            self.gone -= 1

    @property
    def queued(self) -> list[OpenRun]:
        """The runs in the queue, in order; O(queue)."""
        return [run for run in self.queue if run.state != "ended"] if self.gone else list(self.queue)

    def upcoming(self) -> Iterator[OpenRun]:
        """The same one by one; the one that comes next may be taken out meanwhile, and no other."""
        while self.queue:
            first = self.queue[0]
            yield first
            if self.queue and self.queue[0] is first:
                return

    @property
    def length(self) -> int:
        """How many runs are in the queue."""
        return len(self.queue) - self.gone

    @property
    def at_rest(self) -> bool:
        """Nothing is going on: the store alone knows all of it."""
        busy = self.present or self.opening or self.running or self.queue or self.waiting
        return not (busy or self.haunted)

    @property
    def first(self) -> OpenRun | None:
        """The run under way, or the one that is next, or one that waits for other runs."""
        return self.running or (self.queue[0] if self.queue else next(iter(self.waiting.values()), None))

    def open_runs(self) -> list[OpenRun]:
        """All runs without an outcome, the one under way first."""
        first = [self.running] if self.running else []
        return [*first, *self.queued, *self.waiting.values()]

    @property
    def live_status(self) -> AgentStatus | None:
        """The status of the agent while something goes on with it."""
        if self.running:
            if self.running.state == "interrupting":
                return "interrupting"
            return "waiting" if self.in_wait else "running"
        if self.opening:
            return "starting"
        return "queued" if self.queue else None

    def status(self, row: AgentRow) -> AgentStatus:
        """The same, or what `row` says that it is at rest."""
        if row.status == "closed":
            return "closed"
        return self.live_status or ("failed" if row.status == "failed" else "idle")
