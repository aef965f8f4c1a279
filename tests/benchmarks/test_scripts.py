"""Every benchmark runs, and says what it found in one shape. How fast that was does not matter here."""

import json
from pathlib import Path

import msgspec
import pytest

from .conftest import SCRIPTS, run

from common.report import Report  # isort: skip

pytestmark = pytest.mark.slow

MAY_BE_NOTHING = ("bench_latency.py", "bench_memory.py")
"""A quick load may end no turn while a few calls are timed; a small process may even shrink."""


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_quick_run_ends_well_and_reports(script: str) -> None:
    done = run(script, "--quick", "--json", "--seed", "7")
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode(done.stdout, type=Report)
    assert (report.question, report.quick, report.seed) == (script[6:-3], True, 7)
    assert report.asks.endswith("?")
    assert report.peak_mib > 0
    assert report.machine.cores > 0
    assert "/" not in str(report.machine)
    assert report.rows
    for row in report.rows:
        assert row.ours.median > 0 or script in MAY_BE_NOTHING
        assert len(row.ours.rounds) >= report.repeats
        assert (row.reached is None) == (row.target is None)
    compared = [row for row in report.rows if row.floor is not None]
    assert compared, "nothing is measured alone"
    assert all(row.ratio is not None and row.floor_name for row in compared)
    assert len({row.workload for row in report.rows}) == len(report.rows), "peers name them by this"


def test_the_simulations_benchmark_runs() -> None:
    done = run("bench_simulation.py", "--seconds", "0.3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["small"]["schedules"] > 0


def test_a_picture_is_a_png_and_an_svg(tmp_path: Path) -> None:
    done = run("bench_io_turns.py", "--quick", "--plot", str(tmp_path / "made" / "here"))
    assert done.returncode == 0, done.stderr
    png, svg = (tmp_path / "made/here" / f"io_turns.{end}" for end in ("png", "svg"))
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in svg.read_text()
