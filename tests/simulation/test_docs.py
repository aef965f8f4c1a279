"""docs/testing.md and the example keep their word."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT / "src"),
    "PATH": "/usr/bin:/bin",
    "CI": "1",  # so that Hypothesis does not mind how busy the machine is
}
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_snippets_run_one_after_the_other(tmp_path: Path) -> None:
    snippets = SNIPPET.findall((ROOT / "docs/testing.md").read_text())
    assert len(snippets) == 4
    (tmp_path / "snippets.py").write_text("\n".join([*snippets, "test_it_ends()"]))
    subprocess.run([sys.executable, tmp_path / "snippets.py"], check=True, env=ENVIRONMENT, cwd=tmp_path)


def test_the_example_finds_the_lost_update_and_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/lost_update.py")],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    first, *_, last = done.stdout.splitlines()
    assert first == "naive: two payments of 10 make 10"
    assert re.search(r"In Simulation\(seed=\d+\)", done.stdout)
    assert last == "careful: 100 schedules, nothing wrong"


def test_the_examples_mistake_does_not_show_in_the_natural_order() -> None:
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import lost_update
    finally:
        sys.path.pop(0)
    from greenroom.testing import Simulation

    with Simulation(schedule={}) as simulation:
        lost_update.two_payments(lost_update.naive_teller)(simulation)
