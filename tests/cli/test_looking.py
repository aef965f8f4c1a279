"""`ls`, `show`, `events`, `stats`, `top` on a store's file: what they tell, and that nothing is changed."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from greenroom import Runtime, SyncTurn, agent
from greenroom.cli import COMMANDS, main
from greenroom.cli.answers import AgentSummary
from greenroom.cli.tree import ago, branches
from greenroom.persistence import codec, doctor
from greenroom.persistence.keys import Signer

Cli = Callable[..., Result]

ROOT = Path(__file__).parents[2]


class Thing:
    def __init__(self) -> None:
        self.x = 3


@agent(name="look-worker")
def worker(turn: SyncTurn) -> Any:
    turn.state["things"] = [Thing()]
    turn.emit("half", {"percent": 50})
    if turn.input == "fail":
        raise ValueError("it went \x1b[31mwrong")
    return {"got": turn.input}


@pytest.fixture
def cli() -> Cli:
    def run(*arguments: object, **options: Any) -> Result:
        return CliRunner().invoke(main, list(map(str, arguments)), **options)

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Runtime(tmp_path / "agents.db") as runtime:
        for path, given in (("/team/a", "fail"), ("/team/a/b", 1), ("/team-x/c", 2), ("/zoo/d", 3)):
            runtime.spawn(worker, path, config={"n": 1}, input=given, run_id=f"run{path}").run.outcome(60)  # type: ignore[union-attr]
        runtime.agent("/team/a").send("unread")
        runtime.agent("/zoo/d").close()
    return tmp_path / "agents.db"


def files(store: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.parent.iterdir()}


LOOKS: list[tuple[str, ...]] = [
    ("ls",),
    ("ls", "/team", "--flat"),
    ("ls", "--status", "queued"),
    ("ls", "--status", "closed", "--json"),
    ("show", "/team/a"),
    ("show", "run/team/a", "--json"),
    ("events",),
    ("stats",),
    ("top", "--count", "2", "--every", "0.1"),
    ("export",),
]


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_looking_at_a_store_leaves_no_trace(cli: Cli, store: Path, look: tuple[str, ...]) -> None:
    before = files(store)
    done = cli(*look, "--store", store)
    nothing = look == ("ls", "--status", "queued")
    assert done.exit_code == 0
    assert bool(done.stderr) == (nothing or look == ("export",))
    assert bool(done.stdout) != nothing
    assert files(store) == before


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_looking_at_a_store_in_use_changes_no_byte_and_sees_what_is_committed(
    cli: Cli, store: Path, look: tuple[str, ...]
) -> None:
    with Runtime(store) as runtime:
        runtime.spawn(worker, "/new/e", input="fresh").run.outcome(60)  # type: ignore[union-attr]
        names = set(files(store))
        if look == ("show", "/team/a"):
            look = ("show", "/new/e")
        done = cli(*look, "--store", store)
        assert done.exit_code == 0
        if look[0] in ("events", "export") or look == ("ls",):
            assert "/new" in done.stdout
        assert set(files(store)) == names
        runtime.agent("/new/e").followup("more").outcome(60)
    assert [finding for finding in doctor.examine(str(store)).findings if finding.severity == "error"] == []


def test_agents_are_a_tree(cli: Cli, store: Path) -> None:
    lines = cli("ls", "--store", store).stdout.splitlines()
    assert [re.split("  +look|$", line)[0].rstrip() for line in lines] == [
        "/team",
        "└── a",
        "    └── b",
        "/team-x",
        "└── c",
    ]
    assert "1 unread" in lines[1]
    assert "failed" in lines[1]
    flat = cli("ls", "/team", "--flat", "--store", store).stdout.splitlines()
    assert [line.split()[0] for line in flat] == ["/team/a", "/team/a/b"]


def test_agents_are_objects_for_programs(cli: Cli, store: Path) -> None:
    found = [json.loads(line) for line in cli("ls", "--json", "--store", store).stdout.splitlines()]
    assert [agent["path"] for agent in found] == ["/team-x/c", "/team/a", "/team/a/b"]
    first = found[1]
    assert (first["kind"], first["status"], first["inbox"]) == ("look-worker", "idle", 1)
    assert first["last_run"]["status"] == "failed"
    (closed,) = cli("ls", "--status", "closed", "--json", "--store", store).stdout.splitlines()
    assert json.loads(closed)["path"] == "/zoo/d"


def test_a_long_list_says_that_there_is_more(cli: Cli, store: Path) -> None:
    first = cli("ls", "--flat", "--limit", 2, "--store", store)
    assert "--after /team/a" in first.stderr
    rest = cli("ls", "--flat", "--after", "/team/a", "--store", store)
    assert rest.stdout.split()[0] == "/team/a/b"
    assert rest.stderr == ""


def test_an_agent_is_shown_without_executing_its_code(cli: Cli, store: Path) -> None:
    found = json.loads(cli("show", "/team/a/b", "--json", "--store", store).stdout)
    assert found["config"] == {"n": 1}
    assert found["last_outcome"]["result"] == {"got": 1}
    (thing,) = found["state"]["things"]
    assert thing["type"].endswith(".Thing")
    assert thing["text"] == "Thing(x=3)"
    assert found["described"] == ["/state/things/0"]
    shown = cli("show", "/team/a/b", "--store", store).stdout
    assert "Thing(x=3)" in shown


def test_a_run_is_shown(cli: Cli, store: Path) -> None:
    found = json.loads(cli("show", "run/team/a", "--json", "--store", store).stdout)
    assert (found["status"], found["input"], found["attempt"]) == ("failed", "fail", 1)
    assert (found["error_type"], found["crashes"]) == ("ValueError", 0)


def test_what_agents_say_can_do_nothing_to_a_terminal(cli: Cli, store: Path) -> None:
    for look in (("ls",), ("show", "/team/a"), ("events",)):
        assert "\x1b" not in cli(*look, "--store", store).stdout


def test_events_by_path_type_and_number(cli: Cli, store: Path) -> None:
    def told(*arguments: object) -> list[dict[str, Any]]:
        done = cli("events", "--json", "--store", store, *arguments)
        return [json.loads(line) for line in done.stdout.splitlines()]

    everything = told()
    assert [event["seq"] for event in everything] == sorted({event["seq"] for event in everything})
    assert {event["path"] for event in told("/team")} == {"/team/a", "/team/a/b"}
    assert {event["type"] for event in told("--type", "run.failed")} == {"run.failed"}
    assert {event["type"] for event in told("--type", "run.*")} == {
        event["type"] for event in everything if event["type"].startswith("run.")
    }
    middle = everything[len(everything) // 2]["seq"]
    assert told("--since", middle) == [event for event in everything if event["seq"] > middle]


def test_nothing_found_is_said(cli: Cli, store: Path) -> None:
    for look, said in ((("ls",), "no agent"), (("events",), "no event")):
        done = cli(*look, "/team/nobody", "--store", store)
        assert (done.exit_code, done.stdout) == (0, "")
        assert f"There is {said} at or below /team/nobody" in done.stderr
        assert cli(*look, "/team/nobody", "--json", "--store", store).stderr == ""
    done = cli("ls", "--status", "starting", "--store", store)
    assert done.stderr.strip() == "There is no starting agent at or below /"
    done = cli("events", "--type", "run.mistyped", "--store", store)
    assert done.stderr.strip() == "There is no event run.mistyped at or below /"


def test_an_event_tells_an_error_as_far_as_the_line_of_code(cli: Cli, store: Path) -> None:
    told = cli("events", "--type", "run.failed", "--store", store).stdout
    assert f"{Path(__file__)}:" in told


def test_numbers(cli: Cli, store: Path) -> None:
    found = json.loads(cli("stats", "--json", "--store", store).stdout)
    assert (found["agents"], found["closed"], found["running"], found["queued"]) == (3, 1, 0, 0)
    assert found["runs"] == {"completed": 3, "failed": 1}
    assert found["owner"] is None
    with Runtime(store):
        assert "has it open" in json.loads(cli("stats", "--json", "--store", store).stdout)["owner"]


def test_a_store_whose_name_is_no_text_is_looked_at(cli: Cli, tmp_path: Path) -> None:
    store = tmp_path / os.fsdecode(b"agents-\xff.db")
    with Runtime(store) as runtime:
        runtime.spawn(worker, "/team/a", input=1, run_id="run/team/a").run.result(60)  # type: ignore[union-attr]
    assert sorted(path.name for path in tmp_path.iterdir()) == [store.name, f"{store.name}.key"]
    found = json.loads(cli("stats", "--json", "--store", store).stdout)
    assert (found["agents"], found["store"]) == (1, str(tmp_path / r"agents-\udcff.db"))
    for look in LOOKS:
        assert cli(*look, "--store", store).exit_code == 0


def test_what_waits_is_seen_and_what_a_dead_owner_began_is_not_running(cli: Cli, store: Path) -> None:
    connection = sqlite3.connect(store, isolation_level=None)
    connection.execute(
        "UPDATE runs SET status = 'accepted', ended_at = NULL, result = NULL WHERE run_id = 'run/team/a/b'"
    )
    connection.execute("UPDATE agents SET last_run_id = NULL WHERE path = '/team/a/b'")
    connection.close()
    (line,) = cli("ls", "--status", "queued", "--json", "--store", store).stdout.splitlines()
    assert (json.loads(line)["path"], json.loads(line)["queued_runs"]) == ("/team/a/b", 1)
    assert cli("ls", "--status", "running", "--store", store).stdout == ""
    assert json.loads(cli("show", "run/team/a/b", "--json", "--store", store).stdout)["status"] == "queued"
    (look,) = cli("top", "-n", 1, "--json", "--store", store).stdout.splitlines()
    assert [agent["path"] for agent in json.loads(look)["busy"]] == ["/team/a/b"]


def test_what_a_live_owner_has_begun_is_running(cli: Cli, store: Path) -> None:
    begun, gate = Event(), Event()

    @agent(name="look-gate")
    def gated(turn: SyncTurn) -> None:
        begun.set()
        gate.wait(600)

    with Runtime(store) as runtime:
        ref = runtime.spawn(gated, "/new/gate", input=0)
        ref.followup(1)
        ref.followup(2)
        assert begun.wait(600)
        try:
            for options in (("/new",), ("/new", "--status", "running")):
                (line,) = cli("ls", *options, "--json", "--store", store).stdout.splitlines()
                seen = json.loads(line)
                assert (seen["status"], seen["queued_runs"], seen["resident"]) == ("running", 2, None)
            numbers = json.loads(cli("stats", "--json", "--store", store).stdout)
            assert (numbers["running"], numbers["queued"]) == (1, 2)
        finally:
            gate.set()


def test_a_store_without_its_numbers_is_looked_at_and_its_repair_is_named(cli: Cli, store: Path) -> None:
    told = cli("events", "--json", "--store", store).stdout
    connection = sqlite3.connect(store, isolation_level=None)
    connection.execute("DELETE FROM meta")
    connection.close()
    assert cli("events", "--json", "--store", store).stdout == told
    refused = cli("export", "--store", store)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "`greenroom doctor --repair` counts them anew" in refused.stderr


def test_a_folder_in_the_place_of_the_key_is_no_key(cli: Cli, store: Path) -> None:
    key = Path(f"{store}.key")
    key.unlink()
    key.mkdir()
    for look in ("export", "ls", "events"):
        refused = cli(look, "--store", store)
        assert (refused.exit_code, refused.stdout) == (1, ""), look
        assert f"{key} is " in refused.stderr
        assert re.search(r"Put the (file|right one) back", refused.stderr)


def test_an_altered_value_is_described_and_the_rest_is_shown(cli: Cli, store: Path) -> None:
    connection = sqlite3.connect(store, isolation_level=None)
    connection.execute("UPDATE agents SET config = zeroblob(40) WHERE path = '/team/a'")
    connection.close()
    found = json.loads(cli("show", "/team/a", "--json", "--store", store).stdout)
    assert found["config"]["type"] == "unreadable"
    assert "signature" in found["config"]["text"]
    assert cli("ls", "--store", store).exit_code == 0


def test_without_its_key_a_store_is_listed_and_no_value_is_trusted(cli: Cli, store: Path) -> None:
    Path(f"{store}.key").unlink()
    assert cli("ls", "--store", store).exit_code == 0
    found = json.loads(cli("show", "/team/a/b", "--json", "--store", store).stdout)
    assert found["config"]["type"] == "unreadable"
    assert found["state"] is None
    assert "refused unread" in found["state_error"]


def test_without_its_key_a_value_that_anybody_could_have_sealed_is_not_trusted(
    cli: Cli, store: Path
) -> None:
    connection = sqlite3.connect(store, isolation_level=None)
    (agent_id,) = connection.execute("SELECT agent_id FROM agents WHERE path = '/team/a'").fetchone()
    forged = Signer(b"").seal(codec.dumps("forged", "it"), ("config", agent_id))
    connection.execute("UPDATE agents SET config = ? WHERE agent_id = ?", (forged, agent_id))
    connection.close()
    Path(f"{store}.key").unlink()
    found = json.loads(cli("show", "/team/a", "--json", "--store", store).stdout)
    assert found["config"]["type"] == "unreadable"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("ls",), 2, "--store DB"),
        (("ls", "no-path", "--store", "x.db"), 2, "no path"),
        (("ls", "--store", "x.db"), 1, "no such file"),
        (("show", "/nobody", "--store", "agents.db"), 1, "no agent /nobody"),
        (("show", "no-run", "--store", "agents.db"), 1, "no run 'no-run'"),
        (("ls", "--store", "text.db"), 1, "not a SQLite database"),
        (("ls", "--store", "empty.db"), 1, "no store"),
        (("ls", "--store", "a.db", "--server", "http://x"), 2, "exclude each other"),
        (("export", "--json", "--store", "agents.db"), 2, "needs a FILE"),
        (("export", "--store", "x.db"), 1, "no such file"),
        (("top", "--every", "0", "--store", "agents.db"), 2, "--every"),
        (("top", "--every", "nan", "--store", "agents.db"), 2, "no finite number"),
        (("top", "--every", "1e10", "--store", "agents.db"), 2, "--every"),
        (("serve", "team.py", "--drain", "nan"), 2, "no finite number"),
        (("serve", "team.py", "--rate", "nan"), 2, "no finite number"),
    ],
)
def test_mistakes_are_explained(
    cli: Cli, store: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    Path("text.db").write_text("just a text\n" * 100)
    Path("empty.db").touch()
    names = sorted(path.name for path in store.parent.iterdir())
    done = cli(*arguments)
    assert done.exit_code == status
    assert done.stdout == "" or "--json" in arguments
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in store.parent.iterdir()) == names


def test_programs_get_errors_as_objects_too(cli: Cli, store: Path) -> None:
    done = cli("show", "/nobody", "--json", "--store", store)
    assert done.exit_code == 1
    assert "no agent /nobody" in json.loads(done.stdout)["error"]


def test_the_store_may_be_named_by_the_environment_and_the_command_line_counts(
    cli: Cli, store: Path
) -> None:
    here = {"GREENROOM_STORE": str(store)}
    assert "/team" in cli("ls", env=here).stdout
    both = {**here, "GREENROOM_SERVER": "http://127.0.0.1:1"}
    assert "/team" in cli("ls", "--store", store, env=both).stdout
    assert "no server answers" in cli("ls", "--server", "http://127.0.0.1:1", env=here).stderr


def test_paths_are_completed_from_the_store(store: Path) -> None:
    def completed(words: str) -> list[str]:
        environment = {"_GREENROOM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "4"}
        command = [sys.executable, "-c", "from greenroom.cli import main; main(prog_name='greenroom')"]
        options: dict[str, Any] = {"capture_output": True, "text": True, "check": False}
        done = subprocess.run(command, env={**os.environ, **environment}, timeout=600, **options)
        return [line.partition(",")[2] for line in done.stdout.split()]

    assert completed(f"greenroom show --store {store} /t") == ["/team", "/team-x"]
    assert completed(f"greenroom show --store {store} /team/") == ["/team/a"]
    assert completed("greenroom show --store nowhere.db /t") == []


def test_looking_at_a_store_needs_no_extra_and_no_runtime(store: Path) -> None:
    code = f"""
import sys
from greenroom.cli import main
main.main(["ls", "--store", {str(store)!r}], standalone_mode=False)
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"httpx", "mcp", "litestar", "uvicorn", "thespian", "rich", "sqlite_utils", "cloudpickle"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_exit_statuses(cli: Cli, command: str) -> None:
    said = cli(command, "--help").stdout
    assert "Exit status" in said
    assert "Examples" in said
    assert f"greenroom {command}" in said
    assert "--json" in said or command in ("mcp", "serve")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_has_every_command_with_its_options(command: str) -> None:
    manual = (ROOT / "docs/cli.md").read_text() + (ROOT / "docs/mcp.md").read_text()
    context = click.Context(main)
    found = main.get_command(context, command)
    assert found is not None
    assert f"`{command}" in manual
    for parameter in found.params:
        names = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")]
        for name in names:
            assert f"`{name}" in manual or f" {name} " in manual or f"`{name}`" in manual, name


# The tree


def line(path: str) -> AgentSummary:
    return AgentSummary(
        path=path, kind="k", version=1, status="idle", resident=None, queued_runs=0, inbox=0,
        created_at=0.0,
        updated_at=0.0, error=None, last_run=None,
    )  # fmt: skip


def test_places_that_are_no_agents_are_drawn_too() -> None:
    rows = branches(map(line, ["/a/b/c", "/a-b/x", "/a/d"]))
    drawn = [(row.lead + row.name, row.agent is not None) for row in rows]
    assert drawn == [
        ("/a", False),
        ("├── b", False),
        ("│   └── c", True),
        ("└── d", True),
        ("/a-b", False),
        ("└── x", True),
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0 s ago"), (59, "59 s ago"), (90, "2 min ago"), (7200, "2 h ago"), (200_000, "2 d ago")],
)
def test_how_long_ago(seconds: float, said: str) -> None:
    assert ago(seconds) == said
