"""The README keeps its word: every snippet runs as it stands, and prints what is said below it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPET = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def snippets() -> list[object]:
    """The code of each snippet with its output, or None where the README shows none."""
    found = []
    for match in SNIPPET.finditer(README):
        line = README.count("\n", 0, match.start()) + 1
        found.append(pytest.param(match[1], match[2], id=f"line {line}"))
    return found


def test_all_snippets_are_found() -> None:
    assert len(snippets()) == README.count("```python") > 0
    assert sum(bool(match[2]) for match in SNIPPET.finditer(README)) == README.count("```text")


@pytest.mark.parametrize(("code", "output"), snippets())
def test_a_snippet_runs_twice_and_prints_what_it_says(
    code: str, output: str | None, tmp_path: Path
) -> None:
    (tmp_path / "snippet.py").write_text(code)
    printed = [printed_by("snippet.py", tmp_path) for _ in range(2)]
    if output is not None:
        assert printed[0] == output
        # What a store has kept is the one thing that may differ: these have read two pages more.
        assert printed[1] == output.replace("has read 2,", "has read 4,")


def printed_by(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout
