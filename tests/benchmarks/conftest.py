"""The benchmarks are programs in a folder: what stands beside one is imported by its bare name."""

import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("bench_*.py") if path.name != "bench_simulation.py")


def run(script: str, *options: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script as anybody would; a `sitecustomize` in `path` is imported by all its processes."""
    env = {**os.environ, "PYTHONPATH": str(path)} if path else None
    return subprocess.run(
        [sys.executable, script, *options],
        cwd=BENCHMARKS,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
