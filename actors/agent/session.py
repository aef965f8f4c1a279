"""One session's decisions: when to ask for room, a slot, a run, when to give them back, when to go.

Owns the lifecycle state, the lease of the moment and the count of `RunsAvailable` seen. Executes nothing.
The user's code is called by the agent's actor, which performs the `Do…` values that come out of here.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

from ...persistence.rows import MessageRow, RunRow
from ...types import AgentId, Incarnation, RunId
from ..effects import Effect, Send
from ..ledger.protocol import (
    EndTurn,
    SessionCancelled,
    SessionFailed,
    SessionStarted,
    TakeRun,
    TurnResumes,
    TurnWaits,
)
from ..ledger.replies import InterruptTurn, RunBegun, TurnMayResume, TurnSettled
from ..residency.protocol import (
    NextEviction,
    Room,
    RunsAvailable,
    SessionAsks,
    SessionEnded,
    SessionIdle,
    SessionOpened,
    SessionReturns,
    SessionWaits,
)
from ..slots.protocol import AcquireSlot, Lease, ReleaseSlot, SlotGranted
from .lifecycle import SessionEvent, SessionState, after


class DoTurn(Struct, frozen=True, gc=False):
    """Execute a turn; `interrupt` if it was interrupted before it began."""

    run: RunRow
    again: bool
    inbox: tuple[MessageRow, ...]
    results: tuple[RunRow, ...]
    erased: tuple[AgentId, ...] = ()


class DoInterrupt(Struct, frozen=True, gc=False):
    """Interrupt the turn under way; its run is then what `means` says."""

    reason: str
    means: Literal["interrupted", "suspended", "failed"] = "interrupted"
    error_type: str | None = None


class DoResume(Struct, frozen=True, gc=False):
    """The turn has room and a slot again: let it go on."""


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
        "_asks",
        "_given_up",
        "_goes_on",
        "_has_place",
        "_interrupted",
        "_lease",
        "_leases",
        "_owed",
        "_returns",
        "_run_id",
        "_seen",
        "_suspect",
        "_waits_made",
        "_wanted",
        "agent_id",
        "incarnation",
        "path",
        "state",
    )

    def __init__(self, agent_id: AgentId, path: str, incarnation: Incarnation) -> None:
        self.agent_id = agent_id
        self.path = path
        self.incarnation = incarnation
        self.state: SessionState = "opening"
        self._seen = 0  # messages `RunsAvailable`
        self._owed = False  # `RunsAvailable` came that no question to the ledger has answered yet
        self._leases = 0
        self._lease: Lease | None = None  # asked for or held
        self._run_id: RunId | None = None
        self._interrupted: InterruptTurn | None = None  # before the run itself arrived
        self._has_place = True
        self._returns = 0  # times that a turn wanted its place back
        self._wanted: int | None = None  # the last of these, unless it waits again
        self._asks = False  # others wait for room: it asks before its next turn
        self._goes_on = False  # the work that it has is no new work
        self._given_up = False  # the ledger was told that this session will not work
        self._suspect = False  # the turn may end the process: the ledger is told when it waits
        self._waits_made = 0  # of suspects

    def _move(self, event: SessionEvent) -> SessionState:
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

    def work(self, news: RunsAvailable) -> list[Action]:
        """There may be a run to take."""
        if self._given_up:
            return []  # not seen: the residency loads the agent again for it
        self._seen += 1
        if self.state == "idle" and not self._has_place:
            self._goes_on = news.goes_on
            return self._ask()
        if self._move("work") == "idle":
            self._goes_on = news.goes_on
            return self._ask_for_slot()
        self._owed = True
        if self.state == "opening":
            self._goes_on = news.goes_on
        return []

    def rest(self) -> list[Action]:
        """There is none any more."""
        if self._move("rest") not in ("acquiring", "asking"):
            if self.state == "opening":
                self._owed = False
            return []
        return [*self._give_back(), self._idle()]

    def ask_first(self) -> None:
        """Others wait for room: ask before the next turn."""
        self._asks = True

    def goes_on(self, news: NextEviction) -> list[Action]:
        """The next turn may begin here."""
        self._asks = news.ask_again
        if self._move("goes_on") != "asking":
            return []
        self._has_place, self._wanted = True, None
        return self._ask_for_slot()

    def placed(self, news: Room) -> list[Action]:
        """There is room for it again; told a turn that waits again since, it is no news."""
        if news.number != self._wanted:
            return []
        before = self._move("placed")
        self._wanted, self._has_place = None, True
        return self._ask_for_slot() if before == "returning" else []

    def granted(self, news: SlotGranted) -> list[Action]:
        """A slot; one that was given back meanwhile is ignored."""
        if news.lease != self._lease:
            return []
        before = self._move("granted")
        if before == "acquiring":
            self._owed = False
            return [Send("ledger", TakeRun(self.agent_id, self.incarnation))]
        if before == "regaining":
            return [self._waits(waits=False), DoResume()]
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
        actions: list[Action] = [DoTurn(news.run, news.again, news.inbox, news.results, news.erased)]
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

    def waits(self) -> list[Action]:
        """The turn waits from now on: slot and place are for others meanwhile."""
        before = self._move("waits")
        if before in ("leaving", "waiting"):
            return []
        self._has_place, self._wanted = False, None
        away = Send("residency", SessionWaits(self.agent_id, self.incarnation))
        told = [self._waits(waits=True)] if before == "running" or self._suspect else []
        return [*self._give_back(), away, *told]

    def stores(self) -> list[Action]:
        """The turn's code is over, and its state takes long to store: it needs no slot for that."""
        return self._give_back()

    def resumes(self) -> list[Action]:
        """The turn can go on as soon as it has room and a slot; a suspect's, once the ledger lets it."""
        if self._move("resumes") == "leaving":
            return [DoResume()]
        if not self._suspect or self._run_id is None:
            return self._return()
        self._waits_made += 1
        asks = TurnResumes(self.agent_id, self.incarnation, self._run_id, self._waits_made)
        return [Send("ledger", asks)]

    def may_resume(self, news: TurnMayResume) -> list[Action]:
        """The ledger lets a suspect's turn go on; it may have ended its wait, or itself, meanwhile."""
        if self.state != "returning" or (news.run_id, news.number) != (self._run_id, self._waits_made):
            return []
        return self._return()

    def _return(self) -> list[Action]:
        self._returns += 1
        self._wanted, self._goes_on = self._returns, True
        return [Send("residency", SessionReturns(self.agent_id, self.incarnation, self._returns))]

    def returned(self, end: EndTurn) -> list[Action]:
        """The turn's code is over: the slot is free at once, the outcome goes to the ledger."""
        before = self._move("returned")
        self._run_id = None
        actions: list[Action] = self._give_back()
        if before == "leaving":
            # if its agent was closed, the ledger takes no notice; if the runtime closes, this may count
            return [*actions, Send("ledger", end), DoClose()]
        self._owed = False
        return [*actions, Send("ledger", end)]

    def settled(self, news: TurnSettled) -> list[Action]:
        """The ledger took the end down."""
        if self.state != "ending":
            self._move("settled")
            return []
        if not (news.more or self._owed):
            self._move("settled")
            return [self._idle()]
        self._goes_on = news.goes_on
        if self._asks or not self._has_place:
            return self._ask()
        self._move("more")
        return self._ask_for_slot()

    # Helpers of all of the above

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
        return [Send("slots", AcquireSlot(self._lease, self.path, self._goes_on))]

    def _ask(self) -> list[Action]:
        """Ask the residency whether the next turn may begin here."""
        self._move("asks")
        return [Send("residency", SessionAsks(self.agent_id, self.incarnation, self._goes_on))]

    def _give_back(self) -> list[Action]:
        lease, self._lease = self._lease, None
        return [Send("slots", ReleaseSlot(lease))] if lease else []

    def _waits(self, *, waits: bool) -> Effect:
        return Send("ledger", TurnWaits(self.agent_id, self.incarnation, waits))


def _interrupting(news: InterruptTurn) -> DoInterrupt:
    return DoInterrupt(news.reason, "suspended" if news.suspend else "interrupted")
