"""The residency table against a naive model: lists, and sessions that live in the test.

The machine plays everybody else: a ledger that answers late, sessions that open, fail, work, wait,
rest, end and crash, and news that arrives late in any order that keeps the order of each pair of
actors. A crash is heard of before or after anything that the crashed session said.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.actors.effects import Send, StartTimer
from greenroom.actors.errors import SnapshotTampered
from greenroom.actors.residency.protocol import (
    AgentEntered,
    AgentLeft,
    AllUnloaded,
    EvictionAnswered,
    LoadFailed,
    PinAnswered,
    ResidencyReport,
    Rest,
    SessionEnded,
    SessionIdle,
    SessionOpened,
    SessionWaits,
    Unload,
    Work,
)
from greenroom.actors.residency.table import (
    ResidencyEffect,
    ResidencyTable,
    StartSession,
    ToSession,
    _PatienceEnded,
)
from greenroom.actors.slots.protocol import EndHolder
from greenroom.actors.vocabulary import AgentId, Incarnation
from greenroom.persistence.protocol import AgentImage, AgentRow, Ask, LoadAgent

AGENTS = 7
LOST = "its actor is gone"


class Session:
    """A session as its actor: what it was sent but has not read, what it said but is not heard."""

    def __init__(self, agent_id: AgentId, incarnation: Incarnation) -> None:
        self.agent_id = agent_id
        self.incarnation = incarnation
        self.state = "opening"  # "idle", "turn", "waiting", "gone"
        self.seen = 0
        self.has_work = False
        self.inbox: deque[Work | Rest | Unload] = deque()
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
        self.idle = False
        self.waits = False
        self.slow = False


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
        # The model
        self.waiting: list[AgentId] = []  # for room, in order; also those that still unload
        self.why: dict[AgentId, set[str]] = {}
        self.residents: dict[AgentId, Resident] = {}
        self.rested: list[AgentId] = []  # by last use
        self.pins: set[AgentId] = set()
        self.owed: set[AgentId] = set()  # work that no session has taken
        self.to_open: set[AgentId] = set()
        self.requests = 0
        self.evicting: dict[object, AgentId] = {}
        self.asked_to_go: AgentId | None = None
        self.closing = False
        self.all_unloaded = 0
        self.summon_again: list[AgentId] = []

    @initialize(limit=st.sampled_from([1, 1, 2, 3]))
    def the_runtime_opens(self, limit: int) -> None:
        self.limit = limit
        self.perform(self.table.configure(limit, 1.0, now=0))

    # What the table asks for

    def perform(self, effects: Iterable[ResidencyEffect]) -> None:
        for effect in effects:
            match effect:
                case Send("ledger", Ask(request, LoadAgent(agent_id))):
                    self.admitted(agent_id, request)
                case Send("ledger", AgentEntered(agent_id, incarnation)):
                    self.incarnations[agent_id] = incarnation
                case StartSession(agent_id, incarnation, _, work):
                    self.started(agent_id, incarnation, work)
                case ToSession(agent_id, Work()):
                    self.session_of(agent_id).inbox.append(Work())
                    resident = self.residents[agent_id]
                    resident.sent += 1
                    self.used(agent_id)
                    self.why.pop(agent_id, None)
                case ToSession(agent_id, Rest()):
                    self.session_of(agent_id).inbox.append(Rest())
                case ToSession(agent_id, Unload() as unload):
                    self.sent_away(agent_id, unload)
                case StartTimer(_, _PatienceEnded()):
                    assert self.patient is None, "one timer is enough"
                    self.patient = {
                        (each, resident.incarnation)
                        for each, resident in self.residents.items()
                        if resident.stage == "unloading" and not resident.slow
                    }
                case Send("ledger", AgentLeft(agent_id, incarnation, orderly)):
                    assert self.residents.pop(agent_id).incarnation == incarnation
                    self.used(agent_id)
                    if not orderly and agent_id in self.owed:
                        self.summon_again.append(agent_id)
                case Send("ledger", LoadFailed(agent_id)):
                    del self.residents[agent_id]
                    self.owed.discard(agent_id)
                    self.to_open.discard(agent_id)
                    self.why.pop(agent_id, None)
                case Send("slots", EndHolder(agent_id, incarnation)):
                    assert self.residents[agent_id].incarnation == incarnation
                case Send("user", EvictionAnswered(number, evicted)):
                    agent_id = self.evicting.pop(number)
                    assert not evicted or agent_id not in self.residents or self.loads(agent_id)
                case Send("user", PinAnswered()):
                    pass
                case Send("supervisor", AllUnloaded()):
                    self.all_unloaded += 1
                case _:
                    raise AssertionError(effect)
        while self.summon_again:  # as the ledger does on hearing of a crash
            agent_id = self.summon_again.pop()
            if agent_id not in self.closed:
                self.summon(agent_id, work=True)

    def loads(self, agent_id: AgentId) -> bool:
        return self.residents[agent_id].stage == "loading"

    def admitted(self, agent_id: AgentId, request: object) -> None:
        assert not self.closing, "nobody is admitted when the runtime closes"
        assert agent_id not in self.residents, "no agent has two sessions"
        first = next(each for each in self.waiting if each not in self.residents)
        assert agent_id == first, "admitted in order"
        if len(self.residents) >= self.limit:
            assert self.stuck(), "residents never exceed the limit unless it must give way"
        self.waiting.remove(agent_id)
        self.residents[agent_id] = Resident()
        self.questions[agent_id] = request

    def started(self, agent_id: AgentId, incarnation: Incarnation, work: bool) -> None:
        assert work == ("work" in self.why.get(agent_id, ())), "it hears of its work at once"
        for other in self.sessions:
            assert other.agent_id != agent_id or other.state == "gone", "no agent has two sessions"
            assert other.agent_id != agent_id or other.incarnation < incarnation
        resident = self.residents[agent_id]
        resident.stage, resident.incarnation = "opening", incarnation
        session = Session(agent_id, incarnation)
        self.sessions.append(session)
        if work:
            resident.sent = session.seen = 1
            session.has_work = True
        self.to_open.discard(agent_id)
        self.why.pop(agent_id, None)

    def sent_away(self, agent_id: AgentId, unload: Unload) -> None:
        resident = self.residents[agent_id]
        assert resident.stage in ("opening", "open")
        if not (unload.gone or self.closing):
            assert resident.idle, "only who is idle is asked to go"
            assert agent_id not in self.pins, "nobody who is pinned is asked to go"
            if agent_id != self.asked_to_go:
                free = [each for each in self.rested if each not in self.pins]
                assert agent_id == free[0], "the least recently used goes"
                away = [
                    each
                    for each, other in self.residents.items()
                    if other.stage == "unloading" and not other.slow and each not in self.waiting
                ]
                wanted = len(self.waiting) + len(self.residents) - self.limit
                assert wanted > len(away), "one victim for each that waits"
        self.used(agent_id)
        resident.stage, resident.waits = "unloading", False
        self.session_of(agent_id).inbox.append(unload)

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

    def stuck(self) -> bool:
        kept = [each.idle and n in self.pins for n, each in self.residents.items()]
        waits = [each.waits for each in self.residents.values()]
        return any(waits) and all(a or b for a, b in zip(kept, waits, strict=True))

    # The ledger and the users

    @rule(agent_id=agents, work=st.sampled_from([True, True, False]), arrivals=arrivals)
    def the_ledger_summons(self, agent_id: AgentId, work: bool, arrivals: list[int]) -> None:
        if agent_id not in self.closed:
            self.summon(agent_id, work=work)
        self.messages_arrive(arrivals)

    def summon(self, agent_id: AgentId, *, work: bool) -> None:
        if not self.closing:
            resident = self.residents.get(agent_id)
            if work:
                self.owed.add(agent_id)
            if resident is None or resident.stage in ("loading", "unloading"):
                self.why.setdefault(agent_id, set()).add("work" if work else "open")
                if not work:
                    self.to_open.add(agent_id)
                if agent_id not in self.waiting and not (resident and resident.stage == "loading"):
                    self.waiting.append(agent_id)
            elif not work and resident.idle:
                self.rested.remove(agent_id)
                self.rested.append(agent_id)
        path = f"/t/{agent_id}"
        self.perform(self.table.summon(agent_id, path, work=work, now=0))

    @rule(agent_id=agents)
    def the_ledger_dismisses(self, agent_id: AgentId) -> None:
        self.owed.discard(agent_id)
        why = self.why.get(agent_id, set())
        why.discard("work")
        if agent_id in self.waiting and not why:
            self.waiting.remove(agent_id)
        self.perform(self.table.dismiss(agent_id, gone=False, now=0))

    @rule(agent_id=agents)
    @precondition(lambda self: len(self.closed) < AGENTS - 3)
    def an_agent_is_closed(self, agent_id: AgentId) -> None:
        self.closed.add(agent_id)
        self.owed.discard(agent_id)
        self.to_open.discard(agent_id)
        self.why.pop(agent_id, None)
        if agent_id in self.waiting:
            self.waiting.remove(agent_id)
        if agent_id in self.residents and self.loads(agent_id):
            del self.residents[agent_id]
            self.stale.append(self.questions.pop(agent_id))
        self.perform(self.table.dismiss(agent_id, gone=True, now=0))

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
            self.to_open.discard(agent_id)
            self.why.pop(agent_id, None)
        elif how == "tampered":
            image, error = None, SnapshotTampered(row.path, "altered")
        self.perform(self.table.loaded(request, image, error, now=0))

    @precondition(lambda self: self.stale)
    @rule()
    def the_ledger_answers_too_late(self) -> None:
        assert not self.table.loaded(self.stale.pop(), None, None, now=0)

    @rule(agent_id=agents)
    def a_user_evicts(self, agent_id: AgentId) -> None:
        self.requests += 1
        self.evicting[self.requests] = self.asked_to_go = agent_id
        self.perform(self.table.evict(agent_id, self.requests, "user", now=0))
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
        self.perform(self.table.pin(agent_id, 0, "user", pinned=pinned, now=0))

    @precondition(lambda self: self.patient is not None)
    @rule()
    def patience_ends(self) -> None:
        for agent_id, incarnation in self.patient or ():
            resident = self.residents.get(agent_id)
            if resident and resident.incarnation == incarnation:
                resident.slow = True
        self.patient = None
        self.perform(self.table.patience_ended(now=0))

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
    def a_turn_goes_on(self, data: st.DataObject) -> None:
        self.go_on(data.draw(st.sampled_from(self.in_state("waiting"))))

    @precondition(lambda self: self.in_state("turn"))
    @rule(data=st.data(), arrivals=arrivals)
    def a_turn_waits(self, data: st.DataObject, arrivals: list[int]) -> None:
        session = data.draw(st.sampled_from(self.in_state("turn")))
        session.state = "waiting"
        session.news.append(SessionWaits(session.agent_id, session.incarnation, True))
        self.messages_arrive(arrivals)

    @precondition(lambda self: self.in_state("opening"))
    @rule(data=st.data())
    def a_session_cannot_be_opened(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.in_state("opening")))
        # The session tells the ledger, which fails the runs that it was called for.
        if session.seen:
            self.owed.discard(session.agent_id)
        session.end()

    @precondition(lambda self: self.in_state("opening", "idle", "turn", "waiting"))
    @rule(data=st.data(), place=st.integers(0, 3))
    def a_session_crashes(self, data: st.DataObject, place: int) -> None:
        session = data.draw(st.sampled_from(self.in_state("opening", "idle", "turn", "waiting")))
        session.state = "gone"
        session.inbox.clear()
        session.news.insert(place, LOST)

    def open(self, session: Session) -> None:
        if session.has_work:
            session.news.append(SessionOpened(session.agent_id, session.incarnation))
        self.end_turn(session)

    def end_turn(self, session: Session) -> None:
        """The next one begins if there is work, else the session says that there is none."""
        if session.has_work:
            self.owed.discard(session.agent_id)
            session.state, session.has_work = "turn", False
        else:
            session.state = "idle"
            session.news.append(SessionIdle(session.agent_id, session.incarnation, session.seen))

    def read(self, session: Session) -> None:
        message = session.inbox.popleft()
        if session.state == "gone":
            return
        if isinstance(message, Rest):
            if session.state == "opening":
                session.has_work = False
        elif isinstance(message, Work):
            session.seen += 1
            session.has_work = True
            if session.state == "idle":
                self.end_turn(session)
        else:
            if not (message.gone or self.closing):
                assert session.state == "idle", "no session with work is asked to go"
                assert not session.has_work
            session.end()

    def go_on(self, session: Session) -> None:
        session.state = "turn"
        session.news.append(SessionWaits(session.agent_id, session.incarnation, False))

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
                effects = table.session_opened(agent_id, incarnation, now=0)
            case SessionIdle():
                if resident and resident.stage == "opening":
                    resident.stage = "open"
                if resident and resident.stage == "open":
                    resident.waits = False
                    if news.seen == resident.sent:
                        resident.idle = True
                        self.rested.append(agent_id)
                effects = table.session_idle(agent_id, incarnation, news.seen, now=0)
            case SessionWaits():
                if resident and resident.stage == "open":
                    resident.waits = news.waits
                effects = table.session_waits(agent_id, incarnation, news.waits, now=0)
            case SessionEnded():
                if resident and resident.stage != "unloading" and news.seen < resident.sent:
                    self.waiting.append(agent_id)
                    self.why[agent_id] = {"work"}
                effects = table.session_ended(agent_id, incarnation, news.seen, now=0)
            case _:
                effects = table.session_lost(agent_id, incarnation, now=0)
        assert resident or not effects, "late news changes nothing"
        if session.state == "gone" and not session.news:
            self.sessions.remove(session)
        self.perform(effects)

    # What holds at any time

    def report(self) -> ResidencyReport:
        agents = [AgentId(n) for n in range(1, AGENTS + 1)]
        (effect,) = self.table.describe(1, "user", agents)
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
                expected = "waiting" if each.agent_id in self.waiting else "absent"
                assert each.stage == expected
            assert each.pinned == (each.agent_id in self.pins)

    @invariant()
    def nobody_waits_while_a_place_is_free(self) -> None:
        outside = [each for each in self.waiting if each not in self.residents]
        assert not outside or len(self.residents) >= self.limit
        assert not outside or not self.stuck()

    @invariant()
    def nobody_waits_while_somebody_could_leave_who_was_not_asked_to(self) -> None:
        if any(agent_id not in self.pins for agent_id in self.rested):
            away = [each for each in self.residents.values() if each.stage == "unloading"]
            outside = [each for each in self.waiting if each not in self.residents]
            assert len(outside) + len(self.residents) - self.limit <= len(away)

    @invariant()
    def places_are_listed_in_order(self) -> None:
        places = {each.agent_id: each.place for each in self.report().agents}
        found = [places[each] for each in self.waiting if each not in self.residents]
        assert found == sorted(found, key=lambda place: -1 if place is None else place)
        assert None not in found

    @invariant()
    def nothing_is_counted_twice_or_forgotten(self) -> None:
        table = self.table
        entries = table._entries.values()
        assert set(table._entries) == set(self.residents) | set(self.waiting)
        assert set(table._residents) == set(self.residents)
        assert set(table._loads.values()) == {each for each in entries if each.stage == "loading"}
        assert table._coming == sum(each.coming for each in entries)
        assert table._in_wait == sum(each.waits for each in self.residents.values())
        lru = table._lru
        assert set(lru._idle) | lru._kept == set(self.rested)

    # The end

    def quiet_down(self, *, waits_end: bool) -> None:
        """Let everybody do all that is left to do, and crash or fail no more."""
        for _ in range(10_000):
            if self.questions:
                self.answer(next(iter(self.questions)))
            elif session := next((each for each in self.sessions if self.acts(each)), None):
                self.act(session)
            elif waits_end and (waiting := [s for s in self.sessions if s.state == "waiting"]):
                self.go_on(waiting[0])
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
        assert not self.waiting, "waiting turns keep nobody waiting for room for ever"
        self.quiet_down(waits_end=True)
        assert not self.owed, "every work reaches a session or is dismissed"
        assert not self.to_open, "every spawned agent is opened"
        assert not self.evicting, "every eviction is answered"
        assert len(self.residents) <= self.limit, "when all is quiet there is no surplus"
        assert all(each.idle for each in self.residents.values())
        self.every_agent_stands_where_the_model_says()
        self.nothing_is_counted_twice_or_forgotten()
        self.the_runtime_closes()
        self.quiet_down(waits_end=True)
        assert self.all_unloaded == 1
        assert not self.table._entries

    def the_runtime_closes(self) -> None:
        self.closing = True
        self.owed.clear()
        self.to_open.clear()
        self.why.clear()
        self.waiting.clear()
        for agent_id in [each for each in self.residents if self.loads(each)]:
            del self.residents[agent_id]
            self.stale.append(self.questions.pop(agent_id))
        self.perform(self.table.unload_all("supervisor", now=0))


class ResidencyThatCloses(ResidencyAgainstAList):
    """The same, closed in the midst of it all."""

    def teardown(self) -> None:
        if not self.limit:
            return
        self.the_runtime_closes()
        for agent_id in range(1, AGENTS + 1):
            self.the_ledger_summons(AgentId(agent_id), work=True, arrivals=[])
        self.quiet_down(waits_end=True)
        assert self.all_unloaded == 1
        assert not self.evicting, "every eviction is answered"
        assert not self.table._entries


TestResidencyAgainstAList = ResidencyAgainstAList.TestCase
TestResidencyAgainstAList.settings = settings(max_examples=150, stateful_step_count=60)
TestResidencyThatCloses = ResidencyThatCloses.TestCase
