"""How long does it take to open a store with work that is not done, and to do it?

100,000 known agents with 2 KiB of state, 1,000 of them with a run that was accepted and had not begun when
its process ended. Until the runtime is open, and until the last of those runs has ended. The floor opens a
file with the same in it, finds the runs, does each with its agent's state, and commits.

    python benchmarks/bench_recovery.py --json
"""

import asyncio
import pickle
import shutil
import sqlite3
import time
from itertools import count
from pathlib import Path

from common.check import equal
from common.floor import ADD_RUN, PUT, Floor, Writer
from common.measure import Round, interleaved
from common.report import FLOOR, OURS, Row, row
from common.script import Options, main
from common.stores import counted, fill, path_of
from common.work import advance, new_state

from greenroom import AsyncRuntime

UNFINISHED = "SELECT count(*) FROM runs WHERE status = 'accepted'"
copies = count()


def copy_of(store: Path) -> Path:
    """A copy to be used up, with its key if it has one."""
    copy = store.with_name(f"{store.stem}-{next(copies)}.db")
    shutil.copy(store, copy)
    key = Path(f"{store}.key")
    if key.exists():
        shutil.copy(key, f"{copy}.key")
    return copy


def seconds(begun: float, opened: float) -> Round:
    """What a round came to, now that all is done."""
    return Round({"opened": (opened - begun) * 1e3, "done": (time.perf_counter() - begun) * 1e3})


async def ours(store: Path, known: int, unfinished: int) -> Round:
    copy = copy_of(store)
    begun = time.perf_counter()
    async with AsyncRuntime(copy, slots=64, residents=unfinished) as runtime:
        opened = time.perf_counter()
        runs = [await runtime.run(f"left-{number}") for number in range(unfinished)]
        await runtime.wait(runs)
        done = seconds(begun, opened)
        equal("results of what was left", [await run for run in runs], [1] * unfinished)
        equal("known agents", (await runtime.stats()).agents, known)
        state = await (await runtime.agent(path_of(unfinished - 1))).state()
        equal("a state afterwards", state["n"], 1)
    equal("unfinished runs in the file", counted(copy, UNFINISHED), 0)
    copy.unlink()
    return done


async def fill_by_hand(store: Path, known: int, unfinished: int) -> None:
    """The same, as the floor has it."""
    state, seven = pickle.dumps(new_state(), 5), pickle.dumps(7, 5)
    async with Writer(store) as writer:
        for number in range(known):
            writer.put([(PUT, (number, state))], _nothing)
        for number in range(unfinished):
            writer.put([(ADD_RUN, (number + 1, number, seven))], _nothing)


async def by_hand(store: Path, unfinished: int) -> Round:
    copy = copy_of(store)
    begun = time.perf_counter()
    reader = sqlite3.connect(copy)
    left = reader.execute("SELECT serial, agent_id, input FROM runs WHERE status = 'accepted'").fetchall()
    async with Writer(copy) as writer:
        floor = Floor(writer)
        opened = time.perf_counter()
        question = "SELECT data FROM snapshots WHERE agent_id = ?"
        answers = []
        for serial, agent_id, data in left:
            state = pickle.loads(reader.execute(question, (agent_id,)).fetchone()[0])
            given = pickle.loads(data)
            result = advance(state, given)
            answers.append(asyncio.get_running_loop().create_future())
            added, *rows = floor.rows_of(agent_id, given, result, state)
            rows[2] = (rows[2][0], (pickle.dumps(result, 5), serial))
            del added  # it is there
            floor.settle(rows, answers[-1], result)
        results = [await answer for answer in answers]
        done = seconds(begun, opened)
        reader.close()
    equal("results of what was left", results, [1] * unfinished)
    equal("unfinished runs in the file", counted(copy, UNFINISHED), 0)
    copy.unlink()
    return done


async def measure(options: Options) -> list[Row]:
    known, unfinished = options.pick((100_000, 1_000), (1_000, 50))
    store, by_hand_store = options.store("ours"), options.store("floor")
    fill(store, known, kind="bench.keeper", state=new_state(), unfinished=unfinished)
    await fill_by_hand(by_hand_store, known, unfinished)
    contestants = {
        OURS: lambda: ours(store, known, unfinished),
        FLOOR: lambda: by_hand(by_hand_store, unfinished),
    }
    rounds = await interleaved(contestants, options.repeats)
    name = f"{known:,} known, {unfinished:,} unfinished"
    return [
        row(f"{name}, until open", "ms", rounds, "opened", better="less"),
        row(f"{name}, until done", "ms", rounds, "done", better="less"),
    ]


def _nothing() -> None:
    """Nobody waits."""


if __name__ == "__main__":
    main(__file__, __doc__, measure)
