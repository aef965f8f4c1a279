"""Every fault that there was is found if it comes back: by the model, or by a test of its own.

`test_planted.py` has the model find the mistakes that it can express.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .old_faults import NETS, PLANTED, ROWS

ROOT = Path(__file__).parents[2]


def test_each_row_has_a_mistake_and_each_mistake_a_net() -> None:
    assert list(ROWS) == list(range(1, 16))
    for row, names in ROWS.items():
        assert names, f"nobody has planted fault {row}"
        for name in names:
            assert (name in PLANTED) != (name in NETS), f"fault {row}: one net for {name}"
    assert set(NETS) <= {name for names in ROWS.values() for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_planted_mistake_is_found_by_its_own_test(name: str) -> None:
    """With it the test fails, and not before it has begun."""
    test = NETS[name][1]
    paths = f"{ROOT}{os.pathsep}{ROOT / 'src'}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "tests.simulation.planting", test],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "GREENROOM_PLANT": name},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"FAILED {test}" in done.stdout
