"""Directory, ledger, event bus, writer and reader together by messages, on every system base.

The stage creates them, plays the residency and a session, and forwards what it hears to the test.
"""

from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace
from thespian.actors import Actor, ActorSystemMessage

from greenroom.actors.agent.kind import attempts_of
from greenroom.actors.directory.actor import Directory
from greenroom.actors.directory.protocol import ConfigureDirectory, SpawnAgent, SubmitMessage, SubmitRun
from greenroom.actors.events.actor import EventBus
from greenroom.actors.events.protocol import ConfigureEvents, EventsPulled, PullEvents
from greenroom.actors.ledger.actor import LedgerActor
from greenroom.actors.ledger.protocol import AwaitRun, CloseLedger, ConfigureLedger, EndTurn, TakeRun
from greenroom.actors.ledger.replies import (
    AgentSpawned,
    LedgerClosed,
    LedgerReady,
    MessageAccepted,
    RequestRefused,
    RunAccepted,
    RunBegun,
    RunOutcome,
    TurnSettled,
)
from greenroom.actors.residency.protocol import ActivateAgent
from greenroom.actors.shell import Meet
from greenroom.actors.storage.protocol import OpenReader, OpenStore, ReaderOpened, StoreOpened
from greenroom.actors.storage.reader import ReaderActor
from greenroom.actors.storage.writer import PersistenceActor
from greenroom.errors import AgentNotFound, PathTaken

DEADLINE = 600.0
ROLES = {
    "ledger": LedgerActor,
    "directory": Directory,
    "events": EventBus,
    "writer": PersistenceActor,
    "reader": ReaderActor,
}


class Open(Struct, frozen=True):
    store: str


class Say(Struct, frozen=True):
    """Have the stage send `message` to a role, with itself to answer to."""

    to: str
    message: Any


class Opened(Struct, frozen=True):
    pass


def every_kind(_name: str) -> bool:
    return True


class Stage(Actor):
    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        match message:
            case ActorSystemMessage():
                return
            case Open(store):
                self.watcher = sender
                self.roles = {role: self.createActor(actor) for role, actor in ROLES.items()}
                meet = Meet(
                    self.roles | dict.fromkeys(("residency", "slots", "supervisor"), self.myAddress)
                )
                for address in self.roles.values():
                    self.send(address, meet)
                self.send(self.roles["writer"], OpenStore(store, "process"))
            case StoreOpened(unfinished, file):
                self.unfinished = unfinished
                self.send(self.roles["reader"], OpenReader(file))
            case ReaderOpened():
                unfinished = self.unfinished
                configured = ConfigureDirectory(unfinished.next_agent_id, every_kind, remember=100)
                self.send(self.roles["directory"], configured)
                self.send(self.roles["events"], ConfigureEvents(unfinished.next_seq - 1))
                ledger = ConfigureLedger(unfinished, "process", 100, attempts_of)
                self.send(self.roles["ledger"], ledger)
            case LedgerReady():
                self.send(self.watcher, Opened())
            case Say(to, said):
                if hasattr(said, "reply_to"):
                    said = replace(said, reply_to=self.myAddress)
                self.send(self.roles[to], said)
            case _:
                self.send(self.watcher, message)


@pytest.fixture
def stage(system: Any, tmp_path: Path) -> Any:
    address = system.createActor(Stage)
    assert isinstance(system.ask(address, Open(str(tmp_path / "agents.db")), DEADLINE), Opened)
    return address


def heard(system: Any, *kinds: type) -> list[Any]:
    """What the test hears until it has heard one message of each kind, in whatever order."""
    found: dict[type, Any] = {}
    while len(found) < len(kinds):
        message = system.listen(DEADLINE)
        assert message is not None, f"heard only {found}"
        found[type(message)] = message
    return [found[kind] for kind in kinds]


def test_a_run_goes_its_way(system: Any, stage: Any) -> None:
    spawn = SpawnAgent(1, None, "/t/a", "kind", 1, b"config", b"input")
    system.tell(stage, Say("directory", spawn))
    spawned, summons = heard(system, AgentSpawned, ActivateAgent)
    assert (spawned.path, summons.agent_id, summons.work) == ("/t/a", spawned.agent_id, True)

    system.tell(stage, Say("ledger", TakeRun(spawned.agent_id, 1)))
    (begun,) = heard(system, RunBegun)
    assert (begun.run.run_id, begun.run.input, begun.run.attempt) == (spawned.run_id, b"input", 1)

    end = EndTurn(spawned.agent_id, 1, spawned.run_id, "completed", b"result", None, 1.0, 2.0)
    system.tell(stage, Say("ledger", end))
    (settled,) = heard(system, TurnSettled)
    assert settled.more is False

    system.tell(stage, Say("ledger", AwaitRun(2, None, spawned.run_id)))
    (ended,) = heard(system, RunOutcome)
    assert (ended.run.status, ended.run.result) == ("completed", b"result")

    told: list[str] = []
    since: Any = 0
    while len(told) < 4:  # the ledger's answer and what it tells the bus go different ways
        system.tell(stage, Say("events", PullEvents(3, None, "/t", since)))
        (pulled,) = heard(system, EventsPulled)
        told += [event.type for event in pulled.events]
        since = pulled.last
    assert told == [
        "agent.spawned",
        "run.accepted",
        "run.started",
        "run.completed",
    ]


def test_paths_are_told_apart(system: Any, stage: Any) -> None:
    spawn = SpawnAgent(1, None, "/t/a", "kind", 1, b"")
    system.tell(stage, Say("directory", spawn))
    heard(system, AgentSpawned, ActivateAgent)
    system.tell(stage, Say("directory", replace(spawn, request=2)))
    (refused,) = heard(system, RequestRefused)
    assert (refused.request, refused.error.args) == (2, PathTaken("/t/a").args)
    system.tell(stage, Say("directory", SubmitRun(3, None, "/t/b", b"")))
    (refused,) = heard(system, RequestRefused)
    assert (refused.request, str(refused.error)) == (3, str(AgentNotFound("/t/b")))
    system.tell(stage, Say("directory", SubmitMessage(4, None, "/t/a", b"", None)))
    heard(system, MessageAccepted)
    system.tell(stage, Say("directory", SubmitRun(5, None, "/t/a", b"", "mine")))
    accepted, _ = heard(system, RunAccepted, ActivateAgent)
    assert (accepted.request, accepted.run_id) == (5, "mine")


def test_all_is_written_before_the_ledger_is_closed(system: Any, stage: Any, tmp_path: Path) -> None:
    system.tell(stage, Say("directory", SpawnAgent(1, None, "/t/a", "kind", 1, b"", b"")))
    heard(system, AgentSpawned, ActivateAgent)
    system.tell(stage, Say("ledger", CloseLedger()))
    heard(system, LedgerClosed)
    assert not (tmp_path / "agents.db-wal").exists()
