"""Agents say what they like, and nothing of it is a command to a terminal."""

import json
import logging
import os
import pty
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from greenroom import Runtime
from greenroom.cli.answers import document
from greenroom.cli.text import readable, write

from .conftest import DEADLINE, ROOT

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc\x08\x7f\rline"
"""Sets the title, clears the screen, colours, turns text around, deletes, overwrites."""

KINDS = f"""
import logging
from greenroom import agent

EVIL = {EVIL!r}

@agent(name="evil")
async def evil(turn):
    turn.state["said"] = EVIL
    turn.emit(EVIL, {{EVIL: EVIL}})
    logging.getLogger("greenroom").warning("%s", EVIL)
    if turn.input == "fail":
        raise ValueError(EVIL)
    return EVIL if turn.input != "list" else [EVIL, {{1, 2}}]
"""


OURS = re.compile(r"\x1b\[(0|2|\d\d)m|\x1b\[\?25[hl]")
"""Colours, and the cursor shown and hidden: what the commands themselves send."""


def is_safe(said: str) -> bool:
    said = OURS.sub("", said)
    return not any(char in said for char in EVIL if not char.isprintable() and char != "\r")


def on_a_terminal(*arguments: object, folder: Path) -> tuple[int, str]:
    """The command on a terminal of its own: its status, and all that the terminal was sent."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "greenroom", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment
    )
    os.close(theirs)
    said: list[bytes] = []

    def read() -> None:
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # the other end is closed
                return
            if not part:
                return
            said.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    status = process.wait(DEADLINE)
    reader.join(DEADLINE)
    os.close(ours)
    return status, b"".join(said).decode(errors="replace")


@pytest.fixture
def store(tmp_path: Path, write: Callable[[str, str], Path]) -> Path:
    (tmp_path / "kinds.py").write_text(KINDS)
    return tmp_path / "agents.db"


COMMANDS: list[tuple[str, ...]] = [
    ("run", "kinds.py", "--path", "/t/a", "--input", "text"),
    ("run", "kinds.py", "--path", "/t/b", "--input", "list"),
    ("run", "kinds.py", "--path", "/t/c", "--input", "fail"),
    ("run", "kinds.py", "--path", "/t/d", "--input", "text", "--json"),
    ("followup", "/t/a", "text", "--kinds", "kinds.py"),
    ("followup", "/t/a", "list", "--kinds", "kinds.py"),
    ("followup", "/t/a", "fail", "--kinds", "kinds.py"),
    ("followup", "/t/a", "text", "--kinds", "kinds.py", "--json"),
    ("followup", "/t/a", "text", "--kinds", "kinds.py", "--run-id", "evil-run"),
    ("show", "/t/a"),
    ("show", "/t/a", "--json"),
    ("show", "evil-run"),
    ("ls",),
    ("ls", "--json"),
    ("events",),
    ("events", "--json"),
    ("stats",),
    ("top", "-n", "1", "--json"),
    ("export", "-"),
    ("export", EVIL + "/nowhere"),
    ("import", EVIL),
    ("show", EVIL),
    ("show", "/" + EVIL),
    ("interrupt", EVIL),
    ("ls", "--status", EVIL),
]


@pytest.mark.slow
def test_no_command_sends_a_terminal_what_an_agent_would_have_it_do(store: Path) -> None:
    unsafe = []
    for command in COMMANDS:
        status, said = on_a_terminal(*command, "--store", store, folder=store.parent)
        assert status in (0, 1, 2), said
        assert "Traceback" not in said
        if not is_safe(said):
            unsafe.append((command, said))
    assert unsafe == []


def test_a_doctor_shows_a_damaged_store_safely(store: Path, tmp_path: Path) -> None:

    with Runtime(store):
        pass
    connection = sqlite3.connect(store)
    connection.execute(
        "INSERT INTO events (seq, at, type, path, data) VALUES (1, 1.0, ?, ?, ?)",
        (EVIL, EVIL, EVIL.encode()),
    )
    connection.commit()
    connection.close()
    status, said = on_a_terminal("doctor", store, folder=tmp_path)
    assert status == 1
    assert is_safe(said)


def test_into_a_pipe_a_result_goes_as_it_is(
    run: Callable[..., Result], store: Path, tmp_path: Path
) -> None:
    done = run("kinds.py", "--path", "/t/a", "--store", store)
    assert done.stdout == EVIL + "\n"


class Terminal(StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@given(st.text())
def test_what_a_terminal_gets_is_printable_and_what_was_is_kept(text: str) -> None:
    out = Terminal()
    write(out, text)
    for char in out.getvalue():
        assert char.isprintable() or char in "\n\t\u200d\u200c\xad"
    assert readable(readable(text)) == readable(text)
    if text.isprintable():
        assert readable(text) == text


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_document_means_the_same_and_is_printable(value: Any) -> None:
    try:
        line = document(value)
    except UnicodeEncodeError:
        return  # half a character: no JSON has it
    assert line.isprintable()
    assert json.loads(line) == value
    assert document(json.loads(line)) == line


def test_a_record_of_the_log_is_shown_without_commands(capsys: pytest.CaptureFixture[str]) -> None:
    from greenroom.cli import logs

    handler = logs._ToStderr("%(message)s")
    try:
        raise ValueError(EVIL)
    except ValueError:
        record = logging.LogRecord("greenroom", 30, "", 1, "it said %s", (EVIL,), sys.exc_info())
    handler.emit(record)
    said = capsys.readouterr().err
    assert "it said" in said
    assert is_safe(said)
