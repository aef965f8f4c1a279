"""The house itself: packaging, layering, and what must never stand in the sources."""

import ast
import configparser
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [path for room in ("actors", "persistence") for path in sorted((ROOT / room).rglob("*.py"))]


def test_setup_cfg_names_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = set(config["options"]["packages"].split())
    folders = {"greenroom": ROOT / "src/greenroom"}
    folders |= {f"greenroom.{name}": ROOT / name for name in ("actors", "persistence")}
    found = set()
    for name, folder in folders.items():
        for init in folder.rglob("__init__.py"):
            found.add(".".join((name, *init.parent.relative_to(folder).parts)))
    assert named == found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_there_are_no_locks(path: Path) -> None:
    assert not re.search(r"\b(R?Lock|(Bounded)?Semaphore|Condition)\b", path.read_text())


def _own_sleeps(function: ast.AST) -> list[int]:
    """Lines on which a function itself sleeps; what it defines (an agent, a callback) may."""
    lines = []
    border = list(ast.iter_child_nodes(function))
    while border:
        node = border.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        sleeps = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("sleep")
        if sleeps and ast.unparse(node) != f"{ast.unparse(node.func)}(0)":  # that one only yields
            lines.append(node.lineno)
        border += ast.iter_child_nodes(node)
    return lines


IN_VIRTUAL_TIME = re.compile(r"greenroom\.testing|systems\.virtual|^# In virtual time", re.MULTILINE)
"""There a sleep costs nothing, and is what is tested."""


def test_no_test_waits_by_sleeping() -> None:
    found = [
        f"{path.name}:{line}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if not IN_VIRTUAL_TIME.search(path.read_text())
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for line in _own_sleeps(node)
    ]
    assert found == []


NET = 1800
"""Seconds after which a test hangs, on any machine. What takes a minute here takes a quarter of an hour on
one that is four times slower and has other things to do."""

SMALL_NET = re.compile(r"mark\.timeout\((\d+)\)")


def test_a_tests_time_limit_is_a_net_for_what_hangs() -> None:
    """How fast a machine is, no test says: a limit on work is CPU time, or a ratio within one run."""
    found = [
        f"{path.name}: {seconds}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for seconds in SMALL_NET.findall(path.read_text())
        if 0 < int(seconds) < NET
    ]
    assert found == []
    assert f"timeout = {NET}" in (ROOT / "setup.cfg").read_text()


@pytest.mark.parametrize("name", ["actors", "persistence"])
def test_a_bare_import_says_the_right_name(name: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"import greenroom.{name}" in done.stderr


def output(code: str, **options: Any) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


def modules_after(statement: str) -> set[str]:
    return set(output(f"import sys; {statement}; print(*sys.modules)").split())


def test_importing_greenroom_is_light() -> None:
    """Nothing heavy is loaded by it, which a stop watch could not tell so surely."""
    assert not {"sqlite_utils", "thespian", "rich", "click"} & modules_after("import greenroom")


def test_importing_the_runtime_loads_no_face() -> None:
    assert not {"sqlite_utils", "rich", "click"} & modules_after("from greenroom import Runtime")


def test_importing_takes_at_most_twice_as_long_as_asyncio() -> None:
    def seconds(module: str) -> float:
        code = f"import time; t = time.process_time(); import {module}; print(time.process_time() - t)"
        return min(float(output(code)) for _ in range(5))

    assert seconds("greenroom") <= 2 * seconds("asyncio")


def test_the_picture_of_the_lifecycle_is_drawn_from_the_table() -> None:
    code = "from draw_lifecycle import draw; print(draw(), end='')"
    assert output(code, cwd=ROOT / "docs") == (ROOT / "docs/lifecycle.svg").read_text(), "run make docs"


@pytest.mark.slow
def test_the_wheel_puts_one_name_into_site_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"
    left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, symlinks=True, ignore=left_out)
    subprocess.run(
        [sys.executable, "-m", "build", "-q", "--wheel", str(source), "-o", str(tmp_path)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True)
    (site,) = (tmp_path / "empty/lib").glob("python*/site-packages")
    ours = {
        entry.name
        for entry in site.iterdir()
        if not re.match(r"(pip|setuptools|pkg_resources|_distutils|distutils-)", entry.name)
    }
    assert {name for name in ours if not name.endswith(".dist-info")} == {"greenroom"}
    assert (site / "greenroom/actors/ledger/ledger.py").is_file()
    assert (site / "greenroom/persistence/store.py").is_file()
    page = Path("greenroom/server/dashboard")
    assert [path.name for path in sorted((ROOT / "src" / page).iterdir())] == sorted(
        path.name for path in (site / page).iterdir()
    )
    subprocess.run([python, "-c", "import greenroom"], check=True, cwd=tmp_path)
