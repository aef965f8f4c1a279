"""Commits that are not on disk yet, merged into the answers of the reader.

Owns the records, by agent, run and path, from their commit until they are on disk and no question from
before that is open. It may lie over rows that contain a part of it already: that is right because every
record sets what it names, and the memtable is always an unbroken tail of the commit log.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from heapq import merge
from itertools import chain, islice, takewhile
from typing import TypeAlias, TypeVar

from msgspec import Struct

from ....paths import is_under
from ....persistence.projections import apply_to_agent, apply_to_image, apply_to_run
from ....persistence.queries import (
    EventPage,
    FindAgent,
    FindAgents,
    FindRuns,
    HasAgents,
    ListAgents,
    ListEvents,
    LoadAgent,
    Query,
)
from ....persistence.records import (
    AddAgent,
    AddEvent,
    AddMessage,
    AddRun,
    EndRun,
    EraseAgent,
    Record,
    SetAgent,
)
from ....persistence.rows import AgentImage, AgentRow, EventRow, RunRow
from ....types import AgentId, RunId
from .ordered import SortedSet, SortKey

EVENTS_EXAMINED = 5_000
"""Events that are looked at for one answer; this is done on the loop."""
MOST_UNSORTED = 2_000
"""Records that nobody has asked about yet. The oldest are sorted before there are more: the first question
waits for all of them, which takes some µs for each."""

MOST_DISCARDED = 10_000
"""Commits that are taken away at once: two batches, so they never pile up."""

LAST_AGENT_ID = AgentId((1 << 63) - 1)
"""Greater than any agent's id."""


IN_A_TUPLE = 8
"""As many stand in a tuple, which is small and which Python's collector passes by."""

K = TypeVar("K")
T = TypeVar("T")
Several: TypeAlias = tuple[T, ...] | deque[T]


class EntryContent(Struct, frozen=True, gc=False):
    """The content of a commit: a tuple that Python's collector passes by, as it passes by what is in it."""

    records: tuple[Record, ...]
    events: tuple[EventRow, ...]


class PageOfAgents(Struct, frozen=True):
    """A page of agents; `next` is the path to go on after, None at the end; `next_id` the agent there."""

    rows: tuple[AgentRow, ...]
    next: str | None
    next_id: AgentId | None = None


class Memtable:
    """Records in, by the number of their commit; rows as of the last commit out.

    Most commits are on disk before anybody asks, so what they say is sorted by agent, run and path when
    the first question comes.
    """

    def __init__(self) -> None:
        self._events: deque[tuple[int, tuple[EventRow, ...]]] = deque()  # none of them empty, by number
        self._layers: deque[tuple[int, tuple[Record, ...]]] = deque()  # oldest first
        self._unsorted: deque[tuple[int, tuple[Record, ...]]] = deque()  # Then these follow.
        self._unsorted_records = 0
        self._of_agent: dict[AgentId, Several[tuple[int, Record]]] = {}
        self._of_run: dict[RunId, Several[tuple[int, Record]]] = {}
        self._at_path: dict[str, Several[tuple[int, AgentId]]] = {}
        self._added: SortedSet[SortKey] = SortedSet()  # where agents were added
        self._closed: SortedSet[SortKey] = SortedSet()  # Trees where some agents were closed.
        self._erased: dict[AgentId, EraseAgent] = {}
        self._erased_at: dict[str, set[AgentId]] = {}  # the same by path

    def lay(self, number: int, records: tuple[Record, ...], events: tuple[EventRow, ...]) -> None:
        """Put a commit on top: its records, and what it tells."""
        if events:
            self._events.append((number, events))
        if not records:
            return
        self._unsorted.append((number, records))
        self._unsorted_records += len(records)
        while self._unsorted_records > MOST_UNSORTED:
            self._sort_oldest()

    def lift(self, upto: int) -> None:
        """Take away the commits up to and with this number; if there are many, some later."""
        while self._events and self._events[0][0] <= upto:
            self._events.popleft()
        left = MOST_DISCARDED
        while self._layers and self._layers[0][0] <= upto and left:
            left -= 1
            _, records = self._layers.popleft()
            for record in records:
                agent_id, run_id = _names(record)
                if agent_id is not None:
                    _forget_first(self._of_agent, agent_id)
                    if type(record) is EraseAgent:
                        self._forget_erased(agent_id)
                if run_id is not None:
                    _forget_first(self._of_run, run_id)
                if type(record) is AddAgent:
                    _forget_first(self._at_path, record.row.path)
                    self._added.discard((record.row.path, record.row.agent_id))
                elif type(record) is SetAgent and record.status == "closed":
                    self._closed.discard((record.path, record.agent_id))
        while not self._layers and self._unsorted and self._unsorted[0][0] <= upto and left:
            left -= 1
            self._unsorted_records -= len(self._unsorted.popleft()[1])

    def relay(self, changed: dict[int, EntryContent]) -> None:
        """Have the commits of these numbers say something else."""
        layers = [*self._layers, *self._unsorted]
        self._layers.clear()
        self._of_agent, self._of_run, self._at_path = {}, {}, {}
        self._added, self._closed = SortedSet(), SortedSet()
        self._erased, self._erased_at = {}, {}
        self._unsorted, self._unsorted_records = deque(), 0
        for number, records in layers:
            if number in changed:
                records = tuple([one for one in changed[number].records if type(one) is not AddEvent])
            if records:
                self._unsorted.append((number, records))
                self._unsorted_records += len(records)
        events = (
            (number, changed[number].events if number in changed else rows) for number, rows in self._events
        )
        self._events = deque((number, rows) for number, rows in events if rows)

    def _sort(self) -> None:
        """Have all layers found by what they are about; before any question."""
        while self._unsorted:
            self._sort_oldest()

    def _sort_oldest(self) -> None:
        number, records = layer = self._unsorted.popleft()
        self._unsorted_records -= len(records)
        self._layers.append(layer)
        for record in records:
            agent_id, run_id = _names(record)
            if agent_id is not None:
                _add(self._of_agent, agent_id, (number, record))
            if run_id is not None:
                _add(self._of_run, run_id, (number, record))
            if type(record) is AddAgent:
                _add(self._at_path, record.row.path, (number, record.row.agent_id))
                self._added.add((record.row.path, record.row.agent_id))
            elif type(record) is SetAgent and record.status == "closed":
                self._closed.add((record.path, record.agent_id))
            elif type(record) is EraseAgent:
                self._erased[record.agent_id] = record
                self._erased_at.setdefault(record.path, set()).add(record.agent_id)

    def _forget_erased(self, agent_id: AgentId) -> None:
        erased = self._erased.pop(agent_id, None)
        if erased is not None:
            there = self._erased_at[erased.path]
            there.discard(agent_id)
            if not there:
                del self._erased_at[erased.path]

    def lately_closed(self, query: ListAgents) -> tuple[AgentId, ...]:
        """The agents that may belong on this page, and whose closing the reader may not have seen."""
        self._sort()
        nowhere = takewhile(lambda place: not place[0], self._closed.after(("", AgentId(0))))
        places = chain(nowhere, islice(_within(query, self._closed), query.limit + 1))
        return tuple(agent_id for _, agent_id in places)

    @property
    def erasing(self) -> tuple[tuple[AgentId, int], ...]:
        """The agents whose deletion the reader may not have seen, each with its `EraseAgent.upto`."""
        self._sort()
        return tuple((agent_id, record.upto) for agent_id, record in self._erased.items())

    def numbers_of_agent(self, agent_id: AgentId) -> Iterator[int]:
        """The commits that say something of this agent at rest, newest first."""
        self._sort()
        return (number for number, _ in reversed(self._of_agent.get(agent_id, ())))

    def accepted_by(self, run_id: RunId) -> int:
        """The number of the commit that accepted the run; 0 if it is not in here.

        The last one: a run that was erased may have had the same id.
        """
        self._sort()
        return next((n for n, one in reversed(self._of_run.get(run_id, ())) if type(one) is AddRun), 0)

    def ended_by(self, run_id: RunId) -> int:
        """The number of the commit that ended the run; 0 if it is not in here."""
        self._sort()
        return next((n for n, one in reversed(self._of_run.get(run_id, ())) if type(one) is EndRun), 0)

    # Questions

    def known(self, query: Query) -> object | None:
        """The answer, if it takes no reader to give it."""
        self._sort()
        match query:
            case FindAgent():
                for _, agent_id in reversed(self._at_path.get(query.path, ())):
                    row = self._row_since_added(agent_id)
                    if row is not None and row.status != "closed":
                        return row
            case LoadAgent():
                records = self._of_agent.get(query.agent_id, ())
                if records and type(records[0][1]) is AddAgent:
                    return apply_to_image(None, self._records(query.agent_id))
            case _:
                pass
        return None

    def _row_since_added(self, agent_id: AgentId) -> AgentRow | None:
        records = self._of_agent.get(agent_id, ())
        if records and type(records[0][1]) is AddAgent:
            return apply_to_agent(None, self._records(agent_id))
        return None

    def merge(self, query: Query, value: object, also: tuple[AgentRow, ...] = ()) -> object:
        """The reader's answer as of the last commit; `also`: rows that belong to it by now, perhaps."""
        self._sort()
        match query:
            case FindAgent():
                return self._merge_path(query.path, value)  # type: ignore[arg-type]
            case LoadAgent():
                return self._image(value, query.agent_id)  # type: ignore[arg-type]
            case FindAgents():
                found = {row.agent_id: row for row in value}  # type: ignore[attr-defined]
                rows = (self._row(found.get(agent_id), agent_id) for agent_id in query.agent_ids)
                return tuple(row for row in rows if row is not None)
            case FindRuns():
                return tuple(
                    self._run(run, run_id)
                    for run, run_id in zip(value, query.run_ids, strict=True)  # type: ignore[call-overload]
                )
            case HasAgents():
                return value
            case ListAgents():
                return self._merge_page(query, value, also)  # type: ignore[arg-type]
            case ListEvents():
                return self._merge_events(query, value)  # type: ignore[arg-type]

    def _records(self, agent_id: AgentId) -> Iterator[Record]:
        return (record for _, record in self._of_agent.get(agent_id, ()) if not self._is_of_erased(record))

    def _is_of_erased(self, record: Record) -> bool:
        """Whether it is a message of an agent that was deleted since."""
        return type(record) is AddMessage and record.row.sender_id in self._erased

    def _row(self, row: AgentRow | None, agent_id: AgentId) -> AgentRow | None:
        return apply_to_agent(row, self._records(agent_id))

    def _image(self, image: AgentImage | None, agent_id: AgentId) -> AgentImage | None:
        return apply_to_image(image, self._records(agent_id))

    def _run(self, run: RunRow | None, run_id: RunId) -> RunRow | None:
        run = apply_to_run(run, (record for _, record in self._of_run.get(run_id, ())))
        return None if run is None or run.agent_id in self._erased else run

    def _merge_path(self, path: str, found: AgentRow | None) -> AgentRow | None:
        rows = [self._row(found, found.agent_id)] if found else []
        rows += [self._row(None, agent_id) for _, agent_id in self._at_path.get(path, ())]
        known = [row for row in rows if row is not None]
        opened = [row for row in known if row.status != "closed"]
        return max(opened or known, key=lambda row: row.agent_id, default=None)

    def _merge_page(
        self, query: ListAgents, found: tuple[AgentRow, ...], also: tuple[AgentRow, ...]
    ) -> PageOfAgents:
        full = len(found) >= query.limit
        edge = (found[-1].path, found[-1].agent_id) if full else None
        rows = {(row.path, row.agent_id): row for row in (*also, *found)}
        merged: list[AgentRow] = []
        before: SortKey | None = None
        # No more are looked at than are asked for, and one to see that there are.
        for place in merge(sorted(rows), _within(query, self._added)):
            if place == before:
                continue
            if edge is not None and place > edge:
                break
            before = place
            row = self._row(rows.get(place), place[1])
            if row is not None and (row.status == "closed") == query.closed:
                merged.append(row)
                if len(merged) > query.limit:
                    break
        page = tuple(merged[: query.limit])
        if len(merged) > query.limit:
            edge = (page[-1].path, page[-1].agent_id)
        return PageOfAgents(page, None, None) if edge is None else PageOfAgents(page, *edge)

    def _merge_events(self, query: ListEvents, page: EventPage) -> EventPage:
        """The reader's page, and behind its end what is not in it."""
        found = page.events
        if len(found) >= query.limit or page.upto is not None:
            return page
        last = found[-1].seq if found else query.since
        at = max(0, bisect_right(self._events, last, key=lambda layer: layer[1][0].seq) - 1)
        newer = islice((row for _, rows in islice(self._events, at, None) for row in rows), EVENTS_EXAMINED)
        tail: list[EventRow] = []
        looked_at = upto = 0
        for row in newer:
            looked_at, upto = looked_at + 1, row.seq
            if upto > last and is_under(row.path, query.under) and not self._is_erased(row):
                tail.append(row)
                if len(found) + len(tail) == query.limit:
                    break
        return EventPage(found + tuple(tail), upto if looked_at == EVENTS_EXAMINED else None, page.pruned)

    def _is_erased(self, event: EventRow) -> bool:
        """Whether it tells of an agent that was deleted since."""
        if event.type == "agent.deleted":
            return False
        for agent_id in self._erased_at.get(event.path, ()):
            if event.seq < self._erased[agent_id].upto:
                _, first = self._of_agent[agent_id][0]
                if type(first) is not AddAgent or event.seq >= first.first_seq:
                    return True
        return False


def _within(query: ListAgents, places: SortedSet[SortKey]) -> Iterator[SortKey]:
    """Those of these places that can be on this page, in order."""
    under = query.under
    if query.after is None:
        begin: SortKey = ("", AgentId(0))
    else:
        begin = (query.after, LAST_AGENT_ID if query.after_id is None else query.after_id)
    if under == "/":
        yield from places.after(begin)
        return
    # two parts, since `/a-b` comes between `/a` and `/a/b`
    here = places.after(max(begin, (under, AgentId(0))))
    yield from takewhile(lambda place: place[0] == under, here)
    below = places.after(max(begin, (under + "/", AgentId(0))))
    yield from takewhile(lambda place: place[0].startswith(under + "/"), below)


def _names(record: Record) -> tuple[AgentId | None, RunId | None]:
    """The agent and the run that a record is about, as far as the memtable keeps them."""
    kind = type(record)
    if kind is AddAgent:
        return record.row.agent_id, None  # type: ignore[union-attr]
    if kind is AddRun:
        return record.row.agent_id, record.row.run_id  # type: ignore[union-attr]
    return getattr(record, "agent_id", None) or record.row.agent_id, getattr(record, "run_id", None)  # type: ignore[union-attr]


def _add(table: dict[K, Several[T]], key: K, item: T) -> None:
    known = table.get(key, ())
    if isinstance(known, deque):
        known.append(item)
    elif len(known) < IN_A_TUPLE:
        table[key] = (*known, item)
    else:
        table[key] = deque((*known, item))


def _forget_first(table: dict[K, Several[T]], key: K) -> None:
    known = table[key]
    if isinstance(known, deque):
        known.popleft()
    else:
        known = table[key] = known[1:]
    if not known:
        del table[key]
