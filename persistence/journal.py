"""The order of everything that must not be lost, and a view of the store that is never behind it.

The journal numbers commits and events, hands them to the writer in batches (whatever came while the last
batch was being written is the next one: group commit), and lets a commit's news go when its records are
durable. Until a batch is known to be on disk its records stay here as an *overlay*, which is laid over
whatever the reader finds, so that nobody has to wait for the disk to see what was committed.

The overlay is laid over rows that may already contain a part of it: that is right because every record
sets what it names, and the overlay is always an unbroken tail of the journal.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from ..actors.effects import Effect, Send
from ..actors.vocabulary import Address, AgentId, Durability, RequestId, RunId, is_under
from .fold import fold_image, fold_row, fold_run
from .protocol import (
    AddAgent,
    AddEvent,
    AddRun,
    AgentImage,
    AgentRow,
    Answer,
    Commit,
    EraseAgent,
    EventRow,
    FindAgent,
    FindAgents,
    FindRuns,
    ListAgents,
    ListEvents,
    LoadAgent,
    Query,
    Read,
    Record,
    RunRow,
    WriteBatch,
)

MOST_RECORDS = 5_000
"""In one batch: a larger one would make its first commit wait for its last."""


class Publish(Struct, frozen=True):
    """To the event bus: these happened, in this order."""

    events: tuple[EventRow, ...]


class AgentPage(Struct, frozen=True):
    """A page of agents; `next` is the path to go on after, None at the end."""

    rows: tuple[AgentRow, ...]
    next: str | None


class _Entry(Struct):
    number: int
    records: tuple[Record, ...]
    events: tuple[EventRow, ...]
    then: tuple[Send, ...]
    sync: bool


class _Question(Struct):
    request: RequestId
    reply_to: Address | Callable[[Answer], Iterable[Effect]]
    query: Query
    floor: int  # the last entry that was on disk when it was asked


class Journal:
    """Commits in, batches and news out; questions in, answers as of the last commit out."""

    def __init__(self, *, durability: Durability, next_seq: int) -> None:
        self.durability = durability
        self.commits = 0
        self._next_seq = next_seq
        self._last = 0  # the number of the last entry
        self._sent = 0  # … of the last one handed to the writer
        self._written = 0  # … of the last one on disk
        self._urgent = 0  # … of the last one that is not lazy
        self._entries: deque[_Entry] = deque()  # not yet on disk
        self._unsent: deque[_Entry] = deque()
        self._retained: deque[_Entry] = deque()  # the overlay, oldest first
        self._of_agent: dict[AgentId, deque[tuple[int, Record]]] = {}
        self._of_run: dict[RunId, deque[tuple[int, Record]]] = {}
        self._at_path: dict[str, deque[tuple[int, AgentId]]] = {}
        self._questions: dict[int, _Question] = {}
        self._next_question = 0
        self._paused = False

    # Commits

    @property
    def unwritten(self) -> int:
        """How many commits are not on disk yet."""
        return len(self._entries)

    @property
    def last(self) -> int:
        """The number of the last commit."""
        return self._last

    def is_written(self, number: int) -> bool:
        """Whether the commit of this number, and all before it, are on disk."""
        return number <= self._written

    @property
    def asking(self) -> bool:
        """Whether the reader has not answered all that it was asked."""
        return bool(self._questions)

    def unwritten_of(self, agent_id: AgentId) -> bool:
        """Whether something of this agent is not on disk yet."""
        records = self._of_agent.get(agent_id)
        return records is not None and records[-1][0] > self._written

    def commit(self, commit: Commit) -> list[Effect]:
        """Take `commit` down after all before it; what it lets go comes back now or with `written`."""
        level = commit.durability
        if not commit.records and not commit.facts:
            return self._news(commit, level)
        events = tuple(self._number(fact) for fact in commit.facts)
        records = commit.records + tuple(AddEvent(event) for event in events)
        self._last += 1
        self.commits += 1
        at_once = level == "memory"
        publish_at_once = self.durability == "memory"
        entry = _Entry(
            self._last,
            records,
            () if publish_at_once else events,
            () if at_once else commit.then,
            level == "power",
        )
        self._entries.append(entry)
        self._unsent.append(entry)
        self._retain(entry)
        if not commit.lazy:
            self._urgent = self._last
        effects: list[Effect] = []
        if publish_at_once and events:
            effects.append(Send("events", Publish(events)))
        if at_once:
            effects.extend(commit.then)
        return effects

    def _news(self, commit: Commit, level: Durability) -> list[Effect]:
        """A commit of nothing waits for what came before it, like any other."""
        if level == "memory" or not self._entries:
            return list(commit.then)
        last = self._entries[-1]
        last.then += commit.then
        self._urgent = self._last
        return []

    def _number(self, fact: object) -> EventRow:
        seq = self._next_seq
        self._next_seq += 1
        return EventRow(seq, fact.at, fact.type, fact.path, fact.run_id, fact.data)  # type: ignore[attr-defined]

    @property
    def lazy(self) -> bool:
        """Whether lazy commits wait for one that is not."""
        return self._urgent < self._last

    def flush(self) -> None:
        """Have lazy commits written as well."""
        self._urgent = self._last

    def take_batch(self) -> list[Effect]:
        """The next batch for the writer, if it is free and there is one."""
        if self._paused or self._sent > self._written or self._urgent <= self._sent:
            return []
        records: list[Record] = []
        sync = False
        while self._unsent and len(records) < MOST_RECORDS:
            entry = self._unsent.popleft()
            records.extend(entry.records)
            sync = sync or entry.sync
            self._sent = entry.number
        return [Send("writer", WriteBatch(self._sent, tuple(records), sync))]

    def written(self, number: int) -> list[Effect]:
        """The batch up to `number` is on disk: let its news go, hand over the next one."""
        self._written = number
        events: list[EventRow] = []
        effects: list[Effect] = []
        while self._entries and self._entries[0].number <= number:
            entry = self._entries.popleft()
            events.extend(entry.events)
            effects.extend(entry.then)
        if events:
            effects.insert(0, Send("events", Publish(tuple(events))))
        self._release()
        return effects + self.take_batch()

    def rejected(self) -> None:
        """The last batch was not written: keep all of it, and hand nothing over until `resume`."""
        self._paused = True
        self._unsent = deque(self._entries)
        self._sent = self._written

    def resume(self) -> list[Effect]:
        self._paused = False
        return self.take_batch()

    # Questions

    def ask(
        self,
        request: RequestId,
        reply_to: Address | Callable[[Answer], Iterable[Effect]],
        query: Query,
    ) -> list[Effect]:
        """Answer `query`, at once if the overlay alone can."""
        known = self._known(query)
        if known is not None:
            return _answer(reply_to, Answer(request, known))
        self._next_question += 1
        ticket = self._next_question
        self._questions[ticket] = _Question(request, reply_to, query, self._written)
        return [Send("reader", Read(ticket, query))]

    def answered(self, answer: Answer) -> list[Effect]:
        """The reader found this: lay the overlay over it and pass it on."""
        question = self._questions.pop(answer.request)  # type: ignore[call-overload]
        value = answer.value
        if answer.error is None:
            value = self._merge(question.query, value)
        effects = _answer(question.reply_to, Answer(question.request, value, answer.error))
        self._release()
        return effects

    def _known(self, query: Query) -> object | None:
        match query:
            case FindAgent():
                for _, agent_id in reversed(self._at_path.get(query.path, ())):
                    row = self._row_since_added(agent_id)
                    if row is not None and row.status != "closed":
                        return row
            case LoadAgent():
                records = self._of_agent.get(query.agent_id, ())
                if records and type(records[0][1]) is AddAgent:
                    return fold_image(None, (record for _, record in records))
            case _:
                pass
        return None

    def _row_since_added(self, agent_id: AgentId) -> AgentRow | None:
        records = self._of_agent.get(agent_id, ())
        if records and type(records[0][1]) is AddAgent:
            return fold_row(None, (record for _, record in records))
        return None

    def _merge(self, query: Query, value: object) -> object:
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
            case ListAgents():
                return self._merge_page(query, value)  # type: ignore[arg-type]
            case ListEvents():
                return self._merge_events(query, value)  # type: ignore[arg-type]

    def _records(self, agent_id: AgentId) -> Iterator[Record]:
        return (record for _, record in self._of_agent.get(agent_id, ()))

    def _row(self, row: AgentRow | None, agent_id: AgentId) -> AgentRow | None:
        return fold_row(row, self._records(agent_id))

    def _image(self, image: AgentImage | None, agent_id: AgentId) -> AgentImage | None:
        return fold_image(image, self._records(agent_id))

    def _run(self, run: RunRow | None, run_id: RunId) -> RunRow | None:
        run = fold_run(run, (record for _, record in self._of_run.get(run_id, ())))
        if run is None or any(type(record) is EraseAgent for record in self._records(run.agent_id)):
            return None
        return run

    def _merge_path(self, path: str, found: AgentRow | None) -> AgentRow | None:
        rows = [self._row(found, found.agent_id)] if found else []
        rows += [self._row(None, agent_id) for _, agent_id in self._at_path.get(path, ())]
        known = [row for row in rows if row is not None]
        opened = [row for row in known if row.status != "closed"]
        return max(opened or known, key=lambda row: row.agent_id, default=None)

    def _merge_page(self, query: ListAgents, found: tuple[AgentRow, ...]) -> AgentPage:
        full = len(found) >= query.limit
        edge = found[-1].path if full else None
        rows = {row.agent_id: row for row in found}
        for path, agents in self._at_path.items():
            if (
                is_under(path, query.under)
                and (query.after is None or path > query.after)
                and (edge is None or path <= edge)
            ):
                rows.update((agent_id, row) for _, agent_id in agents if (row := self._row(None, agent_id)))
        merged = [
            row
            for agent_id, base in rows.items()
            if (row := self._row(base, agent_id)) and (row.status == "closed") == query.closed
        ]
        merged.sort(key=lambda row: (row.path, row.agent_id))
        page = tuple(merged[: query.limit])
        if len(merged) > query.limit:
            edge = page[-1].path
        return AgentPage(page, edge)

    def _merge_events(self, query: ListEvents, found: tuple[EventRow, ...]) -> tuple[EventRow, ...]:
        if len(found) >= query.limit:
            return found
        last = found[-1].seq if found else query.since
        tail = [
            record.row
            for entry in self._retained
            for record in entry.records
            if type(record) is AddEvent and record.row.seq > last and is_under(record.row.path, query.under)
        ]
        return (found + tuple(tail))[: query.limit]

    # The overlay

    def _retain(self, entry: _Entry) -> None:
        number = entry.number
        self._retained.append(entry)
        for record in entry.records:
            agent_id, run_id = _names(record)
            if agent_id is not None:
                self._of_agent.setdefault(agent_id, deque()).append((number, record))
            if run_id is not None:
                self._of_run.setdefault(run_id, deque()).append((number, record))
            if type(record) is AddAgent:
                self._at_path.setdefault(record.row.path, deque()).append((number, record.row.agent_id))

    def _release(self) -> None:
        """Let go of what is on disk, and was when the oldest open question was asked.

        A question asked earlier may be answered from before that.
        """
        floor = self._written
        if self._questions:
            floor = min(floor, next(iter(self._questions.values())).floor)
        while self._retained and self._retained[0].number <= floor:
            for record in self._retained.popleft().records:
                agent_id, run_id = _names(record)
                if agent_id is not None:
                    _forget_first(self._of_agent, agent_id)
                if run_id is not None:
                    _forget_first(self._of_run, run_id)
                if type(record) is AddAgent:
                    _forget_first(self._at_path, record.row.path)


def _answer(reply_to: Address | Callable[[Answer], Iterable[Effect]], answer: Answer) -> list[Effect]:
    if callable(reply_to):
        return list(reply_to(answer))
    return [Send(reply_to, answer)]


def _names(record: Record) -> tuple[AgentId | None, RunId | None]:
    """The agent and the run that a record is about, as far as the overlay keeps them."""
    kind = type(record)
    if kind is AddEvent:
        return None, None
    if kind is AddAgent:
        return record.row.agent_id, None  # type: ignore[union-attr]
    if kind is AddRun:
        return record.row.agent_id, record.row.run_id  # type: ignore[union-attr]
    return getattr(record, "agent_id", None) or record.row.agent_id, getattr(record, "run_id", None)  # type: ignore[union-attr]


def _forget_first(table: dict, key: object) -> None:  # type: ignore[type-arg]
    records = table[key]
    records.popleft()
    if not records:
        del table[key]
