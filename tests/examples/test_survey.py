"""The agents' report against one straight loop over the same files: equal to the last number."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import source_facts
import survey
from hypothesis import given
from hypothesis import strategies as st
from source_facts import (
    analyse_file,
    find_modules,
    function_rows,
    imported,
    make_report,
)
from survey_screen import Progress

from greenroom import Runtime, Stats

STDLIB = Path(sysconfig.get_path("stdlib"))


def straight_report(directory: Path, limit: int | None = None) -> dict[str, Any]:
    """The report without agents: one loop, dictionaries, nothing else."""
    known = find_modules(str(directory), limit)
    packages: dict[str, dict[str, Any]] = {}
    importers: dict[str, list[tuple[str, bool]]] = {name: [] for name in known}
    for module in known.values():
        facts = analyse_file(module.file)
        sums = packages.setdefault(module.package, {"counts": {}, "functions": [], "unreadable": {}})
        for what, number in facts.counts().items():
            sums["counts"][what] = sums["counts"].get(what, 0) + number
        sums["functions"] += function_rows(module.name, facts)
        if facts.unreadable:
            sums["unreadable"][module.name] = facts.unreadable
        for name, lazy in imported(facts.imports, module, known).items():
            importers[name].append((module.name, lazy))
    return make_report(packages, importers)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A few packages of the standard library: some hundred modules that import each other."""
    root = tmp_path / "library"
    for name in ("asyncio", "concurrent", "email", "encodings", "importlib", "json", "logging"):
        shutil.copytree(STDLIB / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("os", "typing", "threading", "ast", "_weakrefset", "__future__"):
        shutil.copy(STDLIB / f"{name}.py", root)
    return root


def command(directory: Path, *options: object) -> list[str]:
    return [str(directory), "--json", *map(str, options)]


# Equal to the last number


def test_the_made_tree_has_the_report_that_its_reader_expects(tree: Path):
    report = straight_report(tree)
    totals = report["totals"]
    assert (totals["packages"], totals["modules"], totals["unreadable"]) == (7, 17, 2)
    assert (totals["classes"], totals["functions"], totals["imports"]) == (2, 8, 18)
    assert (totals["public"], totals["documented"]) == (7, 3)
    assert report["most_depended_upon"][:4] == [
        {"module": "app.core", "dependents": 4},
        {"module": "app.sub.leaf", "dependents": 4},
        {"module": "app", "dependents": 2},
        {"module": "app.sub.deep", "dependents": 2},
    ]
    assert report["cycles"] == [
        ["app", "app._tools", "app.core", "app.sub", "app.sub.deep", "app.sub.leaf"],
        ["ring.one", "ring.two"],
    ]
    assert report["most_complicated"][:2] == [
        {"module": "app.core", "function": "run", "line": 6, "branches": 5},
        {"module": "app.core", "function": "run.inner", "line": 10, "branches": 1},
    ]
    assert list(report["unreadable"]) == ["broken", "misencoded"]
    assert report["documentation"][1] == {
        "package": "app",
        "modules": 4,
        "public": 5,
        "documented": 2,
    }


@pytest.mark.parametrize(("slots", "residents"), [(1, 1), (2, 4), (8, 64)])
def test_agents_report_what_a_straight_loop_finds(
    tree: Path, capsys: pytest.CaptureFixture[str], slots: int, residents: int
):
    options = ("--store", ":memory:", "--slots", slots, "--residents", residents)
    assert survey.main(command(tree, *options)) == 0
    assert json.loads(capsys.readouterr().out) == straight_report(tree)


def test_so_do_agents_that_are_seldom_in_memory(library: Path, tmp_path: Path):
    with Runtime(str(tmp_path / "survey.db"), slots=2, residents=4) as runtime:
        asked = {"directory": str(library), "limit": None}
        report = survey.conduct(runtime, "/survey", asked, Progress())
        stats = runtime.stats()
    assert report == straight_report(library)
    assert stats.agents > 200
    assert stats.evictions > stats.agents


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # in what is surveyed
def test_so_do_a_thousand_agents_on_the_standard_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert survey.main(command(STDLIB, "--store", tmp_path / "survey.db")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == straight_report(STDLIB)
    assert report["totals"]["modules"] > 1000


# Stopped and started again


def test_a_stopped_survey_goes_on_with_its_store(
    library: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def stop(self: Progress, stats: Stats, *, runs: int) -> None:
        if stats.evictions > 50:
            raise KeyboardInterrupt

    options = command(library, "--store", tmp_path / "survey.db", "--residents", 8)
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "show", stop)
        assert survey.main(options) == 130
    stopped = capsys.readouterr()
    assert stopped.out == ""
    assert str(tmp_path / "survey.db") in stopped.err

    assert survey.main(options) == 0
    assert json.loads(capsys.readouterr().out) == straight_report(library)


@pytest.mark.slow
def test_a_survey_killed_again_and_again_has_the_same_report(library: Path, tmp_path: Path):
    options = command(library, "--store", tmp_path / "survey.db", "--residents", 8)
    program = [sys.executable, survey.__file__, *options]
    for seconds in (0.5, 0.7, 0.9, 1.2, 1.5, 2.0, 2.5, None):
        try:
            done = subprocess.run(program, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            continue  # killed with SIGKILL
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == straight_report(library)


def test_a_finished_survey_is_shown_again_from_its_store(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = command(tree, "--store", tmp_path / "survey.db")
    assert survey.main(options) == 0
    shown = capsys.readouterr().out
    (tree / "later.py").write_text("import app\n")
    assert survey.main(options) == 0
    assert capsys.readouterr().out == shown


def test_a_failed_survey_is_begun_anew(
    tree: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def fail(file: str) -> None:
        raise RuntimeError("out of paper")

    options = command(tree, "--store", tmp_path / "survey.db")
    with monkeypatch.context() as patch:
        patch.setattr(source_facts, "analyse_file", fail)
        assert survey.main(options) == 1
    failed = capsys.readouterr()
    assert failed.out == ""
    assert "out of paper" in failed.err

    assert survey.main(options) == 0
    assert json.loads(capsys.readouterr().out) == straight_report(tree)


def test_the_default_store_is_removed_when_nothing_is_left_to_do(
    tree: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert survey.main([str(tree)]) == 0
    assert str(tmp_path / "caches" / "greenroom" / "survey-") in capsys.readouterr().err
    assert list((tmp_path / "caches" / "greenroom").iterdir()) == []


# Asked in other ways


def test_the_root_takes_a_directory_anywhere_in_a_tree(tree: Path):
    with Runtime(":memory:", slots=2, residents=4) as runtime:
        report = survey.conduct(runtime, "/elsewhere/survey", str(tree), Progress())
    assert report == straight_report(tree)


def test_a_limit_takes_the_first_modules_by_name(tree: Path, capsys: pytest.CaptureFixture[str]):
    assert survey.main(command(tree, "--store", ":memory:", "--limit", 5)) == 0
    assert json.loads(capsys.readouterr().out) == straight_report(tree, limit=5)


def test_a_directory_without_modules_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert survey.main([str(tmp_path), "--store", ":memory:"]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_the_tables_name_what_the_report_found(tree: Path, capsys: pytest.CaptureFixture[str]):
    assert survey.main([str(tree), "--store", ":memory:"]) == 0
    shown = capsys.readouterr()
    assert "17 modules in 7 packages" in shown.out
    for found in ("app.sub.leaf", "ring.one, ring.two", "app.core: run", "(top level)", "40%"):
        assert found in shown.out
    assert "25 agents" in shown.err


# Names as paths


@given(st.sets(st.text(st.sampled_from("aZz09_.-é"), min_size=0, max_size=5), min_size=2))
def test_different_names_are_different_segments(names: set[str]):
    segments = {survey.segment(name) for name in names}
    assert len(segments) == len(names)
    assert all(re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", segment) for segment in segments)


def test_long_names_are_segments_too():
    names = ["a" * 64, "a" * 65, "a" * 66, "_" * 64, "é" * 40]
    segments = {survey.segment(name) for name in names}
    assert len(segments) == len(names)
    assert all(len(segment) <= 64 for segment in segments)


def test_usual_names_can_be_read_in_their_paths():
    assert survey.segment("io") == "io"
    assert survey.segment("email.mime") == "email--mime"
    assert survey.segment("Odd") == "0-odd"
    assert survey.segment("__init__") == "0__init__"
    assert survey.segment("") == "0"
