"""Testing agents: simulations in which every interleaving, delay and fault comes from a seed.

See docs/testing.md. The Hypothesis strategies need Hypothesis, the rest does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..actors.systems.virtual import NothingCanHappen
from .exploring import explore
from .injected_faults import NO_FAULTS, Crashed, Faults, InjectedFault
from .simulation import Simulation

if TYPE_CHECKING:
    from .strategies import faults, schedules, simulations

__all__ = [
    "NO_FAULTS",
    "Crashed",
    "Faults",
    "InjectedFault",
    "NothingCanHappen",
    "Simulation",
    "explore",
    "faults",
    "schedules",
    "simulations",
]


def __getattr__(name: str) -> Any:
    if name not in ("faults", "schedules", "simulations"):
        raise AttributeError(f"module 'greenroom.testing' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.strategies"), name)
