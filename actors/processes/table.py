"""The table of processes: what each one is about to do, and what has to happen before it may.

Owns the records that earlier openings left, and every process of this opening until nothing of it is left
and its record is gone. Executes nothing: what is to be done comes out as effects.

    queued     waits for a place, or until what a dead owner left of its agent is gone
    forking    the reaper was asked for it
    recording  it waits at its gate, its record is being written
    opening    its gate is open, its program is not executed yet
    running    it is
    ending     it was told to end, or has ended and left something behind
    dropping   nothing of it is left, its record is being removed
"""

import signal
from collections.abc import Iterable

from ...errors import GreenroomError, ProcessFailed, RuntimeClosing
from ...persistence.lease_rules import LEASE_SECONDS, Instant, Owner, Process
from ...persistence.processes import OrphanRecord, ProcessRow
from ...types import Address, AgentId, Incarnation, Seconds, Timestamp
from ..effects import Send, StartTimer
from ..storage.protocol import ProcessesKept
from . import orphan_records
from .entry import START_TIMEOUT_SECONDS, Effects, EndDeadline, ProcessEntry, Say
from .permits import Permits
from .protocol import (
    AllProcessesEnded,
    CloseStreams,
    ConfigureProcesses,
    Deed,
    DescribePermits,
    DismissReaper,
    EndOrphans,
    EndProcess,
    Failed,
    Forked,
    ForkProcess,
    Key,
    LiftStartBarrier,
    NotSignalled,
    PermitsReport,
    PermitWanted,
    ProcessExited,
    ProcessGone,
    ProcessRefused,
    ProcessStarted,
    ReaperLost,
    SetProcessIdle,
    SignalProcess,
    StartProcess,
)
from .records import Records

END_GRACE_SECONDS: Seconds = 2.0
"""From SIGTERM to SIGKILL."""

MOST_HOLDERS_NAMED = 100
"""Holders of places that a report names."""


class ProcessTable:
    """Commands and news in, effects out. `now` is an argument where a record needs it."""

    def __init__(self) -> None:
        self.entries: dict[int, ProcessEntry] = {}
        self._by_key: dict[Key, ProcessEntry] = {}
        self._places: dict[str, Permits] = {}
        self.left: dict[int, OrphanRecord] = {}  # of dead owners, until they are gone
        self.spared: dict[int, OrphanRecord] = {}  # of live ones
        self.erased: set[int] = set()  # of `_left`: whoever owns them, as their agents were deleted
        self.records = Records()
        self.looks = 0
        self.looking = False
        self._closing: Address = None  # who wants to know when all have ended
        self._closed = False
        self._next = 1

    def configure(self, told: ConfigureProcesses, me: Process, token: str, file: str) -> Effects:
        """Begin with what earlier openings left. `file`: which one the store is."""
        self._epoch, self._me, self._token, self._file = told.epoch, me, token, file
        self.left = {row.number: row for row in told.left}
        self._next = max(self.left, default=0) + 1
        return orphan_records.look_at_left(self)

    # Starting

    def start(self, ask: StartProcess, now: Timestamp) -> Effects:
        error = RuntimeClosing() if self._closing is not None else self.records.lost
        if error is not None:
            return [CloseStreams(ask.streams), Send(ask.reply_to, ProcessRefused(ask.request, error))]
        places = self.places_of(ask)
        entry = ProcessEntry(self._next, ask, now)
        haunted = any(row.agent_id == entry.agent_id for row in self.left.values())
        if not ask.wait and (haunted or not places.free):
            full = ProcessFailed(ask.path, f"all {ask.places} places for processes of {ask.kind} are taken")
            refused = ProcessRefused(ask.request, full, full=True)
            return [CloseStreams(ask.streams), Send(ask.reply_to, refused)]
        self._next += 1
        self.entries[entry.number] = self._by_key[ask.request] = entry
        if haunted:  # it would work beside its own past
            return []
        return self.queue(entry)

    def places_of(self, ask: StartProcess) -> Permits:
        places = self._places.setdefault(ask.kind, Permits())
        places.limit = ask.places
        return places

    def queue(self, entry: ProcessEntry) -> Effects:
        places = self.places_of(entry.ask)
        if places.free:
            places.take(entry.number)
            return [self._fork(entry)]
        places.wait(entry.number)
        return self._ask_for_places(places)

    def _fork(self, entry: ProcessEntry) -> Deed:
        entry.stage = "forking"
        mark = f"{self._token}.{entry.number}"
        return ForkProcess(entry.number, mark, entry.ask.program, entry.ask.streams)

    def _ask_for_places(self, places: Permits) -> Effects:
        asked = (self.entries[number].ask for number in places.wanted())
        return [Send(ask.reply_to, PermitWanted(ask.request)) for ask in asked]

    def describe(self, ask: DescribePermits) -> Effects:
        """The holders of the permits that an agent waits for, and how many agents come before it."""
        mine = (entry for entry in self.entries.values() if entry.agent_id == ask.agent_id)
        entry = next((entry for entry in mine if entry.stage == "queued"), None)
        if entry is None:
            return [Send(ask.reply_to, PermitsReport(ask.request))]
        places = self.places_of(entry.ask)
        if entry.number not in places.waiting:
            return [Send(ask.reply_to, PermitsReport(ask.request, since=entry.since, haunted=True))]
        holders = [self.entries[number].ask.path for number in sorted(places.holders)[:MOST_HOLDERS_NAMED]]
        place = places.waiting.index(entry.number)
        report = PermitsReport(ask.request, places.limit, place, entry.since, tuple(holders))
        return [Send(ask.reply_to, report)]

    def rest(self, told: SetProcessIdle) -> Effects:
        entry = self._by_key.get(told.request)
        if entry is None or entry.stage != "running":
            return []
        places = self.places_of(entry.ask)
        places.rests(entry.number, idle=told.idle)
        return self._ask_for_places(places)

    def forked(self, news: Forked, now: Instant) -> Effects:
        entry = self.entries[news.number]
        ask, me = entry.ask, self._me
        entry.row = ProcessRow(
            entry.number,
            entry.agent_id,
            ask.request[1],
            ask.path,
            ask.kind,
            Process(me.host, me.boot_id, me.pid_namespace, news.pid, news.started),
            Owner(me, self._epoch, LEASE_SECONDS, now, False),
            self._token,
            self._file,
        )
        if entry.stage == "ending":  # meanwhile nobody wants it any more; it has done nothing
            return self._signal(entry, signal.SIGKILL)
        entry.stage = "recording"
        self.records.add(entry.row)
        return self.write()

    def running(self, number: int) -> Effects:
        entry = self.entries.get(number)
        if entry is None or entry.stage != "opening" or entry.row is None:
            return []
        entry.stage, entry.told = "running", True
        return [Send(entry.ask.reply_to, ProcessStarted(entry.ask.request, entry.row.process.pid))]

    def failed(self, news: Failed) -> Effects:
        """`gone` follows if it was forked."""
        entry = self.entries.get(news.number)
        if entry is None:
            return []
        effects = self._refuse(entry, news.problem)
        if entry.row is None:
            return [*effects, *self.gone(entry.number)]
        entry.stage = "ending"
        return effects

    def _refuse(self, entry: ProcessEntry, problem: str | GreenroomError) -> Effects:
        if entry.told:
            return []
        entry.told = True
        ask = entry.ask
        error = ProcessFailed(ask.path, f"{problem}") if isinstance(problem, str) else problem
        return [Send(ask.reply_to, ProcessRefused(ask.request, error))]

    # Ending

    def end(self, ask: EndProcess) -> Effects:
        entry = self._by_key.get(ask.request)
        if entry is None or entry.stage == "dropping":
            return [Send(ask.reply_to, ProcessGone(ask.request))]
        entry.enders.append(ask.reply_to)
        entry.told = True  # whoever ends it needs no other answer
        return self._end(entry)

    def end_session(self, agent_id: AgentId, incarnation: Incarnation) -> Effects:
        mine = [entry for key, entry in self._by_key.items() if key[:2] == (agent_id, incarnation)]
        return [effect for entry in mine for effect in self._end(entry)]

    def end_erased(self, agent_ids: Iterable[AgentId]) -> Effects:
        ids = set(agent_ids)
        live = [entry for entry in self.entries.values() if entry.agent_id in ids]
        effects = [effect for entry in live for effect in self._end(entry)]
        known = (*self.left.values(), *self.spared.values())
        rows = tuple(row for row in known if row.agent_id in ids)
        for row in rows:
            self.spared.pop(row.number, None)
            self.left[row.number] = row
            self.erased.add(row.number)
        return [*effects, EndOrphans(rows, owned=True)] if rows else effects

    def _end(self, entry: ProcessEntry) -> Effects:
        places = self.places_of(entry.ask)
        match entry.stage:
            case "queued":
                places.leave(entry.number)
                return [CloseStreams(entry.ask.streams), *self.gone(entry.number)]
            case "forking":
                entry.stage = "ending"
                places.ends(entry.number)
                return []
            case "recording":  # it has done nothing that it would have to tidy up
                entry.stage = "ending"
                places.ends(entry.number)
                return self._signal(entry, signal.SIGKILL)
            case "opening" | "running":
                entry.stage = "ending"
                places.ends(entry.number)
                return self._signal(entry, signal.SIGTERM)
        return []

    def _signal(self, entry: ProcessEntry, number: int) -> Effects:
        entry.tries += 1
        after = min(END_GRACE_SECONDS * 2 ** (entry.tries - 1), START_TIMEOUT_SECONDS)
        return [
            SignalProcess(entry.number, number),
            StartTimer(after, EndDeadline(entry.number, entry.tries)),
        ]

    def time_is_up(self, late: EndDeadline) -> Effects:
        """Kill it; again and again, should that not help."""
        entry = self.entries.get(late.number)
        if entry is None or entry.stage != "ending" or entry.tries != late.tries or entry.row is None:
            return []
        effects = self._signal(entry, signal.SIGKILL)
        if entry.tries == 3:  # it was killed before
            pid, problem = entry.row.process.pid, entry.problem or "it does not go"
            said = f"process {pid} of {entry.ask.path} could not be ended: {problem}. It is tried again"
            effects.append(Say(said, grave=True))
        return effects

    def exited(self, number: int, code: int | None) -> Effects:
        """The leader has ended; what it started and left goes as well."""
        entry = self.entries.get(number)
        if entry is None or entry.over:
            return []
        entry.over = True
        if entry.stage == "running":
            effects: Effects = [Send(entry.ask.reply_to, ProcessExited(entry.ask.request, code))]
        else:
            effects = self._refuse(entry, "it ended before its program began")
        if entry.stage != "ending":
            entry.stage = "ending"
            self.places_of(entry.ask).ends(number)
            effects += self._signal(entry, signal.SIGTERM)
        return effects

    def stuck(self, news: NotSignalled) -> Effects:
        if news.number in self.entries:
            self.entries[news.number].problem = news.problem
        return []

    def gone(self, number: int) -> Effects:
        """Nothing is left: the place is free, and the record can go."""
        entry = self.entries.get(number)
        if entry is None or entry.stage == "dropping":
            return []
        effects = self._refuse(entry, "it ended before its program began") if entry.row else []
        effects += [Send(ender, ProcessGone(entry.ask.request)) for ender in entry.enders]
        entry.stage = "dropping"
        if entry.row is None or self.records.drop(number):
            self._forget(number)
        places = self.places_of(entry.ask)
        places.leave(number)
        effects += [self._fork(self.entries[admitted]) for admitted in places.admit()]
        if places.unused:
            del self._places[entry.ask.kind]
        return [*effects, *self.write(), *self.all_ended()]

    def _forget(self, number: int) -> None:
        entry = self.entries.pop(number, None)
        if entry is not None and self._by_key.get(entry.ask.request) is entry:
            del self._by_key[entry.ask.request]

    # Without a reaper

    def warden_lost(self, news: ReaperLost) -> Effects:
        """Its children died with it, where the system sees to that; make sure, by what is known of them."""
        effects: Effects = []
        rows: list[OrphanRecord] = []
        for entry in filter(None, map(self.entries.get, news.numbers)):
            if entry.stage == "dropping":
                continue
            if entry.row is None:
                effects += self._refuse(entry, "the process that starts processes has ended")
                effects += self.gone(entry.number)
            else:
                effects += self.exited(entry.number, None)
                rows.append(entry.row)
        effects = [effect for effect in effects if not isinstance(effect, SignalProcess)]
        effects.append(Say("the warden of processes has ended, and all programs with it", grave=True))
        if rows:
            effects.append(EndOrphans(tuple(rows), owned=True))
        return effects

    # The records

    def kept(self, news: ProcessesKept) -> Effects:
        added, dropped = self.records.kept(news)
        effects: Effects = []
        for entry in filter(None, map(self.entries.get, added)):
            if self.records.lost is not None:
                effects += [*self._refuse(entry, self.records.lost), *self._end(entry)]
            elif entry.stage == "recording":
                entry.stage = "opening"
                effects.append(LiftStartBarrier(entry.number))
        for number in dropped:
            self._forget(number)
        return [*effects, *self.records.patience(), *self.write(), *self.all_ended()]

    def write_again(self) -> Effects:
        return [*self.records.write_again()]

    def write(self) -> Effects:
        return [*self.records.write()]

    # The end

    def end_all(self, sender: Address) -> Effects:
        self._closing = sender
        effects: Effects = []
        for entry in list(self.entries.values()):
            if entry.stage == "queued":
                effects += self._refuse(entry, RuntimeClosing())
            effects += self._end(entry)
        return [*effects, *self.all_ended()]

    def all_ended(self) -> Effects:
        if self._closing is None or self._closed or self.entries or not self.records.settled:
            return []
        self._closed = True
        return [DismissReaper(self._closing, AllProcessesEnded(len(self.left)))]
