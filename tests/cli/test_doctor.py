"""`greenroom doctor`: what it prints, and what it ends with."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from greenroom import Runtime, Turn, agent
from greenroom.cli import main
from greenroom.cli.doctor import size

Doctor = Callable[..., Result]


@agent(name="cli-doc")
async def patient(turn: Turn) -> int:
    turn.state["turns"] = turn.state.get("turns", 0) + 1
    return turn.state["turns"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Runtime(tmp_path / "agents.db") as runtime:
        for name in ("a", "b"):
            runtime.spawn(patient, f"/doc/{name}", input=None).run.result(60.0)
    return tmp_path / "agents.db"


@pytest.fixture
def doctor() -> Doctor:
    """`greenroom doctor …` in this process."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, ["doctor", *map(str, arguments)])

    return run


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Path]:
    """A store that another process has open."""
    code = """
import sys
from greenroom import Runtime
with Runtime(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.read()
"""
    store = tmp_path / "live.db"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield store
    process.communicate(timeout=60)


def change(store: Path, *statements: str) -> None:
    connection = sqlite3.connect(store, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def words(text: str) -> str:
    """What a table says, whatever its columns' widths."""
    return " ".join(text.replace("│", " ").split())


def test_a_healthy_store_is_told_in_a_table(store: Path, doctor: Doctor) -> None:
    result = doctor(store)
    assert result.exit_code == 0, result.output
    for line in ("agents 2 idle", "runs 2 completed", "inbox 0", "snapshots 2 of cli-doc in cloudpickle"):
        assert line in words(result.stdout)
    assert re.search(r"Nothing is wrong: \d+ checks", result.stdout)
    assert result.stderr == ""


def test_what_is_wrong_is_told_with_what_to_do(store: Path, doctor: Doctor) -> None:
    change(store, "UPDATE meta SET known = 7", "DELETE FROM snapshots WHERE agent_id = 1")
    result = doctor(store)
    assert result.exit_code == 1
    said = words(result.stdout)
    assert "error counts known is 7, and there are 2 such agents --repair counts them." in said
    assert "error snapshots-there /doc/a had a state, and has no snapshot" in said
    assert "2 findings" in said
    assert "--repair can put 1 of them right" in said


def test_json_is_one_object(store: Path, doctor: Doctor) -> None:
    healthy = json.loads(doctor(store, "--json").stdout)
    assert healthy["healthy"] is True
    assert (healthy["store"], healthy["findings"], healthy["quick"]) == (str(store), [], False)
    assert healthy["counts"]["runs"] == {"completed": 2}
    assert healthy["sizes"]["file"] == store.stat().st_size
    assert healthy["owner"]["released"] is True
    assert "repair" not in healthy
    change(store, "UPDATE meta SET known = 7")
    result = doctor(store, "--json", "--quick")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["healthy"], told["quick"]) == (False, True)
    assert told["findings"] == [
        {
            "check": "counts",
            "severity": "error",
            "what": "known is 7, and there are 2 such agents",
            "advice": "--repair counts them.",
            "repairable": True,
        }
    ]


def test_a_repair_says_what_it_did(store: Path, doctor: Doctor) -> None:
    change(store, "UPDATE meta SET known = 7")
    result = doctor(store, "--repair")
    assert result.exit_code == 0, result.output
    assert f"copied the store as it was to {store}.before-repair-1" in words(result.stdout)
    assert "counted the agents: known is 2" in words(result.stdout)
    assert "Nothing is wrong" in result.stdout
    again = doctor(store, "--repair")
    assert again.exit_code == 0
    assert "there was nothing to repair" in again.stdout


def test_a_repair_in_json_tells_before_and_after(store: Path, doctor: Doctor) -> None:
    change(store, "UPDATE meta SET known = 7", "DELETE FROM snapshots WHERE agent_id = 1")
    result = doctor(store, "--repair", "--json")
    assert result.exit_code == 1, "the lost snapshot is lost"
    told = json.loads(result.stdout)
    assert [finding["check"] for finding in told["findings"]] == ["snapshots-there"]
    assert [finding["check"] for finding in told["repair"]["findings"]] == ["counts", "snapshots-there"]
    assert told["repair"]["backup"] == f"{store}.before-repair-1"
    assert told["repair"]["steps"][-1] == "counted the agents: known is 2"


def test_notes_are_nothing_wrong(store: Path, doctor: Doctor) -> None:
    change(store, "UPDATE agents SET status = 'failed', error = 'no disk' WHERE agent_id = 1")
    result = doctor(store)
    assert result.exit_code == 0
    assert "note failed-starts /doc/a could not start: no disk" in words(result.stdout)


def test_what_a_terminal_would_take_for_a_command_is_shown_harmless(store: Path, doctor: Doctor) -> None:
    change(
        store,
        "UPDATE agents SET status = 'failed', error = 'x' || char(27) || '[2J[bold]y' WHERE agent_id = 1",
    )
    result = doctor(store)
    assert "\x1b" not in result.stdout
    assert "x\N{REPLACEMENT CHARACTER}[2J[bold]y" in words(result.stdout)


def not_there(tmp_path: Path) -> Path:
    return tmp_path / "missing.db"


def a_directory(tmp_path: Path) -> Path:
    return tmp_path


def a_text(tmp_path: Path) -> Path:
    (tmp_path / "text.db").write_text("text " * 1000)
    return tmp_path / "text.db"


def a_newer_one(tmp_path: Path) -> Path:
    Runtime(tmp_path / "newer.db").start().close()
    change(tmp_path / "newer.db", "PRAGMA user_version = 99")
    return tmp_path / "newer.db"


def a_foreign_one(tmp_path: Path) -> Path:
    change(tmp_path / "foreign.db", "CREATE TABLE precious (a)")
    return tmp_path / "foreign.db"


@pytest.mark.parametrize("repair", [(), ("--repair",)], ids=["look", "repair"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (not_there, "there is no such file"),
        (a_directory, "is a directory"),
        (a_text, "not a SQLite database"),
        (a_newer_one, "its schema has version 99"),
        (a_foreign_one, "some other program"),
    ],
)
def test_what_cannot_be_examined_has_a_status_of_its_own(
    tmp_path: Path, doctor: Doctor, make: Any, says: str, repair: tuple[str, ...]
) -> None:
    path = make(tmp_path)
    result = doctor(path, *repair)
    assert result.exit_code == 3, result.output
    assert result.stdout == ""
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    as_json = doctor(path, "--json", *repair)
    assert as_json.exit_code == 3
    assert says in json.loads(as_json.stdout)["error"]


def test_wrong_usage_has_clicks_status(doctor: Doctor) -> None:
    assert doctor().exit_code == 2
    assert doctor("a.db", "--unknown").exit_code == 2


def test_a_store_in_use_is_examined_and_not_repaired(live: Path, doctor: Doctor) -> None:
    result = doctor(live)
    assert result.exit_code == 0, result.output
    assert re.search(r"owner +process \d+ on .* has it open", result.stdout)
    refused = doctor(live, "--repair")
    assert refused.exit_code == 3
    assert re.search(r"process \d+ on .* has it open", refused.stderr)
    assert not list(live.parent.glob("*.before-repair*"))


def test_as_a_program_it_ends_with_its_status(store: Path, tmp_path: Path) -> None:
    def status(*arguments: object) -> int:
        command = [sys.executable, "-m", "greenroom", "doctor", *map(str, arguments)]
        source = str(Path(__file__).parents[2] / "src")
        return subprocess.run(
            command, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": source}
        ).returncode

    assert status(store) == 0
    change(store, "UPDATE meta SET known = 7")
    assert status(store, "--quick") == 1
    assert status(store, "--no-such-option") == 2
    assert status(tmp_path / "missing.db") == 3


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it(
    store: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        signal.raise_signal(signum)

    monkeypatch.setattr("greenroom.persistence.doctor.examine", stopped)
    if signal.getsignal(signum) == signal.SIG_IGN:
        pytest.skip("ignored in this process")
    result = doctor(store)
    assert result.exit_code == 130
    assert "Stopped" in result.stderr


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1536, "1.5 KiB"),
        (200 * 2**20, "200 MiB"),
        (2**41, "2,048 GiB"),
    ],
)
def test_sizes_are_told_in_units(count: int, said: str) -> None:
    assert size(count) == said


def test_the_help_names_every_status() -> None:
    text = CliRunner().invoke(main, ["doctor", "--help"]).stdout
    for status in ("0 ", "1 ", "2 ", "3 ", "130"):
        assert re.search(rf"^ +{status}", text, re.MULTILINE)
