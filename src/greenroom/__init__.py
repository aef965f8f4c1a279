"""greenroom: many durable agents; few in memory; fewer at work.

The public names, each loaded when it is first used: `import greenroom` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .actors.agent.kind import agent
    from .actors.agent.turn import SyncTurn, SyncTurnAgent, SyncTurnRun, Turn, TurnAgent, TurnRun
    from .actors.async_runtime import AsyncAgentRef, AsyncRun, AsyncRuntime
    from .actors.calls import UNSET
    from .actors.errors import (
        AgentClosed,
        AgentNotFound,
        BacklogFull,
        CannotStore,
        GreenroomError,
        InternalError,
        InvalidPath,
        KeyNeeded,
        KindTaken,
        OutOfTree,
        PathTaken,
        RunFailed,
        RunIdTaken,
        RunInterrupted,
        RunNotFound,
        RuntimeClosing,
        SnapshotTampered,
        SnapshotUnreadable,
        StoreCorrupt,
        StoreError,
        StoreInUse,
        StoreLost,
        StoreTooNew,
        UnknownKind,
        WouldDeadlock,
    )
    from .actors.retention import Retention
    from .actors.runtime import AgentRef, Run, Runtime
    from .actors.views import AgentInfo, Event, Explanation, Message, Outcome, RunInfo, Stats

__all__ = [
    "UNSET",
    "AgentClosed",
    "AgentInfo",
    "AgentNotFound",
    "AgentRef",
    "AsyncAgentRef",
    "AsyncRun",
    "AsyncRuntime",
    "BacklogFull",
    "CannotStore",
    "Event",
    "Explanation",
    "GreenroomError",
    "InternalError",
    "InvalidPath",
    "KeyNeeded",
    "KindTaken",
    "Message",
    "OutOfTree",
    "Outcome",
    "PathTaken",
    "Retention",
    "Run",
    "RunFailed",
    "RunIdTaken",
    "RunInfo",
    "RunInterrupted",
    "RunNotFound",
    "Runtime",
    "RuntimeClosing",
    "SnapshotTampered",
    "SnapshotUnreadable",
    "Stats",
    "StoreCorrupt",
    "StoreError",
    "StoreInUse",
    "StoreLost",
    "StoreTooNew",
    "SyncTurn",
    "SyncTurnAgent",
    "SyncTurnRun",
    "Turn",
    "TurnAgent",
    "TurnRun",
    "UnknownKind",
    "WouldDeadlock",
    "agent",
]

_HOMES = {
    "agent": "agent.kind",
    "SyncTurn": "agent.turn",
    "SyncTurnAgent": "agent.turn",
    "SyncTurnRun": "agent.turn",
    "Turn": "agent.turn",
    "TurnAgent": "agent.turn",
    "TurnRun": "agent.turn",
    "AsyncAgentRef": "async_runtime",
    "AsyncRun": "async_runtime",
    "AsyncRuntime": "async_runtime",
    "UNSET": "calls",
    "Retention": "retention",
    "AgentRef": "runtime",
    "Run": "runtime",
    "Runtime": "runtime",
    "AgentInfo": "views",
    "Event": "views",
    "Explanation": "views",
    "Message": "views",
    "Outcome": "views",
    "RunInfo": "views",
    "Stats": "views",
}
"""Where the names stand that are no errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'greenroom' has no attribute {name!r}")
    home = import_module(f".actors.{_HOMES.get(name, 'errors')}", __name__)
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
