"""`send`, `followup`, `interrupt`, `close`, `export` and `import`: on a store, and by a running server."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from greenroom import Runtime, agent
from greenroom.cli import main

Cli = Callable[..., Result]

ROOT = Path(__file__).parents[2]
DEADLINE = 600.0

KINDS = """
import asyncio
from greenroom import agent

@agent(name="change-worker")
async def worker(turn):
    print("the agent prints")
    if turn.input == "fail":
        raise ValueError("it went wrong")
    if turn.input == "wait":
        await asyncio.Event().wait()
    return {"got": turn.input, "inbox": [m.body for m in turn.inbox]}
"""


@agent(name="change-here")
async def here(turn: Any) -> Any:
    return turn.input


@pytest.fixture
def cli() -> Cli:
    def run(*arguments: object, **options: Any) -> Result:
        return CliRunner().invoke(main, list(map(str, arguments)), **options)

    return run


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    (tmp_path / "kinds.py").write_text(KINDS)
    return tmp_path / "kinds.py"


@pytest.fixture
def store(tmp_path: Path, kinds: Path, cli: Cli) -> Path:
    """A store with an agent, which nobody has open."""
    store = tmp_path / "agents.db"
    assert cli("run", kinds, "--path", "/t/a", "--store", store).exit_code == 0
    return store


# On a store


def test_a_message_is_there_when_the_agent_works_next(cli: Cli, store: Path, kinds: Path) -> None:
    assert cli("send", "/t/a", "one", "--store", store).exit_code == 0
    assert cli("send", "/t/a", '{"n": 2}', "--as", "json", "--store", store).exit_code == 0
    assert cli("send", "/t/a", "@-", "--store", store, input="three").exit_code == 0
    done = cli("followup", "/t/a", "go", "--store", store, "--kinds", kinds)
    assert json.loads(done.stdout) == {"got": "go", "inbox": ["one", {"n": 2}, "three"]}
    assert "the agent prints" in done.stderr


def test_a_followup_tells_the_run_to_programs_and_the_same_id_is_the_same_run(
    cli: Cli, store: Path, kinds: Path
) -> None:
    ask = ("followup", "/t/a", "go", "--run-id", "mine", "--json", "--store", store, "--kinds", kinds)
    first, again = (json.loads(cli(*ask).stdout) for _ in range(2))
    assert first["run_id"] == "mine"
    assert first["result"] == {"got": "go", "inbox": []}
    assert again == first


def test_a_run_that_fails_is_told_and_ends_with_1(cli: Cli, store: Path, kinds: Path) -> None:
    done = cli("followup", "/t/a", "fail", "--store", store, "--kinds", kinds)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "failed: ValueError: it went wrong" in done.stderr
    done = cli("followup", "/t/a", "fail", "--json", "--store", store, "--kinds", kinds)
    assert (done.exit_code, json.loads(done.stdout)["status"]) == (1, "failed")


def test_runs_that_wait_are_interrupted_by_agent_or_by_id(cli: Cli, store: Path) -> None:
    def waiting(run_id: str) -> None:
        with Runtime(store) as runtime:  # its kind is registered here no more: the run would be refused
            runtime.spawn(here, f"/t/{run_id}")
        change(
            store,
            "INSERT INTO runs (serial, run_id, agent_id, input, accepted_at, status, attempt, epoch)"
            f" SELECT (SELECT max(serial) FROM runs) + 1, '{run_id}', agent_id, x'', 1.0, 'accepted', 0, 1"
            f" FROM agents WHERE path = '/t/{run_id}'",
        )
        change(store, "UPDATE agents SET kind = 'change-gone'")
        change(store, "UPDATE meta SET next_serial = (SELECT max(serial) + 1 FROM runs)")

    for name, what in (("one", "/t/one"), ("two", "two")):
        waiting(name)
        done = cli("interrupt", what, "--json", "--store", store)
        assert json.loads(done.stdout) == {"path": f"/t/{name}", "interrupted": True}
        again = cli("interrupt", what, "--store", store)
        assert (again.exit_code, "nothing to interrupt" in again.stdout) == (0, True)
        assert json.loads(cli("show", name, "--json", "--store", store).stdout)["status"] == "interrupted"


def change(store: Path, statement: str) -> None:
    import sqlite3

    connection = sqlite3.connect(store, isolation_level=None)
    connection.execute(statement)
    connection.close()


def test_agents_are_closed_and_deleted(cli: Cli, store: Path) -> None:
    assert cli("close", "/t/a", "--store", store).exit_code == 0
    again = cli("close", "/t/a", "--store", store)
    assert (again.exit_code, "is closed" in again.stderr) == (1, True)
    assert cli("close", "/t/a", "--delete", "--store", store).exit_code == 0
    assert "no agent /t/a" in cli("close", "/t/a", "--delete", "--store", store).stderr


def test_a_store_in_use_is_left_alone_and_its_server_is_named(cli: Cli, store: Path, kinds: Path) -> None:
    cli("export", "a.jsonl", "--store", store)
    with Runtime(store):
        for order in (
            ("send", "/t/a", "x"),
            ("followup", "/t/a", "x", "--kinds", kinds),
            ("interrupt", "/t/a"),
            ("close", "/t/a"),
            ("import", "a.jsonl"),
        ):
            done = cli(*order, "--store", store)
            assert done.exit_code == 1, order
            assert f"process {os.getpid()}" in done.stderr
            assert "--server URL" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("send", "/t/a", "x", "--store", "nowhere.db"), 1, "no such file"),
        (("send", "/t/nobody", "x", "--store", "agents.db"), 1, "no agent /t/nobody"),
        (("send", "/t/a", "{", "--as", "json", "--store", "agents.db"), 2, "no JSON"),
        (("send", "/t/a", "@nowhere.txt", "--store", "agents.db"), 2, "cannot read nowhere.txt"),
        (("followup", "/t/a", "x", "--store", "agents.db"), 2, "--kinds FILE"),
        (
            ("followup", "/t/a", "x", "--store", "agents.db", "--kinds", "nowhere.py"),
            1,
            "no file nowhere.py",
        ),
        (("followup", "/t/a", "--no-wait", "--kinds", "kinds.py", "--store", "agents.db"), 2, "--no-wait"),
        (("followup", "/t/a", "--kinds", "kinds.py", "--server", "http://x"), 2, "--kinds is for --store"),
        (("interrupt", "some-run", "--cascade", "--store", "agents.db"), 2, "--cascade"),
        (("import", "nowhere.jsonl", "--store", "agents.db"), 1, "cannot be read"),
        (("import", "kinds.py", "--store", "agents.db"), 1, "no export of greenroom"),
        (("import", "/dev/zero", "--store", "agents.db"), 1, "no export of greenroom"),
        (("import", "/dev/null", "--store", "agents.db"), 1, "no export of greenroom"),
        (("export", "kinds.py", "--store", "agents.db"), 1, "cannot be made"),
    ],
)
def test_mistakes_are_explained_and_nothing_is_made(
    cli: Cli, store: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    names = {path.name for path in store.parent.iterdir()}
    done = cli(*arguments)
    assert (done.exit_code, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in store.parent.iterdir()} - {"__pycache__"} == names - {"__pycache__"}


def test_a_server_whose_store_has_no_folder_says_so(cli: Cli, store: Path, kinds: Path) -> None:
    refused = cli("serve", kinds, "--store", "nowhere/x.db")
    assert refused.exit_code == 1
    assert "there is no folder nowhere. Create it first" in refused.stderr


# Documents


def test_a_wrong_key_is_refused_and_the_right_one_is_named(cli: Cli, store: Path) -> None:
    assert cli("export", "a.jsonl", "--store", store).exit_code == 0
    Path("other.key").write_bytes(bytes(32))
    refused = cli("import", "a.jsonl", "--store", "new.db", "--key", "other.key")
    assert refused.exit_code == 1
    assert "DB.key beside the store that it comes from" in refused.stderr


def test_agents_move_to_another_store(cli: Cli, store: Path, kinds: Path) -> None:
    cli("send", "/t/a", "unread", "--store", store)
    done = cli("export", "a.jsonl", "--json", "--store", store)
    told = json.loads(done.stdout)
    assert (told["agents"], told["runs"], told["messages"]) == (1, 1, 1)
    assert Path("a.jsonl").stat().st_mode & 0o777 == 0o600
    refused = cli("import", "a.jsonl", "--store", "b.db")
    assert (refused.exit_code, "--key FILE" in refused.stderr) == (1, True)
    assert not Path("b.db").exists()
    done = cli("import", "a.jsonl", "--store", "b.db", "--key", f"{store}.key", "--json")
    assert json.loads(done.stdout)["agents"] == 1
    done = cli("followup", "/t/a", "go", "--store", "b.db", "--kinds", kinds)
    assert json.loads(done.stdout)["inbox"] == ["unread"]


def test_a_document_goes_through_a_pipe_with_a_key_of_its_own(cli: Cli, store: Path) -> None:
    out = cli("export", "--key", "transfer.key", "--store", store)
    assert Path("transfer.key").stat().st_mode & 0o777 == 0o600
    done = cli("import", "-", "--key", "transfer.key", "--store", "b.db", input=out.stdout_bytes)
    assert done.exit_code == 0
    assert "/t" in cli("ls", "--store", "b.db").stdout
    Path("other.key").write_bytes(os.urandom(32))
    wrong = cli("import", "-", "--key", "other.key", "--store", "c.db", input=out.stdout_bytes)
    assert (wrong.exit_code, "is not the key" in wrong.stderr) == (1, True)


def test_a_document_is_taken_from_a_named_pipe(cli: Cli, store: Path) -> None:
    cli("export", "a.jsonl", "--store", store)
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(Path("a.jsonl").read_bytes()))
    writer.start()
    done = cli("import", "pipe", "--key", f"{store}.key", "--store", "b.db")
    writer.join()
    assert done.exit_code == 0, done.stderr
    assert "/t" in cli("ls", "--store", "b.db").stdout


@pytest.mark.parametrize("given", ["-", "a.jsonl"])
def test_a_document_that_is_nested_too_deeply_is_no_document(cli: Cli, store: Path, given: str) -> None:
    nested = b'{"type":"greenroom-export","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    Path("a.jsonl").write_bytes(nested)
    done = cli("import", given, "--store", "b.db", input=nested)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "no export of greenroom" in done.stderr
    assert not Path("b.db").exists()


def test_a_store_takes_back_what_was_exported_from_it(cli: Cli, store: Path) -> None:
    cli("export", "a.jsonl", "--store", store)
    taken = cli("import", "a.jsonl", "--store", store)
    assert (taken.exit_code, "/t/a already" in taken.stderr) == (1, True)
    cli("close", "/t/a", "--delete", "--store", store)
    assert cli("import", "a.jsonl", "--store", store).exit_code == 0


# By a server


class Server(subprocess.Popen[str]):
    """`greenroom serve` as a process of its own."""

    def __init__(self, kinds: Path, store: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "greenroom", "serve", str(kinds), "--store", str(store)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self.log = (store.parent / "serve.log").open("w")
        super().__init__(
            [*command, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )
        assert self.stdout is not None
        self.url = ""
        for line in self.stdout:
            if " at http" in line:
                self.url = line.split(" at ")[1].split()[0]
            if line.startswith("Dashboard:"):
                break
        self.token = f"{store}.token"

    def stop(self) -> None:
        if self.poll() is None:
            self.send_signal(signal.SIGTERM)
            self.communicate(timeout=DEADLINE)
        self.log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "kinds.py").write_text(KINDS)
    done = CliRunner().invoke(
        main, ["run", str(folder / "kinds.py"), "--path", "/t/a", "--store", str(folder / "agents.db")]
    )
    assert done.exit_code == 0
    server = Server(folder / "kinds.py", folder / "agents.db")
    yield server
    server.stop()


@pytest.fixture
def ask(cli: Cli, server: Server) -> Cli:
    """A command to the server."""
    return lambda *arguments, **options: cli(
        *arguments, "--server", server.url, "--token-file", server.token, **options
    )


def test_a_server_answers_every_question_as_a_store_does(ask: Cli, cli: Cli, server: Server) -> None:
    store = server.token.removesuffix(".token")
    for look in (("ls", "--json"), ("show", "/t/a", "--json"), ("events", "--json", "--type", "run.*")):
        served, read = (
            [json.loads(line) for line in done.stdout.splitlines()]
            for done in (ask(*look), cli(*look, "--store", store))
        )
        for answer in (*served, *read):
            answer.pop("resident", None)  # the file does not know
        assert served == read != []
    numbers = json.loads(ask("stats", "--json").stdout)
    assert {"agents", "running", "queued"} <= numbers.keys() & json.loads(
        cli("stats", "--json", "--store", store).stdout
    ).keys()
    assert "resident" in ask("top", "-n", "1").stdout


def test_a_server_does_what_it_is_told(ask: Cli) -> None:
    assert ask("send", "/t/a", "hello").exit_code == 0
    done = ask("followup", "/t/a", '["go"]', "--as", "json")
    assert json.loads(done.stdout) == {"got": ["go"], "inbox": ["hello"]}
    failed = ask("followup", "/t/a", "fail")
    assert (failed.exit_code, "it went wrong" in failed.stderr) == (1, True)
    begun = ask("followup", "/t/a", "wait", "--no-wait", "--run-id", "a/run with:signs")
    assert begun.stdout == "a/run with:signs\n"
    assert json.loads(ask("interrupt", "a/run with:signs", "--json").stdout)["interrupted"]
    assert json.loads(ask("show", "a/run with:signs", "--json").stdout)["status"] == "interrupted"


def test_what_a_server_refuses_is_told_in_its_words(ask: Cli, cli: Cli, server: Server) -> None:
    assert "no agent /t/nobody" in ask("send", "/t/nobody", "x").stderr
    assert "no agent /t/nobody" in ask("show", "/t/nobody").stderr
    assert "no run 'nope'" in ask("show", "nope").stderr
    stranger = cli("ls", "--server", server.url)
    assert (stranger.exit_code, "--token-file" in stranger.stderr) == (1, True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = cli("ls", "--server", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert (nobody.exit_code, "greenroom serve" in nobody.stderr) == (1, True)
    assert cli("ls", "--server", "ftp://there").exit_code == 2


def test_the_token_comes_with_the_link_or_from_the_environment(cli: Cli, server: Server) -> None:
    token = Path(server.token).read_text().strip()
    assert cli("ls", "--server", f"{server.url}/#token={token}").exit_code == 0
    assert cli("ls", env={"GREENROOM_SERVER": server.url, "GREENROOM_TOKEN": token}).exit_code == 0


def test_without_its_extra_a_server_is_not_asked_and_that_is_said(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "greenroom.cli.remote", raising=False)
    done = cli("ls", "--server", "http://127.0.0.1:1")
    assert (done.exit_code, "pip install 'greenroom[client]'" in done.stderr) == (1, True)
    monkeypatch.setitem(sys.modules, "mcp", None)
    for name in [name for name in sys.modules if name.startswith(("greenroom.mcp", "mcp."))]:
        monkeypatch.delitem(sys.modules, name)
    done = cli("mcp", "nothing.py")
    assert (done.exit_code, "pip install 'greenroom[mcp]'" in done.stderr) == (1, True)
