"""The lifecycle against a naive reading of it: whole lives of a session, in any order of news.

The model keeps what a bystander would write down: which slot and which place were asked for and given, what
was asked of the ledger, whether the user's code runs. From that alone it says in which state the session
must be.
"""

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom.actors.agent.session import (
    DoCancelOpen,
    DoClose,
    DoInterrupt,
    DoLeave,
    DoResume,
    DoTurn,
    Session,
)
from greenroom.actors.effects import Send
from greenroom.actors.ledger.protocol import EndTurn, SessionFailed, TakeRun, TurnWaits
from greenroom.actors.ledger.replies import InterruptTurn, RunBegun, TurnSettled
from greenroom.actors.residency.protocol import (
    NextEviction,
    Room,
    RunsAvailable,
    SessionAsks,
    SessionEnded,
    SessionReturns,
    SessionWaits,
)
from greenroom.actors.slots.protocol import AcquireSlot, ReleaseSlot, SlotGranted
from greenroom.persistence.rows import RunRow
from greenroom.types import AgentId, Incarnation, RunId

ME = AgentId(1), Incarnation(1)


class SessionAgainstDicts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.session = Session(ME[0], "/t/a", ME[1])
        self.slots: dict[Any, str] = {}  # lease -> asked, given
        self.mail: dict[str, deque[Any]] = {"slots": deque(), "ledger": deque(), "residency": deque()}
        self.has_place, self.claim = True, 0  # as far as it was told; the number by which it wants one
        self.asks = 0  # its questions whether it may go on that are not answered yet
        self.is_asking = False
        self.told_to_wait = False  # the ledger, of its turn
        self.queued = 0  # runs
        self.made = 0
        self.code: str | None = "open"  # what of the user's runs: open, turn, wait, return, regain, close
        self.run: RunId | None = None
        self.interrupted: set[RunId] = set()
        self.asked: str | None = None  # of the ledger, and not answered: take, end
        self.must_go = self.over = False
        self.ended = self.turns = 0

    # What the session does

    def perform(self, actions: list[Any]) -> None:
        for action in actions:
            match action:
                case Send(message=AcquireSlot(lease=lease)):
                    assert not self.slots, "it asks for a second slot"
                    assert self.has_place, "it asks for a slot without a place"
                    self.slots[lease] = "asked"
                case Send(message=ReleaseSlot(lease=lease)):
                    del self.slots[lease]  # KeyError: given back twice
                case Send(message=TakeRun()):
                    assert "given" in self.slots.values()
                    assert self.asked is None
                    self.asked = "take"
                case Send(message=EndTurn()):
                    assert self.asked is None
                    self.asked = "end"
                    self.mail["ledger"].append("settled")
                case Send(message=SessionWaits()):
                    self.has_place, self.claim = False, 0
                case Send(message=SessionReturns(number=number)):
                    assert not self.has_place
                    assert not self.claim
                    self.claim = number
                case Send(message=SessionAsks()):
                    assert not self.is_asking
                    self.asks, self.is_asking = self.asks + 1, True
                case Send(message=TurnWaits(waits=waits)):
                    assert self.told_to_wait != waits
                    self.told_to_wait = waits
                case Send(message=SessionFailed()):
                    assert self.code in ("open", None)
                case Send(message=SessionEnded()):
                    self.ended += 1
                case Send():
                    pass
                case DoTurn(run=run):
                    assert self.code is None
                    assert "given" in self.slots.values(), "a turn begins without a slot"
                    self.code, self.run = "turn", run.run_id
                    self.turns += 1
                case DoInterrupt():
                    assert self.code in ("turn", "store", "wait", "return", "regain")
                case DoResume():
                    assert self.code == "regain" or (self.must_go and self.code == "return")
                    assert self.must_go or (self.has_place and "given" in self.slots.values())
                    self.code = "turn"
                case DoCancelOpen():
                    assert self.code == "open"
                case DoClose():
                    assert self.code is None, "closed while the user's code runs"
                    self.code, self.is_asking = "close", False
                case DoLeave():
                    self.over = True

    def expected(self) -> str:
        """The state, by what a bystander saw."""
        if self.over:
            return "ended"
        if self.code == "close":
            return "closing"
        if self.must_go:
            return "leaving"
        match self.code:
            case "open":
                return "opening"
            case "turn" | "store":
                return "running"
            case "wait":
                return "waiting"
            case "return":
                return "returning"
            case "regain":
                return "regaining"
        if self.asked is not None:
            return "taking" if self.asked == "take" else "ending"
        if self.is_asking:
            return "asking"
        return "acquiring" if self.slots else "idle"

    # What happens to it

    @rule()
    def a_run_is_accepted(self) -> None:
        self.queued += 1
        self.perform(self.session.work(RunsAvailable()))

    @precondition(lambda self: "asked" in self.slots.values())
    @rule()
    def the_slot_is_given(self) -> None:
        (lease,) = self.slots
        self.slots[lease] = "on its way"
        self.mail["slots"].append(lease)

    @precondition(lambda self: self.mail["slots"])
    @rule()
    def the_slot_arrives(self) -> None:
        lease = self.mail["slots"].popleft()
        if lease in self.slots:
            self.slots[lease] = "given"
        self.perform(self.session.granted(SlotGranted(lease)))

    @precondition(lambda self: self.claim)
    @rule()
    def the_place_is_given(self) -> None:
        self.mail["residency"].append(Room(self.claim))

    @precondition(lambda self: self.asks)
    @rule(again=st.booleans())
    def it_may_go_on(self, again: bool) -> None:
        self.asks -= 1
        self.mail["residency"].append(NextEviction(again))

    @precondition(lambda self: self.mail["residency"])
    @rule()
    def the_residency_is_heard(self) -> None:
        news = self.mail["residency"].popleft()
        if isinstance(news, NextEviction):
            if self.is_asking:
                self.has_place, self.is_asking, self.claim = True, False, 0
            self.perform(self.session.goes_on(news))
            return
        if news.number == self.claim:
            self.has_place, self.claim = True, 0
            self.code = "regain" if self.code == "return" else self.code
        self.perform(self.session.placed(news))

    @rule()
    def others_wait_for_room(self) -> None:
        self.session.ask_first()

    @precondition(lambda self: self.asked == "take" and not self.mail["ledger"])
    @rule()
    def the_ledger_looks(self) -> None:
        if self.queued:
            self.queued -= 1
            self.made += 1
            self.mail["ledger"].append(RunId(f"r{self.made}"))
        else:
            self.mail["ledger"].append("nothing")

    @precondition(lambda self: self.mail["ledger"])
    @rule()
    def the_ledger_answers(self) -> None:
        news = self.mail["ledger"].popleft()
        self.asked = None
        if news == "nothing":
            self.perform(self.session.nothing())
        elif news == "settled":
            self.perform(self.session.settled(TurnSettled(ME[0], more=self.queued > 0)))
        else:
            row = RunRow(news, 1, ME[0], "/t/a", b"", 0.0)
            self.perform(self.session.begun(RunBegun(ME[0], row, False, (), ())))

    @precondition(lambda self: self.code == "open")
    @rule(well=st.booleans())
    def open_returns(self, well: bool) -> None:
        self.code = None
        self.perform(self.session.opened(healed=False) if well else self.session.failed("no"))

    @precondition(lambda self: self.code == "turn")
    @rule()
    def the_turn_waits(self) -> None:
        self.code = "wait"
        self.perform(self.session.waits())
        assert self.must_go or not self.slots, "it waits in its slot"
        assert self.must_go or not self.has_place, "it waits in its place"

    @precondition(lambda self: self.code in ("return", "regain") and not self.must_go)
    @rule()
    def the_turn_waits_again(self) -> None:
        """Another one of its tasks, or a clean-up."""
        self.the_turn_waits()

    @precondition(lambda self: self.code == "turn")
    @rule()
    def the_state_takes_long_to_store(self) -> None:
        self.code = "store"
        self.perform(self.session.stores())
        assert not self.slots

    @precondition(lambda self: self.code == "wait")
    @rule()
    def the_wait_is_over(self) -> None:
        self.code = "return"
        self.perform(self.session.resumes())

    @precondition(lambda self: self.code in ("turn", "store", "wait", "return", "regain"))
    @rule()
    def the_turn_returns(self) -> None:
        self.code, run, self.run = None, self.run, None
        self.told_to_wait = False  # that the turn is over is told as well
        end = EndTurn(*ME, run, "completed", None, None, 0.0, 1.0)  # type: ignore[arg-type]
        self.perform(self.session.returned(end))
        assert not any(state == "given" for state in self.slots.values()) or self.asked is None

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def a_run_is_interrupted(self, data: st.DataObject) -> None:
        run = RunId(f"r{data.draw(st.integers(1, self.made))}")
        actions = self.session.interrupt(InterruptTurn(run, "told to"))
        assert (run == self.run) or not actions, "a run that is not under way was interrupted"
        self.perform(actions)

    @rule()
    def its_runs_are_gone(self) -> None:
        self.queued, self.is_asking = 0, False
        self.perform(self.session.rest())

    @precondition(lambda self: not self.over)
    @rule()
    def it_is_to_go(self) -> None:
        if self.code is not None and self.code != "close":
            self.must_go = True
        self.perform(self.session.unload())

    @precondition(lambda self: self.code == "close")
    @rule()
    def close_returns(self) -> None:
        self.code = None
        self.perform(self.session.closed())

    # What must hold

    @invariant()
    def the_state_is_what_a_bystander_says(self) -> None:
        assert self.session.state == self.expected()

    @invariant()
    def it_has_one_slot_at_most_and_none_when_it_is_over(self) -> None:
        assert len(self.slots) <= 1
        if self.over or self.code == "close":
            assert not self.slots
        assert self.ended == int(self.over)


TestSessionAgainstDicts = SessionAgainstDicts.TestCase
TestSessionAgainstDicts.settings = settings(max_examples=200, stateful_step_count=80, deadline=None)
