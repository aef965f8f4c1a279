"""What a durable turn and a message cost in steps does not grow unseen. Deterministic: no time in it."""

import copy
import os
from pathlib import Path

import pytest

import guard  # isort: skip

RENEW = "python benchmarks/guard.py --renew"


@pytest.fixture(scope="module")
def now() -> dict[str, guard.Figures]:
    """What they cost with the code as it is."""
    return guard.fresh_figures()


def test_a_turn_and_a_message_cost_what_was_committed(now: dict[str, guard.Figures]) -> None:
    then = guard.committed()
    if then is None:
        pytest.skip(f"there are no figures for Python {guard.PYTHON} in guard.json: {RENEW}")
    problems = guard.complaints(now, then)
    assert problems == [], "\n".join(problems)


@pytest.mark.slow
def test_the_figures_are_the_same_each_time(now: dict[str, guard.Figures]) -> None:
    again = guard.fresh_figures()
    for what, found in again.items():
        for name, figure in found.items():
            slack = 0.02 if name == "blocks of memory kept" else 0.001  # some live as long as they like
            assert figure == pytest.approx(now[what][name], rel=slack, abs=0.05), (what, name)


@pytest.mark.parametrize(("change", "told"), [(1.02, 0), (1.05, 1), (0.95, 0), (0.8, 1)])
def test_the_guard_tolerates_little_and_says_how_much_it_was(
    now: dict[str, guard.Figures], change: float, told: int
) -> None:
    then = {"a durable turn": {"bytecodes": 10_000.0}}
    other = {"a durable turn": {"bytecodes": 10_000.0 * change}}
    problems = guard.complaints(other, then)
    assert len(problems) == told
    for problem in problems:
        assert f"{change - 1:+.1%}" in problem
        assert RENEW in problem


def test_something_new_that_stays_in_memory_is_seen() -> None:
    then = {"a message": {"blocks of memory kept": 0.0}}
    assert guard.complaints(copy.deepcopy(then), then) == []
    assert len(guard.complaints({"a message": {"blocks of memory kept": 1.0}}, then)) == 1


SLOWER = """
from greenroom.actors.systems.cell import Cell
right = Cell.send
def send(self, to, message):
    if len([n for n in range(3)]) == 3:
        right(self, to, message)
Cell.send = send
"""


@pytest.mark.slow
def test_a_few_more_steps_for_each_message_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: dict[str, guard.Figures]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOWER)
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(tmp_path))
    problems = guard.complaints(guard.fresh_figures(), now)
    assert any("a message costs" in problem and "bytecodes" in problem for problem in problems)
    assert any("a durable turn costs" in problem and "bytecodes" in problem for problem in problems)
