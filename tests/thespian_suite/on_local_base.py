"""A pytest plugin that runs Thespian's own tests on `LocalSystemBase`.

Thespian's test modules take their `asys` fixture from `thespian.test` by name, so it is replaced there
before they are imported. The base calls itself simpleSystemBase: that is the one whose semantics it has,
and what the suite's own conditions ask for.
"""

import pytest
import thespian.test
from thespian.actors import ActorSystem

from greenroom.actors.systems.local import THREAD, LocalSystemBase

CAPABILITIES = {"Foo Allowed": True, "Cows Allowed": True, "Dogs Allowed": True, "dog": "food"}


def _system(capabilities):
    base = LocalSystemBase(capabilities=capabilities)
    system = ActorSystem(systemBase=base, capabilities=base.capabilities, transientUnique=True)
    system.base_name, system.port_num, system.txonly = "simpleSystemBase", None, False
    return system


@pytest.fixture(params=["LocalSystemBase"])
def asys(request):
    system = _system(dict(CAPABILITIES))
    yield system
    system.shutdown()


def similar_asys(asys, in_convention=True, start_wait=True, capabilities=None):
    return _system(dict(capabilities or {}))


thespian.test.asys = asys
thespian.test.similar_asys = similar_asys

# The actors of this module sleep in their handlers, 62 seconds in all, and their hundred callers have five
# seconds of patience each. Actors that block are what a thread of their own is for.
from thespian.test import test_threadedExternal  # noqa: E402

test_threadedExternal.Computer.actorSystemRequirements = {THREAD: True}
