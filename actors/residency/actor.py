"""The ResidencyLRU: the actor around the residency table, and the parent of all sessions."""

from collections.abc import Iterable
from typing import Any, assert_never

from thespian.actors import Actor

from ...types import Address, AgentId, Incarnation
from ..containing import refused
from ..shell import ActorShell, Contained
from ..storage.protocol import Answer
from . import reporting, session_facts, unloading
from .entry import PatienceEnded, ResidencyEffect, StartSession, ToSession
from .protocol import (
    ActivateAgent,
    CancelActivation,
    ConfigureResidency,
    DescribeResidency,
    EvictAgent,
    OpenSession,
    PinAgent,
    ResidencyCommand,
    SessionAsks,
    SessionEnded,
    SessionFact,
    SessionIdle,
    SessionOpened,
    SessionReturns,
    SessionWaits,
    UnloadAll,
    UnloadMore,
)
from .table import ResidencyTable

Session = tuple[AgentId, Incarnation]


class ResidencyLRU(ActorShell):
    """Loads and unloads agents; each session is a child of this actor."""

    role = "residency"

    def __init__(self) -> None:
        super().__init__()
        self.table = ResidencyTable()
        self.addresses: dict[AgentId, Address] = {}
        self.children = Children()

    def session_class(self) -> type[Actor]:
        """The class of a session. A test overrides it."""
        from ..agent.actor import AgentActor

        return AgentActor

    def decide(self, message: object, sender: Address) -> Iterable[Any]:
        command: ResidencyCommand | SessionFact | Answer | PatienceEnded = message  # type: ignore[assignment]
        table, now = self.table, self.clock()
        match command:
            case SessionIdle():
                return session_facts.session_idle(
                    table, command.agent_id, command.incarnation, command.seen, now=now
                )
            case ActivateAgent():
                return table.summon(
                    command.agent_id,
                    command.path,
                    work=command.work,
                    image=command.image,
                    goes_on=command.goes_on,
                    now=now,
                )
            case SessionWaits():
                return session_facts.session_waits(table, command.agent_id, command.incarnation, now=now)
            case SessionReturns():
                return session_facts.session_returns(
                    table, command.agent_id, command.incarnation, command.number, now=now
                )
            case SessionAsks():
                return session_facts.session_asks(
                    table, command.agent_id, command.incarnation, goes_on=command.goes_on, now=now
                )
            case Answer():
                return session_facts.loaded(table, command.request, command.value, command.error, now=now)
            case SessionOpened():
                return session_facts.session_opened(table, command.agent_id, command.incarnation, now=now)
            case SessionEnded():
                return session_facts.session_ended(
                    table, command.agent_id, command.incarnation, command.seen, now=now
                )
            case PatienceEnded():
                return session_facts.patience_ended(table, now=now)
            case CancelActivation():
                return table.dismiss(command.agent_id, gone=command.gone, now=now)
            case EvictAgent():
                return table.evict(command.agent_id, command.request, command.reply_to, now=now)
            case PinAgent():
                return table.pin(
                    command.agent_id,
                    command.request,
                    command.reply_to,
                    pinned=command.pinned,
                    now=now,
                )
            case DescribeResidency():
                return reporting.describe(table, command.request, sender, command.agent_ids)
            case UnloadAll():
                return unloading.unload_all(table, sender, now=now)
            case UnloadMore():
                return unloading.unload_more(table, now=now)
            case ConfigureResidency():
                return table.configure(command.residents, command.patience, command.share, now=now)
        assert_never(command)

    def contain(self, message: object, sender: Address, error: BaseException) -> Contained:
        """Refuse a question, which changes nothing."""
        if isinstance(message, DescribeResidency | PinAgent):
            return Contained((refused(message, sender, self.role, error),))
        return super().contain(message, sender, error)

    def child_exited(self, address: Address) -> Iterable[Any]:
        session = self.children.pop(address)
        if session is None:
            return ()
        agent_id, incarnation = session
        # The agent may live at another address by now.
        if self.addresses.get(agent_id) == address:
            del self.addresses[agent_id]
        return session_facts.session_lost(self.table, agent_id, incarnation, now=self.clock())

    def perform(self, effect: ResidencyEffect) -> None:
        match effect:
            case ToSession():
                self.send(self.addresses[effect.agent_id], effect.message)
            case StartSession():
                self.start_session(effect)
            case _:
                super().perform(effect)

    def start_session(self, start: StartSession) -> None:
        address = self.createActor(self.session_class())
        self.addresses[start.agent_id] = address
        self.children.add(address, (start.agent_id, start.incarnation))
        opening = OpenSession(
            start.image, start.incarnation, start.work, start.ask_first, self.roles, self.clock
        )
        self.send(address, opening)


class Children:
    """Which session lives at which address.

    Ours hash. Thespian's own addresses do not, nor does their text stay the same: they can be
    compared only, one by one, which its bases are slow enough to hide.
    """

    def __init__(self) -> None:
        self.hashed: dict[Address, Session] = {}
        self.listed: list[tuple[Address, Session]] = []

    def add(self, address: Address, session: Session) -> None:
        if type(address).__hash__ is None:
            self.listed.append((address, session))
        else:
            self.hashed[address] = session

    def pop(self, address: Address) -> Session | None:
        """The session that had this address, if one had."""
        if type(address).__hash__ is not None:
            return self.hashed.pop(address, None)
        for place, (other, session) in enumerate(self.listed):
            if other == address:
                del self.listed[place]
                return session
        return None
