"""What a disk may hold after a power cut, from the log of what was done to it.

The model is as unkind as POSIX allows and SQLite claims to bear. Of a file, what was written before its
last fsync is there; of what was written since, each sector of 512 bytes is there or not, in any
combination, or holds garbage where it was being written; the same for its size. Of names, what was done
before the last fsync of the folder is there; of what was done since, any part. What a write does not
touch stays as it was ("powersafe overwrite").
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from random import Random
from typing import Literal

from msgspec import Struct

SECTOR = 512

Manner = Literal["killed", "lost", "prefix", "scattered", "garbage"]
"""How a cut leaves what was not synced: all of it there (the process alone died), nothing, what was done
up to some moment, some sectors here and there, or these with garbage in place of others."""


class Op(IntEnum):
    """As in shim.c."""

    OPEN = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    UNLINK = 5
    RENAME = 6
    LINK = 7
    SYNC_FOLDER = 8


class Done(Struct, frozen=True):
    """One operation. `handle` is an opening of a file, unique in the log of one process."""

    op: Op
    handle: int
    offset: int
    data: bytes

    def names(self) -> list[str]:
        return [Path(name).name for name in self.data.decode().split("\0")]


def read_log(log: Path) -> Iterator[Done]:
    """What is in the log; a note that its process died over counts for nothing."""
    data = log.read_bytes()
    at = 0
    while at + 32 <= len(data):
        op, handle, offset, length = struct.unpack_from("=4q", data, at)
        at += 32
        if at + length > len(data):
            return
        yield Done(Op(op), handle, offset, data[at : at + length])
        at += length


class File:
    """One inode: what is surely there, and what was done since."""

    def __init__(self) -> None:
        self.synced = b""
        self.pending: list[tuple[int, Done]] = []  # with the moment of each
        self._current: bytearray | None = bytearray()

    def do(self, moment: int, done: Done) -> None:
        self.pending.append((moment, done))
        apply(self.current, done)

    def sync(self) -> None:
        self.synced = bytes(self.current)
        self.pending.clear()

    @property
    def current(self) -> bytearray:
        assert self._current is not None
        return self._current

    def left(self, manner: Manner, until: int, random: Random) -> bytes:
        """Its contents after a cut."""
        if manner == "killed":
            return bytes(self.current)
        content = bytearray(self.synced)
        if manner == "lost":
            return bytes(content)
        chance = random.choice((0.1, 0.5, 0.9))
        for moment, done in self.pending:
            if manner == "prefix":
                if moment < until:
                    apply(content, done)
                elif moment == until and done.op is Op.WRITE:  # torn: its first sectors are there
                    apply(content, done, length=random.randrange(0, len(done.data) + 1, SECTOR))
            elif done.op is Op.TRUNCATE:
                if random.random() < chance:
                    apply(content, done)
            else:
                scatter(content, done, chance, random, garbage=manner == "garbage")
        return bytes(content)


def apply(content: bytearray, done: Done, length: int | None = None) -> None:
    """Do to `content` what was done, to `length` bytes of it."""
    if done.op is Op.TRUNCATE:
        del content[done.offset :]
        content.extend(bytes(done.offset - len(content)))
        return
    data = done.data if length is None else done.data[:length]
    content.extend(bytes(max(0, done.offset - len(content))))
    content[done.offset : done.offset + len(data)] = data


def scatter(content: bytearray, done: Done, chance: float, random: Random, *, garbage: bool) -> None:
    """Do a write to some of its sectors."""
    at, end = done.offset, done.offset + len(done.data)
    while at < end:
        upto = min(end, (at // SECTOR + 1) * SECTOR)
        part = done.data[at - done.offset : upto - done.offset]
        if random.random() < chance:
            apply(content, Done(Op.WRITE, 0, at, part))
        elif garbage and random.random() < 0.5:
            apply(content, Done(Op.WRITE, 0, at, random.randbytes(len(part))))
        at = upto


class Disk:
    """The files of one folder, as the operations come in."""

    def __init__(self) -> None:
        self.moment = 0
        self._names: dict[str, File] = {}
        self._synced_names: dict[str, File] = {}
        self._pending_names: list[tuple[int, Done, File | None]] = []
        self._opened: dict[int, File] = {}
        self._called: dict[int, str] = {}

    def new_process(self) -> None:
        """From here on the handles are those of another process."""
        self._opened.clear()
        self._called.clear()

    def name_of(self, done: Done) -> str:
        """The file that an operation is about, or the folder's "."."""
        if done.op in (Op.WRITE, Op.TRUNCATE, Op.SYNC):
            return self._called[done.handle]
        return "." if done.op is Op.SYNC_FOLDER else done.names()[0]

    def do(self, done: Done) -> None:
        self.moment += 1
        match done.op:
            case Op.OPEN:
                self._open(done)
            case Op.WRITE | Op.TRUNCATE:
                self._opened[done.handle].do(self.moment, done)
            case Op.SYNC:
                self._opened[done.handle].sync()
            case Op.SYNC_FOLDER:
                self._synced_names = dict(self._names)
                self._pending_names.clear()
            case _:
                self._name(done, None)

    def _open(self, done: Done) -> None:
        (name,) = done.names()
        if name not in self._names:
            self._name(done, File())
        self._opened[done.handle], self._called[done.handle] = self._names[name], name
        if done.offset & 0o1000:  # O_TRUNC
            self._opened[done.handle].do(self.moment, Done(Op.TRUNCATE, 0, 0, b""))

    def _name(self, done: Done, made: File | None) -> None:
        self._pending_names.append((self.moment, done, made))
        rename(self._names, done, made)

    def left(self, manner: Manner, random: Random) -> dict[str, bytes]:
        """The files after a cut at this moment, by name."""
        pending = [moment for moment, _, _ in self._pending_names]
        pending += [moment for file in self._names.values() for moment, _ in file.pending]
        until = random.choice(sorted(pending) or [0])
        names = dict(self._names) if manner == "killed" else dict(self._synced_names)
        for moment, done, made in self._pending_names:
            chance = {"prefix": moment <= until, "lost": 0.0, "killed": 0.0}.get(manner, 0.5)
            if random.random() < chance:
                rename(names, done, made)
        return {name: file.left(manner, until, random) for name, file in sorted(names.items())}


def rename(names: dict[str, File], done: Done, made: File | None) -> None:
    """Do to a folder what was done. Of what is not there (its making was lost) nothing comes."""
    first, *rest = done.names()
    match done.op:
        case Op.OPEN:
            assert made is not None
            names[first] = made
        case Op.UNLINK:
            names.pop(first, None)
        case Op.RENAME if first in names:
            names[rest[0]] = names.pop(first)
        case Op.LINK if first in names:
            names[rest[0]] = names[first]
        case _:
            pass
