"""A store, or a part of it, written as a document: as of one moment, and without a change to the store.

Memory does not grow with the store. Every value's seal is checked on the way; one that was altered is not
carried on.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from ...errors import SnapshotTampered, StoreCorrupt, StoreError
from ...run_ids import stem_of
from ...types import Payload, RunId
from .. import safe_unpickle, value_errors
from ..doctor.inspection import Inspection, Progress, inspecting
from ..keys import ColumnPlace, Signer, read_key, signed_columns_of
from ..lease import NUMBERS_GONE
from .document import (
    VERSION,
    AgentRecord,
    End,
    Header,
    Line,
    MessageRecord,
    RunRecord,
    Sealing,
    StateValue,
    StoredValue,
    fingerprint,
)

LARGEST_VIEW = 64 * 1024
"""Bytes of a value up to which the document also says what they mean."""

_WITHIN = "(?1 = '/' OR path = ?1 OR (path > ?1 || '/' AND path < ?1 || '0'))"  # '0' comes right after '/'
_AGENTS = f"""
    SELECT a.agent_id, path, kind, a.version, status, error, incarnation, origin, created_at, updated_at,
           started_by, stateful, config, s.codec, s.version, s.data
    FROM agents AS a LEFT JOIN snapshots AS s USING (agent_id) WHERE {_WITHIN} ORDER BY a.agent_id
"""
_RUNS = f"""
    SELECT serial, run_id, r.agent_id, accepted_at, r.status, attempt, awaits, r.error, started_at,
           ended_at, error_type, cuts, crashes, ran, r.started_by, r.stem, r.divided_at,
           input, result, path
    FROM runs AS r JOIN agents AS a USING (agent_id)
    WHERE {_WITHIN} AND (a.last_run_id IS r.run_id) = ?2 ORDER BY serial
"""
_MESSAGES = f"""
    SELECT serial, i.agent_id, sender, at, sender_id, body, path
    FROM inbox AS i JOIN agents AS a USING (agent_id) WHERE {_WITHIN} ORDER BY serial
"""


class Exported(Struct, frozen=True):
    """How much was exported. `outside` are runs that are waited for and not in the document."""

    agents: int
    runs: int
    messages: int
    outside: int


def export(
    store: str,
    out: BinaryIO,
    *,
    under: str = "/",
    key: bytes | None = None,
    progress: Progress = lambda _: None,
) -> Exported:
    """Write the agents at or below `under` to `out`, sealed with `key`, or with the store's own.

    A live owner goes on with its work meanwhile. Raises a `StoreError`, `SnapshotTampered`, `OSError`.
    """
    own = _key_of(store)
    sealing = Sealing(own if key is None else key)
    with (
        inspecting(store, now=time.time(), quick=True, progress=progress) as inspection,
        inspection.one_moment(),
    ):
        exporter = _Exporter(inspection, Signer(own), under)
        out.write(sealing.seal(exporter.header(fingerprint(own if key is None else key))))
        for line in exporter.lines():
            out.write(sealing.seal(line))
        return exporter.exported()


def _key_of(store: str) -> bytes:
    try:
        return read_key(store)
    except FileNotFoundError:
        if not Path(store).exists():
            raise StoreError(store, "there is no such file.") from None
        problem = "it has no key file, so it cannot be told whether what it holds is genuine. Put it back."
        raise StoreError(store, problem) from None


class _Exporter:
    def __init__(self, inspection: Inspection, sealer: Signer, under: str) -> None:
        self._inspection, self._sealer, self._under = inspection, sealer, under
        self._places = signed_columns_of(inspection.version)
        self._awaited: set[RunId] = set()
        self._nonce = ""
        self._agents = self._runs = self._messages = 0

    def header(self, key: str) -> Header:
        numbers = self._inspection.row("SELECT epoch, nonce FROM meta")
        if not numbers:
            raise StoreCorrupt(self._inspection.store, NUMBERS_GONE)
        epoch, nonce = numbers
        self._nonce = nonce or ""
        return Header(VERSION, epoch, key, self._under, self._inspection.now, version("greenroom"))

    def lines(self) -> Iterator[Line]:
        for line in self._agent_lines():
            self._agents += 1
            yield line
        for last in (False, True):
            for run in self._run_lines(last=last):
                self._runs += 1
                self._awaited.update(run.awaits if run.status == "accepted" else ())
                yield run
        for message in self._message_lines():
            self._messages += 1
            yield message
        yield End(self._agents, self._runs, self._messages)

    def exported(self) -> Exported:
        """How much it was."""
        outside = sum(not self._has(run_id) for run_id in self._awaited)
        return Exported(self._agents, self._runs, self._messages, outside)

    def _has(self, run_id: RunId) -> bool:
        statement = f"SELECT 1 FROM runs JOIN agents USING (agent_id) WHERE {_WITHIN} AND run_id = ?2"
        return bool(self._inspection.row(statement, self._under, run_id))

    def _agent_lines(self) -> Iterator[AgentRecord]:
        rows = self._inspection.ticking("agents", self._inspection.rows(_AGENTS, self._under))
        for row in rows:
            *fields, started_by, stateful, config, tag, kind_version, sealed = row
            agent_id, path, kind, own_version, origin = *fields[:4], fields[7]
            state = None
            if tag is not None:
                data = self._sealer.open(sealed, self._places.state(agent_id, tag, kind_version), path)
                encoded = StoredValue.of(data, _view(data, partial(safe_unpickle.read_state, tag=tag)))
                state = StateValue(tag, kind_version, encoded.data, encoded.view)
            place = self._places.config(agent_id, path, kind, own_version, origin, started_by)
            value = self._value(config, place, path)
            yield AgentRecord(*(*fields, bool(stateful), value, state, started_by))

    def _run_lines(self, *, last: bool) -> Iterator[RunRecord]:
        rows = self._inspection.ticking("runs", self._inspection.rows(_RUNS, self._under, last))
        for (
            *fields,
            error_type,
            cuts,
            crashes,
            ran,
            started_by,
            stem,
            divided_at,
            given,
            result,
            path,
        ) in rows:
            serial, run_id, agent_id, accepted_at, status, _, awaits, *_ = fields
            place = self._places.input(
                run_id, serial, agent_id, path, accepted_at, awaits, started_by, stem
            )
            value = self._value(given, place, path)
            place = self._places.result(run_id, agent_id, status)
            returned = None if result is None else self._value(result, place, path)
            if status == "accepted" and self._nonce:  # a turn may begin again under another serial
                stem = stem or stem_of(self._nonce, serial, accepted_at)
            fields[6] = self._awaits(awaits, run_id)
            since_3 = (error_type, cuts, crashes, ran, started_by, stem, divided_at)
            yield RunRecord(*(*fields, last, value, returned, *since_3))

    def _message_lines(self) -> Iterator[MessageRecord]:
        rows = self._inspection.ticking("messages", self._inspection.rows(_MESSAGES, self._under))
        for serial, agent_id, sender, at, sender_id, body, path in rows:
            value = self._value(body, self._places.body(serial, agent_id, sender, sender_id), path)
            yield MessageRecord(serial, agent_id, sender, at, value)

    def _value(self, sealed: object, place: ColumnPlace, path: str) -> StoredValue:
        data: Payload = self._sealer.open(sealed, place, path)
        return StoredValue.of(data, _view(data, safe_unpickle.read_value))

    def _awaits(self, listed: str | None, run_id: RunId) -> tuple[RunId, ...]:
        try:
            return msgspec.json.decode(listed, type=tuple[RunId, ...]) if listed else ()
        except msgspec.MsgspecError as error:
            problem = f"what run {run_id} waits for cannot be read. See `greenroom doctor`."
            raise StoreCorrupt(self._inspection.store, problem) from error


def _view(data: bytes, read: Callable[[bytes], Any]) -> object:
    """The value of the bytes, if it is plain, short and not None."""
    if len(data) > LARGEST_VIEW:
        return None
    try:
        value = read(data)
        msgspec.json.encode(value)
    except (
        value_errors.Unreadable,
        SnapshotTampered,
        TypeError,
        ValueError,
        RecursionError,
        OverflowError,
    ):
        return None
    return value
