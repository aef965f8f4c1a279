"""docs/http.md keeps its word: its tables are those of the code."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tables_are_made_from_the_code() -> None:
    code = "from tell_http import PAGE, page; print(page(PAGE.read_text()), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "docs", capture_output=True, text=True, check=True
    )
    assert done.stdout == (ROOT / "docs/http.md").read_text(), "run make docs"
