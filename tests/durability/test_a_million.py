"""A store of a million agents: what opening, listing and one cold run cost, and how much memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom.persistence.codec import dumps
from greenroom.persistence.records import AddAgent, AddRun, PutSnapshot
from greenroom.persistence.rows import AgentRow, RunRow, Snapshot
from greenroom.persistence.state_codec import encode_state
from greenroom.persistence.store import Store
from greenroom.types import AgentId, RunId

KNOWN = 1_000_000
UNFINISHED = 1_000
BATCH = 20_000

STORY = """
import json, sys, time
from greenroom import Runtime, agent

@agent(name="million")
async def one_of_many(turn):
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]

def resident_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

def timed(work):
    begun = time.process_time()
    value = work()
    return value, time.process_time() - begun

def middle(work, times=21):
    return sorted(timed(lambda: work(number))[1] for number in range(times))[times // 2]

runtime = Runtime(sys.argv[1], residents=64)
_, opened = timed(runtime.start)
known = runtime.stats().agents
runtime.wait([runtime.run(f"left-{number}") for number in range(int(sys.argv[2]))])
page = runtime.list("/t500", limit=100)
told = {
    "open": opened,
    "known": known,
    "recovered": [runtime.run("left-0").result(), runtime.run(f"left-{int(sys.argv[2]) - 1}").result()],
    "list": middle(lambda n: runtime.list(f"/t{n * 37}", limit=100)),
    "page": middle(lambda n: runtime.list("/", limit=100, after=f"/t{n * 41}/a7")),
    "paths": [info.path for info in page][:3],
    "cold": middle(lambda n: runtime.agent(f"/t{900 + n}/a7").followup(1).result()),
    "memory": resident_mib(),
}
runtime.close()
print(json.dumps(told))
"""


def fill(path: str, known: int, unfinished: int) -> None:
    """Write agents as the runtime does, a thousand trees of them; some have a run without an outcome."""
    store, _ = Store.open(path, "memory")
    config, state = dumps(None, "a config"), encode_state({"n": 1}, "cloudpickle", "a state")
    serial = 0
    for first in range(0, known, BATCH):
        records = []
        for number in range(first, min(first + BATCH, known)):
            agent_id = AgentId(number + 1)
            tree, name = divmod(number, known // 1_000)
            where = f"/t{tree}/a{name}"
            records.append(AddAgent(AgentRow(agent_id, where, "million", 1, config, 1.0, 1.0)))
            records.append(PutSnapshot(agent_id, Snapshot("cloudpickle", 1, state)))
            if number % (known // unfinished) == 0:
                run_id = RunId(f"left-{serial}")
                serial += 1
                records.append(AddRun(RunRow(run_id, serial, agent_id, where, config, 1.0)))
        store.write(records)
        if store.untidy:
            store.tidy()
    store.close()


def story(path: str, unfinished: int) -> dict[str, object]:
    """What another process sees of such a store."""
    done = subprocess.run(
        [sys.executable, "-c", STORY, path, str(unfinished)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_a_million_known_agents_cost_what_is_unfinished_of_them(tmp_path: Path) -> None:
    few, many = str(tmp_path / "few.db"), str(tmp_path / "many.db")
    fill(few, 10_000, UNFINISHED)
    fill(many, KNOWN, UNFINISHED)
    small, large = story(few, UNFINISHED), story(many, UNFINISHED)
    print(f"10,000 known: {small}\n{KNOWN:,} known: {large}")
    assert large["known"] == KNOWN
    assert large["recovered"] == [2, 2]
    assert large["paths"] == ["/t500/a0", "/t500/a1", "/t500/a10"]
    assert large["memory"] < 150  # type: ignore[operator]
    # a hundred times the agents, and the same time but for the deeper index: no scan is in any of these
    for question in ("open", "list", "page", "cold"):
        assert large[question] < 5 * small[question] + 0.02, question  # type: ignore[operator]
