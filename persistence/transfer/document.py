"""The document: JSON objects, one a line, each sealed together with all lines before it.

    {"type": "greenroom-export", "version": 1, "epoch": …, "key": …, "under": …, "at": …}
    {"type": "agent", "agent_id": 1, "path": …, "config": {…}, "state": {…}, …}
    {"type": "run", "serial": 2, "agent_id": 1, "input": {…}, …}
    {"type": "message", "serial": 3, "agent_id": 1, "body": {…}, …}
    {"type": "end", "agents": 1, "runs": 1, "messages": 1}

Values of users travel as the bytes that are in the store (`data`), as a pickle can hold more than JSON.
Loading a pickle executes it. So every line carries a seal, a keyed digest of its own bytes and
of the seal before: no line can be changed, added, left out or moved, and the last one says that none is
missing. The key is the store's own or one made for the purpose; it is not in the document. Where a value
is plain data, `view` shows it to people and programs that read along; importing takes no notice of it.

Runs that are an agent's last outcome come after all others, so that one reading suffices to import.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from hmac import compare_digest
from typing import Annotated, Any, BinaryIO, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ...errors import GreenroomError
from ...types import AgentId, Incarnation, RunId, Timestamp

VERSION = 1
TYPE = "greenroom-export"

LONGEST_DOCUMENT_LINE = 1 << 30
"""Bytes. A value has at most 512 MiB, a third more in base64."""
LONGEST_HEADER = 64 << 10
"""Bytes of the first line, which is read before it is known what it is sealed with."""
PIECE = 1 << 20
"""Bytes of a line that are held before its seal is checked."""

_SEAL = b',"seal":"'
_HEX = 64
_TAIL = len(_SEAL) + _HEX + len(b'"}')


class DocumentRefused(GreenroomError):
    """A document that cannot be imported; nothing was."""

    def __init__(self, document: str, problem: str) -> None:
        super().__init__(document, problem)
        self.document, self.problem = document, problem

    def __str__(self) -> str:
        return f"{self.document}: {self.problem}. Nothing was imported."


class StoredValue(Struct, frozen=True, omit_defaults=True):
    """A user's value: `data` is its bytes as base64, `view` what they mean if that is plain data."""

    data: str
    view: Any = None

    @classmethod
    def of(cls, data: bytes, view: object = None) -> "StoredValue":
        return cls(b64encode(data).decode("ascii"), view)

    @property
    def payload(self) -> bytes:
        return b64decode(self.data, validate=True)


class StateValue(Struct, frozen=True, omit_defaults=True):
    """An agent's snapshot."""

    codec: str
    version: int
    data: str
    view: Any = None

    @property
    def payload(self) -> bytes:
        return b64decode(self.data, validate=True)


class Header(Struct, frozen=True, tag=TYPE, tag_field="type"):
    version: int
    epoch: Annotated[int, Meta(ge=0)]  # how often the store had been opened: its run ids hold it
    key: str  # the fingerprint of what it is sealed with
    under: str
    at: Timestamp
    greenroom: str


class AgentRecord(Struct, frozen=True, tag="agent", tag_field="type"):
    """An agent; `status` is what it is at rest. `stateful`: it had a state once."""

    agent_id: AgentId
    path: str
    kind: str
    version: int
    status: str
    error: str | None
    incarnation: Incarnation
    origin: RunId | None
    created_at: Timestamp
    updated_at: Timestamp
    stateful: bool
    config: StoredValue
    state: StateValue | None
    started_by: int | None = None  # the serial of the run whose turn spawned it


class RunRecord(Struct, frozen=True, tag="run", tag_field="type"):
    """A run; `last` if it is the last outcome of its agent.

    `stem` is what the ids of the runs that it started are derived from, if it may start more.
    """

    serial: int
    run_id: RunId
    agent_id: AgentId
    accepted_at: Timestamp
    status: str
    attempt: int
    awaits: tuple[RunId, ...]
    error: str | None
    started_at: Timestamp | None
    ended_at: Timestamp | None
    last: bool
    input: StoredValue
    result: StoredValue | None
    error_type: str | None = None
    cuts: int = 0
    crashes: int = 0
    ran: float | None = None
    started_by: int | None = None
    stem: str | None = None
    divided_at: int | None = None


class MessageRecord(Struct, frozen=True, tag="message", tag_field="type"):
    """An unread message."""

    serial: int
    agent_id: AgentId
    sender: str | None
    at: Timestamp
    body: StoredValue


class End(Struct, frozen=True, tag="end", tag_field="type"):
    """There were so many, and this is all."""

    agents: int
    runs: int
    messages: int


Content: TypeAlias = AgentRecord | RunRecord | MessageRecord
Line: TypeAlias = Header | Content | End

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Why a line is none of these."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


def _printable(body: bytes) -> bytes:
    """The same JSON in ASCII alone: a terminal takes some other characters for commands."""
    if body.isascii() and b"\x7f" not in body:  # what else is no text, JSON has escaped
        return body
    return re.sub(r"[^ -~]", lambda char: json.dumps(char[0])[1:-1], body.decode()).encode()


class Sealing:
    """The seals of one document, from line to line."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._last = b""

    def seal(self, line: Line) -> bytes:
        """The line with its seal and a line end."""
        body = _printable(_encode(line))
        return body[:-1] + _SEAL + self._next(body).encode() + b'"}\n'

    def open(self, sealed: bytes) -> bytes | None:
        """The line that was sealed, or None if it is not the one that comes next."""
        sealed = sealed.rstrip(b"\r\n")
        body, tail = sealed[:-_TAIL] + b"}", sealed[-_TAIL:]
        if not tail.startswith(_SEAL) or not tail.endswith(b'"}'):
            return None
        before = self._last
        given = tail[len(_SEAL) : -2]
        if compare_digest(self._next(body).encode(), given):
            return body
        self._last = before
        return None

    def is_next(self, pieces: Iterable[bytes]) -> bool:
        """Whether a line that comes in pieces is the one that comes next; it is held nowhere."""
        digest = self._digest()
        held = b""
        for piece in pieces:
            held += piece
            keep = _TAIL + len(b"\r\n")
            digest.update(held[:-keep])
            held = held[-keep:]
        held = held.rstrip(b"\r\n")
        digest.update(held[:-_TAIL] + b"}")
        return compare_digest(held[-_TAIL:], _SEAL + digest.hexdigest().encode() + b'"}')

    def _digest(self) -> blake2b:
        digest = blake2b(key=self._key, digest_size=_HEX // 2, person=b"greenroom export")
        digest.update(self._last)
        return digest

    def _next(self, body: bytes) -> str:
        digest = self._digest()
        digest.update(body)
        self._last = digest.digest()
        return digest.hexdigest()


def fingerprint(key: bytes) -> str:
    """Names a key, and tells nothing of it."""
    return blake2b(b"", key=key, digest_size=8, person=b"greenroom print").hexdigest()


def header_of(file: BinaryIO, document: str) -> Header:
    """The kind of the document, as it says. It is read from where `file` stands, and not verified."""
    try:
        line = _decode(file.readline(LONGEST_HEADER))
    except _UNREADABLE as error:
        raise DocumentRefused(document, "it is no export of greenroom") from error
    if not isinstance(line, Header):
        raise DocumentRefused(document, "it is no export of greenroom: the first line is missing")
    if line.version != VERSION:
        problem = f"it has version {line.version} of the format, this greenroom knows {VERSION}"
        raise DocumentRefused(document, problem)
    return line


def lines_of(file: BinaryIO, key: bytes, document: str) -> Iterator[Line]:
    """All lines, each genuine when it is handed out. Raises `DocumentRefused`, also without an end."""
    sealing = Sealing(key)
    ended = False
    for number, sealed in enumerate(iter(lambda: _read_line(file, sealing), b""), 1):
        if ended:
            raise DocumentRefused(document, f"there is something after its end, in line {number}")
        body = None if sealed is None else sealing.open(sealed)
        if body is None:
            raise DocumentRefused(document, f"line {number} was altered, or is not where it was")
        try:
            line: Line = _decode(body)
        except _UNREADABLE as error:
            raise DocumentRefused(document, f"line {number} cannot be read: {error}") from error
        if isinstance(line, Header) != (number == 1):
            raise DocumentRefused(document, f"line {number} is not where it belongs")
        ended = isinstance(line, End)
        yield line
    if not ended:
        raise DocumentRefused(document, "its end is missing")


def _read_line(file: BinaryIO, sealing: Sealing) -> bytes | None:
    """The next line; None instead of a long one that is not the line that comes next."""
    begin = file.tell()
    line = file.readline(PIECE)
    if len(line) < PIECE or line.endswith(b"\n"):
        return line
    file.seek(begin)
    if not sealing.is_next(_pieces(file)):
        return None
    file.seek(begin)
    return file.readline(LONGEST_DOCUMENT_LINE)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """The rest of the line, or as much of it as a line may have."""
    left = LONGEST_DOCUMENT_LINE
    while left and (piece := file.readline(min(PIECE, left))):
        yield piece
        left -= len(piece)
        if piece.endswith(b"\n"):
            return
