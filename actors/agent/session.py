"""One session's decisions: when to ask for a slot, for a run, when to give the slot back, when to go.

Owns the lifecycle state, the lease of the moment and the count of `Work` seen. Executes nothing: what is
to be done with the user's code comes out as `Do…` values that the agent's actor performs.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

from ...persistence.protocol import MessageRow, RunRow
from ..effects import Effect, Send
from ..ledger.protocol import (
    EndTurn,
    InterruptTurn,
    RunBegun,
    SessionCancelled,
    SessionFailed,
    SessionStarted,
    TakeRun,
    TurnGoesOn,
    TurnMayResume,
    TurnResumes,
    TurnSettled,
    TurnWaits,
)
from ..residency.protocol import SessionEnded, SessionIdle, SessionOpened, SessionWaits
from ..slots.protocol import AcquireSlot, Lease, ReleaseSlot, SlotGranted
from ..vocabulary import AgentId, Incarnation, RunId
from .lifecycle import Event, State, after


class DoTurn(Struct, frozen=True, gc=False):
    """Execute a turn; `interrupt` if it was interrupted before it began."""

    run: RunRow
    again: bool
    inbox: tuple[MessageRow, ...]
    results: tuple[RunRow, ...]


class DoInterrupt(Struct, frozen=True, gc=False):
    """Interrupt the turn under way; its run is then what `means` says."""

    reason: str
    means: Literal["interrupted", "suspended", "failed"] = "interrupted"
    error_type: str | None = None


class DoResume(Struct, frozen=True, gc=False):
    """The turn has its slot back: let it go on."""


class DoCancelOpen(Struct, frozen=True, gc=False):
    """Stop opening."""


class DoClose(Struct, frozen=True, gc=False):
    """Close what was opened."""


class DoLeave(Struct, frozen=True, gc=False):
    """End the actor."""


Action: TypeAlias = Effect | DoTurn | DoInterrupt | DoResume | DoCancelOpen | DoClose | DoLeave


class Session:
    """Events in, actions out. `state` is one of the lifecycle's."""

    __slots__ = (
        "_given_up",
        "_interrupted",
        "_lease",
        "_leases",
        "_owed",
        "_run_id",
        "_seen",
        "_suspect",
        "_told_waiting",
        "_waits_made",
        "agent_id",
        "incarnation",
        "path",
        "state",
    )

    def __init__(self, agent_id: AgentId, path: str, incarnation: Incarnation) -> None:
        self.agent_id = agent_id
        self.path = path
        self.incarnation = incarnation
        self.state: State = "opening"
        self._seen = 0  # messages `Work`
        self._owed = False  # `Work` came that no question to the ledger has answered yet
        self._leases = 0
        self._lease: Lease | None = None  # asked for or held
        self._run_id: RunId | None = None
        self._interrupted: InterruptTurn | None = None  # before the run itself arrived
        self._told_waiting = False
        self._given_up = False  # the ledger was told that this session will not work
        self._suspect = False  # the turn may end the process: the ledger is told when it waits
        self._waits_made = 0  # of suspects

    def _move(self, event: Event) -> State:
        before, self.state = self.state, after(self.state, event)
        return before

    # Opening and closing

    def opened(self, *, healed: bool) -> list[Action]:
        """The kind is open."""
        if self._move("opened") == "leaving":
            return [DoClose()]
        started = Send("ledger", SessionStarted(self.agent_id, self.incarnation, healed))
        if not self._owed:
            return [started, self._idle()]
        opened = Send("residency", SessionOpened(self.agent_id, self.incarnation))
        return [started, opened, *self._go_on()]

    def failed(self, error: str, error_type: str | None = None) -> list[Action]:
        """The kind could not be opened; close what was."""
        if self._move("failed") == "leaving":
            return [DoClose()]
        self._given_up = True
        told = SessionFailed(self.agent_id, self.incarnation, error, error_type)
        return [Send("ledger", told), DoClose()]

    def cancelled(self) -> list[Action]:
        """The opening was cancelled from outside of greenroom: that is no failure of the kind."""
        if self._move("failed") == "leaving":
            return [DoClose()]
        self._given_up = True
        return [Send("ledger", SessionCancelled(self.agent_id, self.incarnation)), DoClose()]

    def unload(self, *, gone: bool = False) -> list[Action]:
        """The residency wants this session to go; `gone`: its agent was closed, and not the runtime."""
        before = self._move("unload")
        if self.state == "leaving" and before == "opening":
            return [DoCancelOpen()]
        if self.state == "leaving" and before != "leaving":
            if gone:
                return [DoInterrupt("its agent was closed")]
            return [DoInterrupt("the runtime closed before its turn ended", "suspended")]
        if self.state == "closing" and before != "closing":
            return [*self._give_back(), DoClose()]
        return []

    def closed(self) -> list[Action]:
        """The kind is closed, or was given up."""
        self._move("closed")
        ended = SessionEnded(self.agent_id, self.incarnation, self._seen)
        return [Send("residency", ended), DoLeave()]

    # Work

    def work(self) -> list[Action]:
        """There may be a run to take."""
        if self._given_up:
            return []  # not seen: the residency loads the agent again for it
        self._seen += 1
        if self._move("work") == "idle":
            return self._ask_for_slot()
        self._owed = True
        return []

    def rest(self) -> list[Action]:
        """There is none any more."""
        if self._move("rest") != "acquiring":
            if self.state == "opening":
                self._owed = False
            return []
        return [*self._give_back(), self._idle()]

    def granted(self, news: SlotGranted) -> list[Action]:
        """A slot; one that was given back meanwhile is ignored."""
        if news.lease != self._lease:
            return []
        before = self._move("granted")
        if before == "acquiring":
            self._owed = False
            return [Send("ledger", TakeRun(self.agent_id, self.incarnation))]
        if before == "regaining":
            goes_on: list[Action] = [*self._waits(False), DoResume()]
            if self._suspect and self._run_id is not None:
                told = TurnGoesOn(self.agent_id, self.incarnation, self._run_id)
                goes_on.append(Send("ledger", told))
            return goes_on
        return []

    def begun(self, news: RunBegun) -> list[Action]:
        """The run to execute."""
        if self._move("begun") != "taking":
            # it came too late: none of its code is executed
            unbegun = EndTurn(
                self.agent_id,
                self.incarnation,
                news.run.run_id,
                "suspended",
                None,
                None,
                0.0,
                0.0,
                begun=False,
            )
            return [Send("ledger", unbegun)]
        self._run_id, self._suspect = news.run.run_id, news.suspect
        actions: list[Action] = [DoTurn(news.run, news.again, news.inbox, news.results)]
        early, self._interrupted = self._interrupted, None
        if early is not None and early.run_id == news.run.run_id:
            actions.append(_interrupting(early))
        return actions

    def nothing(self) -> list[Action]:
        """No run waits any more."""
        if self._move("nothing") != "taking":
            return []
        self._interrupted = None
        return [*self._give_back(), *self._go_on()]

    def interrupt(self, news: InterruptTurn) -> list[Action]:
        """End the turn of this run, also if the run itself is still on its way here."""
        if self.state == "taking":
            self._interrupted = news
            return []
        if self._run_id != news.run_id:
            return []
        return [_interrupting(news)]

    def waits(self, *, for_runs: bool) -> list[Action]:
        """The turn waits from now on and needs no slot meanwhile."""
        if self._move("waits") == "leaving":
            return []
        actions: list[Action] = [*self._give_back(), *(self._waits(True) if for_runs else [])]
        if self._suspect and self._run_id is not None:
            waits = TurnWaits(self.agent_id, self.incarnation, self._run_id)
            actions.append(Send("ledger", waits))
        return actions

    def resumes(self) -> list[Action]:
        """The turn can go on as soon as it has a slot; a suspect's, as soon as the ledger lets it."""
        if self._move("resumes") == "leaving":
            return [DoResume()]
        if not self._suspect or self._run_id is None:
            return self._ask_for_slot()
        self._waits_made += 1
        asks = TurnResumes(self.agent_id, self.incarnation, self._run_id, self._waits_made)
        return [Send("ledger", asks)]

    def may_resume(self, news: TurnMayResume) -> list[Action]:
        """The ledger lets a suspect's turn go on; it may have ended its wait, or itself, meanwhile."""
        if self.state != "regaining" or (news.run_id, news.number) != (self._run_id, self._waits_made):
            return []
        return self._ask_for_slot()

    def returned(self, end: EndTurn) -> list[Action]:
        """The turn's code is over: the slot is free at once, the outcome goes to the ledger."""
        before = self._move("returned")
        self._run_id = None
        actions: list[Action] = [*self._give_back(), *self._waits(False)]
        if before == "leaving":
            # if its agent was closed, the ledger takes no notice; if the runtime closes, this may count
            return [*actions, Send("ledger", end), DoClose()]
        self._owed = False
        return [*actions, Send("ledger", end)]

    def settled(self, news: TurnSettled) -> list[Action]:
        """The ledger took the end down."""
        more = news.more or self._owed
        before = self._move("more" if more else "settled")
        if before != "ending":
            return []
        return self._ask_for_slot() if more else [self._idle()]

    # What all of the above is made of

    def _go_on(self) -> list[Action]:
        """Idle: look for work again if some was announced meanwhile."""
        if self._owed:
            self.state = after(self.state, "work")
            return self._ask_for_slot()
        return [self._idle()]

    def _idle(self) -> Effect:
        return Send("residency", SessionIdle(self.agent_id, self.incarnation, self._seen))

    def _ask_for_slot(self) -> list[Action]:
        self._leases += 1
        self._lease = Lease(self.agent_id, self.incarnation, self._leases)
        return [Send("slots", AcquireSlot(self._lease, self.path))]

    def _give_back(self) -> list[Action]:
        lease, self._lease = self._lease, None
        return [Send("slots", ReleaseSlot(lease))] if lease else []

    def _waits(self, waits: bool) -> list[Action]:
        if self._told_waiting == waits:
            return []
        self._told_waiting = waits
        return [Send("residency", SessionWaits(self.agent_id, self.incarnation, waits))]


def _interrupting(news: InterruptTurn) -> DoInterrupt:
    return DoInterrupt(news.reason, "suspended" if news.suspend else "interrupted")
