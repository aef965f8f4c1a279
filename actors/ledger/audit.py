"""Whether the ledger's tables still agree with each other after a bug: asked then, and only then.

A handler that raised may have changed a part of what it was to change. If nothing was recorded and every
run still stands at one place, the bug concerns one request or one agent, which ends; else the ledger
cannot be trusted any more, and the answer says which invariant does not hold.
"""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from .ledger import Ledger

Mark: TypeAlias = tuple[int, int, int, int]
"""Numbers that every recorded change of the ledger changes as well."""


def mark_of(ledger: "Ledger") -> Mark:
    """Where the ledger stands before a message. O(1)."""
    return ledger.commit_log.last, len(ledger.runs), len(ledger.desks), ledger.known


def broken_invariant(ledger: "Ledger", before: Mark) -> str | None:
    """The invariant that does not hold any more, if there is one. O(open runs)."""
    names = ("commits", "open runs", "agents at work", "known agents")
    changed = [name for name, was, now in zip(names, before, mark_of(ledger), strict=True) if was != now]
    if changed:
        return f"{' and '.join(changed)} were changed in part"
    placed: dict[str, int] = {}
    for desk in ledger.desks.values():
        for run in desk.open_runs():
            placed[run.row.run_id] = placed.get(run.row.run_id, 0) + 1
            if run.row.agent_id != desk.agent_id:
                return f"run {run.row.run_id} stands at the desk of another agent"
    for run_id in ledger.runs:
        if placed.pop(run_id, 0) != 1:
            return f"open run {run_id} does not stand at exactly one place"
    if placed:
        return f"run {min(placed)} stands at a desk and is not open"
    return None
