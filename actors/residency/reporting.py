"""Reports on the residency and on agents, for `stats()` and `explain()`."""

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ...types import Address, AgentId, RequestId
from ..effects import Send
from .entry import (
    Effects,
    ResidentEntry,
)
from .protocol import (
    Residence,
    ResidencyReport,
)

if TYPE_CHECKING:
    from .table import ResidencyTable


MAX_KEPT_BY = 10
"""How many residents that cannot leave a report names."""


def describe(
    table: "ResidencyTable", request: RequestId, reply_to: Address, agent_ids: Sequence[AgentId] = ()
) -> Effects:
    """Report the counts and what is known of `agent_ids`; O(waiting) if one of them waits."""
    entries = [table.entries.get(agent_id) for agent_id in agent_ids]
    places: dict[AgentId, int] = {}
    kept_by: tuple[str, ...] = ()
    if any(agent_id in table.queue for agent_id in agent_ids):
        places = {agent_id: table.queue.place(agent_id) for agent_id in agent_ids}
        staying = (entry.path for entry in table.residents.values() if _stays(table, entry))
        kept_by = tuple(islice(staying, MAX_KEPT_BY))
    report = ResidencyReport(
        request,
        residents=table.limit,
        resident=len(table.residents),
        in_wait=len(table.away),
        waiting=len(table.queue),
        evictions=table.evictions,
        reloads=table.reloads,
        agents=tuple(
            _residence(table, agent_id, entry, places, kept_by)
            for agent_id, entry in zip(agent_ids, entries, strict=True)
        ),
    )
    return (Send(reply_to, report),)


def _residence(
    table: "ResidencyTable",
    agent_id: AgentId,
    entry: ResidentEntry | None,
    places: dict[AgentId, int],
    kept_by: tuple[str, ...],
) -> Residence:
    pinned = table.lru.pinned(agent_id)
    if entry is None:
        return Residence(agent_id, "absent", pinned=pinned)
    waiting = entry.stage in ("waiting", "open") and agent_id in table.queue
    return Residence(
        agent_id,
        entry.stage,
        incarnation=entry.incarnation,
        idle=entry.idle,
        pinned=pinned,
        waits=entry.away,
        place=places[agent_id] if waiting else None,
        since=entry.claimed if waiting else entry.since,
        kept_by=kept_by if waiting else (),
    )


def _stays(table: "ResidencyTable", entry: ResidentEntry) -> bool:
    return entry.stage != "unloading" and entry.agent_id not in table.lru
