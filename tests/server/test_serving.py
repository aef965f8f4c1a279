"""`greenroom serve` as a command: its start, what it says, and its end."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from greenroom.server.hosting import listen

from .conftest import DEADLINE, KINDS, ROOT, Served, story


def command(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`greenroom serve …` that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "greenroom", "serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        check=False,
    )


def test_the_link_is_shown_once_and_the_token_lies_beside_the_store(tmp_path: Path) -> None:
    store, said = tmp_path / "agents.db", []
    for _ in range(2):
        arguments = ["-u", "-m", "greenroom", "serve", str(KINDS), "--store", str(store), "--port", "0"]
        with subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        ) as process:
            assert process.stdout is not None
            first = [process.stdout.readline() for _ in range(2)]
            process.terminate()
            said.append("".join(first) + process.stdout.read())
            assert process.wait(DEADLINE) == 0
    file = tmp_path / "agents.db.token"
    token = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"/#token={token}" in said[0]
    assert token not in said[1]
    assert str(file) in said[1]
    file.chmod(0o644)
    refused = command(KINDS, "--store", tmp_path / "agents.db", "--port", "0")
    assert refused.returncode == 1
    assert f"{file} is open to others" in refused.stderr


def test_a_store_in_memory_has_a_token_at_each_start(serve: Callable[..., Served]) -> None:
    server = serve("--store", ":memory:")
    assert len(server.token) > 30
    assert server.client().get("/api/stats").status_code == 200


def test_no_token_is_for_loopback_alone(serve: Callable[..., Served]) -> None:
    assert serve("--no-token").client("").get("/api/stats").status_code == 200
    refused = command(KINDS, "--store", ":memory:", "--no-token", "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "--no-token" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "FILE"),
        (("nowhere.py",), 1, "there is no file nowhere.py"),
        ((KINDS, "--port", "65536"), 2, "--port"),
        (
            (KINDS, "--host", "192.0.2.1", "--store", ":memory:"),
            1,
            "it cannot listen at 192.0.2.1 port 8321",
        ),
        ((Path(__file__).with_name("conftest.py"), "--store", ":memory:"), 1, "conftest.py"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(arguments: Any, status: int, said: str) -> None:
    done = command(*arguments)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_and_a_store_that_is_in_use_are_said(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    server = serve()
    taken = command(KINDS, "--store", tmp_path / "other.db", "--port", server.port)
    assert taken.returncode == 1
    assert f"port {server.port}" in taken.stderr
    in_use = command(KINDS, "--store", tmp_path / "agents.db", "--port", "0")
    assert in_use.returncode == 1
    assert str(server.process.pid) in in_use.stderr
    assert "Traceback" not in taken.stderr + in_use.stderr


@pytest.mark.parametrize("module", ["litestar", "uvicorn", "httptools", "prometheus_client"])
def test_without_the_extra_it_says_what_to_install(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{module!r}] = None\n")
    done = command(KINDS, "--store", ":memory:", PYTHONPATH=f"{tmp_path}:{ROOT / 'src'}")
    assert done.returncode == 1
    assert "pip install 'greenroom[server]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import greenroom",
        "from greenroom import Runtime",
        "import greenroom.cli",
        "import greenroom.server",
    ],
)
def test_nothing_of_it_is_imported_without_being_asked_for(statement: str) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    loaded = set(done.stdout.split())
    assert not {"litestar", "uvicorn", "httptools", "prometheus_client", "httpx"} & loaded
    assert not {name for name in loaded if name.startswith("greenroom.server.")}


def test_the_base_install_does_not_require_it() -> None:
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    base = config["options"]["install_requires"].lower()
    for name in ("litestar", "uvicorn", "httptools", "prometheus"):
        assert name not in base
        assert name in config["options.extras_require"]["server"]


# The end


@pytest.fixture
def pipes(tmp_path: Path) -> tuple[Path, Path]:
    """Where a turn says that it is there, and where it waits."""
    here, there = tmp_path / "here", tmp_path / "there"
    os.mkfifo(here), os.mkfifo(there)
    return here, there


def begin(api: httpx.Client, kind: str, input: Any = 1) -> str:
    """A run of a new agent, once its turn has begun."""
    run_id: str = api.post("/api/agents", json={"kind": kind, "path": "/t/a", "input": input}).json()[
        "run_id"
    ]
    deadline = time.monotonic() + DEADLINE
    while api.get(f"/api/runs/{run_id}").json()["status"] != "running":
        assert time.monotonic() < deadline
    return run_id


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_takes_nothing_new_lets_turns_end_records_and_exits_with_0(
    serve: Callable[..., Served], pipes: tuple[Path, Path], signum: int
) -> None:
    server, (here, there) = serve("--drain", "30"), pipes
    api = server.client()
    run_id = begin(api, "meeting", [str(here), str(there)])
    here.read_text()
    server.process.send_signal(signum)
    deadline = time.monotonic() + DEADLINE
    while (ready := api.get("/readyz")).status_code == 200:
        assert time.monotonic() < deadline
    assert ready.json() == {"status": "closing"}
    refused = api.post("/api/agents/t/a/runs", json={"input": 2})
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:greenroom:problem:closing")
    assert refused.headers["retry-after"]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
    there.write_text("done\n")
    assert server.process.wait(DEADLINE) == 0
    after = serve().client().get(f"/api/runs/{run_id}").json()
    assert (after["status"], after["result"]) == ("completed", "done")


def test_a_turn_that_needs_longer_begins_again_at_the_next_start(serve: Callable[..., Served]) -> None:
    server = serve("--drain", "0.1")
    run_id = begin(server.client(), "echo", "for ever")
    assert server.stop() == 0
    again = serve("--drain", "0").client().get(f"/api/runs/{run_id}").json()
    assert again["status"] in ("accepted", "queued", "running")


def test_a_thread_that_a_turn_left_behind_does_not_hold_up_the_end(serve: Callable[..., Served]) -> None:
    """Nobody can end it, and `asyncio.run` would wait for it."""
    server = serve("--drain", "0.1")
    begin(server.client(), "leaving")
    assert server.stop() == 0


@pytest.mark.long
def test_a_turn_on_a_thread_that_never_returns_does_not_hold_up_the_end(
    serve: Callable[..., Served],
) -> None:
    server = serve("--drain", "0.1")
    begin(server.client(), "hogging")
    assert server.stop() == 0


def test_an_agent_that_never_lets_go_of_the_loop_is_cut_off(tmp_path: Path) -> None:
    """With a bound of its own for the end here: in earnest it is 90 s."""
    code = """
import sys
from greenroom.cli import main, serve
serve.LONGEST_END = 0.5
main(["serve", *sys.argv[1:], "--port", "0", "--json", "--drain", "0"])
"""
    arguments = [str(KINDS), "--store", str(tmp_path / "agents.db")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    headers = {"authorization": f"Bearer {Path(said['token_file']).read_text().strip()}"}
    with httpx.Client(base_url=said["url"], headers=headers, timeout=DEADLINE) as api:
        taken = tmp_path / "taken"
        with suppress(httpx.TransportError):  # it may not come to answer
            api.post(
                "/api/agents", json={"kind": "selfish", "path": "/t/a", "input": str(taken)}, timeout=60
            )
        deadline = time.monotonic() + DEADLINE
        while not taken.exists():  # until it has the loop
            assert time.monotonic() < deadline
            Event().wait(0.01)
    process.terminate()
    assert process.wait(DEADLINE) == 1
    process.stdout.close()


def test_a_server_that_loses_its_store_says_so_and_ends(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    import sqlite3

    server = serve()
    api = server.client()
    with sqlite3.connect(tmp_path / "agents.db") as other:
        other.execute("UPDATE meta SET epoch = epoch + 1")
    other.close()
    answer = api.post("/api/agents", json={"kind": "echo", "path": "/t/a"})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:greenroom:problem:store-lost")
    assert server.process.wait(DEADLINE) == 1
    assert "Traceback" not in server.logged()
    assert "Nothing more is written from here" in server.logged()


def test_a_client_that_waits_hears_that_the_server_is_closing(serve: Callable[..., Served]) -> None:
    import threading

    server = serve("--drain", "0.1")
    api = server.client()
    run_id = begin(api, "echo", "for ever")
    answers: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(server.client().get(f"/api/runs/{run_id}?wait=60"))
    )
    waiting.start()
    while api.get("/api/stats").json()["server"]["streams"] == 0:
        pass
    assert server.stop() == 0
    waiting.join(DEADLINE)
    assert answers[0].status_code == 503


def test_a_second_signal_ends_it_at_once_and_what_was_accepted_is_kept(
    serve: Callable[..., Served],
) -> None:
    server = serve("--drain", "600")
    api = server.client()
    run_id = begin(api, "echo", "for ever")
    server.process.terminate()
    while api.get("/readyz").status_code == 200:
        pass
    deadline = time.monotonic() + DEADLINE
    while server.process.poll() is None:  # two at once are taken for one
        server.process.terminate()
        assert time.monotonic() < deadline
    assert server.process.returncode == 130
    assert serve("--drain", "0").client().get(f"/api/runs/{run_id}").status_code == 200


@story
async def test_answers_are_sent_at_once() -> None:
    """Head and body of an answer are two segments, and by Nagle's algorithm the second waits 40 ms."""
    listening = listen("127.0.0.1", 0)
    accepted: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda _, writer: accepted.set_result(writer.get_extra_info("socket")), sock=listening
    )
    _, writer = await asyncio.open_connection(*listening.getsockname())
    assert (await accepted).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()
    server.close()


def test_what_it_says_as_json_can_be_read(serve: Callable[..., Served], tmp_path: Path) -> None:
    said = serve().said
    assert said["type"] == "serving"
    assert said["url"].startswith("http://127.0.0.1:")
    assert "echo" in said["kinds"]
    assert said["store"] == str(tmp_path / "agents.db")
    assert json.dumps(said)
