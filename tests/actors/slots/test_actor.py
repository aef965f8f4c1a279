"""The SlotAllocator by messages, on every system base."""

from typing import Any

import pytest

from greenroom.actors.shell import Meet
from greenroom.actors.slots.actor import SlotAllocator
from greenroom.actors.slots.protocol import (
    AcquireSlot,
    ConfigureSlots,
    DescribeSlots,
    EndHolder,
    Lease,
    ReleaseSlot,
    SlotGranted,
    SlotReport,
)
from greenroom.types import AgentId, Incarnation

PATIENCE = 600.0


def lease(agent_id: int) -> Lease:
    return Lease(AgentId(agent_id), Incarnation(1), 1)


@pytest.fixture
def slots(system: Any) -> Any:
    address = system.createActor(SlotAllocator)
    system.tell(address, Meet({}))
    system.tell(address, ConfigureSlots(1))
    return address


def test_a_slot_is_granted_and_passed_on(system: Any, slots: Any) -> None:
    assert system.ask(slots, AcquireSlot(lease(1), "/t/a"), PATIENCE) == SlotGranted(lease(1))
    system.tell(slots, AcquireSlot(lease(2), "/t/b"))
    assert system.ask(slots, ReleaseSlot(lease(1)), PATIENCE) == SlotGranted(lease(2))


def test_a_dead_holder_gives_its_slot_back(system: Any, slots: Any) -> None:
    assert system.ask(slots, AcquireSlot(lease(1), "/t/a"), PATIENCE) == SlotGranted(lease(1))
    system.tell(slots, AcquireSlot(lease(2), "/t/b"))
    ended = EndHolder(AgentId(1), Incarnation(1))
    assert system.ask(slots, ended, PATIENCE) == SlotGranted(lease(2))


def test_it_reports_who_holds_and_who_waits(system: Any, slots: Any) -> None:
    system.ask(slots, AcquireSlot(lease(1), "/t/a"), PATIENCE)
    system.tell(slots, AcquireSlot(lease(2), "/t/b"))
    report = system.ask(slots, DescribeSlots(5, AgentId(2)), PATIENCE)
    assert isinstance(report, SlotReport)
    assert (report.request, report.slots, report.granted, report.waiting) == (5, 1, 1, 1)
    assert (report.holders, report.place) == (("/t/a",), 0)
    assert report.since is not None
