"""What the benchmarks share: rounds, ratios, targets, tables, access patterns, the floor."""

import asyncio
import pickle
import platform
import sqlite3
import subprocess
import uuid
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from .conftest import BENCHMARKS

import run as all_of_them  # isort: skip
from common import machine, strays  # isort: skip
from common.check import WrongResult, counted, equal  # isort: skip
from common.floor import Agents, Floor, Writer  # isort: skip
from common.measure import Round, interleaved, quantile, ratio  # isort: skip
from common.report import FLOOR, OURS, Peer, Report, Row, at_least, at_most  # isort: skip
from common.report import best_peer, factor, number, row, short_of  # isort: skip
from common.stores import counted as counted_in  # isort: skip
from common.table import markdown  # isort: skip
from common.work import ACCESS, advance, new_state  # isort: skip


def rounds_of(**values: list[float]) -> dict[str, list[Round]]:
    names = {"ours": OURS, "floor": FLOOR}
    return {names.get(name, name): [Round({"v": value}) for value in some] for name, some in values.items()}


def report_of(made: Row) -> Report:
    return Report("turns", "How many?", False, 1, 3, machine.machine(), "abc", "python x", 1.0, 10, (made,))


# Rounds


def test_contestants_take_turns_forwards_and_backwards_and_warm_up_first() -> None:
    called = []

    def contestant(name: str) -> object:
        numbers = count()

        async def work() -> Round:
            called.append(name)
            return Round({"v": float(next(numbers))})

        return work

    contestants = {name: contestant(name) for name in "ab"}
    rounds = asyncio.run(interleaved(contestants, 2))  # type: ignore[arg-type]
    assert "".join(called) == "abbaab"
    assert [each.values["v"] for each in rounds["a"]] == [1.0, 2.0], "the first does not count"


def test_a_ratio_is_that_of_neighbours_so_a_slower_hour_does_not_show() -> None:
    ours, floor = [40.0, 4.0, 44.0], [100.0, 10.0, 100.0]
    assert ratio(ours, floor) == pytest.approx(0.4)


def test_a_quantile_is_one_of_the_values() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.999) == 3.0
    assert quantile([float(n) for n in range(1000)], 0.99) == 990.0


# Rows


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        (at_least(0.4), True),
        (at_least(0.6), False),
        (at_most(0.5), True),
        (at_least(50, of="ours"), True),
        (at_most(49, of="ours"), False),
    ],
)
def test_a_target_is_of_the_ratio_or_of_our_own_figure(target: object, reached: bool) -> None:
    made = row(
        "w", "1/s", rounds_of(ours=[50.0], floor=[100.0]), "v", better="more", target=target  # type: ignore[arg-type]
    )  # fmt: skip
    assert made.ratio == 0.5
    assert made.reached is reached


@pytest.mark.parametrize(("better", "best", "times"), [("more", "quick", 0.5), ("less", "slow", 0.25)])
def test_the_best_peer_is_the_one_with_the_best_figure(better: str, best: str, times: float) -> None:
    rounds = rounds_of(ours=[100.0], floor=[1.0], slow=[25.0])
    made = row("w", "u", rounds, "v", better=better, peers=["slow"])  # type: ignore[arg-type]
    found = best_peer(made, {"quick": Peer(200.0), "absent": Peer(None)})
    assert found is not None
    assert found[0] == best
    assert factor(made, found[1]) == times


def test_a_peer_that_ours_is_not_far_enough_ahead_of_is_told() -> None:
    wanted = {"near": 10.0, "far": 10.0, "unknown": 10.0}
    made = row("w", "u", rounds_of(ours=[100.0]), "v", better="more", wanted=wanted)
    peers = {"near": Peer(50.0), "far": Peer(1.0)}
    assert short_of(made, peers) == {"near": (10.0, 2.0)}
    assert "near: x10 ✗ (2)" in markdown([report_of(made)], {"turns/w": peers})


@pytest.mark.parametrize(
    ("value", "text"),
    [(12_345.0, "12,300"), (0.0123456, "0.0123"), (1.0, "1"), (99.96, "100"), (0.0, "0"), (None, "-")],
)
def test_a_number_has_three_figures(value: float | None, text: str) -> None:
    assert number(value) == text


# The README


def test_the_results_go_between_the_markers_and_nowhere_else() -> None:
    made = row("w", "u", rounds_of(ours=[1.0], floor=[2.0]), "v", better="more", target=at_least(0.4))
    results = all_of_them.section([report_of(made)], {})
    text = f"before\n{all_of_them.BEGIN}\nold\n{all_of_them.END}\nafter\n"
    renewed = all_of_them.written(text, results)
    assert renewed.startswith("before\n")
    assert renewed.endswith("after\n")
    assert "old" not in renewed
    assert "| w | u | 1 | 2 | 0.5 | ≥ 0.4 x ✓ | - | - |" in renewed
    assert all_of_them.written(renewed, results) == renewed
    with pytest.raises(Exception, match="lost its markers"):
        all_of_them.written("nothing", results)


def test_the_readme_has_its_markers_and_names_every_script() -> None:
    text = (BENCHMARKS / "README.md").read_text()
    assert all_of_them.written(text, "x")
    for script in BENCHMARKS.glob("bench_*.py"):
        assert f"`{script.stem}`" in text
        assert script.stem == "bench_simulation" or script.stem[6:] in all_of_them.QUESTIONS


def test_a_machine_is_told_without_its_name() -> None:
    told = str(machine.machine())
    assert platform.node() not in told
    assert platform.python_version() in told


def test_a_commit_is_marked_where_code_differs_and_not_for_new_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    code, results = tmp_path / "actors" / "core.py", tmp_path / "benchmarks" / "results" / "turns.json"
    for file in (code, results):
        file.parent.mkdir(parents=True)
        file.write_text("old")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    clean = machine.commit()
    results.write_text("new")
    assert machine.commit() == clean
    code.write_text("new")
    assert machine.commit() == f"{clean}+"


# Access


@pytest.mark.parametrize("name", ACCESS)
def test_a_pattern_is_the_same_for_the_same_seed(name: str) -> None:
    pattern = ACCESS[name]
    numbers = pattern(1_000, 5_000, 7)
    assert numbers == pattern(1_000, 5_000, 7)
    assert len(numbers) == 5_000
    assert set(numbers) <= set(range(1_000))
    assert (numbers == pattern(1_000, 5_000, 8)) is (name == "loop")


def test_patterns_are_as_skewed_as_their_names_say() -> None:
    def share(name: str, most: int) -> float:
        often = Counter(ACCESS[name](1_000, 50_000, 7)).most_common(most)
        return sum(times for _, times in often) / 50_000

    assert share("uniform", 10) < 0.02
    assert 0.3 < share("Zipf", 10) < 0.5
    assert 0.88 < share("hotspot", 10) < 0.93
    assert share("loop", 10) == 0.01


# The floor


def test_the_floor_does_the_work_and_keeps_it(tmp_path: Path) -> None:
    async def story() -> list[int]:
        async with Writer(tmp_path / "floor.db") as writer:
            agents = Agents(Floor(writer), 3)
            told = [await agents.ask(number, turn) for turn in range(4) for number in range(3)]
            await agents.close()
        return told

    assert asyncio.run(story()) == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    for question, found in {
        "SELECT count(*) FROM runs WHERE status = 'completed'": 12,
        "SELECT count(*) FROM events": 24,
        "SELECT count(*) FROM snapshots": 3,
    }.items():
        assert counted_in(tmp_path / "floor.db", question) == found


def test_a_state_is_two_kib() -> None:
    state = new_state()
    assert advance(state, 7) == 1
    assert 1_900 < len(pickle.dumps(state, 5)) < 2_300


def test_the_floors_writer_tells_what_went_wrong(tmp_path: Path) -> None:
    async def story() -> None:
        async with Writer(tmp_path / "floor.db") as writer:
            writer.put([("INSERT INTO events VALUES (?, ?, ?, ?)", (1,))], lambda: None)

    with pytest.raises(sqlite3.Error, match="bindings"):
        asyncio.run(story())


# Checks


def test_a_check_says_what_was_found_instead_of_what() -> None:
    equal("apples", 2, 2)
    counted("turns", [2, 3, 1], 3)
    with pytest.raises(WrongResult, match="apples: 1 instead of 2"):
        equal("apples", 1, 2)
    with pytest.raises(WrongResult, match="turns"):
        counted("turns", [1, 1, 3], 3)


# Processes that never come to their end


def test_a_stray_and_what_it_started_are_ended_by_their_mark() -> None:
    mark = uuid.uuid4().hex
    child = f"import time; print('child', flush=True); time.sleep(600)  # {mark}"
    parent = (
        "import subprocess, sys, time;"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True); time.sleep(600)"
    )
    before = set(Path("/proc").glob("[0-9]*"))
    out, error = strays.output_within(1.5, "-c", parent)
    assert "it was ended after" in error
    assert out in ("", "child\n")
    for folder in set(Path("/proc").glob("[0-9]*")) - before:
        try:
            assert mark.encode() not in (folder / "cmdline").read_bytes()
        except OSError:
            continue
