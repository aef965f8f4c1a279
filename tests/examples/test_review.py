"""The review, with its real programs, of a small repository."""

import os
import subprocess
import sys
from pathlib import Path

from .conftest import EXAMPLES


def test_a_repository_is_reviewed_by_one_agent_per_file(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden/no.py").write_text("x = 1\n")
    (tmp_path / "clean.py").write_text('def f():\n    "Says so."\n')
    (tmp_path / "pkg/poor.py").write_text("def f():\n    try: g()\n    except: pass\n")
    (tmp_path / "pkg/broken.py").write_text("def f(:\n")
    command = [sys.executable, str(EXAMPLES / "review.py"), str(tmp_path), "--at-once", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["2", "remarks", "3", "lines", "pkg/poor.py"],
        ["0", "remarks", "2", "lines", "clean.py"],
    ]
    assert len(lines) == 3
    assert lines[2].startswith("not reviewed: /review/chief/file-")
    assert "SyntaxError" in lines[2]
    assert "pkg/poor.py:3: a bare except hides what went wrong" in done.stderr
    assert "pkg/poor.py:1: f says nothing about itself" in done.stderr
    left = [
        name
        for name in os.listdir("/proc")
        if name.isdigit() and str(tmp_path).encode() in command_of(name)
    ]
    assert left == []


def command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
