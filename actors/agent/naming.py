"""Agents and runs that a turn names: by path, by handle or by id."""

import logging
from typing import TYPE_CHECKING, Any

from ...borders import plain, shown
from ...errors import (
    OutOfTree,
    WouldDeadlock,
)
from ...paths import check_path, resolve, tree_of
from ...types import RunId
from ..ledger.descriptions import DescribeRun
from .turn_handles import TurnRun

log = logging.getLogger("greenroom")

if TYPE_CHECKING:
    from .turn import Turn


def path_of(turn: "Turn", path: Any) -> str:
    """The full path of an agent that the turn names: of its own tree."""
    named = path if isinstance(path, str) else getattr(path, "path", path)
    full = check_path(resolve(plain(named), base=turn.path) if isinstance(named, str) else named)
    if tree_of(full) != tree_of(turn.path):
        raise OutOfTree(full, tree_of(turn.path))
    return full


async def id_of(turn: "Turn", run: Any) -> RunId:
    """The id of a run that this turn may wait for: its own tree's, and not itturn."""
    if isinstance(run, TurnRun):
        return RunId(plain(run.run_id))
    run_id = run if isinstance(run, str) else getattr(run, "run_id", None)
    if not isinstance(run_id, str):
        raise TypeError(f"a run is meant by its handle or its id, not by {shown(run)}")
    run_id = plain(run_id)
    if not run_id.isprintable():
        raise ValueError(f"a run id has printable characters only, not {run_id!r}")
    if run_id == turn.run_id:
        raise WouldDeadlock((("waits for", turn.run_id, turn.path),))
    if turn._continuation is not None and run_id == turn._continuation.run_id:
        return RunId(run_id)  # nobody else knows it yet
    host = turn._live
    found = await host.ask("ledger", lambda n: DescribeRun(n, host.address, RunId(run_id)))
    if tree_of(found.run.path) != tree_of(turn.path):
        raise OutOfTree(found.run.path, tree_of(turn.path))
    return RunId(run_id)
