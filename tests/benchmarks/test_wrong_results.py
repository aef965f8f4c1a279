"""A benchmark of something that does not work says so, instead of how fast it does not.

Each sabotage is a `sitecustomize`, so that it is there in every process that a script starts.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from .conftest import run

from common import script as command  # isort: skip
from common.check import WrongResult  # isort: skip

RESULTS = """
from greenroom.actors.face import async_handles, handles
right = async_handles.result_of
async_handles.result_of = handles.result_of = lambda outcome: right(outcome) + 1
"""

COUNTS = """
import msgspec
from greenroom.actors.face import async_runtime
right = async_runtime.stats_of
def stats_of(*reports):
    found = right(*reports)
    return msgspec.structs.replace(found, agents=found.agents - 1)
async_runtime.stats_of = stats_of
"""

TWICE = """
from greenroom.actors.face.async_handles import AsyncAgentRef
right = AsyncAgentRef.followup
async def followup(self, input, **options):
    await right(self, input, **options)
    return await right(self, input, **options)
AsyncAgentRef.followup = followup
"""

MESSAGES = """
import msgspec
from greenroom.actors.systems.cell import Cell
right = Cell.send
def send(self, to, message):
    if hasattr(message, "number"):
        message = msgspec.structs.replace(message, number=message.number + 1)
    right(self, to, message)
Cell.send = send
"""

SABOTAGE = {
    "bench_fanout.py": RESULTS,
    "bench_holds.py": COUNTS,
    "bench_io_turns.py": RESULTS,
    "bench_latency.py": TWICE,
    "bench_memory.py": RESULTS,
    "bench_messages.py": MESSAGES,
    "bench_recovery.py": RESULTS,
    "bench_reload.py": RESULTS,
    "bench_spawn.py": COUNTS,
    "bench_startup.py": RESULTS,
    "bench_turns.py": RESULTS,
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SABOTAGE)
def test_a_wrong_result_fails(script: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE[script])
    done = run(script, "--quick", "--json", path=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Error: wrong result: " in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_wrong_rows_in_the_file_fail_though_all_answers_were_right(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from greenroom.persistence.sql_writes import WRITES\n"
        "from greenroom.persistence.records import EndRun\n"
        "WRITES[EndRun] = WRITES[EndRun][1:]\n"
    )
    done = run("bench_turns.py", "--quick", "--json", path=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "completed runs in the store: 0 instead of 200" in done.stderr


async def _stands_still(_options: Any) -> list[Any]:
    await asyncio.Event().wait()
    return []


async def _times_out(_options: Any) -> list[Any]:
    raise TimeoutError("its own")


@pytest.mark.parametrize(
    ("measure", "error", "says"),
    [(_stands_still, WrongResult, "did not come to its end"), (_times_out, TimeoutError, "its own")],
    ids=["the whole", "a part of it"],
)
def test_what_never_ends_is_a_wrong_result(
    measure: Any, error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "QUICK_END", 0.01)
    with pytest.raises(error, match=says):
        asyncio.run(command._bounded(measure, command.Options(True, 1, 7, Path())))
