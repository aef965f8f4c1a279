"""The order of everything that must not be lost, and a view of the store that is never behind it.

The commit log numbers commits and events and hands them to the writer in batches. Commits that come while a
batch is written are the next one (group commit). The news of a commit goes out when it is durable. The
records of a batch stay in a `Memtable` until they are on disk. It is merged into the reader's answers, so
that nobody waits for the disk to see a commit.

A batch that could not be written is kept and handed over again, as often as it takes. It is the ledger's
actor that decides when; the order never changes, and nothing is left out.
"""

from collections import deque
from collections.abc import Callable, Iterable

from msgspec import Struct

from ....persistence.queries import FindAgents, ListAgents, Query
from ....persistence.records import AddAgent, AddEvent, EraseAgent, Record
from ....persistence.rows import AgentRow, EventRow, Unfinished
from ....types import Address, AgentId, Durability, RequestId, RunId
from ...effects import Effect, Send
from ...events.protocol import Publish
from ...storage.protocol import Answer, WriteBatch
from .commits import Commit, NewEvent
from .memtable import EntryContent, Memtable, PageOfAgents
from .questions import OpenQuestion, OpenQuestions, answer_to
from .write_backlog import Size, WriteBacklog

__all__ = [
    "MOST_LAZY",
    "RECORDS_IN_BATCH",
    "CommitLog",
    "PageOfAgents",
    "Publish",
    "first_seq",
]

RECORDS_IN_BATCH = 2_000
"""In one batch. The first commit of a batch waits for its last, and its news holds the loop for 5 ms."""

MOST_LAZY = 64
"""Commits that wait for company, and so for ever if none comes."""


def first_seq(unfinished: Unfinished) -> int:
    """The number of the first event of an opening.

    Numbers that were told and never written are not used again, not even after several crashes.
    """
    return unfinished.next_seq + MOST_LAZY * (unfinished.epoch - 1)


class _LogEntry(Struct):
    """A commit. The collector looks at it only if it has news: there may be many."""

    number: int
    said: EntryContent
    told: bool  # of its events
    then: list[Send] | tuple[()]
    level: Durability
    sync: bool
    upto: Size  # of all commits up to and with this one


class CommitLog:
    """Commits in, batches and news out; questions in, answers as of the last commit out."""

    def __init__(self, *, durability: Durability, next_seq: int) -> None:
        self.durability = durability
        self.commits = 0  # but lazy ones
        self.debt = WriteBacklog()
        self._next_seq = next_seq
        self._last = 0  # the number of the last entry
        self.sent = 0  # The number of the last entry handed to the writer.
        self._written = 0  # The number of the last entry on disk.
        self._flushed = -1  # The number of the last entry that survives a power cut.
        self.urgent = 0  # The number of the last entry that is not lazy.
        self._entries: deque[_LogEntry] = deque()  # not yet on disk, one for each number after `_written`
        self._unsent: deque[_LogEntry] = deque()
        self._overlay = Memtable()
        self.questions = OpenQuestions(self._overlay)
        # Requests that wait for the durability of what others did.
        self._after_durable: dict[RequestId, _LogEntry] = {}
        self._paused = False
        self._taken = 0  # entries in the batch under way
        self._portion = RECORDS_IN_BATCH  # entries in a batch; fewer when one of them is at fault
        self._syncs = False  # the batch under way is flushed
        self._probing = False  # the batch under way has nothing in it
        self.broken: object = None  # the request whose answer could not be handled, after a bug

    # Commits

    @property
    def unwritten(self) -> int:
        """How many commits are not on disk yet, but for lazy ones that nothing urgent came after."""
        return max(0, self.urgent - self._written)

    @property
    def last(self) -> int:
        """The number of the last commit."""
        return self._last

    def is_written(self, number: int) -> bool:
        """Whether the commit of this number, and all before it, are on disk."""
        return number <= self._written

    def level_of(self, number: int) -> Durability:
        """The durability that this commit's news wait for; the commit log's own if it is on disk."""
        return self.durability if number <= self._written else self._entry(number).level

    @property
    def asking(self) -> bool:
        """Whether the reader has not answered all that it was asked."""
        return bool(self.questions.open)

    def unwritten_of(self, agent_id: AgentId) -> bool:
        """Whether something of this agent is on its way to the disk."""
        numbers = self._overlay.numbers_of_agent(agent_id)
        return next((number > self._written for number in numbers if number <= self.urgent), False)

    def commit(self, commit: Commit) -> list[Effect]:
        """Take `commit` down after all before it; what it lets go comes back now or with `written`."""
        level = commit.durability
        if not commit.records and not commit.facts:
            effects: list[Effect] = []
            for news in commit.then:
                effects += self.tell(self.urgent, level, news)
            return effects
        records = tuple([self._placed(record) for record in commit.records])
        events = tuple([self._number(fact) for fact in commit.facts])
        entry = self._append(records, events, level)
        self._overlay.lay(entry.number, records, events)
        if not commit.lazy:
            self.urgent = self._last
            self.commits += 1
        elif self._last - self.urgent >= MOST_LAZY:
            self.urgent = self._last
        effects = []
        if events and (self.durability == "memory" or self.urgent <= self._written):
            entry.told = True
            effects.append(Send("events", Publish(events)))
        if level == "memory":
            effects.extend(commit.then)
        elif commit.then:
            entry.then = list(commit.then)
        return effects

    def tell(self, number: int, level: Durability, news: Send) -> list[Effect]:
        """Send `news` once the commit of this number is as durable as `level`: now, or with `written`."""
        if level == "memory":
            return [news]
        flush = level == "power" and self.durability != "power"
        if number <= self._written and not (flush and self._flushed < self._written):
            return [news]
        if number > self._written and (not flush or self._entry(number).sync or number > self.sent):
            entry = self._entry(number)
            entry.sync = entry.sync or flush
            self.urgent = max(self.urgent, number)
        else:
            entry = self._append((), (), level)  # it is or will be written, and needs a flush behind it
            self.urgent = self._last
        if isinstance(entry.then, list):
            entry.then.append(news)
        else:
            entry.then = [news]
        self._after_durable[getattr(news.message, "request", None)] = entry
        return []

    def forget(self, request: RequestId) -> None:
        """Nobody waits any more for the news of this request, which `tell` was to send."""
        entry = self._after_durable.pop(request, None)
        if entry is not None:
            entry.then = [send for send in entry.then if getattr(send.message, "request", None) != request]

    def give_up_waiting(self, news: tuple[type, ...]) -> list[Send]:
        """Take away what callers outside of turns wait for, of these types: the disk may never do it."""
        given_up: list[Send] = []
        for entry in self._entries:
            kept: list[Send] = []
            for send in entry.then:
                request = getattr(send.message, "request", None)
                outside = type(send.message) in news and not isinstance(request, tuple)
                (given_up if outside else kept).append(send)
                if outside:
                    self._after_durable.pop(request, None)
            entry.then = kept
        return given_up

    def call_off(self, number: int, news: Send) -> None:
        """Do not send this news of a commit that is not on disk."""
        entry = self._entry(number)
        entry.then = [send for send in entry.then if send is not news]

    def _append(
        self, records: tuple[Record, ...], events: tuple[EventRow, ...], level: Durability
    ) -> _LogEntry:
        self._last += 1
        size = self.debt.grow(records, events)
        said = EntryContent(records + tuple(map(AddEvent, events)), events)
        entry = _LogEntry(self._last, said, not events, (), level, level == "power", size)
        self._entries.append(entry)
        self._unsent.append(entry)
        return entry

    def _entry(self, number: int) -> _LogEntry:
        return self._entries[number - self._written - 1]

    def _number(self, fact: NewEvent) -> EventRow:
        seq = self._next_seq
        self._next_seq += 1
        return EventRow(seq, fact.at, fact.type, fact.path, fact.run_id, fact.data)

    def _placed(self, record: Record) -> Record:
        """Have the record of an agent's beginning or end say where that is among the events."""
        kind = type(record)
        if kind is AddAgent:
            return AddAgent(record.row, self._next_seq)  # type: ignore[union-attr,arg-type]
        if kind is EraseAgent:
            return EraseAgent(record.agent_id, record.path, self._next_seq)  # type: ignore[union-attr]
        return record

    def accepted_by(self, run_id: RunId) -> int:
        """The number of the commit that accepted this run; 0 if it is long on disk."""
        return self._overlay.accepted_by(run_id)

    def ended_by(self, run_id: RunId) -> int:
        """The number of the commit that ended this run; 0 if it is long on disk, or has not ended."""
        return self._overlay.ended_by(run_id)

    # Batches

    def flush(self) -> None:
        """Have lazy commits written as well."""
        self.urgent = self._last

    def take_batch(self) -> list[Effect]:
        """The next batch for the writer, if it is free and there is one."""
        if self.sent > self._written or self.urgent <= self.sent or self._paused or self._probing:
            return []
        records: list[Record] = []
        self._syncs, self._taken = False, 0
        while self._unsent and len(records) < RECORDS_IN_BATCH and self._taken < self._portion:
            entry = self._unsent.popleft()
            records.extend(entry.said.records)
            self._syncs = self._syncs or entry.sync
            self.sent = entry.number
            self._taken += 1
        return [Send("writer", WriteBatch(self.sent, tuple(records), self._syncs))]

    def written(self, number: int) -> list[Effect]:
        """The batch up to `number` is on disk: let its news go, hand over the next one."""
        self._probing = False
        self._written = number
        if self._syncs or self.durability == "power":
            self._flushed = number
        self._portion = min(RECORDS_IN_BATCH, 2 * self._portion)
        events: list[EventRow] = []
        effects: list[Effect] = []
        entries, upto = self._entries, None
        while entries and entries[0].number <= number:
            entry = entries.popleft()
            if not entry.told:
                events.extend(entry.said.events)
            effects.extend(entry.then)
            upto = entry.upto
            if self._after_durable:
                for send in entry.then:
                    self._after_durable.pop(getattr(send.message, "request", None), None)
        if upto is not None:
            self.debt.paid(upto)
        if self.urgent <= number:
            events.extend(self._told_before_they_are_written())
        if events:
            effects.insert(0, Send("events", Publish(tuple(events))))
        self._release()
        return effects + self.take_batch()

    def _told_before_they_are_written(self) -> Iterable[EventRow]:
        """The events of lazy commits, when all before them is on disk: nobody builds on them."""
        for entry in self._entries:
            if not entry.told:
                yield from entry.said.events
                entry.told = True

    def rejected(self) -> None:
        """The last batch was not written: keep all of it, and hand nothing over until `resume`."""
        self._paused, self._probing = True, False
        self._unsent = deque(self._entries)
        self.sent = self._written

    def resume(self) -> list[Effect]:
        """Go on handing over batches."""
        self._paused = False
        return self.take_batch()

    def probe(self) -> list[Effect]:
        """Have the writer write, though there is nothing to write; not while a batch is under way."""
        if self.sent > self._written or self._paused or self._probing:
            return []
        self._probing, self._syncs = True, False
        return [Send("writer", WriteBatch(self._written, ()))]

    def narrow_down(self) -> tuple[Record, ...] | None:
        """One record of the last batch is at fault: halve the next one, until the commit with it is alone.

        That commit's records then; all before it is on disk by that time, and nothing after it.
        """
        self.rejected()
        if self._taken <= 1:
            return self._entries[0].said.records
        self._portion = self._taken // 2
        self._paused = False
        return None

    @property
    def oldest(self) -> tuple[Record, ...]:
        """The records of the oldest commit that is not on disk."""
        return self._entries[0].said.records

    def withdraw(
        self, about: Callable[[Record], bool], news_of_it: Callable[[Send], bool]
    ) -> list[Send] | None:
        """Take back the oldest commit that is not on disk, and from later ones what is `about` the same.

        Returns the news that nobody is to hear now; of a later commit, only if all of it goes. None, and
        nothing has changed, if somebody was told of any of it. The numbers of what goes stay used.
        """
        first = self._entries[0]
        later = [entry for entry in list(self._entries)[1:] if any(map(about, entry.said.records))]
        if any(_was_told(entry) for entry in (first, *later)):
            return None
        withdrawn: list[Send] = []
        for entry in (first, *later):
            kept = () if entry is first else tuple([one for one in entry.said.records if not about(one)])
            if not kept:
                withdrawn += filter(news_of_it, entry.then)
                entry.then = [send for send in entry.then if not news_of_it(send)]
            entry.said = EntryContent(kept, tuple([one.row for one in kept if type(one) is AddEvent]))
        for send in withdrawn:
            self._after_durable.pop(getattr(send.message, "request", None), None)
        self._overlay.relay({entry.number: entry.said for entry in (first, *later)})
        return withdrawn

    # Questions

    def ask(
        self,
        request: RequestId,
        reply_to: Address | Callable[[Answer], Iterable[Effect]],
        query: Query,
        *,
        asked: object = None,
    ) -> list[Effect]:
        """Answer `query`, at once if the memtable alone can. `asked`: the request that this is for."""
        known = self._overlay.known(query)
        if known is not None:
            return answer_to(reply_to, Answer(request, known))
        lately = self._overlay.lately_closed(query) if type(query) is ListAgents and query.closed else ()
        if lately:
            # the reader does not know yet that these belong to the answer: have their rows first

            def then_list(answer: Answer) -> Iterable[Effect]:
                if answer.error is not None:
                    return answer_to(reply_to, Answer(request, None, answer.error))
                rows: tuple[AgentRow, ...] = answer.value  # type: ignore[assignment]
                return self.questions.read(
                    OpenQuestion(request, reply_to, query, self._written, rows, asked=asked)
                )

            return self.questions.read(
                OpenQuestion(request, then_list, FindAgents(lately), self._written, asked=asked)
            )
        return self.questions.read(OpenQuestion(request, reply_to, query, self._written, asked=asked))

    def answered(self, answer: Answer) -> list[Effect]:
        """The reader found this: merge what is not on disk into it, and pass it on."""
        self.broken = None
        question = self.questions.over(answer)
        if question is None:
            return self.questions.again_later(answer)
        value = answer.value
        if answer.error is None:
            value = self._overlay.merge(question.query, value, question.also)
        self.broken = question.asked
        effects = answer_to(question.reply_to, Answer(question.request, value, answer.error))
        self._release()
        return effects

    def _release(self) -> None:
        """Let go of what is on disk, and was when the oldest open question was asked.

        A question asked earlier may be answered from before that.
        """
        self._overlay.lift(self.questions.floor(self._written))


def _was_told(entry: _LogEntry) -> bool:
    """Whether somebody may have heard of a commit that is not on disk."""
    return entry.level == "memory" or (entry.told and bool(entry.said.events))
