"""Agents and runs that a turn starts, or finds again when it begins again.

See decisions 0027 and 0032.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from ...persistence.rows import RunRow
from ...run_ids import derived_id
from ...types import AgentId, Payload, RunId
from ..directory.protocol import SpawnAgent, SubmitRun
from ..ledger.descriptions import DescribeAgent
from ..ledger.protocol import ReportDivergence
from .aside import Encoding
from .divergence import Divergence, compared
from .identities import BEFORE, Identity
from .kind import Kind
from .turn_handles import TurnAgent, TurnRun

log = logging.getLogger("greenroom")

if TYPE_CHECKING:
    from .turn import Turn


async def spawn(turn: "Turn", kind: Kind, path: str, encoding: Encoding, *, finds: bool) -> TurnAgent:
    config = await encoding.done()
    host = turn._live
    spawned = await host.ask(
        "directory",
        lambda request: SpawnAgent(
            request,
            host.address,
            path,
            kind.name,
            kind.version,
            config,
            started_by=turn._serial,
            finds=finds,
        ),
    )
    if spawned.found:
        await _compare_agent(turn, spawned.agent_id, kind, path, config)
    return TurnAgent(turn, path)


async def followup(turn: "Turn", identity: Identity, encoding: Encoding) -> TurnRun:
    payload = await encoding.done()
    host, path = turn._live, identity.name
    run_id = derived_id(turn._stem, identity.what, path, identity.mark)
    # A call that no turn of this run has made before is new: there is nothing to look for.
    fresh = not turn._again and not identity.repeated
    accepted = await host.ask(
        "directory",
        lambda request: SubmitRun(
            request, host.address, path, payload, run_id, fresh, started_by=turn._serial
        ),
    )
    if accepted.known is not None:
        await _compare(turn, identity, accepted.known, payload)
    return TurnRun(turn, accepted.run_id, accepted.path)


async def _compare_agent(turn: "Turn", agent_id: AgentId, kind: Kind, path: str, config: Payload) -> None:
    """Tell of an agent that was asked for otherwise when it was spawned; it stands."""
    host = turn._live
    there = await host.ask("ledger", lambda request: DescribeAgent(request, host.address, path))
    row = there.agent.row
    if row.agent_id != agent_id:
        return  # another one took its path meanwhile
    if row.kind != kind.name:
        differs: str | None = f"{row.kind!r} is recorded, {kind.name!r} was given"
        _diverges(turn, Divergence("agent", path, None, None, path, "kind", str(differs)))
    differs = await compared(row.config, config)
    if differs is not None:
        _diverges(turn, Divergence("agent", path, None, None, path, "config", differs))


async def _compare(turn: "Turn", identity: Identity, known: RunRow, input: Payload) -> None:
    """Tell of a run that was asked for otherwise when it was started; it stands."""
    differs = await compared(known.input, input)
    if differs is None:
        return
    before = turn._divided_at is not None and known.serial < turn._divided_at
    if before and identity.count is not None:  # this may be the call that follows the checkpoint
        raise turn._identities.needed(identity.what, identity.name, BEFORE)
    _diverges(
        turn,
        Divergence(
            identity.what,
            identity.name,
            identity.key,
            identity.count,
            known.run_id,
            "input",
            differs,
        ),
    )


def _diverges(turn: "Turn", divergence: Divergence) -> None:
    """This turn asks for something else than its run has recorded: that is told, and the latter stands.

    In a simulation it fails the run, whatever the code does about it.
    """
    host = turn._live
    log.warning("%s", divergence.text(turn.run_id, turn.path))
    news = divergence.encoded()
    run_id = RunId(turn.run_id)
    host.tell("ledger", ReportDivergence(host.agent_id, host.incarnation, run_id, news))
    if getattr(asyncio.get_running_loop(), "refuses_divergence", False):
        turn._diverged = turn._diverged or divergence
        raise turn._diverged.error(turn.run_id, turn.path)
