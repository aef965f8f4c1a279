"""Stores for the doctor's tests: of a busy runtime, and of another process; and how to look at them."""

import asyncio
import hashlib
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

from greenroom import Runtime, Turn, agent
from greenroom.persistence import doctor
from greenroom.persistence.doctor.value_checks import CHECKED_COLUMNS
from greenroom.persistence.keys import SEAL_SIZE, Signer, read_key

TABLES = ("agents", "runs", "inbox", "snapshots", "events")
DEADLINE = 600.0


@agent(name="doc-counter")
async def counter(turn: Turn) -> int:
    turn.state["count"] = turn.state.get("count", 0) + 1
    turn.emit("counted", {"count": turn.state["count"]})
    return turn.state["count"]


@agent(name="doc-plain", codec="json")
async def plain(turn: Turn) -> None:
    turn.state["inputs"] = [*turn.state.get("inputs", []), turn.input]


@agent(name="doc-packed", codec="msgpack")
def packed(turn: Any) -> Any:
    turn.state["bytes"] = bytes(100)
    return turn.input


@agent(name="doc-fails")
async def fails(turn: Turn) -> None:
    raise ValueError("on purpose")


@agent(name="doc-cannot")
class Cannot:
    async def open(self, info: Any) -> None:
        raise OSError("it is not there")

    async def run(self, turn: Turn) -> None: ...


@agent(name="doc-parent")
async def parent(turn: Turn) -> Any:
    if turn.results:
        return [outcome.result for outcome in turn.results]
    children = [await turn.spawn(counter, f"child-{n}") for n in range(3)]
    runs = [await child.followup(n) for n, child in enumerate(children)]
    await turn.wait(runs[0])
    await turn.send("child-1", "mail")
    await turn.after(*runs)
    return "later"


@agent(name="doc-waits")
async def waits(turn: Turn) -> None:
    if not turn.results:
        hanging = await turn.spawn(hangs, "hangs")
        await turn.after(await hanging.followup("first"), await hanging.followup("second"))


@agent(name="doc-hangs")
async def hangs(turn: Turn) -> None:
    await asyncio.Event().wait()


def be_busy(store: Path) -> None:
    """Everything that leaves a trace in a store: each kind of end, closing, erasing, what is left open."""
    with Runtime(store, slots=4, residents=4, drain=0.0) as runtime:
        counters = [runtime.spawn(counter, f"/busy/counter-{n}") for n in range(12)]
        runs = [ref.followup(n, run_id=f"count-{i}-{n}") for i, ref in enumerate(counters) for n in (1, 2)]
        runs += [runtime.spawn(plain, "/busy/plain").followup(1)]
        runs += [runtime.spawn(packed, "/busy/packed").followup({"a": (1, 2)})]
        runs += [runtime.spawn(fails, "/busy/fails").followup(None)]
        runs += [runtime.spawn(Cannot, "/busy/cannot").followup(None)]
        runtime.spawn(counter, "/busy/never-used", config={"a": None})
        family = runtime.spawn(parent, "/family", input="go")
        runs += [family.run]
        runtime.wait(runs, timeout=DEADLINE)
        wait_for(runtime, "run.completed", "/family", count=2)
        for ref in counters:
            ref.send("unread")
        stuck = runtime.spawn(hangs, "/busy/stuck", input=None)
        wait_for(runtime, "run.started", "/busy/stuck")
        waiting = stuck.followup("never begun")
        stuck.interrupt()
        assert stuck.run.outcome(DEADLINE).status == waiting.outcome(DEADLINE).status == "interrupted"
        stuck.followup("cut off")
        counters[0].close()
        counters[1].close()
        runtime.spawn(counter, "/busy/counter-1", input=None).run.result(DEADLINE)
        counters[2].delete()
        counters[3].evict()
        runtime.spawn(waits, "/left", input=None).run.result(DEADLINE)
        wait_for(runtime, "run.started", "/left/hangs")


def wait_for(runtime: Runtime, kind: str, path: str, count: int = 1) -> None:
    """Until so many events of this type were at this path, from the beginning on."""
    stream = runtime.events(path, since=0)
    late = threading.Timer(DEADLINE, stream.close)
    late.daemon = True
    late.start()
    try:
        for event in stream:
            count -= event.type == kind and event.path == path
            if not count:
                return
    finally:
        late.cancel()
        stream.close()
    raise AssertionError(f"no {kind} at {path}")


def change(store: Path, *statements: str) -> None:
    connection = sqlite3.connect(store, isolation_level=None)
    try:
        connection.create_function("garbage", 1, lambda size: b"\x01" * size)
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


def rows(store: Path | str, statement: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{store}?mode=ro&immutable=1", uri=True)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def content(store: Path | str) -> dict[str, list[Any]]:
    """All that agents and callers can ever see of a store."""
    return {table: rows(store, f"SELECT * FROM {table} NOT INDEXED ORDER BY rowid") for table in TABLES}


def wrong(report: doctor.DoctorReport) -> set[str]:
    """The checks that found something wrong; notes are not."""
    return {finding.check for finding in report.findings if finding.severity != "note"}


def said(report: doctor.DoctorReport) -> str:
    return "\n".join(f"{finding.check}: {finding.what}" for finding in report.findings)


def folder(store: Path) -> dict[str, Any]:
    return {
        path.name: (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
            path.stat().st_mode,
        )
        for path in sorted(store.parent.iterdir())
        if path.is_file()
    }


OWNER = """
import sys
from greenroom import Runtime, agent

@agent(name="doc-owned")
async def owned(turn):
    turn.state["count"] = turn.state.get("count", 0) + 1
    return turn.state["count"]

runtime = Runtime(sys.argv[1]).start()
ref = runtime.spawn(owned, "/owned")
for line in sys.stdin:
    print(ref.followup(None).result(), flush=True)
"""


WORK = """
import itertools, sys
from greenroom import Runtime, agent

@agent(name="doc-works")
async def works(turn):
    turn.state["inputs"] = [*turn.state.get("inputs", []), turn.input]
    if turn.input == "spread" and not turn.results:
        child = await turn.spawn(works, f"child-{len(turn.state['inputs'])}")
        await child.send("mail")
        await turn.after(await child.followup("spread a little"), await child.followup("and more"))
    return len(turn.inbox)

runtime = Runtime(sys.argv[1], slots=3, residents=3).start()
for n in itertools.count():
    name = f"/work-{len(runtime.list())}/agent-{n}"
    ref = runtime.spawn(works, name)
    runs = [ref.followup(word) for word in ("spread", "one", "two")]
    ref.send("unread")
    runs[1].interrupt()
    if n % 3 == 1:
        ref.close()
    if n % 3 == 2:
        runs[2].outcome()
        ref.delete()
    print(n, flush=True)
"""


class Child:
    """Another process that has the store open."""

    def __init__(self, store: Path, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self, lines: int = 1) -> str:
        """The last of so many lines that it says."""
        assert self.process.stdout is not None
        said = [self.process.stdout.readline() for _ in range(lines)]
        assert said[-1], "it has ended"
        return said[-1]

    def end(self, signum: int) -> None:
        self.process.send_signal(signum)
        self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Worker(Child):
    """One that is busy."""

    def __init__(self, store: Path) -> None:
        super().__init__(store, WORK)


class Owner(Child):
    """One that does what it is told."""

    def __init__(self, store: Path) -> None:
        super().__init__(store, OWNER)
        self.run()

    def run(self) -> int:
        """Have its agent do a durable turn; how many it did."""
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return int(self.read())


def sign_anew(store: Path) -> None:
    """Have all values signed where they stand now, as if greenroom itself had written the rows so."""
    sealer = Signer(read_key(str(store)))
    connection = sqlite3.connect(store, isolation_level=None)
    for column in CHECKED_COLUMNS:

        def seal(sealed: bytes, _path: str, *fields: Any, column: Any = column) -> bytes:
            return sealer.seal(sealed[SEAL_SIZE:], column.place(*fields))

        connection.create_function("signed", -1, seal)
        fields = column.statement.removeprefix("SELECT ").partition(" FROM ")[0]
        table, rowid, name = {
            "config": ("agents", "agent_id", "config"),
            "input": ("runs", "serial", "input"),
            "result": ("runs", "serial", "result"),
            "body": ("inbox", "serial", "body"),
            "state": ("snapshots", "s.agent_id", "data"),
        }[column.name]
        signed = column.statement.replace(fields, f"{rowid}, signed({fields})", 1)
        for number, value in connection.execute(signed).fetchall():
            key = rowid.rpartition(".")[2]
            connection.execute(f"UPDATE {table} SET {name} = ? WHERE {key} = ?", (value, number))
    connection.close()
