"""How peers' scripts are started. Those in Python have a virtual environment each, made when it is first
needed and anew when requirements change."""

import shutil
import subprocess
import sys
from pathlib import Path

from common.machine import ROOT

HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / ".venv" / "peers-bench"


class NotInstalled(Exception):
    """A peer cannot be had here; says why."""


def starting(script: str) -> list[str]:
    """The command that starts a script, in the folder of the benchmarks. Raises `NotInstalled`."""
    if not (HERE / f"{script}.escript").exists():
        return [str(python_of(script)), "-m", f"peers.{script}"]
    escript = shutil.which("escript")
    if escript is None:
        raise NotInstalled("there is no escript: Debian has it in erlang-base, and erlang-mnesia is needed")
    return [escript, f"peers/{script}.escript"]


def python_of(script: str) -> Path:
    """The interpreter that a script in Python runs with. Raises `NotInstalled`."""
    folder = ENVIRONMENTS / script
    wanted = (HERE / "requirements" / f"{script}.txt").read_text()
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    _run(sys.executable, "-m", "venv", "--clear", str(folder))
    install = ("install", "--quiet", "--disable-pip-version-check")
    _run(str(python), "-m", "pip", *install, *wanted.split())
    stamp.write_text(wanted)  # last: what was broken off is made anew
    return python


def _run(*words: str) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise NotInstalled(said[-1] if said else "no reason was given") from error
