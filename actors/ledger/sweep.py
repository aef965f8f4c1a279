"""Which runs an interrupt covers: those that its subject had accepted when it came, and no later ones."""

from msgspec import Struct

from ...paths import is_under
from ...persistence.rows import RunRow
from ...types import AgentId, RunId


class InterruptSweep(Struct, eq=False):
    """Runs that are being ended, portion by portion."""

    reason: str
    mark: int  # the first serial that is not covered
    path: str  # of the agent, or of the part of the tree that is meant
    agent_id: AgentId | None = None  # None: all agents at or below the path
    run_id: RunId | None = None  # the one run of the agent itself that is meant; None: all
    cascade: bool = False  # the runs of the agents below as well
    held: dict[AgentId, None] = {}  # whose next run was not begun because it is covered
    count: int = 0  # runs that it was the end of
    recorded: int = 0  # the last commit that says so

    def covers(self, row: RunRow) -> bool:
        """Whether this run is to end."""
        if row.serial >= self.mark:
            return False
        if row.agent_id == self.agent_id:
            return self.run_id is None or row.run_id == self.run_id
        return self.cascade and is_under(row.path, self.path)
