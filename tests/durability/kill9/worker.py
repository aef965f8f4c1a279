"""A program that works on a store until it is killed, and goes on where the last one was.

    python worker.py STORE --life N --seed S [--fate turn:17] [--end close|interrupt|race]
    python worker.py STORE --life N --seed S --last

Lanes (threads) each have a tree of agents of their own and ask for one thing after the other, so a death
leaves at most one request of a lane unanswered; the next worker asks for it again, with the same run id.
It says on standard output where it is: `opening`, `open`, `closing`, `closed`; a line on standard input
has it close. With `--last` it asks for nothing new, waits until all is done, and writes a report of what
the public API shows.
"""

import argparse
import logging
import random
import sys
import threading
import time
from itertools import count
from pathlib import Path

import msgspec
from kinds import Fate, Outside
from lane import Lane
from record import ASKED, BEGUN, NEWS, Answered, Asks, Heard, Log, lines

from greenroom import GreenroomError, Runtime
from greenroom.persistence.store import Store
from greenroom.persistence.write_failures import Misplaced

LANES = 4

TOLD_BEFORE_FORGOTTEN = 5
"""Looks at the store's files that a worker with the planted mistake is told the truth of."""

AT_REST = 900.0
"""Seconds until the last worker says that the work does not come to an end."""


def follow(runtime: Runtime, news: Log, since: int) -> None:
    """Take down what a follower of all events hears, from where the last one was."""
    for event in runtime.events(since=since):
        news.note(Heard(event.seq, event.type, event.path, event.run_id))


def last_heard(folder: Path) -> int:
    heard = (line.seq for line in lines(folder / NEWS, last=1 << 17) if isinstance(line, Heard))
    return max(heard, default=0)


def lanes_of(runtime: Runtime, folder: Path, asked: Log, news: Log, life: int, seed: str) -> list[Lane]:
    lanes = [
        Lane(runtime, n, asked, news, life=life, rng=random.Random(f"{seed}/{life}/{n}"))
        for n in range(LANES)
    ]
    known = list(lines(folder / ASKED))
    answers = {line.q: line for line in known if isinstance(line, Answered)}
    for line in known:
        if isinstance(line, Asks) and line.path.startswith("/lane"):
            lanes[int(line.path[5])].remember(line, answers.get(line.q))
    return lanes


def finish(runtime: Runtime, lanes: list[Lane], folder: Path) -> None:
    """Ask nothing new, have every message read, wait for the end of all, and report."""
    for lane in lanes:
        lane.guarded(lane.ask_again)
    at_rest(runtime)
    lane = lanes[0]
    for number, info in enumerate(runtime.list(limit=1_000_000)):
        if info.inbox:
            lane.guarded(
                lambda path=info.path, name=f"last{number}": lane.ask(
                    "run", path, run_id=f"run {name}", input={"token": name}
                )
            )
    at_rest(runtime)
    agents = [
        {
            "path": info.path,
            "kind": info.kind,
            "status": info.status,
            "queued": info.queued_runs,
            "inbox": info.inbox,
            "config": info.config,
            "state": runtime.agent(info.path).state(),
        }
        for info in runtime.list(limit=1_000_000)
    ]
    outcomes = {}
    for line in list(lines(folder / ASKED)):
        if isinstance(line, Asks) and line.run_id is not None and line.do in ("spawn", "run"):
            try:
                outcomes[line.run_id] = runtime.run(line.run_id).outcome(timeout=60)
            except LookupError:  # of a deleted agent
                outcomes[line.run_id] = None
    events = [[event.seq, event.type, event.path, event.run_id] for event in runtime.events(follow=False)]
    stats = runtime.stats()
    report = {
        "agents": agents,
        "outcomes": outcomes,
        "events": events,
        "stats": {"running": stats.running, "queued": stats.queued, "agents": stats.agents},
    }
    (folder / "report.json").write_bytes(msgspec.json.encode(report))


def at_rest(runtime: Runtime) -> None:
    tick, deadline = threading.Event(), time.monotonic() + AT_REST
    while (stats := runtime.stats()).queued or stats.running:
        if time.monotonic() > deadline:
            busy = [i for i in runtime.list(limit=1_000_000) if i.status not in ("idle", "failed")]
            why = [str(runtime.agent(info.path).explain()) for info in busy]
            raise GreenroomError(f"the work does not come to an end: {why}")
        tick.wait(0.02)


def plant_a_store_that_forgets() -> None:
    """Plant a mistake: a store that was moved away says so some times, and is written on after that."""
    look, times = Store._look_home, count()

    def look_again(store: Store) -> None:
        try:
            look(store)
        except Misplaced:
            if next(times) < TOLD_BEFORE_FORGOTTEN:
                raise

    Store._look_home = look_again


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--life", type=int, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--fate")
    parser.add_argument("--end", default="close")
    parser.add_argument("--last", action="store_true")
    parser.add_argument("--forgets", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)  # on standard error, where nothing may stand
    folder = given.store.parent
    Outside.begun, Outside.fate = Log(folder / BEGUN), Fate(given.fate)
    asked, news = Log(folder / ASKED), Log(folder / NEWS)

    if given.forgets:
        plant_a_store_that_forgets()
    runtime = Runtime(given.store, slots=3, residents=6, drain=0.2)
    print("opening", flush=True)
    runtime.start()
    print("open", flush=True)
    lanes = lanes_of(runtime, folder, asked, news, given.life, given.seed)
    threading.Thread(target=follow, args=(runtime, news, last_heard(folder)), daemon=True).start()
    if given.last:
        finish(runtime, lanes, folder)
        runtime.close()
        print("closed", flush=True)
        return
    stopping = threading.Event()
    threads = [
        threading.Thread(target=lane.live, args=(stopping,), name=lane.tree, daemon=True) for lane in lanes
    ]
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    if given.end != "race":
        stopping.set()
        for thread in threads:
            thread.join()
    print("closing", flush=True)
    runtime.close(interrupt=given.end == "interrupt")
    stopping.set()
    for thread in threads:
        thread.join(60)
    print("closed", flush=True)


if __name__ == "__main__":
    main()
