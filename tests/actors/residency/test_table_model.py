"""The residency table against a naive model: lists, and sessions that live in the test.

The machine plays everybody else: a ledger that answers late, sessions that open, fail, work, wait,
return, ask, rest, end and crash, and news that arrives late in any order that keeps the order of each pair
of actors. A crash is heard of before or after anything that the crashed session said. All agents are of one
tree here: how trees have their turns is shown in `test_fair_queue.py`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.actors.effects import Send, StartTimer
from greenroom.actors.residency import reporting, session_facts, unloading
from greenroom.actors.residency.entry import PatienceEnded, ResidencyEffect, StartSession, ToSession
from greenroom.actors.residency.protocol import (
    AgentActivated,
    AgentPassivated,
    AllUnloaded,
    AskFirst,
    EvictionAnswered,
    LoadFailed,
    NextEviction,
    OpeningDeferred,
    PinAnswered,
    ResidencyReport,
    Room,
    RunsAvailable,
    RunsCancelled,
    SessionAsks,
    SessionCommand,
    SessionEnded,
    SessionIdle,
    SessionOpened,
    SessionReturns,
    SessionWaits,
    Unload,
    UnloadMore,
)
from greenroom.actors.residency.table import ResidencyTable
from greenroom.actors.slots.protocol import EndHolder
from greenroom.actors.storage.protocol import Ask
from greenroom.errors import SnapshotTampered
from greenroom.persistence.queries import LoadAgent
from greenroom.persistence.rows import AgentImage, AgentRow
from greenroom.types import AgentId, Incarnation

AGENTS = 7
SHARE = 0.5
LOST = "its actor is gone"


class Session:
    """A session as its actor: what it was sent but has not read, what it said but is not heard."""

    def __init__(self, agent_id: AgentId, incarnation: Incarnation) -> None:
        self.agent_id = agent_id
        self.incarnation = incarnation
        self.state = "opening"  # "idle", "asking", "turn", "waiting", "returning", "gone"
        self.seen = 0
        self.has_work = False
        self.has_place = True
        self.asks_first = False
        self.returned = 0  # times
        self.wanted = 0  # the last of these, until it has its place or waits again
        self.inbox: deque[SessionCommand] = deque()
        self.news: list[object] = []

    def end(self) -> None:
        self.state = "gone"
        self.news.append(SessionEnded(self.agent_id, self.incarnation, self.seen))
        self.news.append(LOST)


class Resident:
    """What the table was told of a resident."""

    def __init__(self) -> None:
        self.stage = "loading"
        self.incarnation: Incarnation | None = None
        self.sent = 0
        self.has_work = False  # of what was sent, some is neither said to be done nor dismissed
        self.idle = False
        self.away = False  # it has no place
        self.placed = 0.0  # since when it has one
        self.slow = False
        self.next_in = False  # it was called back and will keep its place


class ResidencyAgainstAList(RuleBasedStateMachine):
    agents = st.integers(1, AGENTS).map(AgentId)
    arrivals = st.lists(st.integers(0, 100), max_size=12)

    def __init__(self) -> None:
        super().__init__()
        self.table = ResidencyTable()
        self.limit = 0
        self.closed: set[AgentId] = set()
        self.incarnations: dict[AgentId, Incarnation] = {}
        self.questions: dict[AgentId, object] = {}  # not answered by the ledger yet
        self.stale: list[object] = []  # questions that nobody waits for any more
        self.sessions: list[Session] = []  # with anything left to do, say or read
        self.patient: set[tuple[AgentId, Incarnation | None]] | None = None  # while a timer runs: victims
        self.now = 0.0
        # The model
        self.going_on: list[AgentId] = []  # wait for room, in order; also those that still unload
        self.new: list[AgentId] = []  # so do these, after all of those
        self.with_work: set[AgentId] = set()  # is to be told of work when it is started
        self.residents: dict[AgentId, Resident] = {}
        self.rested: list[AgentId] = []  # by last use
        self.pins: set[AgentId] = set()
        self.owed: set[AgentId] = set()  # work that no session has taken
        self.requests = 0
        self.evicting: dict[object, AgentId] = {}
        self.asked_to_go: AgentId | None = None
        self.gives_way: AgentId | None = None
        self.told_last: dict[AgentId, bool] = {}  # whether the last Work that a session was sent goes on
        self.keeps_place: set[AgentId] = set()  # has left, and its place is for itself
        self.called_back: dict[AgentId, bool] = {}  # leaves without a place, and queues when it has left
        self.closing = False
        self.all_unloaded = 0
        self.unload_more = False  # The residency has sent itself `UnloadMore`.
        self.summon_again: list[AgentId] = []

    @initialize(limit=st.sampled_from([1, 1, 2, 3]))
    def the_runtime_opens(self, limit: int) -> None:
        self.limit = limit
        self.perform(self.table.configure(limit, 1.0, SHARE, now=0))

    @property
    def line(self) -> list[AgentId]:
        """Who waits for room, in the order in which they get some."""
        return self.going_on + self.new

    @property
    def placed(self) -> dict[AgentId, Resident]:
        return {agent_id: each for agent_id, each in self.residents.items() if not each.away}

    def queue(self, agent_id: AgentId, *, goes_on: bool) -> None:
        assert agent_id not in self.line
        (self.going_on if goes_on else self.new).append(agent_id)

    def leaves_line(self, agent_id: AgentId) -> None:
        for line in (self.going_on, self.new):
            if agent_id in line:
                line.remove(agent_id)

    def keep_their_places(self) -> None:
        """Those at the head of the line who get a place that nobody is told of.

        One that still unloads will have its own place again; one that is pinned and has nothing to do is
        placed where it is.
        """
        while self.line and (first := self.residents.get(agent_id := self.line[0])) is not None:
            if first.stage == "unloading":
                first.next_in = True
            elif first.idle and len(self.placed) < self.limit:
                first.away, first.placed = False, self.now
                self.rested.append(agent_id)
            else:
                return
            self.leaves_line(agent_id)

    @property
    def needed(self) -> int:
        """How many places are lacking, beside those that become free."""
        coming = [
            each
            for each in self.placed.values()
            if each.stage == "unloading" and not (each.slow or each.next_in)
        ]
        return len(self.line) + len(self.placed) - self.limit - len(coming)

    # What the table asks for

    def perform(self, effects: Iterable[ResidencyEffect]) -> None:
        for effect in effects:
            match effect:
                case Send("ledger", Ask(request, LoadAgent(agent_id))):
                    self.admitted(agent_id, request)
                case Send("ledger", AgentActivated(agent_id, incarnation)):
                    self.incarnations[agent_id] = incarnation
                case StartSession(agent_id, incarnation, _, work, asks_first):
                    self.started(agent_id, incarnation, work, asks_first=asks_first)
                case ToSession(agent_id, RunsAvailable() as work):
                    self.session_of(agent_id).inbox.append(work)
                    self.told_last[agent_id] = work.goes_on
                    resident = self.residents[agent_id]
                    resident.sent += 1
                    resident.has_work = True
                    if resident.away and resident.idle:  # it asks for a place when it has read this
                        self.leaves_line(agent_id)
                    self.used(agent_id)
                case ToSession(agent_id, Room() as room):
                    self.gets_a_place(agent_id)
                    self.session_of(agent_id).inbox.append(room)
                case ToSession(agent_id, NextEviction() as go_on):
                    if self.residents[agent_id].away:
                        self.gets_a_place(agent_id)
                    self.session_of(agent_id).inbox.append(go_on)
                case ToSession(agent_id, AskFirst() as ask_first):
                    self.session_of(agent_id).inbox.append(ask_first)
                case ToSession(agent_id, RunsCancelled() as rest):
                    self.session_of(agent_id).inbox.append(rest)
                case ToSession(agent_id, Unload() as unload):
                    self.sent_away(agent_id, unload)
                case StartTimer(_, PatienceEnded()):
                    assert self.patient is None, "one timer is enough"
                    self.patient = {
                        (each, resident.incarnation)
                        for each, resident in self.residents.items()
                        if resident.stage == "unloading" and not resident.slow
                    }
                case Send("ledger", AgentPassivated(agent_id, incarnation, orderly)):
                    self.has_left(agent_id, incarnation, orderly=orderly)
                case Send("ledger", LoadFailed(agent_id)):
                    del self.residents[agent_id]
                    self.owed.discard(agent_id)
                    self.with_work.discard(agent_id)
                case Send("ledger", OpeningDeferred(agent_id)):
                    assert agent_id not in self.residents
                    assert len(self.placed) >= self.limit, "there was room"
                case Send("slots", EndHolder(agent_id, incarnation)):
                    assert self.residents[agent_id].incarnation == incarnation
                case Send("user", EvictionAnswered(number, evicted)):
                    agent_id = self.evicting.pop(number)
                    assert not evicted or agent_id not in self.residents or self.loads(agent_id)
                case Send("user", PinAnswered()):
                    pass
                case Send("supervisor", AllUnloaded()):
                    self.all_unloaded += 1
                case Send("residency", UnloadMore()):
                    self.unload_more = True
                case _:
                    raise AssertionError(effect)
        self.keep_their_places()
        while self.summon_again:  # as the ledger does on hearing of a crash
            agent_id = self.summon_again.pop()
            if agent_id not in self.closed:
                self.summon(agent_id, work=True)

    def loads(self, agent_id: AgentId) -> bool:
        return self.residents[agent_id].stage == "loading"

    def is_first(self, agent_id: AgentId) -> None:
        self.keep_their_places()
        assert self.line[0] == agent_id, "in order, and what goes on first"
        self.leaves_line(agent_id)
        assert len(self.placed) < self.limit, "residents never exceed the limit"

    def admitted(self, agent_id: AgentId, request: object) -> None:
        assert not self.closing, "nobody is admitted when the runtime closes"
        assert agent_id not in self.residents, "no agent has two sessions"
        if agent_id in self.keeps_place:
            self.keeps_place.remove(agent_id)
            assert len(self.placed) < self.limit, "residents never exceed the limit"
        else:
            self.is_first(agent_id)
        self.residents[agent_id] = Resident()
        self.residents[agent_id].placed = self.now
        self.questions[agent_id] = request

    def gets_a_place(self, agent_id: AgentId) -> None:
        self.is_first(agent_id)
        resident = self.residents[agent_id]
        assert resident.away
        assert resident.stage == "open"
        resident.away, resident.placed = False, self.now

    def has_left(self, agent_id: AgentId, incarnation: Incarnation, *, orderly: bool) -> None:
        gone = self.residents.pop(agent_id)
        assert gone.incarnation == incarnation
        self.used(agent_id)
        if gone.stage != "unloading":
            self.leaves_line(agent_id)
        if gone.next_in:
            self.keeps_place.add(agent_id)
        elif agent_id in self.called_back:
            self.queue(agent_id, goes_on=self.called_back[agent_id])
        self.called_back.pop(agent_id, None)
        if not orderly and agent_id in self.owed:
            self.summon_again.append(agent_id)

    def started(
        self, agent_id: AgentId, incarnation: Incarnation, work: RunsAvailable | None, *, asks_first: bool
    ) -> None:
        assert (work is not None) == (agent_id in self.with_work), "it hears of its work at once"
        for other in self.sessions:
            assert other.agent_id != agent_id or other.state == "gone", "no agent has two sessions"
            assert other.agent_id != agent_id or other.incarnation < incarnation
        resident = self.residents[agent_id]
        resident.stage, resident.incarnation = "opening", incarnation
        resident.has_work = work is not None
        session = Session(agent_id, incarnation)
        session.asks_first = asks_first
        self.sessions.append(session)
        if work:
            resident.sent = session.seen = 1
            session.has_work = True
        self.with_work.discard(agent_id)

    def sent_away(self, agent_id: AgentId, unload: Unload) -> None:
        resident = self.residents[agent_id]
        assert resident.stage in ("opening", "open")
        if not (unload.gone or self.closing):
            assert agent_id not in self.pins, "nobody who is pinned is asked to go"
            if agent_id == self.gives_way:
                assert not resident.idle
            elif agent_id != self.asked_to_go and not resident.away:
                assert resident.idle, "only who is idle is asked to go"
                free = [each for each in self.rested if each not in self.pins]
                assert agent_id == free[0], "the least recently used goes"
                self.keep_their_places()
                assert self.needed > 0, "one victim for each that waits"
        self.used(agent_id)
        self.leaves_line(agent_id)
        resident.stage = "unloading"
        self.session_of(agent_id).inbox.append(unload)
        if agent_id == self.gives_way and resident.has_work:
            self.called_back_later(agent_id, goes_on=False)

    def called_back_later(self, agent_id: AgentId, *, goes_on: bool) -> None:
        """It is to come again: it queues at once if it has a place to leave, else when it has left."""
        self.with_work.add(agent_id)
        if self.residents[agent_id].away:
            self.called_back[agent_id] = goes_on
        else:
            self.queue(agent_id, goes_on=goes_on)

    def session_of(self, agent_id: AgentId) -> Session:
        """The session started last, if only as an address that nobody reads any more."""
        incarnation = self.residents[agent_id].incarnation
        for session in self.sessions:
            if (session.agent_id, session.incarnation) == (agent_id, incarnation):
                return session
        raise AssertionError("a message to a session that was never started or is over")

    def used(self, agent_id: AgentId) -> None:
        if agent_id in self.rested:
            self.rested.remove(agent_id)
        if agent_id in self.residents:
            self.residents[agent_id].idle = False

    # The ledger and the users

    @rule()
    def time_passes(self) -> None:
        self.now += SHARE

    @rule(
        agent_id=agents, work=st.sampled_from([True, True, False]), goes_on=st.booleans(), arrivals=arrivals
    )
    def the_ledger_summons(self, agent_id: AgentId, work: bool, goes_on: bool, arrivals: list[int]) -> None:
        if agent_id not in self.closed:
            self.summon(agent_id, work=work, goes_on=work and goes_on)
        self.messages_arrive(arrivals)

    def summon(self, agent_id: AgentId, *, work: bool, goes_on: bool = False) -> None:
        if not self.closing:
            resident = self.residents.get(agent_id)
            if work:
                self.owed.add(agent_id)
            if resident is None and agent_id not in self.line:
                if work or (not self.line and len(self.placed) < self.limit):
                    self.queue(agent_id, goes_on=goes_on)
                if work:
                    self.with_work.add(agent_id)
            elif work and (resident is None or resident.stage == "loading"):
                self.with_work.add(agent_id)
            elif work and resident is not None and resident.stage == "unloading":
                if agent_id not in self.with_work:
                    self.called_back_later(agent_id, goes_on=goes_on)
            elif not work and resident is not None and agent_id in self.rested:
                self.rested.remove(agent_id)
                self.rested.append(agent_id)
        path = f"/t/{agent_id}"
        self.perform(self.table.summon(agent_id, path, work=work, goes_on=goes_on, now=self.now))

    @rule(agent_id=agents)
    def the_ledger_dismisses(self, agent_id: AgentId) -> None:
        self.is_dismissed(agent_id)
        self.perform(self.table.dismiss(agent_id, gone=False, now=self.now))

    def is_dismissed(self, agent_id: AgentId) -> None:
        self.owed.discard(agent_id)
        self.with_work.discard(agent_id)
        resident = self.residents.get(agent_id)
        if resident is None or resident.stage == "unloading":
            self.leaves_line(agent_id)
            self.called_back.pop(agent_id, None)
        if resident is not None:
            resident.next_in = resident.has_work = False

    @rule(agent_id=agents)
    @precondition(lambda self: len(self.closed) < AGENTS - 3)
    def an_agent_is_closed(self, agent_id: AgentId) -> None:
        self.closed.add(agent_id)
        self.is_dismissed(agent_id)
        if agent_id in self.residents and self.loads(agent_id):
            del self.residents[agent_id]
            self.stale.append(self.questions.pop(agent_id))
        self.perform(self.table.dismiss(agent_id, gone=True, now=self.now))

    @precondition(lambda self: self.questions)
    @rule(data=st.data(), how=st.sampled_from(["found", "found", "found", "missing", "tampered"]))
    def the_ledger_answers(self, data: st.DataObject, how: str) -> None:
        self.answer(data.draw(st.sampled_from(sorted(self.questions))), how)

    def answer(self, agent_id: AgentId, how: str = "found") -> None:
        request = self.questions.pop(agent_id)
        incarnation = self.incarnations.get(agent_id, Incarnation(0))
        row = AgentRow(agent_id, f"/t/{agent_id}", "k", 1, b"", 0, 0, incarnation=incarnation)
        error = None
        image: AgentImage | None = AgentImage(row)
        if how == "missing":
            image = None
            del self.residents[agent_id]
            self.owed.discard(agent_id)
            self.with_work.discard(agent_id)
        elif how == "tampered":
            image, error = None, SnapshotTampered(row.path, "altered")
        self.perform(session_facts.loaded(self.table, request, image, error, now=self.now))

    @precondition(lambda self: self.stale)
    @rule()
    def the_ledger_answers_too_late(self) -> None:
        assert not session_facts.loaded(self.table, self.stale.pop(), None, None, now=self.now)

    @rule(agent_id=agents)
    def a_user_evicts(self, agent_id: AgentId) -> None:
        self.requests += 1
        self.evicting[self.requests] = self.asked_to_go = agent_id
        self.perform(self.table.evict(agent_id, self.requests, "user", now=self.now))
        self.asked_to_go = None
        resident = self.residents.get(agent_id)
        assert (self.requests in self.evicting) == (
            resident is not None and resident.stage == "unloading"
        ), "answered at once if it cannot be evicted"

    @rule(agent_id=agents, pinned=st.booleans())
    def a_user_pins(self, agent_id: AgentId, pinned: bool) -> None:
        if pinned:
            self.pins.add(agent_id)
        elif agent_id in self.pins:
            self.pins.discard(agent_id)
            if agent_id in self.rested:
                self.rested.remove(agent_id)
                self.rested.append(agent_id)
        self.perform(self.table.pin(agent_id, 0, "user", pinned=pinned, now=self.now))

    @precondition(lambda self: self.patient is not None)
    @rule()
    def patience_ends(self) -> None:
        for agent_id, incarnation in self.patient or ():
            resident = self.residents.get(agent_id)
            if resident and resident.incarnation == incarnation:
                resident.slow = True
        self.patient = None
        self.perform(session_facts.patience_ended(self.table, now=self.now))

    # The sessions

    def in_state(self, *states: str) -> list[Session]:
        return [each for each in self.sessions if each.state in states]

    @rule(arrivals=arrivals)
    def messages_arrive(self, arrivals: list[int]) -> None:
        """In any order; nothing goes wrong meanwhile, and turns take longer.

        Other rules let some arrive as well: Hypothesis leaves whole rules out of many examples.
        """
        for choice in arrivals:
            moves: list[Callable[[], None]] = [
                *(partial(self.answer, agent_id) for agent_id in self.questions),
                *(partial(self.read, each) for each in self.sessions if each.inbox),
                *(partial(self.hear, each) for each in self.sessions if each.news),
                *(partial(self.open, each) for each in self.in_state("opening")),
            ]
            if moves:
                moves[choice % len(moves)]()

    @precondition(lambda self: self.in_state("turn"))
    @rule(data=st.data(), arrivals=arrivals)
    def a_turn_ends(self, data: st.DataObject, arrivals: list[int]) -> None:
        self.end_turn(data.draw(st.sampled_from(self.in_state("turn"))))
        self.messages_arrive(arrivals)

    @precondition(lambda self: self.in_state("waiting"))
    @rule(data=st.data())
    def a_wait_is_over(self, data: st.DataObject) -> None:
        self.returns(data.draw(st.sampled_from(self.in_state("waiting"))))

    @precondition(lambda self: self.in_state("turn", "returning"))
    @rule(data=st.data(), arrivals=arrivals)
    def a_turn_waits(self, data: st.DataObject, arrivals: list[int]) -> None:
        self.waits(data.draw(st.sampled_from(self.in_state("turn", "returning"))))
        self.messages_arrive(arrivals)

    def waits(self, session: Session) -> None:
        session.state, session.has_place, session.wanted = "waiting", False, 0
        session.news.append(SessionWaits(session.agent_id, session.incarnation))

    @precondition(lambda self: self.in_state("waiting", "returning"))
    @rule(data=st.data())
    def a_turn_ends_while_it_waits(self, data: st.DataObject) -> None:
        self.end_turn(data.draw(st.sampled_from(self.in_state("waiting", "returning"))))

    @precondition(lambda self: self.in_state("opening"))
    @rule(data=st.data())
    def a_session_cannot_be_opened(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.in_state("opening")))
        # The session tells the ledger, which fails the runs that it was called for.
        if session.seen:
            self.owed.discard(session.agent_id)
        session.end()

    @precondition(lambda self: self.in_state("opening", "idle", "asking", "turn", "waiting", "returning"))
    @rule(data=st.data(), place=st.integers(0, 3))
    def a_session_crashes(self, data: st.DataObject, place: int) -> None:
        session = data.draw(
            st.sampled_from(self.in_state("opening", "idle", "asking", "turn", "waiting", "returning"))
        )
        session.state = "gone"
        session.inbox.clear()
        session.news.insert(place, LOST)

    def open(self, session: Session) -> None:
        if session.has_work:
            session.news.append(SessionOpened(session.agent_id, session.incarnation))
        self.end_turn(session)

    def end_turn(self, session: Session) -> None:
        """The next one begins if there is work and it may, else the session says that there is none."""
        before, session.state = session.state, "idle"
        after_turn = before in ("turn", "waiting", "returning")
        if not session.has_work:
            session.news.append(SessionIdle(session.agent_id, session.incarnation, session.seen))
        elif session.has_place and not (after_turn and session.asks_first):
            self.begin_turn(session)
        else:
            session.state = "asking"
            session.news.append(SessionAsks(session.agent_id, session.incarnation))

    def begin_turn(self, session: Session) -> None:
        self.owed.discard(session.agent_id)
        session.state, session.has_work = "turn", False

    def read(self, session: Session) -> None:
        message = session.inbox.popleft()
        if session.state == "gone":
            return
        match message:
            case RunsCancelled():
                if session.state in ("opening", "asking"):
                    session.has_work = False
                if session.state == "asking":
                    self.end_turn(session)
            case RunsAvailable():
                session.seen += 1
                session.has_work = True
                if session.state == "idle":
                    self.end_turn(session)
            case Room(number):
                if number == session.wanted:
                    session.has_place, session.wanted = True, 0
                    if session.state == "returning":
                        session.state = "turn"
            case AskFirst():
                session.asks_first = True
            case NextEviction(again):
                session.asks_first = again
                if session.state == "asking":
                    session.has_place, session.wanted = True, 0
                    self.begin_turn(session)
            case Unload():
                if not (message.gone or self.closing):
                    assert session.state in ("idle", "asking"), "no session with a turn is asked to go"
                session.end()

    def returns(self, session: Session) -> None:
        session.state, session.returned = "returning", session.returned + 1
        session.wanted = session.returned
        session.news.append(SessionReturns(session.agent_id, session.incarnation, session.returned))

    def hear(self, session: Session) -> None:
        news, agent_id, incarnation = session.news.pop(0), session.agent_id, session.incarnation
        resident = self.residents.get(agent_id)
        if resident is not None and resident.incarnation != incarnation:
            resident = None
        table = self.table
        effects: Iterable[ResidencyEffect]
        match news:
            case SessionOpened():
                if resident and resident.stage == "opening":
                    resident.stage = "open"
                effects = session_facts.session_opened(table, agent_id, incarnation, now=self.now)
            case SessionIdle():
                if resident and resident.stage == "opening":
                    resident.stage = "open"
                if resident and resident.stage == "open":
                    self.comes_to_rest(agent_id, resident, news.seen)
                effects = session_facts.session_idle(table, agent_id, incarnation, news.seen, now=self.now)
            case SessionWaits():
                if resident and resident.stage == "open":
                    resident.away = True
                    self.leaves_line(agent_id)
                effects = session_facts.session_waits(table, agent_id, incarnation, now=self.now)
            case SessionReturns():
                if resident and resident.stage == "open":
                    self.queue(agent_id, goes_on=True)
                effects = session_facts.session_returns(
                    table, agent_id, incarnation, news.number, now=self.now
                )
            case SessionAsks():
                if resident and resident.stage == "open":
                    self.asks(agent_id, resident)
                effects = session_facts.session_asks(
                    table, agent_id, incarnation, goes_on=False, now=self.now
                )
            case SessionEnded():
                if resident and resident.stage != "unloading" and news.seen < resident.sent:
                    self.called_back[agent_id] = self.told_last[agent_id]
                    self.with_work.add(agent_id)
                effects = session_facts.session_ended(table, agent_id, incarnation, news.seen, now=self.now)
            case _:
                effects = session_facts.session_lost(table, agent_id, incarnation, now=self.now)
        assert resident or not effects, "late news changes nothing"
        if session.state == "gone" and not session.news:
            self.sessions.remove(session)
        self.perform(effects)
        self.gives_way = None

    def comes_to_rest(self, agent_id: AgentId, resident: Resident, seen: int) -> None:
        """A session said that it is idle: without a place it takes a free one, or leaves."""
        self.leaves_line(agent_id)
        if seen != resident.sent:
            return
        resident.has_work = False
        if resident.away and len(self.placed) < self.limit:
            resident.away, resident.placed = False, self.now
        if resident.away and agent_id in self.pins:
            self.queue(agent_id, goes_on=True)
        resident.idle = True
        if not resident.away:
            self.rested.append(agent_id)

    def asks(self, agent_id: AgentId, resident: Resident) -> None:
        """A session asked whether it may go on: it may not if others need its place more."""
        self.leaves_line(agent_id)
        if resident.away and (len(self.placed) < self.limit or agent_id in self.pins):
            self.queue(agent_id, goes_on=False)
        elif resident.away or not (
            agent_id in self.pins or self.needed <= 0 or self.now - resident.placed < SHARE
        ):
            self.gives_way = agent_id

    # What holds at any time

    def report(self) -> ResidencyReport:
        agents = [AgentId(n) for n in range(1, AGENTS + 1)]
        (effect,) = reporting.describe(self.table, 1, "user", agents)
        assert isinstance(effect, Send)
        assert isinstance(effect.message, ResidencyReport)
        return effect.message

    @invariant()
    def every_agent_stands_where_the_model_says(self) -> None:
        for each in self.report().agents:
            resident = self.residents.get(each.agent_id)
            if resident is not None:
                assert (each.stage, each.incarnation) == (resident.stage, resident.incarnation)
                assert each.idle == resident.idle
            else:
                waits = agent_id in self.line if (agent_id := each.agent_id) else False
                assert each.stage == ("waiting" if waits else "absent")
            assert each.pinned == (each.agent_id in self.pins)

    @invariant()
    def residents_that_do_not_wait_never_exceed_the_limit(self) -> None:
        report = self.report()
        assert report.resident == len(self.placed) <= self.limit
        assert report.in_wait == len(self.residents) - len(self.placed)

    @invariant()
    def nobody_waits_while_a_place_is_free(self) -> None:
        assert not self.line or len(self.placed) >= self.limit

    @invariant()
    def nobody_waits_while_somebody_could_leave_who_was_not_asked_to(self) -> None:
        if any(agent_id not in self.pins for agent_id in self.rested):
            assert self.needed <= 0

    @invariant()
    def whoever_could_give_way_is_told_to_ask(self) -> None:
        for session in self.sessions:
            resident = self.residents.get(session.agent_id)
            if self.needed > 0 and resident is not None and resident.incarnation == session.incarnation:
                told = session.asks_first or any(
                    isinstance(message, AskFirst | NextEviction) for message in session.inbox
                )
                assert told or session.state == "gone" or resident.stage == "unloading"

    @invariant()
    def places_are_listed_in_order(self) -> None:
        places = {each.agent_id: each.place for each in self.report().agents}
        outside = [each for each in self.line if each not in self.residents or self.residents[each].away]
        found = [places[each] for each in outside]
        assert None not in found
        assert found == sorted(found, key=lambda place: -1 if place is None else place)

    @invariant()
    def nothing_is_counted_twice_or_forgotten(self) -> None:
        table = self.table
        entries = table.entries.values()
        assert set(table.entries) == set(self.residents) | set(self.line)
        assert set(table.residents) == set(self.placed)
        assert set(table.away) == set(self.residents) - set(self.placed)
        assert list(table.queue.order()) == self.line
        assert set(table.loads.values()) == {each for each in entries if each.stage == "loading"}
        assert table.coming == sum(each.coming for each in entries)
        assert set(table.unasked) <= set(self.residents)
        assert table.needed == self.needed
        lru = table.lru
        assert set(lru._idle) | lru._kept == set(self.rested)

    # The end

    def quiet_down(self, *, waits_end: bool) -> None:
        """Let everybody do all that is left to do, and crash or fail no more."""
        for _ in range(10_000):
            if self.questions:
                self.answer(next(iter(self.questions)))
            elif session := next((each for each in self.sessions if self.acts(each)), None):
                self.act(session)
            elif self.unload_more:  # Last of all: sessions that are not asked to end yet go on meanwhile.
                self.unload_more = False
                self.perform(unloading.unload_more(self.table, now=self.now))
            elif waits_end and (waiting := [s for s in self.sessions if s.state == "waiting"]):
                self.returns(waiting[0])
            else:
                return
        raise AssertionError("it never comes to rest")

    def acts(self, session: Session) -> bool:
        return bool(session.news or session.inbox or session.state in ("opening", "turn"))

    def act(self, session: Session) -> None:
        if session.inbox:
            self.read(session)
        elif session.state == "opening":
            self.open(session)
        elif session.state == "turn":
            self.end_turn(session)
        else:
            self.hear(session)

    def teardown(self) -> None:
        if not self.limit:
            return
        for agent_id in list(self.pins):
            self.a_user_pins(agent_id, pinned=False)
        self.quiet_down(waits_end=False)
        assert not self.line, "waiting turns keep nobody waiting for room for ever"
        self.quiet_down(waits_end=True)
        assert not self.owed, "every work reaches a session or is dismissed"
        assert not self.evicting, "every eviction is answered"
        assert len(self.residents) <= self.limit, "when all is quiet there is no surplus"
        assert all(each.idle for each in self.residents.values())
        self.every_agent_stands_where_the_model_says()
        self.nothing_is_counted_twice_or_forgotten()
        self.the_runtime_closes()
        self.quiet_down(waits_end=True)
        assert self.all_unloaded == 1
        assert not self.table.entries

    def the_runtime_closes(self) -> None:
        self.closing = True
        self.owed.clear()
        self.with_work.clear()
        self.going_on.clear()
        self.new.clear()
        self.called_back.clear()
        self.keeps_place.clear()
        for resident in self.residents.values():
            resident.next_in = False
        for agent_id in [each for each in self.residents if self.loads(each)]:
            del self.residents[agent_id]
            self.stale.append(self.questions.pop(agent_id))
        self.perform(unloading.unload_all(self.table, "supervisor", now=self.now))


class ResidencyThatCloses(ResidencyAgainstAList):
    """The same, closed in the midst of it all."""

    def teardown(self) -> None:
        if not self.limit:
            return
        self.the_runtime_closes()
        for agent_id in range(1, AGENTS + 1):
            self.the_ledger_summons(AgentId(agent_id), work=True, goes_on=False, arrivals=[])
        self.quiet_down(waits_end=True)
        assert self.all_unloaded == 1
        assert not self.evicting, "every eviction is answered"
        assert not self.table.entries


@pytest.fixture(autouse=True)
def unloads_in_small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unloading, "UNLOADS_IN_PORTION", 2)


TestResidencyAgainstAList = ResidencyAgainstAList.TestCase
TestResidencyAgainstAList.settings = settings(max_examples=150, stateful_step_count=60)
TestResidencyThatCloses = ResidencyThatCloses.TestCase
