"""What can be seen of a runtime from outside: `stats`, `list`, the events, and the store's file itself."""

import sqlite3
from collections import Counter
from typing import Any, TypeAlias

from msgspec import Struct

from greenroom import AgentInfo, Event, Outcome, Stats
from greenroom.testing import Simulation
from greenroom.testing.simulation import EPOCH

from .scripts import TERMINAL
from .specification import Specification, outlives

LAZY = ("agent.evicted", "agent.reloaded")
"""Told before they are written: nobody builds on them, and the next process does not know them."""


Which: TypeAlias = tuple[str, float, str]
"""An agent, and none that had its path before: not even at the same moment."""


def which(info: AgentInfo) -> Which:
    return info.path, info.created_at, str(info.config)


class File(Struct):
    """The store as somebody finds it who opens the file now."""

    open_paths: Counter[str]
    runs: dict[str, str]  # status by id
    ends: Counter[str]  # terminal events by run
    crashes: dict[str, int]  # those that are held against a run
    started: dict[str, float]  # when each began the last time

    @classmethod
    def read(cls, image: bytes) -> "File":
        connection = sqlite3.connect(":memory:")
        try:
            connection.deserialize(image)
            rows = connection.execute
            paths = [path for (path,) in rows("SELECT path FROM agents WHERE status <> 'closed'")]
            ends = rows("SELECT run_id FROM events WHERE type IN (?, ?, ?)", TERMINAL)
            # what is about deleted agents is removed a little at a time, and seen by nobody meanwhile
            left = "FROM runs WHERE agent_id NOT IN (SELECT agent_id FROM erased)"
            runs = dict(rows(f"SELECT run_id, status {left}").fetchall())
            crashes = dict(rows("SELECT run_id, crashes FROM runs").fetchall())
            started = dict(
                rows("SELECT run_id, started_at FROM runs WHERE started_at IS NOT NULL").fetchall()
            )
            return cls(Counter(paths), runs, Counter(run_id for (run_id,) in ends), crashes, started)
        finally:
            connection.close()


class Observed(Struct):
    """All of it at one moment."""

    stats: Stats
    agents: dict[str, AgentInfo]
    listed: int
    file: File
    ended: Counter[tuple[str, int]]  # how often each run was told to have ended, of all events so far


class Witness:
    """Remembers all that was told, also what was pruned since."""

    def __init__(self) -> None:
        self.events: dict[int, Event] = {}
        self.gone: dict[int, Event] = {}  # told and never written; their numbers stay theirs
        self.file_ends: dict[str, str] = {}  # runs that had ended in the file
        self.incarnations: dict[Which, int] = {}  # of the process that is up
        self.outcomes: dict[Which, Outcome | None] = {}  # the last ones of agents
        self.crashes: dict[str, int] = {}  # that are held against runs
        self.blamed = 0  # how many crashes were held against somebody, all in all

    def look(self, simulation: Simulation, spec: Specification) -> Observed:
        """All that can be seen, and the ends of runs told to the specification."""
        stats, agents = simulation.stats(), simulation.list()
        self._read_events(simulation, spec)
        ended = self._ended()
        file = File.read(simulation.image())
        return Observed(stats, {info.path: info for info in agents}, len(agents), file, ended)

    def _ended(self) -> Counter[tuple[str, int]]:
        """Ends by run: its id, and how many have been accepted by that id up to it."""
        accepted: Counter[str] = Counter()
        ended: Counter[tuple[str, int]] = Counter()
        for _, event in sorted(self.events.items()):
            run_id = str(event.run_id)
            accepted[run_id] += event.type == "run.accepted"
            ended[run_id, accepted[run_id]] += event.type in TERMINAL
        return +ended

    def _read_events(self, simulation: Simulation, spec: Specification) -> None:
        """Each number is one event, for ever, and they come in one order."""
        events = told(simulation)
        numbers = [event.seq for event in events]
        assert numbers == sorted(set(numbers)), f"G2: events are not in one order: {numbers}"
        missing = [self.events[seq] for seq in self.events.keys() - set(numbers)]
        missing = [event for event in missing if not spec.may_be_erased(event.path)]
        pruned = [event for event in missing if is_old(event, spec, true_time(simulation))]
        assert len(missing) == len(pruned), f"G3: events were told and are gone: {missing}"
        newest = max((event.seq for event in pruned if event.type not in LAZY), default=0)  # or it was lost
        assert not numbers or newest < numbers[0], "G3: of the events, not the oldest were pruned"
        for event in events:
            known = self.gone.get(event.seq) or self.events.setdefault(event.seq, event)
            assert known == event, f"G3: event {event.seq} was {known}, and is {event}"
            if known is event and event.type in TERMINAL and event.run_id is not None:
                status = event.type.partition(".")[2]
                spec.ended(event.run_id, status, event.data.get("error"), spec.level, event.at)

    def found(self, simulation: Simulation, spec: Specification, loss: str | None) -> None:
        """After a loss: what of the events is left is all up to some moment."""
        now = {event.seq: event for event in told(simulation)}
        kept = [seq for seq, event in self.events.items() if now.get(seq) == event]
        lost = [
            event
            for seq, event in self.events.items()
            if now.get(seq) != event
            and not is_old(event, spec, true_time(simulation))
            and not spec.may_be_erased(event.path)
        ]
        for event in lost:
            del self.events[event.seq]
            if outlives(spec.level, loss):
                assert event.type in LAZY, f"G3: told, and lost: {event}"
                self.gone[event.seq] = event
        if not outlives(spec.level, loss):  # what is old may have been pruned or lost: nobody can tell
            self.events = {seq: event for seq, event in self.events.items() if now.get(seq) == event}
        first_lost = min((event.seq for event in lost), default=1 << 60)
        assert all(seq < first_lost for seq in kept), "G3: a later event outlived an earlier one"
        self.incarnations.clear()
        self.outcomes.clear()
        self.file_ends.clear()


def is_old(event: Event, spec: Specification, now: float) -> bool:
    """Whether it may have been pruned by now."""
    return spec.is_old(event.at, now)


def true_time(simulation: Simulation) -> float:
    """What a clock shows that nobody sets."""
    return EPOCH + simulation.loop.time()


def told(simulation: Simulation) -> list[Any]:
    """All events; that the store cannot be written is told between them, and is none."""
    events = simulation.events(since=0, follow=False)
    return [event for event in events if not event.type.startswith("store.")]
