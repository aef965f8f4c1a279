"""Power cuts: of what a store's owner did to the disk, only what was synced surely survives.

A library stands between the owner and libc (`power/shim.c`) and logs every write and every sync. From
that log the disk is made anew as it may be after a cut at any moment (`power/disk.py`), opened, and
audited (`power/cuts.py`). No power is cut, and nothing is slow.

`GREENROOM_POWER_SEEDS` says how many stories are cut into pieces at each level, each other than the
others; beyond the first, every moment is cut.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from .power.cuts import Cuts, Found, Promised, goes_on
from .power.disk import Disk, Op, read_log
from .power.worker import Job

HERE = Path(__file__).parent
COMPILER = shutil.which(os.environ.get("CC", "cc"))
SEEDS = int(os.environ.get("GREENROOM_POWER_SEEDS", "1"))

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the shim stands before Linux' libc"),
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler to make the shim with"),
    pytest.mark.timeout(1800 + 3600 * SEEDS),
]


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder, in memory if that can be had: all disks here are made up."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert COMPILER is not None
    made = tmp_path_factory.mktemp("shim") / "shim.so"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    subprocess.run([COMPILER, *flags, "-o", made, HERE / "power/shim.c", "-ldl", "-lpthread"], check=True)
    return made


def record(shim: Path, room: Path, *deadly: int, **job: Any) -> list[Path]:
    """Have a story told on one disk, in as many lives as are named by where they end; their logs."""
    folder, logs = room / "disk", []
    folder.mkdir()
    for number, step in enumerate(deadly):
        logs.append(room / f"log{number}")
        life = subprocess.run(
            [
                sys.executable,
                "-m",
                "durability.power.worker",
                msgspec.json.encode(Job(str(folder), deadly=step, **job)),
            ],
            cwd=HERE.parent,
            env={
                **os.environ,
                "LD_PRELOAD": str(shim),
                "GREENROOM_POWER_FOLDER": str(folder),
                "GREENROOM_POWER_LOG": str(logs[-1]),
            },
            check=False,
        )
        assert life.returncode == (-signal.SIGKILL if step else 0)
    return logs


def explore(logs: list[Path], promised: Promised, seed: int, room: Path) -> Found:
    found = Cuts(logs, promised, seed=seed, room=room).explore(0.2 if seed == 0 else 1.0)
    print(f"\n{dict(found.cuts)} cuts, {found.commits} states, {found.behind} cuts that lost some of them")
    return found


def deadly_steps(seed: int) -> int:
    """Where the first life ends: within the story."""
    return 300 if seed == 0 else Random(seed).randrange(150, 420)


LEVELS: list[tuple[str, bool, Promised]] = [
    ("power", False, "all"),
    ("process", True, "careful"),
    ("process", False, "nothing"),
]


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize(("durability", "careful", "promised"), LEVELS, ids=["power", "calls", "process"])
def test_after_a_power_cut_at_any_moment_what_was_promised_is_there_and_nothing_is_torn(
    shim: Path, room: Path, seed: int, durability: str, careful: bool, promised: Promised
) -> None:
    """An owner is killed in the middle of its work; the next one finishes. The cuts fall into both lives.

    Whatever a cut leaves opens, is whole, is one of the states that were committed, and holds what was
    promised to survive it: everything, what single calls asked for, or nothing. A runtime goes on with
    it; where all was promised, to the same end as without a cut.
    """
    logs = record(shim, room, deadly_steps(seed), 0, durability=durability, careful=careful)
    found = explore(logs, promised, seed, room)
    assert not found.problems, found.problems[:5]
    assert found.commits >= 40
    assert found.cuts.total() >= 400
    assert found.behind >= 50, "cuts that cost nothing prove nothing"
    problems = [problem for image in found.images for problem in goes_on(image, room, promised)]
    assert not problems, problems[:5]


def test_in_memory_mode_a_cut_costs_much_and_tears_nothing(shim: Path, room: Path) -> None:
    logs = record(shim, room, 0, durability="memory")
    found = explore(logs, "not even a kill", 0, room)
    assert not found.problems, found.problems[:5]
    assert found.behind >= 10, "a cut costs all since the start, and commits are few"


@pytest.mark.long
def test_scenario_41_a_kill_within_any_write_of_a_commit_or_checkpoint_loses_nothing(
    shim: Path, room: Path
) -> None:
    """Between any two operations on the disk, which is finer than between statements."""
    logs = record(shim, room, 0, durability="process")
    cuts = Cuts(logs, "nothing", seed=0, room=room)
    found = cuts.explore(1.0)
    assert not found.problems, found.problems[:5]
    assert found.cuts["killed"] >= 700


# Whether the tests test anything


def test_the_log_has_all_that_was_done_to_the_disk(shim: Path, room: Path) -> None:
    logs = record(shim, room, 250, 150, 0)
    disk = Disk()
    for log in logs:
        disk.new_process()
        for done in read_log(log):
            disk.do(done)
    left = disk.left("killed", Random(0))
    assert left == {path.name: path.read_bytes() for path in (room / "disk").iterdir()}


@pytest.mark.parametrize(
    ("sabotage", "durability", "promised", "problem"),
    [
        ("normal instead of full", "power", "all", "told and not there"),
        ("off", "process", "nothing", "does not open|never committed|integrity|cannot be read"),
        ("key in the air", "power", "all", "is no key"),
    ],
)
def test_a_sync_that_is_left_out_is_found(
    shim: Path, room: Path, sabotage: str, durability: str, promised: Promised, problem: str
) -> None:
    logs = record(shim, room, 0, durability=durability, sabotage=sabotage)
    found = explore(logs, promised, 0, room)
    assert any(word in line for line in found.problems for word in problem.split("|"))


def test_a_disk_that_ignores_syncs_is_found(shim: Path, room: Path) -> None:
    """The same log without its fsyncs: what was promised is not there, and the audits say so."""
    (log,) = record(shim, room, 0, durability="power")
    deaf = room / "deaf"
    with deaf.open("wb") as file:
        for done in read_log(log):
            if done.op is not Op.SYNC:
                numbers = (done.op, done.handle, done.offset, len(done.data))
                file.write(b"".join(number.to_bytes(8, sys.byteorder, signed=True) for number in numbers))
                file.write(done.data)
    assert explore([deaf], "all", 0, room).problems
