"""Agents that are programs: command-line agents, and agents that speak the Agent Client Protocol.

`acp_agent` needs the extra `greenroom[acp]`; everything else needs nothing. docs/processes.md tells what
becomes of the processes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..errors import ProcessFailed
    from .acp import acp_agent
    from .command import command_agent
    from .environment import BASICS, Limits
    from .permissions import PermissionAsked, answer

__all__ = [
    "BASICS",
    "Limits",
    "PermissionAsked",
    "ProcessFailed",
    "acp_agent",
    "answer",
    "command_agent",
]

_HOMES = {
    "BASICS": ".environment",
    "Limits": ".environment",
    "PermissionAsked": ".permissions",
    "ProcessFailed": "..errors",
    "acp_agent": ".acp",
    "answer": ".permissions",
    "command_agent": ".command",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'greenroom.drivers' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value
