"""Making an actor of what was asked for: a class or its name, what it requires, what its constructor takes.

As Thespian does it, but the constructor of a class is looked at once.
"""

import inspect
from functools import partial
from typing import Any

from thespian.actors import Actor
from thespian.system.sourceLoader import loadModuleFromHashSource
from thespian.system.utilis import actualActorClass

_offered = ("capabilities", "requirements")
_constructors: dict[type[Actor], tuple[str, ...]] = {}


def class_of(specification: Any, source: str | None, sources: dict[str, Any]) -> type[Actor]:
    """The class that is meant, from the loaded source if one is named."""
    if isinstance(specification, type):
        return specification
    loader = partial(loadModuleFromHashSource, source, sources) if source else None
    found: type[Actor] = actualActorClass(specification, loader)
    return found


def suits(actor_class: type[Actor], capabilities: dict[str, Any], requirements: dict[str, Any]) -> bool:
    """Whether the class accepts to run on a system with these capabilities."""
    check = getattr(actor_class, "actorSystemCapabilityCheck", None)
    return check is None or bool(check(capabilities, requirements))


def instantiate(
    actor_class: type[Actor], capabilities: dict[str, Any], requirements: dict[str, Any] | None
) -> Actor:
    """An instance; the constructor gets what it names of `capabilities` and `requirements`."""
    takes = _constructors.get(actor_class)
    if takes is None:
        takes = _constructors[actor_class] = _looked_at(actor_class)
    if not takes:
        return actor_class()
    offered = {"capabilities": capabilities, "requirements": requirements}
    return actor_class(**{name: offered[name] for name in takes})


def _looked_at(actor_class: type[Actor]) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(actor_class.__init__).parameters
    except (TypeError, ValueError):
        return ()
    return tuple(name for name in _offered if name in parameters)
