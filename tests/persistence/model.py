"""The naive store: a list of records, folded again for every question; and histories to drive it with."""

from collections.abc import Iterable

from hypothesis import strategies as st

from greenroom import Retention
from greenroom.errors import SnapshotUnreadable
from greenroom.paths import is_under
from greenroom.persistence.codec import dumps
from greenroom.persistence.projections import apply_to_agent, apply_to_image, apply_to_run
from greenroom.persistence.queries import (
    EventPage,
    FindAgent,
    FindAgents,
    FindRuns,
    ListAgents,
    ListEvents,
    LoadAgent,
)
from greenroom.persistence.records import (
    AddAgent,
    AddEvent,
    AddMessage,
    AddRun,
    BeginRun,
    DropMessages,
    EndRun,
    EraseAgent,
    InterruptRun,
    PutSnapshot,
    Record,
    SetAgent,
    SetIncarnation,
    SetRun,
)
from greenroom.persistence.rows import AgentRow, EventRow, MessageRow, RunRow, Snapshot, Unfinished

FOR_EVER = Retention(run_age=None, runs=None, event_age=None, events=None, closed_age=None, closed=None)
PATHS = ("/t", "/t/a", "/t/a/b", "/t/a-b", "/t/a0", "/t/b", "/u", "/u/a", "/u-a/b", "/t/zeta")
UNDERS = ("/", "/t", "/t/a", "/t/a/b", "/u", "/nobody")


class NaiveStore:
    """Every question is answered from the list of all records, in the plainest way."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.epoch = 0
        self.nonce = ""
        self.pruned = 0  # up to this number

    def write(self, records: Iterable[Record]) -> None:
        self.records.extend(records)

    def left(self) -> list[Record]:
        """All records but those that tell of agents that were deleted since, or that these sent.

        Retention erases a closed agent as well, up to number 0: what it sent was accepted, and stays.
        """
        added = {r.row.agent_id: r for r in self.records if isinstance(r, AddAgent)}
        erased = {r.agent_id: r for r in self.records if isinstance(r, EraseAgent) and r.upto}

        def is_erased(event: EventRow) -> bool:
            return event.type != "agent.deleted" and any(
                event.path == added[i].row.path and added[i].first_seq <= event.seq < end.upto
                for i, end in erased.items()
            )

        return [
            r
            for r in self.records
            if not (isinstance(r, AddEvent) and is_erased(r.row))
            and not (isinstance(r, AddMessage) and r.row.sender_id in erased)
        ]

    def agents(self) -> dict[int, AgentRow]:
        ids = {r.row.agent_id for r in self.records if isinstance(r, AddAgent)}
        rows = {i: apply_to_agent(None, self._of_agent(i)) for i in sorted(ids)}
        return {i: row for i, row in rows.items() if row is not None}

    def runs(self) -> dict[str, RunRow]:
        ids = [r.row.run_id for r in self.records if isinstance(r, AddRun)]
        runs = {i: apply_to_run(None, self._of_run(i)) for i in ids}
        known = self.agents()
        return {i: run for i, run in runs.items() if run is not None and run.agent_id in known}

    def read(self, query: object) -> object:
        match query:
            case FindAgent(path):
                rows = [row for row in self.agents().values() if row.path == path]
                opened = [row for row in rows if row.status != "closed"]
                return max(opened or rows, key=lambda row: row.agent_id, default=None)
            case FindAgents(ids):
                known = self.agents()
                return tuple(known[i] for i in ids if i in known)
            case LoadAgent(agent_id):
                image = apply_to_image(None, self._of_agent(agent_id))
                if image is not None and image.snapshot is None:
                    runs = self.runs().values()
                    if any(run.agent_id == agent_id and run.status == "completed" for run in runs):
                        return SnapshotUnreadable  # a completed turn leaves one: it was lost
                return image
            case FindRuns(ids):
                runs = self.runs()
                return tuple(runs.get(i) for i in ids)
            case ListAgents(under, after, limit, closed):
                rows = [
                    row
                    for row in self.agents().values()
                    if is_under(row.path, under)
                    and (row.status == "closed") == closed
                    and (after is None or row.path > after)
                ]
                return tuple(sorted(rows, key=lambda row: (row.path, row.agent_id))[:limit])
            case ListEvents(under, since, limit):
                events = [r.row for r in self.left() if isinstance(r, AddEvent)]
                found = [e for e in events if e.seq > since and is_under(e.path, under)]
                page = tuple(sorted(found, key=lambda event: event.seq)[:limit])
                return EventPage(page, pruned=self.pruned)
        raise AssertionError(query)

    def unfinished(self) -> Unfinished:
        agents = self.agents()
        runs = [run for run in self.runs().values() if run.status == "accepted"]
        runs.sort(key=lambda run: run.serial)
        ids = [r.row.agent_id for r in self.records if isinstance(r, AddAgent)]
        serials = [r.row.serial for r in self.records if isinstance(r, (AddRun, AddMessage))]
        seqs = [r.row.seq for r in self.records if isinstance(r, AddEvent)]
        return Unfinished(
            epoch=self.epoch,
            next_agent_id=max(ids, default=0) + 1,
            next_serial=max(serials, default=0) + 1,
            next_seq=max(seqs, default=0) + 1,
            runs=tuple(runs),
            agents=tuple(agents[i] for i in sorted({run.agent_id for run in runs})),
            known=sum(row.status != "closed" for row in agents.values()),
            nonce=self.nonce,
            crashed=False,
        )

    def _of_agent(self, agent_id: int) -> list[Record]:
        return [r for r in self.left() if getattr(r, "agent_id", None) == agent_id or _row_of(r, agent_id)]

    def _of_run(self, run_id: str) -> list[Record]:
        return [
            r
            for r in self.records
            if (isinstance(r, AddRun) and r.row.run_id == run_id) or getattr(r, "run_id", None) == run_id
        ]


def _row_of(record: Record, agent_id: int) -> bool:
    return isinstance(record, (AddAgent, AddMessage)) and record.row.agent_id == agent_id


def questions(model: NaiveStore) -> list[object]:
    """All that one can ask about what `model` knows."""
    ids = tuple(range(1, model.unfinished().next_agent_id + 1))
    run_ids = tuple(r.row.run_id for r in model.records if isinstance(r, AddRun))
    listings = [
        ListAgents(under, after, limit, closed)
        for under in UNDERS
        for after in (None, "/t", "/t/a", "/t/a-b", "/z")
        for limit in (2, 100)
        for closed in (False, True)
    ]
    return [
        *(FindAgent(path) for path in PATHS),
        FindAgents(tuple(reversed(ids))),
        *(LoadAgent(agent_id) for agent_id in ids),
        FindRuns((*run_ids, "no such run")),
        *listings,
        *(ListEvents(under, since, limit) for under in UNDERS for since in (0, 3) for limit in (2, 99)),
    ]


payloads = st.sampled_from([dumps(value, "it") for value in (None, 1, "x" * 5000, {"a": (1, 2)})])
snapshots = st.builds(
    Snapshot,
    codec=st.sampled_from(["cloudpickle", "json"]),
    version=st.integers(1, 3),
    data=st.binary(max_size=40),
)
errors = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@st.composite
def next_records(draw: st.DrawFn, model: NaiveStore) -> list[Record]:
    """What the ledger might commit next: a few records that are right after all before."""
    drawn = NaiveStore()
    drawn.records = list(model.records)
    for _ in range(draw(st.integers(0, 8))):
        drawn.records.extend(_some(draw, drawn))
    return drawn.records[len(model.records) :]


def _some(draw: st.DrawFn, model: NaiveStore) -> list[Record]:
    numbers = model.unfinished()
    agents = model.agents()
    at = float(numbers.next_seq)
    serial = numbers.next_serial
    taken = {row.path for row in agents.values() if row.status != "closed"}
    free = [path for path in PATHS if path not in taken]
    kinds = ["event", *(["spawn"] if free else []), *(["agent"] * 5 if agents else [])]
    match draw(st.sampled_from(kinds)):
        case "event":
            path = draw(st.sampled_from(PATHS))
            return [AddEvent(EventRow(numbers.next_seq, at, "run.progress", path, None, b'{"n":1}'))]
        case "spawn":
            path = draw(st.sampled_from(free))
            row = AgentRow(numbers.next_agent_id, path, "kind", 1, draw(payloads), at, at, origin="o")
            return [
                AddAgent(row, numbers.next_seq),
                AddEvent(EventRow(numbers.next_seq, at, "agent.spawned", path)),
            ]
    row = draw(st.sampled_from(list(agents.values())))
    me = row.agent_id
    open_runs = [run for run in numbers.runs if run.agent_id == me]
    what = ["run", "message", "drop", "snapshot", "session", "erase"]
    what += ["status"] if row.status != "closed" else []
    what += ["begin", "begin", "cut", "interrupt", "end", "end", "turn"] if open_runs else ["run"]
    match draw(st.sampled_from(what)):
        case "run":
            awaits = draw(st.sampled_from([(), ("r1", "r2")]))
            run = RunRow(f"r{serial}", serial, me, row.path, draw(payloads), at, awaits=awaits)
            return [AddRun(run)]
        case "message":
            sender = draw(st.none() | st.sampled_from(list(agents.values())))
            path, sender_id = (sender.path, sender.agent_id) if sender else (None, None)
            return [AddMessage(MessageRow(serial, me, draw(payloads), path, at, sender_id))]
        case "drop":
            return [DropMessages(me, draw(st.integers(0, serial - 1)))]
        case "snapshot":
            return [PutSnapshot(me, draw(snapshots))]
        case "session":
            return [SetIncarnation(me, row.incarnation + 1)]
        case "erase":
            told = EventRow(numbers.next_seq, at, "agent.deleted", row.path)
            return [EraseAgent(me, row.path, numbers.next_seq), AddEvent(told)]
        case "status":
            return [SetAgent(me, draw(st.sampled_from(["idle", "failed", "closed"])), draw(errors), at)]
        case "begin":
            run = draw(st.sampled_from(open_runs))
            return [BeginRun(run.run_id, me, run.attempt + 1, at, draw(st.booleans()))]
        case "cut":
            run = draw(st.sampled_from(open_runs))
            stands = draw(st.sampled_from([(False, False), (True, False), (True, True)]))
            counts, ran = draw(st.sampled_from([(1, 0), (2, 1)])), draw(st.sampled_from([None, 0.5]))
            return [SetRun(run.run_id, me, run.attempt, run.started_at, *stands, *counts, ran)]
        case "interrupt":
            return [InterruptRun(draw(st.sampled_from(open_runs)).run_id, me, draw(errors) or "told to")]
        case "end":
            return [_end(draw, open_runs[-1], at)]
        case "turn":
            run = open_runs[0]
            return [
                BeginRun(run.run_id, me, run.attempt + 1, at),
                _end(draw, run, at),
                PutSnapshot(me, draw(snapshots)),
                DropMessages(me, serial - 1),
                AddEvent(EventRow(numbers.next_seq, at, "run.completed", row.path, run.run_id)),
            ]
    raise AssertionError("unreachable")


def _end(draw: st.DrawFn, run: RunRow, at: float) -> EndRun:
    status = draw(st.sampled_from(["completed", "failed", "interrupted"]))
    result = draw(payloads) if status == "completed" else None
    started = run.started_at if run.started_at is not None else draw(st.sampled_from([None, at]))
    return EndRun(run.run_id, run.agent_id, status, result, draw(errors), run.attempt, started, at + 1)
