"""greenroom: many durable agents; few in memory; fewer at work.

The public names, each loaded when it is first used: `import greenroom` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .actors.agent.kind import agent
    from .actors.agent.sync_turn import SyncTurn, SyncTurnAgent, SyncTurnRun
    from .actors.agent.turn import Turn
    from .actors.agent.turn_handles import TurnAgent, TurnRun
    from .actors.face.async_handles import AsyncAgentRef, AsyncRun
    from .actors.face.async_runtime import AsyncRuntime
    from .actors.face.handles import AgentRef, Run
    from .actors.face.requests import UNSET
    from .actors.face.runtime import Runtime
    from .actors.models import AgentInfo, Event, Explanation, Message, Outcome, RunInfo, Stats
    from .errors import (
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
    from .retention import Retention

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
    "agent": "actors.agent.kind",
    "SyncTurn": "actors.agent.sync_turn",
    "SyncTurnAgent": "actors.agent.sync_turn",
    "SyncTurnRun": "actors.agent.sync_turn",
    "Turn": "actors.agent.turn",
    "TurnAgent": "actors.agent.turn_handles",
    "TurnRun": "actors.agent.turn_handles",
    "AsyncAgentRef": "actors.face.async_handles",
    "AsyncRun": "actors.face.async_handles",
    "AsyncRuntime": "actors.face.async_runtime",
    "UNSET": "actors.face.requests",
    "AgentRef": "actors.face.handles",
    "Run": "actors.face.handles",
    "Runtime": "actors.face.runtime",
    "AgentInfo": "actors.models",
    "Event": "actors.models",
    "Explanation": "actors.models",
    "Message": "actors.models",
    "Outcome": "actors.models",
    "RunInfo": "actors.models",
    "Stats": "actors.models",
    "Retention": "retention",
}
"""Where the names stand that are no errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'greenroom' has no attribute {name!r}")
    home = import_module(f".{_HOMES.get(name, 'errors')}", __name__)
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
