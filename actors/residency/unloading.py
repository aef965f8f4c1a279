"""Closing: every session ends, in portions."""

from typing import TYPE_CHECKING

from ...types import Address, Timestamp
from ..effects import Send
from .entry import (
    Effects,
    ResidencyEffect,
)
from .protocol import (
    UnloadMore,
)

if TYPE_CHECKING:
    from .table import ResidencyTable

UNLOADS_IN_PORTION = 256
"""Entries that `unload_all` looks at before other messages have their turn."""


def unload_all(table: "ResidencyTable", reply_to: Address, *, now: Timestamp) -> Effects:
    """End every session and admit nobody, in portions. Agents without a session are forgotten."""
    table.closing, table.told_when_unloaded = True, reply_to
    table.to_unload.extend(table.entries.values())
    return unload_more(table, now=now)


def unload_more(table: "ResidencyTable", *, now: Timestamp) -> Effects:
    """Do the next portion of `unload_all`."""
    left = table.to_unload
    effects: list[ResidencyEffect] = []
    for _ in range(min(len(left), UNLOADS_IN_PORTION)):
        entry = left.popleft()
        if table.entries.get(entry.agent_id) is not entry:
            continue
        entry.wants_work = False
        match entry.stage:
            case "waiting" | "loading":
                table.forget(entry)
            case "opening" | "open":
                effects += table.unload(entry, now, evicted=False)
            case _:
                table._call_off(entry)
    return [*effects, *((Send("residency", UnloadMore()),) if left else table.all_unloaded())]
