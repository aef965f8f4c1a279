"""Every import contract finds the import that it forbids."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PLANTED = {
    "ground": ("src/greenroom/paths.py", "from greenroom.actors import effects"),
    "storage": ("persistence/store.py", "from greenroom.actors.storage import protocol"),
    "faces": ("actors/models.py", "from greenroom.server import views"),
    "thespian": ("persistence/rows.py", "import thespian.actors"),
    "protocols": ("actors/slots/protocol.py", "from greenroom.actors.residency import protocol"),
    "sqlite": ("persistence/reader.py", "import sqlite_utils"),
    "extras": ("src/greenroom/mcp/trees.py", "import litestar"),
}
"""By contract: a module, and a line that is planted at its end."""


def contracts() -> set[str]:
    lines = (ROOT / "setup.cfg").read_text().splitlines()
    return {line.split(":")[2].rstrip("]") for line in lines if line.startswith("[importlinter:contract:")}


def test_something_is_planted_for_every_contract() -> None:
    assert set(PLANTED) == contracts()


@pytest.mark.slow
@pytest.mark.parametrize("contract", PLANTED)
def test_a_planted_import_is_found(contract: str, tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "setup.cfg", tmp_path / "setup.cfg")
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("actors", "persistence", "src"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=ignored)
    file, line = PLANTED[contract]
    with (tmp_path / file).open("a") as module:
        module.write(f"\n{line}\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", "setup.cfg", "--no-cache"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout
