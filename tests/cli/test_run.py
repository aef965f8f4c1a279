"""`greenroom run` from beginning to end, in this process."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from greenroom import Runtime, StoreInUse
from greenroom.cli import main, stores
from greenroom.cli.run import default_path
from greenroom.paths import check_path

Run = Callable[..., Result]
Write = Callable[[str, str], Path]

ECHO = """
    from greenroom import agent

    @agent(name="cli-echo")
    async def echo(turn):
        print("the agent prints")
        turn.state["turns"] = turn.state.get("turns", 0) + 1
        return turn.input if turn.input is not None else turn.state["turns"]
    """

VALUES = """
    from greenroom import agent

    class Odd:
        def __repr__(self):
            return "<odd>"

    VALUES = {
        "dict": {"ä": [1, 2.5, None], "b": (True,)}, "none": None, "odd": [Odd()], "nan": float("nan"),
        "lines": "one\\ntwo", "surrogate": "\\udc80",
    }

    @agent(name="cli-values")
    async def values(turn):
        return VALUES[turn.input]
    """

STEPS = """
    from greenroom import agent

    @agent(name="cli-steps")
    async def steps(turn):
        step = turn.state["step"] = turn.state.get("step", 0) + 1
        if step == 1:
            child = await turn.spawn(work, "work")
            await turn.after(await child.followup(20))
            return "too early"
        if step == 2:
            (outcome,) = turn.results
            await turn.after(input=outcome.result)
            return "still too early"
        return {"step": step, "input": turn.input}

    @agent(name="cli-work")
    def work(turn):
        return turn.input + 1
    """

ENDS = """
    import asyncio
    from greenroom import agent

    @agent(name="cli-ends")
    async def ends(turn):
        match turn.input:
            case "fail":
                raise ValueError("it went wrong")
            case "cancel":
                raise asyncio.CancelledError
            case "interrupt":
                await (await turn.spawn(enemy, "enemy")).followup(turn.path)
                await asyncio.Event().wait()
            case "cannot open":
                await (await turn.spawn(closed, "closed")).followup(None)

    @agent(name="cli-enemy")
    async def enemy(turn):
        await turn.interrupt(turn.input)

    @agent(name="cli-closed")
    class closed:
        def open(self, info):
            raise OSError("no such thing")
        def run(self, turn):
            pass
    """


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_result_is_all_that_stdout_gets(run: Run, write: Write) -> None:
    result = run(write("echoing.py", ECHO), "--input", "hello")
    assert result.exit_code == 0
    assert result.stdout == "hello\n"
    assert "the agent prints" in result.stderr
    assert "/cli-echo" in result.stderr
    assert "1 ended" in result.stderr


def test_output_that_is_no_terminal_gets_no_escape_codes(run: Run, write: Write) -> None:
    result = run(write("echoing.py", ECHO), "--input", "hello")
    assert "\x1b" not in result.output
    assert "\r" not in result.output


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("dict", '{\n  "ä": [\n    1,\n    2.5,\n    null\n  ],\n  "b": [\n    true\n  ]\n}\n'),
        ("none", "null\n"),
        ("odd", "[<odd>]\n"),
        ("nan", "nan\n"),
        ("lines", "one\ntwo\n"),
        ("surrogate", "\\udc80\n"),
    ],
)
def test_a_result_is_shown_as_text_or_json_or_python(name: str, shown: str, run: Run, write: Write) -> None:
    result = run(write("valuable.py", VALUES), "--input", name)
    assert (result.exit_code, result.stdout) == (0, shown)


def test_the_result_of_what_a_turn_left_to_continuations_is_the_last_one(run: Run, write: Write) -> None:
    result = run(write("stepping.py", STEPS).as_posix() + ":cli-steps")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"step": 3, "input": 21}
    assert "4 ended" in result.stderr


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("fail", "failed: ValueError: it went wrong"),
        ("cancel", "failed: CancelledError; at ends"),
        ("interrupt", "was interrupted: interrupted by /cli-ends/enemy"),
    ],
)
def test_a_run_that_does_not_complete_says_why_with_status_1(
    how: str, said: str, run: Run, write: Write
) -> None:
    result = run(f"{write('ending.py', ENDS)}:cli-ends", "--input", how)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Error: run run-" in result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_what_other_agents_come_to_does_not_matter(run: Run, write: Write) -> None:
    result = run(f"{write('ending.py', ENDS)}:cli-ends", "--input", "cannot open")
    assert (result.exit_code, result.stdout) == (0, "null\n")


# JSON


def test_json_lines_begin_with_what_is_run_and_end_with_the_result(run: Run, write: Write) -> None:
    result = run(f"{write('stepping.py', STEPS)}:cli-steps", "--json", "--store", "steps.db")
    first, *between, last = objects(result)
    assert first == {
        "type": "started",
        "kind": "cli-steps",
        "path": "/cli-steps",
        "store": "steps.db",
        "resumed": False,
    }
    assert between
    assert {line["type"] for line in between} == {"progress"}
    assert between[-1]["agents"] == 2
    assert between[-1]["runs"] == {"completed": 4, "failed": 0, "interrupted": 0}
    events = [event for line in between for event in line["events"]]
    assert events[-1]["type"] == "run.completed"
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
    assert last["type"] == "result"
    assert last["status"] == "completed"
    assert last["result"] == {"step": 3, "input": 21}
    assert last["error"] is None
    assert last["path"] == "/cli-steps"
    assert last["run_id"].startswith("run-")
    assert last["stats"]["agents"] == 2
    assert result.stderr == ""


def test_json_has_a_result_line_for_every_end(run: Run, write: Write) -> None:
    failed = run(f"{write('ending.py', ENDS)}:cli-ends", "--json", "--input", "fail")
    assert failed.exit_code == 1
    assert objects(failed)[-1]["status"] == "failed"
    assert "it went wrong" in objects(failed)[-1]["error"]
    missing = run("nothing.py", "--json")
    assert missing.exit_code == 1
    assert objects(missing)[-1] == {
        "type": "result",
        "status": "error",
        "result": None,
        "error": "there is no file nothing.py.",
        "path": None,
        "run_id": None,
        "stats": None,
    }


def test_json_says_when_a_result_is_only_its_text(run: Run, write: Write) -> None:
    file = write("valuable.py", VALUES)
    odd = objects(run(file, "--input", "odd", "--json"))[-1]
    assert (odd["result"], odd["result_is_repr"]) == ("[<odd>]", True)
    text = objects(run(file, "--input", "lines", "--json"))[-1]
    assert text["result"] == "one\ntwo"
    assert "result_is_repr" not in text


# Input


def test_input_comes_from_a_file_or_from_stdin(run: Run, write: Write) -> None:
    file = write("echoing.py", ECHO)
    write("question.txt", "whät?\n")
    assert run(file, "--input", "@question.txt").stdout == "whät?\n\n"
    assert run(file, "--input", "@-", input="piped").stdout == "piped\n"
    assert run(file, "--input", "@@somebody").stdout == "@somebody\n"
    assert run(file, "--input", "").stdout == "\n"
    assert run(file).stdout == "1\n"


@pytest.mark.parametrize("name", ["nothing.txt", "folder", "bytes"])
def test_input_that_cannot_be_read_is_wrong_usage(
    name: str, run: Run, write: Write, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    result = run(write("echoing.py", ECHO), "--input", f"@{name}")
    assert result.exit_code == 2
    assert name in result.stderr
    assert "Traceback" not in result.stderr


# Paths


@given(st.text(max_size=80))
def test_any_name_of_a_kind_makes_a_path(name: str) -> None:
    assert check_path(default_path(name)).count("/") == 1


def test_a_kinds_name_becomes_the_path_as_far_as_it_can() -> None:
    assert default_path("Research_Agent 2") == "/research_agent-2"
    assert default_path("_x") == "/x"
    assert default_path("é") == "/agent"


def test_the_path_may_be_given(run: Run, write: Write) -> None:
    result = run(write("echoing.py", ECHO), "--path", "/a/b/c", "--json")
    assert objects(result)[-1]["path"] == "/a/b/c"


@pytest.mark.parametrize(
    "options", [("--path", "no"), ("--path", "/"), ("--slots", 0), ("--residents", -1), ("--slots", "x")]
)
def test_a_wrong_option_is_wrong_usage(options: tuple[object, ...], run: Run, write: Write) -> None:
    result = run(write("echoing.py", ECHO), *options)
    assert result.exit_code == 2
    assert str(options[0]) in result.stderr


# Stores


def test_an_agent_at_rest_gets_another_run(run: Run, write: Write) -> None:
    file = write("echoing.py", ECHO)
    assert run(file, "--store", "echo.db").stdout == "1\n"
    second = run(file, "--store", "echo.db")
    assert second.stdout == "2\n"
    assert "once more" in second.stderr
    assert run(file, "--store", "echo.db", "--input", "new").stdout == "new\n"
    with Runtime("echo.db") as runtime:
        assert runtime.agent("/cli-echo").state() == {"turns": 3}


def test_without_a_store_nothing_is_left_and_the_next_run_begins_anew(
    run: Run, write: Write, tmp_path: Path
) -> None:
    file = write("echoing.py", ECHO)
    for _ in range(2):
        result = run(file)
        assert result.stdout == "1\n"
        assert str(tmp_path / "state" / "greenroom") in result.stderr
    assert list((tmp_path / "state" / "greenroom" / "runs").iterdir()) == []
    assert {entry.name for entry in tmp_path.iterdir()} <= {"state", "echoing.py", "__pycache__"}


def test_the_passing_store_is_for_this_user_alone(run: Run, write: Write, tmp_path: Path) -> None:
    spy = """
        import os
        from pathlib import Path
        from greenroom import agent

        @agent(name="cli-spy")
        def spy(turn):
            (folder,) = Path(os.environ["XDG_STATE_HOME"], "greenroom", "runs").iterdir()
            return folder.stat().st_mode
        """
    result = run(write("spying.py", spy))
    assert stat.S_IMODE(int(result.stdout)) == 0o700


def test_a_folder_for_state_that_cannot_be_made_is_told_with_what_to_do(
    run: Run, write: Write, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file")
    result = run(write("echoing.py", ECHO))
    assert result.exit_code == 1
    assert "--store" in result.stderr
    assert run(write("echoing.py", ECHO), "--store", ":memory:").stdout == "1\n"


def test_an_agent_of_another_kind_at_the_path_is_told(run: Run, write: Write) -> None:
    run(write("echoing.py", ECHO), "--store", "shared.db", "--path", "/one")
    result = run(write("valuable.py", VALUES), "--store", "shared.db", "--path", "/one")
    assert result.exit_code == 1
    assert "is of kind 'cli-echo', not 'cli-values'" in result.stderr


def test_what_is_wrong_with_a_store_is_told_without_a_traceback(
    run: Run, write: Write, tmp_path: Path
) -> None:
    file = write("echoing.py", ECHO)
    write("text.db", "this is no database, but long enough to be taken for one" * 100)
    run(file, "--store", "new.db")
    with sqlite3.connect("new.db") as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    stores = {
        "text.db": "not a SQLite database",
        "new.db": "newer greenroom",
        str(tmp_path): "directory",
        "no/such/folder.db": "no folder",
    }
    for store, problem in stores.items():
        result = run(file, "--store", store)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: store {tmp_path / store}")
        assert problem in result.stderr
        assert "Traceback" not in result.stderr


def test_a_store_that_another_process_owns_is_told(
    run: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Runtime) -> Runtime:
        raise StoreInUse("mine.db", "process 17 on host somewhere has it open")

    monkeypatch.setattr(Runtime, "start", start)
    result = run(write("echoing.py", ECHO), "--store", "mine.db")
    assert result.exit_code == 1
    assert result.stderr == "Error: store mine.db: process 17 on host somewhere has it open\n"


def test_a_result_whose_class_is_gone_is_told(
    run: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stores, "put_away", lambda store, keep: store)  # as if killed before it was told
        run(write("valuable.py", VALUES), "--input", "odd")
    changed = VALUES.replace("class Odd", "class Even").replace("Odd()", "None")
    result = run(write("valuable.py", changed), "--input", "odd")
    assert result.exit_code == 1
    assert "Odd" in result.stderr
    assert "Traceback" not in result.stderr


# The program


def test_the_group_says_what_there_is() -> None:
    help_text = CliRunner().invoke(main, ["--help"]).output
    assert "run " in help_text
    assert CliRunner().invoke(main, ["--version"]).exit_code == 0
    run_help = CliRunner().invoke(main, ["run", "-h"]).output
    for option in ("--path", "--input", "--store", "--slots", "--residents", "--json", "130"):
        assert option in run_help


def test_importing_greenroom_imports_no_command_line() -> None:
    code = "import sys, greenroom; print(sorted({'click', 'rich'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "[]\n", done.stderr
