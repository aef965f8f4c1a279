"""What a worker asked, was answered and was told, in files that outlive it.

Every line is one `write` of a whole line to a file opened for appending, so a killed worker loses none
that it wrote: what the kernel has taken is safe from the death of a process. Used by the worker, which
is a program of its own, and by the test that kills it.
"""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

Do: TypeAlias = Literal["spawn", "run", "send", "interrupt", "close", "delete", "evict"]


class Asks(Struct, frozen=True, tag=True, tag_field="line", omit_defaults=True):
    """About to be asked. `q` names the request; asked again after a kill it has the same one."""

    q: str
    do: Do
    path: str
    kind: str | None = None
    run_id: str | None = None
    input: Any = None
    body: str | None = None
    size: int = 0  # of the body, which is filled up with blanks
    cascade: bool = False


class Answered(Struct, frozen=True, tag=True, tag_field="line", omit_defaults=True):
    """The answer: a value, or the name of the error. `at` in seconds since the epoch."""

    q: str
    at: float
    value: Any = None
    error: str | None = None


class Doubted(Struct, frozen=True, tag=True, tag_field="line"):
    """The answer was that the store cannot be written: it may have been accepted, and is asked again."""

    q: str


class Told(Struct, frozen=True, tag=True, tag_field="line"):
    """An outcome, as somebody who waited for the run was told it."""

    run_id: str
    status: str
    result: Any
    error: str | None
    attempt: int


class Heard(Struct, frozen=True, tag=True, tag_field="line"):
    """An event, as a follower was told it."""

    seq: int
    type: str
    path: str
    run_id: str | None


class Odd(Struct, frozen=True, tag=True, tag_field="line"):
    """Something that must not happen, as the worker saw it."""

    who: str
    text: str


Line: TypeAlias = Asks | Answered | Doubted | Told | Heard | Odd

ASKED, NEWS, BEGUN = "asked.log", "news.log", "begun.log"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Log:
    """A file that lines are appended to, by any thread."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            self.write(b"")  # the last worker died in its last line

    def note(self, line: Line) -> None:
        self.write(_encode(line))

    def write(self, line: bytes) -> None:
        os.write(self._file, line + b"\n")


def lines(path: Path, *, last: int | None = None) -> Iterable[Line]:
    """The lines of a log, or of its `last` bytes, without those that a death cut short."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - last) if last else 0)
        text = file.read()
    for line in text.split(b"\n"):
        try:
            yield _decode(line)
        except msgspec.DecodeError:
            continue


# Read again


class Request(Struct):
    """What was asked once, perhaps over several lives. `asked` and `answered` number the log's lines."""

    ask: Asks
    asked: int
    answered: int | None = None
    at: float = 0.0
    value: Any = None
    fate: str = "perhaps"  # "done", "refused"


class Record(Struct):
    """All that was asked and told, outside of the store."""

    requests: dict[str, Request]
    told: list[Told]
    heard: list[Heard]
    odd: list[Odd]
    begun: Counter[str]
    doubted: int  # answers that the store cannot be written


def read_record(folder: Path) -> Record:
    requests: dict[str, Request] = {}
    doubted = 0
    for number, line in enumerate(lines(folder / ASKED)):
        if isinstance(line, Asks):
            requests[line.q] = Request(line, number)
        elif isinstance(line, Answered):
            request = requests[line.q]
            request.answered, request.at, request.value = number, line.at, line.value
            request.fate = "refused" if line.error else "done"
        elif isinstance(line, Doubted):
            doubted += 1
    news = list(lines(folder / NEWS))
    begun = (folder / BEGUN).read_bytes().split(b"\n") if (folder / BEGUN).exists() else []
    return Record(
        requests,
        [line for line in news if isinstance(line, Told)],
        [line for line in news if isinstance(line, Heard)],
        [line for line in news if isinstance(line, Odd)],
        Counter(line.rpartition(b" ")[0].decode() for line in begun if b" " in line),
        doubted,
    )
