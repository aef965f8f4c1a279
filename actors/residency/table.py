"""The residency table: who is in memory, who waits for room, who has to leave.

It owns the stage of every agent that is in memory or on its way there, and nothing of any other but
its pin. It decides when a session is started and when it is asked to go; opening, closing and
executing are the session's own affair. Every operation is O(1) amortised, except `describe`.

An agent goes waiting → loading → opening → open → unloading. From loading on it has a place and is a
*resident*. Places never exceed their number. An agent whose turn waits is in memory without a place; it
queues for one when the wait is over. The queue is a `FairQueue`: trees have their turns, and what goes on
comes before what is new.

An agent keeps its place while it has work, but not for ever: while others wait for room, a session
asks between two turns whether it may go on, and may not once it has had its share.
"""

from collections import deque

from ...paths import tree_of
from ...persistence.queries import LoadAgent
from ...persistence.rows import AgentImage
from ...types import Address, AgentId, Incarnation, RequestId, Seconds, Timestamp
from ..effects import Send, StartTimer
from ..fair_queue import FairQueue
from ..storage.protocol import Ask
from .entry import (
    ASK_FIRST,
    GO_ON,
    GO_ON_AND_ASK_AGAIN,
    REST,
    WORK,
    Effects,
    PatienceEnded,
    ResidencyEffect,
    ResidentEntry,
    StartSession,
    ToSession,
    Victim,
)
from .lru import LRU
from .protocol import (
    AgentActivated,
    AllUnloaded,
    EvictionAnswered,
    NextEviction,
    OpeningDeferred,
    PinAnswered,
    SessionCommand,
    Unload,
)


class ResidencyTable:
    """Decides whom to load and whom to unload, so that residents never exceed their number.

    A table without places makes everybody wait, so nothing depends on being configured first.
    """

    __slots__ = (
        "_request",
        "away",
        "closing",
        "coming",
        "entries",
        "evictions",
        "limit",
        "loads",
        "lru",
        "patience",
        "queue",
        "reloads",
        "residents",
        "share",
        "to_unload",
        "told_when_unloaded",
        "unasked",
        "victims_in_time",
    )

    def __init__(self, residents: int = 0, patience: Seconds = 1.0, share: Seconds = 0.5) -> None:
        self.limit = residents
        self.patience = patience
        self.share = share
        self.entries: dict[AgentId, ResidentEntry] = {}  # all that follow
        self.residents: dict[AgentId, ResidentEntry] = {}  # have a place
        self.away: dict[AgentId, ResidentEntry] = {}  # in memory without one: their turns wait
        # Those that wait for room: to be loaded, also from when they still unload, or to go on.
        self.queue: FairQueue[AgentId, ResidentEntry] = FairQueue()
        self.unasked: dict[AgentId, ResidentEntry] = {}  # with a session that was not told to ask first
        self.loads: dict[RequestId, ResidentEntry] = {}
        self.lru = LRU()
        self.coming = 0  # entries that are `coming`
        self._request = 0
        # Victims that a timer runs for, and those that have come since: they wait for the next one.
        self.victims_in_time: tuple[list[Victim], list[Victim]] | None = None
        self.evictions = self.reloads = 0
        self.closing = False
        self.told_when_unloaded: Address = None  # who asked to unload all
        self.to_unload: deque[ResidentEntry] = deque()  # Entries that are still to be unloaded.

    def configure(self, residents: int, patience: Seconds, share: Seconds, *, now: Timestamp) -> Effects:
        """Set how many residents there may be, how long a victim may take, and what a share is.

        A shorter share loads and unloads agents more often; a longer one keeps an idle tree's run waiting.
        """
        self.limit, self.patience, self.share = residents, patience, share
        return self.settle(now)

    # Commands

    def summon(
        self,
        agent_id: AgentId,
        path: str,
        *,
        work: bool,
        image: AgentImage | None = None,
        goes_on: bool = False,
        now: Timestamp,
    ) -> Effects:
        """Have the agent in memory with its session told of `work`; without, if there is free room.

        `image` is what its first session opens from: until then, nothing but mail can come to it.
        """
        entry = self.entries.get(agent_id)
        if entry is None:
            if self.closing:
                return ()
            if not work and (self.queue or len(self.residents) >= self.limit):
                return (Send("ledger", OpeningDeferred(agent_id)),)
            entry = self.entries[agent_id] = ResidentEntry(agent_id, path, now)
            entry.goes_on = goes_on
            entry.image, entry.wants_work = image, work
            self.claim(entry, now)
            return self.settle(now)
        if entry.stage in ("opening", "open"):
            return self._work(entry, goes_on=goes_on) if work else self._touch(entry)
        if not work or self.closing:
            return ()
        if entry.stage == "unloading" and not entry.wants_work:
            entry.goes_on = goes_on
            if not entry.away:  # else it has no place that it could keep: it queues once it is out
                self.claim(entry, now)
        entry.wants_work = True
        return self.settle(now)

    def dismiss(self, agent_id: AgentId, *, gone: bool, now: Timestamp) -> Effects:
        """The agent's work is over, or with `gone` the agent itself."""
        entry = self.entries.get(agent_id)
        if entry is None:
            return ()
        entry.wants_work = entry.has_work = False
        match entry.stage:
            case "waiting":
                self.forget(entry)
            case "loading" if gone:
                self.forget(entry)
            case "opening" | "open" if gone:
                return [*self.unload(entry, now, evicted=False, gone=True), *self.settle(now)]
            case "opening" | "open":
                return (ToSession(agent_id, REST),)
            case "unloading":
                self._call_off(entry)
                entry.evicted = entry.evicted and not gone
            case _:
                return ()
        return self.settle(now)

    def evict(self, agent_id: AgentId, request: RequestId, reply_to: Address, *, now: Timestamp) -> Effects:
        """Unload an idle agent; answered when it is out, or at once if it cannot be."""
        entry = self.entries.get(agent_id)
        if entry is None or not (entry.stage == "unloading" or agent_id in self.lru):
            return (Send(reply_to, EvictionAnswered(request, evicted=False)),)
        entry.evictions += ((reply_to, request),)
        return () if entry.stage == "unloading" else self.unload(entry, now, evicted=True)

    def pin(
        self,
        agent_id: AgentId,
        request: RequestId,
        reply_to: Address,
        *,
        pinned: bool,
        now: Timestamp,
    ) -> Effects:
        """Keep the agent from being chosen (or no longer), whether it is in memory or not."""
        if pinned:
            self.lru.pin(agent_id)
        else:
            self.lru.unpin(agent_id)
        effects: list[ResidencyEffect] = [Send(reply_to, PinAnswered(request))]
        entry = self.away.get(agent_id)
        if not pinned and entry is not None and entry.idle and entry.stage == "open":
            effects += self.unload(entry, now, evicted=True)  # for its pin alone it stayed without a place
        return [*effects, *self.settle(now)]

    def start(self, entry: ResidentEntry, image: AgentImage, now: Timestamp) -> Effects:
        """Start the agent's session, and tell it at once if there is work."""
        agent_id, incarnation = entry.agent_id, Incarnation(image.row.incarnation + 1)
        self.reloads += image.row.incarnation > 0
        entry.stage, entry.since, entry.incarnation = "opening", now, incarnation
        has_work, entry.wants_work = entry.wants_work, False
        entry.sent, entry.has_work, entry.image = int(has_work), has_work, None
        asks = self.needed > 0
        if not asks:
            self.unasked[agent_id] = entry
        return (
            Send("ledger", AgentActivated(agent_id, incarnation)),
            StartSession(agent_id, incarnation, image, WORK[entry.goes_on] if has_work else None, asks),
        )

    def permission_to_go_on(self, entry: ResidentEntry) -> NextEviction:
        """The answer to one that may go on."""
        if self.needed > 0:
            return GO_ON_AND_ASK_AGAIN
        self.unasked[entry.agent_id] = entry
        return GO_ON

    # Deciding

    @property
    def has_room(self) -> bool:
        return len(self.residents) < self.limit

    @property
    def needed(self) -> int:
        """How many places those in the queue lack, beside the free ones and those that become free."""
        return len(self.queue) + len(self.residents) - self.limit - self.coming

    def settle(self, now: Timestamp) -> Effects:
        """Admit whom there is room for, and choose as many victims as are still needed."""
        queue = self.queue
        effects: list[ResidencyEffect] = []
        if self.closing:
            return effects
        while queue and (self.has_room or queue.first.stage == "unloading"):
            entry = queue.take()
            if entry.stage == "unloading":
                entry.next_in = True
                self.set_coming(entry, False)
            elif entry.stage == "waiting":
                effects += self._load(entry, now)
            else:
                effects += self._place(entry, now)
        if not queue:
            return effects
        while self.needed > 0 and (victim := self.lru.victim()) is not None:
            effects += self.unload(self.residents[victim], now, evicted=True)
        if self.needed > 0 and self.unasked:
            effects += [ToSession(agent_id, ASK_FIRST) for agent_id in self.unasked]
            self.unasked.clear()
        return effects

    def claim(self, entry: ResidentEntry, now: Timestamp) -> None:
        """Queue for a place."""
        entry.claimed = now
        self.queue.push(entry.agent_id, entry, tree_of(entry.path), goes_on=entry.goes_on)

    def requeue(self, entry: ResidentEntry, told: SessionCommand | None, now: Timestamp) -> None:
        """Have an agent that is in memory without a place queue for one; it is `told` so."""
        self.queue.remove(entry.agent_id)
        entry.told = told
        self.claim(entry, now)

    def _place(self, entry: ResidentEntry, now: Timestamp) -> Effects:
        """Give a place to an agent that is in memory without one."""
        del self.away[entry.agent_id]
        self.residents[entry.agent_id] = entry
        entry.away, entry.placed = False, now
        if entry.idle:
            self.lru.idle(entry.agent_id)
        told, entry.told = entry.told, None
        if told is GO_ON:  # whether it is to ask again goes by who waits now
            told = self.permission_to_go_on(entry)
        return () if told is None else (ToSession(entry.agent_id, told),)

    def _load(self, entry: ResidentEntry, now: Timestamp) -> Effects:
        """Give the agent a place and ask for its image, if it is not at hand."""
        entry.stage, entry.since, entry.placed = "loading", now, now
        self.residents[entry.agent_id] = entry
        if entry.image is not None:
            return self.start(entry, entry.image, now)
        entry.request = self._request = self._request + 1
        self.loads[entry.request] = entry
        return (Send("ledger", Ask(entry.request, LoadAgent(entry.agent_id))),)

    def _work(self, entry: ResidentEntry, *, goes_on: bool) -> Effects:
        """Tell the session that there is work: from now on it is busy."""
        entry.sent += 1
        entry.has_work, entry.goes_on = True, goes_on
        if entry.idle:
            entry.idle = False
            self.lru.busy(entry.agent_id)
            if entry.away:  # pinned, and queued to be counted: its session asks for a place for this work
                self.queue.remove(entry.agent_id)
        return (ToSession(entry.agent_id, WORK[goes_on]),)

    def _touch(self, entry: ResidentEntry) -> Effects:
        if entry.idle and not entry.away:
            self.lru.idle(entry.agent_id)
        return ()

    def unload(self, entry: ResidentEntry, now: Timestamp, *, evicted: bool, gone: bool = False) -> Effects:
        """Ask the session to go. Never taken back: a new summons is for the next session."""
        assert entry.incarnation is not None
        self.lru.busy(entry.agent_id)
        self.queue.remove(entry.agent_id)
        self.unasked.pop(entry.agent_id, None)
        entry.stage, entry.since = "unloading", now
        entry.idle, entry.evicted = False, evicted
        self.set_coming(entry, not entry.away)
        unload = ToSession(entry.agent_id, Unload(gone))
        if self.closing:
            return (unload,)
        victim = (entry.agent_id, entry.incarnation)
        if self.victims_in_time is not None:
            self.victims_in_time[1].append(victim)
            return (unload,)
        self.victims_in_time = ([victim], [])
        return (unload, StartTimer(self.patience, PatienceEnded()))

    def end(self, entry: ResidentEntry, now: Timestamp) -> Effects:
        """A session is over: answer who waited for that, then give its place to the next."""
        next_in = entry.next_in
        answers = [Send(to, EvictionAnswered(asked, evicted=True)) for to, asked in entry.evictions]
        self.evictions += entry.evicted
        self._leave(entry)
        entry.evictions = ()
        entry.wait(now)
        effects: list[ResidencyEffect] = [*answers]
        if not entry.wants_work:
            del self.entries[entry.agent_id]
        elif next_in:
            effects += self._load(entry, now)
        elif entry.agent_id not in self.queue:
            self.claim(entry, now)
        return [*effects, *self.settle(now), *self.all_unloaded()]

    def _call_off(self, entry: ResidentEntry) -> None:
        """An unloading agent is not to be loaded again: its place is for others."""
        self.queue.remove(entry.agent_id)
        entry.next_in = False
        self.set_coming(entry, not (entry.slow or entry.away))

    def forget(self, entry: ResidentEntry) -> None:
        """An agent that has no session yet is not to get one."""
        self.queue.remove(entry.agent_id)
        if entry.request is not None:
            self.loads.pop(entry.request, None)
        self._leave(entry)
        del self.entries[entry.agent_id]

    def _leave(self, entry: ResidentEntry) -> None:
        """Take the agent out of memory; that it is called back stands."""
        if entry.stage != "unloading":
            self.queue.remove(entry.agent_id)
        self.residents.pop(entry.agent_id, None)
        self.away.pop(entry.agent_id, None)
        self.unasked.pop(entry.agent_id, None)
        self.lru.busy(entry.agent_id)
        self.set_coming(entry, False)

    def all_unloaded(self) -> Effects:
        return (
            (Send(self.told_when_unloaded, AllUnloaded()),)
            if self.closing and not (self.residents or self.away or self.to_unload)
            else ()
        )

    def current(self, agent_id: AgentId, incarnation: Incarnation) -> ResidentEntry | None:
        """The entry that news of a session is about; none if the session is not the current one."""
        entry = self.entries.get(agent_id)
        return entry if entry is not None and entry.incarnation == incarnation else None

    def set_coming(self, entry: ResidentEntry, coming: bool) -> None:
        if entry.coming != coming:
            entry.coming = coming
            self.coming += 1 if coming else -1
