"""The control actors run on any system base: a test that asks for `system` runs on each."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from thespian.actors import ActorSystem

from greenroom.actors.systems.choices import Seeded
from greenroom.actors.systems.simulated import SimulatedSystemBase
from greenroom.actors.systems.trace import Trace
from greenroom.actors.systems.virtual import VirtualLoop

QUIET = {"version": 1, "disable_existing_loggers": False}


@pytest.fixture(params=["simpleSystemBase", "multiprocTCPBase", "LocalSystemBase", "SimulatedSystemBase"])
def system(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An actor system of its own for each test, gone afterwards."""
    base: object = request.param
    capabilities = None
    if base == "LocalSystemBase":
        local = pytest.importorskip("greenroom.actors.systems.local", exc_type=ImportError)
        base = local.LocalSystemBase()
    elif base == "SimulatedSystemBase":
        loop = VirtualLoop(Seeded(1), Trace())
        base = SimulatedSystemBase(loop)
    elif base == "multiprocTCPBase":
        capabilities = {"Admin Port": free_port()}
    actors = ActorSystem(base, capabilities, logDefs=QUIET, transientUnique=True)
    try:
        yield actors
    finally:
        actors.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
