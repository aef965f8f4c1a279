"""Disks that are really full: a file system without room, a limit of the kernel's on the file's size."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

STORY = """
import os, signal, sys, threading
from greenroom import Runtime, StoreError, agent

@agent(name="full-counter")
async def counter(turn):
    turn.state["n"] = turn.state.get("n", 0) + 1
    return turn.state["n"]

folder = sys.argv[1]
runtime = Runtime(os.path.join(folder, "agents.db"), drain=1.0).start()
ref = runtime.spawn(counter, "/t/a")
accepted = threading.Semaphore(0)
waiting, refused = [], []

def write():
    try:
        for _ in range(50):
            waiting.append(ref.followup(b"x" * 100_000))
    except StoreError as error:
        refused.append(error)
    accepted.release()

stream = runtime.events()
fill(folder)
threading.Thread(target=write, daemon=True).start()
failing = next(event for event in stream if event.type == "store.failing")
print("failing:", failing.data["problem"], flush=True)
assert runtime.stats().store_problem
try:
    ref.followup("refused")
except StoreError as error:
    print("refused:", error, flush=True)
light = runtime.spawn(counter, "/t/light", input=1, durability="memory")
assert light.run.result(timeout=600) == 1
make_room(folder)
next(event for event in stream if event.type == "store.healed")
assert accepted.acquire(timeout=30)
counts = sorted(run.result(timeout=600) for run in waiting)
print("done", len(counts), len(refused), flush=True)
final = ref.followup("last").result(timeout=600)
assert final == len(counts) + 1, (final, counts)
runtime.close()
with Runtime(os.path.join(folder, "agents.db")) as again:
    assert again.agent("/t/a").state() == {"n": final}
print("kept", flush=True)
"""

BY_LIMIT = """
import resource

def fill(folder):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sizes = (os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) + 300_000, resource.RLIM_INFINITY))

def make_room(folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""

BY_FILE_SYSTEM = """
def fill(folder):
    with open(os.path.join(folder, "filler"), "wb") as filler:
        free = os.statvfs(folder)
        filler.write(bytes(free.f_bavail * free.f_frsize - 500_000))

def make_room(folder):
    os.unlink(os.path.join(folder, "filler"))
"""


def told(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot be written" in done.stderr, "the log says so"
    assert done.stdout.rstrip().endswith("kept"), done.stdout + done.stderr
    return done.stdout


def test_43_a_file_that_may_not_grow_loses_nothing(tmp_path: Path) -> None:
    out = told(
        [sys.executable, "-c", textwrap.dedent("import os, signal\n" + BY_LIMIT) + STORY, str(tmp_path)]
    )
    assert "failing: SQLite reports: disk I/O error" in out


def test_43_a_file_system_without_room_loses_nothing(tmp_path: Path) -> None:
    mount = ["unshare", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=64m none "$1" && shift && exec "$@"'
    if (
        os.name != "posix"
        or subprocess.run([*mount, script, "sh", tmp_path, "true"], check=False).returncode
    ):
        pytest.skip("this user may not mount a file system")
    code = "import os\n" + BY_FILE_SYSTEM + STORY
    out = told([*mount, script, "sh", str(tmp_path), sys.executable, "-c", code, str(tmp_path)])
    assert "failing: the disk is full" in out
