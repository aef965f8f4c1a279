"""An agent's actor whose code, opening and closing are moments that somebody else chooses.

It is the real `AgentActor` around the real `Session`, but for what needs an asyncio loop: where that would
start a task, this one notes what is under way, and `moment` says that it has come to its next point.

What a run does is its input, a few words: `wait r1` waits for that run without a slot, `after r1 r2` has
a continuation; then the code returns. `may-fail` either returns or raises.
"""

from typing import Any

from msgspec import Struct

from greenroom.actors.agent.actor import AgentActor
from greenroom.actors.agent.session import DoClose, DoResume, DoTurn, Session
from greenroom.actors.ledger.protocol import AwaitRun, Continuation, OutgoingMessage
from greenroom.actors.ledger.replies import RunOutcome
from greenroom.actors.residency.protocol import OpenSession
from greenroom.persistence.rows import Snapshot
from greenroom.types import AgentId, RunId

from .observer import AFTER


class Face(Struct, frozen=True):
    """What there is to see of a session."""

    moments: tuple[str, ...]
    agent_id: int | None
    run_id: str | None  # of its turn
    executes: bool
    has_place: bool  # as far as it knows
    in_memory: bool


class PlainTurn(Struct):
    """What the actor looks at when a turn ends; `left` is what its code has still to do."""

    do: DoTurn
    left: list[str]
    state: str
    _outbox: list[OutgoingMessage] = []
    _continuation: Continuation | None = None
    _over: bool = False
    waits_for: RunId | None = None
    come: bool = False  # … and that run has ended
    executes: bool = True  # its code does, at this moment


class PlainStates(Struct):
    """The state, as a text: what was done and read, a word each."""

    state: str = ""

    def keep(self, state: str, snapshot: Snapshot | None) -> None:
        """A turn completed with this state."""
        self.state = state


class PlainBehaviour(Struct):
    states: PlainStates


class PlainAgent(AgentActor):
    """One session, step by step."""

    turn: PlainTurn | None  # type: ignore[assignment]
    behaviour: PlainBehaviour  # type: ignore[assignment]
    opens = False
    may_not_open = False
    closes = False

    # What takes time

    def open(self, message: OpenSession) -> None:
        self.roles, self.clock = message.roles, message.clock
        image = message.image
        row = image.row
        self.agent_id, self.incarnation = row.agent_id, message.incarnation
        self.inbox = image.inbox
        self.healed = row.status == "failed"
        self.session = Session(row.agent_id, row.path, message.incarnation)
        if message.ask_first:
            self.session.ask_first()
        if message.work is not None:
            self.act(self.session.work(message.work))
        state = image.snapshot.data.decode() if image.snapshot else ""
        self.behaviour = PlainBehaviour(PlainStates(state))
        self.opens, self.may_not_open = True, row.kind == "fragile" and message.incarnation == 1

    def perform(self, effect: Any) -> None:
        match effect:
            case DoResume():
                if self.turn is not None:
                    self.turn.executes = True
            case DoClose():
                self.closes = True
            case _:
                super().perform(effect)

    def begin_turn(self, do: DoTurn) -> None:
        known = {message.serial: message for message in (*self.inbox, *do.inbox)}
        self.inbox = tuple(known[serial] for serial in sorted(known))
        self.interruption = None
        self.turn = PlainTurn(do, do.run.input.decode().split("; "), self.behaviour.states.state)

    def answered(self, message: Any) -> None:
        turn = self.turn
        if isinstance(message, RunOutcome) and turn is not None and message.request == self.asked_for(turn):
            turn.come = True

    def asked_for(self, turn: PlainTurn) -> tuple[AgentId, int, str | None]:
        """The request by which a turn waits."""
        return self.agent_id, self.incarnation, turn.waits_for

    # Moments

    def face(self) -> Face:
        """What there is to see of it."""
        turn, known = self.turn, hasattr(self, "session")
        return Face(
            moments=tuple(self.moments()) if known else (),
            agent_id=self.agent_id if known else None,
            run_id=turn.do.run.run_id if turn else None,
            executes=turn is not None and turn.executes,
            has_place=not known or self.session._has_place,
            in_memory=not known or self.session.state != "ended",
        )

    def moments(self) -> list[str]:
        """Which of what takes time may come to its next point."""
        if self.closes:
            return ["has closed"]
        if self.opens:
            if self.session.state == "leaving":
                return ["stops opening", "opens"]  # it may have opened as it was called off
            return ["opens", "fails to open"] if self.may_not_open else ["opens"]
        turn = self.turn
        if turn is None:
            return []
        if self.interruption is not None:
            return ["unwinds"]
        if turn.waits_for is not None:
            return ["goes on"] if turn.come else []
        if not turn.executes:
            return []  # until it has its slot back
        match turn.left[0].partition(" ")[0]:
            case "wait":
                return ["waits"]
            case "may-fail":
                return ["returns", "raises"]
            case _:
                return ["returns"]

    def moment(self, name: str) -> None:
        """It has."""
        match name:
            case "opens":
                self.opens = False
                self.act(self.session.opened(healed=self.healed))
            case "fails to open" | "stops opening":
                self.opens = False
                self.act(self.session.failed(f"it {name}"))
            case "has closed":
                self.closes = False
                self.act(self.session.closed())
            case "waits":
                self._wait()
            case "goes on":
                self._go_on()
            case _:
                self._end(name)

    def _wait(self) -> None:
        turn = self.turn
        assert turn is not None
        turn.waits_for, turn.come, turn.executes = RunId(turn.left.pop(0).split()[1]), False, False
        self.act(self.session.waits())
        self.tell(
            "ledger", AwaitRun(self.asked_for(turn), self.myAddress, turn.waits_for, tell_pending=True)
        )

    def _go_on(self) -> None:
        assert self.turn is not None
        self.turn.waits_for = None
        self.turn.left = self.turn.left or ["do"]
        self.act(self.session.resumes())

    def _end(self, name: str) -> None:
        turn = self.turn
        assert turn is not None
        status, error = ("completed", None) if name == "returns" else ("failed", "it raised")
        if self.interruption is not None:
            status, error = self.interruption.means, self.interruption.reason
        snapshot = None
        if status == "completed":
            self._effects(turn)
            snapshot = Snapshot("plain", 1, turn.state.encode())
        result = turn.do.run.run_id.encode() if status == "completed" else None
        self.end_turn(turn.do, turn, status, result, error, snapshot, 0.0, None, begun=True)  # type: ignore[arg-type]

    def _effects(self, turn: PlainTurn) -> None:
        """What its code does on the way to its end."""
        run = turn.do.run
        for words in turn.left:
            what, *awaited = words.split()
            if what == "after":
                run_id = RunId(run.run_id + AFTER + "+".join(awaited))
                turn._continuation = Continuation(run_id, tuple(map(RunId, awaited)), b"do")
        seen = [f"{row.run_id}:{row.status}" for row in turn.do.results]
        read = [f"{message.serial}" for message in self.inbox]
        turn.state = " ".join(filter(None, (turn.state, run.run_id, *seen, *(f"#{n}" for n in read))))

    def ended(self) -> None:
        """Nothing of it is left anywhere."""
