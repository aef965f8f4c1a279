"""Why an agent does what it does: the reports of those who know made into one explanation."""

from ...types import Timestamp
from ..ledger.descriptions import AgentDescribed, AwaitedRun, LiveAgent
from ..models import Explanation, WaitsFor
from ..processes.protocol import PermitsReport
from ..residency.protocol import Residence, ResidencyReport
from ..slots.protocol import SlotReport

MOST_NAMED = 3
"""How many agents the text names of those whose runs are waited for; `held_by` names all.

The holders of slots, places and processes are told in `held_by` alone: these may be agents of other trees.
"""


class _Reason:
    """The parts of an explanation beside path and status."""

    def __init__(
        self,
        text: str,
        waits_for: WaitsFor | None = None,
        *,
        since: Timestamp | None = None,
        place: int | None = None,
        held_by: tuple[str, ...] = (),
    ) -> None:
        self.text = text
        self.waits_for = waits_for
        self.since = since
        self.place = place
        self.held_by = held_by


def explain(
    described: AgentDescribed, residency: ResidencyReport, slots: SlotReport, places: PermitsReport
) -> Explanation:
    """The agent as the ledger, the residency, the slots and the room of processes see it."""
    agent = described.agent
    path, status = agent.row.path, agent.status
    home = residency.agents[0] if residency.agents else Residence(agent.row.agent_id, "absent")
    if agent.kind_missing:
        text = f"its kind {agent.row.kind!r} is not registered in this process: import its module"
        why = _Reason(text, "kind")
    elif agent.behind is not None:
        text = (
            "its next run was at work at two crashes of the process, as "
            f"{_name_runs((agent.behind,))} was: such runs are at work one at a time"
        )
        why = _Reason(text, "run", held_by=(agent.behind.path,))
    elif agent.running:
        why = _of_turn(agent, home, residency, slots, places)
    else:
        why = _before_turn(agent, home, residency, slots)
    since = agent.since if why.since is None else why.since
    text = f"{path} is {status}: {why.text}."
    return Explanation(path, status, why.waits_for, since, why.place, why.held_by, text)  # type: ignore[arg-type]


def _of_turn(
    agent: LiveAgent,
    home: Residence,
    residency: ResidencyReport,
    slots: SlotReport,
    places: PermitsReport,
) -> _Reason:
    """While a turn of it is under way."""
    run = f"run {agent.running}"
    if agent.beginning:
        return _Reason(f"{run} waits for its start record to be committed", "commit")
    if agent.status == "interrupting":
        slot = "" if home.waits else "; it keeps its slot until then"
        return _Reason(f"{run} was interrupted, and its code has not returned yet{slot}")
    if home.place is not None:
        return _for_room(home, residency, f"{run} has waited and goes on when there is room in memory")
    if slots.place is not None:
        return _for_slot(slots, f"{run} has waited and goes on in a slot")
    if agent.awaits:
        text = f"{run} waits, without a slot, for {_name_runs(agent.awaits)} to end"
        return _Reason(text, "run", held_by=_paths(agent.awaits))
    if places.places is not None:
        text = (
            f"{run} waits for one of {_many(places.places, 'process', 'processes')} that its kind may "
            f"have, all taken; {_before(places.place or 0)}"
        )
        held = places.holders
        return _Reason(text, "process", since=places.since, place=places.place, held_by=held)
    if places.haunted:
        text = "it waits until the processes have ended that a runtime before this one left of it"
        return _Reason(text, "process", since=places.since)
    if agent.status == "waiting":
        return _Reason(f"{run} is paused, without a slot")
    return _Reason(f"it executes {run}")


def _before_turn(
    agent: LiveAgent, home: Residence, residency: ResidencyReport, slots: SlotReport
) -> _Reason:
    """While no turn of it is under way."""
    if home.place is not None:
        return _for_room(home, residency, "it waits for room in memory")
    if home.stage in ("loading", "opening"):
        return _Reason("its session is being opened", "session", since=home.since)
    if slots.place is not None:
        return _for_slot(slots, "it waits for a slot")
    if agent.awaits:
        text = f"its next run goes on when {_name_runs(agent.awaits)} {_have(agent.awaits)} ended"
        return _Reason(text, "run", held_by=_paths(agent.awaits))
    if agent.unwritten:
        return _Reason("what it did last is not on disk yet", "commit")
    if agent.queued:
        return _Reason(
            f"{_many(agent.queued, 'run')} of it {'waits' if agent.queued == 1 else 'wait'} to begin"
        )
    if agent.status == "failed":
        return _Reason(f"its session could not be opened: {agent.row.error}; the next run tries again")
    if agent.status == "closed":
        return _Reason("it was closed for good, and takes no more work")
    if home.pinned and agent.resident:
        return _Reason("it has nothing to do, and is not evicted: it is pinned")
    return _Reason("it has nothing to do" + ("" if agent.resident else " and is on disk"))


def _for_room(home: Residence, residency: ResidencyReport, what: str) -> _Reason:
    limit = _many(residency.residents, "resident")
    all_of = f"the only {limit}" if residency.residents == 1 else f"all {limit}"
    verb = "is" if residency.residents == 1 else "are"
    text = f"{what}: {all_of} {verb} needed; {_before(home.place or 0)}"
    return _Reason(text, "room", since=home.since, place=home.place, held_by=home.kept_by)


def _for_slot(slots: SlotReport, what: str) -> _Reason:
    taken = "the only slot is" if slots.slots == 1 else f"all {_many(slots.slots, 'slot')} are"
    text = f"{what}: {taken} taken; {_before(slots.place or 0)}"
    return _Reason(text, "slot", since=slots.since, place=slots.place, held_by=slots.holders)


def _name_runs(runs: tuple[AwaitedRun, ...]) -> str:
    if len(runs) == 1:
        return f"run {runs[0].run_id} of {runs[0].path}"
    return f"{len(runs):,} runs (of {_some(_paths(runs))})"


def _have(runs: tuple[AwaitedRun, ...]) -> str:
    return "has" if len(runs) == 1 else "have"


def _paths(runs: tuple[AwaitedRun, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run.path for run in runs))


def _some(paths: tuple[str, ...]) -> str:
    named, more = list(paths[:MOST_NAMED]), len(paths) - MOST_NAMED
    if more > 0:
        named.append(f"{more:,} more")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def _before(place: int) -> str:
    return {0: "it is next", 1: "1 comes before it"}.get(place, f"{place:,} come before it")


def _many(count: int, noun: str, plural: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
