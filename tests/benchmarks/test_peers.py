"""The peers' benchmarks, without any peer: what scripts are, how they are asked, and what is made of it."""

import ast
import asyncio
import importlib.util
import os
import re
import shutil
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from click.testing import CliRunner

from .conftest import BENCHMARKS

import run as all_of_them  # isort: skip
from common import machine  # isort: skip
from common.measure import Round  # isort: skip
from common.report import OURS, Measured, Peers, Report, Row  # isort: skip
from common.table import markdown as table_of  # isort: skip
from peers import child, environment, ours, run  # isort: skip
from peers.contest import ROWS  # isort: skip

PEERS = BENCHMARKS / "peers"
SCRIPTS = sorted({recipe.script for recipe in run.PEERS.values()} - {"erlang"})
IN_PYTHON = [peer for peer, recipe in run.PEERS.items() if recipe.script in SCRIPTS]


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "commit", lambda: "abc")


class Anything(type):
    """A stub's metaclass: whatever is asked of such a class, called or decorated with it, is one again."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return Stub


class Stub(metaclass=Anything):
    """Stands for all that a peer has."""


class StubModule(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub


def imported(path: Path) -> set[str]:
    """The modules that a script imports, by their dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            names.add(node.module)
    return names


def foreign(path: Path) -> set[str]:
    """Those of them that do not come with Python."""
    return {name for name in imported(path) if name.partition(".")[0] not in sys.stdlib_module_names}


def loaded(script: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script as a module, with a stub for its peer."""
    path = PEERS / f"{script}.py"
    for name in foreign(path) - {"peers.contest"}:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            dotted = ".".join(parts[:end])
            monkeypatch.setitem(sys.modules, dotted, StubModule(dotted))
    monkeypatch.setattr(sys, "argv", [script, "--as", variant])
    spec = importlib.util.spec_from_file_location(f"stubbed_{script}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    with mock.patch.dict(os.environ):
        spec.loader.exec_module(module)
    return module


def program(code: str) -> list[str]:
    """A made-up script; it is told a workload's name."""
    return [sys.executable, "-S", "-c", code]


def answering(line: str, hello: str = '{"note": "as told", "version": "x 1"}') -> list[str]:
    """A script that answers each question with that line."""
    return program(
        f"import sys\nprint({hello!r}, flush=True)\nfor _ in sys.stdin: print({line!r}, flush=True)"
    )


def compete(ours: list[str], theirs: list[str], workload: str = "ping-pong") -> dict[str, run.Told]:
    return asyncio.run(run.compete("other", workload, ours, theirs, 2))


# Scripts


@pytest.mark.parametrize("peer", IN_PYTHON)
def test_a_script_names_workloads_that_there_are(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = run.PEERS[peer]
    contest = loaded(recipe.script, recipe.variant, monkeypatch).contest
    assert contest.workloads
    assert set(contest.workloads) <= set(ROWS)
    assert contest.variant == recipe.variant
    assert contest.needs


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_imports_its_peer_and_what_scripts_share(script: str) -> None:
    names = {name.partition(".")[0] for name in foreign(PEERS / f"{script}.py")}
    assert script in names
    assert not names & {"greenroom", "common", "msgspec", "click"}
    assert "peers" in names


def test_what_scripts_share_needs_python_alone() -> None:
    assert foreign(PEERS / "contest.py") == set()


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_needs_is_pinned(script: str) -> None:
    lines = (PEERS / "requirements" / f"{script}.txt").read_text().split()
    assert lines
    assert all(re.fullmatch(r"[a-z-]+==[0-9.]+", line) for line in lines)


def test_erlangs_script_names_workloads_that_there_are() -> None:
    names = re.findall(r'\{"(.+?)", ', (PEERS / "erlang.escript").read_text())
    assert len(names) > 10
    assert set(names) <= set(ROWS)


@pytest.mark.skipif(shutil.which("escript") is None, reason="there is no Erlang")
def test_erlangs_script_does_its_workloads() -> None:
    command = [*environment.starting("erlang"), "--quick"]
    for workload in ("ping-pong", "turns process", "wait"):
        assert workload in run.workloads_of("erlang", command)
        told = compete(answering(f"{[1.0] * len(ROWS[workload])}"), command, workload)
        assert all(each.value for each in told.values()), told


def test_each_workload_is_a_row_of_the_table_and_greenroom_does_all() -> None:
    rows = {f"{report.question}/{row.workload}" for report in all_of_them.kept() for row in report.rows}
    assert {row for of_one in ROWS.values() for row in of_one} <= rows
    assert list(ours.contest.workloads.keys() ^ ROWS.keys()) == []


# Asking


def test_both_are_asked_in_turn_and_the_ratio_is_of_neighbours() -> None:
    (told,) = compete(answering("[300.0]"), answering("[100.0]")).values()
    assert (told.value, told.ours, told.ratio, told.rounds) == (100.0, 300.0, 3.0, 2)
    assert (told.note, told.version) == ("as told", "x 1")


def test_a_workload_may_have_several_rows() -> None:
    told = compete(answering("[1, 20]"), answering("[2, 10]"), "wait")
    assert [each.ratio for each in told.values()] == [0.5, 2.0]
    assert tuple(told) == ROWS["wait"]


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (answering("quick, quick"), "it told nonsense: quick, quick"),
        (answering("[1.0, 2.0]"), "2.0] for 1 rows"),
        (answering("[1.0]", "hello"), "it told nonsense: hello"),
        (program("raise RuntimeError('no memory')"), "it ended: RuntimeError: no memory"),
        (["no-such-program"], "it cannot be started"),
    ],
    ids=["nonsense", "too many values", "a strange hello", "death", "absence"],
)
def test_a_peer_that_gives_no_answer_is_told_and_left_empty(theirs: list[str], why: str) -> None:
    (told,) = compete(answering("[1.0]"), theirs).values()
    assert (told.value, told.ratio) == (None, None)
    assert told.note.startswith("failed: ")
    assert why in told.note


def test_a_peer_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "ROUND", 0.1)
    monkeypatch.setattr(child, "LEAVING", 0.1)
    silent = program(
        'import threading\nprint(\'{"note": "", "version": ""}\', flush=True)\nthreading.Event().wait()'
    )
    (told,) = compete(answering("[1.0]"), silent).values()
    assert told.value is None
    assert "it took longer" in told.note


def test_a_failure_of_our_own_is_no_result() -> None:
    with pytest.raises(child.Failed, match="nonsense") as caught:
        compete(answering("oh"), answering("[1.0]"))
    assert caught.value.who == OURS


def test_a_script_that_does_not_say_what_it_does_is_told() -> None:
    said = program('print(\'{"wait": "", "ping-pong": "fast", "unheard of": ""}\')')
    assert run.workloads_of("other", said) == ["ping-pong", "wait"], "in the table's order"
    with pytest.raises(child.Failed, match="does not say what it does"):
        run.workloads_of("other", program("print('welcome')"))
    with pytest.raises(child.Failed, match="it ended: ImportError: no libfast"):
        run.workloads_of("other", program("raise ImportError('no libfast')"))


# Environments


def test_an_environment_is_made_once_and_anew_when_requirements_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []

    def made(*words: str) -> None:
        calls.append(words)
        (tmp_path / "made" / "some").mkdir(parents=True, exist_ok=True)

    (tmp_path / "requirements").mkdir()
    wanted = tmp_path / "requirements/some.txt"
    wanted.write_text("some==1\nother==2\n")
    monkeypatch.setattr(environment, "HERE", tmp_path)
    monkeypatch.setattr(environment, "ENVIRONMENTS", tmp_path / "made")
    monkeypatch.setattr(environment, "_run", made)
    environment.python_of("some")
    environment.python_of("some")
    assert len(calls) == 2, "a venv and a pip"
    assert calls[1][-2:] == ("some==1", "other==2")
    wanted.write_text("some==2\n")
    environment.python_of("some")
    assert len(calls) == 4


def test_what_cannot_be_installed_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(environment.NotInstalled, match="no such release"):
        environment._run(*program("import sys; sys.exit('no such release')"))
    with pytest.raises(environment.NotInstalled, match="no-such-program"):
        environment._run("no-such-program")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(environment.NotInstalled, match="erlang-base"):
        environment.starting("erlang")


def test_a_peer_that_cannot_be_installed_is_left_out_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def starting(script: str) -> list[str]:
        if script == "pykka":
            raise environment.NotInstalled("the index is gone")
        return [sys.executable]

    def command_of(recipe: run.Recipe, start: list[str], *, quick: bool) -> list[str]:
        return answering("[2.0]" if recipe.script == "ours" else "[1.0]")

    kept: list[run.Results] = []
    before = {ROWS["ping-pong"][0]: {"pykka": run.Told(5.0), "ray": run.Told(7.0)}}
    monkeypatch.setattr(run, "starting", starting)
    monkeypatch.setattr(run, "command_of", command_of)
    monkeypatch.setattr(run, "workloads_of", lambda peer, command: ["ping-pong"])
    monkeypatch.setattr(run, "known", lambda: before)
    monkeypatch.setattr(run, "write", lambda results, rows: kept.append(results))
    done = CliRunner().invoke(run.main, ["--only", "pykka", "--only", "xoscar"])
    assert done.exit_code == 0, done.output
    assert "pykka is left out, as it cannot be installed: the index is gone" in done.output
    assert {name: told.value for name, told in kept[-1][ROWS["ping-pong"][0]].items()} == {
        "xoscar": 1.0,
        "ray": 7.0,
    }


# Results


def test_a_peers_new_results_replace_all_it_had_and_nothing_else() -> None:
    first, second = ROWS["ping-pong"][0], ROWS["memory"][0]
    known = {second: {"ray": run.Told(1.0), "pykka": run.Told(2.0)}, first: {"ray": run.Told(3.0)}}
    made = run.merged(known, "ray", {first: run.Told(4.0)})
    assert made == {first: {"ray": run.Told(4.0)}, second: {"pykka": run.Told(2.0)}}
    assert list(made) == [first, second], "in the table's order"


def test_a_ratio_is_the_median_of_rounds_side_by_side() -> None:
    rounds = {
        OURS: [Round({"row": value}) for value in (40.0, 4.0, 44.0)],
        "other": [Round({"row": value}) for value in (10.0, 1.0, 10.0)],
    }
    told = run.compared(rounds, "other", "row", run.Told(None, note="n"))
    assert (told.value, told.ours, told.ratio, told.note) == (10.0, 40.0, 4.0, "n")


def test_the_benchmarks_table_reads_what_is_written() -> None:
    told = run.Told(50.0, 10.0, "n", ours=500.0, rounds=3, version="x 1", commit="abc", load=1.5)
    text = msgspec.json.encode({"turns/w": {"other": told, "failed": run.Told(None, note="failed: oh")}})
    made = Row("w", "u", "more", Measured(700.0, (700.0,)))
    report = Report("turns", "How many?", False, 1, 3, machine.machine(), "abc", "c", 1.0, 10, (made,))
    assert "| 50 (other) | x 10 |" in table_of([report], msgspec.json.decode(text, type=Peers))
    lines = run.markdown(msgspec.json.decode(text, type=run.Results), {"turns/w": made})
    assert "x 1." in lines


def test_a_table_has_a_column_a_peer_and_says_what_failed() -> None:
    row = ROWS["ping-pong"][0]
    results = {row: {"pykka": run.Told(50.0, 10.0), "ray": run.Told(None, note="failed: it ended")}}
    lines = run.markdown(results, {row: Row("w", "u", "less", Measured(5.0, (5.0,)))}).splitlines()
    assert "| workload | unit | pykka | ray |" in lines
    assert f"| {row} | u | 50 (x 0.1) | - |" in lines
    assert f"- {row}, ray: failed: it ended." in lines


def test_the_readme_has_the_peers_markers() -> None:
    text = (BENCHMARKS / "README.md").read_text()
    assert run.in_readme(text, "<their table>").count("<their table>") == 1
    with pytest.raises(Exception, match="markers"):
        run.in_readme("nothing", "all of them")
