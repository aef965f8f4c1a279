"""Cut the power at every moment of a recorded life, and look at what is left.

A disk that was *killed* at each moment in turn (the process died, all that was written is there) shows
the states that were committed, one after the other. Whatever else a cut leaves must be one of these, no
newer than the last, and hold all that was promised to survive it by then.
"""

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Literal

from msgspec import Struct

from greenroom import GreenroomError, Runtime
from greenroom.persistence.store import Store

from ..crash_steps import story
from ..crash_steps.nursery import ended_wrong
from ..crash_steps.rest import Promises, Rest, broken, torn
from .disk import Disk, Done, Manner, Op, read_log
from .worker import NOTES, read_note

STORE = "agents.db"
ENOUGH = 50
"""Problems: more would tell nothing new."""

MANNERS: tuple[Manner, ...] = ("lost", "prefix", "scattered", "garbage")
SYNCS = (Op.SYNC, Op.SYNC_FOLDER)
Left = dict[str, bytes]

Promised = Literal["all", "careful", "nothing", "not even a kill"]
"""Which answers were to survive a power cut: all, those asked for with "power", none; or, besides, not
even the death of the process."""

UNTOLD = ("meta", "owner", "sqlite_", "_sqlite")
"""Tables, as they begin, that opening a store changes."""


class Image(Struct):
    """A disk after a cut that a runtime is to go on with, and what its client knew then."""

    manner: Manner
    moment: int
    left: Left
    told: dict[str, Any]
    asked: set[str]


class Found(Struct):
    """What became of all the cuts."""

    problems: list[str] = []
    cuts: Counter[str] = Counter()
    commits: int = 0
    behind: int = 0  # cuts that took commits away
    images: list[Image] = []  # one for each state that a cut left


class Cuts:
    """Follows the log of a disk and cuts wherever it is told to."""

    def __init__(self, logs: Iterable[Path], promised: Promised, *, seed: int, room: Path) -> None:
        self.logs, self.promised, self.room = list(logs), promised, room
        self.random = Random(seed)
        self.disk = Disk()
        self.found = Found(cuts=Counter())
        self.notes: list[tuple[str, str, Any]] = []
        self.states: dict[bytes, int] = {}  # by digest, in the order committed
        self.last = -1  # the number of the state committed last
        self._key: bytes | None = None
        self._last_page = False
        self._unended = b""
        self._begun: set[int] = set()

    def explore(self, often: float) -> Found:
        """Cut before every sync in every manner, after it in one, and at `often` of the other moments."""
        self._cut("killed")  # there is nothing yet: the first state
        for log in self.logs:
            self.disk.new_process()
            for done in read_log(log):
                if done.op in SYNCS:
                    for manner in MANNERS:
                        self._cut(manner)
                self._do(done, often)
                if len(self.found.problems) >= ENOUGH:
                    return self.found
        self.found.commits = len(self.states)
        return self.found

    def _do(self, done: Done, often: float) -> None:
        self.disk.do(done)
        name = self.disk.name_of(done)
        if name == NOTES:
            self._hear(done)
        elif not name.endswith("-shm"):
            if self._commits(name, done) or self.random.random() < often:
                self._cut("killed")
            if done.op in SYNCS:
                self._cut("lost")
            elif self.random.random() < often:
                self._cut(self.random.choice(MANNERS))

    def _commits(self, name: str, done: Done) -> bool:
        """Whether this was the last write of a transaction: then there is a new state.

        The log has a header of 24 bytes before each page; in that of a last one there is a size, else 0.
        """
        if not name.endswith("-wal") or done.op is not Op.WRITE:
            return False
        ended, self._last_page = self._last_page, len(done.data) == 24 and any(done.data[4:8])
        return ended or len(done.data) not in (24, 32, 4096)

    def _hear(self, done: Done) -> None:
        if done.op is not Op.WRITE:
            return
        *lines, self._unended = (self._unended + done.data).split(b"\n")
        self.notes += [read_note(line) for line in lines]

    def _promises(self, manner: Manner) -> Promises:
        promises = Promises.of(self.notes)
        if self.promised == "all" or (manner == "killed" and self.promised != "not even a kill"):
            return promises
        kept = {
            step: value
            for step, value in promises.told.items()
            if self.promised == "careful" and story.careful(step) == "power"
        }
        return Promises(kept, promises.asked | (promises.told.keys() - kept.keys()))

    def _cut(self, manner: Manner) -> None:
        left = self.disk.left(manner, self.random)
        left = {name: data for name, data in left.items() if name != NOTES and not name.endswith("-shm")}
        if STORE not in left:
            left.pop(f"{STORE}-wal", None)  # nobody would look for it
        self.found.cuts[manner] += 1
        promises = self._promises(manner)
        problems, number = self._audit(manner, left, promises)
        where = f"{manner} at {self.disk.moment}"
        self.found.problems += [f"{where}: {problem}" for problem in problems]
        if manner != "killed" and not problems and number not in self._begun:
            self._begun.add(number)
            image = Image(manner, self.disk.moment, left, promises.told, promises.asked)
            self.found.images.append(image)

    def _audit(self, manner: Manner, left: Left, promises: Promises) -> tuple[list[str], int]:
        """What is wrong with this disk, and the number of the state that is on it."""
        with TemporaryDirectory(dir=self.room) as folder:
            put(left, Path(folder), self.random)
            try:
                store, _ = Store.open(f"{folder}/{STORE}", "process")
            except (GreenroomError, sqlite3.Error) as error:
                return [f"it does not open: {error}"], -1
            try:
                with closing(store):
                    digest = digest_of(store._connection)
                    rest = Rest(store._connection)
            except (GreenroomError, sqlite3.Error) as error:
                return [f"it cannot be read: {error}"], -1
            key = Path(f"{folder}/{STORE}.key").read_bytes()
        problems = torn(rest) + broken(rest, promises)
        if rest.agents:
            self._key = self._key or key
            if key != self._key:
                problems.append("its key is lost")
        number = self.states.get(digest, -1)
        if manner == "killed":
            if number == -1:
                number = self.states[digest] = len(self.states)
            elif number != self.last:
                problems.append(f"it went back to state {number} from {self.last}")
            self.last = number
        elif number == -1:
            problems.append("its state was never committed")
        else:
            self.found.behind += number < self.last
        return problems, number


def put(left: Left, folder: Path, random: Random) -> None:
    """Write the files. Sometimes with some -shm, which may be anything."""
    for name, data in left.items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o600)
    if STORE in left and random.random() < 0.2:
        (folder / f"{STORE}-shm").write_bytes(random.randbytes(32768))


def digest_of(connection: sqlite3.Connection) -> bytes:
    """Of all that a store holds of agents; the opening itself changes the rest."""
    digest = blake2b(digest_size=16)
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    for (table,) in tables.fetchall():
        if not table.startswith(UNTOLD):
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1"):
                digest.update(repr((table, row)).encode())
    return digest.digest()


# What a runtime makes of it


def goes_on(image: Image, room: Path, promised: Promised) -> list[str]:
    """Problems of a runtime that goes on with what a cut has left.

    If all that was told is there, its client can go on as well, to the same end as ever. Otherwise all
    that was accepted comes to an end.
    """
    with TemporaryDirectory(dir=room) as folder:
        path = Path(folder, STORE)
        put(image.left, Path(folder), Random(image.moment))
        problems: list[str] = []
        notes: list[tuple[str, str, Any]] = []
        with Runtime(path, durability="power", **story.OPTIONS) as runtime:
            if promised == "all":
                story.tell(story.Client(runtime, lambda *line: notes.append(line), dict(image.told)))
                problems += ended_wrong(runtime)
            else:
                bring_to_rest(runtime)
        told = image.told | Promises.of(notes).told
        rest = Rest.of(path)
        problems += torn(rest) + broken(rest, Promises(told, image.asked))
        open_runs = [run_id for run_id, run in rest.runs.items() if run["status"] == "accepted"]
        problems += [f"{run_id} has no outcome" for run_id in open_runs]
    return [f"after {image.manner} at {image.moment}: {problem}" for problem in problems]


def bring_to_rest(runtime: Runtime) -> None:
    """Interrupt what hangs, and wait until no run is without its outcome."""
    tick = threading.Event()
    for _ in range(int(story.PATIENCE / 0.01)):
        stats = runtime.stats()
        if not stats.running and not stats.queued:
            return
        for info in runtime.list():
            if info.kind == "story-hangs":
                runtime.agent(info.path).interrupt()
        tick.wait(0.01)
    raise AssertionError(f"it does not come to rest: {runtime.stats()}")
