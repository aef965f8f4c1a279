"""The residency table: who is in memory, who waits for room, who has to leave.

It owns the stage of every agent that is in memory or on its way there, and nothing of any other but
its pin. It decides when a session is started and when it is asked to go; opening, closing and
executing are the session's own affair. Every operation is O(1) amortised, except `describe`.

An agent goes waiting → loading → opening → open → unloading. From loading on it has a place and is a
*resident*. Places never exceed their number. An agent whose turn waits is in memory without a place; it
queues for one when the wait is over. The queue is a `FairQueue`: trees have their turns, and what goes on
comes before what is new.

Whoever has a place keeps it while it has work, but not for ever: while others wait for room, a session
asks between two turns whether it may go on, and may not once it has had its share.
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TypeAlias

from msgspec import Struct

from ...errors import GreenroomError
from ...paths import tree_of
from ...persistence.queries import LoadAgent
from ...persistence.rows import AgentImage
from ...types import Address, AgentId, Incarnation, RequestId, Seconds, Timestamp
from ..effects import Effect, Send, StartTimer
from ..fair_queue import FairQueue
from ..slots.protocol import EndHolder
from ..storage.protocol import Ask
from .lru import LRU
from .protocol import (
    AgentActivated,
    AgentPassivated,
    AllUnloaded,
    AskFirst,
    EvictionAnswered,
    LoadFailed,
    NextEviction,
    OpeningDeferred,
    PinAnswered,
    Residence,
    ResidencyReport,
    Room,
    RunsAvailable,
    RunsCancelled,
    SessionCommand,
    Stage,
    Unload,
    UnloadMore,
)

MAX_KEPT_BY = 10
"""How many residents that cannot leave a report names."""
WORK = RunsAvailable(), RunsAvailable(goes_on=True)
REST = RunsCancelled()
ASK_FIRST = AskFirst()
GO_ON, GO_ON_AND_ASK_AGAIN = NextEviction(), NextEviction(ask_again=True)


class StartSession(Struct, frozen=True, gc=False):
    """Create the agent's session and hand it its image; `work` and `ask_first` as in `OpenSession`."""

    agent_id: AgentId
    incarnation: Incarnation
    image: AgentImage
    work: RunsAvailable | None
    ask_first: bool


class ToSession(Struct, frozen=True, gc=False):
    """Send `message` to the agent's session, the one that was started last."""

    agent_id: AgentId
    message: SessionCommand


class _PatienceEnded(Struct, frozen=True, gc=False):
    """The victims that there were when this was set were given their time to unload."""


UNLOADS_IN_PORTION = 256
"""Entries that `unload_all` looks at before other messages have their turn."""

_Victim: TypeAlias = tuple[AgentId, Incarnation]
ResidencyEffect: TypeAlias = Effect | StartSession | ToSession
Effects: TypeAlias = Sequence[ResidencyEffect]


class _ResidentEntry:
    """An agent that is in memory or on its way there."""

    __slots__ = (
        "agent_id",
        "away",
        "claimed",
        "coming",
        "evicted",
        "evictions",
        "goes_on",
        "has_work",
        "idle",
        "image",
        "incarnation",
        "next_in",
        "path",
        "placed",
        "request",
        "sent",
        "since",
        "slow",
        "stage",
        "told",
        "wants_work",
    )

    def __init__(self, agent_id: AgentId, path: str, now: Timestamp) -> None:
        self.agent_id = agent_id
        self.path = path
        self.wants_work = False  # why it is to be loaded, or, while it unloads, to be loaded again
        self.goes_on = False  # that work is a continuation, or has begun before
        # Whom to answer once it is out of memory.
        self.evictions: tuple[tuple[Address, RequestId], ...] = ()
        self.claimed = now  # when it began to wait for room
        self.wait(now)

    def wait(self, now: Timestamp) -> None:
        """Stand at the door, with no trace of an earlier session."""
        self.stage: Stage = "waiting"
        self.since = now
        self.placed = now  # when it got its place
        self.request: int | None = None  # the question for its image
        self.image: AgentImage | None = None  # given with the summons
        self.incarnation: Incarnation | None = None
        self.sent = 0  # how many Work its session was sent
        self.has_work = False  # … and has not said to be done, nor were they dismissed
        self.idle = False  # its session has seen them all and has nothing to do
        self.away = False  # it is in memory without a place: its turn waits
        self.told: SessionCommand | None = None  # what it is told when it has one again
        # While it unloads:
        self.evicted = False  # it was chosen or asked to leave
        self.slow = False  # and has taken longer than patience lasts
        self.coming = False  # its place counts as one that somebody in the queue will get
        self.next_in = False  # its place is for itself: it was called back and nobody is before it


class ResidencyTable:
    """Decides whom to load and whom to unload, so that residents never exceed their number.

    A table without places makes everybody wait, so nothing depends on being configured first.
    """

    __slots__ = (
        "_away",
        "_closing",
        "_coming",
        "_entries",
        "_evictions",
        "_limit",
        "_loads",
        "_lru",
        "_patience",
        "_patient",
        "_queue",
        "_reloads",
        "_request",
        "_residents",
        "_share",
        "_to_unload",
        "_told",
        "_unasked",
    )

    def __init__(self, residents: int = 0, patience: Seconds = 1.0, share: Seconds = 0.5) -> None:
        self._limit = residents
        self._patience = patience
        self._share = share
        self._entries: dict[AgentId, _ResidentEntry] = {}  # all that follow
        self._residents: dict[AgentId, _ResidentEntry] = {}  # have a place
        self._away: dict[AgentId, _ResidentEntry] = {}  # in memory without one: their turns wait
        # Those that wait for room: to be loaded, also from when they still unload, or to go on.
        self._queue: FairQueue[AgentId, _ResidentEntry] = FairQueue()
        self._unasked: dict[AgentId, _ResidentEntry] = {}  # with a session that was not told to ask first
        self._loads: dict[RequestId, _ResidentEntry] = {}
        self._lru = LRU()
        self._coming = 0  # entries that are `coming`
        self._request = 0
        # Victims that a timer runs for, and those that have come since: they wait for the next one.
        self._patient: tuple[list[_Victim], list[_Victim]] | None = None
        self._evictions = self._reloads = 0
        self._closing = False
        self._told: Address = None  # who asked to unload all
        self._to_unload: deque[_ResidentEntry] = deque()  # Those that `unload_all` has not come to.

    def configure(self, residents: int, patience: Seconds, share: Seconds, *, now: Timestamp) -> Effects:
        """Set how many residents there may be, how long a victim may take, and what a share is.

        A shorter share loads and unloads agents more often; a longer one keeps an idle tree's run waiting.
        """
        self._limit, self._patience, self._share = residents, patience, share
        return self._settle(now)

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
        entry = self._entries.get(agent_id)
        if entry is None:
            if self._closing:
                return ()
            if not work and (self._queue or len(self._residents) >= self._limit):
                return (Send("ledger", OpeningDeferred(agent_id)),)
            entry = self._entries[agent_id] = _ResidentEntry(agent_id, path, now)
            entry.goes_on = goes_on
            entry.image, entry.wants_work = image, work
            self._claim(entry, now)
            return self._settle(now)
        if entry.stage in ("opening", "open"):
            return self._work(entry, goes_on=goes_on) if work else self._touch(entry)
        if not work or self._closing:
            return ()
        if entry.stage == "unloading" and not entry.wants_work:
            entry.goes_on = goes_on
            if not entry.away:  # else it has no place that it could keep: it queues once it is out
                self._claim(entry, now)
        entry.wants_work = True
        return self._settle(now)

    def dismiss(self, agent_id: AgentId, *, gone: bool, now: Timestamp) -> Effects:
        """The agent's work is over, or with `gone` the agent itself."""
        entry = self._entries.get(agent_id)
        if entry is None:
            return ()
        entry.wants_work = entry.has_work = False
        match entry.stage:
            case "waiting":
                self._forget(entry)
            case "loading" if gone:
                self._forget(entry)
            case "opening" | "open" if gone:
                return [*self._unload(entry, now, evicted=False, gone=True), *self._settle(now)]
            case "opening" | "open":
                return (ToSession(agent_id, REST),)
            case "unloading":
                self._call_off(entry)
                entry.evicted = entry.evicted and not gone
            case _:
                return ()
        return self._settle(now)

    def evict(self, agent_id: AgentId, request: RequestId, reply_to: Address, *, now: Timestamp) -> Effects:
        """Unload an idle agent; answered when it is out, or at once if it cannot be."""
        entry = self._entries.get(agent_id)
        if entry is None or not (entry.stage == "unloading" or agent_id in self._lru):
            return (Send(reply_to, EvictionAnswered(request, evicted=False)),)
        entry.evictions += ((reply_to, request),)
        return () if entry.stage == "unloading" else self._unload(entry, now, evicted=True)

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
            self._lru.pin(agent_id)
        else:
            self._lru.unpin(agent_id)
        effects: list[ResidencyEffect] = [Send(reply_to, PinAnswered(request))]
        entry = self._away.get(agent_id)
        if not pinned and entry is not None and entry.idle and entry.stage == "open":
            effects += self._unload(entry, now, evicted=True)  # for its pin alone it stayed without a place
        return [*effects, *self._settle(now)]

    def unload_all(self, reply_to: Address, *, now: Timestamp) -> Effects:
        """End every session and admit nobody, in portions. Agents without a session are forgotten."""
        self._closing, self._told = True, reply_to
        self._to_unload.extend(self._entries.values())
        return self.unload_more(now=now)

    def unload_more(self, *, now: Timestamp) -> Effects:
        """Do the next portion of `unload_all`."""
        left = self._to_unload
        effects: list[ResidencyEffect] = []
        for _ in range(min(len(left), UNLOADS_IN_PORTION)):
            entry = left.popleft()
            if self._entries.get(entry.agent_id) is not entry:
                continue
            entry.wants_work = False
            match entry.stage:
                case "waiting" | "loading":
                    self._forget(entry)
                case "opening" | "open":
                    effects += self._unload(entry, now, evicted=False)
                case _:
                    self._call_off(entry)
        return [*effects, *((Send("residency", UnloadMore()),) if left else self._all_unloaded())]

    # Facts

    def loaded(
        self, request: RequestId, value: object, error: GreenroomError | None, *, now: Timestamp
    ) -> Effects:
        """The ledger's answer: start the session, if there is an agent to start."""
        entry = self._loads.pop(request, None)
        if entry is None:
            return ()
        agent_id = entry.agent_id
        if error is not None:
            self._forget(entry)
            return [Send("ledger", LoadFailed(agent_id, error)), *self._settle(now)]
        if not isinstance(value, AgentImage) or value.row.status == "closed":
            self._forget(entry)
            return self._settle(now)
        return self._start(entry, value, now)

    def _start(self, entry: _ResidentEntry, image: AgentImage, now: Timestamp) -> Effects:
        """Start the agent's session, and tell it at once if there is work."""
        agent_id, incarnation = entry.agent_id, Incarnation(image.row.incarnation + 1)
        self._reloads += image.row.incarnation > 0
        entry.stage, entry.since, entry.incarnation = "opening", now, incarnation
        has_work, entry.wants_work = entry.wants_work, False
        entry.sent, entry.has_work, entry.image = int(has_work), has_work, None
        asks = self._needed > 0
        if not asks:
            self._unasked[agent_id] = entry
        return (
            Send("ledger", AgentActivated(agent_id, incarnation)),
            StartSession(agent_id, incarnation, image, WORK[entry.goes_on] if has_work else None, asks),
        )

    def session_opened(self, agent_id: AgentId, incarnation: Incarnation, *, now: Timestamp) -> Effects:
        """The session is open; it is busy until it says that it is idle."""
        entry = self._current(agent_id, incarnation)
        if entry is not None and entry.stage == "opening":
            entry.stage, entry.since = "open", now
        return ()

    def session_idle(
        self, agent_id: AgentId, incarnation: Incarnation, seen: int, *, now: Timestamp
    ) -> Effects:
        """The session is open and has nothing to do, unless there is Work on its way to it."""
        entry = self._current(agent_id, incarnation)
        if entry is None or entry.stage == "unloading":
            return ()
        if entry.stage == "opening":
            entry.stage, entry.since = "open", now
        self._queue.remove(agent_id)
        if seen < entry.sent:
            return self._settle(now)
        entry.has_work = False
        if not entry.away:
            entry.idle = True
            self._lru.idle(agent_id)
        elif self._has_room or self._lru.pinned(agent_id):
            entry.idle = entry.goes_on = True  # in memory, so it is to be counted soon
            self._return(entry, None, now)
        else:
            return [*self._unload(entry, now, evicted=True), *self._settle(now)]
        return self._settle(now)

    def session_waits(self, agent_id: AgentId, incarnation: Incarnation, *, now: Timestamp) -> Effects:
        """The session's turn waits: its place is for others."""
        entry = self._current(agent_id, incarnation)
        if entry is None or entry.stage != "open" or entry.idle:
            return ()
        if not entry.away:
            del self._residents[agent_id]
            self._away[agent_id] = entry
            entry.away = True
        self._queue.remove(agent_id)
        return self._settle(now)

    def session_returns(
        self, agent_id: AgentId, incarnation: Incarnation, number: int, *, now: Timestamp
    ) -> Effects:
        """The wait is over: the turn goes on when its session has a place."""
        entry = self._current(agent_id, incarnation)
        if entry is None or entry.stage != "open" or not entry.away:
            return ()
        entry.goes_on = True
        self._return(entry, Room(number), now)
        return self._settle(now)

    def session_asks(
        self, agent_id: AgentId, incarnation: Incarnation, *, goes_on: bool, now: Timestamp
    ) -> Effects:
        """The session has more work: it goes on in its place, or gives way to those that wait for room."""
        entry = self._current(agent_id, incarnation)
        if entry is None or entry.stage != "open":
            return ()
        entry.goes_on = goes_on
        stays = self._lru.pinned(agent_id)
        if entry.away:
            self._queue.remove(agent_id)
            if self._has_room or stays:
                self._return(entry, GO_ON, now)
                return self._settle(now)
        elif stays or self._needed <= 0 or now - entry.placed < self._share:
            return (ToSession(agent_id, self._asked(entry)),)
        entry.wants_work = entry.has_work
        effects = self._unload(entry, now, evicted=True)
        if entry.wants_work and not entry.away:
            self._claim(entry, now)
        return [*effects, *self._settle(now)]

    def _asked(self, entry: _ResidentEntry) -> NextEviction:
        """The answer to one that may go on."""
        if self._needed > 0:
            return GO_ON_AND_ASK_AGAIN
        self._unasked[entry.agent_id] = entry
        return GO_ON

    def session_ended(
        self, agent_id: AgentId, incarnation: Incarnation, seen: int, *, now: Timestamp
    ) -> Effects:
        """The session closed in order: its place is free."""
        entry = self._current(agent_id, incarnation)
        if entry is None:
            return ()
        if seen < entry.sent and entry.stage != "unloading":
            # It gave up by itself, and was summoned after that. Its older Work went with it: the
            # ledger heard of the failed opening from the session itself, so to reload for that has
            # no end.
            entry.wants_work = True
        left = AgentPassivated(agent_id, incarnation, orderly=True, evicted=entry.evicted)
        return [Send("ledger", left), *self._end(entry, now)]

    def session_lost(self, agent_id: AgentId, incarnation: Incarnation, *, now: Timestamp) -> Effects:
        """The session's actor is gone. If it did not say so itself, it crashed."""
        entry = self._current(agent_id, incarnation)
        if entry is None:
            return ()
        # Only here: a session that goes in order has given back its slot itself.
        ended = EndHolder(agent_id, incarnation)
        left = AgentPassivated(agent_id, incarnation, orderly=False, evicted=entry.evicted)
        return [Send("slots", ended), Send("ledger", left), *self._end(entry, now)]

    def patience_ended(self, *, now: Timestamp) -> Effects:
        """A victim that still unloads is joined by another one, if its place is waited for."""
        slow, younger = self._patient or ([], [])
        for agent_id, incarnation in slow:
            entry = self._current(agent_id, incarnation)
            if entry is not None:
                entry.slow = True
                self._set_coming(entry, False)
        younger = [victim for victim in younger if self._current(*victim) is not None]
        self._patient = (younger, []) if younger else None
        timer = (StartTimer(self._patience, _PatienceEnded()),) if younger else ()
        return [*timer, *self._settle(now)]

    # Questions

    def describe(self, request: RequestId, reply_to: Address, agent_ids: Sequence[AgentId] = ()) -> Effects:
        """Report the counts and what is known of `agent_ids`; O(waiting) if one of them waits."""
        entries = [self._entries.get(agent_id) for agent_id in agent_ids]
        places: dict[AgentId, int] = {}
        kept_by: tuple[str, ...] = ()
        if any(agent_id in self._queue for agent_id in agent_ids):
            places = {agent_id: self._queue.place(agent_id) for agent_id in agent_ids}
            staying = (entry.path for entry in self._residents.values() if self._stays(entry))
            kept_by = tuple(islice(staying, MAX_KEPT_BY))
        report = ResidencyReport(
            request,
            residents=self._limit,
            resident=len(self._residents),
            in_wait=len(self._away),
            waiting=len(self._queue),
            evictions=self._evictions,
            reloads=self._reloads,
            agents=tuple(
                self._residence(agent_id, entry, places, kept_by)
                for agent_id, entry in zip(agent_ids, entries, strict=True)
            ),
        )
        return (Send(reply_to, report),)

    def _residence(
        self,
        agent_id: AgentId,
        entry: _ResidentEntry | None,
        places: dict[AgentId, int],
        kept_by: tuple[str, ...],
    ) -> Residence:
        pinned = self._lru.pinned(agent_id)
        if entry is None:
            return Residence(agent_id, "absent", pinned=pinned)
        waiting = entry.stage in ("waiting", "open") and agent_id in self._queue
        return Residence(
            agent_id,
            entry.stage,
            incarnation=entry.incarnation,
            idle=entry.idle,
            pinned=pinned,
            waits=entry.away,
            place=places[agent_id] if waiting else None,
            since=entry.claimed if waiting else entry.since,
            kept_by=kept_by if waiting else (),
        )

    def _stays(self, entry: _ResidentEntry) -> bool:
        return entry.stage != "unloading" and entry.agent_id not in self._lru

    # Deciding

    @property
    def _has_room(self) -> bool:
        return len(self._residents) < self._limit

    @property
    def _needed(self) -> int:
        """How many places those in the queue lack, beside the free ones and those that become free."""
        return len(self._queue) + len(self._residents) - self._limit - self._coming

    def _settle(self, now: Timestamp) -> Effects:
        """Admit whom there is room for, and choose as many victims as are still needed."""
        queue = self._queue
        effects: list[ResidencyEffect] = []
        if self._closing:
            return effects
        while queue and (self._has_room or queue.first.stage == "unloading"):
            entry = queue.take()
            if entry.stage == "unloading":
                entry.next_in = True
                self._set_coming(entry, False)
            elif entry.stage == "waiting":
                effects += self._load(entry, now)
            else:
                effects += self._place(entry, now)
        if not queue:
            return effects
        while self._needed > 0 and (victim := self._lru.victim()) is not None:
            effects += self._unload(self._residents[victim], now, evicted=True)
        if self._needed > 0 and self._unasked:
            effects += [ToSession(agent_id, ASK_FIRST) for agent_id in self._unasked]
            self._unasked.clear()
        return effects

    def _claim(self, entry: _ResidentEntry, now: Timestamp) -> None:
        """Queue for a place."""
        entry.claimed = now
        self._queue.push(entry.agent_id, entry, tree_of(entry.path), goes_on=entry.goes_on)

    def _return(self, entry: _ResidentEntry, told: SessionCommand | None, now: Timestamp) -> None:
        """Have an agent that is in memory without a place queue for one; it is `told` so."""
        self._queue.remove(entry.agent_id)
        entry.told = told
        self._claim(entry, now)

    def _place(self, entry: _ResidentEntry, now: Timestamp) -> Effects:
        """Give a place to an agent that is in memory without one."""
        del self._away[entry.agent_id]
        self._residents[entry.agent_id] = entry
        entry.away, entry.placed = False, now
        if entry.idle:
            self._lru.idle(entry.agent_id)
        told, entry.told = entry.told, None
        if told is GO_ON:  # whether it is to ask again goes by who waits now
            told = self._asked(entry)
        return () if told is None else (ToSession(entry.agent_id, told),)

    def _load(self, entry: _ResidentEntry, now: Timestamp) -> Effects:
        """Give the agent a place and ask for its image, if it is not at hand."""
        entry.stage, entry.since, entry.placed = "loading", now, now
        self._residents[entry.agent_id] = entry
        if entry.image is not None:
            return self._start(entry, entry.image, now)
        entry.request = self._request = self._request + 1
        self._loads[entry.request] = entry
        return (Send("ledger", Ask(entry.request, LoadAgent(entry.agent_id))),)

    def _work(self, entry: _ResidentEntry, *, goes_on: bool) -> Effects:
        """Tell the session that there is work: from now on it is busy."""
        entry.sent += 1
        entry.has_work, entry.goes_on = True, goes_on
        if entry.idle:
            entry.idle = False
            self._lru.busy(entry.agent_id)
            if entry.away:  # pinned, and queued to be counted: its session asks for a place for this work
                self._queue.remove(entry.agent_id)
        return (ToSession(entry.agent_id, WORK[goes_on]),)

    def _touch(self, entry: _ResidentEntry) -> Effects:
        if entry.idle and not entry.away:
            self._lru.idle(entry.agent_id)
        return ()

    def _unload(
        self, entry: _ResidentEntry, now: Timestamp, *, evicted: bool, gone: bool = False
    ) -> Effects:
        """Ask the session to go. Never taken back: a new summons is for the next session."""
        assert entry.incarnation is not None
        self._lru.busy(entry.agent_id)
        self._queue.remove(entry.agent_id)
        self._unasked.pop(entry.agent_id, None)
        entry.stage, entry.since = "unloading", now
        entry.idle, entry.evicted = False, evicted
        self._set_coming(entry, not entry.away)
        unload = ToSession(entry.agent_id, Unload(gone))
        if self._closing:
            return (unload,)
        victim = (entry.agent_id, entry.incarnation)
        if self._patient is not None:
            self._patient[1].append(victim)
            return (unload,)
        self._patient = ([victim], [])
        return (unload, StartTimer(self._patience, _PatienceEnded()))

    def _end(self, entry: _ResidentEntry, now: Timestamp) -> Effects:
        """A session is over: answer who waited for that, then give its place to the next."""
        next_in = entry.next_in
        answers = [Send(to, EvictionAnswered(asked, evicted=True)) for to, asked in entry.evictions]
        self._evictions += entry.evicted
        self._leave(entry)
        entry.evictions = ()
        entry.wait(now)
        effects: list[ResidencyEffect] = [*answers]
        if not entry.wants_work:
            del self._entries[entry.agent_id]
        elif next_in:
            effects += self._load(entry, now)
        elif entry.agent_id not in self._queue:
            self._claim(entry, now)
        return [*effects, *self._settle(now), *self._all_unloaded()]

    def _call_off(self, entry: _ResidentEntry) -> None:
        """An unloading agent is not to be loaded again: its place is for others."""
        self._queue.remove(entry.agent_id)
        entry.next_in = False
        self._set_coming(entry, not (entry.slow or entry.away))

    def _forget(self, entry: _ResidentEntry) -> None:
        """An agent that has no session yet is not to get one."""
        self._queue.remove(entry.agent_id)
        if entry.request is not None:
            self._loads.pop(entry.request, None)
        self._leave(entry)
        del self._entries[entry.agent_id]

    def _leave(self, entry: _ResidentEntry) -> None:
        """Take the agent out of memory; that it is called back stands."""
        if entry.stage != "unloading":
            self._queue.remove(entry.agent_id)
        self._residents.pop(entry.agent_id, None)
        self._away.pop(entry.agent_id, None)
        self._unasked.pop(entry.agent_id, None)
        self._lru.busy(entry.agent_id)
        self._set_coming(entry, False)

    def _all_unloaded(self) -> Effects:
        return (
            (Send(self._told, AllUnloaded()),)
            if self._closing and not (self._residents or self._away or self._to_unload)
            else ()
        )

    def _current(self, agent_id: AgentId, incarnation: Incarnation) -> _ResidentEntry | None:
        """The entry that news of a session is about; none if the session is not the current one."""
        entry = self._entries.get(agent_id)
        return entry if entry is not None and entry.incarnation == incarnation else None

    def _set_coming(self, entry: _ResidentEntry, coming: bool) -> None:
        if entry.coming != coming:
            entry.coming = coming
            self._coming += 1 if coming else -1
