"""A store whose workers are killed one after the other, and audited after every death.

The instants are drawn from the seed. Two runs with one seed draw the same plan and the same work, but
not the same interleaving: that is the machine's.
"""

import os
import random
import secrets
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from . import facts
from .audit import Audit, Finding
from .record import ASKED, lines, read_record
from .report import differences

KILLS = int(os.environ.get("GREENROOM_KILLS") or 10)
"""Deaths of a trial. `make long` has a hundred."""

SEED = os.environ.get("GREENROOM_SEED") or secrets.token_hex(4)
"""What the instants are drawn from. Every failure names it."""

WORKER = Path(__file__).with_name("worker.py")
SOURCES = Path(__file__).parents[3] / "src"
DEADLINE = 600.0
"""Seconds that a worker may take for anything that it should come to at once."""

DURABLE = ("spawn", "run", "send", "close", "delete")
"""Requests that are in the store when they are acknowledged."""

Phase: TypeAlias = Literal["start", "work", "moved", "turn", "end", "answer", "told", "close"]
PHASES: tuple[Phase, ...] = (
    "work",
    "start",
    "turn",
    "close",
    "moved",
    "answer",
    "start",
    "end",
    "close",
    "told",
)
"""Ten rounds have each of these; the seed shuffles them."""


class Death(Struct, frozen=True):
    """When a worker is killed: in which phase, and how far into it (seconds, or how often).

    "moved": the store is moved away while the worker works. It is put back before the death, which comes
    `after` so many seconds, or after it (`back`).
    """

    phase: Phase
    after: float
    end: Literal["close", "interrupt", "race"] = "close"
    move: Literal["file", "all files", "for a copy"] = "file"
    back: bool = False

    @property
    def fate(self) -> list[str]:
        """What the worker kills itself at: an instant that no one outside could hit."""
        if self.phase in ("start", "work", "moved", "close"):
            return []
        return ["--fate", f"{self.phase}:{int(self.after)}"]


def plan(seed: str, rounds: int) -> list[Death]:
    """The deaths of a trial."""
    rng = random.Random(seed)
    deaths: list[Death] = []
    while len(deaths) < rounds:
        for phase in rng.sample(PHASES, len(PHASES)):
            match phase:
                case "start":
                    after = rng.uniform(0, 0.15)  # most of it is the opening of the store
                case "work" | "moved":
                    after = rng.uniform(0, 0.8)
                case "close":
                    after = rng.uniform(0, 0.4)  # the drain time is 0.2
                case _:
                    after = rng.randint(1, 150)
            end: Any = rng.choice(["close", "interrupt", "race"])
            move: Any = rng.choice(["file", "all files", "for a copy"])
            deaths.append(Death(phase, after, end, move, back=rng.random() < 0.6))
    return deaths[:rounds]


@contextmanager
def moved(store: Path, how: str) -> Iterator[None]:
    """Move the store's file away, with its log or not, or put a copy in its place; then put it back."""
    aside = store.with_name("aside")
    aside.mkdir()
    beside = [Path(f"{store}{suffix}") for suffix in ("-wal", "-shm", ".key")]
    files = [store, *(path for path in beside if path.exists())] if how == "all files" else [store]
    for path in files:
        path.rename(aside / path.name)
    if how == "for a copy":
        shutil.copy(aside / store.name, store)
    try:
        yield
    finally:
        for path in reversed(files):  # The log comes first: a store without it is never to be seen.
            os.replace(aside / path.name, path)
        aside.rmdir()


class Worker:
    """A worker's process."""

    def __init__(self, store: Path, life: int, seed: str, *options: str) -> None:
        self.errors = (store.parent / f"worker-{life}.err").open("w+")
        command = [sys.executable, str(WORKER), str(store), "--life", str(life), "--seed", seed, *options]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={"PYTHONPATH": str(SOURCES), "PYTHONUNBUFFERED": "1"},
        )
        self.said = b""

    def says(self, word: str, deadline: float = DEADLINE) -> bool:
        """Wait until it has said `word`; False if it died before."""
        stdout = self.process.stdout
        assert stdout is not None
        late = time.monotonic() + deadline
        while word.encode() not in self.said.split(b"\n"):
            ready, _, _ = select.select([stdout], [], [], max(0.0, late - time.monotonic()))
            if not ready:
                raise AssertionError(
                    f"the worker has not said {word!r} in {deadline} s\n{self.complaint()}"
                )
            read = stdout.read1(4096)  # type: ignore[attr-defined]
            if not read:
                return False
            self.said += read
        return True

    def close(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead already
            self.process.stdin.write(b"close\n")
            self.process.stdin.flush()

    def lives(self, seconds: float) -> None:
        """Leave it alone for so long, unless it ends before."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def dies(self, after: float) -> None:
        """Kill it then, unless it ends before."""
        self.lives(after)
        self.process.kill()  # does nothing to what has ended
        self.process.wait(DEADLINE)

    def complaint(self) -> str:
        self.errors.seek(0)
        return self.errors.read()[-3000:]

    def ended(self) -> int:
        """Its exit status; let go of it."""
        status = self.process.wait(DEADLINE)
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                stream.close()
        return status


class Trial:
    """So many lives of one store, each with its death, and a last one that does all that is left."""

    def __init__(
        self, folder: Path, seed: str, rounds: int, *, deaths: list[Death] | None = None, plant: str = ""
    ) -> None:
        """`plant`: an option of the worker that plants a mistake."""
        self.folder, self.seed, self.deaths = folder, seed, deaths or plan(seed, rounds)
        self.plant = [plant] if plant else []
        self.store = folder / "store.db"
        self.found: dict[Finding, int] = {}
        """What was off, with the round that it was seen in first."""
        self.round = 0
        self.lives: list[int] = []  # the last event of each

    def live(self) -> "Trial":
        for death in self.deaths:
            self.round += 1
            self.die(death)
            self.audit()
        self.round += 1
        last = Worker(self.store, self.round, self.seed, "--last")
        finished = False
        try:
            finished = last.says("closed", 3 * DEADLINE)
        finally:
            if not finished:
                last.process.kill()
        complaint = last.complaint()
        if last.ended() != 0 or not finished:
            self.find("worker", "the last worker", f"did not bring all to its end: {complaint}")
        self.audit(over=True)
        return self

    def die(self, death: Death) -> None:
        worker = Worker(self.store, self.round, self.seed, "--end", death.end, *death.fate, *self.plant)
        try:
            self.wait_for(worker, death)
        finally:
            worker.process.kill()
        complaint = worker.complaint()
        status = worker.ended()
        if death.phase == "moved":
            complaint = "".join(line for line in complaint.splitlines() if "cannot be written" not in line)
        if status not in ((0, -9) if death.phase == "close" else (-9,)) or complaint:
            self.find("worker", f"worker {self.round}", f"ended with {status}: {complaint}")

    def wait_for(self, worker: Worker, death: Death) -> None:
        match death.phase:
            case "start":
                worker.says("opening")
                worker.dies(death.after)
            case "work":
                worker.says("open")
                worker.dies(death.after)
            case "moved":
                worker.says("open")
                worker.lives(0.3)
                with moved(self.store, death.move):
                    self.wait_for_doubt(worker)
                    since = self.lines_asked()
                    late = time.monotonic() + death.after
                    while not self.acknowledged(since) and time.monotonic() < late:
                        worker.lives(0.1)
                    if not death.back:
                        worker.dies(0)
                    for path, what in self.acknowledged(since):
                        self.find("accepted", path, what)
                worker.dies(death.after)
            case "close":
                worker.says("open")
                worker.lives(0.3)
                worker.close()
                worker.says("closing")
                worker.dies(death.after)
            case _:
                worker.dies(20.0)

    def wait_for_doubt(self, worker: Worker) -> None:
        """Wait until one of its requests was answered that the store cannot be written."""
        late = time.monotonic() + 60.0
        before = read_record(self.folder).doubted
        while read_record(self.folder).doubted == before and worker.process.poll() is None:
            if time.monotonic() > late:
                raise AssertionError("nobody was told within 60 s that the store was moved away")
            worker.lives(0.1)

    def lines_asked(self) -> int:
        return len(list(lines(self.folder / ASKED)))

    def acknowledged(self, since: int) -> list[tuple[str, str]]:
        """What was asked from line `since` on and acknowledged, though the store is still away."""
        return [
            (request.ask.path, f"{request.ask.q} was acknowledged while the store was moved away")
            for request in read_record(self.folder).requests.values()
            if request.asked >= since and request.fate == "done" and request.ask.do in DURABLE
        ]

    def audit(self, *, over: bool = False) -> None:
        """Look at the store as death left it. The next worker opens it as it lies: only a copy is read."""
        if not self.store.exists():
            return
        copy = facts.copied(self.store, self.folder / "copy")
        record, found = read_record(self.folder), facts.read(copy)
        self.lives.append(found.events[-1].seq if found.events else 0)
        for finding in Audit(record, found, lives=self.lives, over=over).findings():
            self.find(finding.check, finding.who, finding.what)
        report = self.folder / "report.json"
        if over and report.exists():
            for who, what in differences(msgspec.json.decode(report.read_bytes()), found):
                self.find("report", who, what)
        for wrong in facts.shown(facts.copied(self.store, self.folder / "copy")):
            self.find("shown", "the runtime", wrong)

    def find(self, check: str, who: str, what: str) -> None:
        self.found.setdefault(Finding(check, who, what), self.round)

    def holds(self, *checks: str) -> None:
        """Fail if anything was off in one of these checks."""
        off = [(n, finding) for finding, n in self.found.items() if finding.check in checks]
        if off:
            listed = "\n".join(f"  round {n}: {f.who}: {f.what}" for n, f in off[:20])
            more = f"\n  and {len(off) - 20} more" if len(off) > 20 else ""
            raise AssertionError(f"seed {self.seed}, {len(self.deaths)} kills:\n{listed}{more}")
