"""Why an agent does what it does: the reports of those who know made into one explanation."""

from .ledger.protocol import AgentDescribed
from .processes.protocol import PlacesReport
from .residency.protocol import Residence, ResidencyReport
from .slots.protocol import SlotReport
from .views import Explanation


def explain(
    described: AgentDescribed, residency: ResidencyReport, slots: SlotReport, places: PlacesReport
) -> Explanation:
    """The agent as the ledger, the residency, the slots and the room of processes see it."""
    agent = described.agent
    home = residency.agents[0] if residency.agents else Residence(agent.row.agent_id, "absent")
    path, status = agent.row.path, agent.status
    place: int | None = None
    held: tuple[str, ...] = ()
    since = agent.since
    waits: str | None = None
    if agent.kind_missing:
        waits = "kind"
        text = f"its kind {agent.row.kind!r} is not registered in this process: import its module"
    elif agent.beginning:
        waits, text = "commit", f"run {agent.running} starts when it is on disk that it does"
    elif agent.behind is not None:
        waits, held = "run", (agent.behind,)
        text = (
            f"its next run was at work at two crashes of the process, as run {agent.behind} was: such runs "
            "are at work one at a time"
        )
    elif agent.running and agent.awaits and slots.place is None:
        waits, held = "run", agent.awaits
        text = f"its turn waits for {len(agent.awaits)} runs to end, without a slot"
    elif agent.running and places.places is not None:
        waits, since, place, held = "process", places.since, places.place, places.holders
        text = (
            f"it waits for one of the {places.places} processes that its kind may have, all taken; "
            f"{place} wait before it"
        )
    elif agent.running and places.haunted:
        waits, since = "process", places.since
        text = "it waits until the processes have ended that a runtime before this one left of it"
    elif agent.running and slots.place is None and home.stage == "open" and status == "running":
        text = f"it executes run {agent.running}"
    elif home.stage == "waiting":
        waits, since, place, held = "room", home.since, home.place, home.kept_by
        text = (
            f"it waits for room in memory: all {residency.residents} residents are needed, "
            f"{place} wait before it"
        )
    elif home.stage in ("loading", "opening"):
        waits, since = "session", home.since
        text = "its session is being opened"
    elif slots.place is not None:
        waits, since, place, held = "slot", slots.since, slots.place, slots.holders
        text = f"it waits for one of {slots.slots} slots, all taken; {place} grants come before its own"
    elif agent.awaits:
        waits, held = "run", agent.awaits
        text = f"it waits for {len(agent.awaits)} runs to end"
    elif agent.unwritten:
        waits, text = "commit", "what it did last is not on disk yet"
    elif agent.queued:
        text = f"{agent.queued} runs wait for it to begin"
    elif status == "failed":
        text = f"its session could not be opened: {agent.row.error}; the next run tries again"
    elif status == "closed":
        text = "it was closed for good, and takes no more work"
    elif home.pinned and agent.resident:
        text = "it has nothing to do, and is not evicted: it is pinned"
    else:
        text = "it has nothing to do" + ("" if agent.resident else " and is on disk")
    return Explanation(path, status, waits, since, place, held, f"{path} is {status}: {text}.")  # type: ignore[arg-type]
