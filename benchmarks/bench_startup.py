"""How long until a new process has imported greenroom, and until its first agent has answered?

Each round is a process of its own. By hand: a process that imports asyncio; one that imports it with
sqlite3, makes a file and a task, and commits the task's answer.

    python benchmarks/bench_startup.py --json
"""

import asyncio
import itertools
import sys
import time
from functools import partial
from pathlib import Path

from common.check import equal
from common.measure import Round, interleaved
from common.report import FLOOR, OURS, Row, at_most, row
from common.script import Options, main

IMPORT = """
import time
begun = time.perf_counter()
import {module}
print((time.perf_counter() - begun) * 1e3)
"""

FIRST = """
import sys
from greenroom import Runtime, agent

@agent(name="first")
async def first(turn):
    turn.state["n"] = 1
    return turn.input * 2

with Runtime(sys.argv[1]) as runtime:
    print(runtime.spawn(first, "/first/agent", input=21).run.result(), flush=True)
"""

FIRST_BY_HAND = """
import asyncio, pickle, sqlite3, sys

async def first(inbox):
    input, answer = await inbox.get()
    answer.set_result(input * 2)

async def main():
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE runs (run_id TEXT PRIMARY KEY, result BLOB)")
    inbox, answer = asyncio.Queue(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(first(inbox))
    inbox.put_nowait((21, answer))
    result = await answer
    connection.execute("INSERT INTO runs VALUES ('first', ?)", (pickle.dumps(result),))
    print(result, flush=True)
    connection.close()

asyncio.run(main())
"""


async def output_of(code: str, *words: str) -> tuple[str, float]:
    """The first line that a new Python writes, and the milliseconds until it is there."""
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *words, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    took = (time.perf_counter() - begun) * 1e3
    equal("the end of a process", await process.wait(), 0)
    return line.decode().strip(), took


async def imported(module: str) -> Round:
    line, _ = await output_of(IMPORT.format(module=module))
    return Round({"ms": float(line)})


async def answered(code: str, store: Path) -> Round:
    line, took = await output_of(code, str(store))
    equal("the first answer", line, "42")
    return Round({"ms": took})


async def measure(options: Options) -> list[Row]:
    numbers = itertools.count()

    async def fresh(code: str) -> Round:
        return await answered(code, options.store(f"first-{next(numbers)}"))

    names = {OURS: "greenroom", FLOOR: "asyncio"}
    of_import = {who: partial(imported, module) for who, module in names.items()}
    of_runtime = {OURS: partial(imported, "greenroom; greenroom.Runtime"), FLOOR: of_import[FLOOR]}
    of_first = {OURS: partial(fresh, FIRST), FLOOR: partial(fresh, FIRST_BY_HAND)}
    warm = options.pick(1, 0)
    twice = at_most(2.0)  # tests/test_house.py holds it to that
    rounds = [
        await interleaved(each, options.repeats, warm_up=warm) for each in (of_import, of_runtime, of_first)
    ]
    return [
        row("import greenroom", "ms", rounds[0], "ms", better="less", floor_name="asyncio", target=twice),
        row("from greenroom import Runtime", "ms", rounds[1], "ms", better="less", floor_name="asyncio"),
        row("a process, until its first agent has answered", "ms", rounds[2], "ms", better="less"),
    ]


if __name__ == "__main__":
    main(__file__, __doc__, measure, rounds=9)
