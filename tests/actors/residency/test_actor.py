"""The ResidencyLRU by messages, on every system base, with a ledger and sessions that only play theirs.

A session of a kind `crashing` leaves without a word when it gets work.
"""

from typing import Any

import pytest
from msgspec import Struct
from thespian.actors import Actor, ActorExitRequest

from greenroom.actors.residency.actor import ResidencyLRU
from greenroom.actors.residency.protocol import (
    ActivateAgent,
    AgentActivated,
    AgentPassivated,
    AllUnloaded,
    ConfigureResidency,
    DescribeResidency,
    EvictAgent,
    EvictionAnswered,
    OpenSession,
    ResidencyReport,
    RunsAvailable,
    SessionEnded,
    SessionIdle,
    SessionOpened,
    Unload,
    UnloadAll,
)
from greenroom.actors.shell import Meet
from greenroom.actors.slots.protocol import EndHolder
from greenroom.actors.storage.protocol import Answer, Ask
from greenroom.persistence.queries import LoadAgent
from greenroom.persistence.rows import AgentImage, AgentRow
from greenroom.types import AgentId, Incarnation

DEADLINE = 600.0
CRASHING = 13  # the id of the agent whose sessions crash


class Watch(Struct, frozen=True):
    """Forward to me all that you hear."""


class Worked(Struct, frozen=True):
    agent_id: AgentId
    incarnation: Incarnation


class PlayedLedger(Actor):
    """Answers with the image of any agent, and forwards all else to the test."""

    def __init__(self) -> None:
        super().__init__()
        self.watcher: Any = None
        self.incarnations: dict[AgentId, Incarnation] = {}

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        match message:
            case Watch():
                self.watcher = sender
                self.send(sender, message)
            case Ask(request, LoadAgent(agent_id)):
                incarnation = self.incarnations.get(agent_id, Incarnation(0))
                kind = "crashing" if agent_id == CRASHING else "working"
                row = AgentRow(agent_id, f"/t/{agent_id}", kind, 1, b"", 0, 0, incarnation=incarnation)
                self.send(sender, Answer(request, AgentImage(row)))
            case AgentActivated(agent_id, incarnation):
                self.incarnations[agent_id] = incarnation
                self.send(self.watcher, message)
            case ActorExitRequest():
                pass
            case _:
                self.send(self.watcher, message)


class PlayedSession(Actor):
    """Opens at once, works at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        match message:
            case OpenSession(image, incarnation, work, _, roles):
                self.roles = roles
                self.kind, self.known_as = image.row.kind, (image.row.agent_id, incarnation)
                self.send(sender, SessionOpened(*self.known_as))
                if work:
                    self.work(sender)
                else:
                    self.send(sender, SessionIdle(*self.known_as, self.seen))
            case RunsAvailable():
                self.work(sender)
            case Unload():
                self.send(sender, SessionEnded(*self.known_as, self.seen))
                self.send(self.myAddress, ActorExitRequest())

    def work(self, residency: Any) -> None:
        if self.kind == "crashing":
            self.send(self.myAddress, ActorExitRequest())
            return
        self.seen += 1
        self.send(self.roles["ledger"], Worked(*self.known_as))
        self.send(residency, SessionIdle(*self.known_as, self.seen))


class ResidencyOfPlayedSessions(ResidencyLRU):
    def session_class(self) -> type[Actor]:
        return PlayedSession


class Theatre:
    """A residency with one place, and what the test hears of it."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self.ledger = system.createActor(PlayedLedger)
        self.residency = system.createActor(ResidencyOfPlayedSessions)
        roles: Any = {"ledger": self.ledger, "slots": self.ledger, "residency": self.residency}
        assert system.ask(self.ledger, Watch(), DEADLINE) == Watch()
        system.tell(self.residency, Meet(roles))
        system.tell(self.residency, ConfigureResidency(1))

    def tell(self, message: object) -> None:
        self.system.tell(self.residency, message)

    def summon(self, agent_id: int) -> None:
        self.tell(ActivateAgent(AgentId(agent_id), f"/t/{agent_id}"))

    def hears(self, *expected: object) -> None:
        """These; in the order of whoever said them, residency or sessions, and not of one to the other."""
        heard = [self.system.listen(DEADLINE) for _ in expected]
        for by_sessions in (True, False):
            said, wanted = (
                [message for message in messages if isinstance(message, Worked) is by_sessions]
                for messages in (heard, expected)
            )
            assert said == wanted


@pytest.fixture
def theatre(system: Any) -> Theatre:
    return Theatre(system)


def entered(agent_id: int, incarnation: int = 1) -> AgentActivated:
    return AgentActivated(AgentId(agent_id), Incarnation(incarnation))


def worked(agent_id: int, incarnation: int = 1) -> Worked:
    return Worked(AgentId(agent_id), Incarnation(incarnation))


def left(agent_id: int, incarnation: int = 1, *, orderly: bool = True) -> AgentPassivated:
    return AgentPassivated(AgentId(agent_id), Incarnation(incarnation), orderly=orderly, evicted=orderly)


def test_a_summoned_agent_gets_a_session_and_its_work(theatre: Theatre) -> None:
    theatre.summon(1)
    theatre.hears(entered(1), worked(1))
    theatre.summon(1)
    theatre.hears(worked(1))


def test_agents_take_turns_in_the_one_place(theatre: Theatre) -> None:
    theatre.summon(1)
    theatre.hears(entered(1), worked(1))
    theatre.summon(2)
    theatre.hears(left(1), entered(2), worked(2))
    theatre.summon(1)
    theatre.hears(left(2), entered(1, 2), worked(1, 2))


def test_a_session_that_crashes_frees_its_slot_and_its_place(theatre: Theatre) -> None:
    theatre.summon(CRASHING)
    theatre.hears(
        entered(CRASHING),
        EndHolder(AgentId(CRASHING), Incarnation(1)),
        left(CRASHING, orderly=False),
    )
    theatre.summon(CRASHING)
    theatre.hears(
        entered(CRASHING, 2),
        EndHolder(AgentId(CRASHING), Incarnation(2)),
        left(CRASHING, 2, orderly=False),
    )
    theatre.summon(1)
    theatre.hears(entered(1), worked(1))


def test_an_eviction_on_request_is_answered(theatre: Theatre) -> None:
    theatre.summon(1)
    theatre.hears(entered(1), worked(1))
    # The session may not have said yet that it is idle; the next agent's entry says that it was.
    theatre.summon(2)
    theatre.hears(left(1), entered(2), worked(2))
    theatre.tell(EvictAgent(5, theatre.ledger, AgentId(1)))
    theatre.hears(EvictionAnswered(5, evicted=False))


def test_it_reports_who_is_there(theatre: Theatre) -> None:
    theatre.summon(1)
    theatre.hears(entered(1), worked(1))
    query = DescribeResidency(5, (AgentId(1), AgentId(2)))
    report = theatre.system.ask(theatre.residency, query, DEADLINE)
    while report.agents[0].stage == "opening":  # the session's news crossed the question
        report = theatre.system.ask(theatre.residency, query, DEADLINE)
    assert isinstance(report, ResidencyReport)
    assert (report.request, report.residents, report.resident) == (5, 1, 1)
    assert [each.stage for each in report.agents] == ["open", "absent"]


def test_all_sessions_end_when_the_runtime_closes(theatre: Theatre) -> None:
    theatre.summon(1)
    theatre.hears(entered(1), worked(1))
    theatre.tell(UnloadAll())
    heard = [theatre.system.listen(DEADLINE) for _ in range(2)]
    assert AllUnloaded() in heard
    ended = AgentPassivated(AgentId(1), Incarnation(1), orderly=True, evicted=False)
    assert ended in heard
