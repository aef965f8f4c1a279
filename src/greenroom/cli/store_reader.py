"""A store file as it is on disk: looked at without a trace, also while its owner is at work.

Nothing of the agents' code is executed, so values of their own classes are described by name. Facts that
only the owner's memory holds (residents, interrupts) are not known here.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ..actors.events.buffer import missed
from ..actors.models import Event, UnreadableValue
from ..errors import AgentNotFound, GreenroomError, RunNotFound, StoreCorrupt
from ..paths import check_path, check_under
from ..persistence import safe_unpickle, transient, value_errors
from ..persistence.doctor.inspection import Inspection, inspecting
from ..persistence.doctor.numbers import count, measure
from ..persistence.doctor.owner import look_for_owner
from ..persistence.keys import Signer, signed_columns_of
from ..persistence.queries import (
    EventPage,
    FindAgent,
    FindAgents,
    FindRuns,
    ListAgents,
    ListEvents,
    LoadAgent,
)
from ..persistence.reader import Reader, damaged
from ..persistence.rows import AgentImage, AgentRow, RunRow
from ..server.feed import Wanted
from ..stored_text import storable_text
from ..types import AgentId, Payload, RunId
from .answers import (
    AgentAnswer,
    AgentsAnswer,
    AgentSummary,
    LastRunAnswer,
    OutcomeAnswer,
    RunAnswer,
    StateAnswer,
    in_json,
)

AGENTS_IN_READ = 1000
"""Agents, or events, that are read at a time."""

BUSY, ONLY_LIVE = ("running", "queued"), ("starting", "waiting", "interrupting")

POLL = 0.5
"""Seconds between two looks for new events."""

T = TypeVar("T")


class StoreReader:
    """Reading, from the file itself. Each question is answered as of one moment."""

    def __init__(self, store: str) -> None:
        self._store = store

    def agents(self, under: str, *, status: str | None, after: str | None, limit: int) -> AgentsAnswer:
        check_under(under)
        if status in ONLY_LIVE:
            return AgentsAnswer([], None)  # only the owner's memory knows

        def look(view: "_StoreRows") -> AgentsAnswer:
            found: list[AgentSummary] = []
            at = after
            while len(found) <= limit:
                rows = view.busy(under, at) if status in BUSY else view.listed(under, at, status)
                found += [line for line in view.lines(rows) if status is None or line.status == status]
                if len(rows) < AGENTS_IN_READ:
                    break
                at = rows[-1].path
            more = len(found) > limit
            return AgentsAnswer(found[:limit], found[limit - 1].path if more else None)

        return self._ask(look)

    def agent(self, path: str) -> AgentAnswer:
        return self._ask(lambda view: view.agent(view.row(path)))

    def state(self, path: str) -> StateAnswer:
        return self._ask(lambda view: view.state(view.row(path)))

    def run(self, run_id: str) -> RunAnswer:
        return self._ask(lambda view: view.run(run_id))

    def stats(self) -> dict[str, Any]:
        return self._ask(lambda view: view.stats())

    def last_event(self) -> int:
        def look(view: "_StoreRows") -> int:
            found: int = view.inspection.row("SELECT coalesce(max(seq), 0) FROM events")[0]
            return found

        return self._ask(look)

    def events(self, under: str, *, types: Sequence[str], since: int, follow: bool) -> Iterator[Event]:
        check_under(under)
        wanted = Wanted(under, tuple(types))
        asked_for_all = since == 0
        while True:
            page = self._ask(partial(_StoreRows.events, under=under, since=since))
            if page.pruned > since and not asked_for_all:
                yield Event.of(missed(page.pruned, since, page.pruned, under=under, now=time.time()))
            asked_for_all = False
            for row in page.events:
                event = Event.of(row)
                if wanted.has(event):
                    yield event
            last = page.events[-1].seq if page.events else 0
            full = len(page.events) == AGENTS_IN_READ
            since = last if full else max(since, page.pruned, page.upto or 0, last)
            if not full and page.upto is None:
                if not follow:
                    return
                time.sleep(POLL)

    def _ask(self, look: Callable[["_StoreRows"], T]) -> T:
        def once() -> T:
            with _viewing(self._store) as view:
                return self._checked(look, view)

        return transient.look(self._store, once)

    def _checked(self, look: Callable[["_StoreRows"], T], view: "_StoreRows") -> T:
        """The row, if its values have the declared types: a damaged file may hold anything anywhere."""
        try:
            answer = look(view)
            kind = type(answer)
            if isinstance(answer, Struct):
                msgspec.convert(msgspec.to_builtins(answer, builtin_types=(bytes,)), kind)
            return answer
        except (TypeError, ValueError, AttributeError) as error:  # of which `ValidationError` is one
            if isinstance(error, GreenroomError):
                raise
            raise damaged(self._store, error) from error


@contextmanager
def _viewing(store: str) -> Iterator["_StoreRows"]:
    with inspecting(store, now=time.time(), quick=True, progress=lambda _: None) as inspection:
        if not inspection.version:
            raise StoreCorrupt(store, "it is no store, or nobody has written to it yet.")
        yield _StoreRows(inspection)


class _StoreRows:
    """One look at a store."""

    def __init__(self, inspection: Inspection) -> None:
        self.inspection = inspection
        # without the key nothing can be told to be genuine: with a key that nobody has, nothing is
        sealer = inspection.sealer or Signer(secrets.token_bytes(32))
        places = signed_columns_of(inspection.version)
        self._reader = Reader(inspection.store, inspection.connection, sealer, places=places)
        with inspection.one_moment():
            owner = look_for_owner(inspection.store, inspection.connection)
        self._owner = owner
        self._owned = owner is not None and owner.alive

    def listed(self, under: str, after: str | None, status: str | None) -> tuple[AgentRow, ...]:
        """The next page of agents."""
        query = ListAgents(under, after, AGENTS_IN_READ, closed=status == "closed")
        found: tuple[AgentRow, ...] = self._reader.read(query)  # type: ignore[assignment]
        return found

    def busy(self, under: str, after: str | None) -> tuple[AgentRow, ...]:
        """The next page of agents that have open runs: few among many."""
        ids = self.inspection.rows(
            "SELECT DISTINCT a.path, a.agent_id FROM runs AS r JOIN agents AS a USING (agent_id)"
            " WHERE r.status = 'accepted' AND a.path > ?1 AND (?2 = '/' OR a.path = ?2 OR"
            " (a.path > ?2 || '/' AND a.path < ?2 || '0')) ORDER BY a.path LIMIT ?3",
            after or "", under, AGENTS_IN_READ,
        )  # fmt: skip
        query = FindAgents(tuple(AgentId(agent_id) for _, agent_id in ids))
        found: tuple[AgentRow, ...] = self._reader.read(query)  # type: ignore[assignment]
        return found

    def row(self, path: str) -> AgentRow:
        row: AgentRow | None = self._reader.read(FindAgent(check_path(path)))  # type: ignore[assignment]
        if row is None:
            raise AgentNotFound(path)
        return row

    def lines(self, rows: Iterable[AgentRow]) -> list[AgentSummary]:
        rows = list(rows)
        work = self._work([row.agent_id for row in rows])
        return [self._line(row, *work.get(row.agent_id, (0, 0, 0))) for row in rows]

    def _work(self, agent_ids: Sequence[int]) -> dict[int, tuple[int, int, int]]:
        """Of agents with open runs: how many there are, have begun, and wait for others."""
        found = self.inspection.rows(
            "SELECT agent_id, count(*), sum(started_at IS NOT NULL), sum(awaits IS NOT NULL) FROM runs"
            " WHERE status = 'accepted' AND agent_id IN (SELECT value FROM json_each(?)) GROUP BY agent_id",
            msgspec.json.encode(agent_ids).decode(),
        )
        return {agent_id: (runs, begun, waiting) for agent_id, runs, begun, waiting in found}

    def _status(self, row: AgentRow, runs: int, begun: int, waiting: int) -> tuple[str, int]:
        """The agent's status, and how many runs wait. Turns of a dead owner will begin again."""
        if row.status == "closed":
            return "closed", 0
        if begun and self._owned:
            return "running", runs - begun
        if runs > waiting:
            return "queued", runs
        return row.status, runs

    def _line(self, row: AgentRow, runs: int, begun: int, waiting: int) -> AgentSummary:
        last = row.last
        status, queued = self._status(row, runs, begun, waiting)
        return AgentSummary(
            path=row.path,
            kind=row.kind,
            version=row.version,
            status=status,
            resident=None if self._owned else False,
            queued_runs=queued,
            inbox=len(row.unread),
            created_at=row.created_at,
            updated_at=row.updated_at,
            error=row.error,
            last_run=None
            if last is None
            else LastRunAnswer(last.run_id, last.status, last.error, _ended(last)),
        )

    def agent(self, row: AgentRow) -> AgentAnswer:
        (line,) = self.lines([row])
        config, described = in_json(_read(row.config), "/config")
        last = None
        if row.last is not None:
            result, there = in_json(_result(row.last), "/last_outcome/result")
            described += there
            last = OutcomeAnswer(
                status=row.last.status,
                result=result,
                error=row.last.error,
                run_id=row.last.run_id,
                path=row.path,
                started_at=row.last.started_at,
                ended_at=_ended(row.last),
                attempt=row.last.attempt,
                error_type=row.last.error_type,
            )
        return AgentAnswer(
            path=row.path,
            kind=row.kind,
            version=row.version,
            config=config,
            status=line.status,
            resident=line.resident,
            incarnation=row.incarnation,
            last_outcome=last,
            queued_runs=line.queued_runs,
            inbox=line.inbox,
            created_at=row.created_at,
            updated_at=row.updated_at,
            error=row.error,
            described=described,
        )

    def state(self, row: AgentRow) -> StateAnswer:
        """As it was stored: a kind's `migrate` is code. Raises `SnapshotTampered`, `SnapshotUnreadable`."""
        image: AgentImage | None = self._reader.read(LoadAgent(row.agent_id))  # type: ignore[assignment]
        if image is None:
            raise AgentNotFound(row.path)
        if image.snapshot is None:
            return StateAnswer(row.path, None)
        try:
            value: object = safe_unpickle.read_state(image.snapshot.data, image.snapshot.codec)
        except value_errors.Unreadable as error:
            value = UnreadableValue(str(error))
        state, described = in_json(value, "/state")
        return StateAnswer(row.path, state, described)

    def run(self, run_id: str) -> RunAnswer:
        found: tuple[RunRow | None] = self._reader.read(FindRuns((RunId(run_id),)))  # type: ignore[assignment]
        row = found[0]
        if row is None:
            raise RunNotFound(run_id)
        given, described = in_json(_read(row.input), "/input")
        result, there = in_json(_result(row), "/result")
        status = row.status
        if status == "accepted" and row.started_at is not None:
            status = "running" if self._owned else "queued"
        return RunAnswer(
            run_id=row.run_id,
            path=row.path,
            status=status,
            input=given,
            awaits=row.awaits,
            attempt=row.attempt,
            accepted_at=row.accepted_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            result=result,
            error=row.error,
            error_type=row.error_type,
            crashes=row.crashes,
            described=described + there,
        )

    def stats(self) -> dict[str, Any]:
        inspection = self.inspection
        with inspection.one_moment():
            counts, sizes = count(inspection), measure(inspection)
            begun = inspection.row(
                "SELECT count(*) FROM runs WHERE status = 'accepted' AND started_at IS NOT NULL"
            )[0]
        accepted = counts.runs.get("accepted", 0)
        running = begun if self._owned else 0
        owner = self._owner
        return {
            "agents": sum(number for status, number in counts.agents.items() if status != "closed"),
            "closed": counts.agents.get("closed", 0),
            "running": running,
            "queued": accepted - running,
            "runs": counts.runs,
            "inbox": counts.inbox,
            "events": counts.events,
            "last_event": counts.last_event or 0,
            "file_bytes": sizes.file,
            "log_bytes": sizes.wal,
            "owner": None if owner is None or not owner.alive else owner.said,
            "store": storable_text(inspection.store),
        }

    def events(self, under: str, since: int) -> EventPage:
        page: EventPage = self._reader.read(ListEvents(under, since, AGENTS_IN_READ))  # type: ignore[assignment]
        return page


def _ended(run: RunRow) -> float:
    return run.accepted_at if run.ended_at is None else run.ended_at


def _result(run: RunRow) -> object:
    return None if run.result is None else _read(run.result)


def _read(payload: Payload) -> object:
    """A value, or what stands for it if it cannot be read without the agents' code."""
    try:
        return safe_unpickle.read_value(payload)
    except Exception as error:  # altered, or not readable: one bad value blinds nobody
        return UnreadableValue(str(error))
